"""Official checkpoints become ours tensor by tensor; what does not fit is an error that names the key or the flag."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from flax_writer import pack, unflatten
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models import mae, mwmae
from hear_models.checkpoints.flax_msgpack import read_flax
from hear_models.checkpoints.mapping import Rule, Shapes, SourceArray, apply_rules, check_shapes
from hear_models.checkpoints.safetensors_file import read_checkpoint
from hear_models.errors import CheckpointError, HearModelsError, UsageError
from hear_models.zoo.convert import convert

GOLDEN = Path(__file__).parent.parent / "golden" / "mwmae"
MINIS = {"mwmae_mini": "mwmae", "mwmae_bf16_mini": "mwmae", "mae_mini": "mae"}
HEADS = {"encoder_heads": 3}  # the minis are narrower than any published size


def official_params(mini: str) -> dict[str, np.ndarray]:
    entries = read_flax(next((GOLDEN / mini).glob("checkpoint_*")), only=("params",)).entries
    return {path: entry.value for path, entry in entries.items()}


@pytest.fixture
def altered(tmp_path):
    """(mini, change) → a folder with that checkpoint, its parameters changed, beside the trainer's config.json."""

    def make(mini: str, change=lambda params: None, config=lambda content: None) -> Path:
        params = official_params(mini)
        change(params)
        (tmp_path / "checkpoint_5").write_bytes(pack(unflatten(params)))
        content = json.loads((GOLDEN / mini / "config.json").read_text())
        config(content)
        (tmp_path / "config.json").write_text(json.dumps(content))
        return tmp_path

    return make


def refused(source, family="mwmae", *, match, overrides=HEADS, error=CheckpointError, **options) -> None:
    output = Path(source) / "out.safetensors" if Path(source).is_dir() else Path(source).parent / "out.safetensors"
    with pytest.raises(error, match=match):
        convert(family, source, output, overrides=overrides, **options)
    assert not output.exists()


@pytest.mark.parametrize("mini", MINIS)
def test_every_tensor_arrives_in_our_layout(mini, tmp_path):
    done = convert(MINIS[mini], GOLDEN / mini, tmp_path / "m.safetensors", overrides=HEADS)
    ours = read_checkpoint(tmp_path / "m.safetensors", parts=("encoder", "decoder")).tensors
    official = official_params(mini)
    assert len(ours) == len(official) == len(done.rows)
    width = done.config["encoder_width"]
    for ours_name, theirs, change in [
        ("blocks.0.attn.qkv.weight", "encoder_block_00/Attention_0/Dense_0/kernel", lambda a: a.T),
        ("blocks.0.norm2.weight", "encoder_block_00/LayerNorm_1/scale", lambda a: a),
        ("blocks.0.mlp.fc2.weight", "encoder_block_00/Mlp_0/Dense_1/kernel", lambda a: a.T),
        ("pos_embed", "pos_embed", lambda a: a),
        ("decoder.mask_token", "mask_token", lambda a: a),
        ("decoder.pred.weight", "decoder_pred/kernel", lambda a: a.T),
    ]:
        np.testing.assert_array_equal(ours[ours_name].numpy(), change(official[f"params/{theirs}"]))
    kernel = official["params/patch_embed/proj/kernel"]  # (frames, bands, 1, width)
    for out in (0, width - 1):
        np.testing.assert_array_equal(ours["patch_embed.weight"][out, 0].numpy(), kernel[:, :, 0, out])


@pytest.mark.parametrize(
    ("mini", "windows", "patch", "norm_pix"),
    [
        ("mwmae_mini", (2, 5, 10, 25, 50, 125, 0, 0), (4, 16), False),
        ("mwmae_bf16_mini", (5, 25, 0, 0), (8, 16), False),
        ("mae_mini", (0,) * 8, (4, 16), True),
    ],
)
def test_configuration_is_inferred(mini, windows, patch, norm_pix, tmp_path):
    config = convert(MINIS[mini], GOLDEN / mini, tmp_path / "m.safetensors", overrides=HEADS).config
    assert (config["encoder_width"], config["encoder_heads"], config["decoder_width"]) == (24, 3, 16)
    assert (config["patch_frames"], config["patch_bands"]) == patch
    assert config["decoder_windows"] == windows and config["norm_pix_loss"] is norm_pix
    assert config["statistics_ddof"] == 1 and config["mlp_ratio"] == 4.0


