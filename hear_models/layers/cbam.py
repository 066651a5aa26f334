"""Attention over channels, frequency and time in convolutional networks: CBAM and its forms for spectrograms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from hear_models.errors import UsageError
from hear_models.layers.norm import BatchNorm, reset_norm

VARIANTS = ("none", "c", "s", "f", "t", "ft")
MERGES = ("mean", "sum", "product", "freq_then_time", "time_then_freq")
SQUEEZES = ("mean", "max")
FREQUENCY, TIME = 2, 3  # axes of a map [units, channels, rows, columns]


class ChannelAttention(nn.Module):
    """A weight for each channel, from its mean and its maximum over the map (Woo et al. 2018, equation 2)."""

    def __init__(self, channels: int, reduction: int = 16, bias: bool = True) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → weights in (0, 1) [units, channels, 1, 1]."""
        pooled = torch.stack([x.mean((FREQUENCY, TIME)), x.amax((FREQUENCY, TIME))])  # [2, units, channels]
        return torch.sigmoid(self.fc2(relu(self.fc1(pooled))).sum(0))[:, :, None, None]


class Gate(nn.Module):
    """A weight for each place of a map, from the maximum (first) and the mean over its channels.

    Args:
        kernel: rows and columns of the convolution over the two; each odd.
        squeezed: the axis that is collapsed before the channels are; None for a gate over both axes.
        squeeze: how it is: "mean" or "max".
        batch_norm: batch normalisation behind the convolution.
        momentum: of that normalisation.
    """

    def __init__(
        self,
        kernel: tuple[int, int],
        squeezed: int | None = None,
        *,
        squeeze: str = "mean",
        batch_norm: bool = True,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        self.squeezed, self.squeeze = squeezed, squeeze
        self.conv = nn.Conv2d(2, 1, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=False)
        self.bn = BatchNorm(1, momentum=momentum) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → weights in (0, 1) [units, 1, rows, columns]; 1 on the squeezed axis."""
        if self.squeezed is not None:
            collapse = torch.mean if self.squeeze == "mean" else torch.amax
            x = collapse(x, self.squeezed, keepdim=True)
        logits = self.conv(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1))
        return torch.sigmoid(logits if self.bn is None else self.bn(logits))


class Attention(nn.Module):
    """A block of attention: channels first, then places; the shape stays.

    Args:
        channels: of the map.
        variant: "c" channels alone; "s" and places of the map (CBAM); "f" and frequencies; "t" and times; "ft" and
            both; "none" gives the map back.
        reduction: channels / width of the hidden layer over channels, which has one unit at least.
        kernel: rows or columns that a gate's convolution sees; odd.
        gate_bn: batch normalisation in the gates.
        ft_merge: how "ft" joins its gates: "mean" or "sum" of the two gated maps, both gates' "product", or one gate
            after the other, "freq_then_time" or "time_then_freq"; the second then sees what the first left.
        channel_attention: False leaves the channels as they are.
        channel_bias: biases in the layers over channels.
        squeeze: how "f" collapses time, and "t" frequency: "mean" or "max".
        gate_bn_momentum: weight of the newest batch in the gates' running statistics.
    """

    def __init__(
        self,
        channels: int,
        variant: str = "ft",
        *,
        reduction: int = 16,
        kernel: int = 7,
        gate_bn: bool = True,
        ft_merge: str = "mean",
        channel_attention: bool = True,
        channel_bias: bool = True,
        squeeze: str = "mean",
        gate_bn_momentum: float = 0.01,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("variant", variant, VARIANTS),
            ("ft_merge", ft_merge, MERGES),
            ("squeeze", squeeze, SQUEEZES),
        ):
            if value not in known:
                raise UsageError(f"{name} is {value!r}. Use one of {', '.join(known)}.")
        if kernel < 1 or kernel % 2 == 0 or reduction < 1:
            raise UsageError(
                f"kernel={kernel}, reduction={reduction}: give an odd kernel and a reduction of at least 1."
            )

        def gate(rows: int, columns: int, squeezed: int | None = None) -> Gate:
            return Gate((rows, columns), squeezed, squeeze=squeeze, batch_norm=gate_bn, momentum=gate_bn_momentum)

        self.variant, self.ft_merge = variant, ft_merge
        with_channels = channel_attention and variant != "none"
        self.channel = ChannelAttention(channels, reduction, channel_bias) if with_channels else None
        self.spatial = gate(kernel, kernel) if variant == "s" else None
        self.freq = gate(kernel, 1, TIME) if variant in ("f", "ft") else None
        self.time = gate(1, kernel, FREQUENCY) if variant in ("t", "ft") else None

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → the same; rows are frequencies, columns times."""
        if self.channel is not None:
            x = self.channel(x) * x
        if self.spatial is not None:
            return self.spatial(x) * x
        if self.freq is not None and self.time is not None:
            return self._both(x, self.freq, self.time)
        for one in (self.freq, self.time):
            if one is not None:
                x = one(x) * x
        return x

    def _both(self, x: Tensor, freq: Gate, time: Gate) -> Tensor:
        if self.ft_merge == "freq_then_time":
            x = x * freq(x)
            return x * time(x)
        if self.ft_merge == "time_then_freq":
            x = x * time(x)
            return x * freq(x)
        if self.ft_merge == "product":
            return x * freq(x) * time(x)
        both = freq(x) + time(x)
        return x * (both / 2 if self.ft_merge == "mean" else both)


def initialise_attention(attention: Attention, rng: torch.Generator, bn_zero: bool = False) -> None:
    """He's normal weights, over outputs for gates and over inputs for the layers over channels; biases 0.

    `bn_zero` starts every gate at one half, whatever comes, as public CBAM code does; its convolution then learns
    nothing in the first step.
    """
    for module in attention.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=rng)
        elif isinstance(module, BatchNorm):
            reset_norm(module)
            if bn_zero:
                nn.init.zeros_(module.weight)
