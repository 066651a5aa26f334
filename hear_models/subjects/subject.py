"""What is evaluated: from a name on the command line to a module, its options, and a folder name of its own."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hear_models.errors import UsageError
from hear_models.fields import parse_settings
from hear_models.subjects.code import foreign_code_sha256, own_code_sha256
from hear_models.subjects.naming import (
    FUNCTIONS,
    SAYS_NOTHING,
    Foreign,
    Ours,
    find,
    functions_of,
    name_of,
    refuse_untrained,
)
from hear_models.subjects.weights import file_sha256, path_sha256
from hear_models.zoo.families import family_module

if TYPE_CHECKING:
    from hear_models.subjects.loaded import Loaded

SHA_DIGITS = 8  # of a checkpoint's sha256 in a folder's name
MOST_FOLDERS = 4  # of a file's path in its name
LONGEST_SLUG = 150  # file systems take names of 255 bytes


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: one of ours, or any HEAR module. Plain data; `load` gives the model.

    `slug` is the folder's name: two subjects of different weights or options never share one. `trained` is False for
    networks of random weights of ours; of a foreign module it is taken to be True. `revision` is that of a repository.
    """

    name: str  # as the user wrote it
    title: str  # for tables
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
    file: Path | None  # of a foreign module
    found: Ours | Foreign = field(repr=False)  # what the name stands for

    def load(self, device: str = "cpu") -> Loaded:
        """The model on `device`. Raises UsageError (foreign module that fails to load) or CheckpointError."""
        from hear_models.subjects.loaded import load_subject

        return load_subject(self, device)


def resolve(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    allow_untrained: bool = False,
    how: str = "allow_untrained",
    title: str = "",
) -> Subject:
    """What `name` stands for.

    Args:
        name: see `naming.find`.
        options: keyword arguments of its `load_model`, for instance {"timestamps": "official"}.
        allow_untrained: accept a network of ours with random weights.
        how: what the error tells the user to write instead, for instance "--allow-untrained".
        title: what tables and folders call it; "": by its name, its folder, or what its file says.

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
    found = find(name)
    if title and (not title.strip() or not title.isprintable()):
        raise UsageError(f"{title!r} is no name for a model. Use letters, digits and signs.")
    if isinstance(found, Foreign):
        return _of_foreign(found, given, title)
    refuse_untrained(found, allow_untrained, how)
    return _of_ours(found, given, title)


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


def told_apart(subjects: Sequence[Subject]) -> list[Subject]:
    """The same subjects, each with a folder of its own: files of one name are called by more of their folders.

    Raises UsageError for a model that is named twice, and for two that cannot be told apart by their folders.
    """
    found = list(subjects)
    same: dict[Any, Subject] = {}
    for subject in found:
        key = (subject.file or subject.slug, subject.checkpoint_sha256, json.dumps(subject.options, sort_keys=True))
        if (other := same.setdefault(key, subject)) is not subject:
            raise UsageError(f"{other.name} and {subject.name} are the same model. Name it once.")
    for _ in range(MOST_FOLDERS):
        counts = Counter(subject.slug for subject in found)
        for k, subject in enumerate(found):
            above = subject.title.count("/")  # folders that stand in the name already
            if counts[subject.slug] > 1 and subject.file is not None and len(subject.file.parents) > above:
                folder = subject.file.parents[above].name
                slug = f"{_plain_name(folder)}-{subject.slug}"
                found[k] = replace(subject, title=f"{folder}/{subject.title}", slug=slug)
    counts = Counter(subject.slug for subject in found)
    if twice := [subject.name for subject in found if counts[subject.slug] > 1]:
        raise UsageError(f"{' and '.join(twice)} would have one name. Give each its own with --name.")
    return found


# ------------------------------------------------------------------------------------------------------- ours
def _of_ours(found: Ours, options: dict[str, Any], title: str) -> Subject:
    from hear_models.zoo.load import check_options

    resolved = found.resolved
    check_options(family_module(found.family), options)
    sha256 = resolved.sha256
    if resolved.path is not None and sha256 is None:
        sha256 = file_sha256(resolved.path)
    if title:
        stem = title
    elif resolved.entry is not None:
        stem = resolved.entry.name
    elif resolved.fetched is not None:
        stem = slugify(found.load_name.removeprefix("hf://"))
    else:
        stem = name_of(found.load_name)
        if stem.lower() in SAYS_NOTHING:  # nor does its folder's; its header says what it is
            stem = f"{found.family}-{stem}"
    digits = f"-{sha256[:SHA_DIGITS]}" if sha256 else ""
    return Subject(
        name=found.name,
        title=title or (stem if Path(found.load_name).suffix == ".safetensors" else name_of(found.name)),
        slug=f"{_plain_name(stem)}{digits}{options_slug(options)}",
        module=found.module,
        options=options,
        is_ours=True,
        family=found.family,
        trained=found.trained,
        checkpoint=resolved.path,
        checkpoint_sha256=sha256,
        revision=resolved.fetched.commit if resolved.fetched else None,
        code_sha256=own_code_sha256(found.module),
        file=None,
        found=found,
    )


def _plain_name(stem: str) -> str:
    """A file's stem as part of a folder's name: no hidden folder, nothing that a shell or a file system dislikes."""
    return re.sub(r"[^\w.+=-]+", "-", stem)[: LONGEST_SLUG // 2].strip("-.") or "model"


# ---------------------------------------------------------------------------------------------------- foreign
def _of_foreign(found: Foreign, options: dict[str, Any], title: str) -> Subject:
    module = found.imported()
    functions = functions_of(module)
    for function in FUNCTIONS:
        if function not in functions:
            raise UsageError(
                f"{found.module} has no function {function}, so it is no HEAR module. "
                f"It needs {', '.join(FUNCTIONS)}; `hear-models list` shows the models of this package."
            )
    dotted = getattr(module, "__name__", found.module)
    path = Path(found.weights) if found.weights else None
    if path is not None and not path.exists():
        raise UsageError(f"{path}, the weights for {found.module}, does not exist. Check the path after the colon.")
    sha256 = path_sha256(path) if path is not None else None
    stem = f"-{_plain_name(path.stem)}-{sha256[:SHA_DIGITS]}" if path is not None and sha256 else ""
    called = title or (name_of(found.module) if found.module.endswith(".py") else dotted)
    return Subject(
        name=found.name,
        title=title or name_of(found.name),
        slug=f"{_plain_name(called)}{stem}{options_slug(options)}",
        module=dotted,
        options=options,
        is_ours=False,
        family=None,
        trained=True,
        checkpoint=path,
        checkpoint_sha256=sha256,
        revision=None,
        code_sha256=foreign_code_sha256(Path(inspect.getfile(module))),
        file=Path(inspect.getfile(module)).resolve(),
        found=found,
    )
