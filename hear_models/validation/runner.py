"""The table of checks, in their order, and `validate`, which runs them on a module."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from hear_models.errors import UsageError
from hear_models.subjects.module import HearModule, ModuleFault, load_module
from hear_models.subjects.randomness import preserved_randomness
from hear_models.subjects.wording import describe
from hear_models.validation import centres, contract, robustness, scaling, side_effects, timestamps
from hear_models.validation.context import Context, Length
from hear_models.validation.findings import CheckResult, Finding, Report


@dataclass(frozen=True)
class Check:
    """One row of the table: a function from the shared context to findings, and what must hold before it runs."""

    name: str
    title: str  # what a user would lose
    function: Callable[[Context], Iterable[Finding]]
    needs: tuple[str, ...] = ()  # checks that must have passed without errors


SHAPES = ("timestamp-shapes", "scene-shapes")
STEADY = (*SHAPES, "finite", "repeatable")

CHECKS: tuple[Check, ...] = (
    Check("functions", "the three functions, callable as the kit calls them", contract.check_functions),
    Check("load", "load_model() returns a torch module", contract.check_load, ("functions",)),
    Check("attributes", "sample rate and sizes", contract.check_attributes, ("load",)),
    Check("timestamp-shapes", "embeddings [clips, steps, dim]", contract.check_timestamp_shapes, ("attributes",)),
    Check("scene-shapes", "embeddings [clips, dim]", contract.check_scene_shapes, ("attributes",)),
    Check("dtypes", "float32 everywhere", contract.check_dtypes, SHAPES),
    Check("finite", "no NaN for noise, full scale, quiet, silence", contract.check_finite, SHAPES),
    Check("times-finite", "no NaN among the timestamps", timestamps.check_finite_times, SHAPES),
    Check("times-regular", "increasing, even, equal for all clips", timestamps.check_regular, ("times-finite",)),
    Check("times-range", "milliseconds, inside the clip, covering it", timestamps.check_range, ("times-regular",)),
    Check("repeatable", "equal input, equal embeddings", side_effects.check_repeatable, (*SHAPES, "finite")),
    Check("stateless", "no state is kept between calls", side_effects.check_stateless, STEADY),
    Check("batch", "a clip does not depend on its neighbours", robustness.check_batch, (*STEADY, "stateless")),
    Check("mixed-lengths", "nor on lengths beside it (our models)", robustness.check_mixed_lengths, ("batch",)),
    Check("silent-neighbour", "nor on silence beside it", robustness.check_silent_neighbour, (*SHAPES, "finite")),
    Check("different-sounds", "embeddings tell sounds and times apart", robustness.check_different_sounds, STEADY),
    Check("short-clips", "from one sample to a unit and one more", robustness.check_short_clips, SHAPES),
    Check("refusals", "wrong rank, dtype, empty: ValueError", robustness.check_refusals, SHAPES),
    Check("nan-input", "NaN in a recording is refused", robustness.check_nan_input, (*STEADY, "stateless")),
    Check("centres", "an event shows at its timestamp", centres.check_centres, ("different-sounds", "times-range")),
    Check("seams", "where in the clip a sound is matters little", centres.check_seams, ("centres",)),
    Check("padding", "what appended silence does", timestamps.check_padding, STEADY),
    Check("eval-mode", "dropout stays off", side_effects.check_eval_mode, (*STEADY, "stateless")),
    Check("gradients", "no graph is kept", side_effects.check_gradients, SHAPES),
    Check("input-untouched", "the audio is not written to", side_effects.check_input_untouched, SHAPES),
    Check("random-state", "global random generators are left alone", side_effects.check_random_state, SHAPES),
    Check("settings", "torch's settings are left alone", side_effects.check_settings, SHAPES),
    Check("autocast", "float32 under autocast", side_effects.check_autocast, ("dtypes",)),
    Check("device", "the caller chooses the device", contract.check_device, ("load",)),
    Check("weights-path", "a wrong weights path is an error", contract.check_weights_path, SHAPES),
    Check("reload", "loading twice gives one network", contract.check_reload, (*STEADY, "stateless")),
    Check("time", "time proportional to length", scaling.check_time, SHAPES),
    Check("memory", "20 minutes fit", scaling.check_memory, SHAPES),
    Check("drift", "times are true over minutes", scaling.check_drift, ("centres",)),
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

    Returns:
        A report with every check; exceptions of the module are findings. Global random states are as before.

    Raises:
        UsageError: a name that is no module, or an unknown check.
    """
    if isinstance(module, str):
        module = load_module(module, model_path=model_path, device=device)
    context = Context(module, length, other_model_path)
    results = []
    checks = chosen(only)
    with preserved_randomness():
        for result in run_checks(context, checks):
            results.append(result)
            if progress is not None:
                progress(result)
    return Report(module.name, tuple(results), {"model": module.model_path, "device": module.device, "length": length})


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


def run_checks(context: Context, checks: Iterable[Check]) -> Iterator[CheckResult]:
    """Run checks in order; one whose needs failed, or were not run themselves, is skipped and says so."""
    failed = context.failed
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        if missing:
            failed.add(check.name)
            yield CheckResult(check.name, check.title, skipped=f"needs {missing[0]}")
            continue
        started = time.perf_counter()
        found = tuple(findings(context, check))
        result = CheckResult(check.name, check.title, found, time.perf_counter() - started)
        if result.status == "error":
            failed.add(check.name)
        yield result


def findings(context: Context, check: Check) -> Iterator[Finding]:
    """A check's findings with its name in them; an exception of the module, or of the check, becomes one."""
    try:
        for finding in check.function(context):
            yield replace(finding, check=check.name)
    except ModuleFault as fault:
        yield Finding(check.name, "error", str(fault), "the call works")
    except Exception as cause:
        yield Finding(
            check.name,
            "error",
            f"the check could not be completed: {describe(cause)}",
            "results of the documented types and shapes (if they are, this is a bug of the check: please report it)",
        )
