"""Looks at somebody's module on two clips of a task before the whole task goes through it.

What is looked for makes scores wrong without a word: times in another unit than milliseconds, a model in training mode
whose embeddings depend on that, clips of which a part is not heard.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hear_models.errors import HearModelsError
from hear_models.evaluation.embeddings.reading import read_clip
from hear_models.subjects.loaded import Loaded
from hear_models.subjects.randomness import preserved_randomness
from hear_models.subjects.wording import ADVICE
from hear_models.tasks.task import EVENT, Task, TaskError
from hear_models.validation.context import relative_change
from hear_models.validation.timestamps import range_finding

LONGEST_S = 120.0  # of a clip that is looked at, where the task has a shorter one
SHORTEST_S = 2.0  # of a clip whose ends are changed one at a time
END_S = 1.0  # what is changed of them, at most a quarter of the clip
SAME = 1e-6  # relative difference below which nothing changed
STEADY = 1e-3  # above which something did: rounding differs by a thousandth of that


def look_at_module(loaded: Loaded, task: Task) -> list[str]:
    """What a reader of the scores must know of this module on this task, a sentence each; nothing of our own models.

    Raises HearModelsError for what makes the scores worthless. Random states and the model are left as they were.
    """
    if loaded.subject.is_ours:
        return []
    lengths = _lengths(loaded, task)
    with preserved_randomness(), _same_state(loaded.model):
        clips = [_clip(loaded, task, *place) for place in dict.fromkeys((lengths[0], lengths[-1]))]
        said = []
        if task.embedding_type == EVENT:
            said += _look_at_times(loaded, task, clips[-1])
        said += _look_at_mode(loaded, task, clips)
        said += _look_at_ends(loaded, task, clips[-1])
    return said


def _lengths(loaded: Loaded, task: Task) -> list[tuple[str, str]]:
    """(split, file) of the clips, shortest first, without those that are too long to be looked at if others are not."""
    places = [(split, file) for split in task.splits for file in task.items(split)]
    try:
        size = {place: os.path.getsize(task.audio(loaded.sample_rate, *place)) for place in places}
    except OSError as error:
        raise TaskError(f"{error.filename} cannot be read: {error.strerror}. Check the task folder.") from error
    short = [place for place in places if size[place] <= LONGEST_S * loaded.sample_rate * 2 + 4096]
    return sorted(short or places, key=lambda place: size[place])


def _clip(loaded: Loaded, task: Task, split: str, file: str) -> Tensor:
    """[1, samples] on the model's device."""
    samples = read_clip(task.audio(loaded.sample_rate, split, file), loaded.sample_rate)
    return torch.from_numpy(samples)[None].to(loaded.device)


def _embed(loaded: Loaded, task: Task, audio: Tensor) -> Tensor:
    """What the task is embedded by, on the CPU."""
    found = loaded.timestamps(audio)[0] if task.embedding_type == EVENT else loaded.scene(audio)
    return found.detach().cpu()


def _look_at_times(loaded: Loaded, task: Task, audio: Tensor) -> list[str]:
    _, times = loaded.timestamps(audio)
    row, duration_ms = times[0].detach().cpu().double(), 1000.0 * audio.shape[1] / loaded.sample_rate
    where = f"the timestamps of {loaded.subject.name} for a clip of {duration_ms:.0f} ms"
    if not len(row) or not bool(torch.isfinite(row).all()) or bool((row.diff() <= 0).any()):
        raise HearModelsError(f"{where} are not finite, rising numbers of milliseconds. {ADVICE}")
    finding = range_finding(duration_ms, row)
    if finding is None or finding.severity != "error":
        return []
    if "seconds" in finding.found or float(row[0]) < 0 or float(row[-1]) > 1.5 * duration_ms:
        raise HearModelsError(
            f"{where} run from {float(row[0]):.4g} to {float(row[-1]):.4g}, which are no milliseconds within it "
            f"({finding.found}): no event of {task.name} would be found. Return milliseconds. {ADVICE}"
        )
    return [f"{loaded.subject.name}: {finding.found}."]


def _look_at_mode(loaded: Loaded, task: Task, clips: list[Tensor]) -> list[str]:
    """A model in training mode is harmless as long as nothing in it asks for the mode."""
    model = loaded.model
    if not model.training:
        for clip in clips[:-1]:
            _embed(loaded, task, clip)  # the shortest one goes through at all
        return []
    twice = [_embed(loaded, task, clip) for clip in clips], [_embed(loaded, task, clip) for clip in clips]
    model.eval()
    quiet = [_embed(loaded, task, clip) for clip in clips]
    for first, second, other in zip(*twice, quiet, strict=True):
        if _differs(first, second) or _differs(first, other):
            raise HearModelsError(
                f"load_model of {loaded.subject.name} leaves the model in training mode, and its embeddings depend on "
                f"that (dropout, batch statistics): nobody calls eval() later. Return model.eval(). {ADVICE}"
            )
    return []


def _differs(a: Tensor, b: Tensor) -> bool:
    return a.shape != b.shape or relative_change(a, b) > STEADY


def _look_at_ends(loaded: Loaded, task: Task, audio: Tensor) -> list[str]:
    """Whether the first and the last second of the longest clip are heard."""
    n, rate = audio.shape[1], loaded.sample_rate
    if task.embedding_type == EVENT or n < SHORTEST_S * rate:
        return []
    end = min(int(END_S * rate), n // 4)
    noise = (torch.rand(1, end, generator=torch.Generator().manual_seed(0)) - 0.5).to(audio.device)
    before, said = _embed(loaded, task, audio), []
    for name, part in (("first", slice(0, end)), ("last", slice(n - end, n))):
        changed = audio.clone()
        changed[:, part] = noise
        if relative_change(_embed(loaded, task, changed), before) < SAME:
            said.append(
                f"{loaded.subject.name} does not hear the {name} {end / rate:g} s of a clip of {n / rate:g} s of "
                f"{task.name}: its scene embedding stays the same whatever is there."
            )
    return said


@contextmanager
def _same_state(model: nn.Module) -> Iterator[None]:
    """Afterwards modes, parameters and buffers are as before."""
    modes = {name: module.training for name, module in model.named_modules()}
    state = copy.deepcopy(model.state_dict()) if model.training else None  # running statistics move in training only
    try:
        yield
    finally:
        for name, module in model.named_modules():
            module.training = modes.get(name, module.training)
        if state is not None:
            model.load_state_dict(state)
