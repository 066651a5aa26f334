"""Does a model tell speakers apart whom it never heard? Digits of one man against his own and those of others.

    python benchmarks/voices.py FOLDER [--model NAME]... [--random 5]

FOLDER holds SPEAKER/DIGIT_INDEX.flac (the Free Spoken Digit Dataset). Trials: 2,000 pairs of recordings of `theo`, whom
no code of this project trains on, and 2,000 pairs of one of his and one of another speaker's, drawn with seed 0; two
recordings of a pair are of different digits, so that words do not help. Scores are cosines of scene embeddings, nothing
is normalised; intervals are bootstraps over trials, which share recordings: the truth is wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch

from hear_models.errors import UsageError
from hear_models.pipeline.audio import read_audio
from hear_models.pipeline.model import HearModel
from hear_models.speaker.metrics import bootstrap, equal_error_rate
from hear_models.zoo import find_entry, load_model
from hear_models.zoo.families import family_module, new_model

HELD_OUT = "theo"
PAIRS = 2_000  # of each kind


def draw_trials(files: Sequence[Path], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Indices of files [trials, 2], and 1 where both are of the held-out speaker, else 0."""
    own = [index for index, file in enumerate(files) if file.parent.name == HELD_OUT]
    others = [index for index, file in enumerate(files) if file.parent.name != HELD_OUT]
    if len({files[index].name[0] for index in own}) < 2 or not others:
        raise UsageError(f"the folder needs recordings of several digits by {HELD_OUT}, and of other speakers.")
    trials: list[tuple[int, int]] = []
    for second in (own, others):
        wanted = len(trials) + PAIRS
        while len(trials) < wanted:
            a, b = int(rng.choice(own)), int(rng.choice(second))
            if files[a].name[0] != files[b].name[0]:
                trials.append((a, b))
    return np.array(trials), np.repeat([1, 0], PAIRS)


def score(model: HearModel, clips: Sequence[torch.Tensor], trials: np.ndarray) -> np.ndarray:
    """Cosine of the scene embeddings of every pair."""
    scenes = torch.nn.functional.normalize(torch.stack(model.embed_clips(clips)).double(), dim=1).numpy()
    cosines: np.ndarray = (scenes[trials[:, 0]] * scenes[trials[:, 1]]).sum(1)
    return cosines


@click.command(help=__doc__)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "models", multiple=True, default=["ftcbam-nano"], show_default=True)
@click.option("--random", "n_random", default=5, show_default=True, help="Random networks of the first model's kind.")
def main(folder: Path, models: tuple[str, ...], n_random: int) -> None:
    files = sorted(folder.glob("*/[0-9]_*.flac"))
    trials, labels = draw_trials(files, np.random.default_rng(0))
    clips = [torch.from_numpy(read_audio(file, 16_000)) for file in files]
    named = [(name, load_model(name)) for name in models]
    module, config = family_module(find_entry(models[0]).family), named[0][1].config
    named += [(f"{models[0]}, random {seed}", new_model(module, config, seed=seed).eval()) for seed in range(n_random)]
    print("| model | EER in % (95 % interval) |\n|---|---|")
    for name, model in named:
        scores = score(model, clips, trials)
        rate, _ = equal_error_rate(scores, labels)
        _, (low, high) = bootstrap(scores, labels, equal_error_rate, resamples=1000, seed=0, level=0.95)
        print(f"| {name} | {100 * rate:.1f} ({100 * low:.1f} to {100 * high:.1f}) |", flush=True)


if __name__ == "__main__":
    main()
