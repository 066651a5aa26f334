"""The judge of record: the released hear-eval-kit, unmodified, in a process and an environment of its own.

`judge` hands it a farm of links to an embedding folder, reads what it wrote there, and leaves the folder itself as it
was. The kit unpickles the labels of its embedding folders; it gets labels that were rebuilt from JSON instead, so that
a folder from somebody else runs nothing. What the kit pickles is turned into arrays by the process that wrote it.
The shims, each with its reason, are in heareval_launcher.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import pickle
import shutil
import site
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.errors import UsageError
from hear_models.evaluation.embeddings.folder import EmbeddingFolder, EmbeddingFolderError
from hear_models.evaluation.judges import heareval_launcher
from hear_models.evaluation.judges.heareval_environment import (
    KIT_VERSION,
    JudgeError,
    cache_folder,
    ensure_environment,
    kill,
)
from hear_models.evaluation.judges.outcome import (
    Fold,
    Outcome,
    Predictions,
    by_metric,
    mean_scores,
    why_events_undefined,
    why_undefined,
)
from hear_models.evaluation.judges.protocols import GRIDS, Protocol
from hear_models.files import scratch_folder

# Over the Python files of the wheel whose sha256 is pinned (heareval_launcher.kit_sha256): "unmodified" is checked.
KIT_SHA256 = "c08070bf0415fb750a61096b8cd33c148e7853228895c9ac4e379b8ced66fd32"
TASK = "embeddings/task"  # where the kit finds the folder, below its working directory
LAST_LINES = 12
NO_METRICS = ("test_loss", "test_score")


def judge(
    folder: EmbeddingFolder,
    protocol: Protocol,
    seed: int,
    *,
    random_labels: bool = False,
    environment: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> Outcome:
    """Scores, choices and predictions of the released kit for one embedding folder.

    `environment` is what `ensure_environment` gives, which is called if it is None. `device` is "cpu" or "cuda" (the
    first GPU; not tried). A grid or a seed that the kit does not have is put in its place and named in `shims`.
    Raises JudgeError with the kit's last words if it fails, UsageError for what it cannot do: shuffle rows or labels,
    or run on another device. Ctrl-C ends the kit and leaves nothing behind.
    """
    if random_labels:
        raise UsageError("The released hear-eval-kit cannot shuffle labels. Use `--judge builtin` for that.")
    if protocol.shuffle_train:
        raise UsageError("The released hear-eval-kit never shuffles. Use `--judge builtin` to shuffle.")
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"The released hear-eval-kit runs on cpu or cuda, not on {device!r}. Choose one of them.")
    environment = environment or ensure_environment()
    begin = time.perf_counter()
    named_grid = next((name for name, grid in GRIDS.items() if name != "paper" and grid == protocol.grid), None)
    with scratch_folder() as work:
        lay_out(folder, work / TASK)
        report = run_kit(
            {
                "step": "predictions",
                "folder": TASK,
                "event": folder.metadata.get("embedding_type") == "event",
                "grid": None if named_grid else protocol.grid,
                "seed": seed,
                "arguments": [
                    TASK,
                    *("--grid-points", str(protocol.grid_points)),
                    *("--grid", named_grid or "default"),
                    *(() if device == "cpu" else ("--gpus", f"[{device.partition(':')[2] or 0}]")),
                ],
            },
            work,
            environment,
            title=folder.path.name,
            device=device,
            threads=threads,
        )
        return _outcome(folder, work / TASK, report, time.perf_counter() - begin)


def run_embeddings(
    module: str,
    model_path: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
    tasks_dir: str | os.PathLike[str],
    task: str,
    embeddings_dir: str | os.PathLike[str],
    *,
    environment: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> dict[str, Any]:
    """The kit's own embedding runner on one task folder of `tasks_dir`: `python -m heareval.embeddings.runner MODULE`.

    `module` is imported as this process would import it. The embeddings lie in EMBEDDINGS_DIR/MODULE[-key=value…]/TASK
    afterwards; a task that was done before is skipped by the kit. Returns the launcher's report: "shims", "versions",
    "threads", "cpu_s" and "wall_s" (seconds, of the whole process). Raises JudgeError with the kit's last words.
    """
    environment = environment or ensure_environment()
    weights = () if model_path is None else ("--model", str(Path(model_path).resolve()))
    arguments = [
        module,
        *weights,
        *("--tasks-dir", str(Path(tasks_dir).resolve())),
        *("--task", task),
        *("--embeddings-dir", str(Path(embeddings_dir).resolve())),
        *("--model-options", json.dumps(dict(options))),
    ]
    with scratch_folder() as work:
        begin = time.perf_counter()
        report = run_kit(
            {"step": "embeddings", "arguments": arguments},
            work,
            environment,
            title=f"{module}: {task}",
            device=device,
            threads=threads,
        )
        return {**report, "wall_s": time.perf_counter() - begin}


def lay_out(folder: EmbeddingFolder, place: Path) -> None:
    """Make `place` a folder that the kit can work in: links to the embeddings, and labels pickled by us.

    Raises EmbeddingFolderError if a split is missing, or its name would lead out of the folder.
    """
    place.mkdir(parents=True)
    names = ["task_metadata.json", "labelvocabulary.csv"]
    for split in folder.splits:
        if not isinstance(split, str) or Path(split).name != split or split in ("", ".", ".."):
            raise EmbeddingFolderError(
                f"{folder.path} has a split named {split!r}. Splits are plain names like fold00."
            )
        (place / f"{split}.target-labels.pkl").write_bytes(pickle.dumps(folder.split(split).labels))
        names += [f"{split}.json", f"{split}.embedding-dimensions.json", f"{split}.embeddings.npy"]
        if folder.metadata.get("embedding_type") == "event":
            names.append(f"{split}.filename-timestamps.json")
    for name in names:
        source = (folder.path / name).resolve()
        try:
            os.symlink(source, place / name)
        except OSError:  # a file system without links
            shutil.copyfile(source, place / name)


def run_kit(
    job: dict[str, Any],
    work: Path,
    environment: Path,
    *,
    title: str,
    device: str = "cpu",
    threads: int = 1,
) -> dict[str, Any]:
    """Run the launcher on `job` with the working directory `work`; its report.

    The process has as many threads as `threads` says, sees no GPU on "cpu", and ends when this process does, however
    that ends.
    """
    log, report = work / "output.log", work / "report.json"
    behind = [os.path.abspath(entry) for entry in sys.path if not entry.endswith(".zip")]
    job = {
        **job,
        "environment": str(environment.resolve()),
        "device": device,
        "origins": {name: _origin(name) for name in heareval_launcher.BORROWED},
        "behind": behind,
        "site_packages": [path for path in {*site.getsitepackages(), site.getusersitepackages()} if path in behind],
        "report": str(report),
    }
    (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (work / "tmp").mkdir()
    variables = {
        **os.environ,
        "TMPDIR": str(work / "tmp"),  # torch leaves a folder there
        **{f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")},
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        **({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            # isolated, without site-packages; UTF-8 because the kit opens files without naming an encoding
            [sys.executable, "-I", "-S", "-X", "utf8", str(heareval_launcher.__file__), str(work / "job.json")],
            cwd=work,
            stdin=subprocess.PIPE,  # held open: the launcher ends when it closes
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            kill(process)
            raise
        finally:
            if process.stdin:
                process.stdin.close()
    if code or not report.is_file():
        raise JudgeError(_last_words(title, code, log))
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    if content["kit_sha256"] != KIT_SHA256:
        raise JudgeError(
            f"The kit in {environment} is not the released {KIT_VERSION}: somebody changed it. Remove that folder."
        )
    return content


def _origin(name: str) -> str:
    """The file or folder of an importable top-level module."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise JudgeError(f"{name} is not installed where hear-models runs. Install hear-models again.")
    path = Path(spec.origin)
    return str(path.parent if path.name == "__init__.py" else path)


