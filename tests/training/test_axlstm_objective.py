"""AxLSTM's objective follows the official training step by step (golden `mini_a_train.npz`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from axlstm_inputs import arrays, convert_mini, mini_state
from golden_inputs import TOLERANCE, largest_difference
from torch import Tensor

import hear_models
from hear_models import axlstm
from hear_models.checkpoints.mapping import official_key
from hear_models.errors import UsageError
from hear_models.training.loop import decay_groups
from hear_models.training.recipe import Optimiser

GOLDEN = arrays("mini_a_train")
LOSS, NORM = TOLERANCE["AxLSTM, loss"], TOLERANCE["AxLSTM, gradient norm, relative"]
FINAL = TOLERANCE["AxLSTM, parameters after 3 steps"]


@pytest.fixture
def beginning(tmp_path):
    """Makes the mini network as the official training began, with another objective if asked."""

    def make(**changes):
        source = hear_models.load_model(convert_mini("mini_a", tmp_path), decoder=True)
        model = axlstm.Model(replace(source.config, **changes), decoder=True)
        model.load_state_dict(source.state_dict())
        return model.train()

    return make


def batch() -> tuple[Tensor, Tensor]:
    """(units, noise) of every step."""
    g = np.random.Generator(np.random.PCG64(33))
    units = torch.from_numpy(g.standard_normal((2, 1, 200, 80), dtype=np.float32)[:, 0])
    noise = g.random((2, 250)).astype(np.float32)
    np.testing.assert_array_equal(noise, GOLDEN["noise"])
    return units, torch.from_numpy(noise)


def by_official_name(model) -> dict[str, Tensor]:
    return {official_key(name, axlstm.OFFICIAL.rules): parameter for name, parameter in model.named_parameters()}


def test_three_steps_of_training_follow_the_official_ones(beginning):
    model, (units, noise) = beginning(), batch()
    parameters, groups = by_official_name(model), decay_groups(model, 0.05)
    spared = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert {name for name, p in parameters.items() if id(p) in spared} == set(GOLDEN["no_decay"])
    assert {name for name, p in parameters.items() if not p.requires_grad} == {"pos_embed"}
    adam = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95))
    for step in range(3):
        result = axlstm.reconstruct(model, units, noise)
        assert float(result.loss.detach()) == pytest.approx(float(GOLDEN["losses"][step]), abs=LOSS)
        adam.zero_grad()
        result.loss.backward()
        if step == 0:
            check_first(result, parameters)
        squares = [p.grad.double().square().sum() for p in parameters.values() if p.grad is not None]
        assert float(sum(squares).sqrt()) == pytest.approx(float(GOLDEN["global_grad_norms"][step]), rel=NORM)
        adam.step()
    for name, norm in zip(GOLDEN["grad_names"], GOLDEN["final_norms"], strict=True):
        assert float(parameters[name].detach().norm()) == pytest.approx(float(norm), rel=FINAL), name
    for key in (key for key in GOLDEN.files if key.startswith("final__")):
        assert largest_difference(parameters[key[7:]], GOLDEN[key]) <= FINAL, key


def check_first(result, parameters) -> None:
    np.testing.assert_array_equal(result.mask, GOLDEN["mask"])
    np.testing.assert_array_equal(result.ids_restore, GOLDEN["ids_restore"])
    assert largest_difference(result.pred[:, ::10], GOLDEN["pred"]) <= TOLERANCE["AxLSTM, prediction"]
    assert largest_difference(result.target[:, ::25], GOLDEN["target"]) == 0
    for name, norm in zip(GOLDEN["grad_names"], GOLDEN["grad_norms"], strict=True):
        assert float(parameters[name].grad.norm()) == pytest.approx(float(norm), rel=NORM, abs=1e-7), name
    for key in (key for key in GOLDEN.files if key.startswith("grad__")):
        close = NORM * float(np.abs(GOLDEN[key]).max())
        assert largest_difference(parameters[key[6:]].grad, GOLDEN[key]) <= close, key


@pytest.mark.parametrize(
    ("name", "changes"), [("loss_masked_only", {"loss_on": "masked"}), ("loss_normpix", {"norm_pix_loss": True})]
)
def test_other_losses_are_the_official_ones(beginning, name, changes):
    loss = beginning(**changes).reconstruct(*batch()).loss
    assert float(loss.detach()) == pytest.approx(float(GOLDEN[name]), abs=LOSS)


def test_noise_of_a_step_masks_all_its_bands():
    """The official mode "timestep": the same masking, its noise repeated over the bands of a step."""
    from hear_models.layers.patches import random_masking

    noise = torch.from_numpy(GOLDEN["noise_timestep"]).repeat_interleave(5, dim=1)
    np.testing.assert_array_equal(random_masking(noise, 0.5)[1], GOLDEN["mask_timestep"])


def test_rates_follow_the_official_schedule():
    official = Optimiser(steps=1000, warmup_steps=100, batch=1024, base_rate=1.5e-4, betas=(0.9, 0.95))  # 10 an epoch
    for epoch, rate in zip(GOLDEN["sched_epochs"], GOLDEN["sched_lr"], strict=True):
        step = round(10 * float(epoch), 6)
        if step == int(step) and step < 1000:
            assert official.rate(int(step)) == pytest.approx(float(rate), rel=1e-6, abs=1e-12), epoch


def test_every_trained_tensor_comes_with_the_decoder_and_pretraining_asks_for_it(tmp_path):
    path = convert_mini("mini_a", tmp_path)
    whole, encoder = (hear_models.load_model(path, decoder=decoder) for decoder in (True, False))
    assert len(whole.state_dict()) == len(mini_state("mini_a")) == len(encoder.state_dict()) + 5
    with pytest.raises(UsageError, match="decoder=True"):
        encoder.reconstruct(*batch())


def test_gradients_stay_finite_where_the_official_ones_do_not(beginning):
    """Quirk `overflowing-gate`: input gates so closed that exp(-m) is infinite in float32."""
    model = beginning()
    with torch.no_grad():
        for block in model.blocks:
            block.layer.igate.bias -= 200
    model.reconstruct(*batch()).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


def test_what_we_train_is_written_with_its_steps_in_order():
    model = axlstm.Model(axlstm.Config(width=16, depth=1), seed=None)
    assert (model.config.layout, model.trained_config().layout) == ("official", "corrected")
