"""EfficientNet-B0 as audax and leaf-pytorch have it, front end and head included: evaluation, a step, gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from golden_inputs import TOLERANCE
from learnable_inputs import (
    Classifier,
    Cola,
    audax_names,
    contrast_batch,
    golden,
    leafpytorch_names,
    relative,
    signal,
    stack,
    unit_norm,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hear_models.frontends import Leaf, SincNet, UncentredLogMel
from hear_models.layers.contrastive import BilinearHead, contrastive_loss, initialise_head
from hear_models.layers.efficientnet import AUDAX, PORTED, EfficientNet, initialise_efficientnet, scaled_width
from hear_models.layers.norm import BatchNorm
from hear_models.pipeline.normalise import Standardise


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Arrays are small: threads that wait for each other on a busy machine cost minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


MINI = {"leafmini": (Leaf, 16, 32, 0.125), "sincmini": (SincNet, 12, 24, 0.0625)}
MINI_SIZES = {"depth_factor": 0.25, "drop": 0.0}


def official_gradients(model: Cola | Classifier) -> dict[str, Tensor]:
    """Gradients by official name."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {theirs: gradients[ours] for ours, theirs in model.official_names().items() if ours in gradients}


def worst_norm(gradients: Mapping[str, Tensor], keys: np.ndarray, norms: np.ndarray) -> float:
    """Largest relative difference of a tensor's gradient norm.

    Biases of the normalisation behind a projection are left out: the next normalisation takes a constant away, so their
    gradient is zero, and what is computed is rounding.
    """
    assert sorted(gradients) == sorted(map(str, keys))
    compared = [
        abs(float(gradients[key].double().norm()) - norm) / norm
        for key, norm in zip(map(str, keys), norms, strict=True)
        if not (key.endswith("bias") and float(norm) < 1e-4)
    ]
    assert len(compared) > 0.8 * len(keys)
    return max(compared)


def mini(name: str) -> Cola:
    front_end, n_filters, dim, width_factor = MINI[name]
    return Cola(front_end(n_filters), f"0/{name}/", dim, width_factor=width_factor, **MINI_SIZES)


@pytest.mark.parametrize("name", MINI)
def test_every_block_of_the_mini_cola_networks_matches(name):
    file, model = golden(f"cola_{name}"), mini(name).eval()
    close = TOLERANCE["learnable, mini, relative"]
    batch = contrast_batch(200, 6400, noise=300)
    np.testing.assert_array_equal(batch[:, :8], file["check_x_first8"])
    found: dict[str, Tensor] = {}
    blocks = {f"MBConv_{i}": block for i, block in enumerate(model.encoder.blocks)}
    for block, module in blocks.items():
        module.register_forward_hook(lambda m, x, y, block=block: found.update({block: y}))
    with torch.no_grad():
        features = model.features(batch)
        embeddings = model.embed(features)
    assert relative(features, file["eval/frontend"]) <= close
    for block in blocks:
        theirs, ours = file[f"eval/encoder/{block}"], found[block][:1]
        ours = ours.mean((2, 3)) if theirs.ndim == 2 else ours.permute(0, 2, 3, 1)  # large maps are kept as means
        assert relative(ours, theirs) <= close, block
    assert relative(embeddings, file["eval/encoder"]) <= close
    assert relative(model.head.project(embeddings), file["eval/bilinear_layernorm"]) <= close
    assert relative(model(batch), file["eval_logits"]) <= close


@pytest.mark.parametrize("name", MINI)
def test_a_training_step_of_the_mini_cola_networks_matches(name):
    file, model = golden(f"cola_{name}"), mini(name).train()
    logits = model(contrast_batch(200, 6400, noise=300))
    loss = contrastive_loss(logits)
    loss.backward()
    assert relative(logits, file["train_logits"]) <= TOLERANCE["learnable, mini step, relative"]
    assert float(loss.detach()) == pytest.approx(float(file["train_loss"]), rel=1e-4)
    gradients, close = official_gradients(model), TOLERANCE["learnable, mini gradient, relative"]
    assert worst_norm(gradients, file["grad_keys"], file["grad_norms"]) <= close
    for key in (key for key in file if key.startswith("grad/")):
        ours = gradients[key.removeprefix("grad/")]
        assert relative(ours.reshape(file[key].shape), file[key]) <= close, key
    state = {theirs: model.state_dict()[ours] for ours, theirs in model.official_names().items()}
    updated = [key for key in file if key.startswith("bs1/")]
    assert len(updated) == sum(key.endswith(("/mean", "/var")) for key in state)
    for key in updated:
        assert relative(state[key.removeprefix("bs1/")], file[key]) <= TOLERANCE["learnable, mini step, relative"], key