def test_report_names_key_shape_dtype_and_operation(tmp_path):
    done = convert("mwmae", GOLDEN / "mwmae_bf16_mini", tmp_path / "m.safetensors", overrides=HEADS)
    rows = {row.official: (row.name, row.shape, row.dtype, row.operation) for row in done.rows}
    assert rows["params/mask_token"] == ("decoder.mask_token", (1, 1, 16), "bfloat16", "as is")
    assert rows["params/decoder_embed/kernel"] == ("decoder.embed.weight", (16, 24), "float32", "transpose")
    assert rows["params/patch_embed/proj/kernel"] == ("patch_embed.weight", (24, 1, 8, 16), "float32", "axes 3 2 0 1")
    assert "opt_state" in done.ignored and done.source["step"] == 2


@pytest.mark.parametrize(("tag", "module"), [("mwmae_base_4x16", mwmae), ("mae_base_4x16", mae)])
def test_published_base_models_have_exactly_the_tensors_of_our_network(tag, module):
    """All keys and shapes of the real checkpoints, without their 93 million values."""
    keys = json.loads((GOLDEN / "base_keys.json").read_text())[tag]["params"]
    one = np.ones((), np.float32)
    arrays = {f"params/{key}": SourceArray(np.broadcast_to(one, shape), dtype) for key, (shape, dtype) in keys.items()}
    _, rows = apply_rules(arrays, module.OFFICIAL.rules)
    shapes = Shapes({row.name: row.shape for row in rows}, module.OFFICIAL.rules)
    trainer = {"model": {"arch": "mae_base", "model_args": {"decoder_num_heads": 8}}}
    config = module.Config(**module.OFFICIAL.infer(shapes, trainer, {}))
    assert config == module.Config()
    network = module.Model(config, seed=None, decoder=True)
    check_shapes(
        rows, {name: tuple(value.shape) for name, value in network.state_dict().items()}, module.OFFICIAL.rules
    )
    assert sum(value.numel() for value in network.state_dict().values()) == sum(
        int(np.prod(shape)) for shape, _ in keys.values()
    )


# ---------------------------------------------------------------------------------- wrong files: the key is named
def test_missing_tensor_is_named(altered):
    folder = altered("mwmae_mini", lambda p: p.pop("params/encoder_block_01/Mlp_0/Dense_1/bias"))
    refused(folder, match=r"missing in the official file: params/encoder_block_01/Mlp_0/Dense_1/bias")


def test_missing_tensor_that_geometry_needs_is_named(altered):
    folder = altered("mwmae_mini", lambda p: p.pop("params/patch_embed/proj/kernel"))
    refused(folder, match=r"missing in the official file: params/patch_embed/proj/kernel")


def test_missing_block_is_named(altered):
    def drop(params):
        for key in [key for key in params if "encoder_block_00" in key]:
            del params[key]

    refused(altered("mwmae_mini", drop), match=r"blocks\.0 is missing|encoder_block_00")


def test_missing_bias_table_is_named(altered):
    key = "params/decoder_block_01/wmha_block/attn_heads_3/relative_position_bias_table"
    refused(altered("mwmae_mini", lambda p: p.pop(key)), match=f"missing in the official file: {key}")


def test_unknown_tensor_is_named(altered):
    folder = altered("mwmae_mini", lambda p: p.update({"params/fc_norm/scale": np.ones(24, np.float32)}))
    refused(folder, match=r"unknown in the official file: params/fc_norm/scale")


@pytest.mark.parametrize("key", ["params/encoder_norm/bias", "params/decoder_block_00/LayerNorm_1/scale"])
def test_misshaped_tensor_is_named(altered, key):
    folder = altered("mwmae_mini", lambda p: p.update({key: np.ones(7, np.float32)}))
    refused(folder, match=rf"{key} .* is \[7\], expected \[(24|16)\]")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.full((1, 1, 16), np.nan, np.float32), "NaN"),
        (np.zeros((1, 1, 16), np.int32), "not floating-point"),
        (np.zeros((1, 0, 16), np.float32), "is empty"),
        ("text", "not an array"),
    ],
)
def test_values_that_are_no_weights_are_named(altered, value, said):
    folder = altered("mwmae_mini", lambda p: p.update({"params/mask_token": value}))
    refused(folder, match=rf"params/mask_token .*{said}")


def test_file_without_params_says_what_it_holds(tmp_path):
    (tmp_path / "checkpoint_1").write_bytes(pack({"weights": {"w": np.ones(2, np.float32)}, "epoch": 3}))
    refused(tmp_path / "checkpoint_1", match="holds no parameters under 'params'; its top level is: epoch, weights")


def test_the_right_family_is_named(tmp_path):
    source = tmp_path / "checkpoint_5"
    shutil.copy(GOLDEN / "mae_mini" / "checkpoint_5", source)
    refused(source, "mwmae", match="a checkpoint of mae, not of mwmae. Use `hear-models convert mae`")
    shutil.copy(GOLDEN / "mwmae_mini" / "checkpoint_5", source)
    refused(source, "mae", match="a checkpoint of mwmae, not of mae. Use `hear-models convert mwmae`")


