"""GISE-51's record on Zenodo: what is in it, fetched and unpacked, and whether what is here is what was fetched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hear_models.errors import FileError, UsageError
from hear_models.fetching.download import Expected, Got, digests, fetch
from hear_models.fetching.listing import Remote, place_of
from hear_models.fetching.unpacking import Unpacked, unpack
from hear_models.files import remove_file, remove_left_over, shown, write_atomically
from hear_models.foreign import read_bytes, read_json
from hear_models.locks import inside, only_writer

RECORD = 4593514
LOCK = "gise51.lock.json"
ARCHIVE = ".tar.gz"

# what the authors' README names; the sizes are second-hand, the server's own count
CONTENTS = {
    "isolated_events": "isolated events: 16,357 clips in 51 classes (2.4 GB)",
    "noises": "backgrounds of the mixtures (64 MB)",
    "meta": "label map and lists",
    "mixtures_jams": "JAMS annotations of all mixtures (86 MB)",
    **{f"train_{k}k": f"{k},000 rendered mixtures" for k in (5, 10, 15, 20, 30, 40, 50)},
    "train": "60,000 rendered mixtures",
    **{f"train_p{k}": "10,000 more" for k in (2, 3, 4, 5)},
    "val": "rendered validation mixtures",
    "eval": "rendered evaluation mixtures",
    "pretrained-models": "the authors' networks (2.6 GB), for `hear-models convert gise51`",
}
USUAL = ("isolated_events", "noises", "meta")  # what `mix` needs


@dataclass(frozen=True)
class Part:
    """What happened to one archive."""

    name: str  # without .tar.gz
    n_bytes: int
    sha256: str
    files: int  # unpacked
    new: bool  # fetched by this call


def list_record() -> dict[str, Remote]:
    """The files of the record by name. HearModelsError if the server does not answer, or not with a record."""
    return {remote.name: remote for remote in place_of(f"https://zenodo.org/records/{RECORD}").files()}


class Lock:
    """What was fetched into a folder, by digest: the first time it is believed, from then on it must be the same."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.files: dict[str, Got] = {}
        if self.path.exists():
            try:
                document = read_json(self.path)
                self.files = {str(name): Got(**entry) for name, entry in document["files"].items()}
            except (FileError, KeyError, TypeError, AttributeError) as error:
                raise FileError(f"{self.path} is damaged ({error!r}). Remove it to trust the files anew.") from None

    def note(self, name: str, got: Got) -> None:
        """Remember a file."""
        self.files[name] = got
        document = {"record": RECORD, "files": {key: asdict(value) for key, value in sorted(self.files.items())}}
        write_atomically(self.path, (json.dumps(document, indent=1) + "\n").encode())


def chosen(only: Sequence[str], everything: bool, there: Sequence[str]) -> list[str]:
    """The archives (without .tar.gz) that a call is about. UsageError for one that the record lacks."""
    known = [name.removesuffix(ARCHIVE) for name in there if name.endswith(ARCHIVE)]
    wanted = known if everything else [name.removesuffix(ARCHIVE) for name in only] or list(USUAL)
    for name in wanted:
        if name not in known:
            raise UsageError(f"The record has no {name}{ARCHIVE}. It has: {', '.join(known) or 'nothing'}.")
    return list(dict.fromkeys(wanted))