def test_the_mini_leaf_pytorch_network_matches():
    file = golden("leafpytorch_mini")
    model = Classifier(16, 6, "0/leafptmini/", width_factor=0.125, **MINI_SIZES).eval()
    close = TOLERANCE["learnable, mini, relative"]
    batch = stack(*(signal(200 + i, 6400) for i in range(4)))
    found: dict[str, Tensor] = {}
    for i, block in enumerate(model.encoder.blocks):
        block.register_forward_hook(lambda m, x, y, i=i: found.update({f"block{i}": y}))
    with torch.no_grad():
        features = model.frontend(batch)
        assert relative(features[:2].transpose(1, 2), file["eval/features"]) <= close
        assert relative(model.embed(features), file["eval/pooled"]) <= close
        assert relative(model(batch), file["eval/logits"]) <= close
    for name, value in found.items():
        assert relative(value[:1], file[f"eval/{name}"]) <= close, name

    model.train()
    logits = model(batch)
    cross_entropy(logits, torch.arange(4)).backward()
    assert relative(logits, file["train_logits"]) <= TOLERANCE["learnable, mini step, relative"]
    gradients, close = official_gradients(model), TOLERANCE["learnable, mini gradient, relative"]
    assert worst_norm(gradients, file["grad_keys"], file["grad_norms"]) <= close
    for key in (key for key in file if key.startswith("grad/")):
        ours = gradients[key.removeprefix("grad/")]
        assert relative(ours.reshape(file[key].shape), file[key]) <= close, key
    state = {theirs: model.state_dict()[ours] for ours, theirs in model.official_names().items()}
    for key in (key for key in file if key.startswith("bs1/")):
        assert relative(state[key.removeprefix("bs1/")], file[key]) <= TOLERANCE["learnable, mini step, relative"], key


B0 = {"leaf": lambda: Leaf(64), "sinc": lambda: SincNet(64), "logmel": lambda: None}


def b0_batch(name: str) -> Tensor:
    """What the network of the golden file is given: audio, or standardised log-mels [8, frames, bands]."""
    batch = contrast_batch(500, 15_360)
    if name != "logmel":
        return batch
    standardise = Standardise(ddof=0, eps=1e-7)
    return torch.stack([standardise(clip) for clip in UncentredLogMel()(batch)])


@pytest.mark.parametrize("name", B0)
def test_audax_b0_matches(name):
    file, close = golden("b0_recipe_audax"), TOLERANCE["learnable, B0, relative"]
    model, batch = Cola(B0[name](), "", 512), b0_batch(name)
    parameters = {ours: parameter for ours, parameter in model.named_parameters()}
    assert sum(parameter.numel() for parameter in parameters.values()) == int(file[f"{name}_n_params"])
    names = model.official_names()
    assert sorted(names[ours] for ours in parameters) == sorted(map(str, file[f"{name}_param_keys"]))

    model.eval()
    means: dict[str, Tensor] = {}
    for i, block in enumerate(model.encoder.blocks):
        block.register_forward_hook(lambda m, x, y, i=i: means.update({f"MBConv_{i}": y.mean((0, 2, 3))}))
    with torch.no_grad():
        embeddings = model.embed(model.features(batch))
        logits = model.head(*embeddings.chunk(2))
    assert len(means) == 16
    for block, value in means.items():
        assert relative(value, file[f"{name}_eval_mean/encoder/{block}"]) <= close, block
    assert relative(embeddings[[0, 7]], file[f"{name}_eval_encoder"]) <= close
    assert relative(model.head.project(embeddings[[0, 7]]), file[f"{name}_eval_tanh_in"]) <= close
    assert relative(logits, file[f"{name}_eval_logits"]) <= close

    model.train()
    for block in model.encoder.blocks:
        block.drop = 0.0  # as in the golden file: nothing random
    logits = model(batch)
    loss = contrastive_loss(logits)
    loss.backward()
    step = TOLERANCE["learnable, B0 step, relative"]
    assert relative(logits, file[f"{name}_train_logits"]) <= step
    assert float(loss.detach()) == pytest.approx(float(file[f"{name}_train_loss"]), rel=step)
    gradients = official_gradients(model)
    assert worst_norm(gradients, np.array(sorted(gradients)), file[f"{name}_grad_norms"]) <= step
    state = {names[ours]: value for ours, value in model.state_dict().items()}
    statistics = sorted(key for key in state if key.endswith(("/mean", "/var")))
    norms = np.array([float(state[key].double().norm()) for key in statistics])
    assert relative(norms / file[f"{name}_bs1_norms"], np.ones(98)) <= step


