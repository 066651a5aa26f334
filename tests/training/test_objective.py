"""The masked objective and the optimiser follow the official training step by step (golden `*_train.npz`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from flax_writer import pack, unflatten
from golden_inputs import GOLDEN, TOLERANCE, crop, largest_difference

from hear_models import mae, mwmae
from hear_models.checkpoints.flax_msgpack import read_flax
from hear_models.layers.patches import cut_patches
from hear_models.training.recipe import Optimiser
from hear_models.zoo.convert import convert

FOLDER = GOLDEN / "mwmae"
RUNS = {"mwmae_mini": (mwmae, 1), "mae_mini": (mae, 2)}
OFFICIAL = Optimiser(
    steps=8, warmup_steps=2, batch=256, base_rate=2e-3
)  # its config.json: 2 updates an epoch, 4 epochs


def our_tensors(leaves: dict[str, np.ndarray], name: str, folder: Path) -> dict[str, torch.Tensor]:
    """Arrays by their official names → tensors by ours, through the converter."""
    from hear_models.checkpoints.safetensors_file import read_checkpoint

    (folder / "checkpoint_1").write_bytes(pack(unflatten({f"params/{key}": value for key, value in leaves.items()})))
    output = folder / "converted.safetensors"
    family = RUNS[name][0].__name__.rpartition(".")[2]
    convert(
        family,
        folder / "checkpoint_1",
        output,
        config=FOLDER / name / "config.json",
        overrides={"encoder_heads": 3},
        force=True,
    )
    return read_checkpoint(output, parts=("encoder", "decoder")).tensors


def moments(name: str, which: str) -> dict[str, np.ndarray]:
    """Adam's mu or nu after the last official step."""
    entries = read_flax(next((FOLDER / name).glob("checkpoint_*")), only=("opt_state",)).entries
    prefix = f"opt_state/0/{which}/"
    return {key.removeprefix(prefix): entry.value for key, entry in entries.items() if key.startswith(prefix)}


@pytest.mark.parametrize("name", RUNS)
def test_five_training_steps_follow_the_official_ones(name, tmp_path):
    family, number = RUNS[name]
    golden = np.load(FOLDER / f"{name}_train.npz")
    init = np.load(FOLDER / f"{name}_init.npz")
    names = {}  # official key → our name, found by converting arrays that hold their own index
    keys = list(init.files)
    marked = our_tensors(
        {key.removeprefix("params/"): np.full_like(init[key], i) for i, key in enumerate(keys)}, name, tmp_path
    )
    for ours, tensor in marked.items():
        names[keys[int(tensor.flatten()[0])]] = ours

    sizes = {"encoder_width": 24, "encoder_depth": 2, "encoder_heads": 3, "decoder_width": 16, "decoder_depth": 2}
    model = family.Model(family.Config(**sizes, norm_pix_loss=name == "mae_mini"), seed=None, decoder=True)
    start = our_tensors({key.removeprefix("params/"): init[key] for key in keys}, name, tmp_path)
    model.load_state_dict(start, assign=True)
    parameters = dict(model.named_parameters())
    adam = torch.optim.AdamW(parameters.values(), lr=0.0, betas=OFFICIAL.betas, eps=OFFICIAL.eps, weight_decay=0.05)

    for step in range(5):
        units = crop(100 * number + step, 2)
        result = mwmae.reconstruct(model, units, torch.from_numpy(golden[f"step{step}/noise"]))
        np.testing.assert_array_equal(result.mask, golden[f"step{step}/mask"])
        np.testing.assert_array_equal(result.ids_restore, golden[f"step{step}/ids_restore"])
        assert abs(float(result.loss.detach()) - golden["loss"][step]) <= TOLERANCE["loss"]
        rate = OFFICIAL.rate(step)
        assert abs(rate - golden["lr"][step]) <= TOLERANCE["learning rate / base"] * 2e-3
        adam.zero_grad()
        result.loss.backward()
        if step == 0:
            assert largest_difference(result.pred[:1], golden["step0/pred"]) <= TOLERANCE["prediction"]
            patches = cut_patches(units, 4, 16)[:, :3]  # the golden keeps targets before pixel normalisation
            assert largest_difference(patches, golden["step0/target"]) <= TOLERANCE["prediction"]
            for key, norm in zip(golden["keys"], golden["grad_norm"], strict=True):
                ours = float(parameters[names[f"{key}" if str(key) in names else f"params/{key}"]].grad.norm())
                assert ours == pytest.approx(float(norm), rel=TOLERANCE["gradient norm, relative"], abs=1e-7), key
        adam.param_groups[0]["lr"] = rate
        adam.step()

    def but_keys(ours: str, difference: torch.Tensor) -> torch.Tensor:
        """Leave out the K third of a qkv bias: its gradient is zero, Adam blows up its rounding noise (quirk 12)."""
        if ours.endswith("qkv.bias"):
            third = difference.shape[0] // 3
            return torch.cat([difference[:third], difference[2 * third :]])
        return difference

    final = our_tensors(
        {
            k.removeprefix("params/"): e.value
            for k, e in read_flax(next((FOLDER / name).glob("checkpoint_*")), only=("params",)).entries.items()
        },
        name,
        tmp_path,
    )
    expected = {
        "parameters after 5 steps": (final, lambda p: p.detach()),
        "Adam's mu": (our_tensors(moments(name, "mu"), name, tmp_path), lambda p: adam.state[p]["exp_avg"]),
        "Adam's nu": (our_tensors(moments(name, "nu"), name, tmp_path), lambda p: adam.state[p]["exp_avg_sq"]),
    }
    for what, (theirs, ours_of) in expected.items():
        for ours, parameter in parameters.items():
            difference = but_keys(ours, (ours_of(parameter) - theirs[ours]).abs())
            assert float(difference.max()) <= TOLERANCE[what], (what, ours)


def test_schedule_is_the_papers():
    with np.load(FOLDER / "schedule.npz") as golden:
        per_epoch = int(golden["steps_per_epoch"])
        paper = Optimiser()
        assert (paper.steps, paper.warmup_steps) == (100 * per_epoch, 10 * per_epoch)
        assert paper.base_rate * paper.batch / 256 == pytest.approx(float(golden["base_lr"]), rel=1e-9)
        for step, rate in zip(golden["step"], golden["lr"], strict=True):
            assert abs(paper.rate(int(step)) - float(rate)) <= TOLERANCE["learning rate / base"] * float(
                golden["base_lr"]
            )
