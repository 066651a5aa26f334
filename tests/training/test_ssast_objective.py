"""The objective of SSAST and Audio Mamba follows the official training step by step (golden `train.npz`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from audio_mamba_inputs import OVERRIDES, arrays, convert_mini, mini_state, recipe_state
from golden_inputs import TOLERANCE, largest_difference
from torch import Tensor

import hear_models
from hear_models import ssast
from hear_models.checkpoints.mapping import official_key
from hear_models.errors import UsageError
from hear_models.training.loop import decay_groups, pretrain
from hear_models.training.objectives import config_of
from hear_models.training.recipe import Optimiser, read_recipe
from hear_models.training.run import Run
from hear_models.zoo.convert import convert
from hear_models.zoo.families import family_module, new_model, officials
from hear_models.zoo.registry import find_entry

FAMILIES = ("ssast", "audio_mamba")
SEEDS = {"audio_mamba": 11, "ssast": 12}
CLOSE = TOLERANCE["SSAST and Audio Mamba"]
LOSS = TOLERANCE["SSAST and Audio Mamba, loss, relative"]
GRADIENT = TOLERANCE["SSAST and Audio Mamba, gradient, relative"]
OFFICIAL = Optimiser(steps=8, warmup_steps=2, batch=1024, base_rate=1.5e-4, betas=(0.9, 0.95))  # 2 updates an epoch
FIRST = 1  # the golden's first update is at epoch 0.5


def beginning(family: str, folder, **changes):
    """The mini network with recipe weights, where the official training began, with another objective if asked."""
    state = mini_state(family)
    blocks = {key: tuple(value.shape) for key, value in state.items() if key.startswith("blocks.")}
    torch.save(recipe_state(blocks, 32), folder / "begin.pth")
    convert(family, folder / "begin.pth", folder / "begin.safetensors", overrides=OVERRIDES[family], force=True)
    source = hear_models.load_model(folder / "begin.safetensors", decoder=True)
    module = family_module(family)
    model = new_model(module, replace(source.config, **changes), seed=0, decoder=True)
    model.load_state_dict(source.state_dict())
    return model.train()


def batches(family: str):
    """(units, noise) of every step, from the golden's one generator."""
    g = np.random.Generator(np.random.PCG64(SEEDS[family]))
    while True:
        images = g.standard_normal((3, 1, 200, 80), dtype=np.float32)[:, 0]
        yield torch.from_numpy(images), torch.from_numpy(g.random((3, 250), dtype=np.float32))


def by_official_name(model) -> dict[str, Tensor]:
    rules = officials(model.family)[0].rules
    return {official_key(name, rules): parameter for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_training_steps_follow_the_official_ones(family, tmp_path):
    golden, model = arrays(family, "train"), beginning(family, tmp_path)
    reconstruct = vars(family_module(family))["reconstruct"]
    parameters = by_official_name(model)
    assert {name for name, p in parameters.items() if not p.requires_grad} == {"pos_embed"}
    groups = decay_groups(model, 0.05)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for kind, wanted in (("decay", 0.05), ("nodecay", 0.0)):
        assert all(decay[id(parameters[name])] == wanted for name in golden[f"param_order_{kind}"])
    assert len(decay) == len(golden["param_order_decay"]) + len(golden["param_order_nodecay"])
    adam = torch.optim.AdamW(groups, lr=0.0, betas=OFFICIAL.betas, eps=OFFICIAL.eps)
    for step, (units, noise) in zip(range(3), batches(family), strict=False):
        result = reconstruct(model, units, noise)
        assert float(result.loss.detach()) == pytest.approx(float(golden["losses"][step]), rel=LOSS), step
        assert OFFICIAL.rate(FIRST + step) == pytest.approx(float(golden["lrs"][step]), rel=1e-6)
        adam.zero_grad()
        result.loss.backward()
        if step == 0:
            check_first(golden, result, parameters)
        squares = [p.grad.double().square().sum() for p in parameters.values() if p.grad is not None]
        assert float(sum(squares).sqrt()) == pytest.approx(float(golden["gnorms"][step]), rel=GRADIENT)
        for group in adam.param_groups:
            group["lr"] = OFFICIAL.rate(FIRST + step)
        adam.step()
        for name, norm in zip(golden["param_norm_names"], golden["param_norms"][step], strict=True):
            if not name.endswith("qkv_layer.bias"):  # quirk `key-bias`
                assert float(parameters[name].detach().norm()) == pytest.approx(float(norm), rel=1e-5), name
    for name, final in mini_state(family).items():
        ours, theirs = parameters[name].detach(), final
        if name.endswith("qkv_layer.bias"):
            ours, theirs = (torch.cat([x[:32], x[64:]]) for x in (ours, theirs))
        assert largest_difference(ours, theirs.numpy()) <= CLOSE, name


def check_first(golden, result, parameters) -> None:
    np.testing.assert_array_equal(result.mask, golden["mask"])
    np.testing.assert_array_equal(result.ids_restore, golden["ids_restore"])
    assert largest_difference(result.pred[0], golden["pred0"]) <= CLOSE
    np.testing.assert_allclose(result.pred.detach().double().sum(dim=(1, 2)), golden["pred_sum"], rtol=1e-4, atol=0.01)
    assert largest_difference(result.target[0, [0, 1, 4, 5, 6, 249]], golden["target0_rows"]) == 0
    np.testing.assert_allclose(result.target.double().square().sum(dim=(1, 2)), golden["target_sumsq"], rtol=1e-5)
    for name, norm, total in zip(golden["grad_names"], golden["grad_norms"], golden["grad_sums"], strict=True):
        gradient = parameters[name].grad.double()
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=GRADIENT, abs=1e-7), name
        assert float(gradient.sum()) == pytest.approx(float(total), rel=1e-4, abs=1e-4 * float(norm) + 1e-7), name
    for key in golden.files:
        if key.startswith("grad/"):
            close = GRADIENT * float(np.abs(golden[key]).max())
            assert largest_difference(parameters[key[5:]].grad, golden[key]) <= close, key


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("loss_masked", {"loss_on": "masked"}),
        ("loss_normpix", {"norm_pix_loss": True}),
        ("loss_masked_normpix", {"loss_on": "masked", "norm_pix_loss": True}),
    ],
)
def test_other_losses_are_the_official_ones(family, name, changes, tmp_path):
    units, noise = next(batches(family))
    loss = beginning(family, tmp_path, **changes).reconstruct(units, noise).loss
    assert float(loss.detach()) == pytest.approx(float(arrays(family, "train")[name][0]), rel=LOSS)


