"""Answers that trickle, drip, lead elsewhere or come from somebody else end in one sentence, in bounded time."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from hub.faults import Fault

from hear_models.errors import FileError, HearModelsError
from hear_models.fetching import web
from hear_models.fetching.download import Expected, fetch, fetch_json

DATA = bytes(range(256)) * 400


@pytest.fixture
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(web, "ATTEMPTS", 2)


def get(places, target, path: str = "files/a.bin", **more: object) -> str:
    return fetch(f"{places.site}/{path}", target, Expected(**more), pause=lambda seconds: None).sha256


@pytest.mark.parametrize("path", ["files/a.bin", "moved/a.bin"])
def test_a_head_that_trickles_is_not_waited_for(path, impatient, places, tmp_path):
    places.files["a.bin"] = DATA
    places.faults.add(Fault("trickle", path, seconds=0.02, times=None))
    began = time.monotonic()
    with pytest.raises(HearModelsError, match=r"could not be fetched .*Try again later"):
        get(places, tmp_path / "a", path)
    assert time.monotonic() - began < 5 and list(tmp_path.glob("*a*")) == []


def test_a_list_that_drips_is_not_waited_for(impatient, places):
    places.files["zenodo/1/a.bin"] = DATA
    places.faults.add(Fault("slow", "/api/", after=1, seconds=0.02, times=None))
    with pytest.raises(HearModelsError, match="could not be fetched"):
        fetch_json(f"{places.site}/api/records/1", pause=lambda seconds: None)


def test_an_endless_drip_ends_and_what_came_is_kept(impatient, places, tmp_path, monkeypatch):
    places.files["a.bin"] = DATA
    places.faults.add(Fault("slow", "/files/", after=2, seconds=0.01, times=None))
    with pytest.raises(HearModelsError, match=r"less than 1,024 bytes a second.* bytes are kept"):
        get(places, tmp_path / "a")
    places.faults.clear()
    monkeypatch.setattr(web, "TIMEOUT_S", 60.0)
    get(places, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    assert places.fetched("a.bin")[-1][1] not in (None, "bytes=0-")


def test_a_server_that_cuts_after_every_few_bytes_is_an_endless_drip_too(places, tmp_path):
    places.files["a.bin"] = DATA
    for _ in range(100):
        places.faults.add(Fault("cut", "/files/", after=1000))
    with pytest.raises(HearModelsError, match=r"could not be fetched .* 5,000 bytes are kept"):
        get(places, tmp_path / "a")


def test_a_file_without_end_stops_before_the_disk_is_full(places, tmp_path, monkeypatch):
    """Of chunks nobody knows how many will come."""
    listener = socket.create_server(("127.0.0.1", 0))

    def endless() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
            try:
                while True:
                    connection.sendall(piece)
            except OSError:
                return

    threading.Thread(target=endless, daemon=True).start()
    free = iter([1 << 30, *[32 << 20] * 2, 0])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": next(free)}))
    with pytest.raises(FileError, match="Make room"):
        fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/a", tmp_path / "a", Expected())
    listener.close()
    assert not (tmp_path / "a").exists()


def test_a_detour_without_end_is_one_sentence(places, tmp_path):
    places.headers = {"Location": "/files/a.bin"}
    places.faults.add(Fault("status", "/files/", status=302, times=None))
    places.faults.add(Fault("status", "/moved/", status=302, times=None))
    assert places.requests == []
    with pytest.raises(HearModelsError, match="is refused: 302"):
        get(places, tmp_path / "a")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return folder


@pytest.fixture
def encrypted(certificate, places):
    """The same server behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    places.server.socket = context.wrap_socket(places.server.socket, server_side=True)
    return f"https://localhost:{places.server.server_address[1]}"


def trust(certificate, monkeypatch) -> None:
    monkeypatch.setattr(web, "_trusted", lambda: ssl.create_default_context(cafile=certificate / "cert.pem"))


def test_a_server_that_does_not_prove_who_it_is_is_asked_once(encrypted, places, tmp_path):
    places.files["a.bin"] = DATA
    with pytest.raises(HearModelsError, match="does not prove who it is"):
        fetch(f"{encrypted}/files/a.bin", tmp_path / "a", Expected(), pause=pytest.fail)
    assert places.requests == [] and list(tmp_path.glob("*a.*")) == []


def test_encrypted_it_is_fetched_and_never_goes_on_in_the_open(encrypted, certificate, places, tmp_path, monkeypatch):
    trust(certificate, monkeypatch)
    places.files["a.bin"] = DATA
    fetch(f"{encrypted}/files/a.bin", tmp_path / "a", Expected())
    assert (tmp_path / "a").read_bytes() == DATA
    with pytest.raises(HearModelsError, match=r"leads to 'http://localhost.* is not followed"):
        fetch(f"{encrypted}/moved/a.bin", tmp_path / "b", Expected())


def test_a_trickle_behind_encryption_ends_too(impatient, encrypted, certificate, places, tmp_path, monkeypatch):
    trust(certificate, monkeypatch)
    places.files["a.bin"] = DATA
    places.faults.add(Fault("trickle", "/files/", seconds=0.02, times=None))
    with pytest.raises(HearModelsError, match="could not be fetched"):
        fetch(f"{encrypted}/files/a.bin", tmp_path / "a", Expected(), pause=lambda seconds: None)


@pytest.mark.parametrize("proxy", ["nonsense", "ftp://127.0.0.1:1", "http://127.0.0.1:notaport"])
def test_a_proxy_that_is_none_is_one_sentence(proxy, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(HearModelsError, match=r"proxy|no address"):
        fetch("http://example.invalid/a", tmp_path / "a", Expected(), pause=lambda seconds: None)
