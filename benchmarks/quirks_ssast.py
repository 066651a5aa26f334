"""The effects that docs/quirks.md and docs/families.md report for SSAST and Audio Mamba.

    python benchmarks/quirks_ssast.py [--width 192] [--heads 3]

Networks of the published sizes with random weights (no official file was ever opened), the recordings of the demo
(`hear_models/_demo`). "Spread" is a difference as a share of the mean distance of two recordings' scene embeddings.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

import hear_models
from hear_models import audio_mamba, ssast
from hear_models.pipeline.audio import read_audio


def apart(ours: list[Tensor], other: list[Tensor]) -> str:
    """How far two lists of embeddings [..., dim] are apart."""
    spread = torch.stack([(a.mean(0) - b.mean(0)).norm() for a, b in combinations(ours, 2)]).mean()
    share = torch.stack([(a - b).norm(dim=1).mean() for a, b in zip(ours, other, strict=True)]).mean() / spread
    relative = torch.cat(other).sub(torch.cat(ours)).norm() / torch.cat(ours).norm()
    largest = max(float((a - b).abs().max()) for a, b in zip(ours, other, strict=True))
    return f"max abs {largest:.2g}  relative {float(relative):.1e}  spread {float(share):.1%}"


def padding_in_official_steps(n_frames: int) -> float:
    """Share of the tokens of a short clip's official steps that describe the zeros behind it."""
    model = ssast.Model(seed=None)
    kept, grid = model.n_steps(n_frames), model.grid
    step, slot = np.meshgrid(np.arange(kept), np.arange(grid.rows), indexing="ij")
    time = (slot * grid.columns + step) // grid.rows
    return float((time >= kept).mean())


@click.command()
@click.option("--width", default=192, show_default=True)
@click.option("--heads", default=3, show_default=True, help="Of SSAST.")
def main(width: int, heads: int) -> None:
    folder = Path(hear_models.__file__).parent / "_demo"
    clips = [torch.from_numpy(read_audio(path, 16_000)) for path in sorted(folder.glob("*.flac"))]
    click.echo(f"{len(clips)} recordings of {min(map(len, clips)) / 16e3:.1f} to {max(map(len, clips)) / 16e3:.1f} s")
    for seconds in (0.5, 1.0, 1.5, 2.0):
        share = padding_in_official_steps(1 + int(seconds * 100))
        click.echo(f"scrambled-time: clip of {seconds} s, {share:.0%} of what its steps hold are zeros behind it")

    for name, module, config in (
        ("SSAST", ssast, ssast.Config(width=width, heads=heads)),
        ("Audio Mamba", audio_mamba, audio_mamba.Config(width=width)),
    ):
        model = module.Model(config, layout="corrected", decoder=True).eval()
        official = module.Model(config, layout="official").eval()
        steps = [e for e, _ in model.embed_clips(clips, "timestamps")]
        scenes = [e[None] for e in model.embed_clips(clips)]
        click.echo(f"{name}, width {width}, random weights")
        others = [e[None] for e in official.embed_clips(clips)]
        click.echo(f"  scrambled-time, scenes: {apart(scenes, others)}")

        model.trim = True  # what the steps of the clip would be without zeros behind it
        click.echo(f"  padded-tail, steps:     {apart(steps, [e for e, _ in model.embed_clips(clips, 'timestamps')])}")
        model.trim = False

        units, noise = torch.stack([model.features(clip)[:100].repeat(2, 1) for clip in clips]), torch.rand(10, 250)
        with torch.no_grad():
            result = model.reconstruct(units, noise[: len(units)])
        masked = [pred[mask > 0] for pred, mask in zip(result.pred, result.mask, strict=True)]
        spread = max(float((m - m[:1]).abs().max()) for m in masked)
        click.echo(f"  lost-position: predictions at masked places of a clip are apart by up to {spread:.2g}")

        model.use_dtype(torch.bfloat16)
        click.echo(f"  bfloat16, scenes:       {apart(scenes, [e[None] for e in model.embed_clips(clips)])}")
        click.echo(f"  bfloat16, steps:        {apart(steps, [e for e, _ in model.embed_clips(clips, 'timestamps')])}")


if __name__ == "__main__":
    main()