# ------------------------------------------------------------------------ what the file cannot say: the flag is named
def without_config(altered, mini="mwmae_mini") -> Path:
    folder = altered(mini)
    (folder / "config.json").unlink()
    return folder


def test_unknown_encoder_heads_name_the_flag(altered):
    refused(altered("mwmae_mini"), match="--set encoder_heads=N", overrides={})


def test_unknown_decoder_heads_name_the_flag_with_an_example(altered):
    refused(without_config(altered), match=r"--set decoder_windows=2,5,10,25,50,125,0,0")
    refused(without_config(altered, "mae_mini"), "mae", match=r"--set decoder_windows=0,0,0,0,0,0,0,0")


@pytest.mark.parametrize("mini", ["mwmae_mini", "mae_mini"])
def test_flags_replace_the_trainers_configuration(altered, mini):
    family, folder = MINIS[mini], without_config(altered, mini)
    windows = convert(family, GOLDEN / mini, folder / "with.safetensors", overrides=HEADS).config["decoder_windows"]
    done = convert(family, folder, folder / "m.safetensors", overrides={**HEADS, "decoder_windows": list(windows)})
    assert done.config["decoder_windows"] == windows and done.config_file is None


def test_config_file_elsewhere_is_used(altered):
    folder = without_config(altered)
    elsewhere = GOLDEN / "mwmae_mini" / "config.json"
    done = convert("mwmae", folder, folder / "m.safetensors", config=elsewhere, overrides=HEADS)
    assert done.config_file == str(elsewhere) and len(done.config["decoder_windows"]) == 8


def test_encoder_only_file_converts_and_says_so(altered):
    def drop(params):
        for key in [key for key in params if "decoder" in key or "mask_token" in key]:
            del params[key]

    folder = altered("mwmae_mini", drop)
    assert convert("mwmae", folder, folder / "m.safetensors", overrides=HEADS).parts == ("encoder",)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"encoder_width": 32}, "encoder_width is 24 by the tensors' shapes, but 32 by --set"),
        ({"encoder_depth": 3}, "encoder_depth is 2"),
        ({"class_token": True}, "class_token is False"),
        ({"mask_ratio": 0.5}, "mask_ratio is 0.8 by the trainer's configuration, but 0.5 by --set"),
        ({"encoder_heads": 5}, "5 encoder heads do not divide the width 24"),
        ({"encoder_heads": 0}, "0 encoder heads"),
        ({"encoder_heads": -3}, "-3 encoder heads"),
        ({"decoder_windows": [5, 25, 0, 0]}, "do not go with"),
        ({"decoder_windows": [2, 5, 10, 25, 50, 125, 0]}, "do not go with|do not divide"),
        ({"frames_per_unit": 400}, "frames_per_unit is 200"),
    ],
)
def test_contradiction_between_flags_and_file_is_an_error(altered, overrides, said):
    error = (CheckpointError, UsageError)
    refused(altered("mwmae_mini"), match=said, overrides={**HEADS, **overrides}, error=error)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("patch_size", [8, 16], "patch_frames is 4 by the tensors' shapes, but 8 by the trainer's configuration"),
        ("decoder_embed_dim", 32, "decoder_width is 16"),
        ("decoder_depth", 9, "decoder_depth is 2"),
        ("decoder_window_sizes", [2, 5, 10, 25, 50, 0, 0, 0], "do not go with the bias tables"),
        ("decoder_num_heads", 4, "do not go with the trainer's configuration"),
        ("decoder_num_heads", "eight", "do not divide the width 16"),
        ("decoder_num_heads", 10**15, "do not divide"),
        ("img_size", [100, 80], "pos_embed has 250 tokens"),
        ("img_size", "wide", None),  # no list of two: not used
        ("mask_ratio", "most", "mask_ratio"),
    ],
)
def test_contradiction_between_configuration_and_file_is_an_error(altered, field, value, said):
    folder = altered("mwmae_mini", config=lambda content: content["model"]["model_args"].update({field: value}))
    if said is None:
        assert convert("mwmae", folder, folder / "m.safetensors", overrides=HEADS).parts == ("encoder", "decoder")
    else:
        refused(folder, match=said, error=(CheckpointError, UsageError))


def test_architecture_of_another_size_is_an_error(altered):
    folder = altered("mwmae_mini", config=lambda content: content["model"].update(arch="mae_base"))
    refused(folder, match="encoder_width is 24 by the tensors' shapes, but 768 by the trainer's configuration")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "not json", '{"model": []}', '{"model": {"model_args": [1]}}', "[" * 10**5]
)
def test_broken_configuration_file_is_refused(altered, text):
    folder = altered("mwmae_mini")
    (folder / "config.json").write_text(text)
    refused(folder, match="config")


