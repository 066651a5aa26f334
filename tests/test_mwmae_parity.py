"""Equal to the official code: Flax container → convert → safetensors → load_model(path) → the HEAR functions."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from flax_writer import pack, unflatten
from golden_inputs import GOLDEN, MWMAE_CASES, TOLERANCE, clip, clips, crop, largest_difference
from torch import Tensor

from hear_models import mae, mwmae
from hear_models.frontends.logmel import LogMel
from hear_models.layers.attention import MultiWindowAttention
from hear_models.layers.patches import random_masking, sincos_1d, sincos_2d
from hear_models.zoo.convert import convert

FOLDER = GOLDEN / "mwmae"
FAMILIES = {"mwmae": mwmae, "mae": mae}
MINIS = {"mwmae_mini": mwmae, "mae_mini": mae, "mwmae_bf16_mini": mwmae}


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> dict[str, Path]:
    """The official mini checkpoints, converted as a user converts them."""
    folder = tmp_path_factory.mktemp("converted")
    paths = {}
    for name, family in MINIS.items():
        paths[name] = folder / f"{name}.safetensors"
        convert(family.__name__.rpartition(".")[2], FOLDER / name, paths[name], overrides={"encoder_heads": 3})
    return paths


def cases(golden: str) -> list[tuple[str, str]]:
    with np.load(FOLDER / f"{golden}_hear.npz") as arrays:
        return [(golden, key.split("/")[0]) for key in arrays.files if key.endswith("/scene")]


@pytest.mark.parametrize("golden, case", cases("mwmae_mini") + cases("mae_mini") + cases("mwmae_bf16_mini_run_in_f32"))
def test_hear_functions_give_what_the_official_wrapper_gives(converted, golden, case):
    name = golden.removesuffix("_run_in_f32")
    family = MINIS[name]
    model = family.load_model(str(converted[name]), timestamps="official")
    audio = clips(MWMAE_CASES[case])
    scene = family.get_scene_embeddings(audio, model)
    embeddings, times = family.get_timestamp_embeddings(audio, model)
    with np.load(FOLDER / f"{golden}_hear.npz") as official:
        assert tuple(official[f"{case}/ts_shape"]) == tuple(embeddings.shape)
        assert largest_difference(times, official[f"{case}/timestamps_ms"]) <= TOLERANCE["milliseconds"]
        if (
            case == "silence"
        ):  # the official value is rounding noise (docs/quirks.md); ours is finite and the same everywhere
            assert torch.isfinite(scene).all() and torch.isfinite(embeddings).all()
            return
        assert largest_difference(scene, official[f"{case}/scene"]) <= TOLERANCE["embedding"]
        assert largest_difference(embeddings, official[f"{case}/timestamp_embeddings"]) <= TOLERANCE["embedding"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", [case for _, case in cases("mwmae_bf16_mini")])
def test_bfloat16_of_the_published_runs_is_met_within_its_noise(converted, case, dtype):
    model = mwmae.load_model(str(converted["mwmae_bf16_mini"]), timestamps="official", dtype=dtype)
    embeddings, _ = mwmae.get_timestamp_embeddings(clips(MWMAE_CASES[case]), model)
    assert embeddings.dtype == torch.float32
    with np.load(FOLDER / "mwmae_bf16_mini_hear.npz") as official:
        theirs = official[f"{case}/timestamp_embeddings"]
    cosine = torch.nn.functional.cosine_similarity(embeddings.flatten(), torch.from_numpy(theirs).flatten(), dim=0)
    assert cosine > 0.9999
    assert largest_difference(embeddings, theirs) < TOLERANCE["embedding, official bfloat16"]


@pytest.mark.parametrize("name", ["mwmae_mini", "mae_mini"])
def test_features_and_every_layer_match_on_the_first_unit(converted, name):
    model = MINIS[name].load_model(str(converted[name]))
    audio = clips(MWMAE_CASES["short_51f"])
    with np.load(FOLDER / f"{name}_hear.npz") as official, torch.inference_mode():
        features = model.features(audio[0])
        assert largest_difference(features[None], official["short_51f/logmel"]) <= TOLERANCE["log-mel"]
        units = torch.stack(list(model.units(audio[0], model.plan(audio.shape[1], "scene"))))
        tokens = model.embed(units)
        outputs = model.through_blocks(tokens)
        class_rows = int(model.config.class_token)
        before_position = tokens[:, class_rows:] - model.pos_embed[:, class_rows:]
        assert largest_difference(before_position, official["layers/patch_embed"]) <= TOLERANCE["embedding"]
        first = outputs[0][:, ::5]
        assert largest_difference(first, official["layers/encoder_block_00"]) <= TOLERANCE["embedding"]
        assert largest_difference(outputs[-1], official["layers/encoder_norm"]) <= TOLERANCE["embedding"]


def test_hidden_states_end_with_the_timestamp_embeddings(converted):
    model = mae.load_model(str(converted["mae_mini"]), timestamps="official")
    audio = clips(MWMAE_CASES["batch2"])
    states = model.hidden_states(audio)
    embeddings, _ = model.get_timestamp_embeddings(audio)
    assert states.shape == (2, *embeddings.shape)
    torch.testing.assert_close(states[-1], embeddings)
    assert not torch.allclose(states[0], states[1])


# ------------------------------------------------------------------ published sizes, with weights from their names

TAGS = {
    "mwmae_base_4x16": {"decoder": True, "slow": False},
    "mae_base_4x16": {"decoder": True, "slow": False},
    **{f"mwmae_tiny_{patch}": {"decoder": True, "slow": False} for patch in ("8x16", "8x8", "4x8", "5x5")},
    **{f"mwmae_{size}_4x16": {"decoder": False, "slow": False} for size in ("tiny", "small", "medium")},
    **{f"mwmae_{size}_4x16": {"decoder": False, "slow": True} for size in ("large", "huge")},
}
tags = pytest.mark.parametrize(
    "tag", [pytest.param(tag, marks=pytest.mark.slow if about["slow"] else ()) for tag, about in TAGS.items()]
)


def config_of(tag: str) -> mwmae.Config:
    family, size, patch = tag.split("_")
    width, depth, heads = mwmae.ENCODER_SIZES[size]
    frames, bands = map(int, patch.split("x"))
    sizes = {"encoder_width": width, "encoder_depth": depth, "encoder_heads": heads}
    sizes |= {"patch_frames": frames, "patch_bands": bands}
    if family == "mae":
        return mae.Config(**sizes)
    return mwmae.Config(**sizes, decoder_windows=mwmae.window_rule((200 // frames) * (80 // bands)))


def recipe_parameters(c: mwmae.Config, decoder: bool) -> dict[str, np.ndarray]:
    """Official names with weights that follow from the name alone (rule of the golden README)."""
    shapes: dict[str, tuple[int, ...]] = {}

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}/kernel"], shapes[f"{name}/bias"] = (inputs, outputs), (outputs,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}/scale"], shapes[f"{name}/bias"] = (width,), (width,)

    def block(name: str, width: int, qkv: str, proj: str) -> None:
        norm(f"{name}/LayerNorm_0", width)
        norm(f"{name}/LayerNorm_1", width)
        dense(f"{name}/{qkv}", width, 3 * width)
        dense(f"{name}/{proj}", width, width)
        dense(f"{name}/Mlp_0/Dense_0", width, 4 * width)
        dense(f"{name}/Mlp_0/Dense_1", 4 * width, width)

    d, e, rows = c.encoder_width, c.decoder_width, c.tokens + c.class_token
    shapes["patch_embed/proj/kernel"], shapes["patch_embed/proj/bias"] = (c.patch_frames, c.patch_bands, 1, d), (d,)
    shapes["pos_embed"] = (1, rows, d)
    if c.class_token:
        shapes["cls_token"] = (1, 1, d)
    for i in range(c.encoder_depth):
        block(f"encoder_block_{i:02}", d, "Attention_0/Dense_0", "Attention_0/Dense_1")
    norm("encoder_norm", d)
    if decoder:
        dense("decoder_embed", d, e)
        shapes["mask_token"], shapes["decoder_pos_embed"] = (1, 1, e), (1, rows, e)
        for i in range(c.decoder_depth):
            name = f"decoder_block_{i:02}"
            if c.class_token:
                block(name, e, "Attention_0/Dense_0", "Attention_0/Dense_1")
            else:
                block(name, e, "wmha_block/qkv", "wmha_block/proj")
                for h, w in enumerate(c.decoder_windows):
                    if w:
                        shapes[f"{name}/wmha_block/attn_heads_{h}/relative_position_bias_table"] = (2 * w - 1, 1)
        norm("decoder_norm", e)
        dense("decoder_pred", e, c.patch_frames * c.patch_bands)

    arrays = {}
    for key, shape in shapes.items():
        t = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            t *= np.float32(1 / np.sqrt(np.prod(shape[:-1])))
        else:
            t = 1 + np.float32(0.1) * t if key.endswith("scale") else np.float32(0.02) * t
        arrays[f"params/{key}"] = t
    return arrays


def load_recipe(tag: str, folder: Path, **options) -> mwmae.Model:
    """The published size under `tag`, through an official container of its own."""
    c, family = config_of(tag), tag.split("_")[0]
    (folder / "checkpoint_1").write_bytes(pack(unflatten(recipe_parameters(c, TAGS[tag]["decoder"]))))
    heads = {"decoder_windows": list(c.decoder_windows)} if TAGS[tag]["decoder"] else {}
    convert(family, folder / "checkpoint_1", folder / "converted.safetensors", overrides=heads)
    (folder / "checkpoint_1").unlink()
    return FAMILIES[family].load_model(str(folder / "converted.safetensors"), timestamps="official", **options)


@tags
def test_published_sizes_match_with_recipe_weights(tag, tmp_path):
    model = load_recipe(tag, tmp_path, decoder=TAGS[tag]["decoder"])
    base = "base" in tag
    audio = torch.from_numpy(clip(101, 48001, "mix") if base else clip(103, 20000, "mix"))[None]
    embeddings, times = model.get_timestamp_embeddings(audio)
    scene = model.get_scene_embeddings(audio)
    middle = embeddings.shape[1] // 2
    with np.load(FOLDER / "recipe_outputs.npz") as official:
        assert tuple(official[f"{tag}/shape"]) == tuple(embeddings.shape)
        assert largest_difference(scene[0, :: 1 if base else 5], official[f"{tag}/scene"]) <= TOLERANCE["embedding"]
        some = embeddings[0, [0, middle, -1], ::5]
        theirs = official[f"{tag}/timestamps_first_middle_last_every5"]
        assert largest_difference(some, theirs) <= TOLERANCE["embedding"]
        assert abs(float(times[0, -1]) - float(official[f"{tag}/ts_last_ms"][0])) <= TOLERANCE["milliseconds"]
        if tag == "mwmae_base_4x16":
            noisy = official["mwmae_base_4x16_bf16/scene"]
            assert largest_difference(scene[0], noisy) < TOLERANCE["embedding, official bfloat16, base"]
        if TAGS[tag]["decoder"]:
            seed = 102 if base else 104
            noise = np.random.Generator(np.random.PCG64(seed)).random((1, model.config.tokens), dtype=np.float32)
            with torch.no_grad():
                result = mwmae.reconstruct(model, crop(seed, 1), torch.from_numpy(noise))
            theirs = official[f"pretrain/{tag}/pred_every37_every11"]
            assert largest_difference(result.pred[0, ::37, ::11], theirs) <= TOLERANCE["embedding"]
            assert abs(float(result.loss) - official[f"pretrain/{tag}/loss"][0]) <= TOLERANCE["loss"]


def test_window_rule_gives_the_windows_of_every_published_patch_size():
    assert mwmae.window_rule(250) == (2, 5, 10, 25, 50, 125, 0, 0)
    assert mwmae.window_rule(125) == (5, 25, 0, 0)
    assert mwmae.window_rule(500) == (2, 4, 5, 10, 20, 25, 50, 100, 125, 250, 0, 0)
    assert mwmae.window_rule(640) == (2, 4, 5, 8, 10, 16, 20, 32, 40, 64, 80, 128, 160, 320, 0, 0)


# ------------------------------------------------------------------ the parts alone


def test_front_end_matches():
    front_end = LogMel()
    with np.load(FOLDER / "frontend.npz") as official:
        assert largest_difference(front_end.mel_filters, official["mel_fb"]) <= TOLERANCE["mel filters"]
        assert largest_difference(front_end.window, official["hann"]) <= TOLERANCE["mel filters"]
        for case, audio in (("mix_6000", clip(11, 6000, "mix")), ("loud_4001", clip(12, 4001, "loud"))):
            np.testing.assert_array_equal(audio[:16], official[f"{case}/audio_head"])
            log_mel = front_end(torch.from_numpy(audio)[None])[0]
            assert largest_difference(log_mel.T, official[f"{case}/logmel_raw"]) <= TOLERANCE["log-mel"]
            normal = mwmae.Model(small(), seed=0).features(torch.from_numpy(audio))
            assert largest_difference(normal, official[f"{case}/normalised_TF"]) <= TOLERANCE["log-mel"]
        silence = front_end(torch.zeros(1, 3200))[0]
        assert largest_difference(silence.T, official["silence_3200/logmel_raw"]) <= TOLERANCE["log-mel"]


@pytest.mark.parametrize("case, ratio", [("f32_250", 0.8), ("bf16_250", 0.8), ("f32_125", 0.8), ("f32_640_r075", 0.75)])
def test_masking_keeps_the_same_patches_even_with_ties(case, ratio):
    with np.load(FOLDER / "masking_windows_pos.npz") as official:
        noise = torch.from_numpy(official[f"{case}/noise"].astype(np.float32))
        kept, mask, restore = random_masking(noise, ratio)
        np.testing.assert_array_equal(kept, official[f"{case}/kept_index"])
        np.testing.assert_array_equal(mask, official[f"{case}/mask"])
        np.testing.assert_array_equal(restore, official[f"{case}/ids_restore"])


def test_position_tables_match():
    with np.load(FOLDER / "masking_windows_pos.npz") as official:
        encoder = torch.cat([torch.zeros(1, 24), sincos_2d(24, 50, 5)])
        assert largest_difference(encoder, official["pos2d_24_grid50x5"]) <= TOLERANCE["position table"]
        decoder = sincos_1d(16, torch.arange(250))
        assert largest_difference(decoder, official["pos1d_16_250"]) <= TOLERANCE["position table"]


@pytest.mark.parametrize("case", ["wmha", "wmha_shift"])
def test_multi_window_attention_matches(case):
    attention = MultiWindowAttention(12, (2, 5, 0), shift=case == "wmha_shift")
    with np.load(FOLDER / "masking_windows_pos.npz") as official:
        given = {
            key.removeprefix(f"{case}/param/"): official[key] for key in official.files if key.startswith(f"{case}/")
        }
    state = {}
    for part in ("qkv", "proj"):
        state[f"{part}.weight"] = torch.from_numpy(given[f"{part}/kernel"].T.copy())
        state[f"{part}.bias"] = torch.from_numpy(given[f"{part}/bias"])
    for head in (0, 1):
        state[f"bias_tables.{head}"] = torch.from_numpy(given[f"attn_heads_{head}/relative_position_bias_table"])
    attention.load_state_dict(state)
    out: Tensor = attention(torch.from_numpy(given[f"{case}/x"]))
    assert largest_difference(out, given[f"{case}/y"]) <= TOLERANCE["attention"]


def small() -> mwmae.Config:
    return mwmae.Config(encoder_width=24, encoder_depth=2, encoder_heads=3, decoder_width=16, decoder_depth=2)
