"""What is evaluated: from a name on the command line to a module, its options, and a folder name of its own."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

from hear_models.checkpoints.fields import parse_settings
from hear_models.errors import HearModelsError, UsageError
from hear_models.subjects.code import foreign_code_sha256, own_code_sha256
from hear_models.subjects.loaded import ADVICE, Loaded
from hear_models.subjects.module import FUNCTIONS, call_text, describe, load_module
from hear_models.zoo.registry import list_models, near_names

SHA_DIGITS = 8  # of a checkpoint's sha256 in a folder's name
LONGEST_SLUG = 150  # file systems take names of 255 bytes


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: one of ours, or any HEAR module. Plain data; `load` gives the model.

    `slug` is the folder's name: two subjects of different weights or options never share one. `trained` is False for
    networks of random weights of ours; of a foreign module it is taken to be True. `revision` is that of a repository.
    """

    name: str  # as the user wrote it
    slug: str
    module: str  # dotted name of the HEAR module; of a .py file its stem
    options: dict[str, Any]  # keyword arguments of load_model
    is_ours: bool
    family: str | None
    trained: bool
    checkpoint: Path | None  # file (of a foreign module also a folder) of weights
    checkpoint_sha256: str | None
    revision: str | None
    code_sha256: str  # of the module and of what it imports beside it
    import_name: str = field(repr=False)  # dotted name, or path of a .py file
    load_name: str = field(repr=False)  # first argument of load_model; "" means that it is called without one

    def load(self, device: str = "cpu") -> Loaded:
        """The model on `device`. Raises UsageError (foreign module that fails to load) or CheckpointError."""
        return _load_ours(self, device) if self.is_ours else _load_foreign(self, device)


def resolve(
    name: str, options: Mapping[str, Any] | None = None, *, allow_untrained: bool = False, how: str = "allow_untrained"
) -> Subject:
    """What `name` stands for.

    Args:
        name: a registry name (`mwmae-nano`), a family (`mwmae`: its default), a `.safetensors` file, `hf://ORG/REPO`;
            or a HEAR module: its dotted name (`my_package.hear`) or its .py file. `MODULE:FILE` gives the module the
            path of its weights (`model_file_path`). The current directory is importable.
        options: keyword arguments of its `load_model`, for instance {"timestamps": "official"}.
        allow_untrained: accept a network of ours with random weights.
        how: what the error tells the user to write instead, for instance "--allow-untrained".

    Raises:
        UsageError: unknown name, module that cannot be imported, option of ours that does not exist, random weights.
        CheckpointError: a file of ours that is damaged, or weights that are not published.
    """
    given = dict(options or {})
    if "device" in given:
        raise UsageError("device is no option of the model. Choose where it runs with --device.")
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the options of {name} are no JSON: {error}. Use numbers, words, lists.") from error
    subject = _resolve_ours(name, given) or _resolve_foreign(name, given)
    if not subject.trained and not allow_untrained:
        raise UsageError(
            f"{name} has random weights: its scores describe nothing that was learned. "
            f"Choose a trained model (`hear-models list`), or ask for it with {how}."
        )
    return subject


def parse_options(settings: Sequence[str] = (), text: str = "") -> dict[str, Any]:
    """Options from several KEY=VALUE and one JSON object, as `{"dtype": "bfloat16"}`; a key twice is a UsageError."""
    options = parse_settings(settings)
    if text:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"the model options {text!r} are not JSON ({error}). Write for instance '{{\"key\": 1}}'."
            ) from error
        if not isinstance(found, dict):
            raise UsageError(f"the model options {text!r} are no JSON object. Write for instance '{{\"key\": 1}}'.")
        if twice := sorted(options.keys() & found.keys()):
            raise UsageError(f"the model option {twice[0]} is given twice. Give it once.")
        options |= found
    return options


