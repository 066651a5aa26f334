"""Official MSM-MAE files: what they do not say is asked for, what contradicts itself is refused, the licence stays."""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import pytest
import torch
from msm_mae_inputs import FOLDER, HEADS, M2D, MINIS, convert_mini

from hear_models import msm_mae
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo.convert import convert
from hear_models.zoo.publish import publish

A = MINIS["a"]


def official_state(name: str = A) -> dict[str, torch.Tensor]:
    """The tensors of a mini checkpoint, by their official names."""
    from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file

    tensors = find_state_dict(read_torch_file(FOLDER / name).content)
    return {key: torch.from_numpy(np.array(tensor.array())) for key, tensor in tensors.items()}


def save(state: dict, folder, name: str = "80x208p16x16_mine"):
    (folder / name).mkdir(exist_ok=True)
    torch.save({"model": state}, folder / name / "checkpoint-1.pth")
    return folder / name / "checkpoint-1.pth"


def run(source, folder, **overrides):
    out = folder / "out.safetensors"
    result = convert("msm_mae", source, out, overrides={**HEADS[A], **overrides}, force=True, accept_licence=True)
    return result, msm_mae.load_model(str(out))


def test_weights_are_not_converted_before_the_licence_is_accepted(tmp_path):
    with pytest.raises(UsageError, match="accept-license"):
        convert("msm_mae", FOLDER / A, tmp_path / "out.safetensors", overrides=HEADS[A])
    assert not list(tmp_path.iterdir())


def test_converted_file_carries_the_licence_and_publish_refuses_it(tmp_path):
    path = convert_mini(A, tmp_path)
    assert "NTT" in read_header(path).notes["licence"]["name"]
    with pytest.raises(UsageError, match="NTT"):
        publish(path, "somebody/msm-mae", permission="a friend said yes")


def test_release_as_zip_folder_and_file_give_one_network(tmp_path):
    archive = tmp_path / "release.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.write(FOLDER / A / "checkpoint-100.pth", f"{A}/checkpoint-100.pth")
    shutil.copytree(FOLDER / A, tmp_path / A)
    loaded = [run(source, tmp_path)[1] for source in (archive, tmp_path / A, tmp_path / A / "checkpoint-100.pth")]
    for other in loaded[1:]:
        assert other.config == loaded[0].config
        assert all(torch.equal(a, b) for a, b in zip(loaded[0].parameters(), other.parameters(), strict=True))


def test_heads_that_the_rule_cannot_give_are_asked_for_by_flag(tmp_path):
    for given, missing in (({}, "--set heads=N"), ({"heads": 4}, "--set decoder_heads=N")):
        with pytest.raises(CheckpointError, match=missing):
            convert("msm_mae", FOLDER / A, tmp_path / "out.safetensors", overrides=given, accept_licence=True)


def test_geometry_comes_from_the_arguments_then_the_name_then_the_table(tmp_path):
    state = official_state()
    for name in ("80x208p16x16_mine", "msm_mae_vit_base-80x208p16x16-x", "renamed"):
        _, model = run(save(state, tmp_path, name), tmp_path)
        assert (model.config.n_mels, model.config.frames_per_unit) == (80, 208)
    with pytest.raises(CheckpointError, match="65 tokens"):
        run(save(state, tmp_path, "80x512p16x16_wrong"), tmp_path)
    _, model = run(save(state, tmp_path, "80x512p16x16_wrong"), tmp_path, n_mels=80, frames_per_unit=208)
    assert model.config.frames_per_unit == 208


def test_bands_and_frames_in_the_wrong_order_are_found_by_the_position_table(tmp_path):
    with pytest.raises(CheckpointError, match="fixed table"):
        run(save(official_state(), tmp_path), tmp_path, n_mels=208, frames_per_unit=80)


def test_32_khz_is_read_from_the_name(tmp_path):
    _, model = run(save(official_state(), tmp_path, "msm_mae_vit_base-80x208p16x16p32k-x"), tmp_path)
    assert model.sample_rate == 32_000


def test_layout_decides_the_runtime(tmp_path):
    ours = msm_mae.load_model(str(convert_mini(A, tmp_path))).config
    theirs = msm_mae.load_model(str(convert_mini(M2D, tmp_path))).config
    encoder = msm_mae.load_model(str(convert_mini(f"{M2D}_enconly", tmp_path))).config
    assert (ours.normalize, ours.tail) == ("clip", "pad")
    assert (theirs.normalize, theirs.tail, theirs.norm_mean, theirs.norm_std) == ("fixed", "trim", -7.1, 4.2)
    assert (encoder.norm_mean, encoder.norm_std) == (-6.25, 3.75)


def test_decoder_table_tells_its_kind(tmp_path):
    result, _ = run(FOLDER / A, tmp_path)
    assert result.config["decoder_positions"] == "1d"
    state = official_state()
    config = msm_mae.Config(**result.config)
    state["decoder_pos_embed"][0, 1:] = msm_mae.decoder_positions(config, "2d")
    result, _ = run(save(state, tmp_path), tmp_path)
    assert result.config["decoder_positions"] == "2d"


def test_backbone_of_a_fine_tuned_file_is_taken_and_its_head_left(tmp_path):
    state = {f"module.ar.runtime.backbone.{key}": value for key, value in official_state(f"{M2D}_enconly").items()}
    state["module.head.weight"] = torch.zeros(10, 120)
    source = save(state, tmp_path, "msm_mae_vit_base-80x208p16x16-tuned")
    out = tmp_path / "out.safetensors"
    convert("msm_mae", source, out, overrides={"heads": 3}, accept_licence=True)
    plain = msm_mae.load_model(str(convert_mini(f"{M2D}_enconly", tmp_path)))
    tuned = msm_mae.load_model(str(out))
    assert tuned.config == plain.config
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), tuned.parameters(), strict=True))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda s: s.pop("blocks.1.mlp.fc2.bias"), "blocks.1.mlp.fc2.bias"),
        (lambda s: s.pop("blocks.0.attn.v_bias"), "blocks.0.attn"),
        (lambda s: s.update({"blocks.0.attn.extra": torch.zeros(3)}), "blocks.0.attn.extra"),
        (lambda s: s.update({"surprise": torch.zeros(3)}), "surprise"),
        (lambda s: s.update({"norm.weight": torch.zeros(31)}), "norm.weight"),
        (lambda s: s.update({"norm.weight": torch.full((32,), float("nan"))}), "norm.weight"),
        (lambda s: s.pop("pos_embed"), "pos_embed"),
        (lambda s: s["pos_embed"].add_(0.1), "fixed table"),
    ],
)
def test_wrong_tensor_is_refused_by_its_name(tmp_path, change, said):
    state = official_state()
    change(state)
    with pytest.raises(CheckpointError, match=said):
        run(save(state, tmp_path), tmp_path)
    assert not (tmp_path / "out.safetensors").exists()
