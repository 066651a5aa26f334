"""Turn a pretraining run into the files that the package ships.

    python benchmarks/ship.py RUN NAME

RUN is the output folder of `hear-models pretrain`, NAME the manifest's (weights/NAME.toml) and the recipe's. Writes
weights/NAME.safetensors (the encoder, float16; with batch normalisation float32; of a run with a validation set the
best weights), weights/NAME.decoder.safetensors (encoder and decoder, float16, to go on with pretraining, not needed for
embeddings; for families that have a decoder), weights/NAME.log.jsonl (the run's log), and puts sha256, bytes, sizes and
configuration into the manifest. Fields of the recipe's [model] that only concern embeddings (scene_pooling) are taken
from the recipe.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from hear_models.checkpoints.safetensors_file import read_checkpoint, read_header, write_checkpoint
from hear_models.training.recipe import read_recipe
from hear_models.zoo import load_model

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
LIMIT_BYTES = 4_000_000


def ship(run: Path, name: str) -> None:
    """Write the files of NAME and complete its manifest."""
    best = run / "best.safetensors"
    source = best if best.exists() else run / "model.safetensors"
    whole = read_checkpoint(source, read_header(source).parts)
    config = whole.config | read_recipe(name).model
    # running variances of decibels come near the largest number of float16
    dtype = "float32" if any("running_var" in tensor for tensor in whole.tensors) else "float16"
    about = {"family": whole.family, "config": config, "notes": whole.header.notes, "dtype": dtype}
    file = WEIGHTS / f"{name}.safetensors"
    sha256 = write_checkpoint(file, tensors=whole.tensors, parts=("encoder",), **about)
    if "decoder" in whole.parts:
        write_checkpoint(WEIGHTS / f"{name}.decoder.safetensors", tensors=whole.tensors, **about)
    shutil.copyfile(run / "log.jsonl", WEIGHTS / f"{name}.log.jsonl")
    size = file.stat().st_size
    if size > LIMIT_BYTES:
        sys.exit(f"{file} has {size} bytes, more than {LIMIT_BYTES}. Train a smaller encoder.")

    manifest = WEIGHTS / f"{name}.toml"
    text = manifest.read_text("utf-8")
    model = load_model(file)
    sizes = {
        "scene_embedding_size": model.scene_embedding_size,
        "timestamp_embedding_size": model.timestamp_embedding_size,
        "dims": model.scene_embedding_size,  # a manifest's short form where both are the same
    }
    for field, value in sizes.items():
        text = re.sub(rf"^{field} = .*$", f"{field} = {value}", text, flags=re.M)
    lines = [f"{field} = {json.dumps(value)}" for field, value in config.items()]
    text = re.sub(r"\[configuration\]\n.*?\n\n", "[configuration]\n" + "\n".join(lines) + "\n\n", text, flags=re.S)
    table = f'[file]\nbundled = "{file.name}"\nsha256 = "{sha256}"\nbytes = {size}\n'
    manifest.write_text(re.sub(r"\[file\]\n.*?(?=\n\[|\Z)", table, text, flags=re.S), "utf-8")
    print(f"{file}: {size} bytes, sha256 {sha256}, {(whole.header.notes or {}).get('step')} updates")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ship(Path(sys.argv[1]), sys.argv[2])
