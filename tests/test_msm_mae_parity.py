"""Equal to both official runtimes: .pth → convert → safetensors → load_model(path) → the HEAR functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_inputs import TOLERANCE
from msm_mae_inputs import CASES, FOLDER, M2D, M2D_CASES, MINIS, apart, clip, clips, convert_mini, recipe_array
from torch import Tensor

from hear_models import msm_mae
from hear_models.layers.patches import cut_patches_by_band
from hear_models.zoo.convert import convert

CLOSE = TOLERANCE["MSM-MAE"]
EMBEDDINGS = np.load(FOLDER / "embeddings_mini.npz")
M2D_GOLDEN = np.load(FOLDER / "m2d_repo.npz")
TOKENS = np.load(FOLDER / "tokens_mini.npz")


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("converted")
    return {name: convert_mini(name, folder) for name in (*MINIS.values(), M2D, f"{M2D}_enconly")}


def load(path: Path, **options) -> msm_mae.Model:
    return msm_mae.load_model(str(path), **{"timestamps": "official", **options})


# ------------------------------------------------------------------ the msm-mae repository


@pytest.mark.parametrize("case", [case for case in CASES if case != "a_silence"])
def test_hear_functions_give_what_the_official_wrapper_gives(converted, case):
    path, audio = converted[CASES[case]["checkpoint"]], clips(CASES[case])
    model = load(path, normalize="official")
    assert model.batch_dependent
    embeddings, times = msm_mae.get_timestamp_embeddings(audio, model)
    assert apart(embeddings, EMBEDDINGS[f"{case}.embeddings"]) <= CLOSE
    assert apart(times, EMBEDDINGS[f"{case}.timestamps_official"]) <= 1e-6
    assert apart(msm_mae.get_scene_embeddings(audio, model), EMBEDDINGS[f"{case}.scene"]) <= CLOSE
    statistics = model.statistics(audio)
    ours = np.array([float(statistics.mean), float(statistics.std(1))])
    assert apart(ours, EMBEDDINGS[f"{case}.batch_mean_std"]) <= CLOSE


@pytest.mark.parametrize("case", CASES)
def test_fixed_statistics_give_what_the_official_network_gives(converted, case):
    model = load(converted[CASES[case]["checkpoint"]], normalize="fixed", statistics=(-7.1, 4.2))
    assert not model.batch_dependent
    assert apart(model.get_scene_embeddings(clips(CASES[case])), EMBEDDINGS[f"{case}.scene_fixed_stats"]) <= CLOSE
    asked = load(converted[CASES[case]["checkpoint"]], normalize="dataset", statistics=[-7.1, 4.2])
    assert torch.equal(model.get_scene_embeddings(clips(CASES[case])), asked.get_scene_embeddings(clips(CASES[case])))


@pytest.mark.parametrize("case", [case for case in CASES if len(CASES[case]["clips"]) == 1 and case != "a_silence"])
def test_default_is_the_official_embedding_of_a_clip_that_comes_alone(converted, case):
    model = load(converted[CASES[case]["checkpoint"]])
    embeddings, _ = model.get_timestamp_embeddings(clips(CASES[case]))
    assert apart(embeddings, EMBEDDINGS[f"{case}.embeddings"]) <= CLOSE


def test_default_gives_both_clips_of_a_batch_as_if_alone_where_the_official_one_does_not(converted):
    audio, path = clips(CASES["a_batch2"]), converted[MINIS["a"]]
    scenes = load(path).get_scene_embeddings(audio)
    for row, which in enumerate(("first", "second")):
        alone = EMBEDDINGS[f"a_batch2_{which}_alone.scene"]
        assert apart(scenes[row : row + 1], alone) <= CLOSE
        assert apart(scenes[row : row + 1], EMBEDDINGS["a_batch2.scene"][row : row + 1]) > 0.1


def test_silence_is_encoded_as_zeros(converted):
    audio = clips(CASES["a_silence"])
    for normalize in ("clip", "official"):
        model = load(converted[MINIS["a"]], normalize=normalize)
        embeddings, times = model.get_timestamp_embeddings(audio)
        assert apart(embeddings, EMBEDDINGS["a_silence.embeddings_of_zero_input"]) <= CLOSE
        assert apart(times, EMBEDDINGS["a_silence.timestamps_official"]) <= 1e-6


def test_hidden_states_match_layer_by_layer(converted):
    audio = clips(CASES["a_multi_tail"])
    states = load(converted[MINIS["a"]]).hidden_states(audio)
    assert apart(states, EMBEDDINGS["a_multi_tail.layers"]) <= CLOSE


# ------------------------------------------------------------------ the M2D repository


@pytest.mark.parametrize("case", M2D_CASES)
def test_m2d_runtime_is_met_in_its_own_layout(converted, case):
    audio = clips(M2D_CASES[case])
    model = load(converted[M2D])  # fixed statistics and trimmed tails by the checkpoint's layout
    embeddings, times = model.get_timestamp_embeddings(audio)
    assert apart(embeddings, M2D_GOLDEN[f"{case}.embeddings"]) <= CLOSE
    assert apart(times, M2D_GOLDEN[f"{case}.timestamps_official"]) <= 1e-6
    assert apart(model.get_scene_embeddings(audio), M2D_GOLDEN[f"{case}.scene"]) <= CLOSE
    encoder = load(converted[f"{M2D}_enconly"])  # with norm_stats of its own
    assert (encoder.normalise.mean, encoder.normalise.std) == (-6.25, 3.75)
    assert apart(encoder.get_scene_embeddings(audio), M2D_GOLDEN[f"{case}.enconly_scene"]) <= CLOSE


@pytest.mark.parametrize("case", ["short", "multi_tail"])
def test_flat_features_are_means_over_bands(converted, case):
    audio, model = clips(M2D_CASES[case]), load(converted[M2D], flat_features=True)
    assert model.scene_embedding_size == model.timestamp_embedding_size == 24
    assert apart(model.get_timestamp_embeddings(audio)[0], M2D_GOLDEN[f"{case}.flat_time_mean"]) <= CLOSE
    assert apart(model.get_scene_embeddings(audio), M2D_GOLDEN[f"{case}.flat_scene"]) <= CLOSE


def test_m2d_hidden_states_match_over_unequal_units(converted):
    states = load(converted[M2D]).hidden_states(clips(M2D_CASES["multi_tail"]))
    assert apart(states, M2D_GOLDEN["multi_tail.layers"]) <= CLOSE


@pytest.mark.parametrize("dur_frames, frames", [(96, 96), (656, 640)])
def test_position_table_is_trimmed_or_stretched_for_other_units(converted, dur_frames, frames):
    model = load(converted[M2D], dur_frames=dur_frames)
    features = model.features(clips(M2D_CASES["multi_tail"])[0])[:frames]
    with torch.inference_mode():
        assert apart(model.encode(features[None]), M2D_GOLDEN[f"dur{dur_frames}.encode_lms"]) <= CLOSE
        sums = model.positions(dur_frames // 16).double().sum(dim=1)
    assert apart(sums, M2D_GOLDEN[f"dur{dur_frames}.pos_embed_row_sums"][0, 1:]) <= CLOSE


def test_one_long_unit_drops_the_frames_behind_the_last_whole_patch(converted):
    model, audio = load(converted[M2D], dur_frames=656), clips(M2D_CASES["multi_tail"])  # 651 frames
    embeddings, _ = model.get_timestamp_embeddings(audio)
    assert apart(embeddings, M2D_GOLDEN["dur656.encode_lms"]) <= CLOSE
    assert model.get_timestamp_embeddings(audio[:, :201])[0].shape == (1, 1, 120)


# ------------------------------------------------------------------ inside the network


@pytest.mark.parametrize("which", MINIS)
def test_tokens_match_after_every_part(converted, which):
    model = load(converted[MINIS[which]], decoder=True)
    c, first = model.config, int(model.config.class_token)
    units = torch.from_numpy(TOKENS[f"{which}.input"])[:, 0].transpose(1, 2)
    with torch.inference_mode():
        patches = cut_patches_by_band(units, c.patch_frames, c.patch_bands)
        assert apart(model.patch_embed(patches)[:1], TOKENS[f"{which}.patch_embed"]) <= CLOSE
        tokens, block = model.embed(units), model.blocks[0]
        assert apart(tokens[:1], TOKENS[f"{which}.block0_input"]) <= CLOSE
        attention = block.attn(block.norm1(tokens))
        assert apart(attention[:1], TOKENS[f"{which}.block0_attention_output"]) <= CLOSE
        between = tokens + attention
        mlp = block.mlp(block.norm2(between), residual=torch.zeros_like(between))
        assert apart(mlp[:1], TOKENS[f"{which}.block0_mlp_output"]) <= CLOSE
        assert apart(block(tokens)[:1], TOKENS[f"{which}.block0_output"]) <= CLOSE
        encoded = model.through_blocks(tokens)[-1]
        assert apart(encoded, TOKENS[f"{which}.final"]) <= CLOSE
        if first:  # the decoder on all tokens, nothing masked
            order = torch.arange(c.tokens)[None]
            pixels = model.decoder(encoded[:1], order).unflatten(1, c.grid).unflatten(3, (c.patch_bands, -1))
            image = pixels.permute(0, 1, 3, 2, 4).reshape(1, 1, c.n_mels, c.frames_per_unit)
            assert apart(image, TOKENS[f"{which}.decoded_lms_no_mask"]) <= CLOSE


@pytest.mark.parametrize("which", MINIS)
def test_small_inputs_show_the_eps_of_every_norm(converted, which):
    """Of variance 1e-6: an eps of 1e-5 instead of 1e-6 moves these outputs by tens of percent."""
    model = load(converted[MINIS[which]], decoder=True)
    small, small_decoder = (torch.from_numpy(TOKENS[f"{which}.small_{x}input"]) for x in ("", "decoder_"))
    with torch.inference_mode():
        assert apart(model.blocks[0](small), TOKENS[f"{which}.small_input_block0_output"]) <= CLOSE
        assert apart(model.norm(small), TOKENS[f"{which}.small_input_final_norm"]) <= CLOSE
        assert apart(model.decoder.norm(small_decoder), TOKENS[f"{which}.small_decoder_input_norm"]) <= CLOSE
        block = model.decoder.blocks[0](small_decoder)
        assert apart(block, TOKENS[f"{which}.small_decoder_input_block0_output"]) <= CLOSE


def test_front_end_matches():
    frontend = msm_mae.Model(seed=None).frontend
    with np.load(FOLDER / "frontend.npz") as official:
        filters = frontend.mel_filters.T.numpy()
        assert apart(filters[official["mel_rows_index"]], official["mel_rows"]) <= 1e-7
        assert apart(filters[:, official["mel_cols_index"]], official["mel_cols"]) <= 1e-7
        assert apart(filters.sum(axis=1, dtype=np.float64), official["mel_row_sums"]) <= 1e-7
        assert apart(filters.sum(axis=0, dtype=np.float64), official["mel_col_sums"]) <= 1e-7
        np.testing.assert_array_equal(filters.argmax(axis=1), official["mel_argmax"])
        np.testing.assert_array_equal((filters > 0).sum(axis=1), official["mel_nonzeros_per_row"])
        assert apart(frontend.window, official["window"]) <= 2e-7  # torch's is rounded differently
        impulses = np.zeros(3200, np.float32)
        impulses[[1, 1600]] = 0.5, 1.0
        sounds = {
            "mix": clip(101, 8000, "mix"),
            "clip": clip(102, 7999, "clip"),
            "tiny": clip(103, 201, "mix"),
            "silence": np.zeros(1600, np.float32),
            "impulses": impulses,
        }
        for name, audio in sounds.items():
            if f"{name}.audio_head" in official:
                np.testing.assert_array_equal(audio[:400], official[f"{name}.audio_head"])
            log_mel = frontend(torch.from_numpy(audio)[None])
            assert apart(log_mel.transpose(1, 2), official[f"{name}.lms"]) <= CLOSE, name


def test_32_khz_front_end_keeps_the_frame_rate_and_covers_16_khz():
    model = msm_mae.Model(msm_mae.Config(sample_rate=32_000, frames_per_unit=208), seed=None)
    assert (model.frontend.window_samples, model.frontend.hop_samples, model.min_samples) == (800, 320, 401)
    assert 15_000 < float(model.frontend.band_hz[-1]) < 16_000
    assert model.plan(32_000, "timestamps").times_ms[1] == pytest.approx(235.0)


@pytest.mark.parametrize("bands, frames", [(5, 13), (5, 32), (5, 38)])
def test_encoder_position_tables_match(bands, frames):
    ours = msm_mae.encoder_positions(msm_mae.Config(frames_per_unit=16 * frames))
    with np.load(FOLDER / "position_tables.npz") as official:
        name = f"grid{bands}x{frames}_dim768_cls1"
        rows = torch.cat([torch.zeros(1, 768), ours])[official[f"{name}.rows_index"]]
        assert apart(rows, official[f"{name}.rows"]) <= TOLERANCE["MSM-MAE, position table"]
        assert float(ours.double().sum()) == pytest.approx(float(official[f"{name}.sum"]), rel=1e-6)


@pytest.mark.parametrize("tokens, width, first", [(65, 384, 1), (60, 16, 0)])
def test_decoder_position_tables_match(tokens, width, first):
    geometry = {65: {"frames_per_unit": 208}, 60: {"frames_per_unit": 96, "patch_frames": 8}}[tokens]
    ours = msm_mae.decoder_positions(msm_mae.Config(decoder_width=width, decoder_heads=2, **geometry), "1d")
    with np.load(FOLDER / "position_tables.npz") as official:
        name = f"decoder1d_{tokens}_dim{width}_cls{first}"
        rows = torch.cat([torch.zeros(first, width), ours])[official[f"{name}.rows_index"]]
        assert apart(rows, official[f"{name}.rows"]) <= TOLERANCE["MSM-MAE, position table"]
        assert float(ours.double().sum()) == pytest.approx(float(official[f"{name}.sum"]), rel=1e-6)


def test_base_network_has_the_published_number_of_parameters():
    """Counted in the authors' networks; ours has key biases besides, of which the official code has no parameter."""
    model = msm_mae.Model(msm_mae.Config(frames_per_unit=208), seed=None, decoder=True)
    key_biases = 12 * 768 + 4 * 384
    sizes = {name: (p.numel(), p.requires_grad) for name, p in model.named_parameters()}
    assert sum(size for size, _ in sizes.values()) - key_biases == 92_812_288
    assert sum(size for size, trained in sizes.values() if trained) - key_biases == 92_736_256
    encoder = [size for name, (size, _) in sizes.items() if not name.startswith("decoder.") and name != "pos_embed"]
    assert sum(encoder) - 12 * 768 == 85_244_928


