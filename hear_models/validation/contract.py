"""Checks of the API itself: the three functions, the attributes, shapes, dtypes, the weights path."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_models.files import scratch_folder
from hear_models.subjects.module import ModuleFault
from hear_models.subjects.naming import FUNCTIONS
from hear_models.subjects.wording import call_text
from hear_models.validation.context import Context, as_cpu_tensor, error, info, relative_change, warning
from hear_models.validation.findings import Finding

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)  # hear-validator 2021.0.6, validate.py:32
TIMESTAMP_SECONDS = (1.07, 1.98, 4.0)  # its three calls, with two sounds each
SCENE_SECONDS = 2.74  # its one call, with four sounds


def check_functions(ctx: Context) -> Iterator[Finding]:
    """The three callables exist, and `load_model` can be called without an argument and with a path."""
    for name in FUNCTIONS:
        if name not in ctx.module.functions:
            yield error(
                f"the module has no function {name}",
                f"a HEAR module has the three callables {', '.join(FUNCTIONS)}",
                {
                    "load_model": 'def load_model(model_file_path: str = "") -> torch.nn.Module: ...',
                    "get_timestamp_embeddings": "def get_timestamp_embeddings(audio, model): ...",
                    "get_scene_embeddings": "def get_scene_embeddings(audio, model): ...",
                }[name],
            )
    for name, function in ctx.module.functions.items():
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # callables written in C have none
            continue
        # with weights given nobody calls it without them
        loads: tuple[tuple[str, ...], ...] = (("path",),) if ctx.module.model_path else ((), ("path",))
        calls = loads if name == "load_model" else (("audio", "model"),)
        for arguments in calls:
            try:
                signature.bind(*arguments, **(ctx.module.options if name == "load_model" else {}))
            except TypeError as cause:
                yield error(
                    f"{name}{signature} cannot be called as {name}({', '.join(arguments)}): {cause}",
                    "the evaluation kit calls load_model() without an argument, load_model(path) positionally, "
                    "and the other two as (audio, model)",
                    'def load_model(model_file_path: str = "")'
                    if name == "load_model"
                    else f"def {name}(audio, model)",
                )


def check_load(ctx: Context) -> Iterator[Finding]:
    """`load_model()` works and returns a torch module."""
    model = ctx.model
    if not isinstance(model, torch.nn.Module):
        yield error(
            f"load_model() returned a {type(model).__module__}.{type(model).__name__}",
            "a torch.nn.Module (HEAR also allows a tf.Module, which this program does not run)",
            "class Model(torch.nn.Module): ...",
        )


def check_attributes(ctx: Context) -> Iterator[Finding]:
    """`sample_rate` and the two sizes exist, are Python ints, and have allowed values."""
    for name in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        if not hasattr(ctx.model, name):
            yield error(
                f"the model has no attribute {name}",
                "the object that load_model returns carries sample_rate and both sizes",
                f"self.{name} = {16000 if name == 'sample_rate' else 1024}",
            )
            continue
        value = getattr(ctx.model, name)
        if type(value) is not int:
            yield error(
                f"{name} is {value!r}, a {type(value).__module__}.{type(value).__name__}",
                "exactly a Python int: hear-validator refuses numpy integers, and a rate of 16000.0 fails in slices",
                f"self.{name} = int({value!r})" if _is_whole(value) else f"self.{name} = 1024",
            )
        elif name == "sample_rate" and value not in SAMPLE_RATES:
            yield error(
                f"sample_rate is {value} Hz",
                f"one of {', '.join(map(str, SAMPLE_RATES))} Hz: the kit has the audio in these rates only",
                "self.sample_rate = 16000",
            )
        elif value <= 0:
            yield error(f"{name} is {value}", "the last dimension of the embeddings, above zero", f"self.{name} = 1024")


def _is_whole(value: Any) -> bool:
    try:
        return bool(int(value) == value)
    except (TypeError, ValueError):
        return False


def standard_timestamps(ctx: Context) -> list[tuple[int, Any]]:
    """(n_samples, whatever get_timestamp_embeddings returned) for hear-validator's three lengths, two sounds each."""

    def run() -> list[tuple[int, Any]]:
        lengths = [ctx.samples(seconds) for seconds in TIMESTAMP_SECONDS]
        return [(n, ctx.module.timestamps(ctx.noise(n, seed=i, clips=2))) for i, n in enumerate(lengths)]

    return ctx.shared("standard timestamps", run)


