"""From a name to a model that loads: the authors' file fetched, remembered, converted, checked, and put into the cache.

`load_model(NAME)` takes what lies there (`Manifest.fetched`). What was fetched and not yet converted lies beside it,
by its address, until it is: a run that was killed at any point is gone on with by the same command.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hear_models.checkpoints.licences import acceptance
from hear_models.checkpoints.manifest import Original, fetched_file
from hear_models.checkpoints.safetensors_file import verify
from hear_models.errors import CheckpointError, FileError, HearModelsError, UsageError
from hear_models.fetching.download import Got, digests, fetch, make_sure_of_room
from hear_models.fetching.known import Changed, KnownFiles
from hear_models.fetching.listing import Remote, place_of
from hear_models.fetching.unpacking import unpack
from hear_models.files import put_back, remove_folder, remove_left_over, shown, whole_folder, write_durably
from hear_models.locks import InUse, beside, only_writer
from hear_models.resources import cache_folder
from hear_models.zoo.originals import Candidate, candidates, is_archive, is_end, the_one
from hear_models.zoo.registry import ModelEntry, find_entry

PASSPORT = "passport"  # in a header's notes
REPORT = "conversion.json"  # beside the converted file
LOCK = "fetch.lock.json"
BY_HAND = "by hand"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class FetchOptions:
    """How; see `hear-models fetch --help`."""

    by_hand: Path | None = None
    file: str | None = None
    address: str | None = None
    lock: Path | None = None
    accept_licence: bool = False
    force: bool = False
    keep_originals: bool = False


@dataclass(frozen=True)
class FetchedModel:
    """A model that loads by its name from now on."""

    name: str
    path: str
    sha256: str
    new: bool
    passport: dict[str, Any]
    check: dict[str, Any] | None = field(default=None)  # see SelfCheck


@dataclass(frozen=True)
class Local:
    """A checkpoint on this machine, as it came."""

    path: Path
    files: Mapping[str, Got]  # what the digest is remembered of: itself, or the archive around it
    found: list[Path]  # checkpoints to try, in this order


def lock_file(options: FetchOptions) -> Path:
    """Where digests are remembered."""
    return options.lock if options.lock is not None else cache_folder() / LOCK


def originals_folder() -> Path:
    """Where official files lie until they are converted, a folder an address."""
    return cache_folder() / "originals"


def original_of(entry: ModelEntry) -> Original:
    """What is known of a model's official weights. UsageError if there are none."""
    if entry.manifest.original is None or entry.manifest.status != "unpublished":
        what = {
            "untrained": "is a configuration: no weights were ever published",
            "parameterless": "has nothing to learn, so nothing to fetch",
            "hub": f"is on the Hub: `hear-models download {entry.name}`",
        }.get(entry.status, "comes with the package: it loads as it is")
        raise UsageError(f"{entry.name} {what}. `hear-models fetch --list` shows what can be fetched.")
    return entry.manifest.original


def fetch_model(name: str, options: FetchOptions, tell: Tell, progress: Tell = lambda line: None) -> FetchedModel:
    """Fetch, convert and check the official weights of a model.

    Args:
        name: of `list_models()`.
        tell: is told what happens, in lines; `progress`: how far it is.

    Raises:
        UsageError: no such model, no official weights, a licence that was not accepted, a file that must be named.
        HearModelsError: the server, the connection; CheckpointError: the file; FileError: the disk. What has come so
            far is kept, and the same command goes on from there.
    """
    entry = find_entry(name)
    original = original_of(entry)
    if options.address is not None:
        original = replace(original, address=options.address)
    for folder in (lock_file(options).parent, fetched_file(name).parent.parent, originals_folder()):
        remove_left_over(folder)
    if (there := _there(entry, options)) is not None:
        _remove_used(entry.name, originals_folder() / place_of(original.address).folder)
        _remove_used(entry.name, originals_folder() / name)
        return there
    licence = entry.manifest.licence
    if not options.accept_licence and (lines := acceptance(licence)):
        raise UsageError(
            f"the weights of {name} are under the {licence}.\n"
            + "\n".join(lines)
            + f"\nIf you accept it: hear-models fetch {name} --accept-license"
        )
    tell(f"licence: {licence}")
    if original.expects:
        tell(f"expected: {original.expects}")
    target = fetched_file(name)
    place = place_of(original.address)
    work = originals_folder() / (name if options.by_hand else place.folder)
    with _storing():
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        originals_folder().mkdir(parents=True, exist_ok=True)
    with (
        _storing(),
        only_writer(beside(target.parent), target.parent, "HEAR_MODELS_CACHE", wait=tell),
        only_writer(beside(work), work, "HEAR_MODELS_CACHE", wait=tell),
    ):
        put_back(target.parent)
        if (there := _there(entry, options)) is not None:  # by another run, meanwhile
            return there
        known = KnownFiles(lock_file(options))
        with _advised(entry, original):
            if options.by_hand is not None:
                local = _by_hand(options.by_hand, work, original, options.file, tell)
            else:
                local = _remote(name, original, work, known, options.file, tell, progress)
            date = known.note(name, original.address, local.files, datetime.date.today().isoformat())
        passport = {
            "source": original.address,
            "fetched": BY_HAND if options.by_hand else place.kind,
            "date": date,
            "files": {key: {"bytes": got.n_bytes, "sha256": got.sha256} for key, got in local.files.items()},
        }
        used = None if options.keep_originals or not work.is_dir() else work / _used(name)
        done = _convert(entry, local, passport, options, used, tell)
        if used is not None:
            remove_folder(work)
        return done


