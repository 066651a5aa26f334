"""One request to the tests' Hub: reading it, who may do what, the way back, and the faults on that way."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub.faults import Fault
from hub.repositories import Account, Commit, Repository

if TYPE_CHECKING:
    from hub.server import HubServer

PIECE = 65536  # bytes per write


@dataclass(frozen=True)
class Request:
    """A line of the server's memory."""

    origin: str  # "hub" or "cdn"
    method: str
    path: str  # without the query
    status: int
    range: str | None
    token: str | None


class Refusal(Exception):
    """An error answer of the Hub: status, X-Error-Code and X-Error-Message."""

    def __init__(self, status: int, code: str | None, message: str, **content: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.content = status, code, message, content


class Frame(BaseHTTPRequestHandler):
    """Reads a request, finds its action in `routes`, lets faults strike, remembers what was answered."""

    protocol_version = "HTTP/1.1"
    hub: HubServer
    origin: str
    routes: list[tuple[str, str, Callable[..., None]]]

    # ------------------------------------------------------------------------------------------------ the frame
    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """The tests read `hub.requests` instead."""

    def _answer(self) -> None:
        split = urlsplit(self.path)
        self.route, self.query = split.path, parse_qs(split.query)
        self.body = self._read_body()
        self.fault: Fault | None = self.hub.faults.strike(self.command, self.route)
        try:
            if self.fault and self.fault.kind == "status":
                raise Refusal(self.fault.status, None, "the server is told to fail")
            for method, pattern, action in self.routes:
                match = re.fullmatch(pattern, self.route)
                if match and self.command in method:
                    return action(self, *(unquote(group or "") for group in match.groups()))
            raise Refusal(404, None, f"nothing here: {self.command} {self.route}")
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self.json({"error": refusal.message, **refusal.content}, refusal.status, headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.hub.requests.append(  # before the client knows of it: a test that has its answer finds it here
            Request(self.origin, self.command, self.route, status, self.headers.get("Range"), self.token)
        )
        if self.fault and self.fault.kind == "trickle":
            self._trickle(self.fault.seconds)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body)

    def _trickle(self, seconds: float) -> None:
        """The head, but for its end, byte by byte."""
        head, self._headers_buffer = b"".join(self._headers_buffer), []
        for place in range(len(head)):
            self.wfile.write(head[place : place + 1])
            self.wfile.flush()
            time.sleep(seconds)

    def _send_body(self, body: bytes) -> None:
        """Write the body, or as much of it as the fault allows."""
        fault = self.fault
        if fault and fault.kind == "flip" and fault.after < len(body):
            body = body[: fault.after] + bytes([body[fault.after] ^ 1]) + body[fault.after + 1 :]
        if fault and fault.kind in ("cut", "reset") and fault.after < len(body):
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            self.close_connection = True
            if fault.kind == "reset":  # linger 0: closing sends RST
                time.sleep(0.05)  # else the client's kernel may throw away what it has not handed over yet
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        piece = fault.after or PIECE if fault and fault.kind == "slow" else len(body) or 1
        for start in range(0, len(body), piece):
            self.wfile.write(body[start : start + piece])
            if fault and fault.kind == "slow":
                self.wfile.flush()
                time.sleep(fault.seconds)

    # ------------------------------------------------------------------------------------------------ who may what
    @property
    def token(self) -> str | None:
        value = self.headers.get("Authorization") or ""
        return value.removeprefix("Bearer ") if value.startswith("Bearer ") else None

    @property
    def account(self) -> Account | None:
        if self.token is None:
            return None
        if self.token not in self.hub.store.accounts:
            raise Refusal(401, None, "Invalid credentials in Authorization header")
        return self.hub.store.accounts[self.token]

    def repository(self, name: str) -> Repository:
        found = self.hub.store.repositories.get(name)
        account = self.account
        if found and found.private and not (account and (found.owner in (account.name, *account.organisations))):
            found = None
        if found is None:  # the Hub does not tell strangers what exists
            raise Refusal(404 if account else 401, "RepoNotFound", "Repository not found")
        return found

    def writable(self, name: str) -> Repository:
        found = self.repository(name)
        if self.account is None:
            raise Refusal(401, None, "Invalid username or password.")
        if not self.account.may_write(found.owner):
            raise Refusal(403, None, f"You don't have the rights to write to {name}")
        return found

    def commit(self, repository: Repository, revision: str) -> Commit:
        found = repository.find(revision or "main")
        if found is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def data(self) -> Any:
        return json.loads(self.body or b"{}")
