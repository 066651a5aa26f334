"""When the way to the Hub breaks: a download ends with the right file or with one error, and leaves nothing half."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from hub.checkpoints import checkpoint, sha256
from hub.conftest import start
from hub.faults import Fault

from hear_models.errors import CheckpointError
from hear_models.zoo.download import download

LARGE = 600_000  # bytes, so that a slow download can be met in the middle


@pytest.fixture
def model(hub):
    return hub.store.repository("lab/model", {"model.safetensors": checkpoint(5, LARGE)})


def blobs(home: Path) -> list[str]:
    """What lies in the cache under any name."""
    return sorted(path.name for path in home.rglob("blobs/*"))


def loadable(home: Path) -> list[str]:
    """The same without what older versions of the client keep to go on from."""
    return [name for name in blobs(home) if not name.endswith(".incomplete")]


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("after", [0, 300_000])
def test_a_connection_that_breaks_once_costs_nothing(hub, model, kind, after, tmp_path):
    fault = hub.faults.add(Fault(kind, after=after))
    done = download("hf://lab/model")
    assert done.sha256 == sha256(checkpoint(5, LARGE)) and fault.struck == 1
    assert blobs(tmp_path) == [done.sha256]


def test_a_long_download_continues_where_it_was_cut(hub, monkeypatch):
    data = checkpoint(5, 12_000_000)
    hub.store.repository("lab/model", {"model.safetensors": data})
    hub.faults.add(Fault("cut", after=11_000_000))
    assert download("hf://lab/model").sha256 == sha256(data)
    ranges = [request.range for request in hub.seen("^/cdn/")]
    assert ranges[0] is None and ranges[1] is not None, "the client asks for the rest"


def test_a_hub_that_ignores_ranges_does_not_spoil_the_file(hub):
    data = checkpoint(5, 12_000_000)
    hub.store.repository("lab/model", {"model.safetensors": data})
    hub.faults.add(Fault("cut", after=11_000_000))
    hub.faults.add(Fault("ignore-range"))
    assert download("hf://lab/model").sha256 == sha256(data)


@pytest.mark.parametrize("kind", ["reset", pytest.param("cut", marks=pytest.mark.slow)])
def test_a_connection_that_breaks_again_and_again_is_one_error(hub, model, kind, command, tmp_path):
    fault = hub.faults.add(Fault(kind, after=100_000, times=None))
    done = command("download", "hf://lab/model")
    assert done.code == 1 and done.out == "" and len(done.err.splitlines()) == 1, done.err
    assert f"could not be downloaded from {hub.endpoint}" in done.err and "HF_HUB_OFFLINE" in done.err
    assert fault.struck >= 3
    assert loadable(tmp_path) == []
    hub.faults.clear()
    assert command("download", "hf://lab/model").code == 0
    assert blobs(tmp_path) == [sha256(checkpoint(5, LARGE))]


def test_a_flipped_bit_on_the_way_is_refused_and_never_loaded(hub, model):
    hub.faults.add(Fault("flip", after=500_000))
    with pytest.raises(CheckpointError, match=f"{sha256(checkpoint(5, LARGE))} was announced.*--force"):
        download("hf://lab/model")
    with pytest.raises(CheckpointError, match="--force"):
        download("hf://lab/model")
    assert download("hf://lab/model", force=True).sha256 == sha256(checkpoint(5, LARGE))


@pytest.mark.parametrize(("method", "path"), [("GET", "^/api/models/"), ("HEAD", "/resolve/")])
def test_a_hub_that_stumbles_once_is_asked_again(hub, model, method, path):
    fault = hub.faults.add(Fault("status", path, method, status=503))
    assert download("hf://lab/model").sha256 == sha256(checkpoint(5, LARGE))
    assert fault.struck == 1


@pytest.mark.parametrize(("method", "path"), [("GET", "^/api/models/"), ("HEAD", "/resolve/")])
def test_a_hub_that_is_down_is_one_error_and_a_cached_file_still_loads(hub, model, method, path, tmp_path):
    hub.faults.add(Fault("status", path, method, status=503, times=None))
    with pytest.raises(CheckpointError, match=r"could not be downloaded.*503.*HF_ENDPOINT"):
        download("hf://lab/model")
    assert blobs(tmp_path) == []
    hub.faults.clear()
    first = download("hf://lab/model")
    hub.faults.add(Fault("status", path, method, status=503, times=None))
    assert download("hf://lab/model") == first


def slow_download(hub, home: Path):
    """A process in the middle of a download that would take a minute, and the file that it writes to."""
    fault = hub.faults.add(Fault("slow", after=10_000, seconds=1.0))
    process = start(hub.endpoint, home, "download", "hf://lab/model")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        parts = list(home.rglob("*.incomplete"))
        if parts and fault.struck:
            return process, parts[0]
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"no download began: {process.communicate()}")


def test_after_a_kill_the_next_call_ends_with_the_right_file_and_nothing_else(hub, model, tmp_path):
    home = tmp_path / "home"
    process, part = slow_download(hub, home)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert part.exists(), "the kill left something"
    done = download("hf://lab/model")
    assert done.sha256 == sha256(checkpoint(5, LARGE))
    assert blobs(home) == [done.sha256]


def test_ctrl_c_is_one_line(hub, model, tmp_path):
    process, _ = slow_download(hub, tmp_path / "home")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines() == ["interrupted; `hear-models download hf://lab/model` fetches it again"]


def test_what_another_process_is_writing_is_left_alone(hub, model, tmp_path):
    home = tmp_path / "home"
    model.commit({"model.safetensors": checkpoint(6)}, branch="small")
    process, part = slow_download(hub, home)
    try:
        assert download("hf://lab/model@small").sha256 == sha256(checkpoint(6))
        assert part.exists()
    finally:
        process.kill()
        process.communicate()
    hub.faults.clear()
    assert download("hf://lab/model@small").sha256 == sha256(checkpoint(6))
    assert not part.exists(), "now nobody writes to it"


def test_two_processes_at_once_fetch_it_once(hub, model, tmp_path):
    hub.faults.add(Fault("slow", after=100_000, seconds=0.2))
    both = [start(hub.endpoint, tmp_path / "home", "download", "hf://lab/model") for _ in range(2)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in both]
    assert ended[0] == ended[1] and ended[0][1:] == ("", 0)
    assert len(hub.seen("^/cdn/", "GET")) == 1
    assert blobs(tmp_path) == [sha256(checkpoint(5, LARGE))]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_cache_that_is_mounted_read_only_is_read(hub, model, tmp_path):
    first = download("hf://lab/model")
    folders = [path for path in (tmp_path / "home").rglob("*") if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert download("hf://lab/model") == first
    finally:
        for folder in folders:
            folder.chmod(0o755)
