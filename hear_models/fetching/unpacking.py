"""Archives of strangers (tar, packed or not, and zip): plain files and nothing else, bounded, in place all at once."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hear_models.errors import FileError, HearModelsError
from hear_models.files import shown, whole_folder
from hear_models.foreign import open_plain

CHUNK = 1 << 20
MAX_RATIO = 200  # of bytes unpacked to bytes packed; sound packs to half
SMALL_BYTES = 16 << 20  # below this no ratio is asked for
MAX_MEMBERS = 2_000_000
MAX_HEADER_BYTES = 1 << 20  # of names and attributes that an archive may hold in one piece
MAX_NAME = 240  # bytes of one part of a path
MAX_DEPTH = 40  # folders in one another
ENDINGS = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz", ".zip")


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
    """Unpack a tar or zip archive to a new folder, which gets its name when everything is there.

    If all that is in the archive lies in a folder of this name, alone in the folders above it, those levels are left
    out.

    Args:
        progress: is told how many files are unpacked.
        before: is told what is there, just before the folder gets its name.

    Raises:
        HearModelsError: a damaged archive, or one with something else than plain files below its top: names that lead
            out of it, links, devices, a name twice, more bytes than honest data could have.
        FileError: the disk is full, or the folder is there already.
    """
    if os.path.lexists(folder):
        raise FileError(f"{folder} is there already. Move it away, or choose another place.")
    try:
        with whole_folder(folder) as made:
            files = _Unpacking(archive, made, progress).run()
            if above := _levels_above(made, folder.name):
                files = [Unpacked(f.name.split("/", above)[above], f.n_bytes, f.sha256) for f in files]
                _lift(made, above)
            before(files)
        return files
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise HearModelsError(f"{archive} is damaged ({error}). Fetch it again.") from None
    except (EOFError, UnicodeError, ValueError, NotImplementedError, RuntimeError) as error:
        raise HearModelsError(f"{archive} is damaged ({error}). Fetch it again.") from None
    except OSError as error:
        if error.errno is None:  # bz2: "Invalid data stream"
            raise HearModelsError(f"{archive} is damaged ({error}). Fetch it again.") from None
        reason = error.strerror or error
        raise FileError(f"{archive} cannot be unpacked to {folder}: {reason}. Make room, or choose another.") from None


def _levels_above(made: Path, name: str) -> int:
    """How many folders, each alone in the one above, lead to one of this name, itself counted; 0: there is none."""
    for depth in range(1, MAX_DEPTH):
        inside = list(made.iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            return 0
        if inside[0].name == name:
            return depth
        made = inside[0]
    return 0


def _lift(made: Path, levels: int) -> None:
    """Put what lies below so many folders into their place."""
    top = made / "..lifted"  # no archive can hold this name: see `safe_name`
    os.rename(next(made.iterdir()), top)
    inner = top
    for _ in range(levels - 1):
        inner = next(inner.iterdir())
    for entry in list(inner.iterdir()):
        os.rename(entry, made / entry.name)
    while inner != made:
        inner.rmdir()
        inner = inner.parent


class _Unpacking:
    """One archive on its way into a folder."""

    def __init__(self, archive: Path, made: Path, progress: Callable[[int], None]) -> None:
        self.archive, self.made, self.progress = archive, made, progress
        self.limit = max(SMALL_BYTES, MAX_RATIO * archive.stat().st_size)
        self.files: list[Unpacked] = []
        self.taken: dict[str, bool] = {}  # names as a disk that ignores case sees them → whether they are folders

    def run(self) -> list[Unpacked]:
        """Everything that is in it."""
        with open_plain(self.archive) as raw:
            head = raw.read(4)
            raw.seek(0)
            if head in (b"PK\x03\x04", b"PK\x05\x06"):
                self.zip(raw)
            else:
                with _opened(raw, head) as packed:
                    self.tar(packed)
        return self.files

    def tar(self, packed: Any) -> None:
        stream = _Bounded(packed, self.limit, self.archive)
        with tarfile.open(fileobj=stream, mode="r:", errorlevel=2, encoding="utf-8") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members = []  # of an archive with a million files nothing is kept
                plain = member.isdir() or (member.isreg() and not member.issparse())
                name = self.claim(member.name, member.isdir(), plain)
                if not member.isdir():
                    source = tar.extractfile(member)
                    assert source is not None
                    with source:
                        self.write(source, member.size, name)
        while stream.read(CHUNK):  # to the end, where the checksum is
            pass

    def zip(self, raw: IO[bytes]) -> None:
        with zipfile.ZipFile(raw) as archive:
            left = self.limit
            for member in archive.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not member.flag_bits & 1
                name = self.claim(member.filename, member.is_dir(), plain)
                left -= member.file_size
                if left < 0:
                    raise self.too_much()
                if not member.is_dir():
                    with archive.open(member) as source:
                        self.write(source, member.file_size, name)

    def too_much(self) -> HearModelsError:
        return HearModelsError(
            f"{self.archive} unpacks to more than {self.limit:,} bytes, which no recordings do. Do not use it."
        )

    def claim(self, name: str, is_folder: bool, plain: bool) -> str:
        """A member's name below the folder, if it may be there and is not yet."""
        if not plain:
            raise HearModelsError(
                f"{self.archive} holds {shown(name)}, which is a link or no plain file. Do not use it."
            )
        if len(self.taken) >= MAX_MEMBERS:
            raise HearModelsError(f"{self.archive} holds more than {MAX_MEMBERS:,} entries. Do not use it.")
        safe = self.safe_name(name, is_folder)
        parts = safe.casefold().split("/")
        for depth in range(1, len(parts)):
            if not self.taken.setdefault("/".join(parts[:depth]), True):
                raise HearModelsError(f"{self.archive} holds {shown(name)} below a file. Do not use it.")
        key = "/".join(parts)
        if key in self.taken and not (is_folder and self.taken[key]):
            raise HearModelsError(f"{self.archive} holds {shown(name)} twice. Do not use it.")
        self.taken[key] = is_folder
        if is_folder:
            (self.made / safe).mkdir(parents=True, exist_ok=True)
        return safe

    def safe_name(self, name: str, is_folder: bool) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        bad = any(
            part.startswith("..") or {"\\", ":"} & set(part) or not part.isprintable() or len(part.encode()) > MAX_NAME
            for part in parts
        )
        if bad or PurePosixPath(name).is_absolute() or not (parts or is_folder) or len(parts) > MAX_DEPTH:
            raise HearModelsError(
                f"{self.archive} holds {shown(name)[:200]}, a name that leads elsewhere. Do not use it."
            )
        return "/".join(parts) or "."

    def write(self, source: IO[bytes], size: int, name: str) -> None:
        target = self.made / name
        target.parent.mkdir(parents=True, exist_ok=True)
        sha256, n_bytes = hashlib.sha256(), 0
        with target.open("xb") as file:
            for piece in _pieces(source):
                n_bytes += len(piece)
                if n_bytes > size:
                    raise EOFError(f"{name} is longer than it says")
                sha256.update(piece)
                file.write(piece)
        if n_bytes != size:
            raise EOFError(f"{name} ends early")
        self.files.append(Unpacked(name, n_bytes, sha256.hexdigest()))
        self.progress(len(self.files))


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    while piece := source.read(CHUNK):
        yield piece


def _opened(raw: IO[bytes], head: bytes) -> Any:
    """The unpacked stream of a tar archive, by its first bytes."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    if head.startswith(b"\xfd7zX"):
        return lzma.LZMAFile(raw)
    return raw


class _Bounded:
    """An unpacked stream for tarfile: no more than `limit` bytes, no huge piece in memory, never unpacked twice."""

    def __init__(self, packed: IO[bytes], limit: int, archive: Path) -> None:
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
