"""`hear-models fetch NAME`: from the authors' address to a name that loads, or to one sentence and nothing lost."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gise51_inputs import write_exported
from hub.faults import Fault

from hear_models import files, load_model, mwmae
from hear_models.checkpoints.safetensors_file import read_header, write_checkpoint
from hear_models.errors import CheckpointError, FileError, HearModelsError, UsageError
from hear_models.fetching.known import Changed
from hear_models.zoo import fetch as fetching
from hear_models.zoo.fetch import FetchOptions, fetch_model
from hear_models.zoo.fetch_report import remove, without_paths
from hear_models.zoo.registry import find_entry
from hear_models.zoo.self_check import SelfCheck, recordings

GOLDEN = Path(__file__).parent.parent / "golden"
FLAX, MSM = GOLDEN / "mwmae" / "mwmae_mini", GOLDEN / "msm_mae" / "80x208p16x16_mini"


@pytest.fixture
def release(places) -> bytes:
    """A zip of a release, beside another that its name begins."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(MSM / "checkpoint-100.pth", "80x208p16x16_mini/checkpoint-100.pth")
    places.files["github/nttcslab/msm-mae/v0.0.1/80x208p16x16_mini.zip"] = packed.getvalue()
    places.files["github/nttcslab/msm-mae/v0.0.1/80x208p16x16_mini2.zip"] = b"other"
    places.files["github/nttcslab/msm-mae/v0.0.1/AudioSetWav16k_examples.zip"] = b"other"
    return packed.getvalue()


def changed(flax: bytes) -> bytes:
    """Another value of a weight, the same container."""
    place = len(flax) // 2
    return flax[:place] + bytes([flax[place] ^ 1]) + flax[place + 1 :]


def get(name: str = "mini", **options: object):
    told: list[str] = []
    return fetch_model(name, FetchOptions(**options), told.append), told


def test_a_folder_of_the_drive_becomes_a_name_that_loads(drive, tmp_path):
    with pytest.raises(CheckpointError, match="`hear-models fetch mini`"):
        load_model("mini")
    done, told = get()
    assert done.new and "neighbours" not in done.check["neighbours"] and len(done.check["statistics"]) == 10
    assert told[0] == "licence: not stated" and any("580,126 bytes" in line for line in told)
    assert find_entry("mini").status == "fetched" and find_entry("mini").trained
    model = mwmae.load_model("mini")
    assert model.checkpoint.trained and model.checkpoint.sha256 == done.sha256
    assert torch.isfinite(model.get_scene_embeddings(torch.randn(1, 16000) / 9)).all()
    assert done.passport["fetched"] == "drive" and set(done.passport["files"]) == {"checkpoint_5", "config.json"}
    assert not any((tmp_path / "cache" / "originals").iterdir())
    assert len(drive.requests) == 3  # a page, the file behind it, the small file: nothing of the other run
    again, _ = get()
    assert not again.new and again.sha256 == done.sha256 and len(drive.requests) == 3


def test_a_transfer_behind_a_page_goes_on_at_its_byte(drive):
    drive.faults.add(Fault("cut", "/download", after=200_000))
    drive.faults.add(Fault("status", "/download", status=503, times=5))
    with pytest.raises(HearModelsError, match=r"200,000 bytes are kept.*--from FILE_OR_FOLDER"):
        get()
    get()
    assert drive.fetched("/download") == [(200, None), (206, "bytes=200000-")]


def test_a_quota_page_with_status_200_names_the_address_and_the_way_by_hand(drive, tmp_path):
    drive.quota = True
    with pytest.raises(
        HearModelsError, match=r"quota is exceeded.*drive\.google\.com/drive/folders/1tM7.*mwmae_mini_run1"
    ):
        get()
    with pytest.raises(HearModelsError, match=r"fetch mini --from FILE_OR_FOLDER"):
        get()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    done, _ = get(by_hand=FLAX)
    assert done.passport["fetched"] == "by hand" and load_model("mini").checkpoint.trained


