"""Plain data → frozen dataclasses: known names, right types, one sentence for what is wrong.

For a Config from a header, a manifest, TOML or the command line, and for recipes; what a value may be, beside its type,
the dataclass itself says in `__post_init__` by `at_least_one`, `a_share` and `one_of`.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from hear_models.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)


def filled(cls: type[T], table: Any, where: str) -> T:
    """`cls(**table)`; a field that is itself a dataclass is filled from a table of its own.

    Args:
        table: as TOML or JSON gives it.
        where: what the table is, for errors: "recipe.toml [model]".

    Raises:
        UsageError: no table, an unknown field, a value of the wrong type, or one that `cls` refuses; with `where`.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} is {table!r}, not a table. Write its fields below it, one a line.")
    try:
        return cls(**check_fields(cls, table, where))
    except UsageError as error:
        raise error if str(error).startswith(where) else UsageError(f"{where}: {error}") from None


def check_fields(cls: type[DataclassInstance], values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Values for fields of a dataclass: known names, the type of the default; lists become tuples.

    Raises UsageError that names the nearest field and lists all, or names the type that is wanted.
    """
    known = {f.name: f for f in fields(cls)}
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            module = cls.__module__.split(".")[-1]
            raise UsageError(f"{where or module} has no field {name!r}. Its fields: {', '.join(known)}.{hint}")
        default = _default(known[name])
        if is_dataclass(default) and not isinstance(default, type):
            result[name] = filled(type(default), value, f"{where} [{name}]".strip())
        elif default is MISSING or isinstance(default, dict):
            kind = dict if isinstance(default, dict) else str
            if not isinstance(value, kind):
                wanted = "a table" if kind is dict else "a text"
                raise UsageError(f"{name}={value!r} is not {wanted}. Correct it.")
            result[name] = value
        else:
            result[name] = _as_type_of(default, name, value, empty=str if "str" in str(known[name].type) else int)
    return result


def _default(known: Field[Any]) -> Any:
    return known.default if known.default_factory is MISSING else known.default_factory()


def at_least_one(config: object, *names: str) -> None:
    """Raise UsageError for the first of these fields that is below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise UsageError(f"{name} is {getattr(config, name)}. Give at least 1.")


def a_share(config: object, *names: str) -> None:
    """Raise UsageError for the first of these fields that does not lie between 0 and 1, both excluded."""
    for name in names:
        if not 0 < getattr(config, name) < 1:
            raise UsageError(f"{name} is {getattr(config, name)}. Give a share between 0 and 1, for instance 0.75.")


def one_of(config: object, **known: Iterable[Any]) -> None:
    """Raise UsageError for the first of these fields whose value is none of the known ones."""
    for name, values in known.items():
        if getattr(config, name) not in values:
            raise UsageError(f"{name} is {getattr(config, name)!r}. Use one of {', '.join(map(str, values))}.")


def _as_type_of(default: Any, name: str, value: Any, empty: type = int) -> Any:
    """`empty`: what a tuple without elements would hold."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise UsageError(f"{name}={value!r} is neither true nor false. Write {name}=true.")
    if isinstance(default, int):
        if number and math.isfinite(value) and value == int(value):
            return int(value)
        raise UsageError(f"{name}={value!r} is not a whole number. Write for instance {name}={default}.")
    if isinstance(default, float):
        if number:
            return float(value)
        raise UsageError(f"{name}={value!r} is not a number. Write for instance {name}={default}.")
    if isinstance(default, tuple):
        kind = type(default[0]) if default else empty
        taken = (int, float) if kind is float else kind
        if isinstance(value, (list, tuple)) and all(
            isinstance(item, taken) and not isinstance(item, bool) for item in value
        ):
            return tuple(kind(item) for item in value)
        if kind is str:
            raise UsageError(f'{name}={value!r} is not a list of texts. Write for instance {name}=["dog","rain"].')
        what = "numbers" if kind is float else "whole numbers"
        example = json.dumps(default or (2, 5, 0), separators=(",", ":"))
        raise UsageError(f"{name}={value!r} is not a list of {what}. Write for instance {name}={example}.")
    if isinstance(value, type(default)):
        return value
    raise UsageError(f"{name}={value!r} has the wrong type. Write for instance {name}={default}.")


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Several FIELD=VALUE; a field that is set twice is an error."""
    settings: dict[str, Any] = {}
    for text in texts:
        name, value = parse_setting(text)
        if name in settings:
            raise UsageError(f"--set {name} is given twice. Give it once.")
        settings[name] = value
    return settings


def parse_setting(text: str) -> tuple[str, Any]:
    """ "encoder_heads=12" → ("encoder_heads", 12); lists as [2,5,0] or 2,5,0; words that are no JSON stay text."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise UsageError(f"--set {text!r} is not of the form FIELD=VALUE. Write for instance --set encoder_heads=12.")
    for attempt in (value, f"[{value}]"):
        try:
            return name.strip(), json.loads(attempt)
        except (ValueError, RecursionError):
            continue
    return name.strip(), value
