"""A small server for tests that speaks as Zenodo does: one record, its files by name, ranges, and the Hub's faults."""

from __future__ import annotations

import hashlib
import threading
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from hub.faults import Faults
from hub.frame import Frame, Refusal, Request

RECORD = "4593514"


class ZenodoServer:
    """A record on 127.0.0.1; a context manager. `listed` may say something else than the files are."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.listed: dict[str, dict[str, object]] = {}
        self.faults, self.requests = Faults(), list[Request]()
        self.headers: dict[str, str] = {}  # with every answer
        self.tags, self.ranges, self.lengths = True, True, True
        self.store = SimpleNamespace(accounts={})

    def __enter__(self) -> ZenodoServer:
        handler = type("Handler", (Answers,), {"hub": self, "origin": "zenodo"})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.site = f"http://127.0.0.1:{self.server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def url(self, name: str) -> str:
        return f"{self.site}/records/{RECORD}/files/{name}?download=1"

    def fetched(self) -> list[tuple[int, str | None]]:
        """(status, range) of every request for a file."""
        return [(request.status, request.range) for request in self.requests if "/files/" in request.path]


class Answers(Frame):
    """The two things that are asked for."""

    hub: ZenodoServer

    def json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().json(content, status, {**(headers or {}), **self.hub.headers})

    def record(self) -> None:
        entries = []
        for name, data in self.hub.files.items():
            entry = {"key": name, "size": len(data), "checksum": f"md5:{hashlib.md5(data).hexdigest()}"}
            entries.append(entry | self.hub.listed.get(name, {}))
        self.json({"id": int(RECORD), "files": entries})

    def file(self, name: str) -> None:
        if name not in self.hub.files:
            raise Refusal(404, None, "no such file")
        data = self.hub.files[name]
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = dict(self.hub.headers) | ({"ETag": tag} if self.hub.tags else {})
        asked, first = self.headers.get("Range"), 0
        if asked and self.hub.ranges and self.headers.get("If-Range") in (None, "", tag):
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            if first >= len(data):
                self.send(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
                return
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.send(data[first:], 206 if "Content-Range" in headers else 200, headers)

    routes = [  # noqa: RUF012  as every handler of this server has them
        ("GET", rf"/api/records/{RECORD}", record),
        ("GET", rf"/records/{RECORD}/files/([^/]+)", file),
    ]
