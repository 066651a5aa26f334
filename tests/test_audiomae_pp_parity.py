"""Equal to the official code: .pth → convert → safetensors → load_model(path) → the HEAR functions, in both layouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_mamba_inputs import CASES, LAYOUTS, STEPS, as_if_ours, check_embeddings, clips
from audiomae_pp_inputs import (
    arrays,
    convert_mini,
    mini_state,
    official_shapes,
    recipe_state,
    variant_shapes,
)
from golden_inputs import TOLERANCE, largest_difference

from hear_models import audiomae_pp
from hear_models.errors import CheckpointError, UsageError
from hear_models.validation import validate
from hear_models.zoo.convert import convert

CLOSE = TOLERANCE["AudioMAE++"]


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    return convert_mini(tmp_path_factory.mktemp("converted"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES)
def test_hear_functions_give_what_the_official_code_gives(converted, case, layout):
    model = audiomae_pp.load_model(str(converted), layout=layout, timestamps="official")
    audio = clips(CASES[case])
    assert model.scene_embedding_size == model.timestamp_embedding_size == 160
    steps, times = audiomae_pp.get_timestamp_embeddings(audio, model)
    assert steps.shape[1] == STEPS[case]
    scenes = audiomae_pp.get_scene_embeddings(audio, model)
    check_embeddings(arrays("mini/hear"), case, layout, scenes, steps, times, CLOSE)


def test_silence_is_encoded_as_zeros(converted):
    for layout in LAYOUTS:
        model = audiomae_pp.load_model(str(converted), layout=layout)
        assert not model.features(torch.zeros(16_000)).any()
        scene = model.get_scene_embeddings(torch.zeros(1, 16_000))[0]
        assert largest_difference(scene, arrays("mini/hear")[f"zerolms101/scene_{layout}"]) <= CLOSE


def test_tokens_match_after_every_part(converted):
    model, golden = audiomae_pp.load_model(str(converted)), arrays("mini/intermediates")
    lms = model.features(clips(CASES["short"])[0])
    assert largest_difference(lms, golden["lms"][0, 0]) <= TOLERANCE["AudioMAE++, front end"]
    unit = torch.nn.functional.pad(torch.from_numpy(golden["lms"][0, 0]), (0, 0, 0, 200 - len(lms)))[None]
    seen: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        seen["patch_embed"] = model.patch_embed(model.grid.cut(unit))
        seen["tokens_in"] = x = model.embed(unit)
        for i, block in enumerate(model.blocks):
            half = block.ffn1(block.norm1(x))
            seen[f"after_ffn1_{i}"] = after = x + 0.5 * half
            attended = block.attn(block.norm2(after))
            seen[f"after_attn_{i}"] = after = after + attended
            if i == 0:
                y, last = block.norm2(after), block.ffn2
                gated = torch.nn.functional.silu(last.linear2(y)) * last.linear1(y)
                seen |= {"ffn1_0": half, "attn_0": attended, "gated_0": gated, "gated_norm_0": last.ln(gated)}
                seen["ffn2_0"] = last(y)
            seen[f"block_out{i}"] = x = block(x)
        assert seen.keys() == set(golden.files) - {"lms", "post_norm", "features_official"}
        for name, value in seen.items():
            assert largest_difference(value[0, ::5], golden[name]) <= CLOSE, name
        assert largest_difference(model.norm(x)[0], golden["post_norm"]) <= CLOSE
        assert largest_difference(model.encode(unit)[0], golden["features_official"]) <= CLOSE


VARIANTS = {
    "published": {},
    "no_class_token": {},
    "plain": {},
    "macaron_mlp": {},
    "encoder_only": {},
    "limited": {},
    "additive": {"additive_swiglu": True},
    "rope": {},
    "faint": {},
    "timestep_mask": {"masking_mode": "timestep"},
}
BLOCKS = {"plain": ("plain", "plain"), "macaron_mlp": ("macaron", "macaron"), "encoder_only": ("swiglu", "plain")}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_of_the_block_is_read_from_its_tensors(tmp_path, name):
    golden = {key.split("/", 1)[1]: value for key, value in arrays("variants").items() if key.startswith(f"{name}/")}
    shapes = variant_shapes(golden["keys"].tolist())
    torch.save({"model": recipe_state(shapes, (6, 2), faint=name == "faint")}, tmp_path / "checkpoint-99.pth")
    given = {"heads": 2, "decoder_heads": 3, "n_mels": 32, "mask_ratio": 0.5, **VARIANTS[name]}
    if name == "rope":  # whose frequencies tell the heads
        del given["heads"], given["decoder_heads"]
    done = convert("audiomae_pp", tmp_path / "checkpoint-99.pth", tmp_path / "out.safetensors", overrides=given)
    c = done.config
    assert (c["encoder_block"], c["decoder_block"]) == BLOCKS.get(name, ("swiglu", "swiglu"))
    assert (c["frames_per_unit"], c["class_token"]) == (24, name != "no_class_token")
    assert (c["encoder_rope"], c["limit_swiglu_features"]) == (name == "rope", name == "limited")

    model = audiomae_pp.load_model(str(tmp_path / "out.safetensors"), decoder=True)
    g = np.random.Generator(np.random.PCG64(91))
    image = torch.from_numpy(g.standard_normal((2, 1, 24, 32), dtype=np.float32))[:, 0]
    noise = torch.from_numpy(g.random((2, 12), dtype=np.float32))[:, : model.n_tokens]
    with torch.no_grad():
        assert largest_difference(model.encode(image), golden["features_official"]) <= CLOSE
        made = model.reconstruct(image, noise)
        assert np.array_equal(made.mask.numpy(), golden["mask"])
        assert largest_difference(made.pred, golden["pred"]) <= CLOSE
        assert float(made.loss) == pytest.approx(golden["loss"][0], abs=2e-6, rel=2e-6)
        normalised = audiomae_pp.Model(replace(model.config, norm_pix_loss=True), decoder=True)
        normalised.load_state_dict(model.state_dict())
        assert float(normalised.reconstruct(image, noise).loss) == pytest.approx(golden["loss"][1], rel=2e-6)


PUBLISHED = {
    "tiny": audiomae_pp.Config(width=192, heads=3),
    "base": audiomae_pp.Config(),
    "large": audiomae_pp.Config(width=1024, depth=24, heads=16, decoder_width=512),
}
PARAMETERS = {"tiny": 21_003_776, "base": 154_303_424, "large": 525_961_040}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_the_official_number_of_parameters(size):
    shapes = official_shapes(audiomae_pp.Model(PUBLISHED[size], seed=None, decoder=True))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == PARAMETERS[size]


FULL_SIZE = {"a": (31, 20_000, "mix"), "b": (32, 40_000, "mix")}


@pytest.mark.parametrize("size", ["tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in ("base", "large"))])
def test_published_sizes_match_with_recipe_weights(tmp_path, size):
    c = PUBLISHED[size]
    torch.save(
        {"model": recipe_state(official_shapes(audiomae_pp.Model(c, seed=None, decoder=True)))},
        tmp_path / "checkpoint-99.pth",
    )
    done = convert("audiomae_pp", tmp_path / "checkpoint-99.pth", tmp_path / "out.safetensors")  # heads by the width
    assert (done.config["heads"], done.config["decoder_heads"]) == (c.heads, 8)
    assert done.config["decoder_width"] == c.decoder_width
    golden, close = arrays(f"recipe_{size}"), TOLERANCE["AudioMAE++, published sizes"]
    for layout in LAYOUTS:
        model = audiomae_pp.load_model(str(tmp_path / "out.safetensors"), layout=layout, timestamps="official")
        for case in {key.split("/")[0] for key in golden.files} & FULL_SIZE.keys():
            steps, times = model.get_timestamp_embeddings(clips([FULL_SIZE[case]]))
            n = steps.shape[1]
            assert n == int(golden[f"{case}/T"])
            assert float(times[0, -1]) == pytest.approx(float(golden[f"{case}/ts_last"]), abs=1e-3)
            assert largest_difference(steps.mean(1), golden[f"{case}/scene_{layout}"].reshape(1, -1)) <= close
            if f"{case}/emb_{layout}_rows" in golden:
                rows = golden[f"{case}/emb_{layout}_rows"].reshape(1, 3, -1)
                assert largest_difference(steps[:, [0, n // 2, n - 1]], rows) <= close
    del model
    model = audiomae_pp.load_model(str(tmp_path / "out.safetensors"), decoder=True)
    g = np.random.Generator(np.random.PCG64(33))
    image = torch.from_numpy(g.standard_normal((1, 1, 200, 80), dtype=np.float32))[:, 0]
    noise = torch.from_numpy(g.random((1, 250), dtype=np.float32))
    with torch.no_grad():
        made = model.reconstruct(image, noise)
    assert largest_difference(made.pred[0, ::37, ::11], golden["pre/pred_every37_every11"]) <= close
    assert float(made.loss) == pytest.approx(float(golden["pre/loss"][0]), rel=1e-5)


def test_sizes_come_from_the_tensors_and_the_trainer(converted):
    c = audiomae_pp.load_model(str(converted), decoder=True).config
    assert (c.width, c.depth, c.heads, c.decoder_width, c.decoder_depth, c.decoder_heads) == (32, 2, 4, 16, 1, 2)
    assert (c.layout, c.mask_ratio, c.norm_pix_loss, c.n_mels, c.frames_per_unit) == ("official", 0.8, False, 80, 200)


def test_the_norm_that_nothing_uses_is_dropped_with_a_line(tmp_path):
    torch.save(mini_state(), tmp_path / "bare.pth")
    given = {"heads": 4, "decoder_heads": 2}
    done = convert("audiomae_pp", tmp_path / "bare.pth", tmp_path / "out.safetensors", overrides=given)
    assert "encoder.blocks.0.norm3.weight" in done.ignored
    encoder = {key: value for key, value in mini_state().items() if not key.startswith("decoder.")}
    torch.save({key: value for key, value in encoder.items() if "norm3" not in key}, tmp_path / "encoder.pth")
    convert("audiomae_pp", tmp_path / "encoder.pth", tmp_path / "encoder.safetensors", overrides={"heads": 4})
    audio = clips(CASES["short"])
    whole, alone = (audiomae_pp.load_model(str(tmp_path / f"{n}.safetensors")) for n in ("out", "encoder"))
    assert torch.equal(whole.get_scene_embeddings(audio), alone.get_scene_embeddings(audio))


def test_what_the_weights_do_not_tell_is_asked_for(tmp_path):
    torch.save(mini_state(), tmp_path / "bare.pth")
    for given, asked in (({"decoder_heads": 2}, "--set heads=N"), ({"heads": 4}, "--set decoder_heads=N")):
        with pytest.raises(CheckpointError, match=asked):
            convert("audiomae_pp", tmp_path / "bare.pth", tmp_path / "out.safetensors", overrides=given)
    for sizes, sentence in (
        ({"heads": 5}, "5 heads do not divide the width 768"),
        ({"decoder_heads": 7}, "7 decoder heads do not divide the width 384"),
        ({"encoder_block": "round"}, "encoder_block is 'round'"),
        ({"masking_mode": "all"}, "masking_mode is 'all'"),
        ({"mask_ratio": 1.0}, "mask_ratio is 1.0"),
    ):
        with pytest.raises(UsageError, match=sentence):
            audiomae_pp.Config(**sizes)


def test_a_configuration_that_is_silent_means_six_decoder_heads(tmp_path):
    """As the official factory, though every published configuration says 8."""
    import json

    model = audiomae_pp.Model(
        audiomae_pp.Config(width=24, heads=2, depth=1, decoder_width=24, decoder_depth=1), decoder=True
    )
    torch.save(recipe_state(official_shapes(model)), tmp_path / "bare.pth")
    said = {"model": {"model_args": {"img_size": [200, 80], "mask_ratio": 0.7}}, "opt": {"norm_pix_loss": True}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    done = convert(
        "audiomae_pp",
        tmp_path / "bare.pth",
        tmp_path / "out.safetensors",
        config=tmp_path / "config.json",
        overrides={"heads": 2},
    )
    assert (done.config["decoder_heads"], done.config["mask_ratio"], done.config["norm_pix_loss"]) == (6, 0.7, True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_official_layout_fails_the_place_of_bursts_and_nothing_else(converted, tmp_path, layout):
    path = as_if_ours(converted, layout, tmp_path)
    report = validate("hear_models.audiomae_pp", model_path=str(path), length="quick")
    failed = {finding.check for finding in report.findings("error")}
    assert failed == ({"centres"} if layout == "official" else set())


def test_random_weights_begin_as_the_official_ones():
    model = audiomae_pp.Model(audiomae_pp.Config(width=64, depth=1, heads=4, decoder_width=48), decoder=True)
    block, d = model.blocks[0], model.decoder
    for layer, fans in (
        (block.ffn1.layer1, 5 * 64),
        (block.attn.qkv, 4 * 64),
        (block.ffn2.linear2, 64 + 170),
        (d.embed, 64 + 48),
        (d.blocks[3].ffn2.project, 48 + 128),
    ):
        assert float(layer.weight.detach().abs().max()) == pytest.approx((6 / fans) ** 0.5, rel=0.03)
        assert not layer.bias.any()
    for norm in (block.norm1, block.norm2, block.ffn2.ln, model.norm, d.norm, d.blocks[0].ffn2.ln):
        assert torch.equal(norm.weight, torch.ones_like(norm.weight)) and not norm.bias.any()
    assert 0.01 < float(d.mask_token.detach().std()) < 0.03
    assert not d.pos_embed.requires_grad and not model.pos_embed.requires_grad
    official = recipe_state({"decoder.decoder_pos_embed": tuple(d.pos_embed.shape), "p_pos_embed": (1, 251, 64)})
    assert largest_difference(d.pos_embed, official["decoder.decoder_pos_embed"].numpy()) <= 3e-5
    assert largest_difference(model.pos_embed, official["p_pos_embed"].numpy()) <= 3e-5


def test_bfloat16_stays_close(converted):
    exact, rounded = (audiomae_pp.load_model(str(converted), dtype=dtype) for dtype in ("float32", "bfloat16"))
    ours, theirs = (model.get_timestamp_embeddings(clips(CASES["batch2"]))[0] for model in (rounded, exact))
    assert float((ours - theirs).norm() / theirs.norm()) < 0.03