def test_published_masking_takes_the_position_away(tmp_path):
    """SSAST then predicts the same at every masked patch of a clip; with the position kept it does not."""
    units, noise = next(batches("ssast"))
    spread = {}
    for before in (False, True):
        with torch.no_grad():
            result = beginning("ssast", tmp_path, mask_before_pos=before).reconstruct(units, noise)
        masked = result.pred[0][result.mask[0] > 0]
        spread[before] = float((masked - masked[:1]).abs().max())
    assert spread[False] < 1e-5 < 0.1 < spread[True]


def test_a_degraded_view_is_seen_and_the_clean_one_predicted(tmp_path):
    model = beginning("ssast", tmp_path)
    (units, noise), clean = next(batches("ssast")), torch.ones(3, 200, 80)
    result = model.reconstruct(units, noise, clean)
    assert torch.equal(result.target, torch.ones(3, 250, 64))
    assert torch.equal(result.pred, model.reconstruct(units, noise).pred)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trained_tensor_comes_with_the_decoder_and_pretraining_asks_for_it(family, tmp_path):
    path = convert_mini(family, tmp_path)
    whole, encoder = (hear_models.load_model(path, decoder=decoder) for decoder in (True, False))
    extra = whole.state_dict().keys() - encoder.state_dict().keys()
    assert len(whole.state_dict()) == len(mini_state(family)) and len(extra) == 5
    assert all(name.startswith("decoder.") for name in extra)
    with pytest.raises(UsageError, match="decoder=True"):
        encoder.reconstruct(*next(batches(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_we_train_is_written_with_its_steps_in_order(family):
    model = new_model(family_module(family), family_module(family).Config(width=192, depth=1), seed=None)
    assert (model.config.layout, model.trained_config().layout) == ("official", "corrected")


def test_crops_are_standardised_over_the_clip_and_short_ones_repeated_in_time():
    clip = np.random.default_rng(0).standard_normal((300, 80)).astype(np.float32) * 3 - 7
    model = ssast.Model(ssast.Config(width=64, heads=4, depth=1), seed=None)

    class Last:
        def integers(self, low: int, high: int) -> int:
            assert (low, high) == (0, 100), "the last start, 100, is never drawn"
            return high - 1

    crop = model.training_view(clip, Last())  # type: ignore[arg-type]
    wanted = (clip[99:299] - clip.mean()) / clip.std()
    assert crop.dtype == np.float32 and np.abs(crop - wanted).max() < 1e-5
    short = model.training_view(clip[:150], np.random.default_rng(0))
    assert np.array_equal(short[150:], short[:50]) and short.shape == (200, 80)
    zeros = ssast.Model(ssast.Config(width=64, heads=4, depth=1, training_pad="zero"), seed=None)
    padded = zeros.training_view(clip[:150], np.random.default_rng(0))
    assert np.array_equal(padded[:150], short[:150]) and not padded[150:].any()
    whole = model.training_view(clip[:200], np.random.default_rng(0))
    assert np.abs(whole - (clip[:200] - clip[:200].mean()) / clip[:200].std()).max() < 1e-5
    assert not model.training_view(np.full((250, 80), -15.942385, np.float32), np.random.default_rng(0)).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shipped_recipe_trains_the_network_of_the_manifest(family, tmp_path):
    name = {"ssast": "ssast-nano", "audio_mamba": "ssam-nano"}[family]
    recipe = read_recipe(name)
    model = new_model(family_module(family), config_of(recipe), seed=None)
    assert model.trained_config() == family_module(family).Config(**find_entry(name).manifest.configuration)
    short = replace(
        recipe,
        data=replace(recipe.data, procedural_hours=0.005, procedural_share=1.0),
        optimiser=replace(recipe.optimiser, steps=10, warmup_steps=2, batch=4, precision="float32"),
    )
    assert pretrain(short, Run(tmp_path / "run"), lambda line: None) == 10
    trained = hear_models.load_model(tmp_path / "run" / "model.safetensors")
    assert (trained.layout, trained.timestamps, trained.checkpoint.trained) == ("corrected", "centres", True)
