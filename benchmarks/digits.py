"""Is a model good for something? Spoken digits by speakers that the probe never heard, against floors.

    python benchmarks/digits.py FOLDER [--model NAME]... [--checkpoint FILE.safetensors]... [--theo] [--json OUT]

FOLDER holds SPEAKER/DIGIT_INDEX.flac (the Free Spoken Digit Dataset: 8 kHz, 50 recordings of each digit by each of six
speakers). Needs the extra `eval` (scikit-learn).

Features. Every recording is read at 16 kHz by the package's reader (soxr HQ; nothing above 4 kHz appears) and becomes
one vector: a model's scene embedding, or for the floors statistics over time of the log-mel spectrogram (80 bands, the
front end of MW-MAE). No padding, no trimming, no augmentation but what the model does itself.

Probe. Multinomial logistic regression (L2, lbfgs) on features standardised with the training recordings' mean and
standard deviation. C is one of 1e-3, 1e-2, 1e-1, 1, 10.

(a) Leave one speaker out, over all speakers but `theo`: train on the others, score the one; the C of a fold is chosen
    by leaving out one more speaker among the training speakers. Reported: accuracy per speaker, and their mean. If a
    model was pretrained on recordings of these speakers, it has heard them (without labels); its card says so.
(b) `theo`, only with --theo: train on all five with the C of the best leave-one-speaker-out mean, score the 500
    recordings of a speaker whom nothing in this project was trained on. Once per shipped checkpoint; never to choose
    anything. The interval is Clopper and Pearson's (exact binomial, 95 %): it speaks of other recordings of this man,
    not of other men.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hear_models.errors import HearModelsError, UsageError
from hear_models.files import write_atomically
from hear_models.frontends.logmel import LogMel
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.normalise import Standardise

HELD_OUT = "theo"  # no code of this project trains on this speaker
C_GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
SAMPLE_RATE = 16_000
RANDOM_SEEDS = 5


@dataclass(frozen=True)
class Recordings:
    """Resampled clips, each [samples], with the digit said and who said it."""

    clips: list[Tensor]
    digit: npt.NDArray[np.int64]
    speaker: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Score:
    """Accuracies in percent: per left-out speaker, their mean, and the held-out speaker's with its interval."""

    per_speaker: dict[str, float]
    mean: float
    chosen_c: dict[str, float]
    held_out: float | None = None
    held_out_interval: tuple[float, float] | None = None
    held_out_recordings: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    dim: int
    score: Score
    embed_s: float
    probe_s: float


def read_recordings(folder: Path, *, held_out: bool) -> Recordings:
    """Read FOLDER/SPEAKER/DIGIT_INDEX.flac at 16 kHz; the held-out speaker is not even opened unless asked for."""
    files = sorted(path for path in folder.glob("*/[0-9]_*.flac") if held_out or path.parent.name != HELD_OUT)
    speakers = {path.parent.name for path in files} - {HELD_OUT}
    if len(speakers) < 3:
        raise UsageError(
            f"{folder} has recordings of {len(speakers)} training speakers; choosing C inside them needs at least 3. "
            "Give a folder with SPEAKER/DIGIT_INDEX.flac, for instance george/7_12.flac."
        )
    return Recordings(
        clips=[torch.from_numpy(read_audio(path, SAMPLE_RATE)) for path in files],
        digit=np.array([int(path.name[0]) for path in files]),
        speaker=np.array([path.parent.name for path in files]),
    )