def standard_scene(ctx: Context) -> tuple[int, Any]:
    """(n_samples, whatever get_scene_embeddings returned) for four sounds of 2.74 s."""
    n = ctx.samples(SCENE_SECONDS)
    return n, ctx.shared("standard scene", lambda: ctx.module.scene(ctx.noise(n, seed=9, clips=4)))


def check_timestamp_shapes(ctx: Context) -> Iterator[Finding]:
    """Embeddings [clips, steps, dim] and times [clips, steps], both tensors."""
    size = ctx.model.timestamp_embedding_size
    right = f"(embeddings [clips, steps, {size}], timestamps [clips, steps]), two float32 tensors"
    for n, returned in standard_timestamps(ctx):
        call = call_text("get_timestamp_embeddings", ctx.noise(n, clips=2))
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            yield error(f"{call} returned a {type(returned).__name__}", right, "return embeddings, timestamps")
            return
        wrong = [
            name
            for name, value in zip(("embeddings", "timestamps"), returned, strict=True)
            if not isinstance(value, Tensor)
        ]
        if wrong:
            kinds = ", ".join(type(returned[("embeddings", "timestamps").index(name)]).__name__ for name in wrong)
            yield error(
                f"{call} returned {' and '.join(wrong)} as {kinds}", right, "return torch.from_numpy(embeddings), ..."
            )
            return
        embeddings, times = returned
        if embeddings.ndim != 3 or times.ndim != 2 or embeddings.shape[:2] != times.shape or embeddings.shape[0] != 2:
            yield error(
                f"{call} returned embeddings {list(embeddings.shape)} and timestamps {list(times.shape)}",
                right,
                "timestamps = timestamps.expand(audio.shape[0], -1)" if times.ndim == 1 else "",
            )
            return
        if embeddings.shape[2] != size:
            yield error(
                f"{call} returned {embeddings.shape[2]} dimensions; timestamp_embedding_size is {size}",
                "the same number",
                f"self.timestamp_embedding_size = {embeddings.shape[2]}",
            )
            return
        if embeddings.shape[1] == 0:
            yield error(f"{call} returned no steps", "at least one embedding a clip")
            return


def check_scene_shapes(ctx: Context) -> Iterator[Finding]:
    """Scene embeddings [clips, dim], a tensor."""
    size = ctx.model.scene_embedding_size
    n, returned = standard_scene(ctx)
    call = call_text("get_scene_embeddings", ctx.noise(n, clips=4))
    right = f"one float32 tensor [clips, {size}]"
    if not isinstance(returned, Tensor):
        yield error(f"{call} returned a {type(returned).__name__}", right, "return torch.from_numpy(embeddings)")
    elif list(returned.shape) != [4, size]:
        yield error(
            f"{call} returned shape {list(returned.shape)}; scene_embedding_size is {size}",
            f"{right}, here [4, {size}]",
            "return embeddings.mean(dim=1)" if returned.ndim == 3 else "",
        )


def check_dtypes(ctx: Context) -> Iterator[Finding]:
    """Everything that comes back is float32."""
    _, (embeddings, times) = standard_timestamps(ctx)[0]
    _, scene = standard_scene(ctx)
    for name, value in (("timestamp embeddings", embeddings), ("timestamps", times), ("scene embeddings", scene)):
        if value.dtype != torch.float32:
            yield error(f"the {name} are {value.dtype}", "float32, as the API says", "return result.float()")


