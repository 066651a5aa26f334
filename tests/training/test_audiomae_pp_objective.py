"""AudioMAE++'s objective follows the official training step by step (golden `mini/train.npz`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from audiomae_pp_inputs import FOLDER, arrays, convert_mini, mini_state, official_shapes, recipe_state
from golden_inputs import TOLERANCE, largest_difference
from torch import Tensor

import hear_models
from hear_models import audiomae_pp
from hear_models.checkpoints.mapping import official_key
from hear_models.errors import UsageError
from hear_models.layers.patches import random_masking
from hear_models.training.loop import decay_groups
from hear_models.training.recipe import Optimiser
from hear_models.zoo.convert import convert

GOLDEN = arrays("mini/train")
CLOSE, LOSS = TOLERANCE["AudioMAE++"], TOLERANCE["AudioMAE++, loss, relative"]
GRADIENT = TOLERANCE["AudioMAE++, gradient"]


@pytest.fixture
def beginning(tmp_path):
    """The mini network as the official training began, with another objective if asked."""
    source = hear_models.load_model(convert_mini(tmp_path), decoder=True)
    torch.save(recipe_state(official_shapes(source)), tmp_path / "first.pth")
    convert(
        "audiomae_pp",
        tmp_path / "first.pth",
        tmp_path / "first.safetensors",
        overrides={"heads": 4, "decoder_heads": 2},
    )
    first = hear_models.load_model(tmp_path / "first.safetensors", decoder=True)

    def make(**changes):
        model = audiomae_pp.Model(replace(first.config, **changes), decoder=True)
        model.load_state_dict(first.state_dict())
        return model.train()

    return make


def batches() -> list[tuple[Tensor, Tensor]]:
    """(units, noise) of the four steps."""
    g = np.random.Generator(np.random.PCG64(13))
    drawn = [
        (g.standard_normal((3, 1, 200, 80), dtype=np.float32), g.random((3, 250), dtype=np.float32)) for _ in range(4)
    ]
    return [(torch.from_numpy(image[:, 0]), torch.from_numpy(noise)) for image, noise in drawn]


def by_official_name(model) -> dict[str, Tensor]:
    return {official_key(name, audiomae_pp.OFFICIAL.rules): p for name, p in model.named_parameters()}


def test_four_steps_of_training_follow_the_official_ones(beginning):
    model = beginning()
    parameters, groups = by_official_name(model), decay_groups(model, 0.05)
    spared = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    unused = set(GOLDEN["no_grad_names"])
    assert all("norm3" in name for name in unused)
    assert {name for name, p in parameters.items() if id(p) in spared} == set(GOLDEN["param_order_nodecay"]) - unused
    adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    for step, (units, noise) in enumerate(batches()):
        for group in adam.param_groups:
            group["lr"] = float(GOLDEN["lrs"][step])
        made = audiomae_pp.reconstruct(model, units, noise)
        adam.zero_grad()
        made.loss.backward()
        if step == 0:
            check_first(made, parameters)
        assert float(made.loss.detach()) == pytest.approx(float(GOLDEN["losses"][step]), rel=10 * LOSS)
        squares = [p.grad.double().square().sum() for p in parameters.values() if p.grad is not None]
        assert float(sum(squares).sqrt()) == pytest.approx(float(GOLDEN["gnorms"][step]), rel=1e-5)
        adam.step()
        for name, norm in zip(GOLDEN["param_norm_names"], GOLDEN["param_norms"][step], strict=True):
            if name in parameters and not name.endswith("qkv_layer.bias"):
                assert float(parameters[name].detach().norm()) == pytest.approx(float(norm), rel=1e-5, abs=1e-6), name
    for name, official in mini_state().items():
        if name in parameters and parameters[name].requires_grad:
            ours = parameters[name].detach()
            if name.endswith("qkv_layer.bias"):  # of the keys the exact gradient is 0: Adam amplifies rounding
                ours, official = (torch.cat([x.chunk(3)[0], x.chunk(3)[2]]) for x in (ours, official))
            assert largest_difference(ours, official.numpy()) <= CLOSE, name


def check_first(made, parameters) -> None:
    np.testing.assert_array_equal(made.mask, GOLDEN["mask"])
    np.testing.assert_array_equal(made.ids_restore, GOLDEN["ids_restore"])
    assert largest_difference(made.pred[0], GOLDEN["pred0"]) <= CLOSE
    assert largest_difference(made.target[0, [0, 1, 4, 5, 6, 249]], GOLDEN["target0_rows"]) == 0
    assert float(made.loss.detach()) == pytest.approx(float(GOLDEN["loss_plain"][0]), rel=LOSS)
    for name, norm in zip(GOLDEN["grad_names"], GOLDEN["grad_norms"], strict=True):
        assert float(parameters[name].grad.norm()) == pytest.approx(float(norm), rel=1e-5, abs=1e-7), name
    for key in (key for key in GOLDEN.files if key.startswith("grad/")):
        assert largest_difference(parameters[key[5:]].grad, GOLDEN[key]) <= GRADIENT, key


def test_normalised_pixels_have_the_official_loss(beginning):
    loss = beginning(norm_pix_loss=True).reconstruct(*batches()[0]).loss
    assert float(loss.detach()) == pytest.approx(float(GOLDEN["loss_normpix"][0]), rel=LOSS)


def test_masks_are_the_official_ones():
    golden = np.load(FOLDER / "masking.npz")
    for name, seed in (("250_0.8", 71), ("500_0.75", 72), ("125_0.7", 73)):
        tokens, ratio = int(name.split("_")[0]), float(name.split("_")[1])
        noise = torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random((2, tokens), dtype=np.float32))
        keep, mask, restore = random_masking(noise, ratio)
        for ours, what in ((keep, "ids_keep"), (mask, "mask"), (restore, "ids_restore")):
            np.testing.assert_array_equal(ours, golden[f"{name}/{what}"])


def test_rates_follow_the_official_schedule():
    official = Optimiser(steps=400, warmup_steps=100, batch=1024, base_rate=1.5e-4, betas=(0.9, 0.95))
    assert (official.rate(0), official.rate(100)) == (0, pytest.approx(6e-4))
    assert official.rate(250) == pytest.approx(3e-4)  # half of a cosine


def test_pretraining_asks_for_the_decoder(tmp_path):
    encoder = hear_models.load_model(convert_mini(tmp_path))
    with pytest.raises(UsageError, match="decoder=True"):
        encoder.reconstruct(*batches()[0])


def test_what_we_train_is_written_with_its_steps_in_order():
    model = audiomae_pp.Model(audiomae_pp.Config(width=16, depth=1, heads=2), seed=None)
    assert (model.config.layout, model.trained_config().layout) == ("official", "corrected")
