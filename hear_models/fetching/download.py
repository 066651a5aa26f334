"""Large files over HTTP: resumed where the connection broke, checked, and under their name only when they are whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from hear_models.errors import FileError, HearModelsError
from hear_models.files import open_to_write, sync_folder, write_atomically
from hear_models.foreign import open_plain, parse_json, read_json
from hear_models.version import __version__

ATTEMPTS = 5  # in a row that bring no byte
TIMEOUT_S = 60.0  # without a byte
LONGEST_WAIT_S = 120.0  # that a server may ask for
CHUNK = 1 << 20
BUSY = (408, 425, 429, 500, 502, 503, 504)

LARGEST_PAGE = 1 << 20  # bytes of a web page that are looked at
MOST_PAGES = 3  # on the way to one file
SPARE_BYTES = 16 << 20  # that a disk keeps

Progress = Callable[[int, "int | None"], None]  # bytes that are there, bytes of the whole if known
Page = Callable[[str, str], str]  # address and text of a web page that came instead of the file → where the file is


@dataclass(frozen=True)
class Expected:
    """What is known about a file before it is fetched."""

    n_bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Got:
    """A file that was fetched, or found to be what it should be."""

    n_bytes: int
    md5: str
    sha256: str

    def differs_from(self, expected: Expected) -> str | None:
        """What is not as expected, or None."""
        for name, value in (("n_bytes", "size"), ("md5", "MD5"), ("sha256", "SHA-256")):
            wanted, found = getattr(expected, name), getattr(self, name)
            if wanted is not None and wanted != found:
                return f"its {value} is {found}, it should be {wanted}"
        return None


class Broken(Exception):
    """The transfer ended early; what came is kept."""


def digests(path: Path) -> Got:
    """Size and digests of a file. Raises FileError, OSError."""
    md5, sha256, n_bytes = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with open_plain(path) as file:
        while piece := file.read(CHUNK):
            md5.update(piece)
            sha256.update(piece)
            n_bytes += len(piece)
    return Got(n_bytes, md5.hexdigest(), sha256.hexdigest())


def fetch_json(url: str, most_bytes: int = 4 << 20, pause: Callable[[float], None] | None = None) -> Any:
    """A JSON document of at most `most_bytes`.

    Raises:
        HearModelsError: no connection, another answer, no JSON.
    """

    def ask() -> Any:
        with _open(url, {}) as answer:
            data = answer.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise HearModelsError(f"{url} sends more than {most_bytes:,} bytes. Check the address.")
        try:
            return parse_json(data)
        except (ValueError, RecursionError) as error:
            raise HearModelsError(f"{url} does not send JSON ({error}). Check the address.") from None

    return _persistently(ask, url, pause)


def fetch(
    url: str,
    target: Path,
    expected: Expected,
    progress: Progress = lambda done, whole: None,
    pause: Callable[[float], None] | None = None,
    page: Page | None = None,
) -> Got:
    """Download `url` to `target`, from where an earlier call stopped.

    What has come so far lies in `.NAME.part` beside the target, with a note of what it is part of; it is gone on with
    only if the server says that it is still the same file.

    Args:
        expected: a file that is something else is thrown away.
        page: what a web page in place of the file means: where to go on, or a HearModelsError; None: it is an error.

    Raises:
        HearModelsError: no connection, refused, or not what was expected.
        FileError: it cannot be stored.
    """
    part = target.with_name(f".{target.name}.part")
    transfer = Transfer(url, part, expected, progress, page or _no_page)
    try:
        for _ in range(2):
            resumed = part.exists()
            _persistently(transfer.go_on, url, pause, transfer.size)
            got = digests(part)
            wrong = got.differs_from(expected)
            if wrong is None:
                transfer.finish(target)
                transfer.note.unlink(missing_ok=True)
                return got
            transfer.forget()
            if not resumed:
                break
    except OSError as error:
        raise FileError(
            f"{target} cannot be stored: {error.strerror or error}. Make room, or choose another."
        ) from None
    raise HearModelsError(
        f"{url} is not the file that was announced: {wrong}. It was thrown away. Try again; if that ends here again, "
        "somebody has changed it."
    )


class Transfer:
    """One file on its way."""

    def __init__(self, url: str, part: Path, expected: Expected, progress: Progress, page: Page) -> None:
        self.url, self.part, self.expected, self.progress, self.page = url, part, expected, progress, page
        self.place = url  # of the file itself, behind pages
        self.note = part.with_name(f"{part.name}.json")

    def size(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        """Begin again."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def validator(self) -> str | None:
        """By what the server knows the file of which a part is here; None: nobody can tell."""
        try:
            note = read_json(self.note)
            return str(note["validator"]) if note["url"] == self.url and note["validator"] else None
        except (FileError, KeyError, TypeError):
            return None

    def finish(self, target: Path) -> None:
        """Give the file its name. Raises OSError."""
        with self.part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.part, target)
        sync_folder(target.parent)

    def go_on(self) -> None:
        """Fetch what is missing. Raises Broken if less came, and OSError of the disk."""
        validator, limit = self.validator(), self.expected.n_bytes
        if validator is None or (limit is not None and self.size() > limit):
            self.forget()
        have = self.size()
        if have and have == limit:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": validator or ""} if have else {}
        try:
            answer = self.behind_pages(headers)
        except HTTPError as error:
            if error.code != 416:
                raise
            self.forget()
            raise Broken("the part that is here does not belong to the file any more") from None
        with answer:
            first, whole = _extent(answer.status, answer.headers, self.url)
            if first != have:
                self.forget()
                if first:
                    raise Broken("the server sent another part than it was asked for")
            if limit is not None and whole is not None and whole != limit:
                self.forget()
                raise HearModelsError(f"{self.url} has {whole:,} bytes, {limit:,} were announced. Try again later.")
            make_sure_of_room(self.part.parent, (whole if whole is not None else limit or 0) - self.size())
            note = {"url": self.url, "validator": _validator(answer.headers)}
            write_atomically(self.note, json.dumps(note).encode())
            self.copy(answer, whole if whole is not None else limit)

    def behind_pages(self, headers: dict[str, str]) -> Any:
        """The answer that is the file."""
        for _ in range(MOST_PAGES):
            answer = _open(self.place, headers)
            if not _is_page(answer.headers):
                return answer
            with answer:
                text = answer.read(LARGEST_PAGE).decode("utf-8", "replace")
            self.place = self.page(self.place, text)
        self.place = self.url
        raise Broken("one web page after another came instead of the file")

    def copy(self, answer: Any, whole: int | None) -> None:
        """Append what the server sends, no more than it announced."""
        with os.fdopen(open_to_write(self.part, append=True), "ab") as file:
            done = self.size()
            while True:
                try:
                    piece = answer.read1(CHUNK)  # what has come, before a broken connection loses it
                except (OSError, HTTPException) as error:
                    raise Broken(str(error) or type(error).__name__) from None
                if not piece:
                    break
                if whole is not None and done + len(piece) > whole:
                    self.forget()
                    raise HearModelsError(
                        f"{self.url} sends more than the {whole:,} bytes it announced. Try again later."
                    )
                file.write(piece)
                done += len(piece)
                self.progress(done, whole)
        if whole is not None and done < whole:
            raise Broken(f"it ended after {done:,} of {whole:,} bytes")