def evaluate_embeddings(
    embeddings: npt.NDArray[np.floating],
    digit: npt.NDArray[np.int64],
    speaker: npt.NDArray[np.str_],
    *,
    held_out: bool = False,
) -> Score:
    """Probe `embeddings` [recordings, dim] as the top of this file says; `digit`, `speaker` [recordings].

    Recordings of the held-out speaker, if there are any, are never trained on, and scored only with `held_out`.

    The inner fold that leaves out t inside the outer fold that leaves out s trains on everybody but s and t, and so
    does the one with s and t exchanged: every pair is fitted once.
    """
    features = np.ascontiguousarray(embeddings, dtype=np.float32)
    speakers = sorted(set(speaker.tolist()) - {HELD_OUT})
    trainable = speaker != HELD_OUT

    inner: dict[tuple[str, str], npt.NDArray[np.float64]] = {}  # (left out, scored) → accuracy of each C
    for pair in combinations(speakers, 2):
        train = trainable & ~np.isin(speaker, pair)
        tests = [speaker == name for name in pair]
        first, second = _accuracies(features, digit, train, tests, C_GRID)
        inner[pair], inner[pair[::-1]] = second, first

    per_speaker, chosen = {}, {}
    outer = {}
    for name in speakers:
        best = C_GRID[int(np.argmax(sum(inner[name, other] for other in speakers if other != name)))]
        wanted = C_GRID if held_out else (best,)
        (accuracies,) = _accuracies(features, digit, trainable & (speaker != name), [speaker == name], wanted)
        outer[name] = accuracies
        chosen[name], per_speaker[name] = best, float(accuracies[wanted.index(best)])
    mean = float(np.mean(list(per_speaker.values())))
    if not held_out:
        return Score(per_speaker, mean, chosen)

    chosen[HELD_OUT] = C_GRID[int(np.argmax(sum(outer.values())))]
    test = speaker == HELD_OUT
    ((accuracy,),) = _accuracies(features, digit, trainable, [test], (chosen[HELD_OUT],))
    n = int(test.sum())
    return Score(per_speaker, mean, chosen, float(accuracy), binomial_interval(round(accuracy * n / 100), n), n)


def _accuracies(
    features: npt.NDArray[np.float32],
    digit: npt.NDArray[np.int64],
    train: npt.NDArray[np.bool_],
    tests: Sequence[npt.NDArray[np.bool_]],
    grid: Sequence[float],
) -> list[npt.NDArray[np.float64]]:
    """Accuracies in percent, one array [len(grid)] for each test set; each C starts from the fit of the one before."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise UsageError("The probe needs scikit-learn. Install it: pip install 'hear-models[eval]'.") from error
    mean = features[train].mean(axis=0, dtype=np.float64).astype(np.float32)
    std = features[train].std(axis=0, dtype=np.float64).astype(np.float32)
    std[std < 1e-8] = 1.0  # a constant feature says nothing; do not blow it up
    x = (features - mean) / std
    probe = LogisticRegression(max_iter=1000, tol=1e-4, warm_start=True)
    results = []
    for c in grid:
        probe.C = c
        probe.fit(x[train], digit[train])
        results.append([100 * float(np.mean(probe.predict(x[test]) == digit[test])) for test in tests])
    return [np.array(column) for column in zip(*results, strict=True)]


def binomial_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a proportion, in percent."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = beta.ppf(tail, correct, n - correct + 1) if correct > 0 else 0.0
    high = beta.ppf(1 - tail, correct + 1, n - correct) if correct < n else 1.0
    return 100 * float(low), 100 * float(high)


# ---------------------------------------------------------------------- what is scored


def mean_and_std(logmel: Tensor) -> Tensor:
    """[frames, bands] → mean and standard deviation over time [2 * bands]."""
    return torch.cat([logmel.mean(dim=0), logmel.std(dim=0, correction=0)])


def thirds(logmel: Tensor) -> Tensor:
    """[frames, bands] → means over the first, middle and last third of the clip [3 * bands]."""
    return torch.cat([part.mean(dim=0) for part in torch.tensor_split(logmel, 3)])


def floor_embedder(*, normalise: bool, statistics: Callable[[Tensor], Tensor]) -> Callable[[list[Tensor]], Tensor]:
    """Embedder [clips] → [clips, dim] of statistics over time of the log-mel features."""
    frontend, standardise = LogMel(), Standardise(ddof=1, eps=1e-8)

    @torch.inference_mode()
    def embed(clips: list[Tensor]) -> Tensor:
        logmels = (frontend(clip[None])[0] for clip in clips)
        return torch.stack([statistics(standardise(logmel) if normalise else logmel) for logmel in logmels])

    return embed


FLOORS = {
    "raw log-mel mean+std": floor_embedder(normalise=False, statistics=mean_and_std),
    "clip-norm. mean+std": floor_embedder(normalise=True, statistics=mean_and_std),
    "clip-norm. thirds": floor_embedder(normalise=True, statistics=thirds),
}


def model_embedder(model: HearModel) -> Callable[[list[Tensor]], Tensor]:
    """Embedder of a model's scene embeddings."""
    return lambda clips: torch.stack(model.embed_clips(clips, "scene"))


