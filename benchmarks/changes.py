"""How many of the changes of made-up recordings `hear-models changes` finds, and how many it finds that are none.

    python benchmarks/changes.py                          logmel-stats
    python benchmarks/changes.py logmel-stats mwmae-nano

A recording is 2,000 s of pinkish noise to which crickets, rain, a hum and other crickets come and go, with white noise
of several amplitudes over all of it (the ground has amplitude 1), three of each; and as many in which nothing changes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from common import build_model

from hear_models.exploration.changes import find_changes

RATE = 16000
SECTIONS = (
    *(("ground", 300), ("crickets", 240), ("ground", 200), ("rain", 300)),
    *(("hum", 200), ("others", 250), ("crickets", 200), ("ground", 310)),
)
NOISES, SEEDS, NEAR_S = (0.0, 1.0, 2.0), 3, 10.0


def coloured(n: int, rng: np.random.Generator, low_hz: float, high_hz: float, slope: float) -> np.ndarray:
    """Noise of amplitude 1 whose power falls by f ** -slope, within a band."""
    hertz = np.fft.rfftfreq(n, 1 / RATE)
    spectrum = np.fft.rfft(rng.standard_normal(n)) * np.maximum(hertz, 20) ** (-slope / 2)
    x = np.fft.irfft(np.where((hertz >= low_hz) & (hertz <= high_hz), spectrum, 0), n)
    return x / x.std()


def section(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """So many samples of one kind."""
    ground, t = coloured(n, rng, 0, RATE, 1.5), np.arange(n) / RATE
    if kind == "rain":
        return ground + 0.7 * coloured(n, rng, 1000, 6000, 0)
    if kind == "hum":
        return ground + 0.5 * sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 8))
    if kind in ("crickets", "others"):
        hertz, rate = (4000, 5) if kind == "crickets" else (3000, 8)
        chirps = np.sin(2 * np.pi * hertz * t) * (t * rate % 1 < 0.65) * (0.5 + 0.5 * np.sin(2 * np.pi * 0.1 * t))
        return ground + 0.5 * chirps / chirps.std()
    return ground


def main() -> None:
    """Make the recordings, look for changes, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=["logmel-stats"])
    arguments = parser.parse_args()
    true_s = np.cumsum([seconds for _, seconds in SECTIONS])[:-1]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(SEEDS):
            for noise in NOISES:
                rng = np.random.default_rng([seed, int(10 * noise)])
                changing = np.concatenate([section(kind, RATE * seconds, rng) for kind, seconds in SECTIONS])
                for name, x in (("changes", changing), ("same", section("crickets", len(changing), rng))):
                    x = 0.04 * (x + noise * rng.standard_normal(len(x)))
                    soundfile.write(Path(folder, f"{name}-{noise:g}-{seed}.wav"), x.clip(-1, 1), RATE)
        print(f"{'model':<16} {'noise':>6} {'changes':>8} {'found':>6} {'wrong':>6} {'wrong where there are none':>27}")
        for name in arguments.models:
            model, _ = build_model(name)
            found, _ = find_changes([folder], model, root=Path(folder, "kept"))
            starts = {changes.name: np.array(changes.starts_ms[1:]) / 1000 for changes in found}
            for noise in NOISES:
                said = [starts[f"changes-{noise:g}-{seed}.wav"] for seed in range(SEEDS)]
                hits = sum(bool(np.any(np.abs(s - true) <= NEAR_S)) for s in said for true in true_s)
                wrong = sum(not np.any(np.abs(true_s - one) <= NEAR_S) for s in said for one in s)
                alarms = sum(len(starts[f"same-{noise:g}-{seed}.wav"]) for seed in range(SEEDS))
                print(f"{name:<16} {noise:>6g} {SEEDS * len(true_s):>8} {hits:>6} {wrong:>6} {alarms:>27}", flush=True)


if __name__ == "__main__":
    main()