def test_leaf_pytorch_b0_matches():
    file, close = golden("b0_recipe_leafpytorch"), TOLERANCE["learnable, B0 leaf-pytorch, relative"]
    model, batch = Classifier(40, 35), stack(signal(500, 16_000), signal(501, 16_000))
    counters = {str(key) for key in file["state_keys"] if str(key).endswith("num_batches_tracked")}
    assert set(model.official_names().values()) == {str(key) for key in file["state_keys"]} - counters
    assert sum(parameter.numel() for parameter in model.parameters()) == int(file["n_params"])
    model.eval()
    means: dict[str, Tensor] = {}
    for i, block in enumerate(model.encoder.blocks):
        block.register_forward_hook(lambda m, x, y, i=i: means.update({f"block{i}": y.mean((0, 2, 3))}))
    with torch.no_grad():
        features = model.frontend(batch)
        embeddings = model.embed(features)
        assert relative(features.mean(1), file["features_mean"]) <= close
        assert relative(features[0, :3].T, file["features_0_first3"]) <= close
        assert relative(embeddings, file["pooled"]) <= close
        assert relative(model(batch), file["logits"]) <= close
    for block, value in means.items():
        assert relative(value, file[f"mean/{block}"]) <= close, block

    model.train()
    for block in model.encoder.blocks:
        block.drop = 0.0
    logits = model(batch)
    loss = cross_entropy(logits, torch.tensor([3, 17]))
    loss.backward()
    step = TOLERANCE["learnable, B0 step, relative"]
    assert relative(logits, file["train_logits"]) <= step
    assert float(loss.detach()) == pytest.approx(float(file["train_loss"]), rel=step)
    assert worst_norm(official_gradients(model), file["grad_keys"], file["grad_norms"]) <= step


# ------------------------------------------------------------------ the forms themselves


def test_the_defaults_are_the_network_of_gise51():
    """Names and the order of random draws: converted weights and seeded networks of before stay what they were."""
    network = EfficientNet()
    names = list(network.state_dict())
    assert names[:6] == ["conv_stem.weight", *(f"bn_stem.{n}" for n in BATCH_NORM), "blocks.0.depthwise_conv.weight"]
    assert names[10:14] == [f"blocks.0.se_{kind}.{what}" for kind in ("reduce", "expand") for what in PAIR]
    assert names[-5:] == ["conv_head.weight", *(f"bn_head.{n}" for n in BATCH_NORM)]
    initialise_efficientnet(network, torch.Generator().manual_seed(2))
    rng = torch.Generator().manual_seed(2)
    for module in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        limit = module.weight[0].numel() ** -0.5
        for tensor in (module.weight, module.bias):
            if tensor is not None:
                torch.testing.assert_close(tensor.data, torch.empty_like(tensor).uniform_(-limit, limit, generator=rng))
    assert (network.bn_stem.eps, network.bn_stem.momentum, network.bn_stem.biased) == (1e-3, 0.01, False)
    assert all(conv.padding == (0, 0) or len(set(conv.same_padding)) == 1 for conv in [network.conv_stem])


BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
PAIR = ("weight", "bias")


