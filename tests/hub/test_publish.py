"""`hear-models publish` against the tests' Hub: what is sent, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub.conftest import environment
from hub.faults import Fault

import hear_models
from hear_models import mwmae
from hear_models.checkpoints.licences import licence_note
from hear_models.checkpoints.safetensors_file import read_checkpoint, write_checkpoint
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo import find_entry
from hear_models.zoo.convert import convert

MINI = Path(__file__).parent.parent / "golden" / "mwmae" / "mwmae_mini"
SMALL = mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, decoder_width=16, decoder_depth=1)
REPOSITORY = "lab/model"


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "mini.safetensors"
    convert("mwmae", MINI, path, overrides={"encoder_heads": 3})
    return path


def own(path: Path, seed: int = 5, **changes) -> str:
    """A checkpoint as somebody's own training leaves it; returns its sha256."""
    model = mwmae.Model(SMALL, seed=seed)
    arguments = {"family": "mwmae", "config": dataclasses.asdict(SMALL), "tensors": model.state_dict()}
    return write_checkpoint(path, **(arguments | changes))


@pytest.fixture
def lab(hub, monkeypatch):
    """The Hub, and a token that may write into `lab`."""
    hub.account("TOKEN", "ada", "lab")
    monkeypatch.setenv("HF_TOKEN", "TOKEN")
    return hub


def change(model) -> None:
    """What any training does."""
    with torch.no_grad():
        next(model.parameters()).add_(0.01)


