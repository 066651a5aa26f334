"""A HEAR module as an object: found by dotted or registry name, its three callables, its model loaded when asked."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from hear_models.errors import UsageError
from hear_models.subjects.randomness import random_state
from hear_models.zoo.families import families

FUNCTIONS = ("load_model", "get_timestamp_embeddings", "get_scene_embeddings")


class ModuleFault(Exception):
    """Calling the module failed; the message names the call. Checks turn it into a finding."""


def torch_settings() -> dict[str, object]:
    """torch's process-wide settings that a library must leave alone."""
    return {
        "torch.get_num_threads()": torch.get_num_threads(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision(),
        "torch.are_deterministic_algorithms_enabled()": torch.are_deterministic_algorithms_enabled(),
    }


@dataclass
class HearModule:
    """The three callables of a HEAR module, and its model.

    Args:
        name: what the user asked for.
        functions: those of `FUNCTIONS` that exist.
        model_path: handed to `load_model`; "" means that it is called without an argument, as the eval kit does.
        device: where the model and the audio are moved.
        import_changed: global random states that changed while the module was imported.
    """

    name: str
    functions: dict[str, Callable[..., Any]]
    model_path: str = ""
    device: str = "cpu"
    import_changed: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=torch_settings)  # before anything was loaded
    loaded_on: set[str] = field(default_factory=set)  # devices of the parameters as load_model returned them

    def load(self, *args: Any) -> Any:
        """Call `load_model` with exactly these arguments; raises ModuleFault naming the call."""
        return self._call("load_model", *args)

    @cached_property
    def model(self) -> Any:
        """`load_model()`, or `load_model(path)` when a path was given, moved to the device as the eval kit does."""
        model = self.load(*([self.model_path] if self.model_path else []))
        if hasattr(model, "parameters") and callable(model.parameters):
            self.loaded_on = {str(parameter.device.type) for parameter in model.parameters()}
        if hasattr(model, "to"):
            model = model.to(self.device)
        return model

    def scene(self, audio: Any, model: Any = None) -> Any:
        """`get_scene_embeddings(audio, model)`, whatever it returns."""
        return self._call("get_scene_embeddings", audio, self.model if model is None else model)

    def timestamps(self, audio: Any, model: Any = None) -> Any:
        """`get_timestamp_embeddings(audio, model)`, whatever it returns."""
        return self._call("get_timestamp_embeddings", audio, self.model if model is None else model)

    @property
    def embedding_calls(self) -> tuple[tuple[str, Callable[..., Any]], ...]:
        """The two functions that embed, by name."""
        return (("get_scene_embeddings", self.scene), ("get_timestamp_embeddings", self.timestamps))

    def _call(self, function: str, *args: Any) -> Any:
        try:
            return self.functions[function](*args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # third-party code may even call sys.exit()
            raise ModuleFault(f"{call_text(function, *args)} raised {describe(error)}") from error


def describe(error: BaseException) -> str:
    """An exception in one line: its type and the first line of its message, at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}{'...' if len(text) > 300 else ''}" if text else type(error).__name__


def call_text(function: str, *args: Any) -> str:
    """The call as a person would write it, tensors by shape: get_scene_embeddings(audio[2, 16000], model)."""
    if function == "load_model":
        return f"load_model({', '.join(repr(arg) for arg in args)})"
    shape = getattr(args[0], "shape", None)
    dtype = str(getattr(args[0], "dtype", "")).removeprefix("torch.")
    return f"{function}(audio {dtype}{list(shape) if shape is not None else '?'}, model)"


def family_modules() -> list[str]:
    """Dotted names of the HEAR modules of this package."""
    return [f"hear_models.{name}" for name in families()]


def load_module(name: str, *, model_path: str = "", device: str = "cpu") -> HearModule:
    """Find a HEAR module by registry name, family name or dotted name; its model is not loaded yet.

    Args:
        name: a name of `hear-models list` (`mwmae-nano`), a family (`mwmae`), or an importable module
            (`my_package.hear`). The current directory is importable, as with `python -m`.
        model_path: weights for `load_model`; not together with a registry name, which already says which weights.
        device: torch device for model and audio.

    Raises:
        UsageError: there is no such module, importing it fails, or the device cannot be used.
        CheckpointError: a registered model whose weights are not published.
    """
    _check_device(device)
    entry = _registry_entry(name)
    if entry is not None:
        if model_path:
            raise UsageError(
                f"{name} is a name of the registry, which already says which weights. "
                f"To check a file, use the module: hear-models validate hear_models.{entry.family} --model {model_path}"
            )
        if entry.status == "unpublished":
            from hear_models.zoo.resolve import resolve

            resolve(name, entry.family)  # raises, and says how to get the weights
        module = _import(f"hear_models.{entry.family}")
        functions = {key: getattr(module, key) for key in FUNCTIONS}
        load = functions["load_model"]
        functions["load_model"] = lambda model_file_path="", **options: load(model_file_path or name, **options)
        return HearModule(name, functions, "", device)
    dotted = f"hear_models.{name}" if f"hear_models.{name}" in family_modules() else name
    settings = torch_settings()
    before = random_state() if dotted not in sys.modules else None
    module = _import(dotted)
    changed = () if before is None else before.changed()
    functions = {key: getattr(module, key) for key in FUNCTIONS if callable(getattr(module, key, None))}
    return HearModule(name, functions, model_path, device, changed, settings)


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        reason = str(error).splitlines()[0]
        raise UsageError(f"The device {device!r} cannot be used ({reason}). Take another, for instance cpu.") from error


def _registry_entry(name: str) -> Any:
    from hear_models.zoo import list_models

    return next((entry for entry in list_models() if entry.name == name), None)


def _import(dotted: str) -> Any:
    if not all(part.isidentifier() for part in dotted.split(".")):
        is_path = "/" in dotted or dotted.endswith(".py")
        raise UsageError(
            f"{dotted!r} is neither a registered model nor the dotted name of a module. "
            + (
                "Give the dotted name, without slashes and without .py."
                if is_path
                else "`hear-models list` shows the names; a module of yours is given as my_package.my_module."
            )
        )
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if dotted == missing or dotted.startswith(f"{missing}."):
            raise UsageError(
                f"There is no module {dotted!r}: Python found no {missing!r} in {os.getcwd()} "
                "or among the installed packages. Install the package, change into the folder that holds it, "
                "or choose a name of `hear-models list`."
            ) from error
        raise UsageError(f"Importing {dotted} needs {missing!r}, which is not installed. Install it.") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(
            f"Importing {dotted} raised {describe(error)}. "
            "A HEAR module must be importable without arguments, weights or environment variables."
        ) from error
