"""Values for the fields of a Config, from JSON, TOML or the command line: known names, right types."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from hear_models.errors import UsageError


def check_fields(config_class: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for fields of a Config: known names, the type of the default; lists become tuples.

    Raises UsageError that lists the fields, or names the type that is wanted.
    """
    defaults = {f.name: f.default for f in fields(config_class)}
    result = {}
    for name, value in values.items():
        if name not in defaults:
            raise UsageError(
                f"{config_class.__module__.split('.')[-1]} has no field {name!r}. Its fields: {', '.join(defaults)}."
            )
        result[name] = _as_type_of(defaults[name], name, value)
    return result


def _as_type_of(default: Any, name: str, value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise UsageError(f"{name}={value!r} is neither true nor false. Write {name}=true.")
    if isinstance(default, int):
        if number and value == int(value):
            return int(value)
        raise UsageError(f"{name}={value!r} is not a whole number. Write for instance {name}={default}.")
    if isinstance(default, float):
        if number:
            return float(value)
        raise UsageError(f"{name}={value!r} is not a number. Write for instance {name}={default}.")
    if isinstance(default, tuple):
        kind = type(default[0]) if default else int
        if isinstance(value, (list, tuple)) and all(
            isinstance(item, kind) and not isinstance(item, bool) for item in value
        ):
            return tuple(value)
        if kind is str:
            raise UsageError(f'{name}={value!r} is not a list of texts. Write for instance {name}=["dog","rain"].')
        raise UsageError(f"{name}={value!r} is not a list of whole numbers. Write for instance {name}=[2,5,0].")
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