def test_random_weights_are_drawn_as_the_official_training_draws_them():
    """Section 5: Xavier-uniform matrices, the patch convolution on its flat view, tokens of deviation 0.02."""
    model = msm_mae.Model(msm_mae.Config(depth=1, decoder_depth=1, frames_per_unit=208), decoder=True)
    for weight, inside, out in (
        (model.patch_embed.weight, 256, 768),
        (model.blocks[0].attn.qkv.weight, 768, 3 * 768),
        (model.decoder.pred.weight, 384, 256),
    ):
        assert float(weight.detach().abs().max()) == pytest.approx((6 / (inside + out)) ** 0.5, rel=1e-3)
    assert float(model.patch_embed.bias.detach().abs().max()) == pytest.approx(1 / 16, rel=0.02)
    assert float(model.cls_token.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(model.decoder.mask_token.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert not model.blocks[0].attn.qkv.bias.any() and (model.norm.weight == 1).all()
    assert not model.pos_embed[0, 0].any() and not model.decoder.pos_embed[0, 0].any()


# ------------------------------------------------------------------ published sizes, with weights from their names


def recipe_state(frames: int, patch: tuple[int, int], m2d: bool) -> dict[str, Tensor]:
    """The encoder's official state dict; position tables by their formula."""
    width, bands = 768, 80 // patch[0]
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, width), "patch_embed.proj.bias": (width,)}
    shapes["patch_embed.proj.weight"] = (width, 1, *patch)
    for i in range(12):
        at = f"blocks.{i}"
        for norm in ("norm1", "norm2"):
            shapes[f"{at}.{norm}.weight"] = shapes[f"{at}.{norm}.bias"] = (width,)
        shapes[f"{at}.attn.qkv.weight"] = (3 * width, width)
        if m2d:
            shapes[f"{at}.attn.qkv.bias"] = (3 * width,)
        else:
            shapes[f"{at}.attn.q_bias"] = shapes[f"{at}.attn.v_bias"] = (width,)
        for name, out, inside in (("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            shapes[f"{at}.{name}.weight"] = (out * width, inside * width)
            shapes[f"{at}.{name}.bias"] = (out * width,)
    shapes["norm.weight"] = shapes["norm.bias"] = (width,)
    config = msm_mae.Config(frames_per_unit=frames, patch_bands=patch[0], patch_frames=patch[1])
    assert config.grid[0] == bands
    table = torch.cat([torch.zeros(1, width), msm_mae.encoder_positions(config)])[None]
    return {"pos_embed": table, **{key: recipe_array(key, shape) for key, shape in shapes.items()}}


@pytest.mark.parametrize(
    "folder, frames, patch, cases",
    [
        ("80x208p16x16_recipe", 208, (16, 16), ("case0", "case1")),
        ("80x208p80x4_recipe", 208, (80, 4), ("case0",)),
        pytest.param("80x512p16x16_recipe", 512, (16, 16), ("case0", "case1"), marks=pytest.mark.slow),
        pytest.param("msm_mae_vit_base-80x608p16x16-recipe", 608, (16, 16), (None,), marks=pytest.mark.slow),
    ],
)
def test_published_sizes_match_with_recipe_weights(tmp_path, folder, frames, patch, cases):
    m2d = cases == (None,)
    (tmp_path / folder).mkdir()
    file = tmp_path / folder / "checkpoint-100.pth"
    torch.save({"model": recipe_state(frames, patch, m2d)}, file)
    convert("msm_mae", file, tmp_path / "out.safetensors", accept_licence=True)  # 12 heads of 64, by the rule
    file.unlink()
    model = load(tmp_path / "out.safetensors", **({} if m2d else {"normalize": "official"}))
    assert (model.config.frames_per_unit, model.config.heads) == (frames, 12)
    golden = M2D_GOLDEN if m2d else np.load(FOLDER / "recipe_full.npz")
    for case in cases:
        name = f"{folder}.{case}" if case else "recipe_full"
        specs = [spec.split(",") for spec in golden[f"{name}.clips"]]
        audio = torch.from_numpy(np.stack([clip(int(seed), int(n), kind) for seed, n, kind in specs]))
        embeddings, times = model.get_timestamp_embeddings(audio)
        assert embeddings.shape[1] == golden[f"{name}.steps"]
        some = embeddings[:, golden[f"{name}.step_index"]]
        assert apart(some, golden[f"{name}.embeddings_at_steps"]) <= TOLERANCE["MSM-MAE, base sizes"]
        assert apart(embeddings.mean(dim=1), golden[f"{name}.scene"]) <= TOLERANCE["MSM-MAE, base sizes"]
        assert apart(times, golden[f"{name}.timestamps_official"]) <= 1e-6
