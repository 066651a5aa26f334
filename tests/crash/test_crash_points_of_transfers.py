"""What comes over the network, or is made of what came: killed or on a full disk at any point, the same end.

Quickly here: some crash points of each. All of them: `pytest -m crash tests/crash`.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import leaderboard_records
import pytest
import tiny_tasks
from crash.harness import Case, contents, strike_everywhere, strike_somewhere
from fetching.manifests import MANIFESTS
from hub.checkpoints import checkpoint
from hub.conftest import environment, forget_the_client
from hub.places import PlacesServer
from hub.server import HubServer
from tasks.test_download_task import archive_of

import hear_models
from hear_models.checkpoints import manifest as manifests
from hear_models.cli import leaderboard
from hear_models.datasets import gise51_record
from hear_models.fetching.web import library
from hear_models.files import write_atomically
from hear_models.speaker.voices import embed_voices
from hear_models.subjects.subject import resolve
from hear_models.tasks import download_task
from hear_models.zoo import convert as converting
from hear_models.zoo import download as hub_download
from hear_models.zoo import fetch as fetching
from hear_models.zoo.self_check import SelfCheck

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
FLAX = Path(__file__).parent.parent / "golden" / "mwmae" / "mwmae_mini"
TASK = "esc50-v2.0.0-full"
DAY = SimpleNamespace(date=SimpleNamespace(today=lambda: datetime.date(2026, 1, 2)))
VOICES = resolve("logmel-stats").load("cpu")
HUB, RESULTS = HubServer(), Path()


def convert(folder: Path) -> object:
    return converting.convert(
        "mwmae", FLAX, folder / "out" / "a.safetensors", overrides={"encoder_heads": 3}, force=True
    )


def fetch(folder: Path) -> object:
    os.environ["HEAR_MODELS_CACHE"] = str(folder / "out")
    return fetching.fetch_model("mini", fetching.FetchOptions(), lambda line: None)


def fetched(folder: Path) -> object:
    found = contents(folder)
    report = json.loads(found.pop("fetched/mini/conversion.json"))
    return found, report["conversion"]["sha256"]


def fetch_again(folder: Path) -> object:
    os.environ["HEAR_MODELS_CACHE"] = str(folder / "out")
    return fetching.fetch_model("mini", fetching.FetchOptions(force=True), lambda line: None)


def tasks(folder: Path) -> object:
    options = download_task.Options(only_rate=True)
    planned = download_task.plan(folder / "out" / "tasks", [TASK], options)
    return list(download_task.download(folder / "out" / "tasks", planned, options, lambda line: None))


def sounds_of_gise51(folder: Path) -> object:
    return list(gise51_record.download(folder / "out", ("meta",), remove_archives=True))


def of_the_hub(folder: Path) -> object:
    from huggingface_hub import constants

    constants.HF_HUB_CACHE = str(folder / "out")
    return hub_download.download("hf://lab/model")


def in_the_hubs_cache(folder: Path) -> object:
    """The file, and nothing half: what else lies there is huggingface_hub's, which may have no links on a full disk."""
    ours = re.compile(r".*/snapshots/|.*\.incomplete$|.*\.hear-models-")
    return {name: data for name, data in contents(folder).items() if ours.match(name)}


def publish(folder: Path) -> object:
    """Struck at its requests: nothing is written here."""
    client = library().Client
    send = client.send

    def counted(self: object, *arguments: object, **more: object) -> object:
        sys.audit("tests.request", str(folder))
        return send(self, *arguments, **more)

    client.send = counted
    return hear_models.push_to_hub(folder / "a.safetensors", f"lab/{folder.name}", licence="MIT")


def a_checkpoint(folder: Path) -> object:
    HUB.store.large.clear()  # what an earlier one sent is not sent again
    return (folder / "a.safetensors").write_bytes(checkpoint())


def published(folder: Path) -> object:
    name = folder.parent.name
    files = HUB.store.repositories[f"lab/{name}"].find("main").files
    return {path: file.data.replace(name.encode(), b"NAME") for path, file in files.items()}


