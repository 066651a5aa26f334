"""A small Hub-compatible HTTP server for tests: what huggingface_hub needs to download and to upload a model.

It speaks the parts of the Hub's API that the real client uses for models: model info, files by revision (HEAD and GET
of `resolve`, large ones by a redirect to a second origin, as the Hub redirects to its CDN), ranges, repositories,
branches, tags, pre-upload, LFS (single and multipart), commits, validation of a card's metadata, gated and private
repositories with the Hub's error headers. Xet is not spoken: clients run with HF_HUB_DISABLE_XET=1.

    with HubServer() as hub:
        hub.store.repository("org/model", {"model.safetensors": data})
        os.environ["HF_ENDPOINT"] = hub.endpoint          # before huggingface_hub is imported

`python tests/hub/server.py FOLDER` serves FOLDER/ORG/NAME/FILES until Ctrl-C, to try things by hand.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

if __name__ == "__main__":  # started as a script: the folder above holds the package
    sys.path.insert(0, str(Path(__file__).parents[1]))

from hub.api import Api
from hub.faults import Faults
from hub.frame import Request
from hub.repositories import Account, Store

MULTIPART_BYTES = 64_000_000  # larger uploads come in parts of this size


class HubServer:
    """Two origins on 127.0.0.1, the Hub and its CDN, over one `store`; a context manager."""

    def __init__(self) -> None:
        self.store = Store()
        self.faults = Faults()
        self.requests: list[Request] = []
        self.multipart_bytes = MULTIPART_BYTES
        self._servers: list[ThreadingHTTPServer] = []
        self.endpoint = self.cdn = ""

    def start(self) -> HubServer:
        self.endpoint = f"http://127.0.0.1:{self._listen('hub')}"
        self.cdn = f"http://localhost:{self._listen('cdn')}"  # another name: no token may follow a redirect to it
        return self

    def stop(self) -> None:
        """No connection is accepted any more: what follows meets "connection refused"."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def account(self, token: str, name: str, *organisations: str, role: str = "write") -> Account:
        self.store.accounts[token] = Account(name, organisations, role)
        return self.store.accounts[token]

    def seen(self, pattern: str, method: str | None = None) -> list[Request]:
        """The requests so far whose path matches."""
        return [r for r in self.requests if re.search(pattern, r.path) and method in (None, r.method)]

    def _listen(self, origin: str) -> int:
        handler = type("Handler", (Api,), {"hub": self, "origin": origin})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads, server.request_queue_size = True, 64
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._servers.append(server)
        return int(server.server_address[1])


def serve(folder: Path) -> None:
    """Every FOLDER/ORG/NAME is a repository; TOKEN is an account that may write everywhere."""
    with HubServer() as hub:
        organisations = sorted(path.name for path in folder.iterdir() if path.is_dir())
        for path in folder.glob("*/*"):
            files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
            hub.store.repository(path.relative_to(folder).as_posix(), files)
        hub.account("TOKEN", "tester", *organisations)
        print(f"export HF_ENDPOINT={hub.endpoint} HF_HUB_DISABLE_XET=1", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
