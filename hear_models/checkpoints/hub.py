"""Checkpoints on the Hugging Face Hub: from an address to a file in the cache, and what its bytes must be.

`huggingface_hub` downloads, caches and authenticates, by its own environment variables. What is here: which file of a
repository is meant, what to do when the network fails, and distrust: the library returns whatever lies in its cache,
whole or cut, so the caller compares the file with `Fetched.announced` or a manifest's sha256 at every load.

The library is imported inside the functions: it takes half a second, and it reads its environment when imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_models.checkpoints.hub_errors import OTHER_WAYS, clear_errors, no_answer, status_of
from hear_models.checkpoints.hub_guard import guarded
from hear_models.checkpoints.safetensors_foreign import SHARD
from hear_models.errors import CheckpointError, UsageError
from hear_models.foreign import read_text
from hear_models.version import __version__

SCHEME = "hf://"
FILE = "model.safetensors"  # the name under which `hear-models publish` uploads
SHOWN = 6  # of a repository's files, in an error
ATTEMPTS = 3  # at a transfer that the library itself does not try again
PAUSE_S = 1.0  # between two of them
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"(?!.*(--|\.\.))\w[\w.-]*/\w[\w.-]*", re.ASCII)
# as Git: no "..", no slash at an end, none of its special signs; so it cannot lead out of the cache
REVISION = re.compile(r"(?!.*(\.\.|//|/\.|\.lock$))[\w+=-](?:[\w./+=#%,-]*[\w+=#%,-])?")


@dataclass(frozen=True)
class Address:
    """`hf://org/repo[@revision]`; without a revision it is the branch main."""

    repository: str  # org/repo
    revision: str | None = None  # branch, tag or commit

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Fetched:
    """A file of a repository in the local cache. Nothing is known about its bytes yet."""

    path: Path
    address: Address
    file: str  # its name in the repository
    commit: str
    announced: str | None  # the sha256 that the Hub gave for it; None: not stored by LFS, or the cache has no links


def parse_address(text: str) -> Address:
    """`hf://org/repo[@revision]` as an Address; UsageError for anything else."""
    repository, at, revision = text.removeprefix(SCHEME).partition("@")
    if not NAME.fullmatch(repository) or (at and not REVISION.fullmatch(revision)):
        raise UsageError(
            f"{text!r} is no address on the Hub. Write hf://ORGANISATION/REPOSITORY, and if you want a certain branch, "
            "tag or commit, @REVISION behind it."
        )
    return Address(repository, revision or None)


def fetch(address: Address, file: str | None = None, *, name: str | None = None, force: bool = False) -> Fetched:
    """The file of an address: from the cache if it is there, else downloaded, with a progress bar on a terminal.

    A branch or tag is looked up on the Hub at every call, and in the cache if the Hub cannot be reached; a commit that
    is in the cache needs no network.

    Args:
        address: where.
        file: name in the repository; None: `model.safetensors`, else the only .safetensors file.
        name: what the user called it, for the advice in errors; None: the address.
        force: download even if it is in the cache, in its place.

    Raises:
        CheckpointError: no such repository, revision or file, no access, no connection, no space.
    """
    name = name or str(address)
    with _quiet_unless_seen(), clear_errors(address, file, name), guarded():
        chosen, here = (file, False) if file else _choose_file(address, force)
        if not here and (force or _cached(address, chosen) is None):
            _look(address, chosen)  # one quick question: the library would try for half a minute
        path = Path(_download(address, chosen, force, here))
    _remove_orphans(path, chosen)
    link = os.readlink(path) if path.is_symlink() else ""  # ../../blobs/ETAG, and of an LFS file that is its sha256
    etag = os.path.basename(link)
    commit = path.parents[chosen.count("/")].name
    return Fetched(path, address, chosen, commit, etag if SHA256.fullmatch(etag) else None)


def refusal(fetched: Fetched, sha256: str | None, name: str, error: CheckpointError) -> CheckpointError:
    """The error to raise in place of `error` when the file was refused: whose fault it is, and how to repair it.

    Args:
        fetched: the file.
        sha256: that it must have by a manifest; None: in no manifest.
        name: what `hear-models download` takes.
        error: why it was refused.
    """
    try:
        found = hashlib.sha256(fetched.path.read_bytes()).hexdigest()
    except OSError:
        return error
    anew = f"Fetch it anew: `hear-models download {name} --force`"
    source = f"{fetched.file} of {fetched.address} (commit {fetched.commit[:12]})"
    if fetched.announced not in (None, found):
        return CheckpointError(
            f"{fetched.path} is not the file that the Hub announced: its sha256 is {found}, {fetched.announced} was "
            f"announced; it was altered or cut, here or on its way. {anew}."
        )
    if sha256 is not None and found != sha256:
        cure = "Do not use it; look for a newer hear-models, whose manifest may know it." if fetched.announced else ""
        return CheckpointError(
            f"{source} is not the file that the manifest of {name} describes: its sha256 is {found}, the manifest says "
            f"{sha256}. {cure or f'{anew}; if that ends here again, the file on the Hub is another one.'}"
        )
    return CheckpointError(f"{source} cannot be used. {error}" + ("" if fetched.announced else f" {anew}."))


# ---------------------------------------------------------------------------------------- which file, and where it is
def choose(names: Collection[str], address: Address) -> str:
    """`model.safetensors`, or the only .safetensors file of a repository; CheckpointError otherwise."""
    found = sorted(name for name in names if name.endswith(".safetensors"))
    if FILE in found or len(found) == 1:
        return FILE if FILE in found else found[0]
    if found and all(SHARD.fullmatch(name.rpartition("/")[2]) for name in found):
        raise CheckpointError(
            f"{address} holds one checkpoint in {len(found)} shards, as other programs write them: {_some(found)}. "
            "Download them all and convert them: `hear-models convert FAMILY FOLDER OUTPUT.safetensors`."
        )
    if found:
        raise CheckpointError(
            f"{address} holds {len(found)} .safetensors files and none is {FILE}: {_some(found)}. "
            "Download the one that you want and give its path."
        )
    raise CheckpointError(
        f"{address} holds no .safetensors file ({_some(sorted(names)) or 'it is empty'}). "
        f"Check the address. {OTHER_WAYS}."
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _choose_file(address: Address, force: bool) -> tuple[str, bool]:
    """(file, the cache has it and nobody need be asked): so for a commit, and if the Hub does not answer."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import RevisionNotFoundError

    cached = [] if force else _cached_names(address)
    if cached and COMMIT.fullmatch(address.revision or ""):
        return choose(cached, address), True
    try:
        info = _twice(lambda: HfApi().model_info(address.repository, revision=address.revision, timeout=_timeout()))
    except RevisionNotFoundError:
        raise
    except Exception:
        # every failure to ask, of the connection or of the Hub; the library does the same for a file that it has
        if cached:
            return choose(cached, address), True
        raise
    return choose([file.rfilename for file in info.siblings or ()], address), False


