"""The table of judges: what each one can do, whose code decides its numbers, and how it is asked.

A new judge is two things: a file in this folder with a function of the shape of `JudgeFunction`, and a row in `JUDGES`.
Options, plans, workers, records and tables read the row; none of them knows a judge by its name.

Nothing is imported here before a judge is asked, so the table costs no time where it is only read.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hear_models.errors import UsageError
from hear_models.subjects.code import code_sha256
from hear_models.tasks.task import EVENT, SCENE

if TYPE_CHECKING:
    from hear_models.evaluation.embeddings.folder import EmbeddingFolder
    from hear_models.evaluation.judges.outcome import Outcome
    from hear_models.evaluation.judges.protocols import Protocol

HERE = Path(__file__).parent
ROOM = "hear_models.evaluation.judges"


class JudgeFunction(typing.Protocol):
    """How every judge is asked: one embedding folder, one protocol, one seed.

    With `random_labels` the labels are shuffled before training; a judge that cannot do that raises UsageError.
    """

    def __call__(
        self, folder: EmbeddingFolder, protocol: Protocol, seed: int, *, random_labels: bool = False
    ) -> Outcome: ...


@dataclass(frozen=True)
class Judge:
    """One row.

    Args:
        name: as options, records and names of files say it.
        about: a clause for the help.
        entrance: "module:function" in this folder, the function a `JudgeFunction`. The module's code, with all that it
            imports from this package, is the code of the judge: records name its digest.
        kinds: of tasks that it can judge, by their `embedding_type`.
        comparable: whether its scores may stand in a leaderboard. Where not, it is a quick look: its records have the
            protocol "not-comparable", and `--probe` asks it.
        shuffles: whether it can shuffle labels.
        needs_torch: whether its process loads torch, which takes longer than a quick look.
        files: others than modules that decide its numbers; they count in the digest.
        preparation: "module:function" that a run calls once, with a function that says a sentence, before its workers
            start: for what takes minutes and would be done by each of them.
        same_bits_as: the judge of record, of a judge whose logits agreement.py compares with its.
        is_the_kit: whether it stops at what stops the released kit.
    """

    name: str
    about: str
    entrance: str
    kinds: tuple[str, ...] = (SCENE, EVENT)
    comparable: bool = True
    shuffles: bool = True
    needs_torch: bool = True
    files: tuple[Path, ...] = ()
    preparation: str | None = None
    same_bits_as: str | None = None
    is_the_kit: bool = False

    def judge(self, folder: EmbeddingFolder, protocol: Protocol, seed: int, *, random_labels: bool = False) -> Outcome:
        """Ask the judge; raises what it raises."""
        function: JudgeFunction = _function(self.entrance)
        return function(folder, protocol, seed, random_labels=random_labels)

    def prepare(self, say: Callable[[str], None]) -> None:
        """What must be there before several processes judge; nothing for most."""
        if self.preparation:
            _function(self.preparation)(say)


_ROWS = (
    Judge(
        name="builtin",
        about="our own loop",
        entrance="builtin:judge",
        same_bits_as="heareval",
    ),
    Judge(
        name="heareval",
        about="the released kit in its own environment",
        entrance="heareval:judge",
        shuffles=False,
        files=(HERE / "heareval-requirements.txt", HERE / "heareval-sources.txt"),
        preparation="heareval_environment:ensure_environment",
        is_the_kit=True,
    ),
    Judge(
        name="probe-linear",
        about="logistic regression",
        entrance="probe:judge_linear",
        kinds=(SCENE,),
        comparable=False,
        needs_torch=False,
    ),
    Judge(
        name="probe-knn",
        about="the nearest clips",
        entrance="probe:judge_knn",
        kinds=(SCENE,),
        comparable=False,
        needs_torch=False,
    ),
)
JUDGES: dict[str, Judge] = {row.name: row for row in _ROWS}


def find_judge(name: str) -> Judge:
    """The row of that name; UsageError names the known ones."""
    if name not in JUDGES:
        raise UsageError(f"There is no judge {name!r}. Choose one of: {', '.join(JUDGES)}.")
    return JUDGES[name]


def code_of(name: str) -> str:
    """The sha256 over the code of a judge: its module, what that imports from this package, and its other files."""
    judge = JUDGES[name]
    return code_sha256(f"{ROOM}.{judge.entrance.partition(':')[0]}", files=judge.files)


def _function(dotted: str) -> Any:
    """ "module:function" of this folder, imported now."""
    module, _, name = dotted.partition(":")
    return getattr(import_module(f"{ROOM}.{module}"), name)