def table(folder: Path) -> object:
    return leaderboard.command.main(
        [str(RESULTS), "-o", str(folder / "out" / "t.html"), "--resamples", "10"], standalone_mode=False
    )


def voices(folder: Path) -> object:
    names = [f"{i}.wav" for i in range(3)]
    embed_voices(VOICES, names, folder / "in", cache=folder / "out" / "voices")
    return write_atomically(folder / "out" / "scores.txt", b"1.0 a b\n")


def kept_voices(folder: Path) -> object:
    """The name of the cache's folder is a digest of where the recordings are."""
    return {name.partition("/voices-")[2] or name.split("/", 2)[-1]: data for name, data in contents(folder).items()}


def an_older_model(folder: Path) -> object:
    return shutil.copytree(RESULTS.parent / "cache", folder / "out")


def a_folder(folder: Path) -> object:
    return (folder / "out").mkdir()


CASES = {
    "convert": Case(convert, prepare=a_folder),
    "fetch": Case(fetch, fetched),
    "fetch --force": Case(fetch_again, fetched, an_older_model),
    "tasks download": Case(tasks),
    "gise51 download": Case(sounds_of_gise51),
    "download": Case(of_the_hub, in_the_hubs_cache),
    "publish": Case(publish, published, a_checkpoint),
    "leaderboard": Case(table, prepare=a_folder),
    "eval-trials": Case(voices, kept_voices, a_folder),
}


@pytest.fixture(scope="module", autouse=True)
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Servers, and what all cases share."""
    global HUB, RESULTS
    folder = tmp_path_factory.mktemp("things")
    RESULTS = folder / "results"
    for model in ("mwmae-nano", "mae-nano"):
        leaderboard_records.write(RESULTS, model)
    (folder / "weights").mkdir()
    (folder / "weights" / "mini.toml").write_text(MANIFESTS["mini"])
    with pytest.MonkeyPatch.context() as patch, PlacesServer() as places, HubServer() as HUB:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        for name, value in places.environment().items():
            patch.setenv(name, value)
        patch.setattr(manifests, "resource", lambda name: folder / "weights")
        patch.setattr(fetching, "datetime", DAY)
        patch.setattr(download_task, "datetime", DAY)
        patch.setattr("hear_models.zoo.self_check.self_check", lambda *_: SelfCheck("do not matter", ()))
        places.use_gdown(patch)
        for file in ("checkpoint_5", "config.json"):
            places.put_in_drive(f"mwmae_mini_run1/{file}", (FLAX / file).read_bytes())
        patch.setitem(tiny_tasks.RATES, TASK, 48000)
        made = tiny_tasks.write_task(
            folder / "made", TASK, {f"fold0{k}": 3 for k in range(3)}, ["a", "b"], 800 / 48000, lambda k: ["ab"[k % 2]]
        )
        places.files[f"zenodo/6332517/hear2021-{TASK}-48000.tar.gz"] = archive_of(made)
        places.files["zenodo/4593514/meta.tar.gz"] = archive_of(made)
        HUB.account("TOKEN", "ada", "lab")
        HUB.store.repository("lab/model", {"model.safetensors": checkpoint()})
        for name, value in environment(HUB.endpoint, folder / "home").items():
            patch.setenv(name, value)
        patch.setenv("HF_TOKEN", "TOKEN")
        forget_the_client()
        import huggingface_hub  # noqa: F401  every child would import it

        patch.setenv("HEAR_MODELS_CACHE", str(folder / "cache"))
        fetching.fetch_model("mini", fetching.FetchOptions(), lambda line: None)
        yield
        forget_the_client()


@pytest.mark.parametrize("name", CASES)
def test_some_crash_points_of_transfers(name, tmp_path):
    strike_somewhere(CASES[name], tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize("name", CASES)
def test_every_crash_point_of_transfers(name, tmp_path):
    print(
        f"{name}: {strike_everywhere(CASES[name], tmp_path)} crash points, killed and full at each, 9 sizes of a file"
    )
