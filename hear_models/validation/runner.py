"""The table of checks, in their order, and `validate`, which runs them on a module."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hear_models.errors import UsageError
from hear_models.subjects.module import HearModule, ModuleFault, load_module
from hear_models.subjects.randomness import preserved_randomness
from hear_models.subjects.wording import describe
from hear_models.validation import centres, contract, robustness, scaling, side_effects, timestamps, whole_clip
from hear_models.validation.context import Context, Length
from hear_models.validation.findings import PARTS, CheckResult, Finding, Part, Report
from hear_models.validation.official import Official, official


@dataclass(frozen=True)
class Check:
    """One row of the table: a function from the shared context to findings, and what must hold before it runs."""

    part: Part
    name: str
    title: str  # what a user would lose
    function: Callable[[Context], Iterable[Finding]]
    needs: tuple[str, ...] = ()  # checks that must have passed without errors


SHAPES = ("timestamp-shapes", "scene-shapes")
STEADY = (*SHAPES, "repeatable")  # whatever silence does
KEPT_STILL = (*STEADY, "stateless")
API, SCORES, MANNERS = PARTS

CHECKS: tuple[Check, ...] = (
    # the API
    Check(API, "functions", "the three functions, callable as the kit calls them", contract.check_functions),
    Check(API, "load", "load_model() returns a torch module", contract.check_load, ("functions",)),
    Check(API, "attributes", "sample rate and sizes", contract.check_attributes, ("load",)),
    Check(API, "timestamp-shapes", "embeddings [clips, steps, dim]", contract.check_timestamp_shapes, ("attributes",)),
    Check(API, "scene-shapes", "embeddings [clips, dim]", contract.check_scene_shapes, ("attributes",)),
    Check(API, "dtypes", "float32 everywhere", contract.check_dtypes, SHAPES),
    Check(API, "times-finite", "no NaN among the timestamps", timestamps.check_finite_times, SHAPES),
    Check(API, "times-regular", "increasing, even, equal for all clips", timestamps.check_regular, ("times-finite",)),
    Check(API, "times-range", "milliseconds, inside the clip, covering it", timestamps.check_range, ("times-regular",)),
    # beyond it: what scores rest on
    Check(SCORES, "finite", "no NaN for noise, full scale, quiet, silence", contract.check_finite, SHAPES),
    Check(SCORES, "repeatable", "equal input, equal embeddings", side_effects.check_repeatable, SHAPES),
    Check(SCORES, "stateless", "no state is kept between calls", side_effects.check_stateless, STEADY),
    Check(SCORES, "batch", "a clip does not depend on its neighbours", robustness.check_batch, KEPT_STILL),
    Check(SCORES, "mixed-lengths", "nor on lengths beside it (our models)", robustness.check_mixed_lengths, ("batch",)),
    Check(
        SCORES,
        "silent-neighbour",
        "nor on silence beside it",
        robustness.check_silent_neighbour,
        (*STEADY, "stateless"),
    ),
    Check(
        SCORES, "different-sounds", "embeddings tell sounds and times apart", robustness.check_different_sounds, STEADY
    ),
    Check(SCORES, "short-clips", "from one sample to a unit and one more", robustness.check_short_clips, SHAPES),
    Check(SCORES, "whole-clip", "long clips are heard to their ends", whole_clip.check_whole_clip, STEADY),
    Check(
        SCORES, "centres", "an event shows at its timestamp", centres.check_centres, ("different-sounds", "times-range")
    ),
    Check(SCORES, "seams", "where in the clip a sound is matters little", centres.check_seams, ("centres",)),
    Check(SCORES, "padding", "what appended silence does", timestamps.check_padding, STEADY),
    Check(SCORES, "eval-mode", "dropout stays off", side_effects.check_eval_mode, KEPT_STILL),
    Check(SCORES, "reload", "loading twice gives one network", contract.check_reload, KEPT_STILL),
    # beyond it: good manners
    Check(MANNERS, "refusals", "wrong rank, dtype, empty: ValueError", robustness.check_refusals, SHAPES),
    Check(MANNERS, "nan-input", "NaN in a recording is refused", robustness.check_nan_input, KEPT_STILL),
    Check(MANNERS, "gradients", "no graph is kept", side_effects.check_gradients, SHAPES),
    Check(MANNERS, "input-untouched", "the audio is not written to", side_effects.check_input_untouched, SHAPES),
    Check(MANNERS, "random-state", "global random generators are left alone", side_effects.check_random_state, SHAPES),
    Check(MANNERS, "settings", "torch's settings are left alone", side_effects.check_settings, SHAPES),
    Check(MANNERS, "autocast", "float32 under autocast", side_effects.check_autocast, ("dtypes",)),
    Check(MANNERS, "device", "the caller chooses the device", contract.check_device, ("load",)),
    Check(MANNERS, "weights-path", "a wrong weights path is an error", contract.check_weights_path, SHAPES),
    # long recordings last: they take most of the time
    Check(MANNERS, "time", "time proportional to length", scaling.check_time, SHAPES),
    Check(API, "memory", "20 minutes fit", scaling.check_memory, SHAPES),
    Check(SCORES, "drift", "times are true over minutes", scaling.check_drift, ("centres",)),
)


def validate(
    module: HearModule | str,
    *,
    model_path: str = "",
    other_model_path: str = "",
    device: str = "cpu",
    length: Length = "normal",
    only: Iterable[str] | None = None,
    progress: Callable[[CheckResult], None] | None = None,
    begins: Callable[[Check], None] | None = None,
    first: Callable[[Official], None] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Report:
    """Run every check on a HEAR module.

    Args:
        module: from `load_module`, or a name for it.
        model_path: weights for `load_model`; "" calls it without an argument.
        other_model_path: a second weights file that must give other embeddings.
        device: torch device of model and audio.
        length: "quick" (recordings up to 2 minutes), "normal" (10 minutes), "long" (20 minutes).
        only: names of checks; those that they need run too.
        progress: called with each result as soon as it is there.
        begins: called with each check before it runs.
        first: called before any check with what hear-validator would say; not where `only` chooses checks.
        options: keyword arguments of `load_model`, if `module` is a name.

    Returns:
        A report with every check; exceptions of the module are findings. Global random states are as before.

    Raises:
        UsageError: a name that is no module, or an unknown check.
    """
    if isinstance(module, str):
        module = load_module(module, model_path=model_path, device=device, options=options)
    context = Context(module, length, other_model_path)
    results = []
    checks = chosen(only)
    verdict = None
    with preserved_randomness():
        if only is None:
            verdict = official(context)
            if first is not None:
                first(verdict)
        for result in run_checks(context, checks, begins):
            results.append(result)
            if progress is not None:
                progress(result)
    said = {"model": module.model_path, "device": module.device, "length": length, "options": module.options}
    return Report(module.name, tuple(results), said, verdict)


def chosen(only: Iterable[str] | None) -> list[Check]:
    """The checks named, and those that they need, in the table's order; None = all."""
    if only is None:
        return list(CHECKS)
    table = {check.name: check for check in CHECKS}
    wanted: set[str] = set()

    def add(name: str) -> None:
        wanted.add(name)
        for needed in table[name].needs:
            add(needed)

    for name in only:
        if name not in table:
            raise UsageError(f"There is no check {name!r}. The checks: {', '.join(table)}.")
        add(name)
    return [check for check in CHECKS if check.name in wanted]


