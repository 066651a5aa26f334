"""A Hub that lies: what it says is checked before huggingface_hub makes paths, memory or a full disk of it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from hub.checkpoints import checkpoint
from hub.faults import Fault

from hear_models.checkpoints import hub_guard
from hear_models.checkpoints.hub import parse_address
from hear_models.checkpoints.hub_guard import HubLiesError, guarded
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo.download import download


@pytest.mark.parametrize("etag", ["../../../../evil", "/etc/evil", "a/b", "..", "0" * 39, "0" * 40 + "/../x", "x" * 64])
@pytest.mark.parametrize("size", [4_000, 600_000], ids=["small", "large"])
def test_an_etag_that_is_no_hash_writes_nothing(hub, tmp_path, etag, size):
    repository = hub.store.repository("lab/model", {"model.safetensors": checkpoint(5, size)})
    repository.announced["model.safetensors"] = etag
    before = {path for path in tmp_path.rglob("*") if "locks" not in str(path)}
    with pytest.raises(CheckpointError, match=r"which no Hub does\. Nothing was written"):
        download("hf://lab/model")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
    assert written == []


class Stream:
    """Pieces of a body."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __iter__(self):
        return iter(self.pieces)

    def close(self) -> None:
        pass


Stream.__mro__[0].__name__ = "SyncByteStream"


def answer(stream=(), path="/lab/model/resolve/main/model.safetensors", method="GET", **headers):
    url = SimpleNamespace(path=path, host="hub.example")
    request = SimpleNamespace(method=method, url=url)
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return SimpleNamespace(headers=told, request=request, stream=Stream(*stream), is_redirect=False)


COMMIT = {"x_repo_commit": "a" * 40, "etag": '"' + "b" * 40 + '"'}


def test_a_file_that_is_longer_than_announced_is_stopped(hub):
    with guarded():
        hub_guard._look_at(answer(method="HEAD", content_length="10", **COMMIT))
        body = answer([b"x" * 8] * 3, path="/cdn/abc")
        hub_guard._look_at(body)
        with pytest.raises(HubLiesError, match="more than the 10 bytes"):
            list(body.stream)


@pytest.mark.parametrize("size", ["", "-1", "ten", "9" * 30])
def test_a_size_that_no_file_has_is_refused(hub, size):
    with guarded(), pytest.raises(HubLiesError, match="announces a file of"):
        hub_guard._look_at(answer(method="HEAD", content_length=size, **COMMIT))


@pytest.mark.parametrize("commit", ["main", "../../x", "A" * 40])
def test_a_commit_that_is_no_hash_is_refused(hub, commit):
    with guarded(), pytest.raises(HubLiesError, match="names a file by the commit"):
        hub_guard._look_at(answer(method="HEAD", content_length="1", **{**COMMIT, "x_repo_commit": commit}))


def test_packed_endless_and_slow_answers_are_refused(hub, monkeypatch):
    with guarded():
        with pytest.raises(HubLiesError, match="packed bytes"):
            hub_guard._look_at(answer(path="/api/models/lab/model", content_encoding="gzip"))
        endless = answer([b"x" * (1 << 20)] * 33, path="/api/models/lab/model")
        hub_guard._look_at(endless)
        with pytest.raises(HubLiesError, match="more than the"):
            list(endless.stream)
        clock = iter(range(0, 10_000, 50))
        monkeypatch.setattr(hub_guard.time, "monotonic", lambda: next(clock))
        slow = answer([b"{", b" ", b"}"], path="/api/models/lab/model")
        hub_guard._look_at(slow)
        with pytest.raises(HubLiesError, match="does not end"):
            list(slow.stream)


def test_others_in_the_same_process_are_left_alone(hub):
    with guarded():
        pass
    plain = answer(content_encoding="gzip", x_repo_commit="main")
    stream = plain.stream
    hub_guard._look_at(plain)
    assert plain.stream is stream


@pytest.mark.parametrize(
    "text",
    [
        "hf://a/b@/",
        "hf://a/b@/etc",
        "hf://a/b@x/",
        "hf://a/b@x//y",
        "hf://a/b@../x",
        "hf://a/b@x/.y",
        "hf://a/b@.",
        "hf://a/b@./x",
    ],
)
def test_a_revision_that_leads_out_of_the_cache_is_no_address(text):
    with pytest.raises(UsageError, match="is no address on the Hub"):
        parse_address(text)


@pytest.mark.parametrize("path", ["/api/", "/resolve/", "/cdn/"])
def test_a_head_that_trickles_is_not_waited_for(path, hub, monkeypatch):
    hub.store.repository("lab/model", {"model.safetensors": checkpoint(5, 600_000)})
    monkeypatch.setattr(hub_guard, "ANSWER_S", 0.5)
    monkeypatch.setattr("time.sleep", lambda seconds, sleep=time.sleep: sleep(min(seconds, 0.05)))  # of retries
    hub.faults.add(Fault("trickle", path, method="GET" if path != "/resolve/" else "HEAD", seconds=0.05, times=None))
    began = time.monotonic()
    with pytest.raises(CheckpointError):
        download("hf://lab/model")
    assert time.monotonic() - began < 20
    hub.faults.clear()
    assert download("hf://lab/model").sha256


def test_nothing_travels_by_xet_unless_it_is_asked_for(hub, monkeypatch):
    """Those transfers are another program's, which knows none of these limits."""
    from huggingface_hub import constants
    from huggingface_hub.utils._runtime import is_xet_available

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.delenv("HF_HUB_DISABLE_XET")
    with guarded():
        with guarded():
            assert not is_xet_available()
        assert not is_xet_available()
    assert not constants.HF_HUB_DISABLE_XET
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "0")
    with guarded():
        assert not constants.HF_HUB_DISABLE_XET
