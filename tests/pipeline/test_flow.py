"""The flow that all families share: an embedding depends on its clip alone, whatever is embedded beside it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from golden_inputs import clip
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models import logmel_stats, mae, msm_mae, mwmae, random_projection
from hear_models.errors import InputError, UsageError
from hear_models.pipeline import batching
from hear_models.pipeline.fill import continued
from hear_models.pipeline.model import check_clip
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.plan import centre_times

SIZES = {"encoder_width": 24, "encoder_depth": 2, "encoder_heads": 3}
MODELS = {
    "mwmae": mwmae.Model(mwmae.Config(**SIZES)),
    "mae": mae.Model(mae.Config(**SIZES)),
    "mwmae 8x8": mwmae.Model(mwmae.Config(**SIZES, patch_frames=8, patch_bands=8)),
    "mwmae 5x5": mwmae.Model(mwmae.Config(**SIZES, patch_frames=5, patch_bands=5)),
    "mwmae mean+std": mwmae.Model(mwmae.Config(**SIZES, patch_bands=80, scene_pooling="mean+std")),
    "logmel_stats": logmel_stats.Model(),
    "random_projection": random_projection.Model(),
}
SMALL = {"width": 24, "depth": 2, "heads": 3, "frames_per_unit": 208}
MODELS["msm_mae"] = msm_mae.Model(msm_mae.Config(**SMALL))
MODELS["msm_mae trim"] = msm_mae.Model(msm_mae.Config(**SMALL, normalize="fixed", tail="trim"))
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def sound(seed: int, n: int) -> torch.Tensor:
    return torch.from_numpy(clip(seed, n, "mix"))


@each_model
def test_embedding_of_a_clip_does_not_depend_on_its_neighbours(model, monkeypatch):
    lengths = [1, 201, 4000, 31840, 32000, 70001, 16000, 33]
    clips = [sound(i, n) * (0.001 if i % 3 else 1.0) for i, n in enumerate(lengths)]
    together = model.embed_clips(clips)
    backwards = model.embed_clips(clips[::-1])[::-1]
    monkeypatch.setattr(batching, "CPU_POSITIONS", 1)
    alone = [model.embed_clips([x])[0] for x in clips]
    for a, b, c in zip(together, backwards, alone, strict=True):
        torch.testing.assert_close(a, c, **CLOSE)
        torch.testing.assert_close(b, c, **CLOSE)


@each_model
def test_timestamps_of_unequal_clips_are_those_of_each_alone(model):
    clips = [sound(1, 20000), sound(2, 50000), sound(3, 500)]
    for (embeddings, times), x in zip(model.embed_clips(clips, "timestamps"), clips, strict=True):
        e, t = model.get_timestamp_embeddings(x[None])
        torch.testing.assert_close(embeddings, e[0], **CLOSE)
        assert torch.equal(times, t[0])


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 100_000), name=st.sampled_from(sorted(MODELS)))
def test_times_are_an_exact_grid_of_centres_inside_the_clip(n, name):
    model = MODELS[name]
    plan = model.plan(n, "timestamps")
    times = plan.times_ms
    assert 1 <= len(times) <= plan.n_steps
    assert times[0] >= 0 and times[-1] <= 1000 * n / 16000
    if len(times) > 1:
        np.testing.assert_allclose(np.diff(times), times[1] - times[0], rtol=0, atol=1e-9)
        # one more step would lie past the end
        assert times[-1] + (times[1] - times[0]) > 1000 * n / 16000
    ends = [unit.start + unit.length for unit in plan.units]
    assert [unit.start for unit in plan.units] == [0, *ends[:-1]]  # no gap, no overlap
    assert sum(unit.steps for unit in plan.units) >= plan.n_steps


@each_model
def test_every_length_up_to_a_unit_and_beyond_gives_the_planned_steps(model):
    for n in (1, 2, 160, 200, 201, 640, 31839, 31840, 31841, 32000):
        embeddings, times = model.get_timestamp_embeddings(sound(1, n)[None])
        assert embeddings.shape[1] == times.shape[1] == len(model.plan(n, "timestamps").times_ms)
        assert torch.isfinite(embeddings).all()


def test_scene_is_the_mean_over_all_kept_steps():
    model = MODELS["mwmae"]
    official = mwmae.Model(model.config, timestamps="official", seed=None)
    official.load_state_dict(model.state_dict(), assign=True)
    audio = sound(1, 32000)[None]  # 201 frames: the last step's centre lies past the end
    every, _ = official.get_timestamp_embeddings(audio)
    inside, _ = model.get_timestamp_embeddings(audio)
    assert (every.shape[1], inside.shape[1]) == (51, 50)
    torch.testing.assert_close(model.get_scene_embeddings(audio), every.mean(dim=1))
    torch.testing.assert_close(inside, every[:, :50])


def test_scene_with_deviation_is_mean_and_deviation_of_the_steps_and_keeps_gradients():
    model = MODELS["mwmae mean+std"]
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (48, 24)
    audio = sound(1, 31840)[None]
    steps, _ = model.get_timestamp_embeddings(audio)
    scene = model.get_scene_embeddings(audio)
    torch.testing.assert_close(scene[:, :24], steps.mean(dim=1))
    torch.testing.assert_close(scene[:, 24:], steps.std(dim=1, correction=0))
    trained = mwmae.Model(model.config)
    trained(torch.full((1, 300), 0.1)).sum().backward()  # one step: its deviation is 0
    assert all(torch.isfinite(p.grad).all() for p in trained.parameters() if p.grad is not None)
    with pytest.raises(UsageError, match=r"mean\+std"):
        mwmae.Config(scene_pooling="max")


@each_model
def test_silence_is_finite_and_the_same_alone_and_beside_noise(model):
    silence = torch.zeros(16000)
    alone = model.embed_clips([silence])[0]
    beside = model.embed_clips([sound(1, 16000), silence])[1]
    assert torch.isfinite(alone).all()
    torch.testing.assert_close(alone, beside, **CLOSE)


@each_model
@pytest.mark.parametrize(
    "audio, what",
    [
        (torch.zeros(16000), r"\[clips, samples\]"),
        (torch.zeros(1, 1, 16000), r"\[clips, samples\]"),
        (torch.zeros(1, 16000, dtype=torch.int16), "32768"),
        (torch.zeros(0, 16000), "no clips"),
        (torch.zeros(1, 0), "empty"),
        (torch.tensor([[0.0] * 300, [float("nan")] * 300]), "clip 1"),
        (torch.tensor([[float("inf")] * 300, [0.0] * 300]), "clip 0"),
        (np.zeros((1, 16000), np.float32), "from_numpy"),
    ],
    ids=["1-D", "3-D", "integers", "no clips", "no samples", "NaN", "infinity", "numpy"],
)
def test_wrong_audio_is_a_value_error_that_says_what_to_do(model, audio, what):
    for call in (model.get_scene_embeddings, model.get_timestamp_embeddings):
        with pytest.raises(ValueError, match=what) as caught:
            call(audio)
        assert isinstance(caught.value, InputError)


@each_model
def test_half_and_double_precision_audio_is_taken(model):
    audio = sound(1, 8000)[None]
    expected = model.get_scene_embeddings(audio)
    torch.testing.assert_close(model.get_scene_embeddings(audio.double()), expected)
    assert model.get_scene_embeddings(audio.half()).dtype == torch.float32


def test_forward_keeps_gradients_and_the_hear_functions_do_not():
    model = mwmae.Model(mwmae.Config(**SIZES))
    audio = sound(1, 8000)[None]
    assert not model.get_scene_embeddings(audio).requires_grad
    scene = model(audio)
    scene.sum().backward()
    assert model.patch_embed.weight.grad.abs().sum() > 0
    torch.testing.assert_close(scene.detach(), model.get_scene_embeddings(audio))


def test_hidden_states_have_one_layer_per_block():
    states = MODELS["mwmae"].hidden_states(torch.stack([sound(1, 40000), sound(2, 40000)]))
    assert states.shape == (2, 2, 63, 120)
    with pytest.raises(UsageError, match="no hidden states"):
        MODELS["logmel_stats"].hidden_states(sound(1, 8000)[None])


def test_building_a_model_leaves_the_global_random_state_alone_and_follows_its_seed():
    before = torch.get_rng_state()
    one, same, other = (mwmae.Model(mwmae.Config(**SIZES), seed=s, decoder=True).state_dict() for s in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_random_weights_have_the_papers_scale():
    c = mwmae.Config(encoder_width=384, encoder_depth=1, encoder_heads=6)
    state = mwmae.Model(c, seed=0, decoder=True).state_dict()
    d, e = c.encoder_width, c.decoder_width
    assert state["blocks.0.attn.qkv.weight"].abs().max() <= (6 / (4 * d)) ** 0.5
    assert state["blocks.0.attn.qkv.weight"].std() == pytest.approx((2 / (4 * d)) ** 0.5, rel=0.02)
    assert state["decoder.embed.weight"].std() == pytest.approx(d**-0.5, rel=0.02)
    assert state["decoder.pred.weight"].std() == pytest.approx(e**-0.5, rel=0.02)
    assert state["decoder.blocks.0.attn.bias_tables.5"].std() == pytest.approx((0.02 / 249) ** 0.5, rel=0.2)
    assert state["blocks.0.norm1.weight"].eq(1).all() and state["blocks.0.mlp.fc1.bias"].eq(0).all()


def test_unknown_timestamps_option_is_refused():
    with pytest.raises(UsageError, match="centres"):
        mwmae.Model(mwmae.Config(**SIZES), timestamps="middle")


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 50), extra=st.integers(0, 200))
def test_reflection_is_numpys(n, extra):
    expected = np.pad(np.arange(n), (0, extra), mode="reflect")
    np.testing.assert_array_equal(continued(n, 0, n + extra, "reflect"), expected)


def test_single_position_is_repeated():
    assert continued(1, 0, 4, "reflect").tolist() == [0, 0, 0, 0]


def test_only_step_of_a_tiny_clip_is_put_at_its_end_at_most():
    assert centre_times(640, 240, 1, 100, 16000).tolist() == [100 / 16]
    assert centre_times(640, 240, 1, 400, 16000).tolist() == [15.0]


def test_constant_features_become_zeros_and_others_unit_variance():
    normalise = Standardise(ddof=1, eps=1e-8)
    assert normalise(torch.full((7, 80), -15.942385)).eq(0).all()
    x = normalise(torch.randn(500, 80, generator=torch.Generator().manual_seed(0)) * 3 + 5)
    assert abs(float(x.mean())) < 1e-6 and float(x.std()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("double", [True, False])
def test_windows_standardised_together_are_those_alone(double):
    """To the bit: a loud window, or a silent one, is nothing to its neighbours."""
    windows = torch.randn(5, 7, 80, generator=torch.Generator().manual_seed(0)) - 9
    windows[1], windows[3] = windows[1] * 1e6, -15.942385
    normalise = Standardise(ddof=0, eps=1e-7, along=(-2, -1), double=double)
    found = normalise(windows)
    for window, one in zip(windows, found, strict=True):
        assert torch.equal(one, normalise(window[None])[0]) and torch.equal(one, normalise(window))
        torch.testing.assert_close(one, Standardise(ddof=0, eps=1e-7)(window), rtol=1e-5, atol=1e-5)
    assert found[3].eq(0).all()


def test_audio_whose_sum_overflows_is_still_finite_audio():
    loud = torch.full((300,), 3e38)
    assert not loud.sum().isfinite()
    check_clip(loud, 0)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_network_gives_the_same_embeddings_at_any_number_of_units():
    plain, compiled = (mwmae.Model(mwmae.Config(**SIZES)).eval() for _ in range(2))
    compiled.use_compile()
    for n_samples in (3_000, 80_000):
        audio = torch.rand(1, n_samples) - 0.5
        torch.testing.assert_close(compiled.get_scene_embeddings(audio), plain.get_scene_embeddings(audio), **CLOSE)


def test_statistics_of_the_call_are_those_of_all_its_clips_whatever_their_lengths():
    model = msm_mae.Model(msm_mae.Config(**SMALL), normalize="official")
    clips = [sound(1, 20000), sound(2, 3000) * 0.01, torch.zeros(100), sound(3, 50000)]
    features = torch.cat([model.spectrogram(torch.nn.functional.pad(c, (0, max(0, 201 - len(c))))) for c in clips])
    joined = model.statistics(clips)
    torch.testing.assert_close(joined.mean, features.double().mean())
    torch.testing.assert_close(joined.std(1), features.double().std())
    quiet = model.embed_clips([clips[1]])[0]
    beside = model.embed_clips(clips)[1]
    assert model.batch_dependent and not torch.allclose(quiet, beside, atol=0.01)
    fixed = msm_mae.Model(model.config, normalize="fixed", statistics=(float(joined.mean), float(joined.std(1))))
    torch.testing.assert_close(beside, fixed.embed_clips([clips[1]])[0], **CLOSE)


def test_units_of_unequal_length_wait_for_company_but_not_for_ever(monkeypatch):
    """A clip with a rare tail between many others holds up four forward passes at most, and clips stay in order."""
    monkeypatch.setattr(batching, "CPU_POSITIONS", 2 * 208)
    model, batches = MODELS["msm_mae trim"], []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda units: batches.append(units.shape) or encode(units))
    clips = [sound(0, 1000), *[sound(i, 33120) for i in range(1, 21)]]  # 16 frames, then 20 times 208
    handed, most = [], 0
    for steps, _ in model._steps(clips, model._planner("scene"), model.encode):
        handed.append(steps)
        most = max(most, sum(shape[0] for shape in batches) - len(handed))
    assert [len(steps) for steps in handed] == [1] + 20 * [13]
    assert 4 <= most <= 10
    assert sorted({shape[1] for shape in batches}) == [16, 208]
    full = [shape[0] for shape in batches if shape[1] == 208]
    assert full == 10 * [2], "equal units share a pass although another length lies between them"


def test_zeros_behind_a_clip_are_put_there_after_normalisation():
    model = MODELS["msm_mae"]
    audio = sound(1, 16000) * 0.01
    (unit,) = model.units(audio, model.plan(16000, "scene"))
    assert unit.shape == (208, 80) and not unit[101:].any()
    torch.testing.assert_close(unit[:101], model.features(audio))
    assert abs(float(unit[:101].mean())) < 1e-4 and abs(float(unit[:101].std()) - 1) < 1e-3


def test_options_that_make_no_sense_are_refused_by_name():
    for options, said in (
        ({"normalize": "unit"}, "normalize"),
        ({"normalize": "dataset"}, "statistics"),
        ({"normalize": "clip", "statistics": (0.0, 1.0)}, "statistics"),
        ({"normalize": "fixed", "statistics": (0.0, 0.0)}, "statistics"),
        ({"normalize": "fixed", "statistics": "loud"}, "statistics"),
        ({"tail": "cut"}, "tail"),
        ({"dur_frames": 100}, "dur_frames"),
        ({"dur_frames": -16}, "dur_frames"),
    ):
        with pytest.raises(UsageError, match=said):
            msm_mae.Model(msm_mae.Config(**SMALL), seed=None, **options)
    for changes in ({"frames_per_unit": 200}, {"n_mels": 90}, {"heads": 5}, {"sample_rate": 44_100}, {"norm_std": 0.0}):
        with pytest.raises(UsageError):
            msm_mae.Config(**{**SMALL, **changes})
