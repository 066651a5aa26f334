"""`hear-models info`: everything known about one model, or about one converted file."""

from __future__ import annotations

import json
from typing import Any

import click

LABELS = {
    "scene_embedding_size": "scene embedding",
    "timestamp_embedding_size": "timestamp embeddings",
    "sample_rate": "sample rate",
    "published_scores": "published scores",
    "licence": "licence of the weights",
    "stored_as": "stored as",
}
UNITS = {"scene_embedding_size": "dimensions", "timestamp_embedding_size": "dimensions", "sample_rate": "Hz"}
LABEL_WIDTH = 24
TEXT_WIDTH = 79


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="NAME_OR_FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, as_json: bool) -> None:
    """Show everything known about a model, or about a converted .safetensors file.

    A file may be on the Hugging Face Hub: hf://ORG/REPO[@REVISION]. Of a file
    every byte is verified; a damaged one ends with an error.
    """
    from hear_models.zoo.describe import describe

    facts = describe(name)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        _print(key, value)


def _print(key: str, value: Any, indent: str = "") -> None:
    """One line per fact; nested tables are indented, long texts wrapped, what is unknown left out.

    Texts may be a stranger's: what a terminal would obey is escaped.
    """
    import textwrap

    from hear_models.checkpoints.pickle_data import printable

    if value is None or value == {} or key == "default":
        return
    label = indent + printable(LABELS.get(key, key.replace("_", " ")))
    if isinstance(value, dict):
        click.echo(label)
        for inner, content in value.items():
            _print(inner, content, indent + "  ")
        return
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    text = " ".join((f"{value} {UNITS[key]}" if key in UNITS else str(value)).split())
    text = printable(text, len(text))
    lines = textwrap.wrap(text, TEXT_WIDTH - LABEL_WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    if len(label) >= LABEL_WIDTH:
        click.echo(label)
        label = ""
    for first, line in zip([label, *[""] * len(lines)], lines, strict=False):
        click.echo(f"{first:<{LABEL_WIDTH}}{line}")
