"""Getting weights from the Hub: the right file of the right revision, from the network once, and clear refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hub.checkpoints import checkpoint, flipped, sha256
from hub.faults import Fault

from hear_models.checkpoints import hub as hub_module
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo.download import download

ALTERNATIVES = r"\.safetensors file.*hear-models convert"


@pytest.fixture
def model(hub):
    return hub.store.repository("lab/model", {"model.safetensors": checkpoint(), "README.md": b"# A model\n"})


def test_first_download_shows_its_progress_and_the_second_needs_no_hub(hub, model, command):
    first = command("download", "hf://lab/model", terminal=True)
    assert first.code == 0 and "model.safetensors: 100%" in first.err
    path, *rest = first.out.splitlines()
    assert Path(path).read_bytes() == checkpoint()
    assert f"sha256 {sha256(checkpoint())}" in rest and f"{len(checkpoint()):,} bytes, mwmae" in rest
    hub.stop()
    second = command("download", "hf://lab/model", terminal=True)
    assert (second.code, second.out, second.err) == (0, first.out, "")


def test_a_log_gets_the_result_and_nothing_else(hub, model, command):
    hub.faults.add(Fault("cut", after=1000))
    done = command("download", "hf://lab/model", "--json")
    assert done.code == 0 and done.err == ""
    facts = json.loads(done.out)
    assert facts["sha256"] == sha256(checkpoint()) and facts["bytes"] == len(checkpoint())
    assert facts["commit"] == model.branches["main"] and facts["address"] == facts["name"] == "hf://lab/model"
    assert facts["verified"][0] == "the sha256 that the Hub announced"


def test_branch_tag_and_commit_give_their_own_file(hub, model):
    first = model.branches["main"]
    model.tags["v1"] = first
    model.commit({"model.safetensors": checkpoint(6)}, branch="main")
    model.branches["feature/old"] = first
    for revision, seed in {"": 6, "@main": 6, "@v1": 5, f"@{first}": 5, "@feature/old": 5}.items():
        done = download(f"hf://lab/model{revision}")
        assert done.sha256 == sha256(checkpoint(seed)), revision
        assert (done.commit == first) is (seed == 5)


def test_a_commit_in_the_cache_needs_no_question_to_the_hub(hub, model):
    address = f"hf://lab/model@{model.branches['main']}"
    first = download(address)
    asked = len(hub.requests)
    assert download(address) == first
    assert len(hub.requests) == asked


def test_the_newest_is_taken_while_the_hub_is_there_and_the_last_known_one_afterwards(hub, model):
    old = download("hf://lab/model")
    model.commit({"model.safetensors": checkpoint(6)})
    new = download("hf://lab/model")
    assert (old.sha256, new.sha256) == (sha256(checkpoint(5)), sha256(checkpoint(6)))
    hub.stop()
    assert download("hf://lab/model") == new


def test_a_cached_file_survives_a_repository_that_vanished(hub, model):
    first = download("hf://lab/model")
    del hub.store.repositories["lab/model"]
    assert download("hf://lab/model") == first


@pytest.mark.parametrize("names", [["weights/mine.safetensors"], ["b.safetensors", "model.safetensors"]])
def test_the_one_file_that_can_be_meant_is_taken(hub, names):
    hub.store.repository("lab/model", {**dict.fromkeys(names, checkpoint(6)), names[-1]: checkpoint()})
    first = download("hf://lab/model")
    assert first.path.endswith(names[-1]) and first.sha256 == sha256(checkpoint())
    hub.stop()
    assert download("hf://lab/model") == first


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, r"holds no \.safetensors file \(it is empty\)\. Check the address"),
        ({"pytorch_model.bin": b"\x80", "config.json": b"{}"}, r"\(config\.json, pytorch_model\.bin\).*convert"),
        (
            {"a.safetensors": b"1", "b.safetensors": b"2"},
            r"2 \.safetensors files and none is model\.safetensors: a\.safetensors, b\.safetensors\. Download the one",
        ),
        (
            {"model.safetensors": b"no"},
            r"of hf://lab/model \(commit \w{12}\) cannot be used\..*not a whole safetensors",
        ),
    ],
)
def test_a_repository_without_our_file_is_told_as_such(hub, files, said):
    hub.store.repository("lab/model", files)
    with pytest.raises(CheckpointError, match=said):
        download("hf://lab/model")


def test_somebody_elses_safetensors_file_is_sent_to_convert(hub):
    import safetensors.torch
    import torch

    hub.store.repository("lab/model", {"model.safetensors": safetensors.torch.save({"weight": torch.zeros(3)})})
    with pytest.raises(CheckpointError, match=r"hf://lab/model .*no configuration of hear-models.*hear-models convert"):
        download("hf://lab/model")


def test_who_may_not_read_is_told_how_to(hub, model, monkeypatch):
    hub.account("EVE", "eve")
    model.gated = True
    with pytest.raises(CheckpointError, match=rf"gated.*no token was sent.*hf auth login.*HF_TOKEN.*{ALTERNATIVES}"):
        download("hf://lab/model")
    monkeypatch.setenv("HF_TOKEN", "EVE")
    with pytest.raises(CheckpointError, match=r"gated.*the token in use was not enough"):
        download("hf://lab/model")
    monkeypatch.setenv("HF_TOKEN", "STALE")
    with pytest.raises(CheckpointError, match=r"refused hf://lab/model.*Check HF_TOKEN"):
        download("hf://lab/model")
    monkeypatch.setenv("HF_TOKEN", "EVE")
    model.granted.add("eve")
    assert download("hf://lab/model").sha256 == sha256(checkpoint())
    assert hub.seen("/resolve/")[-1].token == "EVE" and hub.seen("^/cdn/")[-1].token is None
    model.gated = False
    model.private = True
    with pytest.raises(CheckpointError, match=r"no model lab/model .* or it is private and the token in use was not"):
        download("hf://lab/model", force=True)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf://lab/nothing", rf"there is no model lab/nothing at http://127.*private.*{ALTERNATIVES}"),
        ("hf://lab/model@v9", r"lab/model has no branch, tag or commit 'v9'"),
        (f"hf://lab/model@{'0' * 40}", r"lab/model has no branch, tag or commit '0{40}'"),
    ],
)
def test_what_does_not_exist_is_named(hub, model, address, said):
    with pytest.raises(CheckpointError, match=said):
        download(address)


@pytest.mark.parametrize(
    "address",
    [
        *("hf://", "hf://model", "hf://lab/", "hf://lab/model/file", "hf://lab/model@", "hf://lab/model@a b"),
        *("hf://a--b/c", "hf://lab/model@../../x", "hf://lab/../model", "hf://https://x/y", "hf:///lab/model"),
    ],
)
def test_what_is_no_address_is_told_how_one_looks(address):
    with pytest.raises(UsageError, match="Write hf://ORGANISATION/REPOSITORY"):
        download(address)


def test_offline_with_an_empty_cache_names_the_ways_out(hub, model, command):
    done = command("download", "hf://lab/model", HF_HUB_OFFLINE="1")
    assert (done.code, done.out) == (1, "") and not hub.requests
    assert re.search(rf"error: .*HF_HUB_OFFLINE forbids.*HF_HUB_CACHE or HF_HOME.*{ALTERNATIVES}", done.err)
    assert len(done.err.splitlines()) == 1


def test_offline_with_a_full_cache_loads(hub, model, command):
    first = command("download", "hf://lab/model")
    asked = len(hub.requests)
    second = command("download", "hf://lab/model", HF_HUB_OFFLINE="1")
    assert (second.code, second.out) == (0, first.out)
    forced = command("download", "hf://lab/model", "--force", HF_HUB_OFFLINE="1")
    assert forced.code == 1 and "HF_HUB_OFFLINE forbids" in forced.err
    assert len(hub.requests) == asked


def test_an_unreachable_hub_and_an_empty_cache_name_the_ways_out(hub, model, command):
    hub.stop()
    done = command("download", "hf://lab/model")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    ways = r"Try `hear-models download hf://lab/model` again.*HF_ENDPOINT.*HF_HUB_OFFLINE=1"
    assert re.search(
        rf"error: .*could not be downloaded from {hub.endpoint} .*refused.*{ways}.*{ALTERNATIVES}", done.err
    )


def test_the_clients_own_settings_are_honoured(hub, model, command, tmp_path):
    cache = tmp_path / "elsewhere"
    done = command(
        "download", "hf://lab/model", HF_HUB_CACHE=str(cache), HF_HUB_DISABLE_PROGRESS_BARS="1", terminal=True
    )
    assert done.code == 0 and done.err == "" and done.out.startswith(str(cache))
    assert not (tmp_path / "home" / "hub").exists()


def test_a_cache_that_cannot_be_written_is_named(hub, model, command, tmp_path):
    (tmp_path / "file").write_text("")
    done = command("download", "hf://lab/model", HF_HUB_CACHE=str(tmp_path / "file"))
    assert done.code == 1 and len(done.err.splitlines()) == 1
    assert f"cannot be stored in the cache {tmp_path / 'file'}" in done.err and "HF_HUB_CACHE" in done.err


def damage(path: str, data: bytes) -> None:
    """Put something else into the cache, behind the client's back."""
    Path(path).resolve().write_bytes(data)


