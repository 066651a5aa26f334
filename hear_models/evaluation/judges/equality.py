"""The equality test: both judges on the same embeddings must give the same logits, bit for bit.

    python -m hear_models.evaluation.judges.equality              for this machine; the leaderboard may mix judges then
    python -m hear_models.evaluation.judges.equality FILE.json    the same, written to FILE (agreement.json here)

Cases: five folds, train/valid/test with integer labels, multilabel with clips that have none, events with two batches
an epoch; the search of the leaderboard and that of the papers. The embeddings are random numbers with a class's mean.
"""

from __future__ import annotations

import csv
import json
import pickle
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.errors import HearModelsError
from hear_models.evaluation.embeddings.folder import active_labels, packing_order, read_embedding_folder
from hear_models.evaluation.judges import agreement
from hear_models.evaluation.judges.outcome import Outcome
from hear_models.evaluation.judges.protocols import PROTOCOLS, Protocol
from hear_models.files import scratch_folder, write_atomically

DIM = 24
STEPS, HOP_MS = 120, 50.0  # of an event task's clip
SCORES_TOLERANCE = 1e-6  # the kit logs float32


class JudgesDiffer(HearModelsError):
    """The equality test is red: the two judges gave different results."""


@dataclass(frozen=True)
class Case:
    """A small task and how it is judged; its name ends in " folds" for a k-fold task."""

    name: str
    evaluation: tuple[str, ...]
    labels: tuple[Any, ...]
    clips: int  # a split
    protocol: Protocol
    seed: int
    multilabel: bool = False
    event: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(f"fold{i:02d}" for i in range(5)) if self.name == "folds" else ("train", "valid", "test")

    @property
    def title(self) -> str:
        return f"{self.name}, {self.protocol.name}, seed {self.seed}"


SCENE = ("top1_acc", "mAP", "d_prime", "aucroc")
CASES = (
    Case("folds", SCENE, ("a", "b", "c", "d"), 12, PROTOCOLS["hear"], 42),
    Case("folds", SCENE, ("a", "b", "c", "d"), 12, PROTOCOLS["paper"], 3),
    Case("integers", ("pitch_acc", "chroma_acc"), tuple(range(21, 37)), 32, PROTOCOLS["hear"], 42),
    Case("multilabel", ("mAP", "aucroc", "d_prime", "top1_acc"), tuple("abcde"), 40, PROTOCOLS["hear"], 42, True),
    Case(
        "event",
        ("event_onset_200ms_fms", "segment_1s_er"),
        ("cough", "knock", "speech"),
        10,
        replace(PROTOCOLS["hear"], grid_points=1),  # sed_eval is slow
        42,
        multilabel=True,
        event=True,
    ),
)


