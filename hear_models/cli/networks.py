"""What commands share that run one of our models over recordings: its options, and loading it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hear_models.pipeline.model import HearModel

MODEL = click.option("-m", "--model", default="mwmae-nano", show_default=True, metavar="NAME|FILE", help="Embeds.")
SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of its load_model; repeatable."
)
DEVICE = click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda if there is one]")
UNTRAINED = click.option("--allow-untrained", is_flag=True, help="Accept a model with random weights.")


def load_network(name: str, settings: Sequence[str], device: str | None, allow_untrained: bool) -> HearModel:
    """The model that a command's options name."""
    import torch

    from hear_models.subjects.naming import find_ours
    from hear_models.subjects.subject import parse_options

    options = parse_options(tuple(settings))
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = find_ours(name, allow_untrained=allow_untrained, how="--allow-untrained")
    return found.load(**options, device=where)
