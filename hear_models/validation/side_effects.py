"""Checks that a call leaves the world as it was: input, random state, settings, mode, gradients, state of the model."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from hear_models.subjects.module import torch_settings
from hear_models.subjects.randomness import GENERATORS, random_state, seed_all
from hear_models.validation.context import Context, as_cpu_tensor, error, warning
from hear_models.validation.findings import Finding


def sound(ctx: Context) -> Tensor:
    """1.5 s of noise with a tone, [2, samples]."""
    n = ctx.samples(1.5)
    return torch.cat([ctx.noise(n, seed=61, level=0.5), ctx.tone(n)])


def sound_embedded(ctx: Context) -> dict[str, Tensor]:
    """Both kinds of embedding of `sound`, as they came first."""
    return ctx.shared("sound embedded", lambda: ctx.both(sound(ctx)))


def repeated_differences(ctx: Context) -> tuple[str, str]:
    """What differs (a) between two calls with one sound, (b) between two untouched copies of the model; "" = nothing.

    (a) without (b): the model carries something from call to call. (b): the output is random.
    """

    def run() -> tuple[str, str]:
        audio = sound(ctx)
        try:
            first_model, second_model = copy.deepcopy(ctx.model), copy.deepcopy(ctx.model)
        except Exception:  # a model that cannot be copied is compared with itself only
            first_model = second_model = ctx.model
        first, second = ctx.both(audio, first_model), ctx.both(audio, second_model)
        fresh = next(filter(None, (ctx.difference(second[key], first[key]) for key in first)), "")
        once, twice = sound_embedded(ctx), ctx.both(audio)
        again = next(filter(None, (ctx.difference(twice[key], once[key]) for key in once)), "")
        return again, fresh

    return ctx.shared("repeated", run)


def check_repeatable(ctx: Context) -> Iterator[Finding]:
    """Two calls with equal input give equal embeddings."""
    _, random = repeated_differences(ctx)
    if random:
        yield error(
            f"one sound embedded twice gives two results: {random}",
            "equal embeddings; is dropout active, or something drawn at random?",
            "model.eval()  # in load_model and at the start of each get_* function",
        )


def check_stateless(ctx: Context) -> Iterator[Finding]:
    """A, B, A: the second A equals the first; no running statistics."""
    again, random = repeated_differences(ctx)
    if random:
        return
    audio = sound(ctx)
    buffers = {name: value.detach().clone() for name, value in ctx.model.state_dict().items()}
    before = sound_embedded(ctx)
    ctx.both(ctx.noise(ctx.samples(2.0), seed=62))
    after = ctx.both(audio)
    difference = again or next(filter(None, (ctx.difference(after[key], before[key]) for key in before)), "")
    if difference:
        yield error(
            f"a sound is embedded differently after another call: the model keeps state ({difference})",
            "embeddings that depend on the audio only; running statistics are for training",
            "model.eval(), and no attribute is assigned in get_*",
        )
        return
    changed = [
        name
        for name, value in ctx.model.state_dict().items()
        if name not in buffers or not torch.equal(value.cpu(), buffers[name].cpu())
    ]
    if changed:
        yield warning(f"calls change {', '.join(changed[:4])} of the model's state", "parameters and buffers as loaded")


def check_eval_mode(ctx: Context) -> Iterator[Finding]:
    """The functions work in eval mode, even after somebody called `model.train()`."""
    audio = sound(ctx)
    reference = sound_embedded(ctx)
    if ctx.model.training:
        yield warning(
            "load_model, or a call, leaves the model in training mode",
            "eval mode: the evaluation kit never calls model.eval()",
            "return model.eval()",
        )
    for function, call in ctx.module.embedding_calls:
        ctx.model.train()
        try:
            returned = call(audio)
            result = as_cpu_tensor(returned if isinstance(returned, Tensor) else returned[0])
        finally:
            training = ctx.model.training
            ctx.model.eval()
        difference = ctx.difference(result, reference[function])
        if difference:
            yield error(
                f"after model.train(), {function} gives other embeddings: {difference}",
                "the same: each function switches to eval mode itself",
                "model.eval()  # first line of get_*",
            )
        elif training:
            yield warning(
                f"after model.train(), {function} leaves the model in training mode (the embeddings are the same)",
                "model.training is False after a call",
                "model.eval()  # first line of get_*",
            )
            return


def check_gradients(ctx: Context) -> Iterator[Finding]:
    """No graph is kept: the validator and many users call without `torch.no_grad()`."""
    audio = sound(ctx)
    embeddings, times = ctx.module.timestamps(audio)
    results = (
        ("scene embeddings", ctx.module.scene(audio)),
        ("timestamp embeddings", embeddings),
        ("timestamps", times),
    )
    for name, value in results:
        if isinstance(value, Tensor) and value.requires_grad:
            yield error(
                f"the {name} require gradients: the graph of every batch stays in memory",
                "results without a graph",
                "with torch.inference_mode(): ...",
            )


def check_input_untouched(ctx: Context) -> Iterator[Finding]:
    """The audio is the caller's; it is the same after the call."""
    original = torch.cat([sound(ctx), 3 * ctx.noise(ctx.samples(1.5), seed=63)])  # the last one is beyond full scale
    for function, call in ctx.module.embedding_calls:
        audio = original.clone()
        call(audio)
        if not torch.equal(audio, original):
            yield error(
                f"{function} changes the audio that it was given",
                "the caller's tensor untouched: the next model gets it too",
                "audio = audio / peak   # not audio /= peak",
            )


