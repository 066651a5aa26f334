"""A server for tests that speaks as the places of official weights do: a drive, GitHub's releases, Zenodo, plain files.

What real ones answer was never seen from here: the drive's pages are as gdown's code expects them.
"""

from __future__ import annotations

import hashlib
import html
import json
import sys
import threading
from http.server import ThreadingHTTPServer
from types import ModuleType, SimpleNamespace
from typing import Any

from hub.faults import Faults
from hub.frame import Frame, Refusal, Request

QUOTA_PAGE = (
    "<html><head><title>Google Drive - Quota exceeded</title></head><body><p>Sorry, you can't view or download this "
    "file at this time.</p><p>Too many users have viewed or downloaded this file recently.</p></body></html>"
)


class PlacesServer:
    """Files by path, on 127.0.0.1; a context manager.

    `drive/KEY` is asked for by key, after a page for files above `scanned` bytes; `zenodo/RECORD/NAME` and
    `github/OWNER/REPOSITORY/TAG/NAME` are listed; `moved` paths lead to another host.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.drive_paths: dict[str, str] = {}  # key → path below the folder
        self.faults, self.requests = Faults(), list[Request]()
        self.tags, self.ranges = True, True
        self.scanned = 2000  # bytes of the largest file that the drive looks through for viruses
        self.quota = False
        self.headers: dict[str, str] = {}
        self.store = SimpleNamespace(accounts={})

    def __enter__(self) -> PlacesServer:
        handler = type("Handler", (Answers,), {"hub": self, "origin": "places"})
        self.server = ThreadingHTTPServer(("", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        port = self.server.server_address[1]
        self.site, self.other_host = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self) -> dict[str, str]:
        """Where hear-models asks."""
        return {f"HEAR_MODELS_{name}": self.site for name in ("DRIVE", "ZENODO", "GITHUB")}

    def put_in_drive(self, path: str, data: bytes) -> None:
        key = "k" + hashlib.sha256(path.encode()).hexdigest()[:27]
        self.drive_paths[key], self.files[f"drive/{key}"] = path, data

    def gdown(self) -> ModuleType:
        """What stands in for gdown: its one function that is used, with what this server's drive holds."""
        module = ModuleType("gdown")

        def download_folder(url: str, skip_download: bool, quiet: bool, use_cookies: bool) -> list[Any]:
            assert skip_download and quiet and not use_cookies and "drive.google.com/drive/folders/" in url
            return [SimpleNamespace(id=key, path=path, local_path=path) for key, path in self.drive_paths.items()]

        module.download_folder = download_folder  # type: ignore[attr-defined]
        return module

    def use_gdown(self, monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "gdown", self.gdown())

    def fetched(self, name: str) -> list[tuple[int, str | None]]:
        """(status, range) of the requests for a file whose path ends so."""
        return [(r.status, r.range) for r in self.requests if r.path.endswith(name) and r.status in (200, 206, 416)]


class Answers(Frame):
    """What is asked for."""

    hub: PlacesServer

    def page(self, text: str) -> None:
        self.send(text.encode(), 200, {"Content-Type": "text/html; charset=utf-8", **self.hub.headers})

    def uc(self) -> None:
        (key,) = self.query["id"]
        if self.hub.quota:
            return self.page(QUOTA_PAGE)
        if len(self.hub.files.get(f"drive/{key}", b"")) <= self.hub.scanned:
            return self.file(f"drive/{key}")
        action = f"{self.hub.other_host}/download"
        fields = {"id": key, "export": "download", "confirm": "t", "uuid": "a-b&c"}
        inputs = "".join(f'<input type="hidden" name="{n}" value="{html.escape(v)}">' for n, v in fields.items())
        self.page(
            f'<html><title>Virus scan warning</title><form id="download-form" action="{action}" method="get">'
            f'<input type="submit" value="Download anyway"/>{inputs}</form></html>'
        )

    def download(self) -> None:
        if self.hub.quota:
            return self.page(QUOTA_PAGE)
        if self.query.get("uuid") != ["a-b&c"]:
            return self.page("<html>Virus scan warning</html>")
        self.file(f"drive/{self.query['id'][0]}")

    def record(self, record: str) -> None:
        entries = []
        for path, data in self.hub.files.items():
            if path.startswith(f"zenodo/{record}/"):
                md5 = f"md5:{hashlib.md5(data).hexdigest()}"
                entries.append({"key": path.split("/")[2], "size": len(data), "checksum": md5})
        self.json({"id": int(record), "files": entries})

    def releases(self, owner: str, repository: str, tag: str = "") -> None:
        found: dict[str, list[dict[str, Any]]] = {}
        for path, data in self.hub.files.items():
            parts = path.split("/")
            if parts[:3] == ["github", owner, repository] and tag in ("", parts[3]):
                sha256 = f"sha256:{hashlib.sha256(data).hexdigest()}"
                asset = {"name": parts[4], "size": len(data), "digest": sha256}
                found.setdefault(parts[3], []).append(asset | {"browser_download_url": f"{self.hub.site}/moved/{path}"})
        listed = [{"tag_name": name, "assets": assets} for name, assets in found.items()]
        self.send(json.dumps(listed[0] if tag else listed).encode(), 200, {"Content-Type": "application/json"})

    def moved(self, path: str) -> None:
        self.send(b"", 302, {"Location": f"{self.hub.other_host}/files/{path}"})

    def record_file(self, record: str, name: str) -> None:
        self.file(f"zenodo/{record}/{name}")

    def file(self, path: str) -> None:
        if path not in self.hub.files:
            raise Refusal(404, None, "no such file")
        data = self.hub.files[path]
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"Content-Type": "application/octet-stream", **self.hub.headers}
        headers |= {"ETag": tag} if self.hub.tags else {}
        asked, first = self.headers.get("Range"), 0
        if asked and self.hub.ranges and self.headers.get("If-Range") in (None, "", tag):
            first = int(asked.removeprefix("bytes=").rstrip("-"))
            if first >= len(data):
                return self.send(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.send(data[first:], 206 if "Content-Range" in headers else 200, headers)

    routes = [  # noqa: RUF012  as every handler of these servers has them
        ("GET", r"/uc", uc),
        ("GET", r"/download", download),
        ("GET", r"/api/records/(\d+)", record),
        ("GET", r"/records/(\d+)/files/([^/]+)", record_file),
        ("GET", r"/repos/([^/]+)/([^/]+)/releases", releases),
        ("GET", r"/repos/([^/]+)/([^/]+)/releases/tags/([^/]+)", releases),
        ("GET", r"/moved/(.+)", moved),
        ("GET", r"/files/(.+)", file),
    ]
