"""From the tensors of an official checkpoint to ours: rules as data, applied strictly, each tensor reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.errors import CheckpointError

Shape = tuple[int, ...]

# layout operations; the names stand in the report
OPERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as is": lambda array: array,
    "transpose": lambda array: array.T,  # a dense kernel [in, out] → a Linear weight [out, in]
    "axes 3 2 0 1": lambda array: array.transpose(
        3, 2, 0, 1
    ),  # a kernel [height, width, in, out] → [out, in, height, width]
    "flat": lambda array: array.reshape(-1),  # a kernel [1, 1, channels, 1] → a vector [channels]
}
RANK = {"transpose": 2, "axes 3 2 0 1": 4, "flat": 4}


@dataclass(frozen=True)
class SourceArray:
    """A tensor as a reader found it: values, and the name of the dtype in the file."""

    values: np.ndarray
    dtype: str


@dataclass(frozen=True)
class Source:
    """What a reader returns.

    Attributes:
        arrays: the network's tensors by the official key.
        config_file: the trainer's configuration file, if one lies beside the checkpoint.
        description: what identifies the file (file, format, sha256, bytes, step or epoch); goes into the header.
        ignored: parts of the file that no network needs, for the report.
        said: what stands in a torch file beside the tensors, as plain data: {"args": {"input_size": [80, 208], ...}}.
        names: of a torch file and the folders around it, outermost first; releases say things by them.
        notes: what the reader met and did not understand, a sentence each.
        others: entries with other networks in them, which a key would choose: an average of the weights, a teacher.
    """

    arrays: Mapping[str, SourceArray]
    config_file: Path | None
    description: dict[str, Any]
    ignored: tuple[str, ...]
    said: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """`official` → `name`. One letter stands for a number, more for any text.

    `{i}` is a number without leading zeros, `{i:02}` one with them (ours have none); Rule("net.{path}", "{path}") takes
    "net." away from every key.
    """

    official: str
    name: str
    operation: str = "as is"


class Shapes:
    """Shapes of the renamed tensors; what is missing or of another rank is an error that gives the official key."""

    def __init__(self, shapes: Mapping[str, Shape], rules: Sequence[Rule]) -> None:
        self.shapes = dict(shapes)
        self.rules = rules

    def of(self, name: str, rank: int) -> Shape:
        """The shape of a tensor that must be there."""
        if name not in self.shapes:
            raise CheckpointError(
                f"missing in the official file: {official_key(name, self.rules)} ({name}). Fetch the whole checkpoint."
            )
        shape = self.shapes[name]
        if len(shape) != rank:
            raise CheckpointError(
                f"{official_key(name, self.rules)} ({name}) is {list(shape)}; {rank} dimensions were expected."
            )
        return shape

    def numbered(self, prefix: str) -> list[int]:
        """The numbers n of all names `prefix`n or `prefix`n.more, rising."""
        pattern = re.compile(re.escape(prefix) + r"(\d+)(?:\.|$)")
        return sorted({int(match[1]) for name in self.shapes if (match := pattern.match(name))})

    def count(self, prefix: str) -> int:
        """How many blocks there are; a gap in their numbers is an error."""
        numbers = self.numbered(prefix)
        if numbers != list(range(len(numbers))):
            gap = next(n for n in range(len(numbers)) if n not in numbers)
            raise CheckpointError(
                f"{prefix}{gap} is missing: the file's numbers are {numbers[:20]}. Fetch the whole checkpoint."
            )
        return len(numbers)


@dataclass(frozen=True)
class Official:
    """How a family's published checkpoints are read; declared as `OFFICIAL` in the family's module.

    Attributes:
        format: the key of a reader in `checkpoints.readers.READERS`, "flax" or "torch"; of either the same tensors may
            come in safetensors files, by the same keys.
        rules: every tensor of the official file must match one; the first that does counts.
        recognise: official keys → the name of the family that they belong to, None if they do not tell.
        infer: (shapes by our names, trainer's configuration or {}, fields set by the user) → the fields of the Config.
            For "torch" the configuration is `Source.said`, its entries replaced by those of --config, and "names" is
            `Source.names`.
        licence: of the official weights, a name of `checkpoints.licences.TERMS`; it goes into the header of converted
            files, and `publish` refuses those whose licence forbids copies; some must be accepted before converting.
            None: as the manifests say.
        drop: regular expressions for whole keys of tensors that no network of ours needs, such as
            ".*num_batches_tracked"; the report lists them.
        prepare: what must happen to the arrays before the rules, for instance joining two into one; they come without
            those of `drop`. None: nothing.
        observe: what `infer` must know of the arrays' values; joins the trainer's configuration. None: nothing.
        collections: of a Flax file, the entries of its top level that hold tensors of the network.
        settings_keys: what the trainer's configuration must hold, if it is given.

    A family whose checkpoints come in several formats declares a tuple of these.
    """

    format: str
    rules: Sequence[Rule]
    recognise: Callable[[Collection[str]], str | None]
    infer: Callable[[Shapes, Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    licence: str | None = None
    drop: Sequence[str] = ()
    prepare: Callable[[Source], Mapping[str, SourceArray]] | None = None
    observe: Callable[[Source], Mapping[str, Any]] | None = None
    collections: Sequence[str] = ("params",)
    settings_keys: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    official: str
    name: str
    shape: Shape  # ours, after the operation
    dtype: str  # as stored in the official file
    operation: str


def apply_rules(arrays: dict[str, SourceArray], rules: Sequence[Rule]) -> tuple[dict[str, np.ndarray], list[Row]]:
    """Rename and lay out every array as float32; report rows in the order of our names.

    `arrays` is emptied on the way, so that a checkpoint is not in memory twice.

    Raises CheckpointError for keys that no rule knows, two keys with one target, a rank that does not suit the
    operation, arrays that are empty or not floating point, and NaN or infinity.
    """
    compiled = [(_pattern(rule.official), rule) for rule in rules]
    tensors: dict[str, np.ndarray] = {}
    rows: list[Row] = []
    unknown: list[str] = []
    for key in list(arrays):
        array = arrays.pop(key)
        match, rule = next(((m, rule) for pattern, rule in compiled if (m := pattern.fullmatch(key))), (None, None))
        if match is None or rule is None:
            unknown.append(key)
            continue
        name = _filled(rule.name, match)
        if name in tensors:
            raise CheckpointError(
                f"{key}: a second tensor for {name}. The file is not one that the official code writes."
            )
        if not np.issubdtype(array.values.dtype, np.floating):
            raise CheckpointError(
                f"{key} holds {array.dtype}, not floating-point weights. The file is not an official one."
            )
        if array.values.size == 0:
            raise CheckpointError(
                f"{key} is empty: {list(array.values.shape)}. The file is not one that the official code writes."
            )
        rank = RANK.get(rule.operation)
        if rank is not None and array.values.ndim != rank:
            raise CheckpointError(f"{key} has the shape {list(array.values.shape)}; {rank} dimensions were expected.")
        value = np.ascontiguousarray(OPERATIONS[rule.operation](array.values)).astype(np.float32, copy=False)
        if not np.isfinite(value).all():
            raise CheckpointError(
                f"{key} holds NaN or infinity. The training that wrote it had failed, or the file is damaged."
            )
        tensors[name] = value.reshape(array.values.shape) if rank is None else value
        rows.append(
            Row(key, name, value.shape if rank is not None else array.values.shape, array.dtype, rule.operation)
        )
    if unknown:
        raise CheckpointError(f"unknown in the official file: {listing(unknown)}. Is it a checkpoint of this family?")
    return tensors, sorted(rows, key=lambda row: natural(row.name))


def check_shapes(rows: Sequence[Row], expected: Mapping[str, Shape], rules: Sequence[Rule]) -> None:
    """The tensors found must be those of the network, by name and shape; errors give the official keys."""
    found = {row.name: row for row in rows}
    if missing := [name for name in expected if name not in found]:
        keys = [f"{official_key(name, rules)} ({name})" for name in missing]
        raise CheckpointError(f"missing in the official file: {listing(keys)}. Fetch the whole checkpoint.")
    if extra := [f"{row.official} ({row.name})" for row in rows if row.name not in expected]:
        raise CheckpointError(f"the configuration has no place for {listing(extra)}. Check the configuration.")
    wrong = [
        f"{row.official} ({row.name}) is {list(row.shape)}, expected {list(expected[row.name])}"
        for row in rows
        if tuple(row.shape) != tuple(expected[row.name])
    ]
    if wrong:
        raise CheckpointError(f"wrong shape: {listing(wrong, separator='; ')}. Check the file and the configuration.")


def listing(items: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """The first few items and how many more there are."""
    return separator.join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts block 10 after block 9."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", name)]


def _pattern(official: str) -> re.Pattern[str]:
    """The rule's key as a regular expression; `{i:02}` wants two digits or more, `{i}` no leading zero."""
    pieces = re.split(r"(\{\w+\}|\{\w:02\})", official)
    kinds = {"}": r"(?P<{0}>0|[1-9][0-9]{{0,5}})", ":": r"(?P<{0}>[0-9]{{2,6}})"}
    return re.compile(
        "".join(
            kinds.get(piece[2], r"(?P<{0}>.+)").format(re.match(r"\w+", piece[1:])[0])  # type: ignore[index]
            if piece[:1] == "{"
            else re.escape(piece)
            for piece in pieces
        )
    )


def _filled(key: str, match: re.Match[str]) -> str:
    found = match.groupdict().items()
    return key.format(**{variable: int(text) if len(variable) == 1 else text for variable, text in found})


def official_key(name: str, rules: Sequence[Rule]) -> str:
    """The key in the official file that becomes our `name`."""
    for rule in rules:
        match = _pattern(rule.name).fullmatch(name)
        if match:
            return _filled(rule.official, match)
    return "no official key"
