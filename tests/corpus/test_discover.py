"""Which recordings a command finds, and what their outputs are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hear_models.corpus.discover import find_audio_files
from hear_models.errors import UsageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(*paths: Path) -> list[str]:
    return [source.name for source in find_audio_files(paths)[0]]


def test_a_folder_gives_its_recordings_in_order_and_nothing_else(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ["b.wav", "a.FLAC", "sub/deep/c.m4a", "notes.txt", "._b.wav", ".git/d.wav"]))
    assert names(tmp_path) == ["a.FLAC", "b.wav", "sub/deep/c.m4a"]


def test_a_file_named_explicitly_is_tried_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path / "recording.dat")
    assert names(tmp_path / "recording.dat") == ["recording.dat"]


def test_two_folders_keep_their_names_so_equal_files_do_not_collide(tmp_path: Path) -> None:
    touch(tmp_path / "music/1.wav", tmp_path / "speech/1.wav")
    assert names(tmp_path / "music", tmp_path / "speech") == ["music/1.wav", "speech/1.wav"]
    assert names(tmp_path / "music", tmp_path / "music/") == ["1.wav"]


def test_two_recordings_for_one_output_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.wav", tmp_path / "b/1.wav")
    with pytest.raises(UsageError, match="would both be written"):
        names(tmp_path / "a/1.wav", tmp_path / "b/1.wav")


def test_a_recording_named_twice_is_embedded_once(tmp_path: Path) -> None:
    touch(tmp_path / "a/1.wav")
    assert names(tmp_path / "a", tmp_path / "a/1.wav") == ["1.wav"]


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "corpus/x.wav", tmp_path / "corpus/sub/y.wav", tmp_path / "elsewhere/z.wav")
    try:
        (tmp_path / "corpus/sub/up").symlink_to(tmp_path / "corpus")  # a loop
        (tmp_path / "corpus/self").symlink_to(tmp_path / "corpus/self")  # a link to itself
        (tmp_path / "corpus/again").symlink_to(tmp_path / "corpus/sub")  # listed anyway
        (tmp_path / "corpus/other").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "corpus/above").symlink_to(tmp_path)  # a loop by way of a folder outside
        (tmp_path / "corpus/alias.wav").symlink_to(tmp_path / "corpus/x.wav")
    except OSError as error:
        pytest.skip(f"no symbolic links here: {error}")
    assert sorted(names(tmp_path / "corpus")) == ["alias.wav", "other/z.wav", "sub/y.wav", "x.wav"]


def test_an_empty_folder_is_told_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"No recordings in .*\.wav"):
        find_audio_files([tmp_path])


def test_a_folder_that_may_not_be_read_is_reported_and_the_rest_is_found(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("root may read every folder")
    touch(tmp_path / "a.wav", tmp_path / "closed/b.wav")
    (tmp_path / "closed").chmod(0)
    try:
        sources, failures = find_audio_files([tmp_path])
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert [source.name for source in sources] == ["a.wav"]
    assert [failure.path for failure in failures] == [str(tmp_path / "closed")]


def test_a_path_that_does_not_exist_is_told_and_stops_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    with pytest.raises(UsageError, match=r"missing\.wav.*does not exist"):
        find_audio_files([tmp_path / "missing.wav"])
    sources, failures = find_audio_files([tmp_path / "missing.wav", tmp_path])
    assert [source.name for source in sources] == ["a.wav"]
    assert "does not exist" in failures[0].error