# ------------------------------------------------------------------------------------------------------ wrong use
def test_unknown_field_lists_the_fields(altered):
    refused(altered("mwmae_mini"), match="no field 'heads'.*encoder_heads", overrides={"heads": 3}, error=UsageError)


@pytest.mark.parametrize("value", ["three", 2.5, True, [3]])
def test_value_of_the_wrong_type_is_refused(altered, value):
    folder = altered("mwmae_mini")
    refused(folder, match="encoder_heads=", overrides={"encoder_heads": value}, error=UsageError)


def test_existing_output_is_kept_without_force(tmp_path):
    output = tmp_path / "m.safetensors"
    output.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        convert("mwmae", GOLDEN / "mwmae_mini", output, overrides=HEADS)
    assert output.read_text() == "mine"
    convert("mwmae", GOLDEN / "mwmae_mini", output, overrides=HEADS, force=True)
    assert read_checkpoint(output).family == "mwmae"


def test_failure_under_force_keeps_the_old_file(tmp_path):
    output = tmp_path / "m.safetensors"
    convert("mwmae", GOLDEN / "mwmae_mini", output, overrides=HEADS)
    before = output.read_bytes()
    with pytest.raises(CheckpointError):
        convert("mwmae", GOLDEN / "mae_mini", output, overrides=HEADS, force=True)
    assert output.read_bytes() == before


@pytest.mark.parametrize("name", ["m", "m.pt", "no/where.safetensors"])
def test_output_that_cannot_be_loaded_later_is_refused(tmp_path, name):
    with pytest.raises(UsageError):
        convert("mwmae", GOLDEN / "mwmae_mini", tmp_path / name, overrides=HEADS)


def test_unknown_family_lists_the_known(tmp_path):
    with pytest.raises(UsageError, match=r"Use one of .*mae.*mwmae"):
        convert("os", GOLDEN / "mwmae_mini", tmp_path / "m.safetensors")


def test_float16_storage_keeps_the_weights_to_half_precision(tmp_path):
    for dtype in ("float32", "float16"):
        convert("mwmae", GOLDEN / "mwmae_mini", tmp_path / f"{dtype}.safetensors", overrides=HEADS, dtype=dtype)
    exact, half = (read_checkpoint(tmp_path / f"{dtype}.safetensors").tensors for dtype in ("float32", "float16"))
    assert all(torch.equal(exact[name].half().float(), half[name]) for name in exact)


# ------------------------------------------------------------------------------------------------------ rules alone
def test_two_official_keys_for_one_tensor_are_refused():
    rules = [Rule("a", "w"), Rule("b", "w")]
    one = SourceArray(np.ones(2, np.float32), "float32")
    with pytest.raises(CheckpointError, match="a second tensor for w"):
        apply_rules({"a": one, "b": one}, rules)


def test_numbers_in_keys_are_matched_whole():
    rules = [Rule("block_{i:02}/w", "blocks.{i}.w")]
    one = SourceArray(np.ones(2, np.float32), "float32")
    tensors, _ = apply_rules({"block_07/w": one, "block_12/w": one}, rules)
    assert set(tensors) == {"blocks.7.w", "blocks.12.w"}
    for key in ("block_7/w", "block_07/w2", "xblock_07/w", "block_07xw", "block_٠٧/w"):
        with pytest.raises(CheckpointError, match="unknown"):
            apply_rules({key: one}, rules)


SMALLEST = (GOLDEN / "mwmae_bf16_mini" / "checkpoint_2").read_bytes()
PARAMS_AT = SMALLEST.index(b"params")  # the container before it is optimiser state, of which only the frame is read


@given(
    edits=st.lists(st.tuples(st.integers(PARAMS_AT, len(SMALLEST) - 1), st.integers(1, 255)), min_size=1, max_size=4)
)
@settings(max_examples=60, deadline=20_000)
def test_a_mutated_official_file_converts_or_ends_in_our_error(edits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutated")
    data = bytearray(SMALLEST)
    for at, change in edits:
        data[at] ^= change
    (folder / "checkpoint_2").write_bytes(data)
    shutil.copy(GOLDEN / "mwmae_bf16_mini" / "config.json", folder)
    try:
        convert("mwmae", folder, folder / "m.safetensors", overrides=HEADS)
    except HearModelsError:
        assert not (folder / "m.safetensors").exists()
    else:  # a weight changed, nothing else
        assert read_checkpoint(folder / "m.safetensors").config["encoder_width"] == 24
