"""Trust on first use: a file that people share, with the digest of everything that was fetched; later it must agree."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from hear_models.errors import FileError, HearModelsError
from hear_models.fetching.download import Expected, Got
from hear_models.files import shown, write_atomically
from hear_models.foreign import read_json
from hear_models.locks import beside, only_writer

FORMAT = 1


class Changed(HearModelsError):
    """A file is another one than the first time."""


@dataclass(frozen=True)
class Seen:
    """A file as it was the first time."""

    n_bytes: int
    sha256: str
    date: str  # of the first time, YYYY-MM-DD


class KnownFiles:
    """Group (a model, a task) → where from, and its files by name. Every reader and writer sees the newest state."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.groups: dict[str, dict[str, Seen]] = {}
        self.sources: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        if not os.path.lexists(self.path):
            return
        try:
            document = read_json(self.path)
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}")
            for group, entry in document["fetched"].items():
                self.sources[group] = str(entry["source"])
                self.groups[group] = {str(name): _seen(said) for name, said in entry["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(
                f"{shown(self.path)} is no lock file of hear-models ({error!r}). Remove it to trust what is "
                "fetched anew."
            ) from None

    def expected(self, group: str, name: str, listed: Expected) -> Expected:
        """What a file must be: as it was, else as it is listed."""
        seen = self.groups.get(group, {}).get(name)
        return listed if seen is None else Expected(seen.n_bytes, None, seen.sha256)

    def compare(self, group: str, name: str, got: Got) -> None:
        """Raise Changed if the file is known as another one."""
        seen = self.groups.get(group, {}).get(name)
        if seen is not None and (seen.n_bytes, seen.sha256) != (got.n_bytes, got.sha256):
            raise Changed(
                f"{name} of {group} is not the file of {seen.date}: its sha256 is {got.sha256}, {seen.sha256} stands "
                f"in {shown(self.path)}. If you trust the new one, remove {group!r} there, or name another --lock."
            )

    def note(self, group: str, source: str, files: Mapping[str, Got], date: str) -> str:
        """Remember files that are not known yet; returns the date of the first of them. Raises Changed, FileError."""
        with only_writer(beside(self.path), self.path, "--lock", wait=lambda sentence: None):
            self._read()  # what another run noted meanwhile
            for name, got in files.items():
                self.compare(group, name, got)
            of_group = self.groups.setdefault(group, {})
            self.sources.setdefault(group, source)
            new = {name: Seen(got.n_bytes, got.sha256, date) for name, got in files.items() if name not in of_group}
            if new:
                of_group |= new
                write_atomically(self.path, self.text().encode())
            return min(of_group[name].date for name in files) if files else date

    def text(self, groups: Collection[str] | None = None) -> str:
        """The file's content, or that of some groups."""
        fetched = {
            group: {
                "source": self.sources[group],
                "files": {
                    name: {"bytes": seen.n_bytes, "sha256": seen.sha256, "date": seen.date}
                    for name, seen in sorted(files.items())
                },
            }
            for group, files in sorted(self.groups.items())
            if groups is None or group in groups
        }
        return json.dumps({"format": FORMAT, "fetched": fetched}, indent=1) + "\n"


def _seen(said: Mapping[str, object]) -> Seen:
    n_bytes, sha256, date = said["bytes"], said["sha256"], said["date"]
    if not (type(n_bytes) is int and n_bytes >= 0 and re.fullmatch(r"[0-9a-f]{64}", str(sha256))):
        raise ValueError(f"a file of {n_bytes!r} bytes and sha256 {str(sha256)[:70]!r}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(date)):
        raise ValueError(f"a date {str(date)[:20]!r}")
    return Seen(n_bytes, str(sha256), str(date))
