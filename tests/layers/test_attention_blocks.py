"""CBAM's attention and its forms for spectrograms, and the poolings: numbers of the golden files, edges, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_inputs import GOLDEN, TOLERANCE, largest_difference

from hear_models.errors import UsageError
from hear_models.layers.cbam import MERGES, VARIANTS, Attention, initialise_attention
from hear_models.layers.pooling import average, ghost_vlad, self_attentive, statistics

BLOCKS = np.load(GOLDEN / "ftcbam" / "attention.npz")
VLAD = np.load(GOLDEN / "ftcbam" / "losses.npz")
MODES = ("bn_eval", "bn_train", "nobn")
CASES = [key.removeprefix("out_") for key in BLOCKS.files if key.startswith("out_")]


def block(variant: str, merge: str, mode: str) -> Attention:
    attention = Attention(12, variant, reduction=4, kernel=7, gate_bn=mode != "nobn", ft_merge=merge)
    attention.load_state_dict({name: torch.from_numpy(BLOCKS[f"w/a.{name}"]) for name in attention.state_dict()})
    return attention.train(mode == "bn_train")


def parts(case: str) -> tuple[str, str, str]:
    mode = next(mode for mode in MODES if case.endswith(mode))
    variant, _, merge = case.removesuffix(f"_{mode}").partition("_")
    return variant, merge, mode


@pytest.mark.parametrize("case", CASES)
def test_every_form_of_attention_matches(case):
    with torch.no_grad():
        found = block(*parts(case))(torch.from_numpy(BLOCKS["x"]))
    assert largest_difference(found, BLOCKS[f"out_{case}"]) <= TOLERANCE["ft-CBAM"]


@pytest.mark.parametrize("variant", ["f", "t", "ft"])
@pytest.mark.parametrize("mode", ["bn_train", "nobn"])
def test_gradients_match(variant, mode):
    attention, x = block(variant, "mean", mode), torch.from_numpy(BLOCKS["x"]).requires_grad_()
    (attention(x) * torch.from_numpy(BLOCKS["grad_cotangent"])).sum().backward()
    gradients = {"x": x.grad, **{f"a.{name}": p.grad for name, p in attention.named_parameters()}}
    for name, gradient in gradients.items():
        theirs = BLOCKS[f"grad_{variant}_{mode}/{name}"]
        assert largest_difference(gradient, theirs) <= TOLERANCE["ft-CBAM, gradient"], name


@pytest.mark.parametrize("mode", MODES)
def test_maps_match(mode):
    refined = torch.from_numpy(BLOCKS["channel_refined"]).float()
    ft, s = block("ft", "mean", mode), block("s", "mean", mode)
    with torch.no_grad():
        channel = ft.channel(torch.from_numpy(BLOCKS["x"]))
        maps = {"freq": ft.freq(refined), "time": ft.time(refined), "spatial": s.spatial(refined)}
    assert largest_difference(channel, BLOCKS["channel_map"]) <= TOLERANCE["ft-CBAM"]
    for name, found in maps.items():
        assert largest_difference(found, BLOCKS[f"{name}_map_{mode}"]) <= TOLERANCE["ft-CBAM"], name


def test_none_has_no_parameters_and_changes_nothing():
    attention, x = Attention(12, "none"), torch.randn(2, 12, 5, 4)
    assert not attention.state_dict() and torch.equal(attention(x), x)


def test_options_beyond_the_defaults():
    x = torch.randn(2, 12, 5, 4)
    assert "channel.fc1.weight" not in Attention(12, "f", channel_attention=False).state_dict()
    assert "channel.fc1.bias" not in Attention(12, "f", channel_bias=False).state_dict()
    assert Attention(3, "c", reduction=16).channel.fc1.out_features == 1
    mean, largest = Attention(12, "t", gate_bn=False), Attention(12, "t", gate_bn=False, squeeze="max")
    largest.load_state_dict(mean.state_dict())
    assert not torch.allclose(mean(x), largest(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_random_weights_are_finite_and_gates_may_start_at_one_half(variant):
    attention, x = Attention(8, variant), torch.randn(2, 8, 5, 4)
    initialise_attention(attention, torch.Generator().manual_seed(0), bn_zero=True)
    assert torch.isfinite(attention(x)).all()
    if attention.freq is not None:
        assert attention.freq(x).eq(0.5).all()


@pytest.mark.parametrize(
    "wrong", [{"variant": "tf"}, {"ft_merge": "max"}, {"kernel": 6}, {"reduction": 0}, {"squeeze": "sum"}]
)
def test_settings_that_are_none_are_refused(wrong):
    with pytest.raises(UsageError):
        Attention(8, **wrong)
    assert "mean" in MERGES


# ------------------------------------------------------------------ pooling


@pytest.mark.parametrize(("clusters", "key"), [(4, "gvlad/out_k4_g2"), (6, "gvlad/out_k6_g0")])
def test_ghost_vlad_matches_also_where_nothing_is_left(clusters, key):
    local, scores, centers = (torch.from_numpy(VLAD[f"gvlad/{name}"]) for name in ("local", "scores", "centers"))
    assert largest_difference(ghost_vlad(local, scores, centers, clusters), VLAD[key]) <= TOLERANCE["ft-CBAM"]


def test_ghost_vlad_keeps_gradients_and_refuses_what_does_not_fit():
    local = torch.zeros(1, 6, 5, requires_grad=True)
    ghost_vlad(local, torch.zeros(1, 4, 5), torch.zeros(4, 6), 3).sum().backward()
    assert torch.isfinite(local.grad).all()
    for clusters, centres in ((5, 4), (0, 4), (3, 5)):
        with pytest.raises(UsageError, match="do not fit"):
            ghost_vlad(local, torch.zeros(1, 4, 5), torch.zeros(centres, 6), clusters)


def test_simple_poolings():
    local = torch.tensor([[[1.0, 3.0], [5.0, 5.0]]], requires_grad=True)  # [1, 2, 2]
    assert average(local).tolist() == [[2.0, 5.0]]
    pooled = statistics(local)
    torch.testing.assert_close(pooled, torch.tensor([[2.0, 5.0, 1.0, 1e-6]]))
    pooled.sum().backward()
    assert torch.isfinite(local.grad).all()
    weighted = self_attentive(local, torch.tensor([[0.0, float(np.log(3.0))]]))
    torch.testing.assert_close(weighted, torch.tensor([[2.5, 5.0]]))
