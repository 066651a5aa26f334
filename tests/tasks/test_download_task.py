"""`hear-models tasks download`: whole tasks at a model's rate, or one sentence, whatever server, disk and kills do."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import socket
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_tasks
from hub.faults import Fault
from hub.places import PlacesServer

from hear_models import files
from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.fetching.known import Changed
from hear_models.tasks.check import check_tasks
from hear_models.tasks.download_task import DOWNLOADS, Options, download, plan
from hear_models.tasks.prepare_task import find_archives, prepare
from hear_models.tasks.resample_task import resample_task
from hear_models.tasks.task import read_task

NAMES = ("beijing_opera-v1.0-hear2021-full", "esc50-v2.0.0-full")


def archive_of(folder: Path, *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A task as Zenodo's archives are said to hold it, below `tasks/`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, f"tasks/{folder.name}")
        for entry, data in more:
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture
def zenodo(tmp_path, monkeypatch) -> Iterator[PlacesServer]:
    """Two tasks of the papers, small, and a third that cannot be had."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    quick = SimpleNamespace(sleep=lambda seconds: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("hear_models.fetching.web.time", quick)
    with PlacesServer() as server:
        for name in NAMES:
            monkeypatch.setitem(tiny_tasks.RATES, name, 48000)
            folds = {f"fold{k:02d}": 3 for k in range(3)}
            folder = tiny_tasks.write_task(
                tmp_path / "made", name, folds, ["a", "b"], 800 / 48000, lambda k: ["ab"[k % 2]]
            )
            server.files[f"zenodo/6332517/hear2021-{name}-48000.tar.gz"] = archive_of(folder)
        monkeypatch.setenv("HEAR_MODELS_ZENODO", server.site)
        yield server


def get(folder: Path, *names: str, **more: object):
    options = Options(**{"rate": 16000, **more})
    told: list[str] = []
    planned = plan(folder, names or ("esc50", "BO"), options)
    return list(download(folder, planned, options, told.append)), told


def rates(folder: Path, name: str) -> list[str]:
    return sorted(path.name for path in (folder / name).iterdir() if path.name.isdigit())


def test_tasks_are_fetched_unpacked_resampled_checked_and_nothing_else_is_left(zenodo, tmp_path):
    done, _ = get(tmp_path / "tasks")
    assert [task.name for task in done] == list(NAMES) and all(task.new and task.clips == 9 for task in done)
    assert sorted(path.name for path in (tmp_path / "tasks").iterdir()) == list(NAMES)
    assert [rates(tmp_path / "tasks", name) for name in NAMES] == [["16000", "48000"]] * 2
    assert all(report.ok for report in check_tasks(tmp_path / "tasks"))
    assert [path.name for path in (tmp_path / DOWNLOADS).iterdir()] == ["tasks.lock.json"]
    n = len(zenodo.requests)
    again, _ = get(tmp_path / "tasks")
    assert not any(task.new for task in again) and len(zenodo.requests) == n
    assert get(tmp_path / "tasks", rate=32000)[0][0].rates == (16000, 32000, 48000) and len(zenodo.requests) == n


def test_only_the_rate_stays_if_asked_and_archives_stay_if_asked(zenodo, tmp_path):
    get(tmp_path / "tasks", "esc50", only_rate=True)
    assert rates(tmp_path / "tasks", NAMES[1]) == ["16000"]
    n = len(zenodo.requests)
    get(tmp_path / "tasks", "esc50", only_rate=True)
    assert len(zenodo.requests) == n
    get(tmp_path / "tasks", "beijing_opera", keep_archives=True, only_rate=True)
    assert [p.name for p in (tmp_path / DOWNLOADS).glob("*.gz")] == [f"hear2021-{NAMES[0]}-48000.tar.gz"]
    shutil.rmtree(tmp_path / "tasks" / NAMES[0])
    get(tmp_path / "tasks", "beijing_opera")
    assert len(zenodo.fetched("beijing_opera-v1.0-hear2021-full-48000.tar.gz")) == 1


