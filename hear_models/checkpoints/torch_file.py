"""Files of torch.save (.pth, .pt, .ckpt) read as data: their tensors, and what stands beside them; nothing is executed.

file = read_torch_file("80x208p16x16_0422/checkpoint-100.pth")
state = find_state_dict(file.content)         # {"cls_token": <float32 tensor [1, 1, 768], not read>, ...}
state["cls_token"].array()                    # now it is read
file.values["args"]["input_size"]             # the trainer's argparse.Namespace as a dict
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hear_models.checkpoints.pickle_data import Instance, Name, printable
from hear_models.checkpoints.state_keys import below, parts_of, unwrapped
from hear_models.checkpoints.torch_tensor import LazyTensor
from hear_models.checkpoints.windows import Window
from hear_models.errors import CheckpointError
from hear_models.foreign import reading

STATE_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "net", "network", "weights", "params")
MAX_DEPTH = 100  # of nested containers; a trainer's dictionary has about 6
MAX_KEY_CHARACTERS = 1000
SHARING = 32  # tensors of one storage, on average: shared layers are legitimate, expanded views of one value are not
SMALL_BYTES = 16 << 20  # up to here anything goes
UNFOLDING = 16  # values that a step of the pickle may stand for, by being referred to again and again
# classes whose objects hold named values and nothing else; by their last name, for there are many copies of them
DICTIONARY_LIKE = ("Namespace", "SimpleNamespace", "AttributeDict", "AttrDict", "EasyDict", "Munch", "Container")
WRAPPED = {"ConfigDict": ("_fields",), "DictConfig": ("_content",), "ListConfig": ("_content",), "AnyNode": ("_val",)}


@dataclass(frozen=True)
class TorchFile:
    """What a torch file holds.

    Attributes:
        content: what was saved: dicts, lists, tuples, numbers, texts; tensors as `LazyTensor`, NumPy arrays as such,
            objects of other classes as `Instance`, classes themselves as `Name`.
        names: of the file that was read and the folders around it, outermost first, archives included:
            ("release.zip", "80x208p16x16_0422", "checkpoint-100.pth").
        format: "torch zip" or "torch before 1.6".
        window: the bytes of the torch file itself.
        records: how many objects of each class are kept as inert records.
    """

    content: Any
    names: tuple[str, ...]
    format: str
    window: Window
    records: Mapping[Name, int] = field(default_factory=dict)
    steps: int = 0  # of the pickle: bounds what its data may unfold to
    archive: Window | None = None  # what the torch file was packed in

    @cached_property
    def tensors(self) -> dict[str, LazyTensor]:
        """Every tensor by its path, keys joined by "/": "model/blocks.0.norm1.weight", "optimizer/state/0/exp_avg"."""
        found: dict[str, LazyTensor] = {}
        for path, tensor in _Walk(self.steps).tensors(self.content):
            if path in found:
                raise CheckpointError(f"two tensors have the path {printable(path)}. Read them from `content`.")
            found[path] = tensor
        return found

    @cached_property
    def values(self) -> Any:
        """The content as plain data: no tensors or arrays; tuples and sets as lists; argparse.Namespace and the like as
        dict; other objects as {"class": ..., "args": ..., "state": ...} with what they have; classes as their names."""
        return _Walk(self.steps).plain(self.content)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was met and not understood, a line each."""
        return tuple(
            f"{count} object{'s' if count > 1 else ''} of {name}: kept as a record, not made"
            for name, count in sorted(self.records.items(), key=lambda pair: str(pair[0]))
            if name.name not in DICTIONARY_LIKE and name.name not in WRAPPED
        )

    @cached_property
    def sha256(self) -> str:
        """Of the torch file itself, unpacked if it lay in an archive."""
        return _sha256(self.window)

    @cached_property
    def archive_sha256(self) -> str | None:
        """Of the file on disk, if the torch file lay packed in it."""
        return None if self.archive is None else _sha256(self.archive)

    @property
    def n_bytes(self) -> int:
        return self.window.length


