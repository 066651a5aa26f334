"""One strict-JSON record per model x task x seed: what was scored, with what, and everything needed to check it.

The fields are documented one by one in docs/records.md; a test compares that page with the dataclasses below. A record
is data from a stranger as soon as it is a file: reading one checks every field, every type and the schema's version.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from hear_models.errors import FileError, HearModelsError
from hear_models.evaluation.judges.outcome import Fold, mean_scores
from hear_models.evaluation.judges.protocols import NOT_COMPARABLE, PROTOCOLS
from hear_models.evaluation.judges.table import JUDGES
from hear_models.files import write_atomically
from hear_models.foreign import open_plain, parse_json, read_text, reason

SCHEMA = "hear-models/record/2"
OLDER = "hear-models/record/1"  # without the digests of the model, and without reasons; an undefined score is 0 there
IMPORTED = "imported"  # in the place of a judge: scores that hear-eval-kit wrote elsewhere
JUDGE_NAMES = (*JUDGES, IMPORTED)
PROTOCOL_NAMES = (*PROTOCOLS, NOT_COMPARABLE)
LARGEST_BYTES = 32 * 2**20  # of a record that is read; ours have a few kilobytes
_PLAIN_NAME = re.compile(r"[^\x00-\x20\x7f./\\][^\x00-\x1f\x7f/\\]{0,199}")
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)  # would steer a terminal; newline and tab may stand in a warning
_ISO_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class RecordError(HearModelsError):
    """A record's file is not what the schema says, or cannot be read."""


@dataclass(frozen=True)
class Weights:
    """Where the weights came from."""

    file: str | None = None  # name of the file, without its folder
    revision: str | None = None  # of a repository on the Hub


@dataclass(frozen=True)
class ModelFacts:
    """What was evaluated."""

    name: str  # as people call it: "mwmae-nano", "my_package"
    slug: str  # folder of its records; another for other options or other weights
    module: str  # the HEAR module
    trained: bool
    family: str | None = None  # of this package
    options: dict[str, Any] = field(default_factory=dict)  # those that change numbers
    checkpoint_sha256: str | None = None
    checkpoint: Weights = field(default_factory=Weights)
    weights_sha256: str | None = None  # of what was in memory, or of its file; None: not known, as the next two
    code_sha256: str | None = None  # of the code that embedded
    sha256: str | None = None  # over weights, code and options: another one is another model

    @classmethod
    def identified(cls, *, weights_sha256: str, code_sha256: str, **rest: Any) -> ModelFacts:
        """With the digest of its weights, code and options."""
        sha256 = model_sha256(weights_sha256, code_sha256, rest.get("options", {}))
        return cls(weights_sha256=weights_sha256, code_sha256=code_sha256, sha256=sha256, **rest)


def model_sha256(weights_sha256: str, code_sha256: str, options: Mapping[str, Any]) -> str:
    """The digest of a model: what it computes follows from these three."""
    said = {"weights": weights_sha256, "code": code_sha256, "options": _plain(options)}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class TaskFacts:
    """What it was evaluated on."""

    name: str  # of the task's folder
    origin: str  # "official", "unofficial", "synthetic" or "user"
    embedding_type: str  # "scene" or "event"
    prediction_type: str  # "multiclass" or "multilabel"
    split_mode: str
    primary: str  # the metric that is the score
    higher_is_better: bool
    counts: dict[str, int]  # split → clips
    data_sha256: str | None = None  # of metadata, vocabulary, splits and audio


@dataclass(frozen=True)
class JudgeFacts:
    """Who trained the classifiers and computed the scores."""

    name: str  # one of JUDGE_NAMES
    shims: list[str] = field(default_factory=list)  # what a launcher changed around the released kit
    threads: int | None = None
    cpu_capability: str | None = None  # torch's word for the processor's vector unit ("AVX512"): it decides bits