def download(
    folder: Path,
    only: Sequence[str] = (),
    *,
    everything: bool = False,
    remove_archives: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Iterator[Part]:
    """Fetch archives of the record into `folder` and unpack each beside itself; yields them as they are done.

    A digest that the server lists is compared; besides, the first download of a file is remembered in
    `gise51.lock.json` and every later one must equal it. What is there already is not fetched again.

    Args:
        only: archives, with or without .tar.gz; none: those that `mix` needs.
        everything: all of the record.
        remove_archives: once they are unpacked.

    Raises:
        UsageError: no such archive, or another download runs there.
        HearModelsError: the server, the connection, the archive; FileError: the disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be made ({error.strerror}). Choose another folder.") from None
    with only_writer(inside(folder), folder, "folder"):
        remove_left_over(folder)
        lock = Lock(folder)
        listed = list_record()
        names = chosen(only, everything, list(listed))
        _make_sure_of_space(folder, [listed[name + ARCHIVE] for name in names])
        for name in names:
            yield _one(folder, name, listed[name + ARCHIVE], lock, remove_archives, progress)


def _one(
    folder: Path, name: str, listed: Remote, lock: Lock, remove_archive: bool, progress: Callable[[str], None]
) -> Part:
    archive, known, new = folder / listed.name, lock.files.get(listed.name), False
    manifest = Manifest(folder, name)
    if known is None or not (archive.exists() or manifest.complete):
        expected = replace(listed.expected, sha256=known.sha256 if known else None)
        got = digests(archive) if archive.exists() else None
        if got is None or got.differs_from(expected):

            def say(done: int, whole: int | None) -> None:
                progress(f"{listed.name}: {done / 1e6:,.0f} of {whole / 1e6:,.0f} MB" if whole else listed.name)

            got, new = fetch(listed.url, archive, expected, say), True
        lock.note(listed.name, got)
        known = got
    if not manifest.complete:
        if wrong := digests(archive).differs_from(Expected(known.n_bytes, None, known.sha256)):
            raise FileError(f"{archive} is not what was fetched: {wrong}. Remove it, and run the same command again.")
        unpack(archive, folder / name, lambda n: progress(f"{name}: {n} files unpacked"), manifest.write)
    if remove_archive:
        remove_file(archive)
    return Part(name, known.n_bytes, known.sha256, len(manifest.read()), new)


def _make_sure_of_space(folder: Path, files: Sequence[Remote]) -> None:
    """FileError if what is still to come cannot fit: packed and unpacked, sound packs badly."""
    missing = sum(2 * (file.expected.n_bytes or 0) for file in files if not (folder / file.name).exists())
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise FileError(
            f"{folder} has {free / 1e9:.1f} GB free, the files need about {missing / 1e9:.1f}. Make room, or fetch "
            "them one by one with --only and --remove-archives."
        )


class Manifest:
    """What an archive was unpacked to: lines of sha256, bytes and path with tabs between."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.path = folder / name, folder / f"{name}.files.tsv"

    @property
    def complete(self) -> bool:
        """Whether the archive was unpacked to its end."""
        return self.path.exists() and self.folder.is_dir()

    def write(self, files: Sequence[Unpacked]) -> None:
        """Note what is there."""
        text = "".join(f"{file.sha256}\t{file.n_bytes}\t{file.name}\n" for file in files)
        write_atomically(self.path, text.encode())

    def read(self) -> list[Unpacked]:
        """FileError if it is damaged."""
        files = []
        for number, line in enumerate(read_bytes(self.path).decode("utf-8", "replace").splitlines(), 1):
            sha256, _, rest = line.partition("\t")
            n_bytes, _, name = rest.partition("\t")
            if not (len(sha256) == 64 and n_bytes.isdigit() and name) or ".." in name.split("/") or name[0] == "/":
                raise FileError(
                    f"{self.path}, line {number}, is damaged. Remove it and the folder {self.folder.name}, and run "
                    "`hear-models gise51 download` again."
                )
            files.append(Unpacked(name, int(n_bytes), sha256))
        return files

    def compare(self, full: bool) -> tuple[list[str], list[str]]:
        """(files that are missing, files that are others): by size, with `full` by digest."""
        missing, altered = [], []
        for file in self.read():
            path = self.folder / file.name
            if not path.is_file():
                missing.append(file.name)
            elif path.stat().st_size != file.n_bytes or (full and digests(path).sha256 != file.sha256):
                altered.append(file.name)
        return missing, altered


def archives_here(folder: Path) -> list[str]:
    """Names of the archives that were fetched or unpacked here."""
    here = {name.removesuffix(ARCHIVE) for name in Lock(folder).files}
    return sorted(here | {path.name.removesuffix(".files.tsv") for path in folder.glob("*.files.tsv")})


def describe(name: str) -> str:
    """What an archive holds."""
    return CONTENTS.get(name, f"{shown(name)}, which the authors' README does not name")