def _last_words(title: str, code: int, log: Path) -> str:
    """What to tell of a run that failed; its whole output is kept where the sentence says."""
    kept = cache_folder() / "failed" / f"{title.replace('/', '_').replace(': ', '.')}.{time.time_ns()}.log"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    where = ""
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
        where = f" Its whole output: {kept}."
    quoted = "\n".join(f"  {line[:200]}" for line in deque(lines, LAST_LINES))
    ended = f"was ended by signal {-code}" if code < 0 else f"failed with {code}"
    return f"hear-eval-kit {KIT_VERSION} {ended} on {title}.{where} Its last lines:\n{quoted}"


# --- what the kit wrote ---------------------------------------------------------------------------------------------


def _outcome(folder: EmbeddingFolder, written: Path, report: dict[str, Any], wall_s: float) -> Outcome:
    content = json.loads((written / "test.predicted-scores.json").read_text(encoding="utf-8"))
    metrics = list(folder.metadata["evaluation"])
    choice = {key: plain_hyper_parameter(value) for key, value in content["hparams"].items()}
    folds, predictions, events, undefined = [], {}, {}, {}
    for split, scores in content.items():
        if not isinstance(scores, dict) or "test_score" not in scores or split == "aggregated_scores":
            continue
        folds.append(
            Fold(
                split=split,
                scores={name: _finite(value) for name, value in _metrics(scores, metrics)},
                validation_score=_finite(scores["validation_score"]),
                epoch=int(scores["epoch"]),
                hyper_parameters=choice,
            )
        )
        rows = folder.split(split)
        with np.load(written / f"{split}.npz", allow_pickle=False) as arrays:
            predictions[split] = Predictions(
                rows.files, arrays["target"], arrays["prediction"], arrays["logit"], rows.timestamps_ms
            )
        if (path := written / f"{split}.events.json").is_file():
            events[split] = json.loads(path.read_text(encoding="utf-8"))
        values = dict(_metrics(scores, metrics))
        if path.is_file():
            undefined[split] = why_events_undefined(values, events[split], folder.events(split))
        else:
            found = predictions[split]
            undefined[split] = why_undefined(values, found.prediction, found.target, folder.labels)
    means = mean_scores(folds)
    return Outcome(
        score=means[metrics[0]],
        scores=means,
        folds=folds,
        hyper_parameters=choice,
        predictions=predictions,
        judge="heareval",
        shims=report["shims"],
        threads=report["threads"],
        wall_s=wall_s,
        cpu_s=report["cpu_s"],
        postprocessing=dict(content["postprocessing"]),
        events=events,
        versions={**report["versions"]["borrowed"], **report["versions"]["pinned"]},
        undefined=by_metric(undefined),
    )


def _metrics(scores: dict[str, Any], metrics: list[str]) -> Iterator[tuple[str, Any]]:
    """The task's metrics in its order, then what an event metric consists of (F, precision, recall)."""
    for name in metrics:
        yield name, scores[f"test_{name}"]
    for key, value in scores.items():
        name = key.removeprefix("test_")
        if key.startswith("test_") and key not in NO_METRICS and name not in metrics:
            yield name, value


def plain_hyper_parameter(value: Any) -> Any:
    """The kit writes functions and classes as `<function xavier_normal_ at 0x7f…>`; their names are enough."""
    if not isinstance(value, str) or not value.startswith("<"):
        return value
    name = value.strip("<>").split()[1].strip("'")
    return name.rsplit(".", 1)[-1].removesuffix("_")


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
