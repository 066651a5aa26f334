"""Results as a pandas DataFrame, one row for each model, task and seed: to be grouped, joined and drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hear_models.evaluation.board.identity import identities, labels
from hear_models.evaluation.board.results import Result, gather
from hear_models.extras import check_installed

if TYPE_CHECKING:
    import pandas


def load_results(
    results: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "results",
    *,
    imported_protocol: str | None = None,
) -> pandas.DataFrame:
    """Every result in folders that `hear-models evaluate` or hear-eval-kit wrote, as a DataFrame.

    Nothing is averaged, left out or compared with published figures: `hear-models leaderboard` does that, and says
    what may stand in one table. Other weights, code or options are other models, as there.

    Args:
        results: a folder, a record, or several of them.
        imported_protocol: "hear" or "paper": how results of hear-eval-kit were made, where they do not tell.

    Returns:
        One row a model x task x seed, with the columns model, task, metric, score (a fraction; NaN where it is not
        defined), seed, protocol, judge, origin, trained, random_labels, dims, clips, scores (a dictionary of every
        metric), finished (a time in UTC, NaT if not known), version and file.

    Raises:
        UsageError: a path that is not there or holds no result, or pandas is not installed. HearModelsError: a file
        that should be a result and is broken.
    """
    check_installed("pandas", "load_results needs", "pandas")
    import pandas

    paths = [results] if isinstance(results, (str, os.PathLike)) else list(results)
    found = gather(paths, imported_protocol)
    identity = identities(found)
    label_of = labels(identity(result.record) for result in found)
    frame = pandas.DataFrame([_row(result, label_of[identity(result.record)]) for result in found])
    frame["score"] = frame["score"].astype("float64")
    frame["finished"] = pandas.to_datetime(frame["finished"], utc=True)
    return frame


def _row(result: Result, label: str) -> dict[str, Any]:
    record = result.record
    return {
        "model": label,
        "task": record.task.name,
        "metric": record.task.primary,
        "score": record.score,
        "seed": record.seed,
        "protocol": record.protocol,
        "judge": record.judge.name,
        "origin": record.task.origin,
        "trained": record.model.trained,
        "random_labels": record.random_labels,
        "dims": record.embeddings.dim if record.embeddings else None,
        "clips": sum(record.task.counts.values()) or None,
        "scores": record.scores,
        "finished": record.finished,
        "version": record.versions.hear_models,
        "file": str(result.path) if result.path else None,
    }