def _cached_names(address: Address) -> list[str]:
    """The .safetensors files of an address that were downloaded before."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=address.repository, repo_type="model")
    commit = address.revision or constants.DEFAULT_REVISION
    reference = folder / "refs" / commit
    if reference.is_file():
        commit = read_text(reference, 1000).strip()
    if not REVISION.fullmatch(commit):  # of a cache that somebody else filled
        return []
    snapshot = folder / "snapshots" / commit
    return sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.safetensors"))


def _cached(address: Address, file: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(address.repository, file, revision=address.revision)
    return found if isinstance(found, str) else None


# --------------------------------------------------------------------------------------------------------- the network
def _look(address: Address, file: str) -> None:
    """Fail soon and with the true reason if the file cannot be had."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(address.repository, file, revision=address.revision)
    _twice(lambda: get_hf_file_metadata(url, timeout=_timeout()))


def _download(address: Address, file: str, force: bool, here: bool) -> str:
    from huggingface_hub import hf_hub_download

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return str(
                hf_hub_download(
                    address.repository,
                    file,
                    revision=address.revision,
                    force_download=force,
                    local_files_only=here,
                    library_name="hear-models",
                    library_version=__version__,
                )
            )
        except Exception as error:
            if attempt == ATTEMPTS or not _worth_another_attempt(error):
                raise
            # the part that is there may be what is wrong: older versions append the whole file to it when a server
            # does not know ranges, and then ask for what lies behind its end (416) for ever
            force = force or "Consistency check failed" in str(error) or status_of(error) == 416
            time.sleep(PAUSE_S)
    raise AssertionError("unreachable")


def _worth_another_attempt(error: Exception) -> bool:
    """The transfer broke off in a way after which some version of huggingface_hub does not try again by itself."""
    broken = type(error).__name__ in ("ReadError", "RemoteProtocolError", "ChunkedEncodingError")
    return broken or "Consistency check failed" in str(error) or status_of(error) == 416


def _twice(ask: Any) -> Any:
    """A question to the Hub, asked once more after a moment if there was no answer."""
    try:
        return ask()
    except Exception as error:
        if not no_answer(error):
            raise
    time.sleep(PAUSE_S)
    return ask()


def _timeout() -> float:
    from huggingface_hub import constants

    return float(constants.HF_HUB_ETAG_TIMEOUT)


@contextlib.contextmanager
def _quiet_unless_seen() -> Iterator[None]:
    """In a log nobody needs the library's advice on retries and tokens; who wants it sets HF_HUB_VERBOSITY."""
    if sys.stderr.isatty() or os.environ.get("HF_HUB_VERBOSITY"):
        yield
        return
    from huggingface_hub.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _remove_orphans(path: Path, file: str) -> None:
    """Delete what killed downloads of this repository left in the cache, unless somebody is writing to it.

    A download holds the lock of its file. In newer versions of huggingface_hub each writes to a name of its own, so
    what a killed one leaves is never picked up again.
    """
    storage = path.parents[file.count("/") + 2]  # …/models--org--repo
    left = sorted((storage / "blobs").glob("*.incomplete"))
    if not left:
        return
    from filelock import FileLock, Timeout  # of huggingface_hub, which takes the same locks

    for orphan in left:
        lock = storage.parent / ".locks" / storage.name / f"{orphan.name.split('.')[0]}.lock"
        with contextlib.suppress(Timeout, OSError, NotImplementedError), FileLock(lock, timeout=0):
            orphan.unlink(missing_ok=True)
