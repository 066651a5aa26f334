"""From a path to the torch file in it: folders, release archives (zip in zip) and xz are opened, sizes bounded."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from hear_models.checkpoints.torch_file import TorchFile
from hear_models.checkpoints.torch_zip import read_torch_zip, root_of
from hear_models.checkpoints.unpacking import unpack_member, unpack_xz
from hear_models.checkpoints.windows import Window
from hear_models.checkpoints.zip_archive import is_zip, read_directory
from hear_models.errors import CheckpointError

ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".pth.tar", ".tar", ".pkl", ".xz")
MAX_LAYERS = 3  # an archive around an xz around a torch file


def open_torch(path: str | os.PathLike[str]) -> TorchFile:
    """See `read_torch_file`."""
    file = find_file(Path(path))
    try:
        handle: BinaryIO = open(file, "rb")  # noqa: SIM115  kept open by the lazy tensors
        window = Window(handle, 0, os.fstat(handle.fileno()).st_size)
        names = tuple(part for part in (file.absolute().parent.name, file.name) if part)
        return _read(window, names)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}. Check the path.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file} is not a usable torch file: {error}") from error


def find_file(path: Path) -> Path:
    """The file itself, or the only torch file in a folder."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist. Name a .pth, .pt or .ckpt file, or a folder that holds one.")
    if not path.is_dir():
        return path
    found = sorted(entry for entry in path.rglob("*") if entry.is_file() and entry.name.lower().endswith(ENDINGS[:5]))
    if len(found) != 1:
        listed = ", ".join(str(entry.relative_to(path)) for entry in found[:6]) + (", ..." if len(found) > 6 else "")
        what = f"{len(found)} torch files ({listed})" if found else "no .pth, .pt or .ckpt file"
        raise CheckpointError(f"the folder {path} holds {what}. Name one file.")
    return found[0]


def _read(window: Window, names: tuple[str, ...], layer: int = 0, outermost: Window | None = None) -> TorchFile:
    head = window.read(0, min(16, window.length))
    if layer >= MAX_LAYERS:
        raise CheckpointError("archives lie in archives without end. Do not use it.")
    if head.startswith(b"\xfd7zXZ\0"):
        return _read(unpack_xz(window), (*names[:-1], names[-1].removesuffix(".xz")), layer + 1, outermost or window)
    if is_zip(window):
        members = read_directory(window)
        root = root_of(members)
        if root is not None:
            content, machine = read_torch_zip(members, root)
            return TorchFile(content, names, "torch zip", window, dict(machine.records), machine.steps, outermost)
        found = [member for name, member in members.items() if name.lower().endswith(ENDINGS)]
        if len(found) != 1:
            listed = ", ".join(member.name for member in found[:6])
            raise CheckpointError(
                f"the archive holds {len(found)} torch files ({listed}). Unpack it and name one of them."
            )
        inner = (*names, *PurePosixPath(found[0].name).parts)
        return _read(unpack_member(found[0]), inner, layer + 1, outermost or window)
    raise CheckpointError("it is neither a zip archive nor packed by xz. Name a file that torch.save wrote.")
