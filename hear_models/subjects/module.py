"""A HEAR module as an object: its three callables, and its model, loaded when asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from hear_models.errors import UsageError
from hear_models.subjects.naming import Foreign, Ours, find, functions_of, is_family
from hear_models.subjects.randomness import random_state
from hear_models.subjects.wording import call_text, describe
from hear_models.zoo.families import families, family_module


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
        options: keyword arguments of `load_model`, at every call.
    """

    name: str
    functions: dict[str, Callable[..., Any]]
    model_path: str = ""
    device: str = "cpu"
    import_changed: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=torch_settings)  # before anything was loaded
    loaded_on: set[str] = field(default_factory=set)  # devices of the parameters as load_model returned them

    def load(self, *args: Any) -> Any:
        """Call `load_model` with exactly these arguments and the options; raises ModuleFault naming the call."""
        return self._call("load_model", *args, **self.options)

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

    def _call(self, function: str, *args: Any, **options: Any) -> Any:
        try:
            return self.functions[function](*args, **options)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # third-party code may even call sys.exit()
            raise ModuleFault(f"{call_text(function, *args)} raised {describe(error)}") from error


def family_modules() -> list[str]:
    """Dotted names of the HEAR modules of this package."""
    return [f"hear_models.{name}" for name in families()]


def load_module(
    name: str, *, model_path: str = "", device: str = "cpu", options: Mapping[str, Any] | None = None
) -> HearModule:
    """Find a HEAR module by what a person calls it; its model is not loaded yet.

    Args:
        name: see `naming.find`. A name that says which weights (`mwmae-nano`, a file) gives a module whose
            `load_model()` loads them.
        model_path: weights for `load_model`, as written; not together with a name that says which.
        device: torch device for model and audio.
        options: keyword arguments of its `load_model`.

    Raises:
        UsageError: there is no such module, importing it fails, it has no such option, or the device cannot be used.
        CheckpointError: a registered model whose weights are not published.
    """
    _check_device(device)
    found = find(f"{name}:{model_path}" if model_path and is_family(name) else name)
    settings = torch_settings()
    before = random_state()
    module = family_module(found.family) if isinstance(found, Ours) else found.imported()
    changed = before.changed()
    functions = functions_of(module)
    given = dict(options or {})
    _check_options(found, functions, given)
    by_family, _, path = found.name.partition(":") if isinstance(found, Ours) else ("", "", found.weights)
    if isinstance(found, Ours) and not is_family(by_family):
        _refuse_second_weights(found, model_path)
        load = functions["load_model"]
        functions["load_model"] = lambda model_file_path="", **options: load(
            model_file_path or found.load_name, **options
        )
        return HearModule(name, functions, "", device, changed, given, settings)
    if path and model_path and path != model_path:
        raise UsageError(f"{name} names its weights already. Leave --model {model_path} out.")
    return HearModule(name, functions, path or model_path, device, changed, given, settings)


def _check_options(found: Ours | Foreign, functions: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """UsageError for an option that `load_model` cannot take."""
    if not options:
        return
    if "device" in options:
        raise UsageError("device is no option of the model. Choose where it runs with --device.")
    if isinstance(found, Ours):
        from hear_models.zoo.load import check_options

        check_options(family_module(found.family), options)
        return
    if "load_model" not in functions:
        return  # the checks say so
    try:
        inspect.signature(functions["load_model"]).bind("path", **options)
    except TypeError as error:
        taken = ", ".join(inspect.signature(functions["load_model"]).parameters)
        raise UsageError(f"load_model of {found.name} cannot take --set: {error}. Its parameters: {taken}.") from error
    except ValueError:  # a callable without a signature: its call will tell
        return


def _refuse_second_weights(found: Ours, model_path: str) -> None:
    if model_path:
        raise UsageError(
            f"{found.name} already says which weights. "
            f"To check a file, use the module: hear-models validate {found.module} --model {model_path}"
        )


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA raises AssertionError
        reason = str(error).splitlines()[0]
        raise UsageError(f"The device {device!r} cannot be used ({reason}). Take another, for instance cpu.") from error
