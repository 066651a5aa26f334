"""What `evaluate` is asked to do, checked before anything heavy is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hear_models.errors import UsageError
from hear_models.evaluation.judges.protocols import NOT_COMPARABLE, PROTOCOLS, protocol
from hear_models.evaluation.judges.table import find_judge
from hear_models.extras import check_installed

LARGEST_SEED = 2**32 - 1
EMBEDDINGS_DIR = "task-embeddings"  # not where people put those of their recordings
# an absolute path, in an argument or behind KEY=, MODULE: or a comma; of addresses (https://) none
PLACE = re.compile(r"(?:^|(?<=[=,])|(?<=:)(?!//))(?:~[\w.-]*|[A-Za-z]:)?[/\\](?!/)[^,]*")
FLOORS = ("logmel-stats", "random-projection")  # what a score is worth shows beside models that learned nothing


@dataclass(frozen=True)
class Request:
    """Models x tasks x seeds, and how.

    Args:
        models: names as `subject.resolve` takes them.
        floors: evaluated behind the models, without `settings`, unless they are among them already.
        tasks_dir: folder of task folders; `only` names some of them as `tasks.list_tasks` takes them.
        protocol: "hear" or "paper"; a quick look has none.
        judge: a name in judges/table.py.
        seeds: None for those of the protocol (hear 42, paper 0 to 9, a quick look 0).
        jobs: judges at once; None for the number of cores.
        results: folder of the records; embeddings_dir: folder of the embeddings.
        device: of the embeddings; None for a GPU if there is one. Judges run on the CPU.
        settings: KEY=VALUE, options of every model.
        names: what tables and folders call the models, one for each in their order; none: by themselves.
        allow_untrained: accept random weights of ours.
        random_labels: shuffle the labels before training.
        overwrite: put records of other inputs aside.
        command: what the records say made them, without folders of this machine.
    """

    models: Sequence[str]
    tasks_dir: str | Path
    floors: Sequence[str] = ()
    only: Sequence[str] = ()
    protocol: str | None = "hear"
    judge: str = "builtin"
    seeds: Sequence[int] | None = None
    jobs: int | None = None
    results: str | Path = "results"
    embeddings_dir: str | Path = EMBEDDINGS_DIR
    device: str | None = None
    settings: Sequence[str] = ()
    names: Sequence[str] = ()
    allow_untrained: bool = False
    random_labels: bool = False
    overwrite: bool = False
    command: tuple[str, ...] = ()

    @property
    def told_command(self) -> tuple[str, ...]:
        """The command for people elsewhere: of absolute paths the last part is left, as `.../NAME`."""
        return tuple(PLACE.sub(lambda found: f".../{_last_part(found[0])}", part) for part in self.command)

    @property
    def is_quick_look(self) -> bool:
        """Whether the scores may not stand in a leaderboard; UsageError for an unknown judge."""
        return not find_judge(self.judge).comparable

    @property
    def protocol_name(self) -> str:
        """As the records say it."""
        return NOT_COMPARABLE if self.is_quick_look or self.protocol is None else self.protocol

    @property
    def seed_list(self) -> list[int]:
        """The seeds, in order, each once."""
        if self.seeds is not None:
            return list(dict.fromkeys(self.seeds))
        return list(protocol(self.protocol_name).default_seeds)

    def check(self) -> None:
        """Raise UsageError for what can be seen without a model or a task."""
        if not self.models:
            raise UsageError("There is no model to evaluate. Name at least one; `hear-models list` shows ours.")
        if twice := [name for name in self.models if list(self.models).count(name) > 1]:
            raise UsageError(f"{twice[0]} is named twice. Name each model once.")
        if self.names and len(self.names) != len(self.models):
            raise UsageError(
                f"--name was given {len(self.names)} times for {len(self.models)} models. "
                "Give one for each, in their order."
            )
        judge = find_judge(self.judge)
        if not judge.comparable:
            check_installed("sklearn", "The quick look needs", "eval")
        if judge.comparable and self.protocol not in PROTOCOLS:
            raise UsageError(f"There is no protocol {self.protocol!r}. Choose one of: {', '.join(PROTOCOLS)}.")
        if not self.seed_list or not all(0 <= seed <= LARGEST_SEED for seed in self.seed_list):
            raise UsageError(f"Seeds are {self.seed_list}. Give numbers from 0 to {LARGEST_SEED}.")
        if self.random_labels and not judge.shuffles:
            raise UsageError(f"The judge {judge.name} cannot shuffle labels. Use --random-labels with --judge builtin.")
        if not Path(self.tasks_dir).is_dir():
            raise UsageError(
                f"{self.tasks_dir} is no folder. Give the folder that holds the task folders; "
                "`hear-models tasks make-small` makes one to try."
            )
        for name, folder in (("--results", self.results), ("--embeddings-dir", self.embeddings_dir)):
            if Path(folder).exists() and not Path(folder).is_dir():
                raise UsageError(f"{folder} is no folder. Give {name} another one.")

    def absolute(self) -> Request:
        """The same with absolute folders: workers and judges may stand elsewhere."""
        return replace(
            self,
            tasks_dir=Path(self.tasks_dir).absolute(),
            results=Path(self.results).absolute(),
            embeddings_dir=Path(self.embeddings_dir).absolute(),
        )


def parse_seeds(text: str | None) -> list[int] | None:
    """ "10" → 0 to 9; "3," or "0,1,2" → those; None stays None. UsageError for anything else."""
    if text is None:
        return None
    if not re.fullmatch(r"\s*\d{1,10}\s*(,\s*\d{1,10}\s*)*,?\s*", text, re.ASCII):
        raise UsageError(
            f"--seeds {text!r} is neither a number of seeds nor a list. Write --seeds 10 or --seeds 0,1,2."
        )
    numbers = [int(part) for part in text.split(",") if part.strip()]
    if "," in text:
        return numbers
    if not 1 <= numbers[0] <= 1000:
        hint = f" For the seed {numbers[0]} alone write --seeds {numbers[0]}," if numbers[0] else ""
        raise UsageError(f"--seeds {numbers[0]} asks for {numbers[0]} seeds. Give 1 to 1000.{hint}")
    return list(range(numbers[0]))


def parse_only(texts: Sequence[str]) -> tuple[str, ...]:
    """Names from several options, each of which may hold several, parted by commas."""
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    if texts and not names:
        raise UsageError("--tasks names no task. Write for instance --tasks esc50,libricount, or leave it out.")
    return names


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