@dataclass(frozen=True)
class EmbeddingFacts:
    """The embeddings that were judged."""

    sha256: str  # of everything that they depend on: weights, options, code, task data
    dim: int
    batches: str  # "clips" (ours) or "kit"
    device: str
    wall_s: float  # of the extraction, when it was done
    cpu_s: float


@dataclass(frozen=True)
class Versions:
    """Of the packages that computed."""

    hear_models: str | None = None
    torch: str | None = None
    numpy: str | None = None
    sklearn: str | None = None
    python: str | None = None
    heareval: str | None = None


@dataclass(frozen=True)
class Record:
    """One model on one task with one seed. Scores are fractions, not percent; times are seconds."""

    model: ModelFacts
    task: TaskFacts
    protocol: str  # one of PROTOCOL_NAMES
    judge: JudgeFacts
    seed: int
    score: float | None  # primary metric on the test split; k-fold: mean over the folds
    scores: dict[str, float | None]  # every metric, likewise
    folds: list[Fold] = field(default_factory=list)
    hyper_parameters: dict[str, Any] = field(default_factory=dict)  # chosen by the validation score
    postprocessing: dict[str, Any] = field(default_factory=dict)  # event tasks: the filter and the shortest event, ms
    predictions: str | None = None  # file beside the record (.npz)
    predictions_sha256: str | None = None  # of that file; records of older versions do not say it
    embeddings: EmbeddingFacts | None = None  # the judge "imported" may lack these four
    code_sha256: str | None = None  # of the judge; the model's counts in `embeddings.sha256`
    finished: str | None = None  # ISO 8601, UTC: 2026-01-31T23:59:59Z
    device: str | None = None  # of the judge
    versions: Versions = field(default_factory=Versions)
    wall_s: float | None = None  # of the judge
    cpu_s: float | None = None
    command: list[str] = field(default_factory=list)
    random_labels: bool = False  # labels were shuffled before training: a leak test, never a result
    warnings: list[str] = field(default_factory=list)
    undefined: dict[str, str] = field(default_factory=dict)  # metric → why its score is null
    schema: str = SCHEMA

    @property
    def comparable(self) -> bool:
        """Whether the score may stand in a leaderboard: no quick look, no shuffled labels."""
        return self.protocol != NOT_COMPARABLE and not self.random_labels

    @property
    def why_undefined(self) -> str:
        """Why there is no score, as a clause; "" if there is one."""
        if self.score is not None:
            return ""
        return self.undefined.get(self.task.primary, "the record does not say why")


def record_stem(protocol: str, judge: str, seed: int, random_labels: bool = False) -> str:
    """Name of a record's file without ".json": PROTOCOL.JUDGE.seed-SS, `.random-labels` before the seed if labels were
    shuffled. Its predictions have the same with ".npz".
    """
    return f"{protocol}.{judge}{'.random-labels' if random_labels else ''}.seed-{seed:02d}"


# ----------------------------------------------------------------------------------------------------------- writing
def write_record(path: str | os.PathLike[str], record: Record) -> None:
    """Write a record whole or not at all; non-finite numbers become null.

    Raises RecordError if the record would not be read back, HearModelsError if the file cannot be written.
    """
    write_atomically(path, record_bytes(record, str(path)))


def record_bytes(record: Record, where: str = "this record") -> bytes:
    """The record as strict JSON in UTF-8, fields in the order of the dataclass, `schema` first."""
    values = _plain({"schema": record.schema, **asdict(record)})
    values["digest"] = digest_of(values)
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    parse_record(text, where)
    return text.encode()


