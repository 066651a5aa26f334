"""Did COLA's networks learn their own task? Finding the other segment of a recording that nobody trained on.

    hear-models synthesise unheard --hours 0.4 --seed 11 --kind speech
    python benchmarks/pairs.py unheard leaf-nano RUN/model.safetensors ...

Of every recording in the folder two random segments are drawn (seed 0), with the faint noise of training and no masks;
64 recordings stand in a batch, and an anchor is right if its own positive has the highest logit: 1.6 % by chance. The
same pairs for every network. Interval: 95 %, exact binomial over recordings.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import torch
from digits import binomial_interval

from hear_models import load_model
from hear_models.errors import HearModelsError, UsageError
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.capabilities import ContrastiveModel
from hear_models.training.contrastive import Contrasting, two_segments
from hear_models.training.features import recordings

BATCH = 64


def draw(files: list[Path], model: ContrastiveModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Anchors and positives [files, samples] each."""
    rng = np.random.default_rng(0)
    anchors, positives = [], []
    for file in files:
        clip = model.prepare_clip(torch.from_numpy(read_audio(file, model.sample_rate)))
        one, other = (model.prepare_window(part) for part in two_segments(clip, model.crop_samples, rng))
        noise = torch.from_numpy(rng.standard_normal(len(other), dtype=np.float32))
        anchors.append(one)
        positives.append(other + Contrasting().noise * noise)
    return torch.stack(anchors), torch.stack(positives)


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("names", nargs=-1, required=True)
def main(folder: Path, names: tuple[str, ...]) -> None:
    files = recordings(folder)
    files = [files[k] for k in np.random.default_rng(0).permutation(len(files))[: len(files) // BATCH * BATCH]]
    for name in names:
        model = load_model(name)
        if not isinstance(model, ContrastiveModel):
            raise UsageError(f"{name} does not compare segments. Give leaf, sincnet or logmel_cola.")
        right = 0
        with torch.inference_mode():
            for some in zip(*(part.split(BATCH) for part in draw(files, model)), strict=True):
                right += int((model.contrast(*some).logits.argmax(1) == torch.arange(BATCH)).sum())
        low, high = binomial_interval(right, len(files))
        click.echo(f"{name}: {100 * right / len(files):.1f} % of {len(files)} (95 % interval {low:.1f} to {high:.1f})")


if __name__ == "__main__":
    try:
        main(standalone_mode=True)
    except HearModelsError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
