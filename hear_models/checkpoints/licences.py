"""Licences of weights: the one table of what each lets a person do with a copy, and how a file's header says it.

A licence is free text in a manifest or a header. What stands in `TERMS` is understood; any other text is a licence that
nobody here has read, and is treated like none stated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hear_models.errors import CheckpointError

ALLOWED = "allowed"  # copies may be passed on, under the licence's conditions
FORBIDDEN = "forbidden"  # copies may not be passed on; no permission text changes that
NOT_STATED = "not stated"  # nobody said: the rights holder must be asked
SHARING = (ALLOWED, FORBIDDEN, NOT_STATED)
KEY = "licence"  # in the notes of a checkpoint's header


@dataclass(frozen=True)
class Licence:
    """A licence of weights."""

    name: str  # as people write it, SPDX where there is one
    sharing: str  # ALLOWED, FORBIDDEN or NOT_STATED
    hub_id: str = "other"  # in the front matter of a card on the Hub
    terms: str | None = None  # where the text is, or what it says in a sentence
    acceptance: tuple[str, ...] = ()  # what must be accepted before converting: lines of at most 80 columns


UNKNOWN = Licence("not stated", NOT_STATED, "unknown")

TERMS = (
    Licence("Apache-2.0", ALLOWED, "apache-2.0"),
    Licence("MIT", ALLOWED, "mit"),
    Licence("BSD-2-Clause", ALLOWED, "bsd-2-clause"),
    Licence("BSD-3-Clause", ALLOWED, "bsd-3-clause"),
    Licence("ISC", ALLOWED, "isc"),
    Licence("Unlicense", ALLOWED, "unlicense"),
    Licence("CC0-1.0", ALLOWED, "cc0-1.0"),
    Licence("CC-BY-4.0", ALLOWED, "cc-by-4.0"),
    Licence("CC-BY-SA-4.0", ALLOWED, "cc-by-sa-4.0"),
    Licence("CC-BY-NC-4.0", ALLOWED, "cc-by-nc-4.0"),
    Licence("CC-BY-NC-SA-4.0", ALLOWED, "cc-by-nc-sa-4.0"),
    Licence("MPL-2.0", ALLOWED, "mpl-2.0"),
    Licence("LGPL-3.0", ALLOWED, "lgpl-3.0"),
    Licence("GPL-3.0", ALLOWED, "gpl-3.0"),
    Licence("AGPL-3.0", ALLOWED, "agpl-3.0"),
    # a converted file is an adaptation, which the ND licences do not let anybody pass on
    Licence("CC-BY-ND-4.0", FORBIDDEN, "cc-by-nd-4.0"),
    Licence("CC-BY-NC-ND-4.0", FORBIDDEN, "cc-by-nc-nd-4.0"),
    Licence(
        "NTT evaluation licence",
        FORBIDDEN,
        terms="internal evaluation only, no redistribution",
        acceptance=(
            "Read it: LICENSE in https://github.com/nttcslab/msm-mae, or, for weights of the",
            "other repository, LICENSE.pdf in https://github.com/nttcslab/m2d.",
            "It lets you evaluate the weights internally. It forbids to sell, lend or pass",
            "them on, to disclose, modify, translate or reverse engineer them. Whether a",
            "conversion is a modification in that sense, this project cannot say.",
        ),
    ),
    UNKNOWN,
    Licence("none", NOT_STATED, "unknown"),
)


def read_licence(text: str) -> Licence:
    """What a manifest's free text means; what stands after a colon, a comma or in brackets is an explanation.

    An unknown licence keeps its name and counts as not stated: nobody here has read whether it lets copies be shared.
    """
    wanted = _plain(re.split(r"[:,;(]", text, maxsplit=1)[0])
    for licence in TERMS:
        if wanted in (_plain(licence.name), _plain(licence.hub_id)) and wanted != "other":
            return licence
    return Licence(text.strip() or UNKNOWN.name, NOT_STATED, "other" if wanted else "unknown")


def acceptance(name: str) -> tuple[str, ...]:
    """What a person must accept before converting weights under this licence, in lines; () if nothing."""
    return read_licence(name).acceptance


def licence_note(name: str, sharing: str | None = None, terms: str | None = None) -> dict[str, Any]:
    """The entry for `notes` of `write_checkpoint` that tells every later reader the licence of the weights.

    Args:
        name: of the licence, for instance "NTT evaluation licence" or "CC-BY-4.0".
        sharing: "allowed", "forbidden" or "not stated"; None: as the table says.
        terms: where the text is, or a sentence on what it says.

    Returns:
        {"licence": {"name", "sharing", "terms"}}, to be joined with other notes.
    """
    known = read_licence(name)
    chosen = known.sharing if sharing is None else sharing
    if chosen not in SHARING:
        raise ValueError(f"sharing is {chosen!r}, none of {SHARING}")
    return {KEY: {"name": name, "sharing": chosen, "terms": known.terms if terms is None else terms}}


def licence_in(notes: Mapping[str, Any]) -> Licence | None:
    """The licence that a header's notes carry, or None.

    The stricter of table and note decides, so that neither an old file nor an old table lets a copy out.
    Raises CheckpointError if the note is there but not in the form of `licence_note`.
    """
    note = notes.get(KEY)
    if note is None:
        return None
    if isinstance(note, str):
        return read_licence(note)
    if (
        not isinstance(note, Mapping)
        or not isinstance(note.get("name"), str)
        or not (isinstance(note.get("sharing"), str) and note["sharing"] in SHARING)
    ):
        raise CheckpointError(
            f"the licence in the file's header cannot be understood: {note!r}. Convert or train the file again."
        )
    known = read_licence(note["name"])
    in_table = any(known is licence for licence in TERMS)
    strictest = max((known.sharing, note["sharing"]), key=(ALLOWED, NOT_STATED, FORBIDDEN).index)
    terms = note.get("terms")
    return Licence(
        note["name"],
        strictest if in_table else note["sharing"],
        known.hub_id,
        terms if isinstance(terms, str) else known.terms,
    )


def _plain(text: str) -> str:
    """For comparison: lower case, one hyphen between words, "license" as "licence"."""
    plain = re.sub(r"[\s_-]+", "-", text.strip().casefold()).replace("license", "licence")
    return re.sub(r"(?<=.)-licence$", "", plain)
