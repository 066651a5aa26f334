"""Corpora on disk: what is written, what a second run keeps, and what one bad recording costs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hear_models
from hear_models.corpus import parquet, rows, run
from hear_models.corpus.run import embed_files
from hear_models.errors import HearModelsError, UsageError
from hear_models.locks import beside, inside, only_writer
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.model import HearModel

Make = Callable[..., np.ndarray]


@pytest.fixture
def corpus(tmp_path: Path, make: Make) -> Path:
    folder = tmp_path / "corpus"
    make(folder / "a.wav", 1.0, seed=1)
    make(folder / "a.flac", 2.5, rate=44100, channels=2, seed=2)
    make(folder / "sub dir/ß 音.ogg", 0.7, rate=22050, seed=3)
    make(folder / "sub dir/long.wav", 7.3, rate=8000, seed=4)
    return folder


def load(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        content: dict[str, Any] = dict(archive)
    content["metadata"] = json.loads(str(content["metadata"]))
    return content


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


NAMES = ["a.flac", "a.wav", "sub dir/long.wav", "sub dir/ß 音.ogg"]


def test_every_recording_gets_its_file_in_the_same_folders(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    summary = embed_files([corpus], tmp_path / "out", tiny)
    assert files_below(tmp_path / "out") == [f"{name}.npz" for name in NAMES]  # nothing else is left, and no name lost
    assert (summary.files, summary.embedded, summary.skipped, summary.failed) == (4, 4, 0, [])
    assert summary.audio_s == pytest.approx(1.0 + 2.5 + 0.7 + 7.3, abs=0.01)
    assert 0 <= summary.decode_wait_share <= 1
    for name in NAMES:
        found = load(tmp_path / "out" / f"{name}.npz")
        expected = hear_models.embed(corpus / name, tiny)
        np.testing.assert_allclose(found["embeddings"], expected, rtol=1e-4, atol=1e-5)
        assert found["embeddings"].dtype == np.float32
    about = load(tmp_path / "out/a.flac.npz")["metadata"]
    assert about["source"] | {"bytes": 0, "modified_ns": 0} == {
        "name": "a.flac",
        "path": str((corpus / "a.flac").resolve()),
        "segments_sha256": "",
        "bytes": 0,
        "modified_ns": 0,
        "sample_rate": 44100,
        "channels": 2,
        "duration_s": 2.5,
    }
    assert about["settings"]["checkpoint_sha256"] == tiny.checkpoint.sha256
    assert about["settings"]["model"] == "tiny.safetensors"


def test_timestamps_are_stored_with_their_times(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    embed_files([corpus], tmp_path / "out", tiny, kind="timestamps", dtype="float16")
    found = load(tmp_path / "out/sub dir/long.wav.npz")
    embeddings, times = hear_models.embed(corpus / "sub dir/long.wav", tiny, kind="timestamps")
    assert found["embeddings"].dtype == np.float16 and found["timestamps_ms"].dtype == np.float64
    np.testing.assert_allclose(found["embeddings"], embeddings, rtol=2e-3, atol=1e-3)
    np.testing.assert_array_equal(found["timestamps_ms"], times.astype(np.float64))


def test_windows_are_embedded_by_themselves_and_times_count_from_the_start(
    corpus: Path, tmp_path: Path, tiny: HearModel
) -> None:
    path = corpus / "sub dir/long.wav"
    samples = read_audio(path, 16000)
    embed_files([path], tmp_path / "scene", tiny, window_s=2.0)
    found = load(tmp_path / "scene/long.wav.npz")
    assert found["window_starts_ms"].tolist() == [0.0, 2000.0, 4000.0, 6000.0]
    for k, embedding in enumerate(found["embeddings"]):
        window = samples[k * 32000 : (k + 1) * 32000]
        np.testing.assert_allclose(embedding, hear_models.embed(window, tiny), rtol=1e-4, atol=1e-5)

    embed_files([path], tmp_path / "overlap", tiny, window_s=2.0, hop_s=0.5)
    found = load(tmp_path / "overlap/long.wav.npz")
    assert found["window_starts_ms"].tolist() == [500.0 * k for k in range(12)]  # the last one ends at 7.3 s

    embed_files([path], tmp_path / "steps", tiny, kind="timestamps", window_s=2.0)
    found = load(tmp_path / "steps/long.wav.npz")
    embeddings, times = hear_models.embed(samples[32000:64000], tiny, kind="timestamps")
    inside = (found["timestamps_ms"] >= 2000) & (found["timestamps_ms"] < 4000)
    np.testing.assert_allclose(found["timestamps_ms"][inside], times.astype(np.float64) + 2000.0)
    np.testing.assert_allclose(found["embeddings"][inside], embeddings, rtol=1e-4, atol=1e-5)
    assert (np.diff(found["timestamps_ms"]) > 0).all()
    assert found["timestamps_ms"][-1] <= 7300.0


@pytest.mark.parametrize("kind", ["scene", "timestamps"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_table_holds_what_the_files_hold(
    corpus: Path, tmp_path: Path, tiny: HearModel, kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "PART_BYTES", 1)  # a part for every recording, which are then joined
    embed_files([corpus], tmp_path / "out", tiny, kind=kind, dtype=dtype)
    embed_files([corpus], tmp_path / "all.parquet", tiny, kind=kind, dtype=dtype)
    assert not (tmp_path / "all.parquet.parts").exists()
    table = pq.read_table(tmp_path / "all.parquet")
    assert json.loads(table.schema.metadata[b"hear_models"])["kind"] == kind
    time = "start_ms" if kind == "scene" else "timestamp_ms"
    for name in NAMES:
        found = table.filter([path == name for path in table["path"].to_pylist()])
        expected = load(tmp_path / "out" / f"{name}.npz")
        embeddings = np.array(found["embedding"].to_pylist(), dtype=dtype)
        np.testing.assert_array_equal(embeddings, expected["embeddings"].reshape(len(embeddings), -1))
        assert found[time].to_pylist() == expected.get("timestamps_ms", np.zeros(1)).tolist()
        assert set(found["source_duration_s"].to_pylist()) == {expected["metadata"]["source"]["duration_s"]}


@pytest.mark.parametrize("target", ["out", "all.parquet"])
def test_a_second_run_computes_only_what_is_new_or_changed(
    corpus: Path, tmp_path: Path, tiny: HearModel, make: Make, target: str
) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    output = tmp_path / target
    assert embed_files([corpus], output, tiny).embedded == 4
    again = embed_files([corpus], output, tiny)
    assert (again.embedded, again.skipped) == (0, 4)
    make(corpus / "new.wav", 0.5)
    make(corpus / "a.wav", 1.5, seed=9)
    third = embed_files([corpus], output, tiny)
    assert (third.embedded, third.skipped) == (2, 3)
    expected = hear_models.embed(corpus / "a.wav", tiny)
    if target == "out":
        found = load(output / "a.wav.npz")["embeddings"]
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(output)
        assert sorted(table["path"].to_pylist()) == sorted([*NAMES, "new.wav"])  # the old row of a.wav is gone
        found = np.array(table["embedding"][table["path"].to_pylist().index("a.wav")].as_py())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", ["out", "all.parquet"])
def test_embeddings_of_other_settings_are_neither_mixed_nor_lost(
    corpus: Path, tmp_path: Path, tiny: HearModel, target: str
) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    output = tmp_path / target
    embed_files([corpus], output, tiny)
    before = {path: path.read_bytes() for path in tmp_path.glob(f"{target}/**/*.npz")}
    with pytest.raises(UsageError, match=r"dtype = 'float32', this run has 'float16'.*--overwrite"):
        embed_files([corpus], output, tiny, dtype="float16")
    assert {path: path.read_bytes() for path in tmp_path.glob(f"{target}/**/*.npz")} == before
    assert not (tmp_path / "all.parquet.parts").exists()
    assert embed_files([corpus], output, tiny, dtype="float16", overwrite=True).embedded == 4


def test_equal_runs_give_equal_bytes(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    for name in ("one", "two"):
        embed_files([corpus], tmp_path / name, tiny, kind="timestamps", workers=3)
    for name in NAMES:
        assert (tmp_path / "one" / f"{name}.npz").read_bytes() == (tmp_path / "two" / f"{name}.npz").read_bytes()


def test_a_damaged_output_is_made_again(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    embed_files([corpus], tmp_path / "out", tiny)
    damaged = tmp_path / "out/a.wav.npz"
    whole = dict(np.load(damaged))
    damaged.write_bytes(damaged.read_bytes()[:200])
    (tmp_path / "out/a.flac.npz").write_bytes(b"")
    assert embed_files([corpus], tmp_path / "out", tiny).embedded == 2
    again = np.load(damaged)  # in a smaller batch than at first: equal but for rounding
    np.testing.assert_allclose(again["embeddings"], whole["embeddings"], rtol=1e-4, atol=1e-5)
    assert str(again["metadata"]) == str(whole["metadata"])


@pytest.mark.parametrize("target", ["out", "all.parquet"])
@pytest.mark.parametrize("window_s", [None, 1.0])
def test_one_unreadable_recording_costs_only_itself(
    corpus: Path, tmp_path: Path, tiny: HearModel, make: Make, target: str, window_s: float | None
) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (corpus / "0 text.wav").write_text("words")
    make(corpus / "b cut.flac", 9.0)
    (corpus / "b cut.flac").write_bytes((corpus / "b cut.flac").read_bytes()[:200_000])  # fails after some windows
    (corpus / "z empty.mp3").touch()
    summary = embed_files([corpus, corpus / "missing.wav"], tmp_path / target, tiny, window_s=window_s, batch_seconds=2)
    assert summary.embedded == 4 and summary.files == 8
    failed = {Path(failure.path).name: failure.error for failure in summary.failed}
    assert sorted(failed) == ["0 text.wav", "b cut.flac", "missing.wav", "z empty.mp3"]
    assert all(name in error for name, error in failed.items())
    if target == "out":
        assert files_below(tmp_path / "out") == [f"{name}.npz" for name in NAMES]
    else:
        import pyarrow.parquet as pq

        assert set(pq.read_table(tmp_path / target)["path"].to_pylist()) == set(NAMES)


def test_a_model_that_fails_on_one_clip_loses_only_that_recording(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_clips = tiny.embed_clips

    def fails_on_long_clips(clips: Any, purpose: Any = "scene") -> Any:
        if any(len(clip) > 7 * 16000 for clip in clips):
            raise RuntimeError("out of memory")
        return embed_clips(clips, purpose)

    monkeypatch.setattr(tiny, "embed_clips", fails_on_long_clips)
    summary = embed_files([corpus], tmp_path / "out", tiny)
    assert summary.embedded == 3
    assert [Path(failure.path).name for failure in summary.failed] == ["long.wav"]
    assert "out of memory" in summary.failed[0].error


def test_float16_never_stores_infinity(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_clips = tiny.embed_clips
    monkeypatch.setattr(tiny, "embed_clips", lambda clips, purpose: [x * 1e6 for x in embed_clips(clips, purpose)])
    summary = embed_files([corpus / "a.wav"], tmp_path / "out", tiny, dtype="float16")
    assert "--dtype float32" in summary.failed[0].error and files_below(tmp_path / "out") == []
    assert embed_files([corpus / "a.wav"], tmp_path / "out", tiny).embedded == 1


def test_recordings_of_hours_pass_through_a_file_and_come_out_whole(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_files([corpus], tmp_path / "memory", tiny, kind="timestamps", window_s=1.0)
    monkeypatch.setattr(rows, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(rows, "CHUNK_ROWS", 3)
    embed_files([corpus], tmp_path / "disk", tiny, kind="timestamps", window_s=1.0)
    for name in NAMES:
        assert (tmp_path / "memory" / f"{name}.npz").read_bytes() == (tmp_path / "disk" / f"{name}.npz").read_bytes()
    assert files_below(tmp_path / "disk") == [f"{name}.npz" for name in NAMES]


def test_a_write_that_fails_stops_the_run_and_leaves_nothing_half_written(
    corpus: Path, tmp_path: Path, tiny: HearModel
) -> None:
    (tmp_path / "out/a.wav.npz").mkdir(parents=True)  # where a file has to go
    with pytest.raises(HearModelsError, match=r"out.*cannot be written"):
        embed_files([corpus], tmp_path / "out", tiny)
    assert not [name for name in files_below(tmp_path / "out") if not name.endswith(".npz")]


def test_two_runs_do_not_write_to_one_output(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    with (
        only_writer(inside(tmp_path / "out"), tmp_path / "out"),
        pytest.raises(UsageError, match=rf"Another run \(process {os.getpid()} .* is writing"),
    ):
        embed_files([corpus], tmp_path / "out", tiny)
    assert embed_files([corpus], tmp_path / "out", tiny).embedded == 4


def test_a_killed_table_keeps_its_finished_parts(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "PART_BYTES", 1)

    def stop_after_two(summary: run.CorpusSummary) -> None:
        if summary.embedded == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_files([corpus], tmp_path / "all.parquet", tiny, batch_seconds=0.01, progress=stop_after_two)
    assert not (tmp_path / "all.parquet").exists()
    parts = files_below(tmp_path / "all.parquet.parts")
    assert len(parts) >= 2 and all(part.endswith(".parquet") for part in parts)
    (tmp_path / "all.parquet.parts/.hear-models-00.part").write_bytes(b"cut off")  # as SIGKILL would leave it
    summary = embed_files([corpus], tmp_path / "all.parquet", tiny)
    assert summary.skipped == len(parts) and summary.embedded == 4 - len(parts)
    assert sorted(pq.read_table(tmp_path / "all.parquet")["path"].to_pylist()) == sorted(NAMES)
    assert not (tmp_path / "all.parquet.parts").exists()


def test_without_pyarrow_the_error_says_what_to_install(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r'pip install "hear-models\[parquet\]"'):
        embed_files([corpus], tmp_path / "all.parquet", tiny)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "scenes"},
        {"dtype": "int8"},
        {"window_s": 0.0},
        {"window_s": float("nan")},
        {"hop_s": 1.0},
        {"window_s": 1.0, "hop_s": 2.0},
        {"window_s": 2.0, "hop_s": 1.0, "kind": "timestamps"},
        {"workers": 0},
        {"batch_seconds": 0.0},
    ],
)
def test_options_out_of_range_are_told_before_anything_is_written(
    corpus: Path, tmp_path: Path, tiny: HearModel, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        embed_files([corpus], tmp_path / "out", tiny, **options)
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_text_is_embedded(tmp_path: Path, tiny: HearModel, make: Make) -> None:
    if os.name != "posix":
        pytest.skip("names are text here")
    pq = pytest.importorskip("pyarrow.parquet")
    make(tmp_path / "a.wav", 0.5)
    (tmp_path / "in").mkdir()
    try:
        os.rename(tmp_path / "a.wav", os.fsencode(tmp_path / "in") + b"/\xff new\nline.wav")
    except OSError as error:
        pytest.skip(f"this file system does not take the name: {error}")
    assert embed_files([tmp_path / "in"], tmp_path / "out", tiny).embedded == 1
    assert embed_files([tmp_path / "in"], tmp_path / "out", tiny).skipped == 1
    assert embed_files([tmp_path / "in"], tmp_path / "t.parquet", tiny).embedded == 1
    assert embed_files([tmp_path / "in"], tmp_path / "t.parquet", tiny).skipped == 1
    assert pq.read_table(tmp_path / "t.parquet")["path"].to_pylist() == ["\\xff new\nline.wav"]


def test_a_table_that_cannot_be_written_on_does_not_count_half_a_recording(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    options: dict[str, Any] = {"kind": "timestamps", "batch_seconds": 0.01}
    with monkeypatch.context() as patch:
        patch.setattr(rows, "CHUNK_ROWS", 2)
        patch.setattr(parquet, "GROUP_BYTES", 1)
        write_group, calls = parquet.ParquetOutput._write_group, iter(range(99))

        def full_disk(self: Any) -> None:
            if next(calls) == 4:  # within the second recording's rows
                raise OSError(28, "No space left on device")
            write_group(self)

        patch.setattr(parquet.ParquetOutput, "_write_group", full_disk)
        with pytest.raises(HearModelsError, match="No space left on device"):
            embed_files([corpus], tmp_path / "all.parquet", tiny, **options)
    assert embed_files([corpus], tmp_path / "all.parquet", tiny, **options).embedded >= 1
    embed_files([corpus], tmp_path / "fresh.parquet", tiny, **options)
    counts = [
        pq.read_table(tmp_path / name)["path"].value_counts().to_pylist() for name in ("all.parquet", "fresh.parquet")
    ]
    assert sorted(counts[0], key=str) == sorted(counts[1], key=str)


def test_a_table_has_no_row_twice_after_a_kill_between_its_name_and_its_parts(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "PART_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(parquet.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed_files([corpus], tmp_path / "all.parquet", tiny)
    assert (tmp_path / "all.parquet").exists() and files_below(tmp_path / "all.parquet.parts")
    for _ in range(2):
        assert embed_files([corpus], tmp_path / "all.parquet", tiny).skipped == 4
        assert sorted(pq.read_table(tmp_path / "all.parquet")["path"].to_pylist()) == sorted(NAMES)


def test_rows_of_a_recording_that_changed_go_even_if_the_run_was_stopped(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet, "PART_BYTES", 1)
    embed_files([corpus], tmp_path / "all.parquet", tiny)
    before = pq.read_table(tmp_path / "all.parquet").to_pydict()
    os.utime(corpus / "a.wav", ns=(1, (corpus / "a.wav").stat().st_mtime_ns + 1))  # within the same second

    def stop(summary: run.CorpusSummary) -> None:
        if summary.embedded:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_files([corpus], tmp_path / "all.parquet", tiny, progress=stop)
    summary = embed_files([corpus], tmp_path / "all.parquet", tiny)
    after = pq.read_table(tmp_path / "all.parquet").to_pydict()
    assert summary.embedded + summary.skipped == 4 and sorted(after["path"]) == sorted(NAMES)
    new, old = after["path"].index("a.wav"), before["path"].index("a.wav")
    assert after["source_modified_ns"][new] != before["source_modified_ns"][old]


def test_a_second_run_leaves_the_first_ones_parts_alone_even_with_overwrite(
    corpus: Path, tmp_path: Path, tiny: HearModel
) -> None:
    pytest.importorskip("fcntl")
    pytest.importorskip("pyarrow")
    parts = tmp_path / "all.parquet.parts"
    parts.mkdir()
    (parts / "part-000001.parquet").write_bytes(b"in work")
    with only_writer(beside(tmp_path / "all.parquet"), tmp_path), pytest.raises(UsageError, match="Another run"):
        embed_files([corpus], tmp_path / "all.parquet", tiny, overwrite=True)
    assert files_below(parts) == ["part-000001.parquet"]


@pytest.mark.parametrize("target", ["out", "all.parquet"])
def test_a_damaged_file_is_not_there_already(corpus: Path, tmp_path: Path, tiny: HearModel, target: str) -> None:
    pytest.importorskip("pyarrow")
    embed_files([corpus], tmp_path / target, tiny)
    path = tmp_path / target / "a.wav.npz" if target == "out" else tmp_path / target
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2] ^= 4
    path.write_bytes(broken)
    (corpus / "a.wav").touch()
    if target == "out":
        assert embed_files([corpus], tmp_path / target, tiny).embedded == 1
        return
    with pytest.raises(HearModelsError, match=r"all\.parquet.*--overwrite"):  # not sealed as if it were right
        embed_files([corpus], tmp_path / target, tiny)
    assert path.read_bytes() == bytes(broken)


def test_a_name_that_is_too_long_for_its_output_fails_alone(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    if not hasattr(os, "pathconf"):
        pytest.skip("names are limited otherwise here")
    long = "x" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 6) + ".wav"
    (corpus / "a.wav").rename(corpus / long)
    summary = embed_files([corpus], tmp_path / "out", tiny)
    assert summary.embedded == 3 and [Path(f.path).name for f in summary.failed] == [long]
    assert "Rename it" in summary.failed[0].error


def test_a_link_below_the_output_is_not_written_through(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    inner = next(name for name in NAMES if "/" in name).split("/")[0]
    (tmp_path / "out" / inner).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(HearModelsError, match="leads out"):
        embed_files([corpus], tmp_path / "out", tiny)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_full_disk_that_arrow_tells_of_is_one_sentence(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrow = pytest.importorskip("pyarrow")

    def full(*_: Any) -> None:
        raise arrow.ArrowInvalid("could not write")

    monkeypatch.setattr(parquet, "_finish", full)
    with pytest.raises(HearModelsError, match="cannot be written"):
        embed_files([corpus], tmp_path / "all.parquet", tiny)
