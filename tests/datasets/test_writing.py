"""A corpus that takes hours to make must survive being stopped, and never be a mixture."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from hear_models.datasets.writing import claim_folder, write_corpus, write_flac
from hear_models.errors import HearModelsError, UsageError
from hear_models.locks import inside, only_writer


def make(index: int) -> np.ndarray | None:
    """0.1 to 0.5 s, every fifth one left out."""
    if index % 5 == 3:
        return None
    return np.random.default_rng(index).uniform(-0.5, 0.5, 1600 * (1 + index % 5)).astype(np.float32)


def run(folder, seconds, make=make, **options) -> list[tuple[int, float]]:
    return list(write_corpus(folder, make, seconds, name="x", **options))


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_hold_what_was_made_to_16_bits(tmp_path):
    audio = make(0)
    write_flac(tmp_path / "a.flac", audio, 16_000)
    read, rate = soundfile.read(tmp_path / "a.flac", dtype="float32")
    assert rate == 16_000 and soundfile.info(tmp_path / "a.flac").subtype == "PCM_16"
    np.testing.assert_allclose(read, audio, atol=1 / 32768)


def test_the_corpus_is_the_same_whatever_the_number_of_workers(tmp_path):
    run(tmp_path / "one", 20)
    run(tmp_path / "three", 20, workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_the_corpus_is_as_long_as_asked_and_hardly_longer(tmp_path):
    files, seconds = run(tmp_path, 20, workers=2)[-1]
    assert 20 <= seconds < 21
    assert files == len(contents(tmp_path))


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    class Stop(Exception):
        pass

    calls = []

    def stops_at_30(index):
        if index == 30:
            raise Stop
        return make(index)

    def counted(index):
        calls.append(index)
        return make(index)

    with pytest.raises(Stop):
        run(tmp_path / "a", 20, stops_at_30)
    before = contents(tmp_path / "a")
    assert len(before) > 10
    run(tmp_path / "a", 20, counted)
    assert min(index for index in calls if index % 5 != 3) >= 30, "finished files were made again"
    run(tmp_path / "b", 20)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_larger_corpus_starts_with_the_smaller_one(tmp_path):
    run(tmp_path, 5)
    small = contents(tmp_path)
    run(tmp_path, 10)
    assert small.items() <= contents(tmp_path).items()


def test_another_corpus_does_not_get_into_the_same_folder(tmp_path):
    claim_folder(tmp_path, {"kind": "speech", "seed": 1})
    claim_folder(tmp_path, {"seed": 1, "kind": "speech"})
    with pytest.raises(UsageError, match="other settings"):
        claim_folder(tmp_path, {"kind": "speech", "seed": 2})


def test_a_folder_that_another_run_writes_to_is_not_claimed(tmp_path):
    """Two runs that begin at once would both find it empty, and note what the other does not make."""
    pytest.importorskip("fcntl")
    with only_writer(inside(tmp_path), tmp_path), pytest.raises(UsageError, match="Another run"):
        claim_folder(tmp_path, {"seed": 1})
    assert contents(tmp_path) == {}


def test_a_failed_write_leaves_nothing_and_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HearModelsError, match="could not be written"):
        write_flac(tmp_path / "file" / "a.flac", make(0), 16_000)
    with pytest.raises(HearModelsError, match="could not be written"):
        write_flac(tmp_path / "rate.flac", make(0), 10_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_maker_that_never_gives_anything_does_not_run_for_ever(tmp_path):
    with pytest.raises(HearModelsError, match="Nothing usable"):
        run(tmp_path, 1, lambda index: None)