def refused(hub, message: str, *arguments, error: type[Exception] = UsageError, **settings) -> str:
    """Publishing fails with a message, and the Hub is as it was."""
    before = {name: dict(repository.branches) for name, repository in hub.store.repositories.items()}
    with pytest.raises(error, match=message) as caught:
        hear_models.push_to_hub(*arguments, **settings)
    after = {name: dict(repository.branches) for name, repository in hub.store.repositories.items()}
    assert after == before, "nothing is created or changed on the Hub when something is wrong"
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ what is sent
def test_published_model_gives_the_same_bits_in_a_fresh_process_with_an_empty_cache(lab, tmp_path):
    sha256 = find_entry("mwmae-nano").manifest.file.sha256
    done = hear_models.load_model("mwmae-nano").push_to_hub(REPOSITORY)
    assert done.sha256 == sha256 and done.upload.created and done.address == f"hf://{REPOSITORY}"
    code = (
        "import sys, numpy, hear_models, torch\n"
        "audio = torch.rand(2, 20000, generator=torch.Generator().manual_seed(0)) - 0.5\n"
        "model = hear_models.load_model(sys.argv[1])\n"
        "numpy.savez(sys.argv[2], model.get_scene_embeddings(audio), *model.get_timestamp_embeddings(audio))\n"
    )
    arrays = []
    for number, name in enumerate(["mwmae-nano", done.address, f"{done.address}@{done.upload.commit}"]):
        target = tmp_path / f"{number}.npz"
        surroundings = environment(lab.endpoint, tmp_path / f"home{number}")
        run = subprocess.run(
            [sys.executable, "-c", code, name, str(target)], env=surroundings, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        with np.load(target) as content:
            arrays.append([content[key].tobytes() for key in content.files])
    assert len(arrays[0]) == 3 and arrays[0] == arrays[1] == arrays[2]


def test_the_hub_gets_exactly_the_file_and_a_card_in_one_commit(lab, tmp_path):
    sha256 = own(tmp_path / "dogs.safetensors")
    done = hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT")
    repository = lab.store.repositories[REPOSITORY]
    assert [commit.title for commit in repository.history("main")] == [f"dogs: sha256 {sha256}", "initial commit"]
    files = repository.find("main").files
    assert files["model.safetensors"].data == (tmp_path / "dogs.safetensors").read_bytes()
    assert files["README.md"].data.decode() == done.card and "license: mit" in done.card
    assert set(files) == {".gitattributes", "README.md", "model.safetensors"}
    assert done.upload.commit == repository.branches["main"] and not repository.private


def test_the_parts_of_the_file_stay_together(lab, converted, tmp_path):
    hear_models.push_to_hub(converted, REPOSITORY, permission="the authors, by mail")
    stored = tmp_path / "fetched.safetensors"
    stored.write_bytes(lab.store.repositories[REPOSITORY].find("main").files["model.safetensors"].data)
    assert read_checkpoint(stored, ("encoder", "decoder")).parts == ("encoder", "decoder")


def test_publishing_the_same_again_changes_nothing(lab, tmp_path):
    own(tmp_path / "dogs.safetensors")
    first = hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT")
    again = hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT")
    assert again.upload.commit == first.upload.commit and not again.upload.changed
    assert len(lab.seen("/upload/")) == 1


def test_another_file_replaces_the_old_one_by_a_new_commit_that_names_both(lab, tmp_path):
    path = tmp_path / "dogs.safetensors"
    old = own(path)
    first = hear_models.push_to_hub(path, REPOSITORY, licence="MIT")
    new = own(path, seed=6)
    second = hear_models.push_to_hub(path, REPOSITORY, licence="MIT")
    assert second.upload.replaced_sha256 == old and new in second.message and new in second.card
    repository = lab.store.repositories[REPOSITORY]
    assert repository.find(first.upload.commit).files["model.safetensors"].sha256 == old, "the history keeps it"
    assert repository.find("main").files["model.safetensors"].sha256 == new


def test_a_branch_is_made_and_main_stays(lab, tmp_path):
    own(tmp_path / "dogs.safetensors")
    hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT")
    main = lab.store.repositories[REPOSITORY].branches["main"]
    own(tmp_path / "dogs.safetensors", seed=6)
    for _ in range(2):  # the second time the branch is there
        done = hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT", branch="next")
    assert done.address == f"hf://{REPOSITORY}@next" and done.address in done.card
    assert lab.store.repositories[REPOSITORY].branches == {"main": main, "next": done.upload.commit}


def test_a_branch_of_a_new_repository(lab, tmp_path):
    own(tmp_path / "dogs.safetensors")
    done = hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT", branch="next")
    assert "model.safetensors" not in lab.store.repositories[REPOSITORY].find("main").files
    assert done.upload.created and lab.store.repositories[REPOSITORY].find("next").files["model.safetensors"]


def test_private_means_private_from_the_first_moment(lab, tmp_path):
    own(tmp_path / "dogs.safetensors")
    hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT", private=True)
    assert lab.store.repositories[REPOSITORY].private
    hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT", private=True)


def test_weights_changed_in_memory_are_what_is_sent(lab, tmp_path):
    model = hear_models.load_model("mwmae-nano")
    change(model)
    refused(lab, r"no longer those of .*training=", model, REPOSITORY)
    done = model.push_to_hub(REPOSITORY, training="fine-tuned on barks")
    stored = tmp_path / "fetched.safetensors"
    stored.write_bytes(lab.store.repositories[REPOSITORY].find("main").files["model.safetensors"].data)
    fetched = read_checkpoint(stored)
    assert fetched.sha256 == done.sha256 and fetched.trained
    assert all(torch.equal(value, fetched.tensors[name]) for name, value in model.state_dict().items())
    assert "fine-tuned on barks" in done.card and done.licence == "Apache-2.0"
    base = find_entry("mwmae-nano").manifest.file.sha256
    assert fetched.header.notes["started_from"]["sha256"] == base and base in done.card


def test_what_is_loaded_from_the_hub_can_be_asked_for_as_its_users_write_it(lab, tmp_path):
    own(tmp_path / "dogs.safetensors")
    done = hear_models.push_to_hub(tmp_path / "dogs.safetensors", REPOSITORY, licence="MIT")
    for model in (
        hear_models.from_pretrained(REPOSITORY),
        hear_models.from_pretrained(f"hf://{REPOSITORY}", revision="main"),
        mwmae.Model.from_pretrained(REPOSITORY, revision=done.upload.commit),
    ):
        assert model.checkpoint.sha256 == done.sha256


# --------------------------------------------------------------------------------------------------- what is refused
def test_converted_weights_without_a_licence_need_a_permission_that_the_card_quotes(lab, converted):
    assert "--i-have-permission" in refused(lab, "nobody stated a licence", converted, REPOSITORY)
    refused(lab, "nobody stated a licence", converted, REPOSITORY, licence="MIT")  # not the publisher's to choose
    refused(lab, "permission is empty", converted, REPOSITORY, permission=" ")
    done = hear_models.push_to_hub(converted, REPOSITORY, permission="A. Author, by mail\nof 1 May")
    assert "> A. Author, by mail\n> of 1 May\n" in done.card and "license: unknown" in done.card
    assert lab.store.repositories[REPOSITORY].find("main").files["README.md"].data.decode() == done.card


def test_own_weights_need_a_licence_and_keep_the_one_they_have(lab, tmp_path):
    path = tmp_path / "dogs.safetensors"
    own(path)
    assert "--licence CC-BY-4.0" in refused(lab, "nobody stated a licence", path, REPOSITORY)
    refused(lab, "nobody may pass copies on", path, REPOSITORY, licence="NTT evaluation licence")
    own(path, notes=licence_note("CC-BY-4.0"))
    refused(lab, "is CC-BY-4.0, by the file's header, not MIT", path, REPOSITORY, licence="MIT")
    assert "license: cc-by-4.0" in hear_models.push_to_hub(path, REPOSITORY).card
    own(path)
    done = hear_models.push_to_hub(path, REPOSITORY, licence="Our University Licence 2")
    assert "license: other\nlicense_name: our-university-licence-2\n" in done.card


def test_weights_whose_licence_forbids_it_are_never_sent(lab, converted, tmp_path, monkeypatch):
    """Whatever is said with it; a family marks its converted files by one field of OFFICIAL."""
    path = tmp_path / "theirs.safetensors"
    monkeypatch.setattr(mwmae, "OFFICIAL", dataclasses.replace(mwmae.OFFICIAL, licence="NTT evaluation licence"))
    convert("mwmae", MINI, path, overrides={"encoder_heads": 3}, accept_licence=True)
    for settings in ({}, {"permission": "a friend"}, {"licence": "MIT"}, {"licence": "MIT", "permission": "a friend"}):
        refused(lab, "no redistribution.*forbids to pass copies on", path, REPOSITORY, **settings)

    model = hear_models.load_model(path)
    change(model)
    refused(lab, "forbids to pass copies on", model, REPOSITORY, training="fine-tuned", permission="a friend")


def test_fine_tuning_somebody_elses_weights_does_not_make_them_ones_own(lab, converted):
    model = hear_models.load_model(converted)
    change(model)
    refused(lab, "They are somebody else's", model, REPOSITORY, training="fine-tuned", licence="MIT")
    done = model.push_to_hub(REPOSITORY, training="fine-tuned", licence="MIT", permission="the authors, by mail")
    assert "checkpoint_5" in done.card, "the card names the official file that it all began with"


@pytest.mark.filterwarnings("ignore:.*no trained weights")
def test_random_networks_are_refused_unless_it_is_meant(lab, tmp_path):
    path = tmp_path / "random.safetensors"
    own(path, trained=False)
    refused(lab, "random weights.*--allow-untrained", path, REPOSITORY, licence="MIT")
    model = hear_models.load_model("mwmae-tiny")
    refused(lab, "random weights", model, REPOSITORY, licence="MIT")
    done = hear_models.push_to_hub(path, REPOSITORY, licence="MIT", allow_untrained=True)
    assert "**A random network" in done.card and "- untrained\n" in done.card


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mwmae-base", "no converted file of mwmae-base.*hear-models fetch mwmae-base"),
        ("mwmae-tiny", "has no weights of its own"),
        ("logmel-stats", "has no weights of its own"),
        ("mwmae-nanoo", "Did you mean mwmae-nano"),
        ("hf://lab/model", "on the Hub already"),
        ("", "neither a model's name nor a file"),
    ],
)
def test_what_has_no_weights_is_refused(lab, name, message):
    refused(lab, message, name, REPOSITORY)


