"""Equal to the official code: .pth → convert → safetensors → load_model(path) → the HEAR functions, in both layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_mamba_inputs import as_if_ours
from axlstm_inputs import CASES, LAYOUTS, MINIS, arrays, clips, convert_mini, rule_state
from golden_inputs import TOLERANCE, largest_difference

from hear_models import axlstm
from hear_models.checkpoints.mapping import official_key
from hear_models.errors import CheckpointError, UsageError
from hear_models.pipeline.batching import units_per_forward
from hear_models.validation import validate
from hear_models.zoo.convert import convert

SCENE, STEPS = TOLERANCE["AxLSTM, scene"], TOLERANCE["AxLSTM, steps"]
INSIDE, SMALL = TOLERANCE["AxLSTM, inside"], TOLERANCE["AxLSTM, inside, tiny amplitude"]
SIZES = {"mini_a": (48, 2, 2, True, 200), "mini_b": (32, 3, 3, False, 96)}


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("converted")
    return {mini: convert_mini(mini, folder) for mini in MINIS}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mini", MINIS)
def test_hear_functions_give_what_the_official_code_gives(converted, mini, case, layout):
    model, audio = axlstm.load_model(str(converted[mini]), layout=layout, timestamps="official"), clips(case)
    golden = arrays(f"{mini}_hear")
    assert model.scene_embedding_size == model.timestamp_embedding_size == 5 * SIZES[mini][0]
    steps, times = axlstm.get_timestamp_embeddings(audio, model)
    assert steps.shape[1] == int(golden[f"{case}__n"])
    scenes = axlstm.get_scene_embeddings(audio, model)
    assert largest_difference(scenes, golden[f"{case}__{layout}__scene"]) <= SCENE
    assert largest_difference(steps[:, golden[f"{case}__idx"]], golden[f"{case}__{layout}__ts"]) <= STEPS
    assert largest_difference(times, golden[f"{case}__timestamps"]) <= TOLERANCE["milliseconds"]


@pytest.mark.parametrize("mini", MINIS)
def test_sizes_come_from_the_tensors_though_the_trainer_says_otherwise(converted, mini):
    c = axlstm.load_model(str(converted[mini])).config
    assert (c.width, c.depth, c.expansion, c.class_token, c.frames_per_unit) == SIZES[mini]
    assert (c.layout, c.mask_ratio, c.loss_on) == ("official", 0.5, "all")


@pytest.mark.parametrize("mini", MINIS)
def test_tokens_match_after_every_part(converted, mini):
    model, golden = axlstm.load_model(str(converted[mini])), arrays(f"{mini}_tokens")
    g = np.random.Generator(np.random.PCG64({"mini_a": 31, "mini_b": 32}[mini]))
    units = torch.from_numpy(g.standard_normal((2, 1, model.config.frames_per_unit, 80), dtype=np.float32)[:, 0])
    with torch.inference_mode():
        assert largest_difference(model.patch_embed(model.grid.cut(units))[:, ::10], golden["patch_tokens"]) <= INSIDE
        tokens = model.embed(units)
        assert largest_difference(tokens[:, ::10], golden["block_input"]) <= INSIDE
        for i, block in enumerate(model.blocks):
            if i < 2:
                check_layer(block, tokens[:1], {k[8:]: v for k, v in golden.items() if k.startswith(f"layer{i}__")})
            tokens = block(tokens)
            assert largest_difference(tokens[:, ::10], golden[f"block_{i}"]) <= INSIDE
        assert largest_difference(model.norm(tokens)[:, ::10], golden["encoded"]) <= INSIDE
        assert largest_difference(model.encode(units)[:, ::10], golden["official_chunk"]) <= INSIDE
        corrected = axlstm.load_model(str(converted[mini]), layout="corrected")
        assert largest_difference(corrected.encode(units)[:, ::10], golden["corrected_chunk"]) <= INSIDE


def check_layer(block, tokens, golden) -> None:
    """Every stored value inside a block; what a layer that reads backwards sees is in reversed order."""
    layer, seen = block.layer, {}
    parts = {"up": "proj_up", "conv": "conv1d", "q": "q_proj", "k": "k_proj", "v": "v_proj", "cell_out": "outnorm"}
    for name, part in (parts | {"igate": "igate", "fgate": "fgate"}).items():
        layer.get_submodule(part).register_forward_hook(lambda _, x, y, name=name: seen.update({name: y}))
    layer.outnorm.register_forward_hook(lambda _, x, y: seen.update(h_raw=x[0].transpose(1, 2)))
    seen["norm"], seen["block_out"] = block.norm(tokens), block(tokens)
    seen["layer_out"] = seen["block_out"] - tokens
    assert seen.keys() == golden.keys()
    for name, value in seen.items():
        theirs = golden[name].swapaxes(1, 2) if name == "h_raw" else golden[name]
        assert largest_difference(value[:, ::25], theirs) <= INSIDE, name
    for part in (*parts.values(), "igate", "fgate"):
        layer.get_submodule(part)._forward_hooks.clear()


@pytest.mark.parametrize("mini", MINIS)
def test_epsilons_of_the_norms_are_the_official_ones(converted, mini):
    """Tokens so small that an epsilon is most of their variance."""
    model, golden = axlstm.load_model(str(converted[mini])), arrays(f"{mini}_tokens")
    for name, amplitude in (("small3", 3e-3), ("small5", 3e-5)):
        g = np.random.Generator(np.random.PCG64({"mini_a": 531, "mini_b": 532}[mini]))
        x = torch.from_numpy(amplitude * g.standard_normal((1, 24, SIZES[mini][0]), dtype=np.float32)).float()
        with torch.inference_mode():
            for i in (0, 1):
                assert largest_difference(model.blocks[i](x), golden[f"{name}__block{i}"]) <= SMALL
            assert largest_difference(model.norm(x), golden[f"{name}__encoder_norm"]) <= SMALL


def test_front_end_matches():
    model, golden = axlstm.Model(seed=None), arrays("frontend")
    assert largest_difference(model.frontend.mel_filters, golden["mel_fb"]) <= 1e-5
    for case in CASES:
        audio, idx = clips(case), golden[f"{case}__idx"]
        np.testing.assert_allclose(audio.double().sum(dim=1), golden[f"{case}__audio_sum"], atol=1e-3)
        for row, waveform in enumerate(audio):
            log_mel = model.spectrogram(waveform)
            assert log_mel.shape[0] == int(golden[f"{case}__frames"])
            assert largest_difference(log_mel[idx], golden[f"{case}__logmel"][row]) <= TOLERANCE["log-mel"]
            if case != "silence":
                assert largest_difference(model.features(waveform)[idx], golden[f"{case}__norm"][row]) <= 1e-4


def test_nearly_silent_clips_are_encoded_as_zeros():
    """Below a deviation of 1e-4 the log-mel is that of silence up to rounding, which would become the features."""
    model = axlstm.Model(axlstm.Config(width=16, depth=1))
    hiss = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    deviation = {level: float(model.spectrogram(level * hiss).double().std()) for level in (1e-7, 1e-6)}
    assert 1e-6 < deviation[1e-7] < 1e-4 < deviation[1e-6]
    assert not model.features(1e-7 * hiss).any() and model.features(1e-6 * hiss).any()


PUBLISHED = {"tiny": (192, 2_965_600), "small": (384, 11_313_184), "base": (768, 44_154_784)}


@pytest.mark.parametrize("size", ["tiny", "small", pytest.param("base", marks=pytest.mark.slow)])
def test_published_sizes_match_with_rule_weights(tmp_path, size):
    width, parameters = PUBLISHED[size]
    torch.save({"model": rule_state(size)}, tmp_path / "checkpoint-99.pth")
    done = convert("axlstm", tmp_path / "checkpoint-99.pth", tmp_path / "out.safetensors")
    assert (done.config["width"], done.config["expansion"], done.parameters) == (width, 2, parameters)
    golden = arrays("recipe")
    for layout in LAYOUTS:
        model = axlstm.load_model(str(tmp_path / "out.safetensors"), layout=layout, timestamps="official")
        for case in ("just_over_mix", "batch2") if size == "tiny" else ("just_over_mix",):
            steps, name = model.get_timestamp_embeddings(clips(case))[0], f"{size}__{case}"
            close = TOLERANCE["AxLSTM, published sizes, scene"]
            assert largest_difference(steps.mean(1), golden[f"{name}__{layout}__scene"]) <= close
            close = TOLERANCE["AxLSTM, published sizes, steps"]
            assert largest_difference(steps[:, golden[f"{name}__idx"]], golden[f"{name}__{layout}__ts"]) <= close


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_layout_fails_the_place_of_bursts_and_nothing_else(converted, tmp_path, layout):
    path = as_if_ours(converted["mini_a"], layout, tmp_path)
    report = validate("hear_models.axlstm", model_path=str(path), length="quick")
    failed = {finding.check for finding in report.findings("error")}
    assert failed == ({"centres"} if layout == "official" else set())


@pytest.mark.parametrize("expansion", [1, 2, 3])
def test_every_expansion_survives_its_file(tmp_path, expansion):
    model = axlstm.Model(axlstm.Config(width=16, depth=2, expansion=expansion), decoder=True)
    torch.save(official_state(model), tmp_path / "bare.pth")
    convert("axlstm", tmp_path / "bare.pth", tmp_path / "out.safetensors")
    loaded, audio = axlstm.load_model(str(tmp_path / "out.safetensors")), clips("short_mix")
    assert loaded.config.expansion == expansion
    assert torch.equal(loaded.get_scene_embeddings(audio), model.get_scene_embeddings(audio))


def official_state(model) -> dict[str, torch.Tensor]:
    """A model's tensors by their official names."""
    return {official_key(name, axlstm.OFFICIAL.rules): value for name, value in model.state_dict().items()}


