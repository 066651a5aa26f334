"""Runs one step of the released hear-eval-kit, unmodified, with the few shims that it needs today.

This file is a program: `python -I -S heareval_launcher.py JOB.json`, started by heareval.py in a process of its own,
which finds nothing but Python's standard library until `run` says where packages are. It imports nothing from
hear_models. The job names the folder of pinned packages, the step and its arguments; the report that is written at
the end names every shim that was put in, with the versions that were really imported.
"""

from __future__ import annotations

import hashlib
import importlib.metadata as packages
import json
import os
import pickle
import runpy
import shutil
import signal
import site
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

# What comes from the environment that runs hear-models; they bring their own requirements along.
BORROWED = ("torch", "numpy", "soundfile")
KIT_SEED = 42  # a constant in the released kit


# --- shims: each has a name for the record, and its reason ----------------------------------------------------------


def stand_in_for_tensorflow() -> str:
    """The embedding step imports TensorFlow and uses it for TensorFlow models only."""
    module = types.ModuleType("tensorflow")
    module.Module = type("Module", (), {})  # type: ignore[attr-defined]
    module.test = types.SimpleNamespace(is_gpu_available=lambda **_: True)  # type: ignore[attr-defined]
    sys.modules["tensorflow"] = module
    return "tensorflow: stand-in module"


def load_own_checkpoints() -> str:
    """The kit loads its own checkpoint, which holds classes; torch >= 2.6 refuses that unless it is told so."""
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    return "torch.load: weights_only off (TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD)"


def settable_epoch() -> str:
    """Event tasks look up the postprocessing of the epoch that the kit sets on the loop; Lightning made that inert."""
    from pytorch_lightning.loops.fit_loop import FitLoop

    def set_epoch(loop: Any, epoch: int) -> None:
        loop.epoch_progress.current.completed = epoch

    FitLoop.current_epoch = property(lambda loop: loop.epoch_progress.current.completed, set_epoch)
    return "FitLoop.current_epoch: setter"


def name_of_the_gpu_in_bytes() -> str:
    """The kit decodes the GPU's name; today's pynvml returns text. Not tried: written without a GPU."""
    import pynvml

    original = pynvml.nvmlDeviceGetName

    def name_in_bytes(handle: Any) -> bytes:
        name = original(handle)
        return name.encode() if isinstance(name, str) else name

    pynvml.nvmlDeviceGetName = name_in_bytes
    return "pynvml.nvmlDeviceGetName: bytes"


def replace_grid(grid: dict[str, list[Any]]) -> str:
    """The papers' protocol: another grid in the place of the kit's default one, searched as the kit searches."""
    import heareval.predictions.task_predictions as kit
    import torch

    objects = {
        "BatchNorm1d": torch.nn.BatchNorm1d,
        "Identity": torch.nn.Identity,
        "LayerNorm": torch.nn.LayerNorm,
        "xavier_uniform": torch.nn.init.xavier_uniform_,
        "xavier_normal": torch.nn.init.xavier_normal_,
        "Adam": torch.optim.Adam,
        "SGD": torch.optim.SGD,
    }
    kit.PARAM_GRID = {
        key: [objects[value] if isinstance(value, str) else value for value in values] for key, values in grid.items()
    }
    return "grid replaced"


def replace_seed(seed: int) -> str:
    """The papers' protocol: their copy of the kit has an option for what is a constant 42 in the released one."""
    import heareval.predictions.task_predictions as kit

    original = kit.seed_everything
    kit.seed_everything = lambda _, **options: original(seed, **options)
    return f"seed replaced ({seed} for {KIT_SEED})"


# --- what is imported, and from where -------------------------------------------------------------------------------


