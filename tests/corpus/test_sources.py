"""What a run embeds: segments of tables, single channels, standard input; and what tells one source from another."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import hear_models
from hear_models.corpus.run import embed_files
from hear_models.corpus.segments import read_segments
from hear_models.errors import UsageError
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.model import HearModel

Make = Callable[..., np.ndarray]
OUTPUTS = ["out", "out.parquet"]


def load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def embeddings_in(output: Path, name: str) -> np.ndarray:
    if output.suffix != ".parquet":
        return load(output / f"{name}.npz")["embeddings"]
    table = pytest.importorskip("pyarrow.parquet").read_table(output)
    found = table.filter([path == name for path in table["path"].to_pylist()])
    return np.array(found["embedding"].to_pylist(), np.float32).squeeze(0)


# --------------------------------------------------------------------------------------------- same name, other source
@pytest.mark.parametrize("target", OUTPUTS)
def test_another_recording_of_the_same_name_is_refused(
    tmp_path: Path, tiny: HearModel, make: Make, target: str
) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    for seed, folder in enumerate(("dog", "cat")):
        make(tmp_path / folder / "1.wav", 0.5, seed=seed)
        os.utime(tmp_path / folder / "1.wav", ns=(10**18, 10**18))
    embed_files([tmp_path / "dog"], tmp_path / target, tiny)
    for given in (tmp_path / "cat", tmp_path / "cat/1.wav"):
        with pytest.raises(UsageError, match=r"has '1\.wav' from '.*dog.1\.wav', this run from '.*cat.1\.wav'"):
            embed_files([given], tmp_path / target, tiny)
    want = hear_models.embed(tmp_path / "dog/1.wav", tiny)
    np.testing.assert_allclose(embeddings_in(tmp_path / target, "1.wav"), want, rtol=1e-5, atol=1e-6)
    (tmp_path / "link").symlink_to(tmp_path / "dog")
    assert embed_files([tmp_path / "link"], tmp_path / target, tiny).skipped == 1  # another way to the same place
    assert embed_files([tmp_path / "cat"], tmp_path / target, tiny, overwrite=True).embedded == 1
    want = hear_models.embed(tmp_path / "cat/1.wav", tiny)
    np.testing.assert_allclose(embeddings_in(tmp_path / target, "1.wav"), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", OUTPUTS)
def test_a_change_within_a_second_is_seen(tmp_path: Path, tiny: HearModel, make: Make, target: str) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    make(tmp_path / "in/1.wav", 0.5, seed=1)
    os.utime(tmp_path / "in/1.wav", ns=(10**18, 10**18))
    embed_files([tmp_path / "in"], tmp_path / target, tiny)
    make(tmp_path / "in/1.wav", 0.5, seed=2)
    os.utime(tmp_path / "in/1.wav", ns=(10**18, 10**18 + 1))
    assert embed_files([tmp_path / "in"], tmp_path / target, tiny).embedded == 1
    want = hear_models.embed(tmp_path / "in/1.wav", tiny)
    np.testing.assert_allclose(embeddings_in(tmp_path / target, "1.wav"), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("options", [{"kind": "timestamps"}, {"window_s": 0.2}, {"dtype": "float16"}, {"channel": 1}])
def test_other_settings_are_refused_in_a_folder_that_holds_other_recordings(
    tmp_path: Path, tiny: HearModel, make: Make, options: dict[str, Any], overwrite: bool
) -> None:
    for month in ("january", "february"):
        make(tmp_path / month / "deep" / f"{month}.wav", 0.5)
    embed_files([tmp_path / "january"], tmp_path / "out", tiny)
    (tmp_path / "out/foreign.npz").write_bytes(b"not ours")
    with pytest.raises(UsageError, match=r"january.wav.npz' was made with"):
        embed_files([tmp_path / "february"], tmp_path / "out", tiny, overwrite=overwrite, **options)
    assert embed_files([tmp_path / "february"], tmp_path / "out", tiny).embedded == 1


def test_a_name_that_the_file_system_refuses_fails_alone(tmp_path: Path, tiny: HearModel, make: Make) -> None:
    for name in ("a", "x" * 249, "z"):
        try:
            make(tmp_path / "in" / f"{name}.wav", 0.3)
        except OSError as error:
            assert error.errno == errno.ENAMETOOLONG
            pytest.skip("the file system takes no such name for the recording either")
    make(tmp_path / "in" / ("y" * 243 + ".wav"), 0.3)  # its name and .npz have 251 bytes
    for _ in range(2):
        summary = embed_files([tmp_path / "in"], tmp_path / "out", tiny)
        assert summary.embedded + summary.skipped == 3
        assert [Path(failure.path).name[:3] for failure in summary.failed] == ["xxx"]
        assert "name" in summary.failed[0].error


@pytest.mark.skipif(os.name != "posix", reason="names are text here")
@pytest.mark.parametrize("name", ["run:1.parquet", "s3:x.parquet", "file:x.parquet", os.fsdecode(b"b\xff.parquet")])
def test_a_table_may_have_any_name(tmp_path: Path, tiny: HearModel, make: Make, name: str, monkeypatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    make(tmp_path / "a.wav", 0.3)
    monkeypatch.chdir(tmp_path)
    try:
        Path(name).touch()
    except OSError as error:
        pytest.skip(f"this file system does not take the name: {error}")
    Path(name).unlink()
    for skipped in (0, 1):
        assert embed_files(["a.wav"], name, tiny).skipped == skipped
    with open(name, "rb") as file:
        assert pq.read_table(file)["path"].to_pylist() == ["a.wav"]


def test_empty_names_are_told(tmp_path: Path, tiny: HearModel, make: Make, monkeypatch) -> None:
    make(tmp_path / "a.wav", 0.3)
    monkeypatch.chdir(tmp_path)
    for paths, output in (([""], "out"), (["a.wav", ""], "out"), (["a.wav"], "")):
        with pytest.raises(UsageError, match="is empty"):
            embed_files(paths, output, tiny)
    assert os.listdir() == ["a.wav"]


# ---------------------------------------------------------------------------------------------------- channels, stdin
def test_each_channel_gets_an_entry(tmp_path: Path, tiny: HearModel, make: Make) -> None:
    make(tmp_path / "in/a.wav", 0.5, channels=3)
    make(tmp_path / "in/b.wav", 0.5)
    (tmp_path / "in/bad.wav").write_text("no audio")
    summary = embed_files([tmp_path / "in"], tmp_path / "out", tiny, channel="each")
    assert sorted(os.listdir(tmp_path / "out")) == [
        f"{n}.npz" for n in ("a.wav.ch1", "a.wav.ch2", "a.wav.ch3", "b.wav.ch1")
    ]
    assert len(summary.failed) == 1
    for k in (1, 2, 3):
        want = hear_models.embed(tmp_path / "in/a.wav", tiny, channel=k)
        np.testing.assert_allclose(load(tmp_path / f"out/a.wav.ch{k}.npz")["embeddings"], want, rtol=1e-4, atol=1e-5)
    embed_files([tmp_path / "in/a.wav"], tmp_path / "left", tiny, channel="left")
    found = load(tmp_path / "left/a.wav.npz")["embeddings"]
    want = hear_models.embed(tmp_path / "in/a.wav", tiny, channel="left")
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_what_is_odd_stands_in_the_summary(tmp_path: Path, tiny: HearModel) -> None:
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (8000, 1))
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", x * [[1, -1]], 16000)
    soundfile.write(tmp_path / "in/b.wav", x * 32768, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "in/c.wav", x, 16000)
    summary = embed_files([tmp_path / "in"], tmp_path / "out", tiny)
    assert summary.embedded == 3
    assert [Path(note.path).name for note in summary.notes] == ["a.wav", "b.wav"]
    assert "cancel in the mix" in summary.notes[0].error and "32768" in summary.notes[1].error


def test_standard_input_is_a_recording(tmp_path: Path, tiny: HearModel, make: Make, monkeypatch) -> None:
    make(tmp_path / "a.wav", 0.5)
    make(tmp_path / "b.wav", 0.5, seed=5)

    def give(name: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((tmp_path / name).read_bytes())))

    give("a.wav")
    assert embed_files(["-"], tmp_path / "out", tiny).embedded == 1
    want = hear_models.embed(tmp_path / "a.wav", tiny)
    np.testing.assert_allclose(load(tmp_path / "out/stdin.npz")["embeddings"], want, rtol=1e-4, atol=1e-5)
    give("a.wav")
    assert embed_files(["-"], tmp_path / "out", tiny).skipped == 1
    give("b.wav")
    with pytest.raises(UsageError, match="has 'stdin' from"):
        embed_files(["-"], tmp_path / "out", tiny)


# ------------------------------------------------------------------------------------------------------------ segments
TABLES = {
    "ours.csv": "path,start_s,end_s,note\na.wav,0.5,1.5,x\nsub/b.wav,0,0.4,\na.wav,1.0,2.5,y\na.wav,0.1,0.2,z\n",
    "semicolons.csv": "start_s;end_s;path\n0,5;1,5;a.wav\n0;0,4;sub/b.wav\n1;2,5;a.wav\n0,1;0,2;a.wav\n",
    "raven.txt": "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tBegin File\n"
    "1\tWaveform 1\t1\t0.5\t1.5\t0\ta.wav\n1\tSpectrogram 1\t1\t0.5\t1.5\t0\ta.wav\n"
    "2\tSpectrogram 1\t1\t0\t0.4\t0\tb.wav\n3\tSpectrogram 1\t1\t1\t2.5\t0\ta.wav\n"
    "4\tSpectrogram 1\t1\t0.1\t0.2\t0\ta.wav\n",
    "offsets.txt": "Selection\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\n"
    "1\t100.5\t101.5\tC:\\rec\\a.wav\t0.5\n2\t7\t7.4\tC:\\rec\\b.wav\t0\n"
    "3\t9\t10.5\tC:\\rec\\a.wav\t1\n4\t9\t9.1\tC:\\rec\\a.wav\t0.1\n",
    "birdnet.csv": "\ufeffStart (s),End (s),Scientific name,Common name,Confidence,File\n"
    "0.5,1.5,Turdus merula,Blackbird,0.9,a.wav\n0,0.4,x,y,0.1,b.wav\n1.0,2.5,x,y,0.2,a.wav\n0.1,0.2,x,y,0.2,a.wav\n",
}
WANTED = {"a.wav": [(0.1, 0.2), (0.5, 1.5), (1.0, 2.5)], "sub/b.wav": [(0.0, 0.4)]}


@pytest.fixture
def corpus(tmp_path: Path, make: Make) -> Path:
    make(tmp_path / "in/a.wav", 2.0, rate=22050, seed=1)
    make(tmp_path / "in/sub/b.wav", 1.0, seed=2)
    make(tmp_path / "in/unnamed.wav", 1.0, seed=3)
    return tmp_path / "in"


@pytest.mark.parametrize("form", TABLES)
def test_each_row_of_a_table_gets_an_embedding(corpus: Path, tmp_path: Path, tiny: HearModel, form: str) -> None:
    (tmp_path / form).write_text(TABLES[form], encoding="utf-8")
    summary = embed_files([corpus], tmp_path / "out", tiny, segments=tmp_path / form)
    assert (summary.embedded, summary.embeddings, summary.failed) == (2, 4, [])
    for name, spans in WANTED.items():
        found = load(tmp_path / f"out/{name}.npz")
        np.testing.assert_allclose(
            np.stack([found["segment_starts_ms"], found["segment_ends_ms"]], 1), 1000 * np.array(spans)
        )
        for (start, end), embedding in zip(spans, found["embeddings"], strict=True):
            clip = read_audio(corpus / name, 16000, start_s=start, duration_s=end - start)
            np.testing.assert_allclose(embedding, hear_models.embed(clip, tiny), rtol=1e-4, atol=1e-5)
    rows = load(tmp_path / "out/a.wav.npz")["segment_rows"].tolist()
    assert rows == ([3, 0, 2] if "raven" not in form else [4, 0, 3])
    assert embed_files([corpus], tmp_path / "out", tiny, segments=tmp_path / form).skipped == 2
    (tmp_path / "more.csv").write_text("path,start_s,end_s\na.wav,0.5,1.5\n")
    assert embed_files([corpus], tmp_path / "out", tiny, segments=tmp_path / "more.csv").embedded == 1


def test_a_table_of_segments_in_and_out_as_parquet(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = {
        "path": ["a.wav", str(corpus / "sub/b.wav"), "a.wav"],
        "start_s": [1.0, 0.0, 0.5],
        "end_s": [2.5, 0.4, 1.5],
    }
    pq.write_table(pyarrow.table(table), tmp_path / "in.parquet")
    embed_files([corpus], tmp_path / "out.parquet", tiny, segments=tmp_path / "in.parquet")
    found = pq.read_table(tmp_path / "out.parquet").sort_by("row")
    assert found["path"].to_pylist() == ["a.wav", "sub/b.wav", "a.wav"] and found["row"].to_pylist() == [0, 1, 2]
    assert found["start_ms"].to_pylist() == [1000.0, 0.0, 500.0] and found["end_ms"].to_pylist() == [
        2500.0,
        400.0,
        1500.0,
    ]
    want = hear_models.embed(read_audio(corpus / "a.wav", 16000, start_s=0.5, duration_s=1.0), tiny)
    np.testing.assert_allclose(found["embedding"].to_pylist()[2], want, rtol=1e-4, atol=1e-5)


def test_a_small_parquet_table_that_unfolds_without_end_is_refused(tmp_path: Path, monkeypatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    monkeypatch.setattr("hear_models.corpus.segments.LARGEST_PARQUET", 1 << 20)
    paths = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(20_000, np.int32)), ["a" * 100])
    table = {"path": paths, "start_s": np.zeros(20_000), "end_s": np.ones(20_000)}
    pq.write_table(pyarrow.table(table), tmp_path / "in.parquet")
    assert (tmp_path / "in.parquet").stat().st_size < 5_000
    with pytest.raises(UsageError, match="it unfolds to more than 1,048,576 bytes"):
        read_segments(tmp_path / "in.parquet")


def test_labels_of_audacity_are_about_the_one_recording(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    (tmp_path / "labels.txt").write_text("0.5\t1.5\tdog\n\\\t100\t2000\n0.25\t0.75\t\n")
    summary = embed_files([corpus / "a.wav"], tmp_path / "out", tiny, segments=tmp_path / "labels.txt")
    assert summary.embeddings == 2
    assert load(tmp_path / "out/a.wav.npz")["segment_rows"].tolist() == [1, 0]
    with pytest.raises(UsageError, match="names no recordings, and 3 were given"):
        embed_files([corpus], tmp_path / "out2", tiny, segments=tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,start_s,end_s\na.wav,1.5,0.5\n", "row 0 reaches from 1.5 s to 0.5 s"),
        ("path,start_s,end_s\na.wav,0,1\na.wav,-1,0.5\n", "row 1 reaches"),
        ("path,start_s,end_s\na.wav,now,0.5\n", "row 0 has 'now' as start_s. Give seconds"),
        ("path,start_s,end_s\na.wav,nan,0.5\n", "row 0 has 'nan'"),
        ("path,start\na.wav,1\n", "row 0 has no start_s"),
        ("path,start_s,end_s\na.wav,1\n", "row 0 has no end_s"),
        ("path,start_s,end_s\n", "holds no segments"),
        ('path,start_s,end_s\n"' + "a" * 200_000 + '",0,1\n', "is no table of segments: .*field"),
        ("", "holds no segments"),
    ],
)
def test_a_table_that_is_none_is_told(corpus: Path, tmp_path: Path, tiny: HearModel, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        embed_files([corpus], tmp_path / "out", tiny, segments=tmp_path / "t.csv")
    assert not (tmp_path / "out").exists()


def test_a_row_that_names_nothing_or_lies_past_the_end_is_told(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    (tmp_path / "t.csv").write_text("path,start_s,end_s\nno.wav,0,1\na.wav,0,1\nsub/b.wav,0,0.5\nsub/b.wav,5,6\n")
    summary = embed_files([corpus], tmp_path / "out", tiny, segments=tmp_path / "t.csv")
    assert summary.embedded == 1 and len(summary.failed) == 2
    told = " ".join(failure.error for failure in summary.failed)
    assert "'no.wav', in row 0" in told and "ends before 5 s, where a segment begins" in told
    with pytest.raises(UsageError, match="one scene embedding a row"):
        embed_files([corpus], tmp_path / "out3", tiny, segments=tmp_path / "t.csv", kind="timestamps")


def test_the_resampler_is_part_of_the_settings(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    embed_files([corpus / "a.wav"], tmp_path / "out", tiny, resampler="resampy")
    found = load(tmp_path / "out/a.wav.npz")
    assert json.loads(str(found["metadata"]))["settings"]["resampler"] == "resampy"
    want = hear_models.embed(corpus / "a.wav", tiny, resampler="resampy")
    np.testing.assert_allclose(found["embeddings"], want, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(want, hear_models.embed(corpus / "a.wav", tiny))
    with pytest.raises(UsageError, match="made with resampler = 'resampy'"):
        embed_files([corpus / "a.wav"], tmp_path / "out", tiny)
