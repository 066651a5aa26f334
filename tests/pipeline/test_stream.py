"""A sound in chunks of any size gives the steps that the whole of it gives; what cannot, says why."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from hear_models import audio_mamba
from hear_models.errors import InputError, UsageError
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.stream import Stream
from hear_models.pipeline.streaming import LOOKS_AHEAD
from hear_models.zoo.families import families, family_module, said_of

STATISTICS = (-7.0, 4.0)
CONFIGS = {
    "patches of 16 bands": audio_mamba.Config(width=32, depth=2, state=8, layout="corrected"),
    "slices": audio_mamba.Config(width=32, depth=3, state=4, kernel=3, patch_bands=80, layout="corrected"),
    "no class token, kernel 1, short units": audio_mamba.Config(
        width=16, depth=2, state=4, kernel=1, class_token=False, frames_per_unit=48, layout="corrected"
    ),
}
LENGTHS = (1, 201, 239, 641, 16_000, 31_999, 32_040, 70_123)  # samples; a unit of 200 frames is 32,000


def streamed(stream: Stream, clip: Tensor, sizes: object) -> tuple[Tensor, Tensor]:
    """All steps and times of a clip that comes in chunks of the sizes that an iterator gives."""
    got, begin = [], 0
    while begin < len(clip):
        size = next(sizes)  # type: ignore[call-overload]
        got.append(stream.push(clip[begin : begin + size]))
        begin += size
    got.append(stream.finish())
    steps, times = zip(*got, strict=True)
    return torch.cat(steps), torch.cat(times)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_any_chunks_give_what_the_whole_gives(config):
    model = audio_mamba.Model(config, normalize="fixed", statistics=STATISTICS)
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        clip = torch.from_numpy(rng.normal(0, 0.1, length)).float()
        whole, when = model.get_timestamp_embeddings(clip[None])
        chunks = [
            itertools.repeat(length),
            itertools.repeat(int(rng.integers(1, 700)) if length > 1000 else 1),
            (int(size) for size in iter(lambda: rng.integers(0, 9_000), None)),  # empty ones too
        ]
        for sizes in chunks:
            steps, times = streamed(model.stream(), clip, sizes)
            torch.testing.assert_close(steps, whole[0], rtol=0, atol=1e-5)
            assert torch.equal(times, when[0])


def test_a_step_comes_as_soon_as_it_is_final():
    """Step 0 is made of frames 0 to 3; the last of them ends 200 samples behind 480."""
    model = audio_mamba.Model(CONFIGS["slices"])
    stream = model.stream(normalize=STATISTICS)
    clip = torch.randn(2_000, generator=torch.Generator().manual_seed(1)) * 0.1
    assert len(stream.push(clip[:679])[0]) == 0
    steps, times = stream.push(clip[679:680])
    assert steps.shape == (1, 32) and times.tolist() == [15.0]
    # and nothing that follows could have changed it
    other = model.stream(normalize=STATISTICS)
    changed = other.push(torch.cat([clip[:680], -clip[680:]]))[0]
    torch.testing.assert_close(changed[0], steps[0], rtol=0, atol=1e-5)


def test_units_forget_and_the_class_token_begins_each():
    """Of two equal units the second gives nearly the steps of the first: only its first frames differ."""
    model = audio_mamba.Model(CONFIGS["slices"], normalize="fixed", statistics=STATISTICS)
    unit = torch.randn(32_000, generator=torch.Generator().manual_seed(2)) * 0.1
    steps, _ = streamed(model.stream(), unit.repeat(2), itertools.repeat(999))
    frames = model.frontend(unit.repeat(2)[None])[0]
    frames_differ = (frames[:200] - frames[200:400]).abs()
    assert frames_differ[2:198].max() < 1e-4 < frames_differ[:2].max()
    assert (steps[50:98] - steps[:48]).abs().max() < 0.2 * steps.std() < steps[:48].std() * 0.21
    with torch.no_grad():
        model.cls_token.neg_()
    changed, _ = streamed(model.stream(), unit.repeat(2), itertools.repeat(999))
    assert (changed[50] - steps[50]).abs().max() > 1e-3


def test_a_stream_computes_alone():
    """Training mode, autocast and gradients of the caller change nothing and come back."""
    model = audio_mamba.Model(CONFIGS["slices"], normalize="fixed", statistics=STATISTICS).train()
    clip = torch.randn(8_000, generator=torch.Generator().manual_seed(3)) * 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        steps, _ = streamed(model.stream(), clip, itertools.repeat(800))
    assert model.training and not steps.requires_grad
    torch.testing.assert_close(steps, model.eval().get_timestamp_embeddings(clip[None])[0][0], rtol=0, atol=1e-5)


def test_bad_chunks_leave_the_stream_as_it_was():
    model = audio_mamba.Model(CONFIGS["slices"], normalize="fixed", statistics=STATISTICS)
    clip = torch.randn(5_000, generator=torch.Generator().manual_seed(4)) * 0.1
    stream = model.stream()
    first = stream.push(clip[:2_500])[0]
    for bad in (torch.full((3,), torch.nan), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int16)):
        with pytest.raises(InputError):
            stream.push(bad)
    second, last = stream.push(clip[2_500:].numpy())[0], stream.finish()[0]
    whole = model.get_timestamp_embeddings(clip[None])[0][0]
    torch.testing.assert_close(torch.cat([first, second, last]), whole, rtol=0, atol=1e-5)
    with pytest.raises(UsageError, match="finished"):
        stream.push(clip)
    with pytest.raises(UsageError, match="finished"):
        stream.finish()
    with pytest.raises(InputError, match="no sample"):
        model.stream().finish()


@pytest.mark.parametrize("normalize", [None, "clip", "fixed", Standardise(), Standardise(scope="call")], ids=str)
def test_statistics_of_the_clip_are_refused(normalize):
    with pytest.raises(UsageError, match="known at its end only"):
        audio_mamba.Model(CONFIGS["slices"]).stream(normalize=normalize)


def test_fixed_statistics_may_be_measured():
    model = audio_mamba.Model(CONFIGS["slices"])
    measured = model.statistics([torch.randn(9_000, generator=torch.Generator().manual_seed(5)) * 0.1])
    pair = (float(measured.mean), float(measured.std(1)))
    assert model.stream(normalize=measured).normalise == model.stream(normalize=pair).normalise
    with pytest.raises(UsageError, match="such as"):
        model.stream(normalize=(0.0, 0.0))
    with pytest.raises(UsageError, match="statistics"):
        audio_mamba.Model(CONFIGS["slices"], normalize="fixed")
    with pytest.raises(UsageError, match="statistics"):
        audio_mamba.Model(CONFIGS["slices"], statistics=STATISTICS)


def test_scrambled_steps_and_official_times_are_refused():
    with pytest.raises(UsageError, match="layout='corrected'"):
        audio_mamba.Model(CONFIGS["slices"], layout="official").stream(normalize=STATISTICS)
    with pytest.raises(UsageError, match="timestamps='centres'"):
        audio_mamba.Model(CONFIGS["slices"], timestamps="official").stream(normalize=STATISTICS)


@pytest.mark.parametrize("family", [name for name in families() if name != "audio_mamba"])
def test_families_that_look_ahead_refuse_with_the_reason(family):
    cls = family_module(family).Model
    assert cls.not_streamed == said_of(family, "not_streamed", LOOKS_AHEAD)  # what `info` says
    with pytest.raises(UsageError, match=f"{family} cannot be streamed exactly: .*{cls.not_streamed}"):
        cls.stream(cls.__new__(cls), STATISTICS)


def test_info_knows_that_audio_mamba_streams():
    assert said_of("audio_mamba", "not_streamed", LOOKS_AHEAD) == "" == audio_mamba.Model.not_streamed
