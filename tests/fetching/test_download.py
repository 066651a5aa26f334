"""A download ends with the right file or with one sentence, whatever the server or the connection does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub.faults import Fault
from hub.zenodo import ZenodoServer

from hear_models.errors import FileError, HearModelsError
from hear_models.fetching.download import Expected, fetch, fetch_json

DATA = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(DATA).hexdigest()
FILES = r"/files/"


@pytest.fixture
def zenodo(monkeypatch) -> Iterator[ZenodoServer]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ZenodoServer({"a.tar.gz": DATA}) as server:
        yield server


def get(zenodo: ZenodoServer, target: Path, waits: list[float] | None = None, **expected: object) -> str:
    """The sha256 of what was fetched; what is waited for goes to `waits`."""
    pause = (waits if waits is not None else []).append
    known = Expected(**({"n_bytes": len(DATA), "md5": MD5} | expected))
    return fetch(zenodo.url("a.tar.gz"), target, known, pause=pause).sha256


def alone(target: Path) -> bool:
    """Whether the file is there and nothing else."""
    return [path.name for path in target.parent.iterdir()] == [target.name] and target.read_bytes() == DATA


def test_a_file_is_fetched_and_its_digest_told(zenodo, tmp_path):
    assert get(zenodo, tmp_path / "a.tar.gz") == hashlib.sha256(DATA).hexdigest()
    assert alone(tmp_path / "a.tar.gz") and zenodo.fetched() == [(200, None)]


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_connection_that_breaks_is_gone_on_with(kind, zenodo, tmp_path):
    zenodo.faults.add(Fault(kind, FILES, after=120_000))
    zenodo.faults.add(Fault(kind, FILES, after=50_000))
    get(zenodo, tmp_path / "a.tar.gz")
    assert alone(tmp_path / "a.tar.gz")
    assert [status for status, _ in zenodo.fetched()] == [200, 206, 206]


def test_the_next_call_goes_on_where_one_ended(zenodo, tmp_path):
    zenodo.faults.add(Fault("cut", FILES, after=100_000))
    fault = zenodo.faults.add(Fault("status", FILES, status=503, times=None))
    with pytest.raises(HearModelsError, match=r"100,000 bytes are kept.*Try again"):
        get(zenodo, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists() and fault.struck == 5
    zenodo.faults.clear()
    get(zenodo, tmp_path / "a.tar.gz")
    assert alone(tmp_path / "a.tar.gz") and zenodo.fetched()[-1] == (206, "bytes=100000-")


def test_a_file_that_changed_in_between_is_fetched_anew(zenodo, tmp_path):
    zenodo.files["a.tar.gz"] = b"another " * 40_000
    zenodo.faults.add(Fault("cut", FILES, after=100_000))
    zenodo.faults.add(Fault("status", FILES, times=5))
    with pytest.raises(HearModelsError):
        get(zenodo, tmp_path / "a.tar.gz", n_bytes=None, md5=None)
    zenodo.files["a.tar.gz"] = DATA
    get(zenodo, tmp_path / "a.tar.gz")
    assert alone(tmp_path / "a.tar.gz") and zenodo.fetched()[-1][0] == 200


@pytest.mark.parametrize("kind", ["no ranges", "no tags", "ignore-range"])
def test_a_server_that_cannot_go_on_costs_time_only(kind, zenodo, tmp_path):
    zenodo.ranges, zenodo.tags = kind not in ("no ranges", "ignore-range"), kind != "no tags"
    zenodo.faults.add(Fault("cut", FILES, after=100_000))
    get(zenodo, tmp_path / "a.tar.gz")
    assert alone(tmp_path / "a.tar.gz") and [status for status, _ in zenodo.fetched()] == [200, 200]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for_as_it_asks(status, zenodo, tmp_path):
    waits: list[float] = []
    zenodo.headers = {"Retry-After": "7"}
    zenodo.faults.add(Fault("status", FILES, status=status, times=2))
    get(zenodo, tmp_path / "a.tar.gz", waits)
    assert alone(tmp_path / "a.tar.gz") and waits == [7.0, 7.0]


@pytest.mark.parametrize("asked", ["86400", "Fri, 31 Dec 2199 23:59:59 GMT"])
def test_a_wait_beyond_reason_is_an_error(asked, zenodo, tmp_path):
    zenodo.headers = {"Retry-After": asked}
    zenodo.faults.add(Fault("status", FILES, status=429, times=None))
    waits: list[float] = []
    with pytest.raises(HearModelsError, match="429"):
        get(zenodo, tmp_path / "a.tar.gz", waits)
    assert waits == []


def test_waits_grow_and_attempts_end(zenodo, tmp_path):
    zenodo.faults.add(Fault("status", FILES, status=503, times=None))
    waits: list[float] = []
    with pytest.raises(HearModelsError, match=r"could not be fetched \(503"):
        get(zenodo, tmp_path / "a.tar.gz", waits)
    assert waits == [1, 2, 4, 8] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_one_sentence_at_once(status, zenodo, tmp_path):
    zenodo.faults.add(Fault("status", FILES, status=status, times=None))
    waits: list[float] = []
    with pytest.raises(HearModelsError, match=f"refused: {status}"):
        get(zenodo, tmp_path / "a.tar.gz", waits)
    assert waits == [] and list(tmp_path.iterdir()) == []


def test_a_flipped_bit_is_found(zenodo, tmp_path):
    zenodo.faults.add(Fault("flip", FILES, after=777, times=None))
    with pytest.raises(HearModelsError, match="its MD5 is"):
        get(zenodo, tmp_path / "a.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_was_damaged_here_is_thrown_away_and_fetched_anew(zenodo, tmp_path):
    zenodo.faults.add(Fault("cut", FILES, after=100_000))
    zenodo.faults.add(Fault("status", FILES, times=5))
    with pytest.raises(HearModelsError):
        get(zenodo, tmp_path / "a.tar.gz")
    part = tmp_path / ".hear-models-a.tar.gz.begun"
    part.write_bytes(bytes([part.read_bytes()[0] ^ 1]) + part.read_bytes()[1:])
    get(zenodo, tmp_path / "a.tar.gz")
    assert alone(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("n_bytes, what", [(299_999, "299,999 were announced"), (300_001, "300,001 were announced")])
def test_a_wrong_length_is_told_before_a_byte_is_fetched(n_bytes, what, zenodo, tmp_path):
    with pytest.raises(HearModelsError, match=what):
        get(zenodo, tmp_path / "a.tar.gz", n_bytes=n_bytes)
    assert list(tmp_path.iterdir()) == []


def test_a_part_behind_the_end_of_the_file_begins_again(zenodo, tmp_path):
    zenodo.files["a.tar.gz"] = DATA + b"more"
    zenodo.faults.add(Fault("cut", FILES, after=300_002))
    zenodo.faults.add(Fault("status", FILES, times=5))
    zenodo.tags = True
    with pytest.raises(HearModelsError):
        get(zenodo, tmp_path / "a.tar.gz", n_bytes=None, md5=None)
    note = tmp_path / ".hear-models-a.tar.gz.begun.json"
    zenodo.files["a.tar.gz"] = DATA
    tag = hashlib.sha256(DATA).hexdigest()[:16]
    note.write_text(note.read_text().partition('"validator"')[0] + f'"validator": "\\"{tag}\\""}}')
    get(zenodo, tmp_path / "a.tar.gz", n_bytes=None)
    assert alone(tmp_path / "a.tar.gz") and [status for status, _ in zenodo.fetched()][-2:] == [416, 200]


def test_packed_answers_and_strange_addresses_are_not_followed(zenodo, tmp_path):
    zenodo.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(HearModelsError, match="comes packed"):
        get(zenodo, tmp_path / "a.tar.gz")
    for place in ("file:///etc/passwd", "ftp://127.0.0.1/a"):
        zenodo.headers = {"Location": place}
        zenodo.faults.add(Fault("status", FILES, status=302))
        with pytest.raises(HearModelsError, match=r"not followed|not allowed"):
            get(zenodo, tmp_path / "a.tar.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(zenodo, tmp_path):
    with pytest.raises(FileError, match=r"nowhere.*No such file"):
        get(zenodo, tmp_path / "nowhere" / "a.tar.gz")


def test_a_document_is_bounded_and_json(zenodo, tmp_path):
    assert len(fetch_json(f"{zenodo.site}/api/records/4593514")["files"]) == 1
    with pytest.raises(HearModelsError, match="more than 10 bytes"):
        fetch_json(f"{zenodo.site}/api/records/4593514", most_bytes=10)
    with pytest.raises(HearModelsError, match="does not send JSON"):
        fetch_json(zenodo.url("a.tar.gz"))
    with ZenodoServer({}) as gone:
        pass
    waits: list[float] = []
    with pytest.raises(HearModelsError, match="could not be fetched"):
        fetch_json(f"{gone.site}/api/records/4593514", pause=waits.append)
    assert len(waits) == 4
