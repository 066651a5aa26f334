"""What was fetched: a list, its removal, and a report that can be pasted into an issue: no paths, no tokens."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hear_models.checkpoints.manifest import Manifest, fetched_file
from hear_models.checkpoints.readers import reader_for
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import FileError, HearModelsError, UsageError
from hear_models.fetching.download import digests
from hear_models.fetching.listing import place_of
from hear_models.files import remove_folder
from hear_models.foreign import read_json
from hear_models.locks import beside, only_writer
from hear_models.resources import cache_folder
from hear_models.version import __version__
from hear_models.zoo.families import officials
from hear_models.zoo.fetch import PASSPORT, REPORT, original_of, originals_folder
from hear_models.zoo.originals import candidates
from hear_models.zoo.registry import ModelEntry, find_entry, list_models

PACKAGES = ("torch", "numpy", "safetensors", "msgpack", "soundfile", "soxr", "gdown")


@dataclass(frozen=True)
class Fetchable:
    """A line of `hear-models fetch --list`."""

    name: str
    state: str  # "fetched", "begun" (something lies here), "-"
    bytes_here: int
    source: str  # "drive", "zenodo", "github", "file"
    date: str | None
    licence: str


def fetchable() -> list[Fetchable]:
    """Every model whose authors publish weights."""
    return [_line(entry) for entry in list_models() if entry.manifest.status == "unpublished"]


def _line(entry: ModelEntry) -> Fetchable:
    place = place_of(original_of(entry).address)
    converted, date = fetched_file(entry.name), None
    here = _size(converted.parent)
    if converted.is_file():
        try:
            date = str(dict(read_header(converted).notes.get(PASSPORT) or {}).get("date") or "") or None
            state = "fetched"
        except HearModelsError:
            state = "damaged"
    else:
        here += sum(_size(folder) for folder in _work(entry))
        state = "begun" if here else "-"
    return Fetchable(entry.name, state, here, place.kind, date, entry.licence)


def remove(name: str) -> int:
    """Delete what was fetched of a model; returns the bytes. The lock file keeps its digests.

    Raises UsageError if there is nothing, FileError if it cannot be deleted.
    """
    entry = find_entry(name)
    original_of(entry)
    converted = fetched_file(name).parent
    gone = [folder for folder in (converted, *_work(entry)) if folder.is_dir()]
    if not gone:
        raise UsageError(f"nothing of {name} was fetched. `hear-models fetch --list` shows what is here.")
    n_bytes = sum(_size(folder) for folder in gone)
    for folder in gone:
        with only_writer(beside(folder), folder, "HEAR_MODELS_CACHE"):
            try:
                remove_folder(folder)
            except OSError as error:
                raise FileError(
                    f"{folder} cannot be deleted: {error.strerror or error}. Check its permissions."
                ) from None
    return n_bytes


def _work(entry: ModelEntry) -> list[Path]:
    return [originals_folder() / entry.name, originals_folder() / place_of(original_of(entry).address).folder]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


# ------------------------------------------------------------------------------------------------------------ report
def report(name: str, by_hand: Path | None = None) -> str:
    """Keys, shapes, dtypes, hashes and versions: of the conversion, else of the official file that lies here."""
    entry = find_entry(name)
    manifest = entry.manifest
    lines = [f"hear-models fetch {name} --report", "", *_versions(), "", *_source(manifest)]
    stored = fetched_file(name).parent / REPORT
    if by_hand is None and stored.is_file():
        lines += list(_converted(read_json(stored), fetched_file(name)))
    else:
        lines += list(_as_it_came(entry, by_hand))
    return without_paths("\n".join(lines) + "\n")


def without_paths(text: str) -> str:
    """A text without folders of this machine, and without what looks like a token."""
    for folder in sorted({str(cache_folder()), str(Path.home()), str(Path.cwd())}, key=len, reverse=True):
        if len(folder) > 1:
            text = text.replace(folder, "...")
    text = re.sub(r"(?<![\w:/.])(?:/[^/\s'\"]+){2,}/", ".../", text)
    text = re.sub(r"(?i)\b[a-z]:\\(?:[^\\\s'\"]+\\)*", "...\\\\", text)
    return re.sub(r"\b(hf_|gh[pousr]_|github_pat_|ya29\.)[\w-]{8,}", r"\1...", text)


def _versions() -> Iterator[str]:
    yield f"hear-models {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    yield ", ".join(found)


def _source(manifest: Manifest) -> Iterator[str]:
    if manifest.original is not None:
        yield f"family {manifest.family}; official: {manifest.original.address}, {manifest.original.folder}"
        yield f"said to be: {manifest.original.format}; {manifest.original.expects}"


def _converted(stored: dict[str, Any], file: Path) -> Iterator[str]:
    done = stored["conversion"]
    passport = dict(read_header(file).notes.get(PASSPORT) or {})
    for name, entry in dict(passport.get("files") or {}).items():
        yield f"file: {name}, {entry['bytes']:,} bytes, sha256 {entry['sha256']}, {passport.get('date')}"
    yield f"checkpoint: {json.dumps(done['source'], sort_keys=True)}"
    yield f"converted: sha256 {done['sha256']}, {done['parameters']:,} parameters, {', '.join(done['parts'])}"
    yield f"configuration: {json.dumps(done['config'], sort_keys=True)}"
    yield f"self-check: neighbours {stored['check']['neighbours']}"
    for row in stored["check"]["statistics"]:
        yield (
            f"  {row['recording']}: mean {row['mean']:g}, deviation {row['deviation']:g}, "
            f"from {row['smallest']:g} to {row['largest']:g}"
        )
    yield f"not needed: {', '.join(done['ignored']) or 'nothing'}"
    for note in done["notes"]:
        yield f"note: {note}"
    yield "keys:"
    for row in done["rows"]:
        yield f"  {row['official']} {row['shape']} {row['dtype']} -> {row['name']}, {row['operation']}"


def _as_it_came(entry: ModelEntry, by_hand: Path | None) -> Iterator[str]:
    """Of files that were not converted, or could not be."""
    original = original_of(entry)
    roots = [by_hand] if by_hand is not None else [folder for folder in _work(entry) if folder.is_dir()]
    if not roots:
        raise UsageError(f"nothing of {entry.name} is here to report. Fetch it, or add --from FILE_OR_FOLDER.")
    for root in roots:
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        paths = {path.relative_to(root).as_posix() if path != root else path.name: path for path in files}
        for name, path in paths.items():
            got = digests(path)
            yield f"file: {name}, {got.n_bytes:,} bytes, sha256 {got.sha256}"
        try:
            chosen = [root.name] if root.is_file() else [one.path for one in candidates(list(paths), original)]
        except UsageError as error:
            yield f"no checkpoint: {error}"
            continue
        for name in chosen:
            yield from _keys(entry, name, paths[name])


def _keys(entry: ModelEntry, name: str, path: Path) -> Iterator[str]:
    for official in officials(entry.family):
        try:
            source = reader_for(path, official)(path, official, None)
        except HearModelsError as error:
            yield f"{name} as a file of {official.format}: {error}"
            continue
        yield f"{name} as a file of {official.format}: {json.dumps(source.description, sort_keys=True, default=str)}"
        yield f"beside the tensors: {', '.join(source.ignored) or 'nothing'}"
        for key, array in source.arrays.items():
            yield f"  {key} {list(array.values.shape)} {array.dtype}"
