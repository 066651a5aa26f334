"""Densely connected networks for one-channel images (Huang et al. 2017, DenseNet-BC)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

from hear_models.layers.norm import BatchNorm, reset_norm


class DenseNet(nn.Module):
    """A stem as in ResNets, then blocks in which every layer sees all maps before it; between them channels, rows and
    columns are halved.

    Args:
        depths: layers of each block.
        growth: channels that a layer adds.
        stem_width: channels of the stem.
        bottleneck: width of a layer's first convolution / growth.
    """

    def __init__(
        self, depths: Sequence[int] = (6, 12, 24, 16), growth: int = 32, stem_width: int = 64, bottleneck: int = 4
    ) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, stem_width, 7, stride=2, padding=3, bias=False)
        self.norm0 = BatchNorm(stem_width)
        channels = stem_width
        self.n_blocks = len(depths)
        for number, depth in enumerate(depths, 1):
            block = nn.Module()  # layers count from 1, as in the paper
            for layer in range(depth):
                block.add_module(f"denselayer{layer + 1}", DenseLayer(channels, growth, bottleneck))
                channels += growth
            setattr(self, f"denseblock{number}", block)
            if number < self.n_blocks:
                setattr(self, f"transition{number}", Transition(channels))
                channels //= 2
        self.norm5 = BatchNorm(channels)
        self.width = channels  # channels of the map
        self.stride = 2 ** (self.n_blocks + 1)  # image columns behind one of the map
        self.first_centre = sum(2.0 ** (number + 1) / 2 for number in range(1, self.n_blocks))  # a mean of 2 columns

    def forward(self, images: Tensor) -> Tensor:
        """[units, 1, rows, columns] → map [units, width, rows / stride, columns / stride], not negative."""
        x = max_pool2d(relu(self.norm0(self.conv0(images))), 3, stride=2, padding=1)
        for number in range(1, self.n_blocks + 1):
            for layer in getattr(self, f"denseblock{number}").children():
                x = torch.cat([x, layer(x)], dim=1)
            if number < self.n_blocks:
                x = getattr(self, f"transition{number}")(x)
        return relu(self.norm5(x))


class DenseLayer(nn.Module):
    """Normalise, rectify and convolve 1 x 1, then again 3 x 3."""

    def __init__(self, channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1 = BatchNorm(channels)
        self.conv1 = nn.Conv2d(channels, bottleneck * growth, 1, bias=False)
        self.norm2 = BatchNorm(bottleneck * growth)
        self.conv2 = nn.Conv2d(bottleneck * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → the new maps [units, growth, rows, columns]."""
        return self.conv2(relu(self.norm2(self.conv1(relu(self.norm1(x))))))


class Transition(nn.Module):
    """Normalise, rectify, convolve 1 x 1 to half the channels, and average over 2 x 2; an odd last row is dropped."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm(channels)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, channels / 2, rows / 2, columns / 2], rounded down."""
        return avg_pool2d(self.conv(relu(self.norm(x))), 2)


def initialise_densenet(network: DenseNet, rng: torch.Generator) -> None:
    """He's normal weights over the fan-in; normalisation starts as identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=rng)
        elif isinstance(module, BatchNorm):
            reset_norm(module)
