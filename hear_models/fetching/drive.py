"""Folders of Google Drive: listed by gdown, which follows their pages when they change; fetched as any other file."""

from __future__ import annotations

import contextlib
import io
import os
import re
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from hear_models.errors import HearModelsError, UsageError
from hear_models.foreign import reason

SITE, VARIABLE = "https://drive.google.com", "HEAR_MODELS_DRIVE"
MOST_FILES = 10_000
QUOTA = re.compile(
    r"quota\s+(has\s+been\s+)?exceeded|too many users have viewed|can't (view or )?download", re.IGNORECASE
)
PRIVATE = re.compile(r"request access|need (access|permission)|sign in", re.IGNORECASE)


class Quota(HearModelsError):
    """The drive does not hand the file out for now."""


def site() -> str:
    """Where files are asked for."""
    return os.environ.get(VARIABLE, SITE).rstrip("/")


def list_folder(address: str) -> list[tuple[str, str]]:
    """(path below the folder, key) of every file, folders in it included.

    Raises:
        UsageError: gdown is not installed.
        HearModelsError: the drive does not list it.
    """
    try:
        import gdown
    except ImportError:
        raise UsageError(
            "A drive's folder is listed by gdown, which is not installed. Install it: pip install 'hear-models[drive]'."
        ) from None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it finds
            found = gdown.download_folder(url=address, skip_download=True, quiet=True, use_cookies=False)
        files = [(str(file.path).replace(os.sep, "/"), str(file.id)) for file in found or ()]
    except Exception as error:  # of gdown, requests, bs4: their classes change
        raise HearModelsError(f"{address} could not be listed: {reason(error)}.") from None
    if not files:
        raise HearModelsError(f"{address} lists no file.")
    if len(files) > MOST_FILES:
        raise HearModelsError(f"{address} lists more than {MOST_FILES:,} files.")
    for path, key in files:
        parts = path.split("/")
        if any(part in ("", ".", "..") or not part.isprintable() for part in parts) or not re.fullmatch(r"[\w-]+", key):
            raise HearModelsError(f"{address} lists {path[:100]!r}, which is no path of a file.")
    return files


def file_url(key: str) -> str:
    """Where the file of a key is asked for."""
    return f"{site()}/uc?{urlencode({'id': key, 'export': 'download'})}"


def behind_page(url: str, text: str) -> str:
    """The address behind the page that asks whether a file is wanted though nobody could scan it for viruses.

    Raises:
        Quota: the file was fetched too often lately.
        HearModelsError: another page.
    """
    form = _Form()
    form.feed(text)
    if form.action is not None:
        with contextlib.suppress(ValueError):
            place = urljoin(url, form.action)
            if urlsplit(place).scheme in ("http", "https"):
                fields = urlencode(form.fields)
                return f"{place}{'&' if urlsplit(place).query else '?'}{fields}" if fields else place
    if QUOTA.search(text):
        raise Quota(f"{url}: the drive says that its quota is exceeded: too many people fetched the file lately.")
    if PRIVATE.search(text):
        raise HearModelsError(f"{url}: the drive asks to sign in, so the file is not public.")
    raise HearModelsError(f"{url}: the drive sends a page that this version does not understand instead of the file.")


class _Form(HTMLParser):
    """The form `download-form` of a page: where it leads, and its hidden fields."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        if tag == "form" and said.get("id") in ("download-form", "downloadForm"):
            self.inside, self.action = True, said.get("action") or ""
        elif tag == "input" and self.inside and said.get("type") == "hidden" and said.get("name"):
            self.fields[str(said["name"])] = said.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False