@pytest.mark.parametrize(
    "data",
    [flipped(checkpoint()), checkpoint()[:-100], checkpoint()[:50], b"", checkpoint() + b"\0", checkpoint(6)],
    ids=["one bit", "cut", "cut in the header", "empty", "longer", "another checkpoint"],
)
def test_a_damaged_cached_file_is_refused_and_force_repairs_it(hub, model, data):
    done = download("hf://lab/model")
    damage(done.path, data)
    hashes = rf"its sha256 is {sha256(data)}, {sha256(checkpoint())} was announced"
    with pytest.raises(CheckpointError, match=rf"{hashes}.*`hear-models download hf://lab/model --force`"):
        download("hf://lab/model")
    assert download("hf://lab/model", force=True) == done
    assert download("hf://lab/model") == done


def test_bytes_that_the_hub_did_not_announce_are_refused(hub, model):
    model.announced["model.safetensors"] = sha256(checkpoint(6))
    with pytest.raises(CheckpointError, match=f"{sha256(checkpoint())}, {sha256(checkpoint(6))} was announced"):
        download("hf://lab/model")


def test_without_links_in_the_cache_the_digest_still_guards(hub, model, command):
    done = command("download", "hf://lab/model", "--json", HF_HUB_DISABLE_SYMLINKS="1")
    facts = json.loads(done.out)
    if Path(facts["path"]).is_symlink():
        pytest.skip("this version of huggingface_hub links anyway")
    assert facts["verified"] == ["the digest in its header, over every byte"]
    damage(facts["path"], flipped(checkpoint()))
    refused = command("download", "hf://lab/model", HF_HUB_DISABLE_SYMLINKS="1")
    assert refused.code == 1 and "does not match its digest" in refused.err and "--force" in refused.err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the name is empty"),
        ("mwmae-tiny", "has no weights to download"),
        ("logmel-stats", "has no weights to download"),
        ("mwmae-nan", "Did you mean mwmae-nano"),
    ],
)
def test_what_cannot_be_downloaded_is_said(name, said):
    with pytest.raises(UsageError, match=said):
        download(name)


def test_a_file_on_this_machine_is_not_downloaded(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(checkpoint())
    with pytest.raises(UsageError, match="on this machine already"):
        download(str(tmp_path / "mine.safetensors"))


def test_a_bundled_model_is_verified_without_a_network(command, hub):
    done = command("download", "mwmae-nano", "--json")
    facts = json.loads(done.out)
    assert facts["address"] is None and facts["verified"][0] == "the sha256 in the manifest" and not hub.requests


def test_info_tells_what_an_address_holds(hub, model, command):
    done = command("info", "hf://lab/model", "--json")
    facts = json.loads(done.out)
    assert facts["commit"] == model.branches["main"] and facts["family"] == "mwmae" and facts["verified"] is True
    assert facts["compared_with"].startswith("the sha256 that the Hub announced")


def test_the_library_is_imported_only_for_the_hub():
    import ast

    tree = ast.parse(Path(hub_module.__file__).read_text())
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not any("huggingface_hub" in ast.unparse(node) for node in top)
