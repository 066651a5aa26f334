"""Equal to the official code: .pth → convert → safetensors → load_model(path) → the HEAR functions, in both layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_mamba_inputs import (
    CASES,
    LAYOUTS,
    STEPS,
    arrays,
    as_if_ours,
    check_embeddings,
    clips,
    convert_mini,
    recipe_state,
)
from golden_inputs import TOLERANCE, largest_difference

from hear_models import audio_mamba
from hear_models.errors import UsageError
from hear_models.layers.mamba import Mixer
from hear_models.validation import validate
from hear_models.zoo.convert import convert

CLOSE = TOLERANCE["SSAST and Audio Mamba"]
INSIDE = TOLERANCE["SSAST and Audio Mamba, inside"]
GRADIENT = TOLERANCE["SSAST and Audio Mamba, gradient, relative"]
HEAR = arrays("audio_mamba", "hear")
TOKENS = arrays("audio_mamba", "intermediates")


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    return convert_mini("audio_mamba", tmp_path_factory.mktemp("converted"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_hear_functions_give_what_the_official_code_gives(converted, case, layout):
    model = audio_mamba.load_model(str(converted), layout=layout, timestamps="official")
    audio = clips(CASES[case])
    steps, times = audio_mamba.get_timestamp_embeddings(audio, model)
    assert steps.shape[1] == STEPS[case]
    check_embeddings(HEAR, case, layout, audio_mamba.get_scene_embeddings(audio, model), steps, times, CLOSE)


@pytest.mark.parametrize("scan", ["torch", "numba", "reference"])
def test_every_way_to_scan_gives_the_official_embeddings(converted, scan):
    model, audio = audio_mamba.load_model(str(converted), scan=scan), clips(CASES["onetail"])  # official by default
    steps, times = audio_mamba.get_timestamp_embeddings(audio, model)
    assert {block.mixer.backend for block in model.blocks} == {scan}
    check_embeddings(HEAR, "onetail", "official", model.get_scene_embeddings(audio), steps, times, CLOSE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_silence_is_encoded_as_zeros(converted, layout):
    scene = audio_mamba.load_model(str(converted), layout=layout).get_scene_embeddings(torch.zeros(1, 16000))
    assert largest_difference(scene[0], HEAR[f"zerolms101/scene_{layout}"]) <= CLOSE


def test_tokens_match_after_every_part(converted):
    model = audio_mamba.load_model(str(converted))
    units = torch.nn.functional.pad(torch.from_numpy(TOKENS["lms"][0]), (0, 0, 0, 174))  # zeros behind 26 frames
    with torch.inference_mode():
        assert largest_difference(model.patch_embed(model.grid.cut(units))[0], TOKENS["patch_embed"]) <= INSIDE
        tokens = model.embed(units)
        assert largest_difference(tokens[0], TOKENS["tokens_in"]) <= INSIDE
        for i, block in enumerate(model.blocks):
            assert largest_difference(tokens[0], TOKENS[f"residual_in{i}"]) <= INSIDE
            mixed = block.mixer(block.norm(tokens), residual=torch.zeros_like(tokens))
            assert largest_difference(mixed[0], TOKENS[f"mixer_out{i}"]) <= INSIDE
            tokens = block(tokens)
        assert largest_difference(tokens[0], TOKENS["pre_norm"]) <= INSIDE
        assert largest_difference(model.norm(tokens)[0], TOKENS["post_norm"]) <= INSIDE
        assert largest_difference(model.encode(units)[0], TOKENS["features_official"]) <= INSIDE


def test_mixer_and_its_gradients_match():
    golden = arrays("audio_mamba", "mixer")
    mixer = Mixer(20, 60, 24, 4)
    mixer.load_state_dict({key[6:]: torch.from_numpy(golden[key]) for key in golden.files if key.startswith("param/")})
    x = torch.from_numpy(golden["x"]).requires_grad_()
    y = mixer(x, residual=torch.zeros_like(x))
    assert largest_difference(y, golden["y"]) <= INSIDE
    u, _ = mixer.in_proj(x).chunk(2, dim=2)
    convolved = torch.nn.functional.silu(mixer.conv1d(u))
    assert largest_difference(convolved.transpose(1, 2), golden["conv_out"]) <= INSIDE
    (y * torch.from_numpy(golden["cotangent"])).sum().backward()
    gradients = {name: parameter.grad for name, parameter in mixer.named_parameters()} | {"x": x.grad}
    for key in (key for key in golden.files if key.startswith("grad/")):
        close = GRADIENT * float(np.abs(golden[key]).max())
        assert largest_difference(gradients[key[5:]], golden[key]) <= close, key


SIZES = {"tiny": (192, 4_808_704), "small": (384, 17_985_472), "base": (768, 69_443_392)}


def block_shapes(width: int, inner: int, state: int, rank: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(12):
        mixer = {
            "A_log": (inner, state),
            "D": (inner,),
            "in_proj.weight": (2 * inner, width),
            "conv1d.weight": (inner, 1, 4),
            "conv1d.bias": (inner,),
            "x_proj.weight": (rank + 2 * state, inner),
            "dt_proj.weight": (inner, rank),
            "dt_proj.bias": (inner,),
            "out_proj.weight": (width, inner),
        }
        shapes |= {f"blocks.{i}.mixer.{name}": shape for name, shape in mixer.items()}
        shapes[f"blocks.{i}.norm.weight"] = shapes[f"blocks.{i}.norm.bias"] = (width,)
    return shapes


@pytest.mark.parametrize("size", ["tiny", "small", pytest.param("base", marks=pytest.mark.slow)])
def test_published_sizes_match_with_recipe_weights(tmp_path, size):
    width, parameters = SIZES[size]
    state = recipe_state(block_shapes(width, 3 * width, 24, width // 16), width)
    torch.save({"model": state}, tmp_path / "checkpoint-99.pth")
    done = convert("audio_mamba", tmp_path / "checkpoint-99.pth", tmp_path / "out.safetensors")
    assert (done.config["state"], done.config["expansion"], done.parameters) == (24, 3, parameters)
    golden, close = arrays("audio_mamba", f"recipe_{size}"), TOLERANCE["SSAST and Audio Mamba, published sizes"]
    for layout in LAYOUTS:
        model = audio_mamba.load_model(str(tmp_path / "out.safetensors"), layout=layout, timestamps="official")
        for case, spec in {"a": (31, 20000, "mix"), "b": (32, 40000, "mix")}.items():
            steps, times = model.get_timestamp_embeddings(clips([spec]))
            assert float(times[0, -1]) == pytest.approx(float(golden[f"{case}/ts_last"]), abs=1e-3)
            assert largest_difference(steps[0].mean(0), golden[f"{case}/scene_{layout}"]) <= close
            if f"{case}/emb_{layout}_rows" in golden:
                rows = steps[0, [0, steps.shape[1] // 2, -1]]
                assert largest_difference(rows, golden[f"{case}/emb_{layout}_rows"]) <= close


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_layout_fails_the_place_of_bursts_and_nothing_else(converted, tmp_path, layout):
    path = as_if_ours(converted, layout, tmp_path)
    report = validate("hear_models.audio_mamba", model_path=str(path), length="quick")
    failed = {finding.check for finding in report.findings("error")}
    assert failed == ({"centres"} if layout == "official" else set())


def test_a_token_knows_those_before_it_alone(converted):
    model = audio_mamba.load_model(str(converted), layout="corrected")
    units = torch.randn(1, 200, 80)
    later = units.clone()
    later[:, 100:] = torch.randn(1, 100, 80)
    with torch.inference_mode():
        assert torch.equal(model.encode(units)[:, :25], model.encode(later)[:, :25])


def test_random_weights_begin_as_mambas_do():
    model = audio_mamba.Model(audio_mamba.Config(width=64, depth=2), decoder=True)
    mixer = model.blocks[1].mixer
    assert torch.allclose(mixer.A_log.exp(), torch.arange(1.0, 25.0).expand(192, -1), atol=1e-5)
    steps = torch.nn.functional.softplus(mixer.dt_proj.bias.detach())
    assert float(steps.min()) >= 0.001 * 0.99 and float(steps.max()) <= 0.1 * 1.01
    assert 0.3 < float((steps < 0.01).float().mean()) < 0.7  # evenly spread on a logarithmic scale
    assert torch.equal(mixer.D, torch.ones(192)) and not model.decoder.pred.bias.any()
    assert float(mixer.out_proj.weight.detach().abs().max()) == pytest.approx(192**-0.5 / 2**0.5, rel=0.02)
    assert float(mixer.in_proj.weight.detach().abs().max()) == pytest.approx(64**-0.5, rel=0.02)


def test_bfloat16_leaves_the_scan_in_float32(converted):
    exact = audio_mamba.load_model(str(converted), layout="corrected")
    rounded = audio_mamba.load_model(str(converted), layout="corrected", dtype="bfloat16")
    mixer = rounded.blocks[0].mixer
    kept = {name for name, p in mixer.named_parameters() if p.dtype == torch.float32}
    assert kept == {"A_log", "D", "dt_proj.bias"}
    assert torch.equal(mixer.A_log, exact.blocks[0].mixer.A_log)
    audio = clips(CASES["batch2"])
    ours, theirs = (model.get_timestamp_embeddings(audio)[0] for model in (rounded, exact))
    assert float((ours - theirs).norm() / theirs.norm()) < 0.02


def test_unknown_options_are_told_in_a_sentence():
    with pytest.raises(UsageError, match="scan='fastest' is unknown"):
        audio_mamba.Model(scan="fastest")
    with pytest.raises(UsageError, match="state is 0"):
        audio_mamba.Config(state=0)