def read_torch_file(path: str | os.PathLike[str]) -> TorchFile:
    """Read a file of torch.save as data.

    Args:
        path: a .pth, .pt, .ckpt or .bin file; one packed by xz; a zip archive or a folder that holds exactly one.

    Returns:
        the content with tensors that are not read yet; the file stays open as long as they are there.

    Raises:
        CheckpointError: not such a file, damaged, or one that wants something run; the message names class and place.
    """
    with reading(path, CheckpointError, "Fetch it again."):
        from hear_models.checkpoints.torch_opening import open_torch

        return open_torch(path)


def find_state_dict(content: Any, key: str | None = None) -> dict[str, LazyTensor]:
    """The network's tensors in what a trainer saved.

    The rule, in this order: `key` if given; the content itself if its values are tensors; the one of its entries named
    in `STATE_KEYS` that holds tensors; the only other entry that does. Values that are no tensors (a step count, a
    version) are left out. What wrappers put before the keys is taken away (`state_keys.unwrapped`).

    `key` names an entry, one in an entry ("ema/module"), or what the keys of the network's tensors begin with.

    Raises:
        CheckpointError: nothing or more than one thing fits, or an entry is an object that could not be read.
    """
    if key is not None:
        return _chosen(content, key)
    chosen = state_dict_key(content)
    return _state_dict(content, "the file") if chosen is None else _state_dict(content[chosen], str(chosen))


def networks_in(content: Any) -> list[str]:
    """The entries that hold tensors of a network, or of a copy of it; none if the content itself does."""
    if _is_state_dict(content) or not isinstance(content, dict):
        return []
    return [str(name) for name, value in content.items() if _is_state_dict(value)]


def _chosen(content: Any, key: str) -> dict[str, LazyTensor]:
    """The tensors that the user named."""
    for steps in ([key], key.split("/"), key.split(".")):
        found = content
        for step in steps:
            found = found.get(step) if isinstance(found, dict) else None
        if _is_state_dict(found):
            return _state_dict(found, key)
        if isinstance(found, dict) and networks_in(found):  # as an averaging that keeps its own state around a network
            return _state_dict(found[state_dict_key(found)], key)
    whole: Any = content
    if not _is_state_dict(content) and networks_in(content):
        named = [name for name in STATE_KEYS if _is_state_dict(content.get(name))]
        whole = content[(named or networks_in(content))[0]]
    if _is_state_dict(whole):
        tensors = unwrapped({name: part for name, part in whole.items() if isinstance(name, str)})
        if part := below(tensors, key):
            return _state_dict(part, key)
        raise CheckpointError(
            f"the file has no entry {key!r}; it has {_keys(content)}, and tensors below {_few(parts_of(tensors))}. "
            "Give --key one of them."
        )
    raise CheckpointError(f"the file has no entry {key!r}; it has {_keys(content)}.")


def _few(names: list[str]) -> str:
    return ", ".join(printable(name, 40) for name in names[:12]) + (", ..." if len(names) > 12 else "")


def state_dict_key(content: Any) -> Any:
    """The entry that `find_state_dict` takes by its rule; None if the content itself is the state dict."""
    if _is_state_dict(content):
        return None
    if not isinstance(content, dict):
        raise CheckpointError(f"the file holds {_kind(content)}, not a dictionary with tensors. Save its state_dict().")
    named = [name for name in STATE_KEYS if _is_state_dict(content.get(name))]
    others = [name for name, value in content.items() if _is_state_dict(value)]
    found = named or others
    if len(found) != 1:
        if found:
            raise CheckpointError(
                f"of the file's entries ({_keys(content)}) several: {', '.join(map(str, found))}. Each has a network: "
                f"choose, for instance --key {found[0]}."
            )
        raise CheckpointError(
            f"of the file's entries ({_keys(content)}) no entry with a network's tensors. Name one that has some "
            "with --key, or save the network's state_dict() alone."
        )
    return found[0]


def _sha256(window: Window) -> str:
    digest = hashlib.sha256()
    for piece in window.pieces():
        digest.update(piece)
    return digest.hexdigest()


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(part, LazyTensor) for part in value.values())


