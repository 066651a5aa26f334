"""An answer that trickles ends in time: all reads of a watched HTTP client share one deadline.

The timeouts of HTTP libraries begin anew with every byte; a server that sends the lines of its header one by one could
keep a command waiting for ever.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

_until: ContextVar[float | None] = ContextVar("hear_models_deadline", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Whatever a watched client reads and writes here, in this thread, ends by then: a timeout of its library."""
    until, outer = time.monotonic() + seconds, _until.get()
    token = _until.set(until if outer is None else min(until, outer))
    try:
        yield
    finally:
        _until.reset(token)


def begin(seconds: float | None) -> None:
    """A deadline from now on, until the next call: for hooks, which do not enclose what they are called around."""
    _until.set(None if seconds is None else time.monotonic() + seconds)


def watch(client: Any) -> Any:
    """The client (httpx, httpx2), its connections held to the deadline from now on."""
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None and not isinstance(backend, _Backend):
            pool._network_backend = _Backend(backend)
    return client


class _Backend:
    """httpcore's interface to the network."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.errors = sys.modules[type(inner).__module__.partition(".")[0]]

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **more: Any) -> _Stream:
        """As of the library."""
        left = _left(timeout, self.errors.ConnectTimeout)
        return _Stream(self.inner.connect_tcp(host, port, timeout=left, **more), self.errors)

    def connect_unix_socket(self, path: str, timeout: float | None = None, **more: Any) -> _Stream:
        """As of the library."""
        left = _left(timeout, self.errors.ConnectTimeout)
        return _Stream(self.inner.connect_unix_socket(path, timeout=left, **more), self.errors)

    def sleep(self, seconds: float) -> None:
        """As of the library."""
        self.inner.sleep(seconds)


class _Stream:
    """One connection."""

    def __init__(self, inner: Any, errors: Any) -> None:
        self.inner, self.errors = inner, errors

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """As of the library."""
        data: bytes = self.inner.read(max_bytes, _left(timeout, self.errors.ReadTimeout))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As of the library."""
        self.inner.write(buffer, _left(timeout, self.errors.WriteTimeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        """As of the library."""
        left = _left(timeout, self.errors.ConnectTimeout)
        return _Stream(self.inner.start_tls(ssl_context, server_hostname, left), self.errors)

    def close(self) -> None:
        """As of the library."""
        self.inner.close()

    def get_extra_info(self, info: str) -> Any:
        """As of the library."""
        return self.inner.get_extra_info(info)


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    """The smaller of a timeout and what is left of the deadline."""
    until = _until.get()
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise error("the answer did not come in time")
    return left if timeout is None else min(timeout, left)