def slugify(text: str) -> str:
    """Text as it stands in the kit's folder names: lower-case ASCII letters and digits, everything else one hyphen.

    As python-slugify, which the kit uses, for text of Latin letters, digits and punctuation.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    ascii_text = re.sub(r"(?<=\d),(?=\d)", "", ascii_text)
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")


def options_slug(options: Mapping[str, Any]) -> str:
    """The kit's `-key=value...`; eight digits of a digest follow where its spelling would make two values one."""
    if not options:
        return ""
    slug = "".join(f"-{slugify(key)}={slugify(str(value))}" for key, value in options.items())
    plain = all(re.fullmatch(r"[A-Za-z0-9]+([-_. ][A-Za-z0-9]+)*", str(value)) for value in options.values())
    return slug if plain and len(slug) < LONGEST_SLUG // 2 else f"{slug[: LONGEST_SLUG // 2]}-{_digest_of(options)}"


def _digest_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:SHA_DIGITS]


# ------------------------------------------------------------------------------------------------------- ours
def _resolve_ours(name: str, options: dict[str, Any]) -> Subject | None:
    """A subject of this package; None if the name cannot be one."""
    from hear_models.zoo.load import check_options
    from hear_models.zoo.load import resolve as resolve_checkpoint

    entries = list_models()
    families = {entry.family for entry in entries}
    head, _, file = name.partition(":")
    family = head.removeprefix("hear_models.")
    if family in families and head in (family, f"hear_models.{family}"):
        resolved = resolve_checkpoint(file, family)
    elif name in {entry.name for entry in entries} or name.startswith("hf://") or name.endswith(".safetensors"):
        resolved = resolve_checkpoint(name, None)
    else:
        return None
    module = import_module(f"hear_models.{resolved.family}")
    check_options(module, options)
    sha256 = resolved.sha256
    if resolved.path is not None and sha256 is None:
        sha256 = file_sha256(resolved.path)
    if resolved.entry is not None:
        stem = load_name = resolved.entry.name
        trained = resolved.entry.trained
    else:
        from hear_models.checkpoints.safetensors_file import read_header

        assert resolved.path is not None
        on_hub = name.startswith("hf://")
        stem = slugify(name.removeprefix("hf://")) if on_hub else resolved.path.stem
        load_name = name if on_hub else os.path.abspath(resolved.path)
        trained = read_header(resolved.path).trained
    digits = f"-{sha256[:SHA_DIGITS]}" if sha256 else ""
    return Subject(
        name=name,
        slug=f"{_plain_name(stem)}{digits}{options_slug(options)}",
        module=f"hear_models.{resolved.family}",
        options=options,
        is_ours=True,
        family=resolved.family,
        trained=trained,
        checkpoint=resolved.path,
        checkpoint_sha256=sha256,
        revision=resolved.fetched.commit if resolved.fetched else None,
        code_sha256=own_code_sha256(f"hear_models.{resolved.family}"),
        import_name=f"hear_models.{resolved.family}",
        load_name=load_name,
    )


