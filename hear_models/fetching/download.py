"""Large files over HTTP: resumed where the connection broke, checked, and under their name only when they are whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_models.errors import FileError, HearModelsError
from hear_models.fetching.web import Broken, Refused, answer_of, body_of, persistently, pieces, text_of
from hear_models.files import GrowingFile, growing_file
from hear_models.foreign import open_plain, parse_json

CHUNK = 1 << 20
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
        data = text_of(url, most_bytes)
        try:
            return parse_json(data)
        except (ValueError, RecursionError) as error:
            raise HearModelsError(f"{url} does not send JSON ({error}). Check the address.") from None

    return persistently(ask, url, pause)


def fetch(
    url: str,
    target: Path,
    expected: Expected,
    progress: Progress = lambda done, whole: None,
    pause: Callable[[float], None] | None = None,
    page: Page | None = None,
) -> Got:
    """Download `url` to `target`, from where an earlier call stopped.

    What has come so far lies beside the target (`GrowingFile`), with a note of what it is part of; it is gone on with
    only if the server says that it is still the same file.

    Args:
        expected: a file that is something else is thrown away.
        page: what a web page in place of the file means: where to go on, or a HearModelsError; None: it is an error.

    Raises:
        HearModelsError: no connection, refused, or not what was expected.
        FileError: it cannot be stored.
    """
    try:
        with growing_file(target) as part:
            transfer = Transfer(url, part, expected, progress, page or _no_page)
            for _ in range(2):
                resumed = part.size() > 0
                persistently(transfer.go_on, url, pause, part.size)
                got = digests(part.path)
                wrong = got.differs_from(expected)
                if wrong is None:
                    part.finish()
                    return got
                part.forget()
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

    def __init__(self, url: str, part: GrowingFile, expected: Expected, progress: Progress, page: Page) -> None:
        self.url, self.part, self.expected, self.progress, self.page = url, part, expected, progress, page
        self.place = url  # of the file itself, behind pages

    def validator(self) -> str | None:
        """By what the server knows the file of which a part is here; None: nobody can tell."""
        with suppress(ValueError, RecursionError, KeyError, TypeError):
            note = parse_json(self.part.part_of() or b"")
            return str(note["validator"]) if note["url"] == self.url and note["validator"] else None
        return None

    def go_on(self) -> None:
        """Fetch what is missing. Raises Broken if less came, Refused, and OSError of the disk."""
        validator, limit, part = self.validator(), self.expected.n_bytes, self.part
        if validator is None or (limit is not None and part.size() > limit):
            part.forget()
        have = part.size()
        if have and have == limit:
            return
        headers = {"Range": f"bytes={have}-", "If-Range": validator or ""} if have else {}
        try:
            with self.behind_pages(headers) as answer:
                first, whole = _extent(answer, self.url)
                if first != have:
                    part.forget()
                    if first:
                        raise Broken("the server sent another part than it was asked for")
                if limit is not None and whole is not None and whole != limit:
                    part.forget()
                    raise HearModelsError(f"{self.url} has {whole:,} bytes, {limit:,} were announced. Try again later.")
                whole = whole if whole is not None else limit
                make_sure_of_room(part.path.parent, (whole or 0) - part.size())
                part.begin(json.dumps({"url": self.url, "validator": _validator(answer.headers)}).encode())
                self.copy(answer, whole)
        except Refused as refused:
            if refused.status != 416:
                raise
            part.forget()
            raise Broken("the part that is here does not belong to the file any more") from None

    @contextmanager
    def behind_pages(self, headers: dict[str, str]) -> Iterator[Any]:
        """The answer that is the file."""
        for _ in range(MOST_PAGES):
            with answer_of(self.place, headers, good=(200, 206)) as answer:
                if not _is_page(answer.headers):
                    yield answer
                    return
                text = body_of(answer, self.place, LARGEST_PAGE).decode("utf-8", "replace")
            self.place = self.page(self.place, text)
        self.place = self.url
        raise Broken("one web page after another came instead of the file")

    def copy(self, answer: Any, whole: int | None) -> None:
        """Append what the server sends, no more than it announced."""
        done = self.part.size()
        looked = done
        with self.part.appending() as file:
            for piece in pieces(answer):
                if whole is not None and done + len(piece) > whole:
                    self.part.forget()
                    raise HearModelsError(
                        f"{self.url} sends more than the {whole:,} bytes it announced. Try again later."
                    )
                file.write(piece)
                done += len(piece)
                self.progress(done, whole)
                if whole is None and done - looked > SPARE_BYTES:  # nobody knows when it ends
                    make_sure_of_room(self.part.path.parent, 0)
                    looked = done
        if whole is not None and done < whole:
            raise Broken(f"it ended after {done:,} of {whole:,} bytes")


def _extent(answer: Any, url: str) -> tuple[int, int | None]:
    """(the first byte that comes, bytes of the whole file if the server tells)."""
    headers = answer.headers
    with suppress(ValueError, AttributeError):
        if answer.status_code == 200:
            length = headers.get("Content-Length")
            return 0, int(length) if length is not None else None
        unit, _, extent = (headers.get("Content-Range") or "").partition(" ")
        places, _, whole = extent.partition("/")
        if unit == "bytes":
            return int(places.partition("-")[0]), None if whole == "*" else int(whole)
    raise HearModelsError(f"{url} answers in a way that is no download (status {answer.status_code}). Try again later.")


def _is_page(headers: Any) -> bool:
    """Whether a web page comes, to be read and not to be kept."""
    kind, disposition = (
        headers.get(name, "").partition(";")[0].strip().lower() for name in ("Content-Type", "Content-Disposition")
    )
    return kind in ("text/html", "application/xhtml+xml") and disposition != "attachment"


def _no_page(url: str, text: str) -> str:
    raise HearModelsError(f"{url} sends a web page instead of the file. Check the address, or open it in a browser.")


def _validator(headers: Any) -> str | None:
    """What names this state of the file: a strong ETag, or its time."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    time_of = headers.get("Last-Modified")
    return str(time_of) if time_of else None


def make_sure_of_room(folder: Path, n_bytes: int) -> None:
    """FileError if a disk has not so many bytes to spare."""
    free = shutil.disk_usage(folder).free
    if n_bytes + SPARE_BYTES > free:
        raise FileError(
            f"{folder} has {free / 1e9:.1f} GB free, {n_bytes / 1e9:.1f} are still to come. Make room, or choose "
            "another folder."
        )