def test_room_is_reckoned_before_anything_is_fetched(zenodo, tmp_path, monkeypatch):
    planned = plan(tmp_path / "tasks", ("esc50",), Options())
    (step,) = planned.steps
    assert step.to_fetch and step.to_unpack and step.to_resample
    clips = 2.78 * 3600 * 2
    assert planned.most_bytes == pytest.approx(1.1 * (step.archive_bytes + clips * 64000), rel=1e-6)
    assert planned.stays_bytes == pytest.approx(1.1 * clips * 64000, rel=1e-6)
    assert plan(tmp_path / "tasks", ("esc50",), Options(only_rate=True)).stays_bytes == pytest.approx(
        1.1 * clips * 16000
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000_000))
    with pytest.raises(FileError, match=r"0\.0 GB free, 1\.4 are needed.*--only-rate"):
        get(tmp_path / "tasks", "esc50")
    assert zenodo.fetched(".tar.gz") == []


def test_every_task_of_hear_has_a_size(tmp_path, zenodo):
    for name in NAMES:
        del zenodo.files[f"zenodo/6332517/hear2021-{name}-48000.tar.gz"]
    with pytest.raises(HearModelsError, match=r"has no hear2021-.*It has: nothing"):
        plan(tmp_path / "tasks", ("fsd50k", "esc50"), Options())


def test_a_connection_that_breaks_is_gone_on_with_by_the_next_call(zenodo, tmp_path):
    zenodo.faults.add(Fault("cut", "esc50", after=1000))
    zenodo.faults.add(Fault("status", "esc50", status=429, times=5))
    with pytest.raises(HearModelsError, match=r"1,000 bytes are kept"):
        get(tmp_path / "tasks", "esc50")
    assert list((tmp_path / "tasks").iterdir()) == []
    get(tmp_path / "tasks", "esc50")
    assert zenodo.fetched(".tar.gz")[-1] == (206, "bytes=1000-")


def test_an_archive_that_is_another_later_is_refused(zenodo, tmp_path):
    lock = tmp_path / "shared.json"
    get(tmp_path / "a", "esc50", lock=lock)
    name = f"zenodo/6332517/hear2021-{NAMES[1]}-48000.tar.gz"
    zenodo.files[name] = archive_of(tmp_path / "made" / NAMES[1], (tarfile.TarInfo("tasks/x"), b""))
    with pytest.raises(Changed, match=r"is not the file of 20"):
        get(tmp_path / "b" / "tasks", "esc50", lock=lock)
    assert list((tmp_path / "b" / "tasks").iterdir()) == []