def check_random_state(ctx: Context) -> Iterator[Finding]:
    """Neither import nor calls touch the global generators; `load_model` may draw, but not set a seed."""
    if ctx.module.import_changed:
        yield error(
            f"importing the module changes the global random state of {', '.join(ctx.module.import_changed)}",
            "an import without side effects",
            "generator = torch.Generator().manual_seed(0)  # instead of torch.manual_seed(0)",
        )
    arguments = [ctx.module.model_path] if ctx.module.model_path else []
    states = []
    for seed in (1, 2):
        seed_all(seed)
        ctx.shared(f"loaded under seed {seed}", lambda: ctx.module.load(*arguments))
        states.append(random_state())
    # Two loads from different states: a generator that ends in one and the same state was seeded, not drawn from.
    seeded = set(GENERATORS) - set(states[0].changed(states[1]))
    if seeded:
        yield error(
            f"load_model seeds the global generator of {', '.join(sorted(seeded))}",
            "the caller's random state: after this call every 'random' experiment draws the same numbers",
            "torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(0))",
        )
    for function, call in ctx.module.embedding_calls:
        before = random_state()
        call(sound(ctx))
        changed = before.changed()
        if changed:
            yield error(
                f"{function} changes the global random state of {', '.join(changed)}",
                "the state as before the call, neither seeded nor drawn from",
                "noise = torch.randn(n, generator=own_generator)",
            )
            return


def check_autocast(ctx: Context) -> Iterator[Finding]:
    """float32 comes back under a caller's autocast too."""
    audio = sound(ctx)
    with torch.autocast(ctx.device.type, dtype=torch.bfloat16):
        results = ctx.both(audio)
    for function, embeddings in results.items():
        if embeddings.dtype != torch.float32:
            yield warning(
                f"under torch.autocast {function} returns {embeddings.dtype}",
                "float32 always",
                "return embeddings.float()",
            )


def check_settings(ctx: Context) -> Iterator[Finding]:
    """Import, loading and calls leave torch's process-wide settings alone."""
    sound_embedded(ctx)
    for name, value in torch_settings().items():
        if value != ctx.module.settings[name]:
            yield error(
                f"{name} was {ctx.module.settings[name]} before load_model and is {value} after a call",
                "process-wide settings belong to the user's program",
            )
