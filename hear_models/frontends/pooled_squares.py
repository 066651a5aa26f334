"""Pooled squares of filtered audio, with a gradient that filters again instead of keeping every response."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv1d, pad

from hear_models.frontends.filtering import FilterBank, Framing, block_with_room, pieces, pool_responses


class PooledSquares(torch.autograd.Function):
    """Squared moduli of complex responses, summed with weights to frames, in the frequency domain: as `pool_responses`.

    Autograd would keep all responses of a batch, a hundred times its audio, and read them from memory thrice. Here a
    piece of a clip is filtered, squared, pooled and forgotten; the gradient makes it once more while it stays in a
    core's cache.

    With responses y = ifft(X * S), energies e = |y|**2 and frames p[i] = sum over k of w[k] * e[i * hop + k], and with
    g the gradient of p: that of w[k] is sum g[i] * e[i * hop + k]; that of e is g spread by w; that of y is 2 * y times
    it; that of S is conj(X) * fft(that) / n; and that of the filters, flipped in S, the first taps of n times its ifft.

    Call `apply(audio, filters, weights, framing)`:
        audio: [clips, samples], which gets no gradient.
        filters: complex [n_filters, taps], taps odd.
        weights: [n_filters, framing.window_samples], of the pooling.
        framing: the windows; silence stands outside of the clip.
    Returns: [clips, frames, n_filters].
    """

    @staticmethod
    def forward(ctx: Any, audio: Tensor, filters: Tensor, weights: Tensor, framing: Framing) -> Tensor:
        """See the class."""
        ctx.save_for_backward(audio, filters, weights)
        ctx.framing = framing

        def pool(responses: Tensor) -> Tensor:
            return conv1d(squares(responses), weights[:, None], stride=framing.hop_samples, groups=len(weights))

        return pool_responses(audio, filters, framing, pool, domain="frequency")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None]:
        """See the class."""
        audio, filters, weights = ctx.saved_tensors
        window, hop = ctx.framing.window_samples, ctx.framing.hop_samples
        n_samples, n_taps = audio.shape[1], filters.shape[1]
        block = block_with_room(n_samples, n_taps, ctx.framing, "frequency")
        bank = FilterBank(filters, block)
        of_spectrum, of_weights = torch.zeros_like(bank.spectrum), torch.zeros_like(weights)
        of_responses = torch.zeros_like(bank.spectrum)
        for row, gradient in zip(pad(audio, (n_taps // 2, n_taps // 2)), gradients[0].mT.contiguous(), strict=True):
            for (first, last), (start, stop), beyond in pieces(n_samples, n_taps, ctx.framing, block):
                of_frames = gradient[:, first:last]  # [n_filters, frames]
                sound = row[start : stop + n_taps - 1]
                responses = bank(sound[None])[0]
                energies = pad(squares(responses), beyond)
                of_weights += torch.bmm(of_frames[:, None], energies.unfold(1, window, hop))[:, 0]
                of_energies = torch.zeros_like(energies)
                for tap in range(0, window, hop):  # windows overlap, stretches of a hop in them do not
                    stretch = weights[:, None, tap : tap + hop]
                    places = of_energies[:, tap:].unfold(1, stretch.shape[2], hop)[:, : last - first]
                    places.addcmul_(of_frames[..., None], stretch)
                of_energies = of_energies[:, beyond[0] : beyond[0] + responses.shape[1]]
                of_responses.zero_()
                torch.mul(responses, of_energies, out=of_responses[:, n_taps - 1 : len(sound)])
                of_spectrum.addcmul_(torch.fft.fft(of_responses), torch.fft.fft(sound, block).conj())
        of_filters = 2 * torch.fft.ifft(of_spectrum)[:, :n_taps].flip(1)
        return None, of_filters, of_weights, None


def squares(responses: Tensor) -> Tensor:
    """Complex responses → their squared moduli, in one quick pass of complex numbers."""
    return (responses * responses.conj()).real