def _used(name: str) -> str:
    """The mark in a folder of originals of which a model was made, and that nobody wants to keep."""
    return f".used-by-{name}"


def _remove_used(name: str, work: Path) -> None:
    """What a run left that was killed between the model and the removal of its originals."""
    if (work / _used(name)).is_file():
        with contextlib.suppress(InUse), _storing(), only_writer(beside(work), work):
            remove_folder(work)


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    """Around what writes to the cache: what the disk refuses is a FileError."""
    try:
        yield
    except OSError as error:
        raise FileError(
            f"the cache {shown(cache_folder())} cannot be written: {error.strerror or error}. Make room, or set "
            "HEAR_MODELS_CACHE to a folder that can."
        ) from None


def _there(entry: ModelEntry, options: FetchOptions) -> FetchedModel | None:
    """What an earlier call left, verified; None: nothing, or it is to be made again."""
    path = fetched_file(entry.name)
    if options.force or not path.is_file():
        return None
    try:
        header, _, sha256 = verify(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error} `hear-models fetch {entry.name} --force` fetches it anew.") from None
    return FetchedModel(entry.name, str(path), sha256, False, dict(header.notes.get(PASSPORT) or {}))


class _advised:
    """Around what the outside world may refuse: an error says how to go on by hand."""

    def __init__(self, entry: ModelEntry, original: Original) -> None:
        self.entry, self.original = entry, original

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, HearModelsError) or isinstance(error, (Changed, FileError)):
            return
        folder = f" (there: {self.original.folder})" if self.original.folder else ""
        raise type(error)(
            f"{error} Or fetch it in a browser from {self.original.address}{folder} and give what you have: "
            f"hear-models fetch {self.entry.name} --from FILE_OR_FOLDER"
        ) from None


# ------------------------------------------------------------------------------------------------- from the network
def _remote(
    name: str, original: Original, work: Path, known: KnownFiles, file: str | None, tell: Tell, progress: Tell
) -> Local:
    place = place_of(original.address)
    tell(f"from: {original.address}")
    remotes = {remote.path: remote for remote in place.files()}
    outer = file if file is not None and any(is_end(path, file) for path in remotes) else None
    alone = Candidate(next(iter(remotes))) if len(remotes) == 1 else None
    chosen = alone or the_one(candidates(list(remotes), original, outer))
    got: dict[str, Got] = {}
    for path in (chosen.path, *chosen.beside):
        remote = remotes[path]
        size = remote.expected.n_bytes
        if size is not None:
            tell(f"{remote.name}: {size:,} bytes")
        got[remote.name] = _one(name, remote, work, known, progress)
        tell(f"{remote.name}: {got[remote.name].n_bytes:,} bytes, sha256 {got[remote.name].sha256}")
    here = work / chosen.path
    within = file if outer is None else None
    return Local(here, got, _opened(here, work, original, within, tell))


def _one(name: str, remote: Remote, work: Path, known: KnownFiles, progress: Tell) -> Got:
    target = work / remote.path
    target.parent.mkdir(parents=True, exist_ok=True)
    expected = known.expected(name, remote.name, remote.expected)
    if remote.expected.sha256 is not None:  # what the server says itself must agree with what is remembered
        known.compare(
            name, remote.name, Got(remote.expected.n_bytes or expected.n_bytes or 0, "", remote.expected.sha256)
        )
    if target.is_file() and digests(target).differs_from(expected) is None:
        return digests(target)

    def say(done: int, whole: int | None) -> None:
        progress(f"{remote.name}: {done / 1e6:,.0f}" + (f" of {whole / 1e6:,.0f} MB" if whole else " MB"))

    return fetch(remote.url, target, remote.expected, say, page=remote.page)