def borrow(origins: dict[str, str], behind: list[str], folder: Path) -> None:
    """Fill `folder` with links to BORROWED, what they require and the metadata of both, found in the paths `behind`.

    Not the whole environment behind: Lightning, torchmetrics and pandas look for dozens of optional packages, and a
    judge should not depend on which of them somebody has installed, in which version. `origins` says where the
    borrowed modules themselves are, which nobody but Python's import knows for sure.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    installed: dict[str, packages.Distribution] = {}
    for distribution in packages.distributions(path=behind):
        installed.setdefault(canonicalize_name(distribution.metadata["Name"]), distribution)
    wanted: dict[str, Path] = {Path(origin).name: Path(origin) for origin in origins.values()}
    waiting, seen = list(BORROWED), set(BORROWED)
    while waiting:
        name = waiting.pop()
        if name not in installed:
            continue
        distribution = installed[name]
        listed = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
        for entry in sorted(listed or {*(distribution.read_text("top_level.txt") or "").split(), name}):
            wanted.setdefault(entry, Path(str(distribution.locate_file(entry))))
        for line in distribution.requires or ():
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            if name not in seen and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
                seen.add(name)
                waiting.append(name)
    folder.mkdir()
    for entry, path in wanted.items():
        if path.exists() and entry != "__pycache__" and not entry.endswith(".pth"):
            os.symlink(path, folder / entry)


def imported_versions(pinned: Path) -> dict[str, dict[str, str]]:
    """Distributions whose modules were imported: {"pinned": {name: version}, "borrowed": {name: version}}."""
    providers = packages.packages_distributions()
    found: dict[str, dict[str, str]] = {"pinned": {}, "borrowed": {}}
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." not in name and file and name in providers:
            where = "pinned" if pinned in Path(file).parents else "borrowed"
            found[where] |= {distribution: packages.version(distribution) for distribution in providers[name]}
    return found


def kit_sha256(pinned: Path) -> str:
    """The sha256 over every Python file of the kit, names and bytes: the released wheel's, or it was modified."""
    digest = hashlib.sha256()
    for path in sorted((pinned / "heareval").rglob("*.py")):
        digest.update(f"{path.relative_to(pinned).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


# --- the run --------------------------------------------------------------------------------------------------------


def end_with_parent(scratch: Path) -> None:
    """Our standard input is a pipe that nobody writes to: it ends when the process that waits for us does.

    Then there is nobody left to remove `scratch`, this process's own temporary folder.
    """

    def wait() -> None:
        while os.read(0, 1):
            pass
        group = os.getpgrp()
        if os.fork():  # the kit goes on writing until it is killed, so a child outside of the group removes behind it
            return
        os.setsid()
        os.killpg(group, signal.SIGKILL)
        for _ in range(100):
            shutil.rmtree(scratch, ignore_errors=True)
            if not scratch.exists():
                break
            time.sleep(0.05)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def predictions_as_numbers(folder: Path) -> None:
    """The pickles that the kit has just written, as SPLIT.npz (float32) and SPLIT.events.json beside them."""
    import numpy as np

    for path in sorted(folder.glob("*.predictions.pkl")):
        content = pickle.loads(path.read_bytes())
        split = path.name.removesuffix(".predictions.pkl")
        names = {"target": "target", "prediction": "prediction", "prediction_logit": "logit"}
        arrays = {short: content[name].float().numpy() for name, short in names.items()}
        np.savez(folder / f"{split}.npz", **arrays)
        if "predicted_events" in content:
            (folder / f"{split}.events.json").write_text(json.dumps(content["predicted_events"]))


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run `job["step"]` of the kit with `job["arguments"]`; what the report says."""
    step, pinned, borrowed = job["step"], Path(job["environment"]), Path("borrowed").resolve()
    sys.path.insert(0, str(pinned))
    borrow(job["origins"], job["behind"], borrowed)
    sys.path.insert(1, str(borrowed))
    shims = [load_own_checkpoints()]
    if job["device"] != "cpu":
        shims.append(name_of_the_gpu_in_bytes())
    if step == "embeddings":
        shims.append(stand_in_for_tensorflow())
        import heareval.embeddings.task_embeddings
    else:
        import heareval.predictions.task_predictions  # noqa: F401
    if job.get("event"):
        shims.append(settable_epoch())
    if job.get("grid"):
        shims.append(replace_grid(job["grid"]))
    if job.get("seed", KIT_SEED) != KIT_SEED:
        shims.append(replace_seed(job["seed"]))
    import torch

    versions = imported_versions(pinned)
    if step == "embeddings":  # the model is somebody's own: from here on everything that is installed is there
        sys.path += [entry for entry in job["behind"] if entry not in sys.path]
        for folder in job["site_packages"]:
            site.addsitedir(folder)
    sys.argv = [f"heareval.{step}.runner", *job["arguments"]]
    try:
        runpy.run_module(f"heareval.{step}.runner", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    if step == "predictions":
        versions = imported_versions(pinned)
        predictions_as_numbers(Path(job["folder"]))
    return {
        "shims": shims,
        "versions": versions,
        "kit_sha256": kit_sha256(pinned),
        "threads": torch.get_num_threads(),
        "cpu_s": time.process_time(),
    }


def main() -> None:
    path = Path(sys.argv[1])
    end_with_parent(path.parent)
    job = json.loads(path.read_text())
    report = run(job)
    Path(job["report"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
