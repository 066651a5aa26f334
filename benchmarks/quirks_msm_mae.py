"""The effects that docs/quirks.md reports for MSM-MAE: what a quirk changes in the embeddings.

    python benchmarks/quirks_msm_mae.py [--model msm-mae-nano]

Audio: the recordings of the demo (`hear_models/_demo`), digital silence. Lines compare our default with the other form:
largest absolute difference and smallest cosine over scene embeddings, and the difference as a share of the spread: the
mean distance of two recordings' embeddings.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import hear_models
from hear_models import msm_mae
from hear_models.pipeline.audio import read_audio


def line(what: str, ours: Tensor, other: Tensor) -> None:
    """Print how far apart two sets of scene embeddings [clips, dim] are."""
    spread = torch.stack([(a - b).norm() for a, b in combinations(ours, 2)]).mean()
    share = float((ours - other).norm(dim=1).mean() / spread)
    cosine = float(cosine_similarity(ours, other, dim=1).min())
    click.echo(f"{what:44}  max abs {float((ours - other).abs().max()):.2g}  cosine {cosine:.4f}  spread {share:.1%}")


@click.command()
@click.option("--model", "name", default="msm-mae-nano", show_default=True)
def main(name: str) -> None:
    folder = Path(hear_models.__file__).parent / "_demo"
    model = hear_models.load_model(name)
    clips = [torch.from_numpy(read_audio(path, model.sample_rate)) for path in sorted(folder.glob("*.flac"))]
    seconds = [len(clip) / model.sample_rate for clip in clips]
    click.echo(
        f"{name}, trained: {model.checkpoint.trained}; {len(clips)} recordings of {min(seconds):.1f} to "
        f"{max(seconds):.1f} s; torch {torch.__version__}"
    )
    ours = torch.stack(model.embed_clips(clips))

    official = hear_models.load_model(name, normalize="official")
    line("batch-statistics: all in one call", ours, torch.stack(official.embed_clips(clips)))
    pairs = [official.embed_clips([clips[i], clips[(i + 1) % len(clips)]])[0] for i in range(len(clips))]
    line("batch-statistics: two in a call", ours, torch.stack(pairs))
    line("padded-tail: trim for pad", ours, torch.stack(hear_models.load_model(name, tail="trim").embed_clips(clips)))

    for samples in (16_000, 24_000, 33_120, 64_000, 160_000):
        features = model.spectrogram(torch.zeros(samples))
        normal = (features - features.mean()) / features.std()
        click.echo(f"silence-nan: {samples} zeros, official {float(normal.flatten()[0]):+.3f} everywhere")

    published = msm_mae.Config(frames_per_unit=208)  # times need no weights
    centres, early = (msm_mae.Model(published, timestamps=form, seed=None) for form in ("centres", "official"))
    for length in (0.5, 2, 10, 600):
        n_samples = round(length * centres.sample_rate)
        true = centres.plan(n_samples, "timestamps").times_ms
        before = true - early.plan(n_samples, "timestamps").times_ms[: len(true)]
        span = f"{before.min():.1f} to {before.max():.1f} ms"
        click.echo(f"msm-timestamps: 80x208p16x16, {length:g} s: official {span} before the centre")


if __name__ == "__main__":
    main()
