"""SincNet against the code base that COLA was pretrained with, and what a user of the module alone relies on."""

from __future__ import annotations

import math

import pytest
import torch
from golden_inputs import TOLERANCE
from hypothesis import given, settings
from hypothesis import strategies as st
from learnable_inputs import golden, load_frontend, relative, signal, stack, unit_norm
from torch.nn.functional import conv1d

from hear_models.errors import UsageError
from hear_models.frontends import SincNet

LENGTHS = (1, 160, 161, 399, 401, 4800, 15360, 16037)
CLOSE = TOLERANCE["learnable, front end, relative"]
DOMAINS = ("time", "frequency", "auto")


def disturbed(which: str, domain: str = "auto") -> SincNet:
    """16 filters with the parameters of a golden file: "soft" within their ranges, "hard" also beyond."""
    sincnet = SincNet(16, domain=domain)
    load_frontend(sincnet, golden("frontends_audax"), f"sinc_{which}_param/")
    return sincnet


@pytest.mark.parametrize("n_filters", [16, 40, 64])
def test_initial_filters_are_equally_wide_in_mel(n_filters):
    assert relative(SincNet(n_filters).filters, golden("frontends_audax")[f"sinc_init_{n_filters}"]) <= 1e-6


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("n", LENGTHS)
def test_outputs_match(n, domain):
    """Of one sample, all filters answer alike, and normalisation blows rounding up: there, `pooled` is compared."""
    i = LENGTHS.index(n)
    sincnet, audio = disturbed("soft", domain), stack(signal(10 + i, n), signal(40 + i, n))
    if n == 1 and domain == "frequency":
        torch.testing.assert_close(sincnet.pooled(audio), disturbed("soft", "time").pooled(audio), rtol=1e-6, atol=1e-7)
    else:
        assert relative(sincnet(audio), golden("frontends_audax")[f"sinc_soft_out_{n}"]) <= CLOSE


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("kind", ["silence", "loud", "quiet"])
def test_outputs_of_extreme_input_match(kind, domain):
    found = disturbed("soft", domain)(stack(signal(70, 3200, kind)))
    assert relative(found, golden("frontends_audax")[f"sinc_soft_out_{kind}_3200"]) <= CLOSE


@pytest.mark.parametrize("domain", DOMAINS)
def test_parameters_beyond_their_ranges_match(domain):
    found = disturbed("hard", domain)(stack(signal(15, 4800), signal(45, 4800)))
    assert relative(found, golden("frontends_audax")["sinc_hard_out_4800"]) <= CLOSE


def test_audio_of_norm_1_matches():
    found = disturbed("soft")(stack(unit_norm(signal(71, 4800))))
    assert relative(found, golden("frontends_audax")["sinc_soft_out_l2n_4800"]) <= CLOSE


def test_every_stage_matches():
    file, sincnet, audio = golden("frontends_audax"), disturbed("hard"), stack(signal(90, 2000))
    filters = sincnet.sincs().detach()
    assert relative(filters[:6].T, file["stage_sinc_filters"]) <= CLOSE
    responses = conv1d(audio[:, None], filters[:, None], padding=200)[0, :, ::125]
    assert relative(responses.T, file["stage_sinc_conv"]) <= CLOSE
    assert relative(sincnet(audio), file["stage_sinc_out"]) <= CLOSE


# ------------------------------------------------------------------ what a user relies on


def test_a_lower_edge_at_or_beyond_half_the_sample_rate_stays_finite():
    """Exactly there, 50 Hz added, the original divides 0 by 0; beyond, its band is negative."""
    sincnet, audio = SincNet(16), stack(signal(1, 3200))
    with torch.no_grad():
        sincnet.filters[3] = torch.tensor([9000.0, 10.0])
        sincnet.filters[4] = torch.tensor([-8000.0, -10.0])
        sincnet.filters[5] = torch.tensor([7950.0, 10.0])
    assert bool((sincnet.bandwidth_hz > 0).all())
    found = sincnet(audio)
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert torch.isfinite(sincnet.filters.grad).all()


