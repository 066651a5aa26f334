"""`load_model` from the Hub: by a manifest, by an address, from somebody's organisation; verified at every load."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub.checkpoints import SMALL, checkpoint, flipped, sha256
from hub.conftest import environment

from hear_models import embed, mae, mwmae
from hear_models.checkpoints import manifest as manifests
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo import find_entry, list_models, load_model
from hear_models.zoo.describe import describe

FIELDS = {name: value for name, value in dataclasses.asdict(SMALL).items() if type(value) is int}


def write_manifest(folder: Path, name: str, status: str, *more: str, **changes: object) -> None:
    configuration = "\n".join(f"{field} = {value}" for field, value in {**FIELDS, **changes}.items())
    head = f'name = "{name}"\nfamily = "mwmae"\nsummary = "s"\nstatus = "{status}"\nsample_rate = 16000\ndims = 120\n'
    (folder / f"{name}.toml").write_text(head + f"[configuration]\n{configuration}\n" + "\n".join(more) + "\n")


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """A weights folder of our own, empty."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(manifests, "resource", lambda name: folder)
    return folder


def place(repository, **changes: object) -> list[str]:
    """The table [file] of a manifest that describes what is in a repository."""
    values = {
        "hub_repository": repository.name,
        "hub_revision": repository.branches["main"],
        "hub_file": "model.safetensors",
        "sha256": sha256(checkpoint()),
        "bytes": len(checkpoint()),
    } | changes
    return ["[file]", *(f"{name} = {value!r}" for name, value in values.items() if value is not None)]


@pytest.fixture
def model(hub, weights):
    """A repository and the manifest "small", which describes its file."""
    repository = hub.store.repository("lab/model", {"model.safetensors": checkpoint()})
    write_manifest(weights, "small", "hub", *place(repository))
    return repository


def weights_of(seed: int) -> torch.Tensor:
    return mwmae.Model(SMALL, seed=seed).blocks[0].mlp.fc1.weight


def test_a_name_with_a_place_on_the_hub_loads_and_needs_no_network_afterwards(hub, model):
    loaded = load_model("small")
    assert torch.equal(loaded.blocks[0].mlp.fc1.weight, weights_of(5))
    assert loaded.checkpoint.trained and loaded.checkpoint.name == "small"
    assert loaded.checkpoint.sha256 == sha256(checkpoint())
    asked = len(hub.requests)
    load_model("small")
    assert len(hub.requests) == asked, "the manifest names a commit, and it is in the cache"
    assert find_entry("small").status == "hub" and find_entry("small").trained
    assert "downloads it into the cache" in describe("small")["advice"]


def test_an_address_loads_and_embeds(hub, model, tmp_path):
    hub.store.repository("lab/other", {"model.safetensors": checkpoint(6)})
    loaded = load_model("hf://lab/other")
    assert torch.equal(loaded.blocks[0].mlp.fc1.weight, weights_of(6))
    assert loaded.checkpoint.name == "hf://lab/other" and loaded.checkpoint.sha256 == sha256(checkpoint(6))
    assert mwmae.load_model("hf://lab/other").get_scene_embeddings(torch.zeros(1, 16000)).shape == (1, 120)
    with pytest.raises(UsageError, match="of the family mwmae, not of mae"):
        mae.load_model("hf://lab/other")
    hub.stop()
    assert embed(torch.zeros(16000), model="hf://lab/other").shape[-1] == 120


def test_a_wrong_family_is_told_before_anything_is_downloaded(hub, model):
    with pytest.raises(UsageError, match="of the family mwmae, not of mae"):
        mae.load_model("small")
    assert not hub.requests


def test_a_file_that_the_manifest_does_not_know_is_refused_with_both_hashes(hub, model, weights):
    commit = model.commit({"model.safetensors": checkpoint(6)})
    write_manifest(weights, "small", "hub", *place(model, hub_revision=commit))
    for _ in range(2):  # as it comes, and from the cache
        with pytest.raises(
            CheckpointError,
            match=rf"hf://lab/model@{commit} .* not the file that the manifest of small describes: its sha256 is "
            rf"{sha256(checkpoint(6))}, the manifest says {sha256(checkpoint())}",
        ):
            load_model("small")


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("data", [flipped(checkpoint()), checkpoint()[:-1], checkpoint(6)], ids=["bit", "cut", "other"])
def test_a_cached_file_that_was_altered_is_refused_at_load(hub, model, data, offline, monkeypatch):
    path = Path(load_model("small").checkpoint.path)
    path.resolve().write_bytes(data)
    if offline:
        hub.stop()
    with pytest.raises(CheckpointError, match=rf"{sha256(data)}.*`hear-models download small --force`"):
        load_model("small")