# ---------------------------------------------------------------------------------------------------------- by hand
def _by_hand(path: Path, work: Path, original: Original, file: str | None, tell: Tell) -> Local:
    if not path.exists():
        raise UsageError(f"{path} does not exist. Give the file or folder that you fetched.")
    tell(f"from: {path.name}, fetched by hand; its official place is {original.address}")
    if path.is_dir():
        paths = [str(p.relative_to(path).as_posix()) for p in sorted(path.rglob("*")) if p.is_file()]
        chosen = the_one(candidates(paths, original, file))
        files = [path / chosen.path, *(path / p for p in chosen.beside)]
        within = None
    else:
        files, within = [path], file
        config = path.with_name("config.json")
        if original.format.startswith("Flax") and config.is_file():
            files.append(config)
    try:
        got = {one.name: digests(one) for one in files}
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}. Check it.") from None
    return Local(files[0], got, _opened(files[0], work, original, within, tell))


def _opened(path: Path, work: Path, original: Original, file: str | None, tell: Tell) -> list[Path]:
    """The checkpoints to try: the file itself, or those in an archive."""
    if not is_archive(path.name):
        return [path]
    if path.name.lower().endswith(".zip") and not original.format.startswith("Flax") and file is None:
        return [path]  # the reader of torch files looks into it
    folder = work / f"{path.name}.unpacked"
    if not folder.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        make_sure_of_room(work, 2 * path.stat().st_size)
        tell(f"{path.name}: unpacking")
        unpack(path, folder)
    paths = [str(p.relative_to(folder).as_posix()) for p in sorted(folder.rglob("*")) if p.is_file()]
    return [folder / one.path for one in candidates(paths, original, file, every=True) if not one.is_archive]


# ------------------------------------------------------------------------------------------------ convert and check
def _convert(
    entry: ModelEntry,
    local: Local,
    passport: Mapping[str, Any],
    options: FetchOptions,
    used: Path | None,
    tell: Tell,
) -> FetchedModel:
    from hear_models.zoo.load import load_resolved
    from hear_models.zoo.resolve import Resolved
    from hear_models.zoo.self_check import self_check

    folder = fetched_file(entry.name).parent
    make_sure_of_room(folder.parent, local.path.stat().st_size)
    tell("converting")
    with whole_folder(folder, replace=True) as made:
        output = made / "model.safetensors"
        conversion = _first_that_fits(entry, local, output, passport, options)
        tell("checking")
        model = load_resolved(Resolved(entry.name, entry.family, entry, output, None), {})
        check = self_check(model, entry.name).as_dict()
        del model
        rows = {"conversion": conversion, "check": check}
        write_durably(made / REPORT, json.dumps(rows, default=str).encode())
        if used is not None:
            write_durably(used, b"")
    return FetchedModel(
        entry.name, str(folder / "model.safetensors"), conversion["sha256"], True, dict(passport), check
    )


def _first_that_fits(
    entry: ModelEntry, local: Local, output: Path, passport: Mapping[str, Any], options: FetchOptions
) -> dict[str, Any]:
    """Convert the first of the checkpoints that has the configuration of the manifest."""
    from hear_models.fields import check_fields
    from hear_models.zoo.convert import as_plain_data, convert
    from hear_models.zoo.families import family_module

    config_of = family_module(entry.family).Config
    wanted = config_of(**check_fields(config_of, entry.manifest.configuration))
    first: HearModelsError | None = None
    for path in local.found:
        for overrides in ({}, asdict(wanted)):  # what neither file nor trainer tell, the manifest does
            try:
                done = convert(
                    entry.family,
                    path,
                    output,
                    overrides=overrides,
                    force=True,
                    accept_licence=options.accept_licence,
                    notes={PASSPORT: dict(passport)},
                )
                found = config_of(**check_fields(config_of, done.config))
                if found == wanted:
                    return as_plain_data(done)
                raise CheckpointError(
                    f"{path.name} is another network than {entry.name}: {_differences(found, wanted)}. "
                    "Fetch another file."
                )
            except HearModelsError as error:
                if isinstance(error, FileError):
                    raise
                if path == local.found[0]:
                    first = type(error)(str(error))  # without the frames, which hold the file's arrays
    assert first is not None
    more = f" None of {len(local.found)} files fits." if len(local.found) > 1 else ""
    said = str(first).replace("by --set", "by the manifest").removesuffix(" Correct --config or --set.")
    raise type(first)(
        f"{said}{more} What was fetched is kept; `hear-models fetch {entry.name} --report` writes what to tell "
        "the project."
    )


def _differences(found: Any, wanted: Any) -> str:
    pairs = ((name, value, asdict(wanted)[name]) for name, value in asdict(found).items())
    return ", ".join(f"{name} is {a}, not {b}" for name, a, b in pairs if a != b)[:300]
