"""Which records are of one model: those of one name, with the same weights, code and options.

Records of older versions do not say what code embedded. They count as one model as long as nothing contradicts it: of
one task, embeddings that were made from other inputs are another model's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hear_models.evaluation.board.results import Result
from hear_models.evaluation.runs.record import Record

DIGITS = 8  # of a sha256, in a label


@dataclass(frozen=True)
class Identity:
    """What sets two models apart; "" where a record does not say."""

    name: str
    options: str  # JSON
    weights: str
    code: str
    embeddings: str = ""  # of an older record, where it has to tell two models apart

    @property
    def base(self) -> str:
        """The name with the options, as people say it."""
        options = ", ".join(f"{key}={value}" for key, value in sorted(json.loads(self.options).items()))
        return f"{self.name} ({options})" if options else self.name


def identities(results: Iterable[Result]) -> Callable[[Record], Identity]:
    """The identity of every record among these results."""
    made_from: dict[tuple[Identity, str], set[str]] = defaultdict(set)
    for result in results:
        record = result.record
        if record.model.sha256 is None and record.embeddings is not None:
            made_from[_said(record), record.task.name].add(record.embeddings.sha256)

    def identity(record: Record) -> Identity:
        found = _said(record)
        if len(made_from.get((found, record.task.name), ())) > 1 and record.embeddings is not None:
            return Identity(found.name, found.options, found.weights, found.code, record.embeddings.sha256)
        return found

    return identity


def _said(record: Record) -> Identity:
    model = record.model
    options = json.dumps(model.options, sort_keys=True)
    if model.sha256 is not None:
        return Identity(model.name, options, model.weights_sha256 or "", model.code_sha256 or "")
    return Identity(model.name, options, model.checkpoint_sha256 or model.slug, "")


def labels(found: Iterable[Identity]) -> dict[Identity, str]:
    """A name for each, unique among them: where two are alike, with what sets them apart."""
    alike: dict[str, list[Identity]] = defaultdict(list)
    for identity in dict.fromkeys(found):
        alike[identity.base].append(identity)
    return {
        identity: f"{base} [{_apart(identity, same)}]" if len(same) > 1 else base
        for base, same in alike.items()
        for identity in same
    }


def _apart(identity: Identity, same: list[Identity]) -> str:
    parts = []
    for what in ("weights", "code", "embeddings"):
        if len({getattr(other, what) for other in same}) > 1:
            said = getattr(identity, what)[:DIGITS]
            if said or what != "embeddings":
                parts.append(f"{what} {said or 'not recorded'}")
    return ", ".join(parts)
