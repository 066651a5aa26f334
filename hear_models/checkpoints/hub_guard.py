"""What the Hub, or whoever answers in its place, may tell huggingface_hub: checked before the library acts on it.

The library makes paths out of a commit and an ETag that it is told, reads an answer into memory however long it is, and
writes a file as long as bytes come. While `guarded` lasts, its answers in this thread are held to what is plausible.
All bytes come by HTTP then: transfers by Xet are done by another program, to which none of this applies.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from hear_models.errors import CheckpointError
from hear_models.fetching.deadlines import begin, watch

COMMIT, ETAG = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
LARGEST_ANSWER = 32 << 20  # bytes of anything but a file
LARGEST_FILE = 16 << 30
ANSWER_S = 60.0  # that an answer may take in all, and the head of a file's
SLOWEST = 1024.0  # bytes a second of a file, on average, after the first ANSWER_S
ADVICE = "Check HF_ENDPOINT and the network; if that is the Hub itself, report it there."


class HubLiesError(CheckpointError):
    """An answer that no honest Hub gives."""


@dataclass
class _Guard:
    """What was announced in this block of code."""

    announced: int | None = None  # bytes of the file


_active: ContextVar[_Guard | None] = ContextVar("hear_models_hub_guard", default=None)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Check every answer that huggingface_hub gets in this thread; HubLiesError where the library would go on."""
    _install()
    token = _active.set(_Guard())
    try:
        with _without_xet():
            yield
    finally:
        begin(None)
        _active.reset(token)


_xet_lock, _xet_users, _xet_before = threading.Lock(), 0, False
XET_VARIABLE = "HF_HUB_DISABLE_XET"  # of the library; who sets it, to 0 or 1, has decided


@contextlib.contextmanager
def _without_xet() -> Iterator[None]:
    """The library's own switch, for as long as any thread is in here."""
    from huggingface_hub import constants

    global _xet_users, _xet_before
    if XET_VARIABLE in os.environ or not hasattr(constants, XET_VARIABLE):
        yield
        return
    with _xet_lock:
        if not _xet_users:
            _xet_before = getattr(constants, XET_VARIABLE)
        setattr(constants, XET_VARIABLE, True)
        _xet_users += 1
    try:
        yield
    finally:
        with _xet_lock:
            _xet_users -= 1
            if not _xet_users:
                setattr(constants, XET_VARIABLE, _xet_before)


def _ask_plainly(request: Any) -> None:
    """Nothing packed: a few kilobytes unpack to gigabytes. And a head in time."""
    if _active.get() is not None:
        begin(ANSWER_S)
        request.headers["accept-encoding"] = "identity"


def _look_at(response: Any) -> None:
    """An answer whose head has come, before anybody reads its body."""
    guard = _active.get()
    if guard is None:
        return
    begin(None)  # its body has limits of its own
    headers = response.headers
    packed = headers.get("content-encoding", "identity").lower()
    if packed != "identity":
        raise HubLiesError(f"{_host(response)} sends packed bytes ({packed[:20]}), which nobody asked for. {ADVICE}")
    commit, of_file = headers.get("x-repo-commit"), "/api/" not in response.request.url.path
    if commit and of_file:
        etag = (headers.get("x-linked-etag") or headers.get("etag") or "").removeprefix("W/").strip('"')
        if not COMMIT.fullmatch(commit) or (etag and not ETAG.fullmatch(etag)):
            raise HubLiesError(
                f"{_host(response)} names a file by the commit {commit[:60]!r} and the ETag {etag[:80]!r}, "
                f"which no Hub does. Nothing was written. {ADVICE}"
            )
        if response.request.method == "HEAD":
            size = headers.get("x-linked-size") or headers.get("content-length") or ""
            if not (size.isascii() and size.isdigit() and int(size) <= LARGEST_FILE):
                raise HubLiesError(
                    f"{_host(response)} announces a file of {size[:30] or 'no'} bytes; at most {LARGEST_FILE:,} are "
                    f"fetched. {ADVICE}"
                )
            guard.announced = int(size)
    if of_file and response.request.method == "GET" and guard.announced is not None and not response.is_redirect:
        response.stream = _bounded(response.stream, guard.announced, _host(response), None)
    else:
        response.stream = _bounded(response.stream, LARGEST_ANSWER, _host(response), ANSWER_S)


def _host(response: Any) -> str:
    return str(response.request.url.host)


def _bounded(stream: Any, most: int, host: str, seconds: float | None) -> Any:
    """The bytes of an answer: at most so many, in so much time, or at no slower a rate than any line has."""
    base = next(cls for cls in type(stream).__mro__ if cls.__name__ == "SyncByteStream")

    class Bounded(base):  # type: ignore[misc, valid-type]
        def __iter__(self) -> Iterator[bytes]:
            n_bytes, began = 0, time.monotonic()
            for piece in stream:
                n_bytes += len(piece)
                taken = time.monotonic() - began
                if n_bytes > most:
                    raise HubLiesError(f"{host} sends more than the {most:,} bytes that an answer may have. {ADVICE}")
                late = taken > seconds if seconds else taken > ANSWER_S and n_bytes < SLOWEST * taken
                if late:
                    raise HubLiesError(f"{host} sent {n_bytes:,} bytes in {taken:.0f} s and does not end. {ADVICE}")
                yield piece

        def close(self) -> None:
            stream.close()

    return Bounded()


def _install() -> None:
    """Hooks on the library's session, and on those that it opens later; they do nothing outside of `guarded`."""
    from huggingface_hub.utils import _http, get_session

    factory = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    if factory is not None and not getattr(factory, "guards", False):

        def open_client() -> Any:
            return _with_hooks(factory())

        open_client.guards = True  # type: ignore[attr-defined]
        _http._GLOBAL_CLIENT_FACTORY = open_client
    _with_hooks(get_session())


def _with_hooks(client: Any) -> Any:
    watch(client)
    hooks = client.event_hooks
    if _look_at not in hooks["response"]:
        hooks["request"].append(_ask_plainly)
        hooks["response"].append(_look_at)
    return client
