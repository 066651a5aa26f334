"""From a path to the torch file in it: folders, release archives (zip in zip) and xz are opened, sizes bounded."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from hear_models.checkpoints.pickle_data import printable
from hear_models.checkpoints.torch_file import TorchFile
from hear_models.checkpoints.torch_legacy import is_legacy, read_torch_legacy
from hear_models.checkpoints.torch_zip import read_torch_zip, root_of
from hear_models.checkpoints.unpacking import unpack_member, unpack_xz
from hear_models.checkpoints.windows import OpenFile, Window
from hear_models.checkpoints.zip_archive import is_zip, read_directory
from hear_models.errors import CheckpointError
from hear_models.foreign import LFS_ADVICE, LFS_POINTER, is_lfs_pointer

TORCH_FILE = re.compile(r".*\.(pth|pt|ckpt|bin|pth\.tar)(\.xz)?", re.IGNORECASE)
MAX_LAYERS = 3  # an archive around an xz around a torch file


def open_torch(path: str | os.PathLike[str]) -> TorchFile:
    """See `read_torch_file`."""
    file = Path(path)
    try:
        file = _find_file(file)
        window = Window(OpenFile(open(file, "rb")), 0, file.stat().st_size)  # noqa: SIM115  OpenFile closes it
        return _read(window, (file.absolute().parent.name, file.name), 0, None)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}. Check the path.") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error.__cause__


def _find_file(path: Path) -> Path:
    """The file itself, or the only torch file in a folder or in the folders in it."""
    if not path.exists():
        raise CheckpointError("it does not exist. Name a .pth, .pt or .ckpt file, or a folder that holds one.")
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointError("it is neither a file nor a folder. Copy it to a file first.")
        return path
    found = _torch_files(path)
    if len(found) != 1:
        raise CheckpointError(_choose("the folder", [str(entry.relative_to(path)) for entry in found]))
    return found[0]


def holds_torch_file(folder: Path) -> bool:
    """Whether a folder, or a folder in it, holds a file that is named as torch's are."""
    return bool(_torch_files(folder))


def _torch_files(folder: Path) -> list[Path]:
    return sorted(
        entry
        for pattern in ("*", "*/*")
        for entry in folder.glob(pattern)
        if is_torch_name(entry.name) and entry.is_file()
    )


def is_torch_name(name: str) -> bool:
    """Whether a path ends in a name as torch's files have."""
    file = PurePosixPath(name).name
    return bool(TORCH_FILE.fullmatch(file)) and not file.startswith("._") and not name.startswith("__MACOSX/")


def _choose(where: str, found: list[str]) -> str:
    if not found:
        return f"{where} holds no .pth, .pt or .ckpt file. Name the file itself."
    listed = ", ".join(printable(name, 60) for name in found[:6]) + (", ..." if len(found) > 6 else "")
    if where == "the folder":
        return f"the folder holds {len(found)} torch files: {listed}. Name one of them."
    return f"{where} holds {len(found)} torch files: {listed}. Unpack it, and name one of them."


def _read(window: Window, names: tuple[str, ...], layer: int, archive: Window | None) -> TorchFile:
    if layer >= MAX_LAYERS:
        raise CheckpointError("archives lie in archives without end. Do not use it.")
    head = window.read(0, min(512, window.length))
    if head.startswith(b"\xfd7zXZ\0"):
        inner = re.sub(r"\.xz$", "", names[-1], flags=re.IGNORECASE)
        return _read(unpack_xz(window), (*names[:-1], inner), layer + 1, archive or window)
    if not is_zip(window):
        if not is_legacy(window):
            raise CheckpointError(_other_format(head))
        content, machine = read_torch_legacy(window)
        return TorchFile(content, names, "torch before 1.6", window, dict(machine.records), machine.steps, archive)
    members = read_directory(window)
    root = root_of(members)
    if root is not None:
        content, machine = read_torch_zip(members, root)
        return TorchFile(content, names, "torch zip", window, dict(machine.records), machine.steps, archive)
    found = [name for name in members if is_torch_name(name)]
    if len(found) != 1:
        raise CheckpointError(_choose("the archive", found))
    inside = (*names, *PurePosixPath(found[0]).parts)
    return _read(unpack_member(members[found[0]]), inside, layer + 1, archive or window)


def _other_format(head: bytes) -> str:
    """What files are that users hand in by mistake."""
    if not head:
        return "the file is empty. Fetch it again."
    if head.startswith((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")):
        return (
            "this is a packed archive (gzip, bzip2, zstd, 7z or rar). Unpack it, and name the .pth or .ckpt file in it."
        )
    if head[257:262] == b"ustar":
        return "this is a tar archive (torch.save before 0.1.10 wrote one too). Unpack it, and name the file in it."
    if head.startswith(b"\x89HDF"):
        return "this is an HDF5 file, not one that torch.save wrote."
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "this is a safetensors file, not one that torch.save wrote."
    if is_lfs_pointer(head):
        return f"{LFS_POINTER}. {LFS_ADVICE}"
    if head.lstrip()[:1] in (b"<", b"{", b"["):
        return "this is text, perhaps a web page that came instead of the file. Fetch it again."
    if head[:1] == b"\x80":
        return "this is a Python pickle that torch.save did not write; such files are never opened."
    return "this is no file of torch.save. Name a .pth, .pt or .ckpt file."