def test_a_damaged_file_is_refused(lab, tmp_path):
    path = tmp_path / "dogs.safetensors"
    own(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(lab, "does not match its digest", path, REPOSITORY, licence="MIT", error=CheckpointError)
    path.write_bytes(data[:-100])
    refused(lab, "damaged", path, REPOSITORY, licence="MIT", error=CheckpointError)


def test_a_file_that_no_network_takes_is_refused(lab, tmp_path):
    path = tmp_path / "dogs.safetensors"
    own(path, config=dataclasses.asdict(SMALL) | {"encoder_depth": 2})
    refused(lab, "tensor .* is missing", path, REPOSITORY, licence="MIT", error=CheckpointError)


@pytest.mark.parametrize("name", ["model", "lab/model/x", "lab/model@main", "lab/mo del", "lab/", "/model", "lab/-x-"])
def test_a_name_that_the_hub_does_not_take(lab, name):
    refused(lab, "ORG/NAME|cannot be a repository's name", "mwmae-nano", name)


@pytest.mark.parametrize("branch", ["0" * 40, "a b", "refs/pr/1", "../x", ""])
def test_a_branch_that_cannot_be_one(lab, branch):
    refused(lab, "is a commit|cannot be a branch's name", "mwmae-nano", REPOSITORY, branch=branch)


def test_the_organisation_may_come_from_the_environment(lab, monkeypatch):
    monkeypatch.setenv("HEAR_MODELS_HUB_ORG", "lab")
    assert hear_models.push_to_hub("mwmae-nano", "model", dry_run=True).repository == REPOSITORY
    assert hear_models.push_to_hub("mwmae-nano", "other/model", dry_run=True).repository == "other/model"


# ----------------------------------------------------------------------------------------------- what the Hub may do
def test_without_a_token(hub):
    assert "hf auth login" in refused(hub, "there is no token", "mwmae-nano", REPOSITORY)
    assert not hub.requests, "it is known before anybody is asked"


def test_a_wrong_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "WRONG")
    refused(hub, "does not accept the token", "mwmae-nano", REPOSITORY, error=CheckpointError)


