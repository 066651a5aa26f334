"""The model card of a published checkpoint: what the file is, where it comes from, and what nobody checked.

A card is written from data alone (header, manifest, sizes), so that it says the same of the same file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hear_models.checkpoints.licences import Licence
from hear_models.checkpoints.manifest import Original
from hear_models.checkpoints.safetensors_file import Header
from hear_models.markdown import inline

LIBRARY = "hear-models"
PIPELINE_TAG = "feature-extraction"  # the Hub's name for "data in, embeddings out"


@dataclass(frozen=True)
class CardFacts:
    """Everything that a card says."""

    repository: str  # ORG/NAME
    branch: str | None  # None: main
    summary: str  # one line
    header: Header
    paper: str | None
    sample_rate: int  # Hz
    scene_embedding_size: int
    timestamp_embedding_size: int
    file: str  # name in the repository
    sha256: str
    n_bytes: int
    stored_as: tuple[str, ...]  # dtypes in the file
    parameters: int
    licence: Licence
    licence_from: str  # who says so: "the manifest of mwmae-nano", "the publisher", ...
    permission: str | None  # the text of --i-have-permission
    training: str | None  # how the weights came about, if anybody said so
    original: Original | None  # the official release of a network of this configuration
    original_name: str | None  # its name in the registry
    about: str | None  # Markdown that was written by hand for this checkpoint

    @property
    def address(self) -> str:
        """What `load_model` takes."""
        return f"hf://{self.repository}" + (f"@{self.branch}" if self.branch else "")


def write_card(facts: CardFacts) -> str:
    """The README.md of the repository: YAML front matter for the Hub, then Markdown for people."""
    sections = (
        _front_matter(facts),
        f"# {facts.repository.partition('/')[2]}\n\n{_opening(facts)}",
        _use(facts),
        f"## About\n\n{facts.about}" if facts.about else None,
        _provenance(facts),
        _licence(facts),
        _file(facts),
        _unverified(facts),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(facts: CardFacts) -> str:
    from huggingface_hub import ModelCardData

    named = facts.licence.hub_id == "other"
    arxiv = re.search(r"\b\d{4}\.\d{4,5}\b", f"{facts.paper} {facts.summary}")
    data = ModelCardData(
        license=facts.licence.hub_id,
        license_name=re.sub(r"[^a-z0-9.]+", "-", facts.licence.name.lower()).strip("-") if named else None,
        library_name=LIBRARY,
        pipeline_tag=PIPELINE_TAG,
        tags=[
            "audio",
            "audio-embeddings",
            "hear-2021",
            facts.header.family,
            *([f"arxiv:{arxiv[0]}"] if arxiv else []),
            *([] if facts.header.trained else ["untrained"]),
        ],
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _opening(facts: CardFacts) -> str:
    summary = facts.summary[:1].upper() + facts.summary[1:].rstrip(".")
    lines = [
        f"{summary}. An audio-representation model behind the HEAR 2021 API, of the family "
        f"`{facts.header.family}` of {LIBRARY}.",
        "",
        f"- **Takes** mono audio at {facts.sample_rate} Hz.",
        f"- **Gives** scene embeddings of {facts.scene_embedding_size} dimensions and timestamp embeddings of "
        f"{facts.timestamp_embedding_size} dimensions.",
    ]
    if facts.paper:
        lines.append(f"- **Paper**: {facts.paper}.")
    if not facts.header.trained:
        lines.insert(0, "**A random network: nothing was trained. Its embeddings are good for tests only.**\n")
    return "\n".join(lines)


def _use(facts: CardFacts) -> str:
    return (
        f"## How to load it\n\nWith the Python package {LIBRARY}:\n\n```python\nimport hear_models\n"
        f'model = hear_models.load_model("{facts.address}")\n'
        'scene = hear_models.embed("recording.wav", model)\n```'
    )


def _provenance(facts: CardFacts) -> str:
    header, lines = facts.header, ["## Where the weights come from", ""]
    if header.source:
        lines.append(
            f"Converted by {_inline(header.converter)} from another format; the values are those of the source:"
        )
        lines += ["", *_table(header.source)]
    if isinstance(base := header.notes.get("started_from"), Mapping):
        lines += ["", "Training began with the weights of:", "", *_table(base)]
    if facts.training:
        lines += ["", f"Training: {_inline(facts.training)}."]
    if isinstance(recipe := header.notes.get("recipe"), Mapping):
        step = header.notes.get("step") if isinstance(header.notes.get("step"), int) else None
        lines += ["", f"Recipe of `hear-models pretrain`{f', {step} updates' if step else ''}:", ""]
        lines += [f"- {_inline(str(part))}: {_inline(_pairs(values))}" for part, values in recipe.items()]
    if isinstance(data := header.notes.get("data"), Mapping) and isinstance(data.get("sources"), list):
        lines += ["", "Trained on (features, by their content):", ""]
        lines += [f"- {_inline(_pairs(source))}" for source in data["sources"]]
    if facts.original and facts.original_name:
        lines += [
            "",
            f"The official release of a network of this configuration (`{facts.original_name}`): "
            f"<{facts.original.address}>, {facts.original.format}; its sha256: {facts.original.sha256}.",
        ]
    if len(lines) == 2:
        lines.append("The file does not say.")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _licence(facts: CardFacts) -> str:
    licence = facts.licence
    terms = f" ({_inline(licence.terms)})" if licence.terms else ""
    text = f"## Licence of the weights\n\n{_inline(licence.name)}{terms}. Stated by: {facts.licence_from}."
    if facts.permission:
        quoted = "\n".join(f"> {line}".rstrip() for line in facts.permission.strip().splitlines())
        text += f"\n\nThe publisher states that they may publish the file:\n\n{quoted}"
    return text


def _file(facts: CardFacts) -> str:
    return "\n".join(
        [
            "## The file",
            "",
            f"- `{facts.file}`: {facts.n_bytes:,} bytes, {facts.parameters:,} parameters, stored as "
            f"{' and '.join(facts.stored_as)}; its parts: {_inline(' and '.join(facts.header.parts))}.",
            f"- sha256 `{facts.sha256}`. The header holds a digest over every byte; it is verified at every load.",
            f"- Configuration: {_inline(_pairs(facts.header.config)) or 'the defaults of the family'}.",
        ]
    )


def _unverified(facts: CardFacts) -> str:
    """What a reader might take for granted, and nobody made sure of."""
    lines = ["Scores: none were measured when this was published; any figure above comes from whoever wrote that text."]
    if facts.header.source:
        lines.append(
            "That the source is the authors' own release, unchanged: compare its sha256 with theirs"
            + (
                f" (known here: {facts.original.sha256})."
                if facts.original and re.fullmatch("[0-9a-f]{64}", facts.original.sha256)
                else "; none is known here."
            )
        )
        lines.append("That the embeddings of this very file equal those of the authors' code with their weights.")
    if facts.permission:
        lines.append("The permission: it is the publisher's statement.")
    if facts.licence_from == "the publisher":
        lines.append("The licence: it is the publisher's statement.")
    if facts.training and facts.licence_from == "the publisher":
        lines.append("How the weights were trained: the text above was given by the publisher.")
    checked = "The file was verified byte by byte and loaded strictly before it was sent. Not verified:"
    return "\n".join(["## What was not verified", "", checked, "", *(f"- {line}" for line in lines)])


def _table(values: Mapping[str, Any]) -> list[str]:
    return [f"- {_inline(str(key))}: {_inline(_plain(value))}" for key, value in values.items() if value is not None]


def _pairs(values: Any) -> str:
    return ", ".join(f"{k} {_plain(v)}" for k, v in values.items()) if isinstance(values, Mapping) else _plain(values)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)


def _inline(text: str) -> str:
    """Text from a file or from a person, before a full stop."""
    return inline(text.rstrip(". \n"))