def write_case(case: Case, folder: Path) -> Path:
    """Write the embedding folder of a case as the kit lays it out."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    centres = rng.standard_normal((len(case.labels), DIM)) * 0.5
    metadata = {
        "task_name": case.name,
        "embedding_type": "event" if case.event else "scene",
        "prediction_type": "multilabel" if case.multilabel else "multiclass",
        "split_mode": "new_split_kfold" if case.name == "folds" else "trainvaltest",
        "splits": list(case.splits),
        "sample_duration": STEPS * HOP_MS / 1000.0,
        "evaluation": list(case.evaluation),
        "synthetic": True,
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    with (folder / "labelvocabulary.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("idx", "label"), *enumerate(case.labels)])
    items = {split: _items(case, split, rng) for split in case.splits}
    for split, files in packing_order({name: list(content) for name, content in items.items()}).items():
        content = items[split]
        if case.event:
            times = np.tile(np.arange(STEPS) * HOP_MS, len(files))
            rows_of = [file for file in files for _ in range(STEPS)]
            labels = active_labels(content, rows_of, times)
            stamps = [[f"{split}/{file}", time_ms] for file, time_ms in zip(rows_of, times.tolist(), strict=True)]
            (folder / f"{split}.filename-timestamps.json").write_text(json.dumps(stamps))
        else:
            labels = [content[file] for file in files]
        rows = rng.standard_normal((len(labels), DIM))
        for row, active in enumerate(labels):
            rows[row] += sum((centres[case.labels.index(label)] for label in active), np.zeros(DIM))
        rows.astype("<f4").tofile(folder / f"{split}.embeddings.npy")
        (folder / f"{split}.embedding-dimensions.json").write_text(json.dumps([len(rows), DIM]))
        (folder / f"{split}.target-labels.pkl").write_bytes(pickle.dumps(labels))
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def _items(case: Case, split: str, rng: np.random.Generator) -> dict[str, list[Any]]:
    items: dict[str, list[Any]] = {}
    for index in range(case.clips):
        name = f"{split}-{index:03d}.wav"
        if case.event:
            starts = rng.uniform(0, (STEPS - 20) * HOP_MS, 5)
            items[name] = [
                {"label": str(rng.choice(case.labels)), "start": start, "end": start + rng.uniform(300, 900)}
                for start in starts.tolist()
            ]
        elif case.multilabel:
            items[name] = [label for label in case.labels if rng.random() < 0.3]
        else:
            items[name] = [case.labels[index % len(case.labels)]]
    return items


def compare(one: Outcome, other: Outcome) -> tuple[float, list[str]]:
    """The largest absolute difference between logits, and a sentence for each other difference."""
    largest, complaints = 0.0, []
    if list(one.predictions) != list(other.predictions):
        return float("inf"), [f"test splits {list(one.predictions)} and {list(other.predictions)}"]
    for split, mine in one.predictions.items():
        theirs = other.predictions[split]
        if mine.logit is None or theirs.logit is None or mine.logit.shape != theirs.logit.shape:
            return float("inf"), [f"{split}: logits of different shapes"]
        largest = max(largest, float(np.abs(mine.logit - theirs.logit).max()))
        if mine.files != theirs.files or not np.array_equal(mine.target, theirs.target):
            complaints.append(f"{split}: other rows")
    for a, b in zip(one.folds, other.folds, strict=True):
        if (a.split, a.epoch, a.hyper_parameters) != (b.split, b.epoch, b.hyper_parameters):
            complaints.append(f"{a.split}: epoch {a.epoch} and {b.epoch}, or other hyper-parameters")
        for name in a.scores.keys() & b.scores.keys():
            complaints += _unlike(f"{a.split} {name}", a.scores[name], b.scores[name])
        complaints += _unlike(f"{a.split} validation", a.validation_score, b.validation_score)
    complaints += _unlike("score", one.score, other.score)
    if one.postprocessing != other.postprocessing:
        complaints.append(f"postprocessing {one.postprocessing} and {other.postprocessing}")
    return largest, complaints


def _unlike(name: str, a: float | None, b: float | None) -> list[str]:
    same = a is b is None or (a is not None and b is not None and abs(a - b) <= SCORES_TOLERANCE)
    return [] if same else [f"{name}: {a} and {b}"]


def prove(cases: Sequence[Case] = CASES, say: Callable[[str], None] = lambda line: None) -> agreement.Proof:
    """Run both judges on every case, one thread each; raises JudgesDiffer with what differed."""
    import torch

    from hear_models.evaluation.judges import builtin, heareval

    codes = agreement.builtin_sha256(), agreement.heareval_sha256()  # of what is imported now
    environment = heareval.ensure_environment(say)
    differences: dict[str, float] = {}
    with scratch_folder() as scratch:
        for number, case in enumerate(cases):
            folder = read_embedding_folder(write_case(case, Path(scratch) / f"{number}-{case.name}"))
            kit = heareval.judge(folder, case.protocol, case.seed, environment=environment)
            ours = builtin.judge(folder, case.protocol, case.seed)
            difference, complaints = compare(kit, ours)
            times = f"heareval {kit.cpu_s:.1f} s CPU, builtin {ours.cpu_s:.1f} s"
            say(f"{case.title}: logits {difference} apart; {times}")
            if difference or complaints:
                raise JudgesDiffer(
                    f"The judges differ on the case {case.title!r}: logits by {difference}; {'; '.join(complaints)}. "
                    "Records of both must not stand in one table; report this with your versions of torch and Python."
                )
            differences[case.title] = difference
    return agreement.Proof(
        torch=str(torch.__version__),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        machine=f"{sys.platform} {platform.machine()}",
        python=platform.python_version(),
        threads=1,
        builtin_sha256=codes[0],
        heareval_sha256=codes[1],
        max_difference=differences,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
    )


def write_proof(proof: agreement.Proof, path: Path) -> None:
    """Add a proof to a file; entries that are no longer current, or say less of the same torch and CPU, go."""
    kept = [
        other
        for other in agreement.read_proofs(path)
        if agreement.is_current(other) and (other.torch, other.cpu_capability) != (proof.torch, proof.cpu_capability)
    ]
    entries = sorted((asdict(entry) for entry in [*kept, proof]), key=lambda e: (e["torch"], e["cpu_capability"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(entries, indent=1) + "\n").encode())


def main(arguments: Sequence[str]) -> int:
    """`python -m hear_models.evaluation.judges.equality [FILE]`."""
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        print("usage: python -m hear_models.evaluation.judges.equality [FILE.json]", file=sys.stderr)
        return 2
    path = Path(arguments[0]) if arguments else agreement.own_file()
    try:
        write_proof(prove(say=lambda line: print(line, flush=True)), path)
    except HearModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    print(f"the judges agree bit for bit; written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
