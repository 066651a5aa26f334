"""Pooled squares of filtered audio, with a gradient that filters again instead of keeping every response."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv1d, pad

from hear_models.frontends.filtering import Framing, pieces


class PooledSquares(torch.autograd.Function):
    """Squared moduli of complex responses, summed with weights to frames: as `pool_responses` of them, the same bits.

    Autograd would keep all responses of a batch, a hundred times its audio, and read them from memory thrice. Here a
    piece of a clip is filtered, squared, pooled and forgotten; the gradient makes it once more while it stays in a
    core's cache.

    With responses y = ifft(X * S), energies e = |y|**2 and frames p[i] = sum over k of w[k] * e[i * hop + k], and with
    g the gradient of p: that of w[k] is sum g[i] * e[i * hop + k]; that of e is g spread by w; that of y is 2 * y times
    it; and that of S is conj(X) * fft(that) / n.

    Call `apply(audio, spectrum, weights, framing, n_taps)`:
        audio: [clips, samples], which gets no gradient.
        spectrum: of `FilterBank`, complex [n_filters, block].
        weights: [n_filters, framing.window_samples], of the pooling.
        framing: the windows; silence stands outside of the clip.
        n_taps: of the filters.
    Returns: [clips, frames, n_filters].
    """

    @staticmethod
    def forward(ctx: Any, audio: Tensor, spectrum: Tensor, weights: Tensor, framing: Framing, n_taps: int) -> Tensor:
        """See the class."""
        ctx.save_for_backward(audio, spectrum, weights)
        ctx.framing, ctx.n_taps = framing, n_taps
        n_samples, block = audio.shape[1], spectrum.shape[1]
        clips = []
        for row in pad(audio, (n_taps // 2, n_taps // 2)):
            frames = []
            for _, (start, stop), beyond in pieces(n_samples, n_taps, framing, block):
                _, responses = filtered(row[start : stop + n_taps - 1], spectrum, n_taps)
                energies = pad(squares(responses), beyond)
                frames.append(conv1d(energies, weights[:, None], stride=framing.hop_samples, groups=len(weights)))
            clips.append(torch.cat(frames, dim=1))
        return torch.stack(clips).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        """See the class."""
        audio, spectrum, weights = ctx.saved_tensors
        framing, n_taps = ctx.framing, ctx.n_taps
        (n_samples, block), window, hop = (
            (audio.shape[1], spectrum.shape[1]),
            framing.window_samples,
            framing.hop_samples,
        )
        of_spectrum, of_weights = torch.zeros_like(spectrum), torch.zeros_like(weights)
        of_responses = torch.zeros_like(spectrum)
        for row, gradient in zip(pad(audio, (n_taps // 2, n_taps // 2)), gradients[0].mT.contiguous(), strict=True):
            for (first, last), (start, stop), beyond in pieces(n_samples, n_taps, framing, block):
                of_frames = gradient[:, first:last]  # [n_filters, frames]
                sound, responses = filtered(row[start : stop + n_taps - 1], spectrum, n_taps)
                energies = pad(squares(responses), beyond)
                of_weights += torch.bmm(of_frames[:, None], energies.unfold(1, window, hop))[:, 0]
                of_energies = torch.zeros_like(energies)
                for tap in range(0, window, hop):  # windows overlap, stretches of a hop in them do not
                    stretch = weights[:, None, tap : tap + hop]
                    places = of_energies[:, tap:].unfold(1, stretch.shape[2], hop)[:, : last - first]
                    places.addcmul_(of_frames[..., None], stretch)
                of_energies = of_energies[:, beyond[0] : beyond[0] + responses.shape[1]]
                of_responses.zero_()
                torch.mul(responses, of_energies, out=of_responses[:, n_taps - 1 : n_taps - 1 + responses.shape[1]])
                of_spectrum.addcmul_(torch.fft.fft(of_responses), sound.conj())
        return None, of_spectrum * (2 / block), of_weights, None, None


def filtered(audio: Tensor, spectrum: Tensor, n_taps: int) -> tuple[Tensor, Tensor]:
    """Audio with margins [samples + n_taps - 1] → (its spectrum [block], responses [n_filters, samples])."""
    sound = torch.fft.fft(audio, spectrum.shape[1])
    return sound, torch.fft.ifft(sound * spectrum)[:, n_taps - 1 : len(audio)]


def squares(responses: Tensor) -> Tensor:
    """Complex responses → their squared moduli; as quick as it gets with complex numbers."""
    return (responses * responses.conj()).real
