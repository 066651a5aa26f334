"""Labelled clips are read in every form that the authors write; damage is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from golden_inputs import GOLDEN

from hear_models.datasets.gise51 import (
    AUDIOSET_DELIMITER,
    known,
    labelled_list,
    mixture_folder,
    multi_hot,
    read_annotations,
    read_label_map,
    read_lmdb,
)
from hear_models.errors import AudioFileError, InputError, UsageError

FOLDER = GOLDEN / "gise51"


def test_a_folder_of_mixtures_is_read_with_its_labels():
    clips = mixture_folder(FOLDER / "corpus" / "mix")
    assert len(clips) == 4  # twelve are annotated, four have audio
    classes = read_label_map(FOLDER / "corpus" / "lbl_map.json")
    assert classes == ("Cough", "Dog", "Keys_jangling", "Tap", "Trumpet")
    assert set(known(clips)) <= set(classes)
    (fifth,) = (clip for clip in clips if "unimodal5_" in clip.name)
    assert fifth.labels == ("Cough", "Cough", "Cough")
    assert multi_hot(fifth.labels, classes).tolist() == [1, 0, 0, 0, 0]
    assert len(fifth.read(22_050)) == 110_250 and len(fifth.read(16_000)) == 80_000


def test_lmdb_of_the_authors_packer_is_read():
    pytest.importorskip("lmdb", reason="an extra of its own: pip install hear-models[lmdb]")
    expected = json.loads((FOLDER / "lmdb" / "mini.json").read_text())
    clips = list(read_lmdb(FOLDER / "lmdb" / "mini.lmdb"))
    assert [",".join(clip.labels) for clip in clips] == [item["label"] for item in expected]
    for clip, item in zip(clips, expected, strict=True):
        samples = clip.read(item["sr"])
        assert len(samples) == item["n"]
        np.testing.assert_array_equal(samples[:3], np.float32(item["first3"]))
    assert [clip.labels for clip in read_lmdb(FOLDER / "lmdb" / "mini.lmdb", AUDIOSET_DELIMITER)][1:] == [
        ("Dog",),
        ("Dog,Trumpet,Dog",),
    ]


def test_lmdb_that_is_none_is_refused(tmp_path):
    lmdb = pytest.importorskip("lmdb", reason="an extra of its own: pip install hear-models[lmdb]")
    (tmp_path / "text.lmdb").write_text("no database " * 1000)
    with pytest.raises(InputError, match="no LMDB file"):
        list(read_lmdb(tmp_path / "text.lmdb"))
    import msgpack

    def packed(name: str, records: dict[bytes, bytes]):
        with lmdb.open(str(tmp_path / name), subdir=False) as environment, environment.begin(write=True) as writing:
            for key, value in records.items():
                writing.put(key, value)
        return list(read_lmdb(tmp_path / name))

    with pytest.raises(InputError, match="no record __len__"):
        packed("empty", {b"other": b""})
    with pytest.raises(InputError, match="no record 1"):
        packed("short", {b"__len__": msgpack.packb(2), b"0": msgpack.packb([b"flac", "Dog"])})
    with pytest.raises(InputError, match="record 0 is damaged"):
        packed("cut", {b"__len__": msgpack.packb(1), b"0": msgpack.packb([b"flac", "Dog"])[:-1]})
    with pytest.raises(InputError, match="not FLAC and labels"):
        packed("other", {b"__len__": msgpack.packb(1), b"0": msgpack.packb("Dog")})
    (clip,) = packed("esc", {b"__len__": msgpack.packb(1), b"0": msgpack.packb([b"flac", 7, 3])})
    assert clip.labels == ("7",) and clip.fold == 3  # ESC-50: a class by number, and its fold
    with pytest.raises(AudioFileError, match="no audio"):
        clip.read(22_050)


def test_a_list_of_files_is_read_beside_its_csv(tmp_path):
    soundfile.write(tmp_path / "bark.wav", np.zeros(100), 22_050)
    (tmp_path / "clips.csv").write_text('files,labels\nbark.wav,"Dog,Cough"\n')
    (clip,) = labelled_list(tmp_path / "clips.csv")
    assert clip.labels == ("Dog", "Cough") and len(clip.read(22_050)) == 100
    (tmp_path / "other.csv").write_text("name,class\nbark.wav,Dog\n")
    with pytest.raises(UsageError, match="no column 'file'"):
        labelled_list(tmp_path / "other.csv")


def test_what_is_damaged_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("0.5\t1.0\tDog\r\n0.5 1.0 Dog\r\n")
    with pytest.raises(InputError, match="line 2"):
        read_annotations(tmp_path / "a.txt")
    with pytest.raises(InputError, match="no recording"):
        mixture_folder(tmp_path)
    for wrong in ("[]", '{"Dog": 1}', '{"Dog": 0, "Cough": 0}', '{"Dog": "x"}', "{"):
        (tmp_path / "map.json").write_text(wrong)
        with pytest.raises(InputError, match=r"map\.json"):
            read_label_map(tmp_path / "map.json")
    with pytest.raises(InputError, match="'Cat' is none of the 2 classes"):
        multi_hot(["Dog", "Cat"], ["Cough", "Dog"])
