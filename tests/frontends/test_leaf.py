"""LEAF against both code bases that published weights of it, and what a user of the module alone relies on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from golden_inputs import TOLERANCE
from hypothesis import given, settings
from hypothesis import strategies as st
from learnable_inputs import golden, load_frontend, relative, signal, stack, unit_norm
from torch import Tensor

import hear_models.frontends
from hear_models.errors import UsageError
from hear_models.frontends import Leaf

LENGTHS = (1, 160, 161, 399, 401, 4800, 15360, 16037)
FLAVOURS = {"audax": ("frontends_audax", "leaf_"), "leaf-pytorch": ("frontend_leafpytorch", "")}
DOMAINS = ("time", "frequency", "auto")
CLOSE = TOLERANCE["learnable, front end, relative"]


def disturbed(flavour: str, which: str, domain: str = "auto") -> Leaf:
    """16 filters with the parameters of a golden file: "soft" within their ranges, "hard" also beyond."""
    leaf = Leaf(16, flavour=flavour, domain=domain)
    file, prefix = FLAVOURS[flavour]
    load_frontend(leaf, golden(file), f"{prefix}{which}_param/")
    return leaf


def official(flavour: str, key: str) -> np.ndarray:
    """A golden output as [clips, frames, filters]."""
    file, prefix = FLAVOURS[flavour]
    array = golden(file)[prefix + key]
    return array if flavour == "audax" else array.transpose(0, 2, 1)


def pair(flavour: str, n: int) -> Tensor:
    added = LENGTHS.index(n) if flavour == "audax" else 0
    return stack(signal(10 + added, n), signal(40 + added, n))


@pytest.mark.parametrize("n_filters", [16, 40, 64])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_initial_filters_are_those_of_the_mel_bank(flavour, n_filters):
    file, prefix = FLAVOURS[flavour]
    assert relative(Leaf(n_filters, flavour=flavour).filters, golden(file)[f"{prefix}init_{n_filters}"]) <= 1e-6


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_outputs_match(flavour, n, domain):
    leaf = disturbed(flavour, "soft", domain)
    found = leaf(pair(flavour, n))
    assert found.shape[1] == leaf.n_frames(n)
    assert relative(found, official(flavour, f"soft_out_{n}")) <= CLOSE


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("kind", ["silence", "loud", "quiet"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_outputs_of_extreme_input_match(flavour, kind, domain):
    found = disturbed(flavour, "soft", domain)(stack(signal(70, 3200, kind)))
    assert relative(found, official(flavour, f"soft_out_{kind}_3200")) <= CLOSE


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(
    "flavour, which", [("audax", "hard"), ("leaf-pytorch", "hard"), ("leaf-pytorch", "hard_legacy")]
)
def test_parameters_beyond_their_ranges_match(flavour, which, domain):
    found = disturbed(flavour, which, domain)(pair(flavour, 4800))
    assert relative(found, official(flavour, f"{which}_out_4800")) <= CLOSE


def test_audio_of_norm_1_matches():
    found = disturbed("audax", "soft")(stack(unit_norm(signal(71, 4800))))
    assert relative(found, official("audax", "soft_out_l2n_4800")) <= CLOSE


def test_another_window_and_hop_match():
    """audax adds one sample to a window that is asked for: 512 is 513."""
    found = Leaf(16, 513, 200)(stack(signal(91, 3000)))
    assert relative(found, golden("frontends_audax")["leaf_win512_str200_out_3000"]) <= CLOSE


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_stage_matches(flavour):
    file = golden(FLAVOURS[flavour][0])
    audax = flavour == "audax"
    key = "stage_leaf_" if audax else "stage_"
    leaf = disturbed(flavour, "hard")
    audio = stack(signal(90, 2000))
    with torch.no_grad():
        gabors = leaf.gabors()
        responses = torch.nn.functional.conv1d(
            audio[:, None], torch.view_as_real(gabors).movedim(2, 1).flatten(0, 1)[:, None], padding=200
        )[0, :, ::125]  # real and imaginary parts take turns, as in both code bases
        squares = responses.square().unflatten(0, (-1, 2)).sum(1)
        pooled, out = leaf.pooled(audio), leaf(audio)
    if not audax:
        pooled, out = (pooled + leaf.lowpass_bias.detach()).transpose(1, 2), out.transpose(1, 2)
    assert relative(gabors.real[:6], file[f"{key}filters_real"]) <= CLOSE
    assert relative(gabors.imag[:6], file[f"{key}filters_imag"]) <= CLOSE
    assert relative(responses.T if audax else responses, file[f"{key}conv"]) <= CLOSE
    assert relative(squares.T if audax else squares, file[f"{key}sqmod"]) <= CLOSE
    assert relative(pooled, file[f"{key}pooled"]) <= CLOSE
    assert relative(out, file[f"{key}out"]) <= CLOSE
    if audax:
        assert relative(leaf.lowpasses()[:6, ::5].T, file["stage_leaf_lowpass"]) <= CLOSE


# ------------------------------------------------------------------ what a user relies on


def test_front_ends_are_found_in_one_place():
    for name in ("Leaf", "SincNet", "PCEN", "LogMel", "UncentredLogMel"):
        assert name in hear_models.frontends.__all__ and hasattr(hear_models.frontends, name)


def test_the_two_flavours_are_not_one_function():
    audio = stack(signal(0, 4800))
    assert not torch.allclose(Leaf(16)(audio), Leaf(16, flavour="leaf-pytorch")(audio), rtol=0.1)
    assert "lowpass_bias" in Leaf(16, flavour="leaf-pytorch").state_dict()
    assert set(Leaf(16).state_dict()) == {
        *("filters", "lowpass"),
        *(f"pcen.{name}" for name in ("alpha", "delta", "root", "smooth")),
    }
    assert all(parameter.shape in ((16, 2), (16,)) for parameter in Leaf(16).parameters())


@pytest.mark.parametrize("flavour, place", [("audax", 80), ("leaf-pytorch", 0)])
def test_a_frame_lies_where_the_docstring_says(flavour, place):
    """A click right there gives equal energies in the frames before and behind."""
    audio = torch.zeros(1, 3200)
    audio[0, 10 * 160 + place] = 1.0
    energy = Leaf(16, flavour=flavour).pooled(audio)[0]
    assert bool((energy.argmax(0) == 10).all())
    torch.testing.assert_close(energy[9], energy[11], rtol=1e-3, atol=1e-6)


@given(n=st.integers(1, 5000), flavour=st.sampled_from(list(FLAVOURS)))
@settings(max_examples=15, deadline=None)
def test_a_clip_does_not_depend_on_its_neighbours(n, flavour):
    leaf = Leaf(8, flavour=flavour)
    clips = stack(signal(1, n), signal(2, n, "loud"), signal(3, n, "silence"))
    with torch.inference_mode():
        together = leaf(clips)
        alone = torch.cat([leaf(clip[None]) for clip in clips])
    assert together.shape == (3, math.ceil(n / 160), 8)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_pooled_is_quadratic_and_compress_does_the_rest():
    leaf, audio = disturbed("leaf-pytorch", "soft"), stack(signal(1, 4800))
    torch.testing.assert_close(leaf.pooled(3 * audio), 9 * leaf.pooled(audio), rtol=1e-4, atol=1e-5)
    assert torch.equal(leaf.compress(leaf.pooled(audio)), leaf(audio))


def test_silence_is_the_constant_of_the_floor():
    floor = torch.tensor(1e-5)
    expected = (floor ** (1 - 0.96) + 2) ** 0.5 - 2**0.5
    found = Leaf(16)(torch.zeros(1, 1600))
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("domain", ["time", "frequency"])
def test_gradients_reach_every_parameter_and_the_audio(domain):
    leaf = Leaf(16, flavour="leaf-pytorch", domain=domain).double()
    audio = stack(signal(1, 5000)).double().requires_grad_()
    leaf(audio).square().sum().backward()
    for name, parameter in [*leaf.named_parameters(), ("audio", audio)]:
        assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().max() > 0, name


def test_no_gradient_reaches_filters_beyond_their_range():
    leaf = Leaf(4)
    with torch.no_grad():
        leaf.filters[0, 0], leaf.filters[1, 1], leaf.filters[2, 1] = -0.1, 0.5, 500.0
    leaf(stack(signal(1, 3200))).sum().backward()
    assert leaf.filters.grad[0, 0] == leaf.filters.grad[1, 1] == leaf.filters.grad[2, 1] == 0
    assert leaf.filters.grad[3].abs().min() > 0


def test_it_computes_in_float32_within_autocast_and_for_halves():
    leaf, audio = Leaf(16), stack(signal(1, 3200))
    expected = leaf(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(leaf(audio), expected)
    assert leaf(audio.bfloat16()).dtype == torch.float32
    assert leaf(audio.double()).dtype == torch.float64


# ------------------------------------------------------------------ random filters


@pytest.mark.parametrize("init", ["uniform", "truncated_normal"])
def test_random_filters_lie_in_their_ranges_and_leave_the_global_state_alone(init):
    state = torch.get_rng_state()
    leaf = Leaf(40, init=init, rng=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(leaf.filters, leaf.constrained())
    centre, sigma = leaf.filters.detach().unbind(1)
    assert bool((centre.diff() >= 0).all()) and bool((sigma.diff() <= 0).all())
    assert torch.equal(leaf.filters, Leaf(40, init=init, rng=torch.Generator().manual_seed(3)).filters)
    assert not torch.equal(leaf.filters, Leaf(40, init=init, rng=torch.Generator().manual_seed(4)).filters)
    assert torch.equal(Leaf(40, init=init).filters, Leaf(40, init=init).filters)
    if init == "truncated_normal":  # stretched to both ends of the range
        assert centre[0] == 0 and centre[-1] == pytest.approx(math.pi)
        assert [float(sigma[-1]), float(sigma[0])] == pytest.approx(list(leaf.sigma_range))


def test_random_filters_are_distributed_as_said():
    uniform, normal = (
        Leaf(4000, init=init).filters.detach()[:, 0] / math.pi for init in ("uniform", "truncated_normal")
    )
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(normal.mean()) == pytest.approx(0.46, abs=0.02), "the mean of half a normal cut at 1"


def test_frequencies_in_hz():
    """A mel filter is a whole number of FFT bins of 31.25 Hz wide, or as narrow as the window allows: 39.9 Hz."""
    leaf = Leaf(64)
    widths = leaf.bandwidth_hz.detach()
    whole = 31.25 * (widths / 31.25).round()
    narrowest = torch.full_like(widths, 16_000 / 401)
    torch.testing.assert_close(widths, torch.where(widths < 45, narrowest, whole), rtol=1e-4, atol=1e-4)
    assert 2 < int((widths < 45).sum()) < 10
    response = torch.fft.rfft(leaf.gabors().detach().real, 16_000).abs()
    centres = leaf.band_hz.detach()
    assert float((response.argmax(1) - centres).abs()[8:].max()) <= 2  # bins of 1 Hz; below, both sides overlap


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"n_filters": 0}, "n_filters is 0. Give at least 1."),
        ({"window_samples": 400}, "Give an odd number"),
        ({"hop_samples": 0}, "hop_samples is 0"),
        ({"flavour": "tensorflow"}, "Use one of audax, leaf-pytorch."),
        ({"init": "normal"}, "Use one of mel, uniform, truncated_normal."),
        ({"n_filters": 400}, 'too many for init="mel"'),
        ({"n_filters": 1, "init": "truncated_normal"}, "Give at least 2"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        Leaf(**arguments)


@pytest.mark.parametrize("audio", [torch.zeros(100), torch.zeros(1, 0), torch.zeros(1, 100, dtype=torch.int16)])
def test_input_of_another_kind_is_refused(audio):
    with pytest.raises(UsageError, match=r"Give floating point \[clips, samples\]"):
        Leaf(16)(audio)


def test_it_can_be_built_without_memory_and_filled_later():
    with torch.device("meta"):
        leaf = Leaf(16)
    assert leaf.filters.is_meta
    filled = leaf.to_empty(device="cpu")
    filled.load_state_dict(Leaf(16).state_dict())
    audio = stack(signal(1, 3200))
    assert torch.equal(filled(audio), Leaf(16)(audio)), "something besides the parameters was not filled"
