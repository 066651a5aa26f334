"""`hear-models verify`: how alike two voices are to a model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hear_models.cli.terminal import stdout_for_json

ADVICE = "What a score means depends on the model: `hear-models eval-trials` finds a threshold on trials of your own."


@click.command(name="verify", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("first", type=click.Path(path_type=Path), metavar="A")
@click.argument("second", type=click.Path(path_type=Path), metavar="B")
@click.option(
    "-m", "--model", default="mwmae-nano", show_default=True, metavar="NAME", help="Any model or HEAR module."
)
@click.option("--threshold", type=float, metavar="SCORE", help="Say whether the score is at or above it.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, ...  [default: cuda if there is one]")
@click.option("--allow-untrained", is_flag=True, help="Accept a model with random weights.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    first: Path,
    second: Path,
    model: str,
    threshold: float | None,
    device: str | None,
    allow_untrained: bool,
    as_json: bool,
) -> None:
    """Compare the voices in the recordings A and B.

    The score is the cosine of their scene embeddings, from -1 to 1: the higher, the rather one speaker. Models that did
    not learn to tell speakers apart compare sounds, not voices.
    """
    from hear_models.errors import AudioFileError
    from hear_models.subjects.subject import resolve

    for path in (first, second):
        if not path.is_file():
            raise AudioFileError(f"{path} does not exist or is no file. Check the path.")
    with stdout_for_json(as_json):
        subject = resolve(model, allow_untrained=allow_untrained, how="--allow-untrained")

        import torch

        from hear_models.speaker.scoring import normalised_scores
        from hear_models.speaker.voices import embed_voices

        loaded = subject.load(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        one, other = (embed_voices(loaded, [path.name], path.parent)[path.name] for path in (first, second))
    score = float(normalised_scores(one, other, kind="none")[0])
    same = None if threshold is None else score >= threshold
    if as_json:
        about = {"model": subject.name, "trained": subject.trained, "score": score, "threshold": threshold}
        click.echo(json.dumps(about | {"same": same}))
        return
    click.echo(f"{score:.4f}  {subject.name}, cosine of scene embeddings")
    if same is not None:
        click.echo("the same speaker" if same else "different speakers")
    else:
        click.echo(ADVICE, err=True)
