"""A file is there whole or not at all, and an error about it is no error of a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hear_models.errors import CheckpointError, FileError
from hear_models.files import whole_file, write_atomically
from hear_models.foreign import read_bytes
from hear_models.resources import cache_folder


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as part:
        part.write_bytes(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with whole_file(path) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path):
    write_atomically(tmp_path / "ours", b"1")
    (tmp_path / "other").write_bytes(b"1")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_that_cannot_be_had_is_one_clear_error(tmp_path: Path):
    for path, said in ((tmp_path / "none" / "a", "cannot be written"), (tmp_path, "is a folder")):
        with pytest.raises(FileError, match=said) as caught:
            write_atomically(path, b"")
        assert caught.value.exit_code == 1 and not isinstance(caught.value, CheckpointError)
    for path, said in ((tmp_path / "gone", "cannot be read"), (tmp_path, "is a folder")):
        with pytest.raises(FileError, match=said):
            read_bytes(path)


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HEAR_MODELS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "hear-models"
    monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
