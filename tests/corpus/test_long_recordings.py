"""Recordings of hours: windows by default, progress by window, and a kill that costs seconds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hear_models.corpus import options, unfinished
from hear_models.corpus.progress import Progress
from hear_models.corpus.reading import load_embeddings
from hear_models.corpus.run import CorpusSummary, embed_files
from hear_models.errors import FileError, UsageError
from hear_models.pipeline.audio import windows_of
from hear_models.pipeline.decoding import open_recording
from hear_models.pipeline.model import HearModel
from hear_models.rereading.check import check

Make = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """With more of them the bits of so small a network follow from the size of its batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def short_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings beyond 2 s are long, and every window is kept."""
    monkeypatch.setattr(options, "LONG_S", 2.0)
    monkeypatch.setattr(options, "LONG_WINDOW_S", {"scene": 0.5, "timestamps": 1.0})
    monkeypatch.setattr(unfinished, "KEEP_S", 0.0)


@pytest.fixture
def corpus(tmp_path: Path, make: Make) -> Path:
    make(tmp_path / "in/exact.wav", 2.0, seed=1)
    make(tmp_path / "in/long.wav", 5.2, rate=8000, seed=2)
    make(tmp_path / "in/short.flac", 0.5, seed=3)  # as long as a window
    return tmp_path / "in"


@pytest.mark.usefixtures("short_is_long")
@pytest.mark.parametrize("target", ["out", "out.parquet"])
def test_long_recordings_have_windows_and_short_ones_are_whole(
    corpus: Path, tmp_path: Path, tiny: HearModel, target: str
) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    summary = embed_files([corpus], tmp_path / target, tiny)
    assert (summary.embedded, summary.windowed, summary.done_share) == (3, 1, 1.0)
    x, rows = load_embeddings(tmp_path / target)
    spans = [(row["start_ms"], row["end_ms"]) for row in rows if row["path"] == "long.wav"]
    assert spans == [(500.0 * k, 500.0 * (k + 1)) for k in range(10)] + [(5000.0, 5200.0)]
    assert [row["end_ms"] for row in rows if row["path"] != "long.wav"] == [2000.0, 500.0]

    embed_files([corpus / "long.wav"], tmp_path / "windows", tiny, window_s=0.5)
    y, _ = load_embeddings(tmp_path / "windows")
    np.testing.assert_array_equal(x[[row["path"] == "long.wav" for row in rows]], y)


@pytest.mark.usefixtures("short_is_long")
def test_a_folder_begun_without_windows_is_not_mixed(corpus: Path, tmp_path: Path, tiny: HearModel, make: Make) -> None:
    embed_files([corpus / "short.flac"], tmp_path / "out", tiny, window_s=None)
    done = embed_files([corpus], tmp_path / "out", tiny)  # what is short is the same either way
    assert (done.embedded, done.skipped) == (2, 1)
    with pytest.raises(UsageError, match=r"windows of 0.5 s \(--window 0.5\), this run is without windows"):
        embed_files([corpus], tmp_path / "out", tiny, window_s=None)

    embed_files([corpus / "long.wav"], tmp_path / "whole", tiny, window_s=None)
    for paths in ([corpus / "long.wav"], [corpus / "short.flac"]):
        with pytest.raises(UsageError, match=r"was made without windows \(--window 0\), this run is in windows of 0.5"):
            embed_files(paths, tmp_path / "whole", tiny)


@pytest.mark.usefixtures("short_is_long")
def test_a_table_begun_without_windows_is_not_mixed(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    pytest.importorskip("pyarrow")
    embed_files([corpus / "short.flac"], tmp_path / "t.parquet", tiny, window_s=None)
    with pytest.raises(UsageError, match="--window 0"):
        embed_files([corpus], tmp_path / "t.parquet", tiny)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("seconds", "parts"), [(2.0, 1), (2.01, 5), (0.5, 1)])
def test_a_length_that_only_decoding_tells_is_decided_alike(
    tmp_path: Path, make: Make, known: bool, seconds: float, parts: int
) -> None:
    make(tmp_path / "a.wav", seconds)
    recording = open_recording(tmp_path / "a.wav")
    if not known:
        recording.frames = None
    found = list(windows_of(recording, 16000, 8000, longer_than_s=2.0))
    assert len(found) == parts and sum(map(len, found)) == round(16000 * seconds)


@pytest.mark.parametrize("first", [0, 1, 4, 5, 6])
def test_reading_goes_on_at_any_window(tmp_path: Path, make: Make, first: int) -> None:
    make(tmp_path / "a.flac", 5.3, rate=44100, channels=2)
    every = list(windows_of(open_recording(tmp_path / "a.flac"), 16000, 16000))
    rest = list(windows_of(open_recording(tmp_path / "a.flac"), 16000, 16000, first=first))
    assert len(rest) == max(0, 6 - first)
    for one, other in zip(every[first:], rest, strict=True):
        np.testing.assert_array_equal(one, other)


class Stopped(BaseException):
    """As Ctrl-C."""


def stopped_after(n: int, model: HearModel, monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """Let a run embed `n` batches, then stop it."""
    left = [n]
    embed_clips = type(model).embed_clips

    def counted(self: HearModel, *arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped
        return embed_clips(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "embed_clips", counted)
        with pytest.raises(Stopped):
            run()


CASES = [("out", "scene", None), ("out", "timestamps", None), ("out.parquet", "scene", None), ("out", "scene", 0.25)]


@pytest.mark.usefixtures("short_is_long")
@pytest.mark.parametrize(("target", "kind", "hop_s"), CASES)
def test_windows_that_were_finished_are_not_computed_again(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch, target: str, kind: str, hop_s: Any
) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")

    def run(folder: str) -> CorpusSummary:
        window = {} if hop_s is None else {"window_s": 0.5, "hop_s": hop_s}
        return embed_files(
            [corpus / "long.wav"], tmp_path / folder / target, tiny, kind=kind, batch_seconds=0.2, **window
        )

    whole = run("undisturbed")
    assert whole.resumed_s == 0
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # one batch at a time
    stopped_after(3, tiny, monkeypatch, lambda: run("stopped"))
    [kept] = (tmp_path / "stopped").rglob(".unfinished-*")
    assert [one.problem for one in check([kept])] == [None]
    again = run("stopped")
    assert again.resumed_s > 0 and again.audio_s < whole.audio_s and again.embeddings == whole.embeddings
    x, rows = load_embeddings(tmp_path / "undisturbed" / target)
    y, others = load_embeddings(tmp_path / "stopped" / target)
    np.testing.assert_array_equal(x, y)
    assert rows == others and not list((tmp_path / "stopped").rglob(".unfinished-*"))
    if target == "out":
        assert (tmp_path / "undisturbed/out/long.wav.npz").read_bytes() == (
            tmp_path / "stopped/out/long.wav.npz"
        ).read_bytes()


@pytest.mark.usefixtures("short_is_long")
@pytest.mark.parametrize("damage", ["torn", "flipped", "emptied", "changed recording", "all windows"])
def test_what_a_kill_left_of_windows_is_used_as_far_as_it_is_whole(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch, make: Make, damage: str
) -> None:
    def run() -> CorpusSummary:
        return embed_files([corpus / "long.wav"], tmp_path / "out", tiny, batch_seconds=0.2)

    monkeypatch.setattr("os.cpu_count", lambda: 1)
    stopped_after(5, tiny, monkeypatch, run)
    [kept] = (tmp_path / "out").glob(".unfinished-*")
    if damage == "torn":
        kept.write_bytes(kept.read_bytes()[:-3])
    elif damage == "flipped":
        data = bytearray(kept.read_bytes())
        data[len(data) // 2] ^= 1
        kept.write_bytes(data)
    elif damage == "emptied":
        kept.write_bytes(b"")
    elif damage == "changed recording":
        make(corpus / "long.wav", 5.2, rate=8000, seed=9)
    if damage != "all windows" and damage != "changed recording":
        assert [one.problem is not None for one in check([kept])] == [True]
    if damage == "torn":  # and stopped once more
        stopped_after(1, tiny, monkeypatch, run)
        assert [one.problem for one in check([kept])] == [None]
    summary = run()
    assert (summary.resumed_s > 0) == (damage in ("torn", "flipped", "all windows"))
    embed_files([corpus / "long.wav"], tmp_path / "other", tiny, window_s=0.5)
    x, rows = load_embeddings(tmp_path / "out")
    y, others = load_embeddings(tmp_path / "other")
    np.testing.assert_array_equal(x, y)
    assert rows == others and not list((tmp_path / "out").glob(".unfinished-*"))


@pytest.mark.usefixtures("short_is_long")
def test_windows_of_other_settings_are_neither_used_nor_lost(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    def run(**given: Any) -> CorpusSummary:
        return embed_files([corpus / "long.wav"], tmp_path / "out", tiny, batch_seconds=0.2, **given)

    stopped_after(3, tiny, monkeypatch, lambda: run())
    stopped_after(2, tiny, monkeypatch, lambda: run(window_s=1.0))
    assert len(list((tmp_path / "out").glob(".unfinished-*"))) == 2
    assert run(overwrite=True).resumed_s == 0
    assert not list((tmp_path / "out").glob(".unfinished-*"))


def test_short_recordings_with_windows_cost_no_files_of_their_own(
    tmp_path: Path, tiny: HearModel, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is not closed after each, and the folder is not listed for each."""
    pytest.importorskip("pyarrow")
    for k in range(6):
        make(tmp_path / f"in/{k}.wav", 0.6, seed=k)
    listed: list[Path] = []
    monkeypatch.setattr(unfinished, "forget", lambda folder, names: listed.append(folder))
    parts: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (parts.append(os.fspath(b)), replace(a, b)))
    embed_files([tmp_path / "in"], tmp_path / "t.parquet", tiny, window_s=0.5)
    assert listed == [] and sum("part-" in Path(name).name for name in parts) == 1