HOSTILE = {
    "parent": [tarfile.TarInfo("../../evil")],
    "absolute": [tarfile.TarInfo("/tmp/evil")],
    "link": [SimpleNamespace(name="tasks/x", type=tarfile.SYMTYPE, linkname="/etc")],
    "hard link": [SimpleNamespace(name="tasks/x", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "device": [SimpleNamespace(name="tasks/x", type=tarfile.BLKTYPE, linkname="")],
    "twice": [tarfile.TarInfo("tasks/x"), tarfile.TarInfo("tasks/x")],
    "long name": [tarfile.TarInfo("tasks/" + "n" * 300)],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_leaves_nothing_but_itself(kind, zenodo, tmp_path):
    entries = []
    for said in HOSTILE[kind]:
        entry = tarfile.TarInfo(said.name)
        entry.type, entry.linkname = said.type, said.linkname
        entries.append((entry, b""))
    name = f"hear2021-{NAMES[1]}-48000.tar.gz"
    zenodo.files[f"zenodo/6332517/{name}"] = archive_of(tmp_path / "made" / NAMES[1], *entries)
    with pytest.raises(HearModelsError, match="Do not use it"):
        get(tmp_path / "tasks", "esc50")
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_task_that_is_not_whole_is_said(zenodo, tmp_path):
    made = tmp_path / "made" / NAMES[1]
    next((made / "48000" / "fold01").iterdir()).unlink()
    zenodo.files[f"zenodo/6332517/hear2021-{NAMES[1]}-48000.tar.gz"] = archive_of(made)
    with pytest.raises(HearModelsError):
        get(tmp_path / "tasks", "esc50")
    assert rates(tmp_path / "tasks", NAMES[1]) == ["48000"]


@pytest.mark.parametrize(("rate", "name"), [(8000, "esc50"), (16000, "nobody")])
def test_wrong_use_asks_nobody(rate, name, zenodo, tmp_path):
    with pytest.raises(UsageError):
        get(tmp_path / "tasks", name, rate=rate)
    assert zenodo.requests == [] and not (tmp_path / "tasks").exists()


@pytest.mark.parametrize("stage", ["fetch", "unpack", "resample_task", "check_task", "_delete"])
def test_killed_at_any_stage_the_same_call_ends_as_ever(stage, zenodo, tmp_path):
    if (child := os.fork()) == 0:
        module = importlib.import_module("hear_models.tasks.download_task")
        setattr(module, stage, lambda *_, **__: os._exit(9))
        with contextlib.suppress(BaseException):
            get(tmp_path / "tasks", "esc50", only_rate=True)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    files._swept.clear()  # as in a process that begins
    get(tmp_path / "tasks", "esc50", only_rate=True)
    assert rates(tmp_path / "tasks", NAMES[1]) == ["16000"]
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == [NAMES[1]]
    assert [path.name for path in (tmp_path / DOWNLOADS).iterdir()] == ["tasks.lock.json"]
    assert zenodo.fetched(".tar.gz") == [(200, None)]


def test_two_processes_at_once_fetch_a_task_once_and_both_have_it(zenodo, tmp_path):
    zenodo.faults.add(Fault("slow", "esc50", after=1000, seconds=0.05))
    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = 0 if get(tmp_path / "tasks", "esc50", only_rate=True)[0][0].rates == (16000,) else 2
            os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert zenodo.fetched(".tar.gz") == [(200, None)]
    assert rates(tmp_path / "tasks", NAMES[1]) == ["16000"]
    assert [path.name for path in (tmp_path / DOWNLOADS).iterdir()] == ["tasks.lock.json"]


def test_offline_and_a_folder_that_cannot_be_written_are_one_sentence(zenodo, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match=r"file.* cannot be written.*Choose another folder"):
        get(tmp_path / "file" / "tasks", "esc50")

    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(HearModelsError, match=r"seems to be offline"):
        get(tmp_path / "tasks", "esc50")
    assert list((tmp_path / "tasks").iterdir()) == []


# ------------------------------------------------------------------------------------------------- fetched by hand
@pytest.fixture
def by_hand(zenodo, tmp_path) -> Path:
    """A folder of archives that somebody fetched: a task at 48 kHz, and another at both rates."""
    folder = tmp_path / "fetched"
    (folder / "more").mkdir(parents=True)
    for path, data in zenodo.files.items():
        (folder / Path(path).name).write_bytes(data)
    task = tmp_path / "made" / NAMES[1]
    resample_task(read_task(task), 16000)
    shutil.rmtree(task / "48000")
    (folder / "more" / f"hear2021-{NAMES[1]}-16000.tar.gz").write_bytes(archive_of(task))
    (folder / "notes.txt").write_text("mine")
    return folder


def prepared(tasks_dir: Path, *places: Path, names: tuple[str, ...] = (), **more: object):
    options = Options(**{"rate": 16000, **more})
    archives = find_archives(places, names, options.rate)
    return list(prepare(tasks_dir, archives, options, lambda line: None))


def test_archives_by_hand_become_tasks_and_stay(by_hand, zenodo, tmp_path):
    before = sorted(path.name for path in by_hand.rglob("*"))
    done = prepared(tmp_path / "tasks", by_hand)
    assert [task.name for task in done] == list(NAMES) and all(task.new and task.clips == 9 for task in done)
    assert [rates(tmp_path / "tasks", name) for name in NAMES] == [["16000", "48000"], ["16000"]]
    assert sorted(path.name for path in by_hand.rglob("*")) == before and zenodo.requests == []
    assert all(report.ok for report in check_tasks(tmp_path / "tasks"))
    assert not any(task.new for task in prepared(tmp_path / "tasks", by_hand))
    assert list((tmp_path / DOWNLOADS).iterdir()) == []


def test_only_the_rate_of_one_task_by_hand(by_hand, tmp_path):
    (done,) = prepared(tmp_path / "tasks", by_hand, names=("BO",), only_rate=True)
    assert rates(tmp_path / "tasks", NAMES[0]) == ["16000"] and done.rates == (16000,)
    prepared(tmp_path / "tasks", by_hand, names=("BO",), only_rate=True)
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == [NAMES[0]]


@pytest.mark.parametrize("stage", ["unpack", "resample_task", "check_task", "_delete"])
def test_prepare_killed_at_any_stage_ends_as_ever(stage, by_hand, tmp_path):
    if (child := os.fork()) == 0:
        module = importlib.import_module("hear_models.tasks.download_task")
        setattr(module, stage, lambda *_, **__: os._exit(9))
        with contextlib.suppress(BaseException):
            prepared(tmp_path / "tasks", by_hand, names=("BO",), only_rate=True)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    files._swept.clear()  # as in a process that begins
    prepared(tmp_path / "tasks", by_hand, names=("BO",), only_rate=True)
    assert rates(tmp_path / "tasks", NAMES[0]) == ["16000"]
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == [NAMES[0]]
    assert list((tmp_path / DOWNLOADS).iterdir()) == []


def test_what_is_no_archive_of_a_task_is_said(by_hand, tmp_path):
    (tmp_path / "empty").mkdir()
    for places, names, what in (
        ((tmp_path / "empty",), (), "holds no archive of a task of HEAR. Their names are as hear2021-"),
        ((by_hand / "notes.txt",), (), "is no archive of a task"),
        ((tmp_path / "nowhere",), (), "is no file and no folder"),
        ((by_hand,), ("fsd50k",), "none of the archives is of a task 'fsd50k'. There are: beijing"),
    ):
        with pytest.raises(UsageError, match=re.escape(what)):
            prepared(tmp_path / "tasks", *places, names=names)
    with pytest.raises(UsageError, match="no rate of HEAR"):
        prepared(tmp_path / "tasks", by_hand, rate=8000)
    assert not (tmp_path / "tasks").exists()
    broken = by_hand / f"hear2021-{NAMES[0]}-48000.tar.gz"
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(HearModelsError, match="damaged"):
        prepared(tmp_path / "tasks", broken)
    assert list((tmp_path / "tasks").iterdir()) == []


def test_command_line(zenodo, tmp_path, monkeypatch, capsys):
    from hear_models.cli.main import main

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hear-models", "tasks", "download", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().out

    code, out = run(str(tmp_path / "tasks"), "ESC-50", "BO", "--dry-run")
    assert code == 0 and "fetch 0 MB, unpack, make 16000 Hz" in out and "room: 1.6 GB" in out
    code, out = run(str(tmp_path / "tasks"), "ESC-50", "--rate", "16000", "--only-rate")
    assert code == 0 and "esc50-v2.0.0-full: 9 clips, 16 kHz" in out
    assert json.loads((tmp_path / DOWNLOADS / "tasks.lock.json").read_text())["fetched"]["esc50-v2.0.0-full"]
    shutil.rmtree(tmp_path / "tasks")
    (tmp_path / f"hear2021-{NAMES[0]}-48000.tar.gz").write_bytes(
        zenodo.files[f"zenodo/6332517/hear2021-{NAMES[0]}-48000.tar.gz"]
    )
    monkeypatch.setattr(sys, "argv", ["hear-models", "tasks", "prepare", str(tmp_path / "tasks"), str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and f"{NAMES[0]}: 9 clips, 16, 48 kHz" in capsys.readouterr().out