@pytest.mark.parametrize("role", ["read", "write"])
def test_without_the_right_to_write(hub, monkeypatch, role):
    hub.account("TOKEN", "eve", "lab" if role == "read" else "elsewhere", role=role)
    monkeypatch.setenv("HF_TOKEN", "TOKEN")
    refused(hub, "may not write to lab/model.*Nothing was created", "mwmae-nano", REPOSITORY, error=CheckpointError)
    hub.store.repository(REPOSITORY, {"README.md": b"# mine\n"})
    refused(hub, "may not write to lab/model.*Nothing was changed", "mwmae-nano", REPOSITORY, error=CheckpointError)


def test_a_name_taken_by_something_that_cannot_be_seen(lab):
    lab.faults.add(Fault("status", path="/api/repos/create", method="POST", status=409, times=None))
    refused(lab, "is taken by something", "mwmae-nano", REPOSITORY, error=CheckpointError)


def test_a_repository_of_another_library_or_with_another_kind_of_file_is_left_alone(lab):
    lab.store.repository("lab/theirs", {"README.md": b"---\nlibrary_name: transformers\n---\n"})
    refused(lab, "of the library transformers", "mwmae-nano", "lab/theirs")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    plain = len(header).to_bytes(8, "little") + header + bytes(4)
    lab.store.repository("lab/plain", {"model.safetensors": plain})
    refused(lab, "that hear-models did not write", "mwmae-nano", "lab/plain")
    lab.store.repository("lab/broken", {"model.safetensors": b"no safetensors at all"})
    refused(lab, "that hear-models did not write", "mwmae-nano", "lab/broken")


def test_private_weights_do_not_go_into_a_public_repository(lab):
    lab.store.repository(REPOSITORY)
    refused(lab, "exists and is public", "mwmae-nano", REPOSITORY, private=True)


def test_offline(hub, tmp_path):
    for offline in (True, False):
        surroundings = environment(
            hub.endpoint, tmp_path, HF_TOKEN="TOKEN", **({"HF_HUB_OFFLINE": "1"} if offline else {})
        )
        if not offline:
            hub.stop()
        run = subprocess.run(
            [sys.executable, "-m", "hear_models.cli.main", "publish", "mwmae-nano", REPOSITORY],
            env=surroundings,
            capture_output=True,
            text=True,
        )
        message = "HF_HUB_OFFLINE is set" if offline else "could not be reached"
        assert message in run.stderr and "Traceback" not in run.stderr and len(run.stderr.splitlines()) == 1
        assert run.returncode == (2 if offline else 1)


