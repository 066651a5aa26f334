"""Equal to the official code: .pth → convert → safetensors → load_model(path) → the HEAR functions, in both layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from audio_mamba_inputs import (
    CASES,
    FOLDER,
    LAYOUTS,
    STEPS,
    arrays,
    as_if_ours,
    check_embeddings,
    clip,
    clips,
    convert_mini,
    recipe_state,
)
from golden_inputs import TOLERANCE, largest_difference

from hear_models import audio_mamba, ssast
from hear_models.errors import UsageError
from hear_models.validation import validate
from hear_models.zoo.convert import convert

CLOSE = TOLERANCE["SSAST and Audio Mamba"]
INSIDE = TOLERANCE["SSAST and Audio Mamba, inside"]
HEAR = arrays("ssast", "hear")
TOKENS = arrays("ssast", "intermediates")


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    return convert_mini("ssast", tmp_path_factory.mktemp("converted"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_hear_functions_give_what_the_official_code_gives(converted, case, layout):
    model, audio = ssast.load_model(str(converted), layout=layout, timestamps="official"), clips(CASES[case])
    assert model.scene_embedding_size == model.timestamp_embedding_size == 160
    steps, times = ssast.get_timestamp_embeddings(audio, model)
    assert steps.shape[1] == STEPS[case]
    check_embeddings(HEAR, case, layout, ssast.get_scene_embeddings(audio, model), steps, times, CLOSE)


def test_converted_weights_keep_the_official_layout_and_times(converted):
    default, audio = ssast.load_model(str(converted)), clips(CASES["odd"])
    official = ssast.load_model(str(converted), layout="official", timestamps="official")
    assert (default.layout, default.timestamps) == ("official", "official")
    for ours, theirs in zip(
        default.get_timestamp_embeddings(audio), official.get_timestamp_embeddings(audio), strict=True
    ):
        assert torch.equal(ours, theirs)
    corrected = ssast.load_model(str(converted), layout="corrected")
    assert corrected.timestamps == "centres"
    assert float(corrected.get_timestamp_embeddings(audio)[1][0, 0]) == 15.0  # between the first 4 frames
    assert float(official.get_timestamp_embeddings(audio)[1][0, 0]) == 0.0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_silence_is_encoded_as_zeros(converted, layout):
    scene = ssast.load_model(str(converted), layout=layout).get_scene_embeddings(torch.zeros(1, 16000))
    assert largest_difference(scene[0], HEAR[f"zerolms101/scene_{layout}"]) <= CLOSE


def test_layouts_hold_the_same_tokens_in_another_order(converted):
    """In a full unit slot s of step t is time 10 s + t // 5 and band t % 5; the corrected step t has all bands of t."""
    audio = clips(CASES["one"])
    official, corrected = (
        ssast.load_model(str(converted), layout=layout, timestamps="official")
        .get_timestamp_embeddings(audio)[0][0]
        .unflatten(1, (5, -1))
        for layout in LAYOUTS
    )
    t, s = np.meshgrid(np.arange(50), np.arange(5), indexing="ij")
    assert torch.equal(official, corrected[10 * s + t // 5, t % 5])


def test_tokens_match_after_every_part(converted):
    model = ssast.load_model(str(converted))
    units = torch.nn.functional.pad(torch.from_numpy(TOKENS["lms"][0]), (0, 0, 0, 174))  # zeros behind 26 frames
    with torch.inference_mode():
        assert largest_difference(model.patch_embed(model.grid.cut(units))[0], TOKENS["patch_embed"]) <= INSIDE
        tokens = model.embed(units)
        assert largest_difference(tokens[0], TOKENS["tokens_in"]) <= INSIDE
        for i, block in enumerate(model.blocks):
            tokens = block(tokens)
            assert largest_difference(tokens[0], TOKENS[f"block_out{i}"]) <= INSIDE
        assert largest_difference(tokens[0], TOKENS["pre_norm"]) <= INSIDE
        assert largest_difference(model.norm(tokens)[0], TOKENS["post_norm"]) <= INSIDE
        assert largest_difference(model.encode(units)[0], TOKENS["features_official"]) <= INSIDE
        rows = model.pos_embed[0, [0, 1, 2, 5, 6, 250]]
        assert largest_difference(rows, TOKENS["pos_embed_rows"]) <= INSIDE
        fresh = ssast.Model(model.config).pos_embed[0, [0, 1, 2, 5, 6, 250]]
        assert largest_difference(fresh, TOKENS["pos_embed_rows"]) <= INSIDE
        states = model.hidden_states(clips(CASES["short"]))
        folded = model.fold_steps(torch.from_numpy(TOKENS["block_out0"])[None])[0, :7]
        assert largest_difference(states[0, 0], folded.numpy()) <= CLOSE


def test_every_norm_has_the_published_eps():
    """1e-5, torch's default, would move these embeddings by less than the tolerance."""
    for model in (ssast.Model(seed=None), audio_mamba.Model(seed=None)):
        eps = [module.eps for module in model.modules() if isinstance(module, torch.nn.LayerNorm)]
        assert set(eps) == {1e-6} and len(eps) in (13, 25)


def test_front_end_matches():
    model = ssast.Model(seed=None)
    with np.load(FOLDER / "frontend.npz") as official:
        assert largest_difference(model.frontend.mel_filters, official["fb"]) <= 1e-6
        for name, spec in {"mix": (51, 9000, "mix"), "loud": (52, 4001, "loud"), "quiet": (53, 3200, "mix")}.items():
            audio = torch.from_numpy(clip(*spec) * np.float32(1e-5 if name == "quiet" else 1))
            log_mel = model.spectrogram(audio)
            assert largest_difference(log_mel.T, official[f"{name}/logmel"]) <= TOLERANCE["log-mel"]
            assert largest_difference(model.features(audio), official[f"{name}/lms"]) <= 5e-5


SIZES = {"tiny": (192, 5_449_216), "small": (384, 21_588_928), "base": (768, 85_940_032)}


def block_shapes(width: int) -> dict[str, tuple[int, ...]]:
    dense = {"attn.qkv_layer": (3, 1), "attn.proj_layer": (1, 1), "mlp.layer1": (4, 1), "mlp.layer2": (1, 4)}
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(12):
        for name, (rows, columns) in dense.items():
            shapes[f"blocks.{i}.{name}.weight"] = (rows * width, columns * width)
            shapes[f"blocks.{i}.{name}.bias"] = (rows * width,)
        for name in ("norm1", "norm2"):
            shapes[f"blocks.{i}.{name}.weight"] = shapes[f"blocks.{i}.{name}.bias"] = (width,)
    return shapes


@pytest.mark.parametrize("size", ["tiny", "small", pytest.param("base", marks=pytest.mark.slow)])
def test_published_sizes_match_with_recipe_weights(tmp_path, size):
    width, parameters = SIZES[size]
    torch.save({"model": recipe_state(block_shapes(width), width)}, tmp_path / "checkpoint-99.pth")
    done = convert("ssast", tmp_path / "checkpoint-99.pth", tmp_path / "out.safetensors")  # heads by the width
    assert (done.config["heads"], done.parameters) == (width // 64, parameters)
    golden, close = arrays("ssast", f"recipe_{size}"), TOLERANCE["SSAST and Audio Mamba, published sizes"]
    for layout in LAYOUTS:
        model = ssast.load_model(str(tmp_path / "out.safetensors"), layout=layout, timestamps="official")
        for case, spec in {"a": (31, 20000, "mix"), "b": (32, 40000, "mix")}.items():
            steps, times = model.get_timestamp_embeddings(clips([spec]))
            assert float(times[0, -1]) == pytest.approx(float(golden[f"{case}/ts_last"]), abs=1e-3)
            assert largest_difference(steps[0].mean(0), golden[f"{case}/scene_{layout}"]) <= close
            if f"{case}/emb_{layout}_rows" in golden:
                rows = steps[0, [0, steps.shape[1] // 2, -1]]
                assert largest_difference(rows, golden[f"{case}/emb_{layout}_rows"]) <= close


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_layout_fails_the_place_of_bursts_and_nothing_else(converted, tmp_path, layout):
    report = validate("hear_models.ssast", model_path=str(as_if_ours(converted, layout, tmp_path)), length="quick")
    failed = {finding.check for finding in report.findings("error")}
    assert failed == ({"centres"} if layout == "official" else set())


def test_unknown_options_are_told_in_a_sentence():
    with pytest.raises(UsageError, match="layout='scrambled' is unknown"):
        ssast.Model(layout="scrambled")
    with pytest.raises(UsageError, match="no multiple of patch_bands"):
        ssast.Config(patch_bands=7)
    with pytest.raises(UsageError, match="heads do not divide"):
        ssast.Config(heads=5)
