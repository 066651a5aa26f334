"""Shards hold the recordings as they are, the same bytes every time; what is no shard is one sentence."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from golden_inputs import GOLDEN

from hear_models.datasets import Library
from hear_models.datasets.gise51 import labelled_clips, mixture_folder, packed_clip, read_lmdb
from hear_models.datasets.labelled_scenes import labelled_scenes
from hear_models.datasets.shards import read_shards, state_of, write_shards
from hear_models.errors import InputError, UsageError

CORPUS = GOLDEN / "gise51" / "corpus"


def members(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_a_folder_of_mixtures_comes_back_from_its_shards(tmp_path):
    clips = mixture_folder(CORPUS / "mix")
    assert list(write_shards(clips, tmp_path / "a", 3)) == [3, 4]
    first = tmp_path / "a" / "shard-000000.tar"
    assert members(first) == [f"{k:08d}{end}" for k in range(3) for end in (".flac", ".json")]
    assert members(tmp_path / "a" / "shard-000001.tar") == ["00000003.flac", "00000003.json"]
    again = list(labelled_clips(tmp_path / "a"))
    assert [clip.labels for clip in again] == [clip.labels for clip in clips]
    for ours, theirs in zip(again, clips, strict=True):
        assert ours.encoded() == Path(theirs.name).read_bytes()
        np.testing.assert_array_equal(ours.read(22_050), theirs.read(22_050))
    assert len(list(labelled_clips(first))) == 3
    list(write_shards(clips, tmp_path / "b", 3))
    assert first.read_bytes() == (tmp_path / "b" / first.name).read_bytes()


def test_any_labelled_clips_can_be_packed(tmp_path):
    list(write_shards(Library(CORPUS / "fg"), tmp_path / "events"))
    assert "00000000.wav" in members(tmp_path / "events" / "shard-000000.tar")
    assert [clip.labels for clip in read_shards(tmp_path / "events")][:2] == [("Cough",), ("Dog",)]
    scenes = labelled_scenes(3, 2)
    list(write_shards(scenes, tmp_path / "scenes"))
    for ours, theirs in zip(read_shards(tmp_path / "scenes"), scenes, strict=True):
        np.testing.assert_allclose(ours.read(22_050), theirs.read(22_050), atol=2**-15)
    data = (CORPUS / "fg" / "Dog" / "1001.wav").read_bytes()
    list(write_shards([packed_clip(data, "x", ("7",), 3)], tmp_path / "fold"))
    (clip,) = read_shards(tmp_path / "fold")
    assert clip.fold == 3 and clip.labels == ("7",)


def test_an_lmdb_file_becomes_shards(tmp_path):
    pytest.importorskip("lmdb", reason="an extra of its own: pip install hear-models[lmdb]")
    source = GOLDEN / "gise51" / "lmdb" / "mini.lmdb"
    list(write_shards(read_lmdb(source), tmp_path))
    assert [c.encoded() for c in read_shards(tmp_path)] == [c.encoded() for c in read_lmdb(source)]


def test_packing_goes_on_where_it_stopped_and_nowhere_else(tmp_path):
    clips = mixture_folder(CORPUS / "mix")
    about = state_of(clips)
    begun = write_shards(clips, tmp_path, 2, about)
    next(begun)
    begun.close()
    first = tmp_path / "shard-000000.tar"
    before = first.stat().st_mtime_ns
    assert list(write_shards(clips, tmp_path, 2, about)) == [2, 4] and first.stat().st_mtime_ns == before
    whole = first.read_bytes()
    for damaged in (b"", whole[: len(whole) // 3], b"x" + whole[1:]):
        first.write_bytes(damaged)
        assert list(write_shards(clips, tmp_path, 2, about)) == [2, 4] and first.read_bytes() == whole
    with pytest.raises(UsageError, match="other settings"):
        list(write_shards(clips, tmp_path, 3))
    with pytest.raises(UsageError, match="other settings"):  # more clips: the last shard would lack some of them
        list(write_shards([*clips, clips[0]], tmp_path, 2, state_of([*clips, clips[0]])))
    broken = [*clips[:1], replace(clips[1], encoded=lambda: (_ for _ in ()).throw(InputError("gone")))]
    with pytest.raises(InputError, match="gone"):
        list(write_shards(broken, tmp_path / "broken"))
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["corpus.json"]


def shard(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name.replace("__", "."))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_shards_of_others_are_read_as_webdataset_reads_them(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(100), 22_050, format="WAV")
    labels = json.dumps({"labels": ["Dog", "Dog"], "more": 1}).encode()
    path = shard(
        tmp_path / "x.tar",
        a__json=labels,
        a__WAV=buffer.getvalue(),
        a__cls=b"3",
        __hidden=b"x",
        b__wav=buffer.getvalue(),
        b__json=labels,
    )
    assert [clip.labels for clip in read_shards(path)] == [("Dog", "Dog")] * 2


@pytest.mark.parametrize(
    "files",
    [
        {"a__json": b'{"labels": ["Dog"]}'},
        {"a__wav": b"x"},
        {"a__wav": b"x", "a__json": b"{"},
        {"a__wav": b"x", "a__json": b"[]"},
        {"a__wav": b"x", "a__json": b'{"labels": "Dog"}'},
        {"a__wav": b"x", "a__json": b'{"labels": [3]}'},
        {"a__wav": b"x", "a__json": b'{"labels": [], "fold": "x"}'},
    ],
    ids=str,
)
def test_an_example_that_is_none_is_named(files, tmp_path):
    with pytest.raises(InputError, match=r"x\.tar, example 'a'"):
        list(read_shards(shard(tmp_path / "x.tar", **files)))


def test_a_damaged_shard_is_named(tmp_path):
    path = shard(tmp_path / "x.tar", a__wav=b"x" * 5000, a__json=b'{"labels": ["Dog"]}')
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"x\.tar cannot be read"):
        list(read_shards(path))
    path.write_text("no tar file")
    with pytest.raises(InputError, match=r"x\.tar cannot be read"):
        list(read_shards(path))
