"""The log-mel of COLA's baseline against the official one, and where its frames lie."""

from __future__ import annotations

import pytest
import torch
from golden_inputs import TOLERANCE
from learnable_inputs import golden, relative, signal, stack, unit_norm

from hear_models.errors import UsageError
from hear_models.frontends import UncentredLogMel
from hear_models.pipeline.normalise import Standardise

CLOSE = TOLERANCE["learnable, log-mel, relative"]


@pytest.mark.parametrize("n, step", [(513, 1), (1025, 1), (4801, 1), (15360, 3)])
def test_log_mels_match_raw_and_standardised(n, step):
    frontend = UncentredLogMel()
    raw = frontend(stack(unit_norm(signal(100, n)), unit_norm(signal(101, n))))
    assert raw.shape[1] == frontend.n_frames(n)
    standardise = Standardise(ddof=0, eps=1e-7)
    normed = torch.stack([standardise(clip) for clip in raw])
    assert relative(raw[:, ::step, :, None], golden("logmel_audax")[f"raw_{n}"]) <= CLOSE
    assert relative(normed[:, ::step, :, None], golden("logmel_audax")[f"norm_{n}"]) <= CLOSE


def test_extreme_input_matches():
    frontend = UncentredLogMel()
    assert relative(frontend(torch.zeros(1, 2000))[..., None], golden("logmel_audax")["raw_silence"]) <= CLOSE
    loud = frontend(stack(signal(102, 2000, "loud")))[..., None]
    assert relative(loud, golden("logmel_audax")["raw_loud"]) <= CLOSE


def test_frames_lie_312_samples_before_their_place():
    audio = torch.zeros(1, 8000)
    audio[0, 20 * 160 - 312] = 1.0
    loudness = UncentredLogMel()(audio)[0].exp().sum(1)
    assert int(loudness.argmax()) == 20
    torch.testing.assert_close(loudness[19], loudness[21], rtol=0.2, atol=0)  # the window's middle is half a sample on


def test_too_short_input_is_refused():
    with pytest.raises(UsageError, match="Give at least 513"):
        UncentredLogMel()(torch.zeros(1, 512))
    with pytest.raises(UsageError, match="the length of the FFT"):
        UncentredLogMel(window_samples=2000)