def run_checks(
    context: Context, checks: Iterable[Check], begins: Callable[[Check], None] | None = None
) -> Iterator[CheckResult]:
    """Run checks in order; one whose needs failed, or were not run themselves, is skipped and says so."""
    failed = context.failed
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        if missing:
            failed.add(check.name)
            yield CheckResult(check.name, check.title, skipped=f"needs {missing[0]}", part=check.part)
            continue
        if begins is not None:
            begins(check)
        started = time.perf_counter()
        found = tuple(findings(context, check))
        result = CheckResult(check.name, check.title, found, time.perf_counter() - started, part=check.part)
        if result.status == "error":
            failed.add(check.name)
        yield result


def findings(context: Context, check: Check) -> Iterator[Finding]:
    """A check's findings with its name in them; an exception of the module, or of the check, becomes one."""
    try:
        for finding in check.function(context):
            yield replace(finding, check=check.name)
    except ModuleFault as fault:
        yield Finding(check.name, "error", str(fault), "the call works", traceback=trace(fault.__cause__ or fault))
    except Exception as cause:
        yield Finding(
            check.name,
            "error",
            f"the check could not be completed: {describe(cause)}",
            "results of the documented types and shapes (if they are, this is a bug of the check: please report it)",
            traceback=trace(cause),
        )


def trace(error: BaseException) -> str:
    """The traceback of an exception, for those who ask."""
    return "".join(traceback.format_exception(error)).rstrip()