def test_every_step_depends_on_the_whole_unit_and_on_no_other(converted):
    """So that nothing can be streamed below a unit's length."""
    model = axlstm.load_model(str(converted["mini_a"]), layout="corrected")
    g = torch.Generator().manual_seed(0)
    units = torch.randn(2, 200, 80, generator=g)
    other = units.clone()
    other[0, -4:] += 1
    with torch.inference_mode():
        first, second = model.encode(units), model.encode(other)
    assert (first[0] != second[0]).any(dim=1).all() and torch.equal(first[1], second[1])


def test_random_weights_begin_as_the_official_ones():
    width, depth = 64, 3
    plain, scaled = (
        axlstm.Model(axlstm.Config(width=width, depth=depth, init_depth_scale=on), decoder=True) for on in (False, True)
    )
    layer = plain.blocks[1].layer
    narrow = (2 / (5 * width)) ** 0.5
    for module in (layer.proj_up, layer.q_proj, layer.k_proj, layer.v_proj):
        assert float(module.weight.detach().std()) == pytest.approx(narrow, rel=0.05)
    assert float(layer.proj_down.weight.detach().std()) == pytest.approx(2 / width**0.5, rel=0.05)
    assert torch.allclose(scaled.blocks[1].layer.proj_down.weight * depth, layer.proj_down.weight)
    assert torch.equal(layer.fgate.bias, torch.tensor([3.0, 4.0, 5.0, 6.0]))
    assert 0 < float(layer.igate.bias.abs().max().detach()) < 0.5
    assert not layer.igate.weight.any() and not layer.fgate.weight.any()
    assert torch.equal(layer.learnable_skip, torch.ones(2 * width))
    assert not layer.outnorm.weight.any() and not plain.blocks[1].norm.weight.any()
    for part in (layer.conv1d.weight, layer.conv1d.bias):
        assert 0.45 < float(part.abs().max().detach()) <= 0.5
    limit = (6 / (64 * (1 + width))) ** 0.5
    assert float(plain.patch_embed.weight.abs().max().detach()) == pytest.approx(limit, rel=0.02)
    assert not plain.patch_embed.bias.any() and torch.equal(plain.norm.weight, torch.ones(width))
    assert float(plain.decoder.pred.bias.abs().max().detach()) == pytest.approx(width**-0.5, rel=0.1)