def label(name: str, model: HearModel) -> str:
    """Name of a model's row: the registry's name or the file's, and whether nobody ever trained it."""
    path = Path(name)
    short = f"{path.absolute().parent.name}/{path.stem}" if path.suffix == ".safetensors" else name
    return short if model.checkpoint is not None and model.checkpoint.trained else f"{short}, untrained"


def random_twin(model: HearModel, seed: int) -> HearModel:
    """The same network, initialised at random."""
    twin: HearModel = type(model)(model.config, seed=seed)  # type: ignore[call-arg]
    return twin


def score(name: str, embed: Callable[[list[Tensor]], Tensor], recordings: Recordings, *, held_out: bool) -> Row:
    """Embed and probe; times in seconds."""
    started = time.monotonic()
    embeddings = embed(recordings.clips).float().numpy()
    embedded = time.monotonic()
    result = evaluate_embeddings(embeddings, recordings.digit, recordings.speaker, held_out=held_out)
    return Row(name, embeddings.shape[1], result, embedded - started, time.monotonic() - embedded)


# ---------------------------------------------------------------------- the command


def heading(speakers: Iterable[str], held_out: bool) -> str:
    """First line of the table."""
    columns = "".join(f"{name[:8]:>9}" for name in speakers)
    return f"{'accuracy in %':<21}{columns}{'mean':>7}" + (f"{HELD_OUT:>7}" if held_out else "")


def line(row: Row) -> str:
    """One row of the table."""
    cells = "".join(f"{value:9.1f}" for value in row.score.per_speaker.values())
    theo = "" if row.score.held_out is None else f"{row.score.held_out:7.1f}"
    return f"{row.name[:20]:<21}{cells}{row.score.mean:7.1f}{theo}"


def report(rows: Sequence[Row]) -> str:
    """What is left to say below the table: the range of the random networks, the held-out speaker's intervals."""
    lines = []
    random = [row.score.mean for row in rows if row.name.startswith("random")]
    if random:
        lines.append(f"random networks: mean {np.mean(random):.1f}, from {min(random):.1f} to {max(random):.1f}")
    for row in rows:
        if row.score.held_out is not None and row.score.held_out_interval is not None:
            low, high = row.score.held_out_interval
            n = row.score.held_out_recordings
            lines.append(
                f"{HELD_OUT}, {row.name}: {row.score.held_out:.1f} (95 % interval {low:.1f} to {high:.1f}, n = {n})"
            )
    return "\n".join(lines)


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """All rows as JSON; the file appears complete or not at all."""
    write_atomically(
        path, json.dumps({"benchmark": "digits", "rows": [asdict(row) for row in rows]}, indent=1).encode()
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "models", multiple=True, help="A registered model (default: mae-nano and mwmae-nano).")
@click.option(
    "--checkpoint", "checkpoints", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--floors/--no-floors", default=True, show_default=True, help="Score the log-mel statistics.")
@click.option("--random", "random_seeds", type=click.IntRange(min=0), default=RANDOM_SEEDS, show_default=True)
@click.option("--theo", is_flag=True, help="Also score the held-out speaker: once per shipped checkpoint.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here.")
def main(
    folder: Path,
    models: tuple[str, ...],
    checkpoints: tuple[Path, ...],
    floors: bool,
    random_seeds: int,
    theo: bool,
    json_path: Path | None,
) -> None:
    """Score floors, random networks, models and checkpoints on spoken digits in FOLDER.

    The random networks have the configuration of the last model or checkpoint.
    """
    from hear_models import zoo

    chosen = list(models) + [str(path) for path in checkpoints]
    if not chosen and (random_seeds or not floors):
        chosen = ["mae-nano", "mwmae-nano"]
    loaded = {label(name, model): model for name in chosen for model in [zoo.load_model(name)]}

    embedders = dict(FLOORS) if floors else {}
    if loaded:
        for seed in range(random_seeds):
            embedders[f"random {seed}"] = model_embedder(random_twin(list(loaded.values())[-1], seed))
    embedders |= {name: model_embedder(model) for name, model in loaded.items()}

    recordings = read_recordings(folder, held_out=theo)
    speakers = sorted(set(recordings.speaker.tolist()) - {HELD_OUT})
    click.echo(heading(speakers, theo))
    rows = []
    for name, embed in embedders.items():
        rows.append(score(name, embed, recordings, held_out=theo))
        click.echo(line(rows[-1]))
    if text := report(rows):
        click.echo(text)
    if json_path is not None:
        write_json(json_path, rows)


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except HearModelsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
