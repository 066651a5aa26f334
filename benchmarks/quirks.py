"""The effects that docs/quirks.md and docs/families.md report: what a quirk or a precision changes in the embeddings.

    python benchmarks/quirks.py [--model mwmae-nano]

Audio: the recordings of the demo (`hear_models/_demo`), digital silence. Every line compares our default with the other
form: largest absolute difference, and smallest cosine, over scene embeddings and over all steps.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import hear_models
from hear_models.mwmae import Config, Model
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.normalise import Standardise

SILENCE_SAMPLES = (3_200, 16_000, 64_000)


def line(what: str, ours: list[Tensor], other: list[Tensor]) -> None:
    """Print the largest difference and the smallest cosine between two lists of embeddings [..., dim]."""
    difference = max(float((a - b).abs().max()) for a, b in zip(ours, other, strict=True))
    cosine = min(float(cosine_similarity(a, b, dim=-1).min()) for a, b in zip(ours, other, strict=True))
    click.echo(f"{what:44}  max abs {difference:8.2g}  cosine {cosine:.6f}")


def scenes_and_steps(model: torch.nn.Module, clips: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    return model.embed_clips(clips), [steps for steps, _ in model.embed_clips(clips, "timestamps")]


def official_statistics(features: Tensor) -> Tensor:
    """The original's normalisation, statistics in float32: what makes of silence an arbitrary constant."""
    return (features - features.mean()) / (features.std() + 1e-8)


@click.command()
@click.option("--model", "name", default="mwmae-nano", show_default=True)
def main(name: str) -> None:
    folder = Path(hear_models.__file__).parent / "_demo"
    model = hear_models.load_model(name)
    clips = [torch.from_numpy(read_audio(path, model.sample_rate)) for path in sorted(folder.glob("*.flac"))]
    click.echo(f"{name}, trained: {model.checkpoint.trained}; {len(clips)} recordings; torch {torch.__version__}")
    ours = scenes_and_steps(model, clips)

    base = Model(Config()).eval()  # the size of the published weights, random ones: nobody here ever had those
    base_ours = scenes_and_steps(base, clips)
    base.use_dtype(torch.bfloat16)
    half = hear_models.load_model(name, dtype="bfloat16")
    for what, single, other in (
        (name, ours, scenes_and_steps(half, clips)),
        ("base", base_ours, scenes_and_steps(base, clips)),
    ):
        line(f"compute-dtype: bfloat16, {what}, scenes", single[0], other[0])
        line(f"compute-dtype: bfloat16, {what}, steps", single[1], other[1])

    ddof = model.normalise.ddof
    model.normalise = Standardise(ddof=1 - ddof, eps=1e-8)
    line(f"statistics-ddof: {1 - ddof} for {ddof}, scenes", ours[0], model.embed_clips(clips))

    for n_samples in SILENCE_SAMPLES:
        silence = torch.zeros(n_samples)
        model.normalise = Standardise(ddof=ddof, eps=1e-8)
        zeros = model.embed_clips([silence])
        model.normalise = official_statistics
        constant = float(official_statistics(model.frontend(silence[None])).mean())
        line(f"silence: {n_samples} zeros, official {constant:+.3f}, scenes", zeros, model.embed_clips([silence]))

    centres, official = (hear_models.load_model(name, timestamps=form) for form in ("centres", "official"))
    for seconds in (0.5, 2, 10, 600):
        n_samples = round(seconds * centres.sample_rate)
        true = centres.plan(n_samples, "timestamps").times_ms
        early = true - official.plan(n_samples, "timestamps").times_ms[: len(true)]
        click.echo(f"timestamps: {seconds:g} s: official {early.min():.1f} to {early.max():.1f} ms before the centre")


if __name__ == "__main__":
    main()