def test_only_the_norm_and_one_parameter_are_learned():
    shapes = {name: tuple(parameter.shape) for name, parameter in SincNet(24).named_parameters()}
    assert shapes == {"filters": (24, 2), "norm.weight": (24,), "norm.bias": (24,)}


@given(n=st.integers(1, 5000))
@settings(max_examples=15, deadline=None)
def test_a_clip_does_not_depend_on_its_neighbours(n):
    sincnet = SincNet(8)
    clips = stack(signal(1, n), signal(2, n, "loud"), signal(3, n, "silence"))
    with torch.inference_mode():
        together = sincnet.pooled(clips)
        alone = torch.cat([sincnet.pooled(clip[None]) for clip in clips])
    assert together.shape == (3, math.ceil(n / 160), 8)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_pooled_grows_with_the_audio_and_compress_does_the_rest():
    sincnet, audio = SincNet(16), stack(signal(1, 4800))
    torch.testing.assert_close(sincnet.pooled(3 * audio), 3 * sincnet.pooled(audio))
    assert torch.equal(sincnet.compress(sincnet.pooled(audio)), sincnet(audio))


def test_nothing_around_the_clip_takes_part_in_the_maximum():
    """One negative sample: every response is below zero, and zeros around the clip would be larger."""
    found = SincNet(4).pooled(torch.tensor([[-1.0]]))
    torch.testing.assert_close(found, torch.full((1, 1, 4), -0.2))


def test_it_computes_in_float32_within_autocast():
    sincnet, audio = SincNet(16), stack(signal(1, 3200))
    expected = sincnet(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sincnet(audio), expected)


@pytest.mark.parametrize("init", ["uniform", "uniform_hz", "truncated_normal", "truncated_normal_hz"])
def test_random_filters_lie_in_their_range_and_leave_the_global_state_alone(init):
    state = torch.get_rng_state()
    sincnet = SincNet(40, init=init, rng=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    left, width = sincnet.filters.detach().unbind(1)
    assert float(left[0]) >= 49.99 and bool((width >= 0).all())
    assert float(left[-1] + width[-1]) <= 7900.01
    torch.testing.assert_close(left[1:], left[:-1] + width[:-1])
    assert torch.equal(sincnet.filters, SincNet(40, init=init, rng=torch.Generator().manual_seed(3)).filters)
    if init.startswith("truncated"):  # stretched to both ends
        assert [float(left[0]), float(left[-1] + width[-1])] == pytest.approx([50, 7900], rel=1e-4)


def test_random_filters_are_uniform_in_mel_or_in_hz():
    in_hz, in_mel = (SincNet(4000, init=init).filters.detach()[:, 0] for init in ("uniform_hz", "uniform"))
    assert float(in_hz.mean()) == pytest.approx(3975, abs=150)
    assert float((2595 * torch.log10(1 + in_mel / 700)).mean()) == pytest.approx((77.8 + 2827.4) / 2, abs=60)


def test_frequencies_in_hz():
    sincnet = SincNet(16)
    low, high = sincnet.constrained().detach().unbind(1)
    torch.testing.assert_close(sincnet.band_hz, (low + high) / 2)
    torch.testing.assert_close(sincnet.bandwidth_hz, high - low)
    assert float(low[0]) == pytest.approx(100), "50 Hz of the design and 50 Hz added"


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"n_filters": 0}, "Give at least 1."),
        ({"window_samples": 2}, "Give an odd number"),
        ({"init": "hz"}, "Use one of mel"),
        ({"sample_rate": 250}, "more than 300 Hz"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        SincNet(**arguments)


def test_input_of_another_kind_is_refused():
    with pytest.raises(UsageError, match=r"Give floating point \[clips, samples\]"):
        SincNet(16)(torch.zeros(100))