@pytest.mark.usefixtures("short_is_long")
def test_a_link_in_the_place_of_windows_is_not_written_through(
    corpus: Path, tmp_path: Path, tiny: HearModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    def run() -> CorpusSummary:
        return embed_files([corpus / "long.wav"], tmp_path / "out", tiny, batch_seconds=0.2)

    stopped_after(3, tiny, monkeypatch, run)
    [kept] = (tmp_path / "out").glob(".unfinished-*")
    (tmp_path / "theirs").write_text("theirs")
    kept.unlink()
    kept.symlink_to(tmp_path / "theirs")
    try:
        run()
    except Exception as error:
        assert "cannot be written" in str(error)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_progress_goes_by_window(corpus: Path, tmp_path: Path, tiny: HearModel) -> None:
    shares: list[float] = []
    embed_files(
        [corpus / "long.wav"],
        tmp_path / "out",
        tiny,
        window_s=0.5,
        batch_seconds=0.2,
        progress=lambda summary: shares.append(summary.done_share),
    )
    assert shares == sorted(shares) and len({round(share, 2) for share in shares}) >= 8 and shares[-1] == 1


def test_what_was_done_before_tells_nothing_of_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    work = Progress()
    work.begin([100, 300])
    assert work.left_s is None and work.share == 0
    work.was_done(1, 0.5)
    now[0] = 10.0
    work.part(0, 0.5)
    assert work.share == pytest.approx(0.5) and work.left_s == pytest.approx(10 * 200 / 50)
    work.part(0, 1.0)
    work.part(1, 1.0)
    assert work.share == 1 and work.left_s == 0


@pytest.mark.parametrize("name", ["e.npz", "e.npy", "e.CSV", "sub/e.h5", "e.wav", "e.tsv"])
def test_an_output_that_would_be_a_folder_of_a_files_name_is_refused(
    corpus: Path, tmp_path: Path, tiny: HearModel, name: str
) -> None:
    with pytest.raises(UsageError, match="would be a folder with one"):
        embed_files([corpus], tmp_path / name, tiny)
    assert not (tmp_path / name).exists() and not (tmp_path / "sub").exists()
    (tmp_path / name).mkdir(parents=True)  # one that is there goes on
    embed_files([corpus / "short.flac"], tmp_path / name, tiny)


@pytest.mark.parametrize("target", ["out", "out.parquet"])
@pytest.mark.parametrize("kind", ["scene", "timestamps"])
def test_clock_times_stand_beside_every_embedding(
    tmp_path: Path, tiny: HearModel, make: Make, target: str, kind: str
) -> None:
    if target.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    make(tmp_path / "in/20240501_235959.WAV", 1.5)
    make(tmp_path / "in/rain.wav", 0.6)
    embed_files([tmp_path / "in"], tmp_path / target, tiny, kind=kind, window_s=0.5, clock=True)
    _, rows = load_embeddings(tmp_path / target)
    clocks = [row["clock"] for row in rows if row["path"] == "20240501_235959.WAV"]
    if kind == "scene":
        assert clocks == ["2024-05-01T23:59:59.000", "2024-05-01T23:59:59.500", "2024-05-02T00:00:00.000"]
    else:
        assert clocks[0].startswith("2024-05-01T23:59:59.") and clocks[-1].startswith("2024-05-02T00:00:00.")
    assert {row["clock"] for row in rows if row["path"] == "rain.wav"} == {""}
    with pytest.raises(UsageError, match="clock"):
        embed_files([tmp_path / "in"], tmp_path / target, tiny, kind=kind, window_s=0.5)


def test_a_file_that_is_none_of_windows_is_told(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-1.windows").write_text(json.dumps({"settings": {"dtype": "object"}}))
    with pytest.raises(FileError):
        unfinished.verify_unfinished(tmp_path / ".unfinished-1.windows")
    shutil.rmtree(tmp_path)
