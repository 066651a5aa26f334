"""Measures what GISE-51's timestamps cost: windows of 1 s against `mode="fast"`, one thread, CPU time.

    python benchmarks/gise51_modes.py                             all published networks, with random weights
    python benchmarks/gise51_modes.py resnet18 --seconds 10

Speed does not depend on what the weights are. A row: seconds of audio per second of CPU time for scene embeddings, for
timestamps by windows, for timestamps in fast mode, and how much faster the last is than the one before. The best of
three turns, taken in turn. Exit status: 0 measured, 2 wrong use.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from hear_models import gise51

PUBLISHED = (
    *("cifar_resnet20", "cifar_resnet44", "cifar_resnet56", "resnet18", "resnet34", "resnet50"),
    *("efficientnet-b0", "efficientnet-b1", "densenet121"),
)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=("nano", "mini", *PUBLISHED), metavar="NETWORK")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the clip")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | scene | windows | fast | fast / windows |\n|---|---|---|---|---|")
    for network in args.networks:
        config = gise51.Config(architecture=network)
        windows, fast = (gise51.Model(config, mode=mode).eval() for mode in gise51.MODES)
        audio = torch.rand(1, int(args.seconds * windows.sample_rate)) - 0.5
        works: list[Callable[[], Any]] = [
            lambda m=windows, a=audio: m.get_scene_embeddings(a),
            lambda m=windows, a=audio: m.get_timestamp_embeddings(a),
            lambda m=fast, a=audio: m.get_timestamp_embeddings(a),
        ]
        best = [min(times) for times in zip(*([cpu_seconds(w) for w in works] for _ in range(args.turns)), strict=True)]
        scene, slow, quick = (args.seconds / b for b in best)
        print(f"| {network} | {scene:.1f} | {slow:.2f} | {quick:.1f} | {quick / slow:.0f} |", flush=True)


if __name__ == "__main__":
    main()
