"""Which of the files at an official address, in an archive or in a folder are those of one model.

What is written in a manifest is what the authors' code and pages name; no listing was ever seen. So names are matched
with some room, what is newest is taken as the authors' code takes it, and what stays open is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from hear_models.checkpoints.manifest import Original
from hear_models.checkpoints.torch_opening import is_torch_name
from hear_models.errors import UsageError
from hear_models.fetching.unpacking import ENDINGS

FLAX = re.compile(r"(checkpoint|best_ckpt)_(\d+)")
SHOWN = 8


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, and what must lie beside it."""

    path: str
    beside: tuple[str, ...] = ()

    @property
    def is_archive(self) -> bool:
        """Whether it must be unpacked to be looked at; a zip with one torch file is read as it is."""
        return is_archive(self.path)


def is_archive(path: str) -> bool:
    """Whether a name is that of an archive."""
    return path.lower().endswith(ENDINGS)


def candidates(
    paths: Sequence[str], original: Original, file: str | None = None, *, every: bool = False
) -> list[Candidate]:
    """The checkpoints among `paths` that may be the model's, the newest of each folder.

    Args:
        paths: with "/" between their parts.
        original: what is known of the file.
        file: the user's word: a path, or its end.
        every: all of them, the newest first.

    Raises UsageError if there is none.
    """
    if file is not None:
        chosen = [path for path in paths if is_end(path, file)]
        if len(chosen) != 1:
            raise UsageError(f"{file!r} is {len(chosen)} of the files there. {_listed(paths)}")
        return [_with_config(chosen[0], paths)]
    narrowed = _narrowed(list(paths), original.folder)
    found = [path for path in narrowed if _is_checkpoint(path, original)]
    if not found:
        found = [path for path in narrowed if is_archive(path)]
    if not found:
        raise UsageError(f"there is no checkpoint ({original.format}). {_listed(paths)} Name the file with --file.")
    if every:
        return [_with_config(path, paths) for path in sorted(found, key=_rank, reverse=True)]
    folders: dict[str, list[str]] = {}
    for path in found:
        folders.setdefault(path if is_archive(path) else str(PurePosixPath(path).parent), []).append(path)
    return [_with_config(max(group, key=_rank), paths) for group in folders.values()]


def is_end(path: str, file: str) -> bool:
    """Whether a user who says `file` may mean `path`."""
    return path == file or path.endswith(f"/{file.lstrip('/')}")


def the_one(found: Sequence[Candidate]) -> Candidate:
    """The only candidate. UsageError if there are several."""
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} files may be meant. {_listed([one.path for one in found])} Name one with --file."
        )
    return found[0]


def _narrowed(paths: list[str], hint: str | None) -> list[str]:
    """Those of `paths` that lie where the manifest says, part by part as far as it leads to anything."""
    for part in re.split(r",\s*|/", hint or ""):
        here = [path for path in paths if part in PurePosixPath(path).parts[:-1] or _names(path, part)]
        paths = here or paths
    return paths


def _names(path: str, part: str) -> bool:
    """Whether a file is called so, whatever its ending."""
    name = PurePosixPath(path).name
    return name == part or name in (f"{part}{ending}" for ending in ENDINGS)


def _is_checkpoint(path: str, original: Original) -> bool:
    name = PurePosixPath(path).name
    return bool(FLAX.fullmatch(name)) if original.format.startswith("Flax") else is_torch_name(path)


def _rank(path: str) -> tuple[bool, bool, float, str]:
    """As the authors' code takes them: the last epoch or step, else the best by the figure in its name."""
    name = PurePosixPath(path).name
    if flax := FLAX.fullmatch(name):
        return True, flax[1] == "checkpoint", float(flax[2]), path
    exported = name.endswith(".pth")
    for pattern in (r"val_acc=(\d+\.?\d*)", r"mAP=(\d+\.?\d*)", r"checkpoint[-_](\d+)", r"(?:epoch|step)[=_-]?(\d+)"):
        if match := re.search(pattern, name):
            return exported, True, float(match[1].rstrip(".")), path
    return exported, False, 0.0, path


def _with_config(path: str, paths: Sequence[str]) -> Candidate:
    config = str(PurePosixPath(path).with_name("config.json"))
    return Candidate(path, (config,) if config in paths and FLAX.fullmatch(PurePosixPath(path).name) else ())


def _listed(paths: Sequence[str]) -> str:
    shown = ", ".join(path[-90:] for path in sorted(paths)[:SHOWN])
    return f"There {'is' if len(paths) == 1 else 'are'}: {shown or 'nothing'}{', ...' if len(paths) > SHOWN else ''}."