def test_another_page_is_never_taken_for_the_file(drive):
    drive.headers = {"Content-Type": "text/html"}
    for text in ("Sign in to continue", "something new"):
        drive.faults.clear()
        for key in drive.drive_paths:
            drive.files[f"drive/{key}"] = text.encode()
        with pytest.raises(HearModelsError, match=r"(not public|does not understand).*--from"):
            get()


def test_without_gdown_the_extra_and_the_way_by_hand_are_named(drive, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(UsageError, match=r"hear-models\[drive\].*--from"):
        get()


def test_a_folder_that_cannot_be_listed_is_one_sentence(drive, monkeypatch):
    def fails(**_: object) -> None:
        raise RuntimeError("Cannot retrieve the folder information")

    monkeypatch.setattr(sys.modules["gdown"], "download_folder", fails)
    with pytest.raises(HearModelsError, match=r"could not be listed.*Cannot retrieve.*--from"):
        get()
    monkeypatch.setattr(sys.modules["gdown"], "download_folder", lambda **_: [SimpleNamespace(path="../x", id="k")])
    with pytest.raises(HearModelsError, match=r"no path of a file"):
        get()


def test_a_release_is_found_behind_a_redirect_once_its_licence_is_accepted(places, release):
    with pytest.raises(UsageError, match=r"Read it: LICENSE[^$]*hear-models fetch msm-mini --accept-license"):
        get("msm-mini")
    assert places.requests == []
    done, told = get("msm-mini", accept_licence=True)
    assert f"80x208p16x16_mini.zip: {len(release):,} bytes" in told
    assert load_model("msm-mini").checkpoint.sha256 == done.sha256
    header = read_header(done.path)
    assert header.notes["licence"]["sharing"] == "forbidden" and header.notes["passport"] == done.passport
    assert header.source["archive_sha256"] == hashlib.sha256(release).hexdigest()


def test_a_file_alone_takes_what_only_its_folder_said_from_the_manifest(places, tmp_path):
    shutil.copy(MSM / "checkpoint-100.pth", tmp_path / "mine.pth")
    get("msm-mini", accept_licence=True, by_hand=tmp_path / "mine.pth")
    assert load_model("msm-mini").config.frames_per_unit == 208


# ------------------------------------------------------------------------------------------- trust on first use
def test_a_file_that_is_another_later_is_refused_and_the_model_stays(drive, tmp_path):
    lock = tmp_path / "shared.lock.json"
    first, _ = get(lock=lock)
    assert set(json.loads(lock.read_text())["fetched"]["mini"]["files"]) == {"checkpoint_5", "config.json"}
    drive.put_in_drive("mwmae_mini_run1/checkpoint_5", changed((FLAX / "checkpoint_5").read_bytes()))
    with pytest.raises(Changed, match=r"checkpoint_5 of mini is not the file of 20.*If you trust the new one"):
        get(lock=lock, force=True)
    assert load_model("mini").checkpoint.sha256 == first.sha256
    assert get(lock=tmp_path / "other.json", force=True)[0].sha256 != first.sha256


def test_the_same_file_by_hand_is_compared_too(drive, tmp_path):
    get()
    shutil.copytree(FLAX, tmp_path / "mine")
    (tmp_path / "mine" / "checkpoint_5").write_bytes(changed((FLAX / "checkpoint_5").read_bytes()))
    with pytest.raises(Changed):
        get(force=True, by_hand=tmp_path / "mine")


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "fetched": {"mini": {}}}', "\x00", "[1]"])
def test_a_lock_file_that_is_none_is_said(text, drive, tmp_path):
    (tmp_path / "lock").write_text(text)
    with pytest.raises(HearModelsError, match=r"lock"):
        get(lock=tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == text


def test_fetched_twice_it_is_the_same_bytes(drive):
    first, _ = get()
    assert get(force=True)[0].sha256 == first.sha256


# ------------------------------------------------------------------------------------------------- what may go wrong
def test_another_network_is_refused_and_can_be_reported(drive, tmp_path, run, monkeypatch):
    weights = tmp_path / "weights" / "mini.toml"
    weights.write_text(weights.read_text().replace("encoder_depth = 2", "encoder_depth = 3"))
    with pytest.raises(CheckpointError, match=r"encoder_depth is 2 by.*but 3 by the manifest.*--report"):
        get()
    with pytest.raises(CheckpointError):
        load_model("mini")
    monkeypatch.chdir(tmp_path)
    assert run("fetch", "mini", "--report")[0] == 0
    text = (tmp_path / "mini-report.txt").read_text()
    assert "params/" in text and "[24]" in text and str(tmp_path) not in text
    weights.write_text(weights.read_text().replace("encoder_depth = 3", "encoder_depth = 2"))
    n = len(drive.requests)
    get()
    assert len(drive.requests) == n  # what was fetched is kept


def test_a_network_that_computes_nonsense_is_not_kept(drive, tmp_path, monkeypatch):
    monkeypatch.setattr(mwmae.Model, "embed_clips", lambda self, clips, purpose="scene": [torch.ones(4) for _ in clips])
    with pytest.raises(CheckpointError, match=r"same embedding for every recording|checked"):
        get()
    assert find_entry("mini").status == "unpublished"


def test_a_full_disk_is_said_before_a_byte_is_written(drive, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    with pytest.raises(FileError, match=r"GB free.*Make room"):
        get()
    assert find_entry("mini").status == "unpublished"


def test_a_disk_that_fills_up_keeps_what_has_come(drive, monkeypatch):
    real = write_checkpoint

    def full(*arguments: object, **more: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hear_models.zoo.convert.write_checkpoint", full)
    with pytest.raises(FileError, match=r"No space left.*HEAR_MODELS_CACHE"):
        get()
    monkeypatch.setattr("hear_models.zoo.convert.write_checkpoint", real)
    n = len(drive.requests)
    assert get()[0].new and len(drive.requests) == n


def test_a_cache_that_cannot_be_written_is_named(drive, monkeypatch):
    def read_only(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(FileError, match=r"cache .*Read-only.*HEAR_MODELS_CACHE"):
        get()


def test_offline_is_said_at_once(drive, monkeypatch):
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    with pytest.raises(HearModelsError, match=r"seems to be offline.*--from"):
        get()


@pytest.mark.parametrize("name", ["mwmae-nano", "logmel-stats", "mwmae-tiny", "nobody"])
def test_what_has_no_official_weights_is_said(name):
    with pytest.raises(UsageError, match=r"fetch --list|no model named"):
        get(name)


def test_several_files_that_may_be_meant_are_listed(drive, tmp_path):
    for run in ("a", "b"):
        shutil.copytree(FLAX, tmp_path / "mine" / run)
    with pytest.raises(UsageError, match=r"2 files may be meant.*a/checkpoint_5, b/checkpoint_5.*--file"):
        get(by_hand=tmp_path / "mine")
    get(by_hand=tmp_path / "mine", file="b/checkpoint_5")
    assert find_entry("mini").status == "fetched"


@pytest.mark.parametrize("pack", ["gztar", "zip", "xztar", "tar"])
def test_a_folder_packed_by_the_drive_or_a_friend_is_unpacked(pack, places, tmp_path):
    shutil.copytree(FLAX, tmp_path / "mine" / "deep" / "mwmae_mini_run1")
    archive = shutil.make_archive(str(tmp_path / "packed"), pack, tmp_path / "mine")
    get(by_hand=Path(archive))
    assert load_model("mini").checkpoint.trained


def test_a_hostile_archive_by_hand_leaves_nothing(places, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(FLAX / "checkpoint_5", "../../checkpoint_5")
    with pytest.raises(HearModelsError, match="leads elsewhere"):
        get(by_hand=tmp_path / "a.tar.gz")
    assert sorted(path.name for path in (tmp_path / "cache" / "originals" / "mini").iterdir()) == []
    assert not (tmp_path / "cache" / "checkpoint_5").exists() and not (tmp_path / "checkpoint_5").exists()


# ------------------------------------------------------------------------------------------------------ two at once
MAIN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from hear_models.checkpoints import manifest
folder, keys, *arguments = sys.argv[1:]
manifest.resource = lambda name: Path(folder)
import json
paths = json.loads(keys)
files = [SimpleNamespace(id=key, path=path) for key, path in paths.items()]
sys.modules["gdown"] = SimpleNamespace(download_folder=lambda **_: files)
sys.argv = ["hear-models", *arguments]
from hear_models.cli.main import main
main()
"""


def start(drive, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """`hear-models fetch mini` in a process of its own."""
    command = [sys.executable, "-c", MAIN, str(tmp_path / "weights"), json.dumps(drive.drive_paths), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_after_a_kill_the_same_command_ends_as_ever_and_two_at_once_do_it_once(drive, tmp_path):
    drive.faults.add(Fault("slow", "/download", after=100_000, seconds=4, times=1))
    process = start(drive, tmp_path, "fetch", "mini")
    part = (
        tmp_path
        / "cache"
        / "originals"
        / "drive-1tM723MLFJRaWVmLVjE49pJ0Yi3lpMZHV"
        / "mwmae_mini_run1"
        / ".hear-models-checkpoint_5.begun"
    )
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    process.kill()
    process.communicate()
    assert 0 < part.stat().st_size < 580_126
    both = [start(drive, tmp_path, "fetch", "mini") for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sum("here already" in out for out, _ in ended) == 1
    assert [status for status, _ in drive.fetched("/download")] == [200, 206]
    left = sorted(path.relative_to(tmp_path / "cache").as_posix() for path in (tmp_path / "cache").rglob("*"))
    assert left == [
        "fetch.lock.json",
        "fetched",
        "fetched/mini",
        "fetched/mini/conversion.json",
        "fetched/mini/model.safetensors",
        "originals",
    ]


@pytest.mark.parametrize("stage", ["note", "_convert", "load_resolved", "write_durably", "rename"])
def test_killed_at_any_stage_the_same_command_ends_with_the_same_file(stage, drive, tmp_path, monkeypatch):
    """An exception that nobody foresees stands for the kill; what `finally` would do is left undone by os._exit."""
    expected, _ = get(lock=tmp_path / "a.json")
    remove("mini")
    place = {
        "note": "hear_models.zoo.fetch.KnownFiles.note",
        "_convert": "hear_models.zoo.fetch._convert",
        "load_resolved": "hear_models.zoo.load.load_resolved",
        "write_durably": "hear_models.zoo.fetch.write_durably",
        "rename": "hear_models.files.sync_tree",
    }[stage]
    if (child := os.fork()) == 0:
        module, _, attribute = place.rpartition(".")
        try:
            target = importlib.import_module(module)
        except ImportError:
            module, _, name = module.rpartition(".")
            target = getattr(importlib.import_module(module), name)
        setattr(target, attribute, lambda *_, **__: os._exit(9))
        with contextlib.suppress(BaseException):
            get(lock=tmp_path / "b.json")
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert find_entry("mini").status == "unpublished"
    files._swept.clear()  # as in a process that begins
    assert get(lock=tmp_path / "b.json")[0].sha256 == expected.sha256
    assert [path.name for path in (tmp_path / "cache" / "fetched").iterdir()] == ["mini"]


def test_originals_that_a_killed_run_did_not_remove_go_with_the_next(drive, tmp_path, monkeypatch):
    monkeypatch.setattr("hear_models.zoo.self_check.self_check", lambda *_: SelfCheck("do not matter", ()))
    originals = tmp_path / "cache" / "originals"
    if (child := os.fork()) == 0:
        fetching.remove_folder = lambda *_: os._exit(9)
        with contextlib.suppress(BaseException):
            get()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert list(originals.rglob("checkpoint_5"))
    assert not get()[0].new and list(originals.iterdir()) == []
    get(force=True, keep_originals=True)
    assert not get()[0].new and list(originals.rglob("checkpoint_5"))


# -------------------------------------------------------------------------------------------------- as a user meets it
def test_list_info_report_embed_and_remove_by_name(drive, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ["mini", "-"] in [line.split()[:2] for line in run("fetch", "--list")[1].splitlines()]
    code, out, err = run("fetch", "mini")
    assert (code, err) == (0, "") and "load it" in out and "flute_1" in out
    assert [line for line in out.splitlines() if len(line) > 80 and not re.search("cache|sha256|https:", line)] == []
    assert ["mini", "fetched"] in [line.split()[:2] for line in run("fetch", "--list")[1].splitlines()]
    told = json.loads(run("info", "mini", "--json")[1])
    assert told["status"] == "fetched" and told["converted"]["notes"]["passport"]["fetched"] == "drive"
    assert "passport" in run("info", "mini")[1]
    shutil.copy(recordings()[0], tmp_path / "a.flac")
    assert run("embed", "a.flac", "--model", "mini", "-o", "a")[0] == 0
    assert run("fetch", "mini", "--report")[0] == 0
    text = (tmp_path / "mini-report.txt").read_text()
    assert "blocks.0" in text and "sha256" in text and "deviation" in text
    assert str(tmp_path) not in text and str(Path.home()) not in text
    assert run("fetch", "mini", "--remove")[1].startswith("mini: ")
    assert run("fetch", "mini", "--remove")[0] == 2 and run("embed", "a.flac", "--model", "mini", "-o", "b")[0] == 1
    assert run("fetch")[0] == 2


def test_a_report_names_no_folder_and_no_token(monkeypatch):
    text = "/home/eve/models/x.pth is broken; C:\\Users\\eve\\x.pth; hf_abcdefghijklmnop; https://a.org/b/c"
    assert without_paths(text) == ".../x.pth is broken; ...\\x.pth; hf_...; https://a.org/b/c"


def test_one_archive_of_many_networks_gives_each_its_own(places, tmp_path, monkeypatch):
    """Where in the archive of GISE-51 a network lies was never seen: its configuration decides, not its name."""
    monkeypatch.setattr("hear_models.zoo.self_check.self_check", lambda *_: SelfCheck("do not matter", ()))
    (tmp_path / "weights" / "mini.toml").write_text(GISE.format(name="gise-44", architecture="cifar_resnet44", dims=64))
    (tmp_path / "weights" / "msm-mini.toml").write_text(
        GISE.format(name="gise-20", architecture="cifar_resnet20", dims=64)
    )
    root = tmp_path / "packed" / "pretrained-models" / "experiments_60k_mixtures"
    for network in ("cifar_resnet20", "cifar_resnet44"):
        (root / network).mkdir(parents=True)
        write_exported(network, root / network)
    (root.parent / "experiments_esc50").mkdir()
    write_exported("cifar_resnet44", root.parent / "experiments_esc50")
    archive = shutil.make_archive(str(tmp_path / "a"), "gztar", tmp_path / "packed")
    places.files["zenodo/4593514/pretrained-models.tar.gz"] = Path(archive).read_bytes()
    places.files["zenodo/4593514/noises.tar.gz"] = b"other"
    get("gise-44", keep_originals=True)
    done, _ = get("gise-20")
    assert load_model("gise-44").config.architecture == "cifar_resnet44"
    assert load_model("gise-20").config.architecture == "cifar_resnet20"
    assert places.fetched("pretrained-models.tar.gz") == [(200, None)]
    assert done.passport["files"]["pretrained-models.tar.gz"]["bytes"] == Path(archive).stat().st_size


GISE = """
name = "{name}"
family = "gise51"
summary = "s"
status = "unpublished"
sample_rate = 22050
dims = {dims}
configuration = {{ architecture = "{architecture}" }}
[original]
address = "https://doi.org/10.5281/zenodo.4593514"
folder = "pretrained-models.tar.gz, experiments_60k_mixtures"
format = "torch: mAP=…_dprime=…_num_classes=51.pth, or Lightning's epoch=NN_train_loss=…_val_mAP=….ckpt"
"""