def _plain_name(stem: str) -> str:
    """A file's stem as part of a folder's name: no hidden folder, nothing that a shell or a file system dislikes."""
    return re.sub(r"[^\w.+=-]+", "-", stem)[: LONGEST_SLUG // 2].strip("-.") or "model"


def _load_ours(subject: Subject, device: str) -> Loaded:
    from hear_models.zoo.load import load

    model = load(subject.load_name, subject.family, {**subject.options, "device": device})
    found = model.checkpoint.sha256 if model.checkpoint else None
    if found != subject.checkpoint_sha256 and found is not None:
        raise UsageError(f"{subject.name} changed while this run was going on. Start it again.")
    module = import_module(subject.module)
    return Loaded(subject, model, torch.device(device), {name: getattr(module, name) for name in FUNCTIONS})


# ---------------------------------------------------------------------------------------------------- foreign
def _resolve_foreign(name: str, options: dict[str, Any]) -> Subject:
    module_name, weights = _split_weights(name)
    functions, module = _import(module_name)
    for function in FUNCTIONS:
        if function not in functions:
            raise UsageError(
                f"{module_name} has no function {function}, so it is no HEAR module. "
                f"It needs {', '.join(FUNCTIONS)}; `hear-models list` shows the models of this package."
            )
    dotted = getattr(module, "__name__", module_name)
    path = Path(weights) if weights else None
    if path is not None and not path.exists():
        raise UsageError(f"{path}, the weights for {module_name}, does not exist. Check the path after the colon.")
    sha256 = _weights_sha256(path) if path is not None else None
    stem = f"-{_plain_name(path.stem)}-{sha256[:SHA_DIGITS]}" if path is not None and sha256 else ""
    return Subject(
        name=name,
        slug=f"{_plain_name(dotted)}{stem}{options_slug(options)}",
        module=dotted,
        options=options,
        is_ours=False,
        family=None,
        trained=True,
        checkpoint=path,
        checkpoint_sha256=sha256,
        revision=None,
        code_sha256=foreign_code_sha256(Path(inspect.getfile(module))),
        import_name=module_name,
        load_name=weights,
    )


def _split_weights(name: str) -> tuple[str, str]:
    """ "my_package:weights.pt" → both; a path may hold colons of its own (a drive's letter)."""
    head, sign, weights = name.partition(":")
    if sign and (head.endswith(".py") or all(part.isidentifier() for part in head.split("."))) and len(head) > 1:
        if not weights:
            raise UsageError(f"{name!r} ends with a colon. Write the path of the weights behind it, or leave it out.")
        return head, weights
    if (at := name.find(".py:")) >= 0:
        return name[: at + 3], name[at + 4 :]
    return name, ""


def _import(module_name: str) -> tuple[dict[str, Any], Any]:
    """(the functions of a HEAR module, the module) by dotted name or by the path of a .py file."""
    if not module_name.endswith(".py"):
        if not all(part.isidentifier() for part in module_name.split(".")):
            raise UsageError(
                f"{module_name!r} is neither a model's name nor the dotted name of a module. {near_names(module_name)}"
            )
        functions = load_module(module_name).functions
        return functions, sys.modules.get(module_name) or import_module(module_name)
    path = Path(module_name)
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Check the path, or give the dotted name of an installed module.")
    module = sys.modules.get(path.stem)
    if module is None or Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        module = _run_file(path)
    return {name: getattr(module, name) for name in FUNCTIONS if callable(getattr(module, name, None))}, module


def _run_file(path: Path) -> Any:
    """Import a .py file as Python runs a script: what lies beside it is importable."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = spec_from_file_location(path.stem, path.resolve())
    assert spec is not None and spec.loader is not None  # a name that ends in .py has a loader
    module = module_from_spec(spec)
    taken = path.stem in sys.modules
    if not taken:  # classes of the module find it by name, for instance to be pickled
        sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        if not taken:
            del sys.modules[path.stem]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UsageError(f"Importing {path} raised {describe(error)}. Repair the module.") from error
    return module


def _load_foreign(subject: Subject, device: str) -> Loaded:
    functions, _ = _import(subject.import_name)
    arguments = [subject.load_name] if subject.load_name else []
    said = f"{subject.name}: {call_text('load_model', *arguments)}"
    try:
        model = functions["load_model"](*arguments, **subject.options)
    except (KeyboardInterrupt, HearModelsError):
        raise
    except BaseException as error:
        taken = ", ".join(inspect.signature(functions["load_model"]).parameters)
        hint = f" Its parameters: {taken}." if isinstance(error, TypeError) and subject.options else f" {ADVICE}"
        raise UsageError(f"{said} raised {describe(error)}.{hint}") from error
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"{said} gave a {type(model).__name__}, not a torch.nn.Module. Only torch models are taken.")
    rate = getattr(model, "sample_rate", None)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate != int(rate) or rate < 1:
        raise UsageError(f"{said}: its model has sample_rate {rate!r}. Give it a whole number of Hz. {ADVICE}")
    try:
        model = model.to(device)  # as the kit; it does not call eval() either, which is load_model's duty
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"{subject.name} cannot be moved to {device!r}: {describe(error)}. Try cpu.") from error
    return Loaded(subject, model, torch.device(device), functions)


# ---------------------------------------------------------------------------------------------------- digests
def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}. Check the path.") from error
    return digest.hexdigest()


def _weights_sha256(path: Path) -> str:
    """Of a file its sha256, of a folder one over the names and digests of the files in it."""
    if path.is_file():
        return file_sha256(path)
    lines = [f"{p.relative_to(path).as_posix()}\0{file_sha256(p)}\n" for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
