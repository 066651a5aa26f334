"""The real huggingface_hub client against the tests' Hub: if it is content here, the other tests mean something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hub.faults import Fault

DATA = bytes(range(256)) * 1000


@pytest.fixture
def api(hub, monkeypatch):
    hub.account("TOKEN", "ada", "lab")
    monkeypatch.setenv("HF_TOKEN", "TOKEN")
    from huggingface_hub import HfApi

    return HfApi()


def test_what_is_uploaded_comes_down_again(hub, api, tmp_path):
    url = api.create_repo("lab/model", private=False)
    assert url.repo_id == "lab/model"
    assert api.whoami()["name"] == "ada"
    (tmp_path / "model.safetensors").write_bytes(DATA)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    done = api.upload_folder(repo_id="lab/model", folder_path=tmp_path, allow_patterns=["*.safetensors", "*.md"])
    assert hub.store.repositories["lab/model"].branches["main"] == done.oid

    path = api.hf_hub_download("lab/model", "model.safetensors")
    assert Path(path).read_bytes() == DATA
    assert Path(path).parent.name == done.oid
    assert Path(api.hf_hub_download("lab/model", "README.md")).read_text().endswith("# A model\n")
    folder = api.snapshot_download("lab/model", allow_patterns=["*"])
    assert sorted(os.listdir(folder)) == [".gitattributes", "README.md", "model.safetensors"]
    info = api.model_info("lab/model", files_metadata=True)
    (large,) = [s for s in info.siblings if s.rfilename == "model.safetensors"]
    assert info.sha == done.oid and large.size == len(DATA) and large.lfs.sha256 == os.path.basename(os.readlink(path))
    assert api.list_repo_commits("lab/model")[0].commit_id == done.oid
    assert len(hub.seen(r"/upload/")) == 1, "the large file went through LFS"
    assert hub.seen("^/cdn/") and all(request.token is None for request in hub.seen("^/cdn/")), (
        "no token leaves the Hub"
    )


def test_unchanged_files_are_not_committed_again(hub, api):
    api.create_repo("lab/model")
    first = api.upload_file(repo_id="lab/model", path_or_fileobj=DATA, path_in_repo="model.safetensors")
    again = api.upload_file(repo_id="lab/model", path_or_fileobj=DATA, path_in_repo="model.safetensors")
    assert first.oid == again.oid
    assert len(hub.seen(r"/upload/")) == 1


def test_a_large_upload_comes_in_parts(hub, api):
    hub.multipart_bytes = 100_000
    api.create_repo("lab/model")
    api.upload_file(repo_id="lab/model", path_or_fileobj=DATA, path_in_repo="model.safetensors")
    assert len(hub.seen(r"/upload/\w+/\d")) == 3
    assert hub.store.repositories["lab/model"].find("main").files["model.safetensors"].data == DATA


def test_branches_tags_and_deleted_files(hub, api):
    from huggingface_hub.utils import EntryNotFoundError, RevisionNotFoundError

    api.create_repo("lab/model")
    first = api.upload_file(repo_id="lab/model", path_or_fileobj=DATA, path_in_repo="model.safetensors")
    api.create_tag("lab/model", tag="v1")
    api.create_branch("lab/model", branch="next")
    api.delete_file("model.safetensors", "lab/model", revision="next")
    references = api.list_repo_refs("lab/model")
    assert {b.name for b in references.branches} == {"main", "next"} and [t.name for t in references.tags] == ["v1"]
    assert first.oid in api.hf_hub_download("lab/model", "model.safetensors", revision="v1")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("lab/model", "model.safetensors", revision="next")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("lab/model", "model.safetensors", revision="v2")


def test_strangers_and_bad_metadata_are_refused(hub, api):
    from huggingface_hub.utils import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    hub.account("READ", "eve", role="read")
    api.create_repo("lab/secret", private=True)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("lab/secret", token="READ")
    api.create_repo("lab/model")
    api.upload_file(repo_id="lab/model", path_or_fileobj=DATA, path_in_repo="model.safetensors")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.upload_file(repo_id="lab/model", path_or_fileobj=DATA, path_in_repo="other.bin", token="READ")
    hub.store.repositories["lab/model"].gated = True
    for token in (False, "READ"):
        with pytest.raises(GatedRepoError):
            api.hf_hub_download("lab/model", "model.safetensors", token=token)
    with pytest.raises(Exception, match="Invalid user token"):  # of requests or of the client, by its version
        api.whoami(token="WRONG")
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(repo_id="lab/model", path_or_fileobj=b"---\na: [1\n---\n", path_in_repo="README.md")


def test_a_commit_on_an_old_parent_is_refused(hub, api):
    from huggingface_hub.utils import HfHubHTTPError

    api.create_repo("lab/model")
    first = api.upload_file(repo_id="lab/model", path_or_fileobj=b"1", path_in_repo="a.txt")
    api.upload_file(repo_id="lab/model", path_or_fileobj=b"2", path_in_repo="a.txt")
    with pytest.raises(HfHubHTTPError, match="412"):
        api.upload_file(repo_id="lab/model", path_or_fileobj=b"3", path_in_repo="a.txt", parent_commit=first.oid)


def test_faults_strike(hub, api):
    hub.store.repository("lab/model", {"model.safetensors": DATA})
    hub.faults.add(Fault("flip", after=5))
    path = api.hf_hub_download("lab/model", "model.safetensors")
    assert Path(path).read_bytes() != DATA, "the client looks at the size only"
