"""What an official checkpoint tells of its Config, by origin: shapes, the trainer's settings, the user's word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hear_models.checkpoints.mapping import Shapes
from hear_models.errors import CheckpointError

SHAPES = "the tensors' shapes"
SETTINGS = "the trainer's configuration"
GIVEN = "--set"


class Facts:
    """Fields of a Config with where each was found; a second origin that says otherwise is an error naming both."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def add(self, name: str, value: Any, origin: str) -> None:
        """Record a field, or check it against what is known."""
        if name in self.values and self.values[name] != value:
            raise CheckpointError(
                f"{name} is {self.values[name]} by {self.origins[name]}, but {value} by {origin}. "
                "Correct --config or --set."
            )
        if name not in self.values:
            self.values[name], self.origins[name] = value, origin

    def add_all(self, values: Mapping[str, Any], origin: str) -> None:
        """Several fields of one origin."""
        for name, value in values.items():
            self.add(name, value, origin)

    def add_settings(self, settings: Mapping[str, Any], ours: Mapping[str, str | tuple[str, str]]) -> None:
        """What stands among the trainer's settings, by its name there → ours; two names take a pair apart."""
        for theirs, name in ours.items():
            value = settings.get(theirs)
            if isinstance(name, str):
                if theirs in settings:
                    self.add(name, value, SETTINGS)
            elif isinstance(value, (list, tuple)) and len(value) == 2:
                self.add_all(dict(zip(name, value, strict=True)), SETTINGS)


def patch_encoder(shapes: Shapes, width: str, depth: str, by_band: bool = False) -> dict[str, Any]:
    """The sizes that the tensors of a patch encoder tell: token width and depth, named so, patch and class token."""
    first = shapes.of("patch_embed.weight", 4)
    patch = ("patch_bands", "patch_frames") if by_band else ("patch_frames", "patch_bands")
    sizes = dict(zip(patch, first[2:], strict=True))
    return {
        "class_token": "cls_token" in shapes.shapes,
        width: first[0],
        depth: shapes.count("blocks."),
        **sizes,
    }


def masked_decoder(shapes: Shapes) -> dict[str, Any]:
    """The sizes of the decoder that predicts dropped patches; nothing if the file has none."""
    if not has_part(shapes.shapes, "decoder"):
        return {}
    return {"decoder_width": shapes.of("decoder.embed.weight", 2)[0], "decoder_depth": shapes.count("decoder.blocks.")}


def macaron_block(shapes: Shapes, first: str, part: str, width: int) -> dict[str, Any]:
    """The kind of block (`layers/macaron.py`) of a part, by the tensors named `first`..., and its hidden widths."""
    macaron, gate = f"{first}.ffn1.layer1.weight" in shapes.shapes, f"{first}.ffn2.linear1.weight"
    hidden = shapes.of(f"{first}.{'ffn1.layer1' if macaron else 'mlp.fc1'}.weight", 2)[0]
    sizes = {f"{part}_block": "macaron" if macaron else "plain", "mlp_ratio": hidden / width}
    if gate not in shapes.shapes:
        return sizes
    return {**sizes, f"{part}_block": "swiglu", "limit_swiglu_features": shapes.of(gate, 2)[0] == int(hidden / 2)}


def check_positions(shapes: Shapes, class_token: bool, tokens: int, flags: str) -> None:
    """Raise CheckpointError, naming the flags that help, unless the position table has a row for every token."""
    rows = shapes.of("pos_embed", 3)[1] - class_token
    if rows != tokens:
        raise CheckpointError(f"pos_embed has {rows} tokens, the patches of a unit are {tokens}. Give {flags}.")


def has_part(names: Iterable[str], part: str) -> bool:
    """Whether one of our names lies below `part`."""
    return any(name.startswith(f"{part}.") for name in names)
