"""Answers of web servers, by the HTTP library that huggingface_hub brings: plain bytes, bounded in time."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from hear_models.errors import HearModelsError
from hear_models.fetching.deadlines import watch, within
from hear_models.version import __version__

ATTEMPTS = 5  # in a row that bring no more than a drip would
TIMEOUT_S = 60.0  # without a byte, and for all of an answer's head
SLOWEST = 1024  # bytes a second of a file, over TIMEOUT_S
LONGEST_WAIT_S = 120.0  # that a server may ask for
MOST_DETOURS = 10
BUSY = (408, 425, 429, 500, 502, 503, 504)


class Refused(Exception):
    """An answer that is none of those that were hoped for."""

    def __init__(self, answer: Any) -> None:
        super().__init__(f"{answer.status_code} {answer.reason_phrase}".strip())
        self.status, self.headers = int(answer.status_code), answer.headers


class Broken(Exception):
    """The transfer ended early; what came is kept."""


class Slow(Broken):
    """It comes, but so slowly that it is not waited for."""


def library() -> Any:
    """httpx2, which newer versions of huggingface_hub bring, or httpx, which older ones do."""
    try:
        import httpx2 as found
    except ImportError:
        import httpx as found  # type: ignore[no-redef]
    return found


@contextlib.contextmanager
def answer_of(url: str, headers: dict[str, str], good: tuple[int, ...] = (200,)) -> Iterator[Any]:
    """A server's answer, whose body is still to come (`pieces`, or `text_of`).

    Raises:
        Refused: another status; Broken: no answer, or none in time.
        HearModelsError: no address, one that is not followed, a name that is not known here, packed bytes.
    """
    httpx = library()
    fixed = {"User-Agent": f"hear-models/{__version__}", "Accept-Encoding": "identity"}
    with _client(httpx, url) as client:
        try:
            with within(TIMEOUT_S):
                answer = client.send(client.build_request("GET", url, headers=fixed | headers), stream=True)
                for _ in range(MOST_DETOURS):
                    if answer.next_request is None:
                        break
                    _refuse_detour(answer)
                    answer.close()
                    answer = client.send(answer.next_request, stream=True)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.RemoteProtocolError, ValueError) as error:
            if isinstance(error, httpx.RemoteProtocolError) and "URL" not in str(error):
                raise Broken(_said(error)) from error
            raise HearModelsError(f"{url} is, or leads to, no address ({error}). Check it.") from None
        except httpx.TransportError as error:
            _refuse_for_good(url, error)
            raise Broken(_said(error)) from error
        with contextlib.closing(answer):
            if answer.status_code not in good:
                raise Refused(answer)
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise HearModelsError(f"{url} comes packed, though plain bytes were asked for. Try again later.")
            yield answer


def pieces(answer: Any) -> Iterator[bytes]:
    """The bytes of a file, as they come. Raises Broken; Slow if over TIMEOUT_S less came than SLOWEST asks for."""
    came, since = 0, time.monotonic()
    try:
        for piece in answer.iter_raw():
            yield piece
            came += len(piece)
            now = time.monotonic()
            if now - since > TIMEOUT_S:
                if came < SLOWEST * (now - since):
                    raise Slow(f"it brings less than {SLOWEST:,} bytes a second")
                came, since = 0, now
    except library().TransportError as error:
        raise Broken(_said(error)) from error


def text_of(url: str, most_bytes: int) -> bytes:
    """A document. Raises as `answer_of`; HearModelsError if it has more than `most_bytes`."""
    with within(TIMEOUT_S), answer_of(url, {}) as answer:
        return body_of(answer, url, most_bytes)


def body_of(answer: Any, url: str, most_bytes: int) -> bytes:
    """The rest of an answer. HearModelsError if it has more than `most_bytes`."""
    data = b""
    with within(TIMEOUT_S):
        for piece in pieces(answer):
            data += piece
            if len(data) > most_bytes:
                raise HearModelsError(f"{url} sends more than {most_bytes:,} bytes. Check the address.")
    return data


def persistently(
    do: Callable[[], Any],
    url: str,
    pause: Callable[[float], None] | None,
    size: Callable[[], int] = lambda: 0,
) -> Any:
    """Do it again after an end of the connection or a busy server, until `ATTEMPTS` in a row bring nothing.

    Args:
        size: bytes that are there; what a drip brings in the time between two attempts counts as nothing.
    """
    idle, before = 0, size()
    while True:
        try:
            return do()
        except Refused as error:
            if error.status not in BUSY:
                raise HearModelsError(f"{url} is refused: {error}. Check the address, or try again later.") from None
            reason, wait, slow = str(error), _asked_wait(error.headers, 2.0**idle), False
        except Broken as error:
            reason, wait, slow = str(error), 2.0**idle, isinstance(error, Slow)
        now = size()
        if now >= before + SLOWEST * TIMEOUT_S and not slow:
            idle, before = 0, now
        else:
            idle += 1
        if idle >= ATTEMPTS or wait > LONGEST_WAIT_S:
            kept = f" {now:,} bytes are kept, the same command goes on from there." if now else ""
            raise HearModelsError(f"{url} could not be fetched ({reason}).{kept} Try again later.") from None
        (pause or time.sleep)(wait)


@contextlib.contextmanager
def _client(httpx: Any, url: str) -> Iterator[Any]:
    try:
        client = watch(httpx.Client(follow_redirects=False, timeout=TIMEOUT_S, verify=_trusted()))
    except (ValueError, ImportError, httpx.InvalidURL) as error:  # of https_proxy and its like
        raise HearModelsError(f"{url} cannot be asked for: the proxy's settings are wrong ({error}).") from None
    with client:
        yield client


@functools.lru_cache(maxsize=1)
def _trusted() -> Any:
    """The certificates that are believed; reading them takes longer than an answer."""
    return library().create_ssl_context()


def _refuse_detour(answer: Any) -> None:
    """Another address by HTTP is followed, never from an encrypted connection to an open one."""
    old, new = answer.request.url.scheme, answer.next_request.url.scheme
    if new not in ("http", "https") or (old == "https" and new == "http"):
        there = str(answer.next_request.url)[:200]
        raise HearModelsError(f"{answer.request.url} leads to {there!r}, which is not followed. Check the address.")


def _refuse_for_good(url: str, error: BaseException) -> None:
    """HearModelsError for what does not change when it is asked again."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            raise HearModelsError(
                f"{url} cannot be reached: its server's name is not known here ({cause.strerror or cause}). This "
                "machine seems to be offline, or needs a proxy (https_proxy)."
            ) from None
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise HearModelsError(
                f"{urlsplit(url).netloc} does not prove who it is ({cause.verify_message}). Check this machine's clock "
                "and its certificates; do not fetch anything there otherwise."
            ) from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _asked_wait(headers: Any, otherwise: float) -> float:
    """Seconds that a busy server asks for: a number, or a date."""
    asked = headers.get("Retry-After")
    if asked is None:
        return otherwise
    with contextlib.suppress(ValueError):
        return max(0.0, float(asked))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return otherwise
