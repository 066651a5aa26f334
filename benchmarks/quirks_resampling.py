"""How far an embedding moves when resampy resamples in the place of soxr: the `resampler` row of docs/quirks.md.

    python benchmarks/quirks_resampling.py            mwmae-nano, mae-nano, msm-mae-nano, gise51-nano

Recordings: the demo's, brought to 44.1 and 48 kHz by soxr's "VHQ", plus noise above 8 kHz, which the two filters treat
differently. The movement of a scene embedding is given as a share of the mean distance between two recordings.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import soxr

import hear_models
from hear_models.pipeline.audio import read_audio
from hear_models.zoo import load_model

DEMO = Path(hear_models.__file__).parent / "_demo"
NAMES = ["mwmae-nano", "mae-nano", "msm-mae-nano", "gise51-nano"]


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=NAMES, metavar="MODEL")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'model':<16} {'from Hz':>8} {'moved':>8} {'at most':>8}   share of the spread")
    for name in args.models:
        model = load_model(name)
        for rate in (44_100, 48_000):
            clips = []
            for path in sorted(DEMO.rglob("*.flac")):
                wide = soxr.resample(read_audio(path, 16_000), 16_000, rate, quality="VHQ")
                clips.append((wide + 0.003 * rng.standard_normal(len(wide))).astype(np.float32))
            by = {
                resampler: np.stack(hear_models.embed(clips, model, sample_rate=rate, resampler=resampler))
                for resampler in ("soxr", "resampy")
            }
            spread = np.mean([np.linalg.norm(a - b) for a, b in combinations(by["soxr"], 2)])
            moved = np.linalg.norm(by["soxr"] - by["resampy"], axis=1) / spread
            print(f"{name:<16} {rate:>8} {moved.mean():>8.4f} {moved.max():>8.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
