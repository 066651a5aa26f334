"""`hear-models eval-trials`: a list of trials through a model, to EER and detection costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hear_models.cli.terminal import ProgressLine, stdout_for_json, stopping_with

if TYPE_CHECKING:
    from hear_models.speaker.verification import Figure

FILE = click.Path(path_type=Path, dir_okay=False)
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(name="eval-trials", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("trials", type=FILE)
@click.option("--audio", required=True, type=FOLDER, metavar="DIR", help="What paths in the list are relative to.")
@click.option(
    "-m", "--model", default="mwmae-nano", show_default=True, metavar="NAME", help="Any model or HEAR module."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of its load_model; repeatable.")
@click.option("--ten-crop", is_flag=True, help="Score ten crops of each recording instead of the whole.")
@click.option("--crop-frames", type=click.IntRange(1), default=300, show_default=True, help="Of 10 ms, of a crop.")
@click.option(
    "--crop-score",
    type=click.Choice(["mean_cosine", "neg_mean_distance", "cosine_of_means"]),
    default="mean_cosine",
    show_default=True,
)
@click.option(
    "--norm",
    type=click.Choice(["none", "znorm", "tnorm", "snorm", "asnorm", "asnorm2"]),
    default="none",
    show_default=True,
    help="Normalise scores by a cohort.",
)
@click.option("--cohort", type=FOLDER, metavar="DIR", help="Recordings of other speakers, a folder for each.")
@click.option("--top", type=click.IntRange(1), default=300, show_default=True, help="Of asnorm and asnorm2.")
@click.option(
    "--p-target", "p_targets", multiple=True, type=SHARE, help="Of minDCF; repeatable.  [default: 0.01, 0.05]"
)
@click.option(
    "--bootstrap", "resamples", type=click.IntRange(0), default=1000, show_default=True, help="0: no intervals."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals.")
@click.option("--level", type=SHARE, default=0.95, show_default=True, help="Of the intervals.")
@click.option("--scores", type=FILE, metavar="FILE", help="Write a line for each trial: score, label, paths.")
@click.option("--plot", type=FILE, metavar="FILE.png", help="Draw the DET curve (needs hear-models[plots]).")
@click.option("--drop", "shares", multiple=True, type=click.FloatRange(0, 1), help="Of bins and frames; repeatable.")
@click.option("--drop-plot", type=FILE, metavar="FILE.png", help="Draw the EER against what was dropped.")
@click.option("--cache", type=FOLDER, metavar="DIR", help="Of embeddings.  [default: voices/ in the cache folder]")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda if there is one]")
@click.option("--allow-untrained", is_flag=True, help="Accept a model with random weights.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    trials: Path,
    audio: Path,
    model: str,
    settings: tuple[str, ...],
    ten_crop: bool,
    crop_frames: int,
    crop_score: str,
    norm: str,
    cohort: Path | None,
    top: int,
    p_targets: tuple[float, ...],
    resamples: int,
    seed: int,
    level: float,
    scores: Path | None,
    plot: Path | None,
    shares: tuple[float, ...],
    drop_plot: Path | None,
    cache: Path | None,
    device: str | None,
    allow_untrained: bool,
    as_json: bool,
) -> None:
    """Score the pairs of recordings in TRIALS and say how well same and different speakers part.

    TRIALS is a list as VoxCeleb's: `1 a.wav b.wav` for one speaker, `0 a.wav c.wav` for two. Without labels there are
    scores only. Embeddings are kept; the same command again goes on where it stopped.

    With --drop the EER is given again with that share of the spectrogram's bins, of its frames, and of both set to the
    mean, drawn for each recording (models of this package; not kept).
    """
    from hear_models.errors import UsageError
    from hear_models.files import shown
    from hear_models.resources import cache_folder
    from hear_models.speaker.trials import read_trials
    from hear_models.subjects.subject import parse_options, resolve

    if (norm != "none") != (cohort is not None):
        raise UsageError("--norm and --cohort belong together. Give both, or neither.")
    if ten_crop and norm != "none":
        raise UsageError("--norm is for whole recordings. Leave --ten-crop or --norm out.")
    if drop_plot is not None and not shares:
        raise UsageError("--drop-plot draws what --drop asks for. Give shares, for instance --drop 0.1 --drop 0.5.")
    for path in (audio, *([cohort] if cohort else [])):
        if not path.is_dir():
            raise UsageError(f"there is no folder {shown(path)}. Check the path.")
    listed = read_trials(trials)
    labelled = listed[0].label is not None
    if not labelled and scores is None:
        raise UsageError(f"{trials} has no labels, so there are only scores. Say where they go: --scores FILE.")
    if not labelled and shares:
        raise UsageError(f"{trials} has no labels, so there is no EER for --drop. Label the trials.")
    for picture in (plot, drop_plot):
        if picture is not None:
            from hear_models.pictures import check_picture

            check_picture(picture)
    with stdout_for_json(as_json):
        subject = resolve(model, parse_options(settings), allow_untrained=allow_untrained, how="--allow-untrained")

    import torch

    from hear_models.corpus.discover import find_audio_files
    from hear_models.speaker.metrics import check_trials, det_points
    from hear_models.speaker.verification import (
        Verification,
        cohort_of,
        figures_of,
        labels_of,
        score_trials,
        write_scores,
    )
    from hear_models.speaker.voices import Crops, check_names, embed_voices

    names = list(dict.fromkeys(name for trial in listed for name in (trial.enrol, trial.test)))
    check_names(names, audio)
    if labelled:
        check_trials([0.0] * len(listed), labels_of(listed))  # one kind only: told before hours of embedding
    with stdout_for_json(as_json):
        loaded = subject.load(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kept = cache or cache_folder() / "voices"
    stopped = "stopped: finished embeddings are kept, the same command goes on from here"
    with stdout_for_json(as_json), stopping_with(stopped), ProgressLine(not as_json) as line:
        found = embed_voices(
            loaded,
            names,
            audio,
            crops=Crops(frames=crop_frames) if ten_crop else None,
            cache=kept,
            progress=lambda done, total: line.say(f"{done} of {total} recordings"),
        )
        others = None
        if cohort is not None:
            sources, _ = find_audio_files([cohort])
            others = cohort_of(embed_voices(loaded, [source.name for source in sources], cohort, cache=kept))
        values = score_trials(listed, found, how=crop_score, normalisation=norm, cohort=others, top=top)
    if scores is not None:
        write_scores(scores, listed, values)
    scoring = f"{crop_score} of ten crops of {crop_frames} frames" if ten_crop else "cosine of whole recordings"
    about: dict[str, Any] = {
        "model": subject.name,
        "trained": subject.trained,
        "list": trials.name,
        "scoring": scoring,
        "normalisation": norm,
    }
    if not labelled:
        click.echo(json.dumps(about | {"trials": len(listed)}) if as_json else f"{len(listed)} scores -> {scores}")
        return
    labels = labels_of(listed)
    figures = figures_of(
        values, labels, p_targets=p_targets or (0.01, 0.05), resamples=resamples, seed=seed, level=level
    )
    result = Verification(len(listed), int(labels.sum()), len(names), figures, level, resamples)
    if plot is not None:
        from hear_models.speaker.plots import draw_det

        fpr, fnr, _ = det_points(values, labels)
        draw_det(plot, {subject.name: (fpr, fnr)}, f"{trials.name}, {len(listed)} trials")
    rates: dict[str, list[float]] = {}
    if shares:
        from hear_models.speaker.robustness import eer_when_dropped

        stopped = "stopped: nothing of --drop is kept"
        with stdout_for_json(as_json), stopping_with(stopped), ProgressLine(not as_json) as line:
            rates = dict(
                eer_when_dropped(
                    loaded,
                    listed,
                    audio,
                    shares,
                    seed=seed,
                    progress=lambda done, total: line.say(f"dropping: {done} of {total} recordings"),
                )
            )
    if drop_plot is not None:
        from hear_models.speaker.plots import draw_curves

        draw_curves(drop_plot, shares, rates, "bins, frames or both")
    if as_json:
        dropped = {"shares": shares, **rates} if shares else None
        click.echo(json.dumps(about | result.as_dict() | {"dropped": dropped}))
        return
    click.echo(
        f"{subject.name} on {trials.name}: {result.trials} trials, {result.same} of the same speaker, "
        f"{result.recordings} recordings"
    )
    click.echo(f"{scoring}; {'no normalisation' if norm == 'none' else norm}")
    for figure in figures:
        click.echo(_line(figure, level))
    for what, found_rates in rates.items():
        said = "  ".join(f"{share:g}: {100 * rate:.2f} %" for share, rate in zip(shares, found_rates, strict=True))
        click.echo(f"EER without {what:<7}{said}")


def _line(figure: Figure, level: float) -> str:
    rate = figure.name == "EER"

    def said(value: float) -> str:
        return f"{100 * value:.2f} %" if rate else f"{value:.4f}"

    interval = ""
    if figure.interval is not None:
        low, high = (said(value) for value in figure.interval)
        interval = f"  ({100 * level:g} %: {low} to {high})"
    return f"{figure.name:<12} {said(figure.value):>9}{interval}  at {figure.threshold:.4f}"
