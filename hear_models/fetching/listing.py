"""What lies at an address: the files of a record, a release, a drive's folder, or one file, before any is fetched."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from hear_models.errors import HearModelsError, UsageError
from hear_models.fetching import drive
from hear_models.fetching.download import Expected, Page, fetch_json
from hear_models.files import shown

ZENODO, ZENODO_VARIABLE = "https://zenodo.org", "HEAR_MODELS_ZENODO"  # another server that speaks so, say a mirror
GITHUB, GITHUB_VARIABLE = "https://api.github.com", "HEAR_MODELS_GITHUB"
MOST_RELEASES = 100
Pause = Callable[[float], None] | None


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched."""

    path: str  # below the address, with "/"
    url: str
    expected: Expected
    page: Page | None = None  # what web pages mean that come in its place

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class Place:
    """An address, understood."""

    kind: str  # "drive", "zenodo", "github", "file"
    address: str  # as a person opens it
    key: tuple[str, ...]  # drive: (folder,); zenodo: (record,); github: (owner, repository, tag or ""); file: (url,)

    @property
    def folder(self) -> str:
        """A name for a folder of its files."""
        return re.sub(r"[^\w.-]+", "-", "-".join([self.kind, *self.key]).strip("-"), flags=re.ASCII)[-120:].lstrip(".-")

    def files(self, pause: Pause = None) -> list[Remote]:
        """What can be fetched there. HearModelsError: no answer, or none that can be understood."""
        return _LISTS[self.kind](self, pause)


def place_of(address: str) -> Place:
    """What an address means: a drive's folder, a Zenodo record or DOI, a repository's releases, or a file.

    Raises UsageError for what is no http(s) address.
    """
    try:
        split = urlsplit(address)
    except ValueError:
        split = urlsplit("")
    if split.scheme not in ("http", "https") or not split.netloc or not address.isprintable() or " " in address:
        raise UsageError(f"{shown(address)} is no address. It begins with https://.")
    host = split.hostname or ""
    if host == "drive.google.com" and (match := re.search(r"/folders/([\w-]{10,})", split.path)):
        return Place("drive", address, (match[1],))
    for pattern in (r"10\.5281/zenodo\.(\d+)", r"/records?/(\d+)$"):
        if host in ("doi.org", "zenodo.org", "www.zenodo.org") and (
            match := re.search(pattern, split.path.rstrip("/"))
        ):
            return Place("zenodo", address, (match[1],))
    if host == "github.com" and (
        match := re.fullmatch(r"/([\w.-]+)/([\w.-]+)/releases(?:/tag/([^/]+))?/?", split.path)
    ):
        return Place("github", address, (match[1], match[2], match[3] or ""))
    return Place("file", address, (address.partition("://")[2],))


def zenodo_site() -> str:
    """Where records are asked for."""
    return os.environ.get(ZENODO_VARIABLE, ZENODO).rstrip("/")


def _record(place: Place, pause: Pause) -> list[Remote]:
    (record,) = place.key
    url = f"{zenodo_site()}/api/records/{record}"
    document = fetch_json(url, pause=pause)

    def one(entry: dict[str, Any]) -> Remote:
        name = _name(entry.get("key") or entry.get("filename"))
        kind, _, digest = str(entry.get("checksum") or "").rpartition(":")
        md5 = digest if kind in ("md5", "") and re.fullmatch(r"[0-9a-f]{32}", digest) else None
        where = f"{zenodo_site()}/records/{record}/files/{quote(name)}?download=1"
        return Remote(name, where, Expected(_size(entry.get("size", entry.get("filesize"))), md5))

    return _each(one, lambda: document["files"], url)


def _releases(place: Place, pause: Pause) -> list[Remote]:
    owner, repository, tag = place.key
    site = os.environ.get(GITHUB_VARIABLE, GITHUB).rstrip("/")
    end = f"/tags/{quote(unquote(tag))}" if tag else f"?per_page={MOST_RELEASES}"
    url = f"{site}/repos/{owner}/{repository}/releases{end}"
    document = fetch_json(url, pause=pause)

    def one(entry: dict[str, Any]) -> Remote:
        kind, _, digest = str(entry.get("digest") or "").partition(":")
        sha256 = digest if kind == "sha256" and re.fullmatch(r"[0-9a-f]{64}", digest) else None
        where = entry["browser_download_url"]
        if not str(where).startswith(("https://", "http://")):
            raise ValueError(f"an address {str(where)[:60]!r}")
        return Remote(_name(entry["name"]), where, Expected(_size(entry.get("size")), None, sha256))

    releases = [document] if tag else document
    return _each(one, lambda: [asset for release in releases for asset in release["assets"]], url)


def _folder(place: Place, pause: Pause) -> list[Remote]:
    found = drive.list_folder(place.address)
    return [Remote(path, drive.file_url(key), Expected(), drive.behind_page) for path, key in found]


def _file(place: Place, pause: Pause) -> list[Remote]:
    name = unquote(PurePosixPath(urlsplit(place.address).path).name)
    if not _is_name(name):
        raise UsageError(f"{place.address} does not end in the name of a file. Give the address of the file itself.")
    return [Remote(name, place.address, Expected())]


_LISTS: dict[str, Callable[[Place, Pause], list[Remote]]] = {
    "zenodo": _record,
    "github": _releases,
    "drive": _folder,
    "file": _file,
}


def _each(
    one: Callable[[dict[str, Any]], Remote], entries: Callable[[], Iterable[dict[str, Any]]], url: str
) -> list[Remote]:
    try:
        return [one(entry) for entry in entries()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HearModelsError(f"{url} does not list files as it should ({error!r}). Try again later.") from None


def _name(name: object) -> str:
    if not isinstance(name, str) or not _is_name(name):
        raise ValueError(f"a file called {str(name)[:60]!r}")
    return name


def _is_name(name: str) -> bool:
    """Whether a stranger's name may be that of a file here."""
    return bool(re.fullmatch(r"[\w+=-][\w.+=-]{0,199}", name, re.ASCII))


def _size(size: object) -> int | None:
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ValueError(f"a size of {size!r}")
    return size