@pytest.mark.parametrize(("width", "bands", "at_once"), [(192, 16, 4), (384, 16, 2), (768, 16, 1), (256, 80, 8)])
def test_a_cpu_takes_as_many_units_at_once_as_was_quickest(width, bands, at_once):
    model = axlstm.Model(axlstm.Config(width=width, depth=1, patch_bands=bands))
    plan = model.plan(160_000, "scene")
    assert units_per_forward(torch.device("cpu"), model.unit_cost(plan.units[0], plan)) == at_once


def test_a_hooked_gate_is_called_and_gives_the_same():
    layer = axlstm.Model(axlstm.Config(width=32, depth=1)).blocks[0].layer
    torch.nn.init.normal_(layer.igate.weight)
    x, calls = torch.randn(2, 20, 32), []
    with torch.inference_mode():
        plain = layer(x, x)
        layer.igate.register_forward_hook(lambda *_: calls.append(1))
        assert float((layer(x, x) - plain).abs().max()) < 1e-5 and calls == [1]


def test_bfloat16_stays_close(converted):
    exact, rounded = (axlstm.load_model(str(converted["mini_a"]), dtype=dtype) for dtype in ("float32", "bfloat16"))
    ours, theirs = (model.get_timestamp_embeddings(clips("batch2"))[0] for model in (rounded, exact))
    assert float((ours - theirs).norm() / theirs.norm()) < 0.03


def test_wrong_sizes_are_told_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="expansion is 0"):
        axlstm.Config(expansion=0)
    with pytest.raises(UsageError, match="layout='scrambled' is unknown"):
        axlstm.Model(axlstm.Config(width=16, depth=1), layout="scrambled")
    state = official_state(axlstm.Model(axlstm.Config(width=16, depth=1)))
    state["blocks.0.layer.proj_up.weight"] = torch.zeros(48, 16)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="24 channels of the memories are no whole multiple of the width 16"):
        convert("axlstm", tmp_path / "odd.pth", tmp_path / "odd.safetensors")