def test_a_file_that_is_swapped_while_it_is_loaded_is_not_taken(hub, model, monkeypatch):
    """What is compared are the bytes that are used: nothing can come between."""
    from hear_models.zoo import load as loading

    load_model("hf://lab/model")
    read = loading.read

    def swap_and_read(resolved, parts):
        resolved.path.resolve().write_bytes(checkpoint(6))
        return read(resolved, parts)

    monkeypatch.setattr(loading, "read", swap_and_read)
    with pytest.raises(CheckpointError, match="was altered or cut"):
        load_model("hf://lab/model")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": None}, "names sha256"),
        ({"hub_revision": None, "bytes": None}, "names hub_revision and bytes"),
        ({"sha256": "abc"}, "64 hexadecimal"),
        ({"hub_repository": "no-organisation"}, "no address"),
    ],
)
def test_a_manifest_that_leaves_a_doubt_is_refused(hub, model, weights, changes, said):
    write_manifest(weights, "small", "hub", *place(model, **changes))
    with pytest.raises(CheckpointError, match=rf"small\.toml.*{said}"):
        list_models()


# ------------------------------------------------------------------------------------------------- HEAR_MODELS_HUB_ORG
@pytest.fixture
def unpublished(hub, weights, monkeypatch):
    """A model that only an organisation has, which the user trusts."""
    write_manifest(weights, "theirs", "unpublished")
    monkeypatch.setenv("HEAR_MODELS_HUB_ORG", "lab")
    return hub.store.repository("lab/theirs", {"model.safetensors": checkpoint()})


def test_an_unpublished_model_comes_from_the_users_organisation(hub, unpublished, monkeypatch):
    loaded = load_model("theirs")
    assert loaded.checkpoint.name == "theirs" and loaded.checkpoint.sha256 == sha256(checkpoint())
    advice = describe("theirs")["advice"]
    assert "hf://lab/theirs" in advice and "No manifest knows the sha256" in advice
    path = Path(loaded.checkpoint.path)
    path.resolve().write_bytes(flipped(checkpoint()))
    with pytest.raises(CheckpointError, match="--force"):
        load_model("theirs")
    monkeypatch.delenv("HEAR_MODELS_HUB_ORG")
    with pytest.raises(CheckpointError, match=r"no converted weights .* set HEAR_MODELS_HUB_ORG"):
        load_model("theirs")


def test_a_repository_that_the_organisation_does_not_have_says_why_it_was_asked(hub, unpublished, monkeypatch):
    monkeypatch.setenv("HEAR_MODELS_HUB_ORG", "nobody")
    with pytest.raises(CheckpointError, match=r"no model nobody/theirs.*because HEAR_MODELS_HUB_ORG is set"):
        load_model("theirs")
    monkeypatch.setenv("HEAR_MODELS_HUB_ORG", "no/body")
    with pytest.raises(UsageError, match="HEAR_MODELS_HUB_ORG='no/body' is no organisation"):
        load_model("theirs")


def test_another_model_under_the_name_is_refused(hub, unpublished, weights):
    write_manifest(weights, "theirs", "unpublished", encoder_depth=2)
    with pytest.raises(
        CheckpointError, match=r"encoder_depth is 1, but 2 by the manifest of theirs\. Load it by its own"
    ):
        load_model("theirs")
    assert load_model("hf://lab/theirs").config.encoder_depth == 1


def test_the_organisation_is_asked_for_unpublished_models_only(hub, unpublished, monkeypatch):
    monkeypatch.undo()  # the real manifests
    monkeypatch.setenv("HEAR_MODELS_HUB_ORG", "lab")
    load_model("mwmae-nano")
    assert not hub.requests


def test_a_bundled_model_loads_without_the_library(tmp_path):
    code = (
        "import sys, hear_models\nhear_models.load_model('mwmae-nano')\n"
        "assert 'huggingface_hub' not in sys.modules, 'it is not needed'"
    )
    subprocess.run([sys.executable, "-c", code], env=environment("http://127.0.0.1:9", tmp_path), check=True)