@pytest.mark.parametrize("size", [(96, 64), (101, 40), (100, 64), (33, 7), (1, 1)])
def test_paddings_of_each_image_give_sizes_halved_and_rounded_up(size):
    network = EfficientNet(0.25, None, width_factor=0.125, form=AUDAX).eval()
    with torch.no_grad():
        found = network(torch.zeros(1, 1, *size))
    assert tuple(found.shape[2:]) == tuple(-(-n // 32) for n in size)


def test_paddings_of_each_image_are_those_for_one_size_at_that_size():
    fixed, free = EfficientNet(0.25, 96, width_factor=0.125).eval(), EfficientNet(0.25, None, width_factor=0.125).eval()
    initialise_efficientnet(fixed, torch.Generator().manual_seed(0))
    free.load_state_dict(fixed.state_dict())
    image = torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(free(image), fixed(image))
    assert (free.stride, free.first_centre) == (fixed.stride, fixed.first_centre)


def test_widths_are_multiples_of_8_and_not_much_smaller():
    assert [scaled_width(width, 0.125) for width in (32, 16, 24, 40, 80, 112, 192, 320)] == [8, 8, 8, 8, 16, 16, 24, 40]
    assert [scaled_width(width, 1.0) for width in (16, 24, 112)] == [16, 24, 112]


def test_biased_running_variances_are_those_over_n():
    """As Flax: 0.9 of the old and 0.1 of the batch's variance over n; the output is torch's."""
    ours, theirs = BatchNorm(5, biased=True), nn.BatchNorm2d(5)
    for _ in range(2):
        x = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(1)) * 2 + 1
        before = ours.running_var.clone()
        torch.testing.assert_close(ours(x), theirs(x))
        expected = 0.9 * before + 0.1 * x.var((0, 2, 3), correction=0)
        torch.testing.assert_close(ours.running_var, expected)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    assert not torch.allclose(ours.running_var, theirs.running_var, rtol=1e-3)
    before = ours.eval().running_var.clone()
    ours(x)
    assert torch.equal(ours.running_var, before), "evaluation must not move statistics"


def test_flax_initial_weights_have_twice_the_inverse_fan_in():
    network = EfficientNet(form=AUDAX)
    initialise_efficientnet(network, torch.Generator().manual_seed(0), "he")
    head = network.conv_head.weight.detach()
    assert float(head.var()) == pytest.approx(2 / 320, rel=0.02)
    assert float(head.abs().max()) <= 2 * (2 / 320) ** 0.5 / 0.8796, "cut at two deviations"
    assert network.blocks[3].se_reduce.bias is None


# ------------------------------------------------------------------ COLA's head


def test_the_loss_looks_from_anchors_to_positives_only():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [5.0, 0.0, 1.0]])
    expected = -torch.log(torch.softmax(logits, dim=1).diagonal()).mean()
    torch.testing.assert_close(contrastive_loss(logits), expected)
    assert not torch.allclose(contrastive_loss(logits.T), expected)


def test_the_bilinear_form_takes_anchors_left_and_positives_right():
    head = BilinearHead(6, 4)
    initialise_head(head, torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    anchors, positives = torch.randn(3, 6, generator=rng), torch.randn(3, 6, generator=rng)
    a, p = head.project(anchors).tanh(), head.project(positives).tanh()
    logits = head(anchors, positives)
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(logits[i, j], a[i] @ head.bilinear @ p[j])
    assert float(BilinearHead(6, 400).norm.eps) == 1e-6
    wide = BilinearHead(8, 400)
    initialise_head(wide, torch.Generator().manual_seed(0))
    assert float(wide.bilinear.detach().std()) == pytest.approx(0.01, rel=0.02)


def test_the_maps_of_names_reach_every_tensor_once():
    for names, network in (
        (audax_names, EfficientNet(image_size=None, form=AUDAX)),
        (leafpytorch_names, EfficientNet(image_size=None, form=PORTED)),
    ):
        found = names(network)
        assert list(found) == list(network.state_dict()) and len(set(found.values())) == len(found)


def test_audio_of_norm_1_is_what_the_batches_hold():
    assert float(np.square(unit_norm(signal(1, 100)).astype(np.float64)).sum()) == pytest.approx(1, rel=1e-6)