def digest_of(values: Mapping[str, Any]) -> str:
    """sha256 over the other fields of a record: whoever changes a score by hand, or a disk by a bit, is found out."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Only what JSON has: no tuples, no numpy scalars, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value.encode("utf-8", "replace").decode())
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "item"):  # a numpy scalar
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise RecordError(f"a record cannot hold {value!r} ({type(value).__name__}). Use numbers, texts, lists and names.")


# ----------------------------------------------------------------------------------------------------------- reading
def read_record(path: str | os.PathLike[str]) -> Record:
    """Read and check a record.

    Raises RecordError, with the file's name and the field's, for anything that the schema does not allow: another
    version, the tokens NaN and Infinity, an unknown, missing or doubled field, a wrong type, a file name with a folder.
    """
    try:
        text = read_text(path, LARGEST_BYTES)
    except FileError as error:
        raise RecordError(f"This is no record: {error}") from error
    return parse_record(text, str(path))


_ADVICE = "Remove it, or write it again with `hear-models evaluate`."


def parse_record(text: str, where: str) -> Record:
    """`read_record` of a text; `where` names it in errors."""
    try:
        value = parse_json(text, constants=False)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} is no strict JSON: {reason(error)}. {_ADVICE}") from error
    if not isinstance(value, dict):
        raise RecordError(f"{where} is no record: it holds no JSON object. {_ADVICE}")
    schema = value.get("schema")
    if schema not in (SCHEMA, OLDER):
        known = f"This version of hear-models reads {SCHEMA!r} and {OLDER!r}."
        raise RecordError(f"{where} has the schema {_short(schema)}. {known}")
    try:
        written = value.pop("digest", None)
        full = {"predictions_sha256": None, **(value if schema == SCHEMA else _as_of_today(value))}
        record = typing.cast(Record, _build(Record, full, ""))
        if schema == OLDER:
            record = _without_invented_zero(record)
        _check(record)
        if written is not None and written != digest_of(value):
            raise ValueError("it was altered or damaged: it does not match its digest")
    except (ValueError, OverflowError, RecursionError) as error:
        raise RecordError(f"{where}: {error}. {_ADVICE}") from error
    return record


def _as_of_today(value: dict[str, Any]) -> dict[str, Any]:
    """The fields of an older record, and those that were added since."""
    model = value.get("model")
    added = dict.fromkeys(("weights_sha256", "code_sha256", "sha256"))
    known = {"model": {**model, **added}} if isinstance(model, dict) else {}
    return {**value, **known, "undefined": {}, "schema": SCHEMA}


def _without_invented_zero(record: Record) -> Record:
    """Older judges gave 0 as the score where the primary metric was not a number."""
    if record.score != 0 or record.scores.get(record.task.primary, 0.0) is not None:
        return record
    return replace(record, score=None, undefined={record.task.primary: "a record of an older version does not say why"})


def is_record(path: str | os.PathLike[str]) -> bool:
    """Whether a JSON file says that it is a record, of whatever version; never raises for what is in it."""
    try:
        with open_plain(path) as file:
            return b'"hear-models/record/' in file.read(4096)
    except (FileError, OSError):
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a dataclass, str, bool, int, float, None, list[...], dict[str, ...], Any or a union."""
    origin = typing.get_origin(kind)
    if is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if value is None else _build(options[0], value, where)
    if origin is list and isinstance(value, list):
        return [_build(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        inner = typing.get_args(kind)[1]
        return {_text(name, where): _build(inner, item, f"{where}.{name}") for name, item in value.items()}
    if kind is Any:
        return _any(value, where)
    if kind is str and isinstance(value, str):
        return _text(value, where)
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind is float:
            return _finite(value, where)
        if isinstance(value, int):
            return value
    wanted = {list: "a list", dict: "an object"}.get(origin, getattr(kind, "__name__", str(kind)))
    raise ValueError(f"{where} is {_short(value)}, expected {wanted}")


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_short(value)}, expected an object")
    types_of = typing.get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    prefix = f"{where}." if where else ""
    if unknown := [name for name in value if name not in names]:
        raise ValueError(f"there is no field {prefix}{_text(unknown[0], where)[:60]}")
    if missing := [name for name in names if name not in value]:
        raise ValueError(f"the field {prefix}{missing[0]} is missing")
    return kind(**{name: _build(types_of[name], value[name], f"{prefix}{name}") for name in names})


def _any(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, dict):
        return {_text(name, where): _any(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_any(item, where) for item in value]
    return _finite(value, where) if isinstance(value, float) else value


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):  # 1e999 is a number to JSON and infinity to Python
        raise ValueError(f"{where} is not finite")
    return float(value)


def _text(value: str, where: str) -> str:
    if _CONTROL.search(value) or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{where or 'a name'} holds a control character")
    return value


def _check(record: Record) -> None:
    """What types do not say."""
    _one_of("protocol", record.protocol, PROTOCOL_NAMES)
    _one_of("judge.name", record.judge.name, JUDGE_NAMES)
    _one_of("task.origin", record.task.origin, ("official", "unofficial", "synthetic", "user"))
    _one_of("task.embedding_type", record.task.embedding_type, ("scene", "event"))
    _one_of("task.prediction_type", record.task.prediction_type, ("multiclass", "multilabel"))
    names = {"model.slug": record.model.slug, "task.name": record.task.name, "predictions": record.predictions}
    for name, value in names.items():
        if value is not None and not _PLAIN_NAME.fullmatch(value):
            raise ValueError(f"{name} is {_short(value)}, which is no plain name of a file or folder")
    for name, value in {"model.name": record.model.name, "model.module": record.model.module}.items():
        if not value.strip() or "\n" in value:
            raise ValueError(f"{name} is {_short(value)}, which is no name")
    if not 0 <= record.seed < 2**32 or any(count < 0 for count in record.task.counts.values()):
        raise ValueError("a seed lies from 0 to 2**32 - 1, and counts are not negative")
    quick_looks = [judge.name for judge in JUDGES.values() if not judge.comparable]
    if (record.judge.name in quick_looks) != (record.protocol == NOT_COMPARABLE):
        raise ValueError(f"the protocol {NOT_COMPARABLE!r} and the judges {', '.join(quick_looks)} belong together")
    if record.finished is not None and not _ISO_UTC.fullmatch(record.finished):
        raise ValueError(f"finished is {_short(record.finished)}, expected for instance 2026-01-31T23:59:59Z")
    _check_scores(record)
    if record.model.sha256 is not None:
        weights, code = record.model.weights_sha256, record.model.code_sha256
        if not weights or not code or record.model.sha256 != model_sha256(weights, code, record.model.options):
            raise ValueError("model.sha256 does not follow from model.weights_sha256, code_sha256 and options")
    if record.judge.name != IMPORTED:
        for name in ("embeddings", "code_sha256", "finished", "device"):
            if getattr(record, name) is None:
                raise ValueError(f"{name} is null, which only the judge {IMPORTED!r} may say")


def _check_scores(record: Record) -> None:
    """Every score is the mean of its folds, and `score` that of the primary metric; null where a fold has null."""
    if not record.folds and record.score is None and not record.scores:
        return  # nothing is said
    if not record.folds:
        raise ValueError("folds is empty, so no score follows from it")
    names = [fold.split for fold in record.folds]
    if len(set(names)) < len(names):
        raise ValueError(f"folds has a split twice ({', '.join(map(_short, names))})")
    if record.task.primary not in record.scores:
        raise ValueError(f"scores has no {_short(record.task.primary)}, which task.primary says is the score")
    means = mean_scores(record.folds)
    for name, said in [*record.scores.items(), (record.task.primary, record.score)]:
        mean = means.get(name)
        if name not in means or any(name not in fold.scores for fold in record.folds):
            raise ValueError(f"a fold has no {_short(name)}, which scores has")
        if (said is None) != (mean is None) or not math.isclose(said or 0.0, mean or 0.0, rel_tol=1e-6, abs_tol=1e-9):
            what = "score" if said is record.score and name == record.task.primary else f"scores.{name}"
            raise ValueError(f"{what} is {said}, but its folds give {mean}")
    if stray := [name for name in record.undefined if record.scores.get(name, 0.0) is not None]:
        raise ValueError(f"undefined has a reason for {_short(stray[0])}, which has a score")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {_short(value)}, expected one of {', '.join(allowed)}")