def _state_dict(value: Any, where: str) -> dict[str, LazyTensor]:
    if not _is_state_dict(value):
        raise CheckpointError(f"{where} is {_kind(value)}, not a dictionary with tensors.")
    state: dict[str, LazyTensor] = {}
    for key, part in value.items():
        if isinstance(part, Instance):
            raise CheckpointError(
                f"{where}: {printable(str(key))} is {part!r}, which is not a tensor that can be read."
            )
        if isinstance(part, LazyTensor):
            if not isinstance(key, str):
                raise CheckpointError(f"{where}: a tensor has the key {printable(repr(key))}, which is not text.")
            state[key] = part
    stored = sum({id(tensor.storage): tensor.storage.n_bytes for tensor in state.values()}.values())
    if sum(tensor.n_bytes for tensor in state.values()) > SHARING * stored + SMALL_BYTES:
        raise CheckpointError(
            f"{where}: its tensors would be more than {SHARING} times the {stored:,} bytes that are stored. "
            "Do not use it."
        )
    return unwrapped(state)


def _keys(content: Any) -> str:
    if not isinstance(content, dict):
        return "no entries"
    keys = [printable(str(key), 40) for key in list(content)[:12]]
    return ", ".join(keys) + (f" and {len(content) - 12} more" if len(content) > 12 else "") or "no entries"


def _kind(value: Any) -> str:
    return repr(value) if isinstance(value, (Instance, LazyTensor)) else f"a {type(value).__name__}"


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((printable(str(key), MAX_KEY_CHARACTERS), value) for key, value in node.items())
    elif isinstance(node, (list, tuple)):
        yield from ((str(index), value) for index, value in enumerate(node))
    elif isinstance(node, Instance):
        for part in (node.state, node.entries, node.items):
            if isinstance(part, (dict, list, tuple)):
                yield from _children(part)


class _Walk:
    """Goes through the content once. What refers to itself is cut; what unfolds without end is an error."""

    def __init__(self, steps: int) -> None:
        self.left = UNFOLDING * steps + 1000
        self.inside: set[int] = set()  # of these containers: meeting one again is a circle

    def enter(self, node: Any) -> bool:
        """Count a value; whether to go into it. `leave` follows."""
        self.left -= 1
        if self.left < 0 or len(self.inside) > MAX_DEPTH:
            raise CheckpointError(
                f"its data lie more than {MAX_DEPTH} deep, or refer to each other so that they have no end. "
                "Do not use it."
            )
        if id(node) in self.inside:
            return False
        self.inside.add(id(node))
        return True

    def leave(self, node: Any) -> None:
        self.inside.discard(id(node))

    def tensors(self, node: Any, path: str = "") -> Iterator[tuple[str, LazyTensor]]:
        if isinstance(node, LazyTensor):
            yield path, node
        elif isinstance(node, (dict, list, tuple, Instance)) and self.enter(node):
            for key, value in _children(node):
                yield from self.tensors(value, f"{path}/{key}" if path else key)
            self.leave(node)

    def plain(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            self.left -= 1
            return value
        if isinstance(value, Name):
            return str(value)
        if not isinstance(value, (dict, list, tuple, set, frozenset, Instance)) or not self.enter(value):
            return None  # tensors, arrays, circles
        try:
            if isinstance(value, dict):
                return self.plain_entries(value)
            if isinstance(value, Instance):
                return self.plain_instance(value)
            return [self.plain(part) for part in value if not isinstance(part, LazyTensor)]
        finally:
            self.leave(value)

    def plain_entries(self, value: dict[Any, Any]) -> dict[str | int, Any]:
        return {
            key if isinstance(key, (str, int)) else str(key): self.plain(part)
            for key, part in value.items()
            if not isinstance(part, LazyTensor)
        }

    def plain_instance(self, value: Instance) -> Any:
        state = value.state if isinstance(value.state, dict) else {}
        for field_name in WRAPPED.get(value.of.name, ()):
            if field_name in state:
                return self.plain(state[field_name])
        if value.of.name in DICTIONARY_LIKE:
            return self.plain_entries({**state, **value.entries})
        parts = ("args", "kwargs", "state", "items", "entries")
        kept = {
            part: self.plain(getattr(value, part)) for part in parts if getattr(value, part) not in (None, (), {}, [])
        }
        return {"class": str(value.of), **kept}