def test_a_hub_that_stops_answering_in_the_middle_says_what_is_there_now(lab, tmp_path):
    lab.faults.add(Fault("status", path=r"/api/models/.*/commit/", method="POST", status=500, times=None))
    with pytest.raises(CheckpointError, match="The repository was made and is empty; publish again"):
        hear_models.push_to_hub("mwmae-nano", REPOSITORY)
    assert set(lab.store.repositories[REPOSITORY].find("main").files) == {".gitattributes"}
    lab.faults.clear()
    done = hear_models.push_to_hub("mwmae-nano", REPOSITORY)
    assert not done.upload.created and done.upload.changed


def test_an_upload_that_stumbles_once_goes_on(lab):
    fault = lab.faults.add(Fault("status", path="^/upload/", method="PUT", status=503))
    done = hear_models.push_to_hub("mwmae-nano", REPOSITORY)
    stored = lab.store.repositories[REPOSITORY].find("main").files["model.safetensors"]
    assert fault.struck == 1 and stored.sha256 == done.sha256


def test_somebody_else_who_commits_at_the_same_time_is_not_overwritten(lab):
    repository = lab.store.repository(REPOSITORY)
    theirs = []
    original = type(repository).find

    def find(self, revision):
        """A commit of somebody else comes in once our files are uploaded."""
        if not theirs and lab.seen("/upload/"):
            theirs.append(self.commit({"notes.txt": b"theirs"}))
        return original(self, revision)

    repository.find = find.__get__(repository)
    with pytest.raises(CheckpointError, match="somebody else committed"):
        hear_models.push_to_hub("mwmae-nano", REPOSITORY)
    assert set(repository.find("main").files) == {"notes.txt"}


def test_a_hub_that_announces_another_sha256_afterwards_is_found_out(lab):
    wrong = hashlib.sha256(b"something else").hexdigest()
    lab.store.repository(REPOSITORY).announced["model.safetensors"] = wrong
    with pytest.raises(CheckpointError, match=f"announces {wrong}.*0a5428fae194.* was sent"):
        hear_models.push_to_hub("mwmae-nano", REPOSITORY)


# ------------------------------------------------------------------------------------------------------ command line
def run_command(hub, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hear_models.cli.main", "publish", *arguments],
        env=environment(hub.endpoint, home, HF_TOKEN="TOKEN"),
        capture_output=True,
        text=True,
    )


def test_command_line_tells_commit_and_how_to_load(lab, tmp_path):
    run = run_command(lab, tmp_path, "mwmae-nano", REPOSITORY, "--message", "the first")
    assert run.returncode == 0 and run.stderr == "", "a log gets the result and nothing else"
    commit = lab.store.repositories[REPOSITORY].branches["main"]
    assert f"commit {commit}" in run.stdout and f"hear_models.load_model('hf://{REPOSITORY}')" in run.stdout
    assert lab.store.repositories[REPOSITORY].find("main").title == "the first"
    own(tmp_path / "dogs.safetensors")
    run = run_command(
        lab,
        tmp_path,
        str(tmp_path / "dogs.safetensors"),
        REPOSITORY,
        "--licence",
        "MIT",
        "--training",
        "barks",
        "--json",
    )
    done = json.loads(run.stdout)
    assert done["upload"]["replaced_sha256"].startswith("0a5428fae194") and "barks" in done["card"]


def test_dry_run_shows_everything_and_asks_nobody(hub, tmp_path):
    run = run_command(hub, tmp_path, "mwmae-nano", REPOSITORY, "--dry-run")
    assert run.returncode == 0 and "nothing was sent" in run.stdout and "license: apache-2.0" in run.stdout
    assert find_entry("mwmae-nano").manifest.file.sha256 in run.stdout
    assert not hub.requests and not os.path.exists(tmp_path / "hub")
