"""A file is there whole or not at all, and an error about it is no error of a checkpoint."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hear_models.errors import CheckpointError, FileError
from hear_models.files import (
    allocate,
    growing_file,
    is_left_over,
    make_folder,
    open_to_write,
    remove_left_over,
    rename_aside,
    whole_file,
    write_atomically,
    write_durably,
)
from hear_models.foreign import read_bytes
from hear_models.locks import InUse, beside, inside, only_writer
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


WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from hear_models.files import whole_file, whole_folder
with (whole_folder if sys.argv[2] == "folder" else whole_file)(Path(sys.argv[1]) / "target"):
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_works_on_is_not(tmp_path, kind):
    pytest.importorskip("fcntl")
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    (work,) = tmp_path.iterdir()
    assert is_left_over(work.name)
    remove_left_over(tmp_path)
    assert work.exists(), "its owner lives"
    process.kill()
    process.wait()
    write_atomically(tmp_path / "other", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_link_in_the_place_of_what_is_written_is_not_followed(tmp_path: Path):
    if not getattr(os, "O_NOFOLLOW", 0):
        pytest.skip("no such flag here")
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    for name in ("whole", "durable", "appended", "mapped"):
        (tmp_path / name).symlink_to(theirs)
    write_atomically(tmp_path / "whole", b"ours")  # the link is replaced
    allocate(tmp_path / "mapped", 10)
    for append in (False, True):
        with pytest.raises(OSError):
            os.close(open_to_write(tmp_path / "appended", append=append))
    with pytest.raises(OSError):
        write_durably(tmp_path / "durable", b"ours")
    assert theirs.read_bytes() == b"theirs"
    assert (tmp_path / "whole").read_bytes() == b"ours" and (tmp_path / "mapped").stat().st_size == 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_an_unfinished_download_left_is_neither_waited_for_nor_followed(tmp_path: Path):
    with growing_file(tmp_path / "a") as part:
        os.mkfifo(part.note)
        assert part.part_of() is None
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    with growing_file(tmp_path / "b") as part:
        part.path.symlink_to(theirs)
        assert part.size() == 0
        with pytest.raises(OSError), part.appending() as file:
            file.write(b"ours")
        with pytest.raises(OSError):
            part.finish()
    assert theirs.read_text() == "theirs" and not (tmp_path / "b").exists()


def test_a_folder_below_an_output_is_not_made_through_a_link_that_leads_out(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "inner").mkdir()
    (tmp_path / "out" / "leads-out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "out" / "stays").symlink_to(tmp_path / "out" / "inner", target_is_directory=True)
    with pytest.raises(OSError, match="leads out"):
        make_folder(tmp_path / "out", tmp_path / "out" / "leads-out" / "a")
    make_folder(tmp_path / "out", tmp_path / "out" / "stays" / "a")
    (tmp_path / "named").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    make_folder(tmp_path / "named", tmp_path / "named" / "a")  # the user named that one
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["a"]


def test_no_room_for_a_mapped_file_is_an_error_and_not_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_room(handle, at, n_bytes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room, raising=False)
    with pytest.raises(OSError, match="No space"):
        allocate(tmp_path / "a", 100)
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "no")))
    allocate(tmp_path / "a", 3 << 20)
    assert (tmp_path / "a").stat().st_size == 3 << 20


def test_nothing_is_written_over_when_a_file_is_put_aside(tmp_path: Path):
    for content in (b"1", b"2", b"3"):
        (tmp_path / "a").write_bytes(content)
        rename_aside(tmp_path / "a", "a.old")
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"1", b"2", b"3"]
    with pytest.raises(FileNotFoundError):
        rename_aside(tmp_path / "a", "a.old")


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path):
    name = "x" * os.pathconf(tmp_path, "PC_NAME_MAX") if hasattr(os, "pathconf") else "x"
    write_atomically(tmp_path / name, b"1")
    with only_writer(beside(tmp_path / name), tmp_path / name):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_lock_says_whose_it_is_and_ends_with_its_process(tmp_path: Path):
    pytest.importorskip("fcntl")
    hold = (
        "import sys, time; from pathlib import Path; from hear_models.locks import inside, only_writer\n"
        "with only_writer(inside(Path(sys.argv[1])), Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with (
        pytest.raises(InUse, match=rf"process {process.pid} on .* is writing"),
        only_writer(inside(tmp_path), tmp_path),
    ):
        pass
    waited: list[str] = []

    def end_it(sentence: str) -> None:
        waited.append(sentence)
        process.kill()
        process.wait()

    with only_writer(inside(tmp_path), tmp_path, wait=end_it):
        assert str(process.pid) in waited[0]
    assert list(tmp_path.iterdir()) == []


def test_the_tests_have_a_cache_of_their_own(tmp_path_factory: pytest.TempPathFactory):
    """Names of unpublished models would load where somebody fetched their weights."""
    assert tmp_path_factory.getbasetemp() in cache_folder().parents
