"""Archives of strangers (.tar.gz): plain files below one folder and nothing else, bounded, in place all at once."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hear_models.errors import FileError, HearModelsError
from hear_models.files import shown, whole_folder
from hear_models.foreign import open_plain

CHUNK = 1 << 20
MAX_RATIO = 200  # of bytes unpacked to bytes packed; sound packs to half
SMALL_BYTES = 16 << 20  # below this no ratio is asked for
MAX_MEMBERS = 2_000_000
MAX_HEADER_BYTES = 1 << 20  # of names and attributes that an archive may hold in one piece
MAX_NAME = 240  # bytes of one part of a path


@dataclass(frozen=True)
class Unpacked:
    """A file that was unpacked."""

    name: str  # below the folder, with "/"
    n_bytes: int
    sha256: str


def unpack(
    archive: Path,
    folder: Path,
    progress: Callable[[int], None] = lambda files: None,
    before: Callable[[list[Unpacked]], None] = lambda files: None,
) -> list[Unpacked]:
    """Unpack a .tar.gz to a new folder, which gets its name when everything is there.

    If all that is in the archive lies in a folder of this name, that level is left out.

    Args:
        progress: is told how many files are unpacked.
        before: is told what is there, just before the folder gets its name.

    Raises:
        HearModelsError: a damaged archive, or one with something else than plain files below its top: names that lead
            out of it, links, devices, a name twice, more bytes than honest data could have.
        FileError: the disk is full, or the folder is there already.
    """
    if folder.exists():
        raise FileError(f"{folder} is there already. Move it away, or choose another place.")
    try:
        with whole_folder(folder) as made:
            files = _extract(archive, made, progress)
            if [path.name for path in made.iterdir()] == [folder.name] and (made / folder.name).is_dir():
                files = [Unpacked(file.name.partition("/")[2], file.n_bytes, file.sha256) for file in files]
                _lift(made / folder.name)
            before(files)
        return files
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, UnicodeError, ValueError) as error:
        raise HearModelsError(f"{archive} is damaged ({error}). Fetch it again.") from None
    except OSError as error:
        reason = error.strerror or error
        raise FileError(f"{archive} cannot be unpacked to {folder}: {reason}. Make room, or choose another.") from None


def _lift(folder: Path) -> None:
    """Put what lies in a folder in its place."""
    aside = folder.with_name(f"..{folder.name}")  # no archive can hold this name: see `_safe_name`
    os.rename(folder, aside)
    for path in aside.iterdir():
        os.rename(path, folder.parent / path.name)
    aside.rmdir()


def _extract(archive: Path, made: Path, progress: Callable[[int], None]) -> list[Unpacked]:
    limit = max(SMALL_BYTES, MAX_RATIO * archive.stat().st_size)
    files: list[Unpacked] = []
    taken: dict[str, bool] = {}  # names as a disk that ignores case sees them → whether they are folders
    with open_plain(archive) as file, gzip.GzipFile(fileobj=file) as packed:
        stream = _Bounded(packed, limit, archive)
        with tarfile.open(fileobj=stream, mode="r:", errorlevel=2, encoding="utf-8") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members = []  # of an archive with a million files nothing is kept
                name = _safe_name(member, archive)
                if len(taken) >= MAX_MEMBERS:
                    raise HearModelsError(f"{archive} holds more than {MAX_MEMBERS:,} entries. Do not use it.")
                _claim(name, member.isdir(), taken, archive)
                if member.isdir():
                    (made / name).mkdir(parents=True, exist_ok=True)
                    continue
                files.append(_write(tar, member, made, name))
                progress(len(files))
        while stream.read(CHUNK):  # to the end, where the checksum is
            pass
    return files


def _claim(name: str, is_folder: bool, taken: dict[str, bool], archive: Path) -> None:
    """Refuse a name that is there, or that lies below a file."""
    parts = name.casefold().split("/")
    for depth in range(1, len(parts)):
        if not taken.setdefault("/".join(parts[:depth]), True):
            raise HearModelsError(f"{archive} holds {shown(name)} below a file. Do not use it.")
    key = "/".join(parts)
    if key in taken and not (is_folder and taken[key]):
        raise HearModelsError(f"{archive} holds {shown(name)} twice. Do not use it.")
    taken[key] = is_folder


def _safe_name(member: tarfile.TarInfo, archive: Path) -> str:
    name = member.name
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise HearModelsError(f"{archive} holds {shown(name)}, which is a link or no plain file. Do not use it.")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    bad = any(
        part.startswith("..") or {"\\", ":"} & set(part) or not part.isprintable() or len(os.fsencode(part)) > MAX_NAME
        for part in parts
    )
    if bad or PurePosixPath(name).is_absolute() or not (parts or member.isdir()):
        raise HearModelsError(f"{archive} holds {shown(name)}, a name that leads elsewhere. Do not use it.")
    return "/".join(parts) or "."


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, made: Path, name: str) -> Unpacked:
    target = made / name
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    sha256, n_bytes = hashlib.sha256(), 0
    with source, target.open("xb") as file:
        while piece := source.read(CHUNK):
            sha256.update(piece)
            file.write(piece)
            n_bytes += len(piece)
    if n_bytes != member.size:
        raise EOFError(f"{name} ends early")
    return Unpacked(name, n_bytes, sha256.hexdigest())


class _Bounded:
    """An unpacked stream for tarfile: no more than `limit` bytes, no huge piece in memory, never unpacked twice."""

    def __init__(self, packed: gzip.GzipFile, limit: int, archive: Path) -> None:
        self.packed, self.limit, self.archive = packed, limit, archive
        self.position, self.last = 0, b""
        self.back = False  # tarfile looks at the byte before a header once more

    def read(self, n: int = -1) -> bytes:
        """As of a file."""
        if n < 0 or n > max(CHUNK, MAX_HEADER_BYTES):
            raise HearModelsError(f"{self.archive} holds a header that no honest archive has. Do not use it.")
        data = b""
        if self.back and n:
            self.back, data, n = False, self.last, n - 1
        while n:
            piece = self.packed.read(n)
            if not piece:
                break
            data, n = data + piece, n - len(piece)
            self.position += len(piece)
            if self.position > self.limit:
                raise HearModelsError(
                    f"{self.archive} unpacks to more than {self.limit:,} bytes, which no recordings do. Do not use it."
                )
        self.last = data[-1:] or self.last
        return data

    def tell(self) -> int:
        """As of a file."""
        return self.position - self.back

    def seek(self, place: int) -> int:
        """Forward by any way, back by one byte."""
        if place == self.position - 1 and self.last:
            self.back = True
            return place
        self.back = False
        if place < self.position:
            raise HearModelsError(f"{self.archive} would have to be read backwards. Do not use it.")
        while self.position < place and self.read(min(CHUNK, place - self.position)):
            pass
        return self.position