def _persistently(
    do: Callable[[], Any],
    url: str,
    pause: Callable[[float], None] | None,
    size: Callable[[], int] = lambda: 0,
) -> Any:
    """Do it again after an end of the connection or a busy server, until `ATTEMPTS` in a row bring nothing."""
    idle, before = 0, size()
    while True:
        try:
            return do()
        except HTTPError as error:
            if error.code not in BUSY:
                raise HearModelsError(
                    f"{url} is refused: {error.code} {error.reason}. Check the address, or try again later."
                ) from None
            reason, wait = f"{error.code} {error.reason}", _asked_wait(error.headers, 2.0**idle)
        except (Broken, URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason, wait = str(getattr(error, "reason", "") or error), 2.0**idle
            if isinstance(getattr(error, "reason", None), socket.gaierror):
                raise HearModelsError(
                    f"{url} cannot be reached: its server's name is not known here ({reason}). This machine seems to "
                    "be offline, or needs a proxy (https_proxy)."
                ) from None
        now = size()
        idle, before = (0, now) if now > before else (idle + 1, now)
        if idle >= ATTEMPTS or wait > LONGEST_WAIT_S:
            kept = f" {now:,} bytes are kept, the same command goes on from there." if now else ""
            raise HearModelsError(f"{url} could not be fetched ({reason}).{kept} Try again later.") from None
        (pause or time.sleep)(wait)


def _open(url: str, headers: dict[str, str]) -> Any:
    """The server's answer. Raises HTTPError, URLError."""
    fixed = {"User-Agent": f"hear-models/{__version__}", "Accept-Encoding": "identity"}
    try:
        answer = build_opener(_SafeRedirects).open(Request(url, headers=fixed | headers), timeout=TIMEOUT_S)
    except ValueError as error:  # of an address that is none, here or where it leads
        raise HearModelsError(f"{url} is, or leads to, no address ({error}). Check it.") from None
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        answer.close()
        raise HearModelsError(f"{url} comes packed, though plain bytes were asked for. Try again later.")
    return answer


class _SafeRedirects(HTTPRedirectHandler):
    """Another address by HTTP, never from an encrypted connection to an open one."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise HearModelsError(
                f"{req.full_url} leads to {newurl[:200]!r}, which is not followed. Check the address."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _extent(status: int, headers: HTTPMessage, url: str) -> tuple[int, int | None]:
    """(the first byte that comes, bytes of the whole file if the server tells)."""
    with suppress(ValueError, AttributeError):
        if status == 200:
            length = headers.get("Content-Length")
            return 0, int(length) if length is not None else None
        if status == 206:
            unit, _, extent = (headers.get("Content-Range") or "").partition(" ")
            places, _, whole = extent.partition("/")
            if unit == "bytes":
                return int(places.partition("-")[0]), None if whole == "*" else int(whole)
    raise HearModelsError(f"{url} answers in a way that is no download (status {status}). Try again later.")


def _is_page(headers: HTTPMessage) -> bool:
    """Whether a web page comes, to be read and not to be kept."""
    kind = headers.get_content_type() if headers.get("Content-Type") else ""
    return kind in ("text/html", "application/xhtml+xml") and headers.get_content_disposition() != "attachment"


def _no_page(url: str, text: str) -> str:
    raise HearModelsError(f"{url} sends a web page instead of the file. Check the address, or open it in a browser.")


def make_sure_of_room(folder: Path, n_bytes: int) -> None:
    """FileError if a disk has not so many bytes to spare."""
    free = shutil.disk_usage(folder).free
    if n_bytes + SPARE_BYTES > free:
        raise FileError(
            f"{folder} has {free / 1e9:.1f} GB free, {n_bytes / 1e9:.1f} are still to come. Make room, or choose "
            "another folder."
        )


def _validator(headers: HTTPMessage) -> str | None:
    """What names this state of the file: a strong ETag, or its time."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    time_of = headers.get("Last-Modified")
    return str(time_of) if time_of else None


def _asked_wait(headers: Message, otherwise: float) -> float:
    """Seconds that a busy server asks for: a number, or a date."""
    asked = headers.get("Retry-After")
    if asked is None:
        return otherwise
    with suppress(ValueError):
        return max(0.0, float(asked))
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return otherwise