def check_finite(ctx: Context) -> Iterator[Finding]:
    """No NaN and no infinity for ordinary, loud, quiet and silent sounds."""
    n = ctx.samples(1.5)
    square = torch.sign(ctx.tone(n, level=1.0)) + 0.0
    sounds = {
        "white noise at full scale": ctx.noise(n, seed=3),
        "a square wave at full scale": square,
        "a quiet tone (-60 dB)": ctx.tone(n, level=1e-3),
        "silence (zeros)": ctx.silence(n),
    }
    for name, audio in sounds.items():
        for function, embeddings in ctx.both(audio).items():
            bad = float((~torch.isfinite(embeddings)).double().mean())
            if bad:
                silent = "silence" in name
                yield error(
                    f"{function} of {name}: {bad:.0%} of the values are NaN or infinite",
                    "finite values for every finite input" + (", silence included" if silent else ""),
                    "log(x + eps); (x - mean) / (std + eps), or zeros for a constant clip" if silent else "",
                )


def check_weights_path(ctx: Context) -> Iterator[Finding]:
    """A path that does not exist, or holds rubbish, raises; two files give two models."""
    with scratch_folder() as folder:
        missing = Path(folder) / "no_such_weights.safetensors"
        rubbish = Path(folder) / "rubbish.safetensors"
        rubbish.write_bytes(b"these bytes are no weights\n" * 50)
        for path, what in ((missing, "a path that does not exist"), (rubbish, "a file that holds no weights")):
            try:
                ctx.module.load(str(path))
            except ModuleFault:
                continue
            yield error(
                f"load_model accepts {what}: the weights path is ignored",
                "an exception: a silently random or default network gives wrong scores that look right",
                "if model_file_path: model.load_state_dict(safetensors.torch.load_file(model_file_path))",
            )
            return
    if ctx.other_model_path:
        audio = ctx.noise(ctx.samples(1.5), seed=4)
        other = ctx.module.load(ctx.other_model_path).to(ctx.device)
        change = relative_change(ctx.scene(audio, other), ctx.scene(audio))
        if change < 1e-6:
            yield error(
                f"{ctx.module.model_path or 'no path'} and {ctx.other_model_path} give the same embeddings: "
                "the weights path is ignored",
                "two weights files, two models",
            )
        else:
            yield info(f"the second weights file changes the scene embedding by {change:.0%}")


def check_reload(ctx: Context) -> Iterator[Finding]:
    """Loading twice gives the same network."""
    audio = ctx.noise(ctx.samples(1.5), seed=4)
    arguments = [ctx.module.model_path] if ctx.module.model_path else []
    again = ctx.shared("loaded again", lambda: ctx.module.load(*arguments)).to(ctx.device)
    if ctx.difference(as_cpu_tensor(ctx.module.scene(audio, again)), ctx.scene(audio)):
        yield warning(
            "load_model called twice gives two different networks (random weights without a seed?)",
            "the same embeddings in every process, or nothing that is computed today can be compared tomorrow",
            "generator = torch.Generator().manual_seed(0)  # and initialise from it",
        )


def check_device(ctx: Context) -> Iterator[Finding]:
    """The caller chooses the device: nothing is pinned."""
    wanted = ctx.device.type
    for device in sorted(ctx.module.loaded_on - {"cpu"}):
        yield error(
            f"load_model returned parameters on {device}",
            "a model on the CPU; the caller moves it with model.to(device)",
            "return Model()  # without .cuda()",
        )
    for kind, tensors in (("parameter", ctx.model.named_parameters()), ("buffer", ctx.model.named_buffers())):
        for name, tensor in tensors:
            if tensor.device.type != wanted:
                yield error(f"after model.to({wanted!r}), {kind} {name} is on {tensor.device}", f"on {wanted}")
    plain = [
        f"{prefix}.{key}".strip(".")
        for prefix, part in ctx.model.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, Tensor)
    ]
    if plain:
        yield warning(
            f"{', '.join(plain[:5])}{' ...' if len(plain) > 5 else ''}: a plain tensor attribute; "
            "model.to(device) leaves it where it is",
            "parameters and buffers, which move with the model",
            f'self.register_buffer("{plain[0].rpartition(".")[2]}", tensor, persistent=False)',
        )
