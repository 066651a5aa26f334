"""What stands under a file's name after a write that ran out of room: with hear-models, and with what others write by.

    python benchmarks/interrupted.py

A file of 200 kB is written; then again, in a process whose files may not grow beyond a limit, for seven limits. Counted
is how often the earlier file is gone. Needs a checkout (the tests' crash harness), no network, a few seconds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
LIMITS = (0, 100, 1000, 10_000, 40_000, 100_000, 150_000)  # bytes
VALUES = torch.arange(50_000, dtype=torch.float32).reshape(-1, 10)


def writers() -> dict[str, Callable[[Path], object]]:
    """Name → a function that writes VALUES to a path."""
    import pyarrow
    import pyarrow.parquet
    import safetensors.torch

    from hear_models.checkpoints.safetensors_file import write_checkpoint
    from hear_models.files import write_atomically

    table = pyarrow.table({str(column): VALUES[:, column].numpy() for column in range(VALUES.shape[1])})
    return {
        "hear-models, checkpoints": lambda path: write_checkpoint(
            path, family="mwmae", config={}, tensors={"a": VALUES}
        ),
        "hear-models, any file": lambda path: write_atomically(path, VALUES.numpy().tobytes()),
        "safetensors.torch.save_file": lambda path: safetensors.torch.save_file({"a": VALUES}, path),
        "torch.save": lambda path: torch.save({"a": VALUES}, path),
        "numpy.savez": lambda path: np.savez(path, a=VALUES.numpy()),
        "pyarrow.parquet.write_table": lambda path: pyarrow.parquet.write_table(
            table, path, compression="none", use_dictionary=False
        ),
    }


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from crash.harness import Crash, run

    print("| writer | the earlier file is gone |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, write in writers().items():
            lost = 0
            for limit in LIMITS:
                path = Path(folder) / "file.npz"
                write(path)
                before = path.read_bytes()
                run(lambda write=write, path=path: write(path), Path(folder), Crash(limit=limit))
                lost += not path.exists() or path.read_bytes() != before
                path.unlink(missing_ok=True)
            print(f"| {name} | {lost} of {len(LIMITS)} |")


if __name__ == "__main__":
    main()
