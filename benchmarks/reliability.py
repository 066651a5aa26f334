"""How many damaged copies of a checkpoint load: with hear-models, and with what others load weights by.

    python benchmarks/reliability.py [--json FILE] [--flips 300] [--truncations 100] [--cached 20] [--seed 0]

Every loader meets the same damage to mwmae-nano.safetensors: single flipped bits at seeded random places of the whole
file, header included, and copies cut at seeded random lengths. torch.load meets it in a file of its own with the same
tensors. "Loads" means: no error. The Hub cases run against the tests' server on 127.0.0.1, so the script needs a
checkout, and no network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MODEL = "mwmae-nano"
REPOSITORY = "lab/model"


@dataclass
class Row:
    """One loader: how many damaged files it took."""

    loader: str
    flips: int = 0
    flips_loaded: int = 0
    truncations: int = 0
    truncations_loaded: int = 0
    errors: dict[str, int] = field(default_factory=dict)  # kind of error → how often


def damages(size: int, flips: int, truncations: int, seed: int) -> Iterator[tuple[str, Callable[[bytes], bytes]]]:
    """(kind, bytes → damaged bytes); equal arguments give equal damage."""
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, 8 * size, flips).tolist():
        byte, bit = divmod(position, 8)
        yield "flip", lambda data, byte=byte, bit=bit: data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]
    for length in rng.integers(0, size, truncations).tolist():
        yield "truncation", lambda data, length=length: data[:length]


def measure(
    loader: str,
    path: Path,
    load: Callable[[], object],
    amounts: tuple[int, int, int],
) -> Row:
    """Damage `path` in every way, call `load` after each, and put the file back."""
    whole = path.read_bytes()
    row = Row(loader)
    load()  # undamaged: it must load, else nothing is measured
    try:
        for kind, damage in damages(len(whole), *amounts):
            path.write_bytes(damage(whole))
            try:
                load()
                error = None
            except Exception as caught:  # any error is a refusal, whatever its class
                error = type(caught).__name__
            if kind == "flip":
                row.flips, row.flips_loaded = row.flips + 1, row.flips_loaded + (error is None)
            else:
                row.truncations, row.truncations_loaded = row.truncations + 1, row.truncations_loaded + (error is None)
            if error:
                row.errors[error] = row.errors.get(error, 0) + 1
    finally:
        path.write_bytes(whole)
    return row


def rows(folder: Path, flips: int, truncations: int, cached: int, seed: int) -> Iterator[Row]:
    """One row after the other; `folder` is empty and ours."""
    sys.path.insert(0, str(ROOT / "tests"))
    from hub.server import HubServer

    with HubServer() as hub:
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING", "HEAR_MODELS_"))]:
            del os.environ[name]
        os.environ.update(
            HF_ENDPOINT=hub.endpoint, HF_HOME=str(folder / "home"), HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1"
        )
        import safetensors.torch
        import torch
        from huggingface_hub import hf_hub_download

        from hear_models.checkpoints import manifest
        from hear_models.zoo import find_entry, load_model

        torch.set_num_threads(1)
        entry = find_entry(MODEL)
        original = entry.manifest.path
        if original is None:
            raise SystemExit(f"{MODEL} is not here. Run this in a whole checkout.")
        data = original.read_bytes()
        commit = hub.store.repository(REPOSITORY, {"model.safetensors": data}).branches["main"]

        weights = folder / "weights"
        weights.mkdir()
        text = original.with_suffix(".toml").read_text("utf-8")
        (weights / "bundled.toml").write_text(text.replace(f'"{MODEL}', '"bundled'), "utf-8")
        on_hub = f'hub_repository = "{REPOSITORY}"\nhub_revision = "{commit}"\nhub_file = "model.safetensors"'
        text = re.sub(r"^bundled = .*$", on_hub, text.replace(f'"{MODEL}"', '"hub"'), flags=re.M)
        text = text.replace('status = "bundled"', 'status = "hub"').replace("default = true\n", "")
        (weights / "hub.toml").write_text(text, "utf-8")
        (weights / "bundled.safetensors").write_bytes(data)
        manifest.resource = lambda name: weights  # the registry now consists of these two

        amounts = (flips, truncations, seed)
        path = folder / "by_path.safetensors"
        path.write_bytes(data)
        yield measure("hear-models, by path", path, lambda: load_model(path), amounts)
        bundled = weights / "bundled.safetensors"
        yield measure("hear-models, by name (bundled file)", bundled, lambda: load_model("bundled"), amounts)
        blob = Path(load_model("hub").checkpoint.path).resolve()
        yield measure("hear-models, by name (Hub cache)", blob, lambda: load_model("hub"), amounts)
        address = f"hf://{REPOSITORY}@{commit}"
        yield measure("hear-models, by hf:// address", blob, lambda: load_model(address), amounts)

        yield measure("safetensors.torch.load_file", path, lambda: safetensors.torch.load_file(path), amounts)
        network = load_model("bundled").half()
        yield measure(
            "safetensors.torch.load_model(strict=True)",
            path,
            lambda: safetensors.torch.load_model(network, path, strict=True),
            amounts,
        )
        pickled = folder / "model.pt"
        torch.save(safetensors.torch.load_file(path), pickled)
        yield measure("torch.load(weights_only=True)", pickled, lambda: torch.load(pickled, weights_only=True), amounts)

        half = (cached - cached // 2, cached // 2, seed)
        for revision, name in ((commit, "pinned commit"), ("main", "branch, online")):
            yield measure(
                f"huggingface_hub.hf_hub_download, cached file ({name})",
                blob,
                lambda revision=revision: hf_hub_download(REPOSITORY, "model.safetensors", revision=revision),
                half,
            )


def table(found: list[Row]) -> str:
    lines = ["| loader | flipped bits: load | cut copies: load |", "|---|---|---|"]
    for row in found:
        lines.append(
            f"| {row.loader} | {row.flips_loaded} of {row.flips} | {row.truncations_loaded} of {row.truncations} |"
        )
    return "\n".join(lines)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("hear-models", "torch", "safetensors", "huggingface_hub", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def main() -> None:
    parser = argparse.ArgumentParser(description="How many damaged copies of a checkpoint load.")
    parser.add_argument("--flips", type=int, default=300, help="single flipped bits for each loader [300]")
    parser.add_argument("--truncations", type=int, default=100, help="cut copies for each loader [100]")
    parser.add_argument("--cached", type=int, default=20, help="damaged files in the Hub's cache [20]")
    parser.add_argument("--seed", type=int, default=0, help="of the damage [0]")
    parser.add_argument("--json", type=Path, help="write the counts to this file")
    arguments = parser.parse_args()
    began, found = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="hear-models-") as folder:
        for row in rows(Path(folder), arguments.flips, arguments.truncations, arguments.cached, arguments.seed):
            found.append(row)
            print(f"{row.loader}: done after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(found))
    if arguments.json:
        content = {"model": MODEL, "seed": arguments.seed, "versions": versions(), "rows": [asdict(r) for r in found]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
