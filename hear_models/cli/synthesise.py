"""`hear-models synthesise`: writes hours of procedural sound or synthetic speech to a folder, for pretraining."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), required=True, help="How much audio.")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="Another seed, other sounds.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Length of a scene.")
@click.option(
    "--kind", type=click.Choice(["procedural", "speech"]), default="procedural", show_default=True, help="What to make."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Threads.")
def command(out: Path, hours: float, seed: int, seconds: float, kind: str, workers: int) -> None:
    """Write HOURS of made-up audio to OUT: 16-bit FLAC, 16 kHz, mono.

    `procedural` makes scenes of tones, chirps, bursts, vowels and noise; `speech` makes
    short utterances with the program espeak-ng (each as long as it is; --seconds has no effect).
    A run that was stopped goes on where it was when the same command is given again.
    """
    import math
    import sys
    import time

    from hear_models.datasets import degrade, procedural, speech
    from hear_models.datasets.writing import claim_folder, write_corpus
    from hear_models.errors import UsageError

    if not math.isfinite(hours) or not math.isfinite(seconds):
        raise UsageError(f"--hours {hours} and --seconds {seconds} must be finite. Give numbers.")
    settings = {"kind": kind, "seed": seed, **({"seconds": seconds} if kind == "procedural" else {})}
    if kind == "speech":
        speech.voices()  # fails here, before the folder exists, if the program is missing

    def make(index: int) -> degrade.Audio | None:
        if kind == "speech":
            return speech.speak(seed, index)
        return procedural.generate(procedural.scene_seed(seed, index), seconds)

    claim_folder(out, settings)
    started, files, written = time.monotonic(), 0, 0.0
    for files, written in write_corpus(out, make, hours * 3600, name=kind, workers=workers):
        if sys.stderr.isatty():
            click.echo(f"\r{files} files, {written / 3600:.2f} of {hours:g} hours\r", nl=False, err=True)
    click.echo(f"{files} files, {written / 3600:.2f} hours in {time.monotonic() - started:.0f} s: {out}")
