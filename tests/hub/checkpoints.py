"""Small checkpoints of ours for the tests' Hub to serve."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hear_models import mwmae
from hear_models.checkpoints.safetensors_file import write_checkpoint

SMALL = mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, decoder_width=16, decoder_depth=1)


@cache
def checkpoint(seed: int = 5, blown_up_to: int = 0) -> bytes:
    """A checkpoint file of some 70 kB, or of more with a note that nobody reads."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        write_checkpoint(
            path,
            family="mwmae",
            config=dataclasses.asdict(SMALL),
            tensors=mwmae.Model(SMALL, seed=seed).state_dict(),
            notes={"padding": "x" * blown_up_to},
        )
        return path.read_bytes()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def flipped(data: bytes, position: int = -3) -> bytes:
    """The same with one bit turned."""
    copy = bytearray(data)
    copy[position] ^= 1
    return bytes(copy)
