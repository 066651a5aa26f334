"""Residual networks for one-channel images: the ImageNet form (He et al. 2016) and the narrow one for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad, relu

from hear_models.layers.norm import BatchNorm, reset_norm


class ResNet(nn.Module):
    """A stem, then stages of residual blocks; every stage but the first halves frequency and time.

    The stem is a 7 x 7 convolution with stride 2 and a 3 x 3 maximum with stride 2. Convolutions have no bias.

    Args:
        depths: blocks of each stage.
        widths: channels of each stage; bottleneck blocks give four times as many.
        bottleneck: three convolutions (1 x 1, 3 x 3 with the stride, 1 x 1) instead of two of 3 x 3.
        shortcut: how the input joins a block's output where shapes differ: "conv" (1 x 1 convolution and batch
            normalisation), or "pad" (every second position, new channels zero on both sides; option A, no parameters).
        stem_width: channels of the stem; None: those of the first stage.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        *,
        bottleneck: bool = False,
        shortcut: str = "conv",
        stem_width: int | None = None,
    ) -> None:
        super().__init__()
        channels = stem_width or widths[0]
        self.conv1 = nn.Conv2d(1, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm(channels)
        self.n_stages = len(depths)
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            blocks: list[nn.Module] = []
            for block in range(depth):
                stride = 2 if block == 0 and stage > 1 else 1
                if bottleneck:
                    blocks.append(Bottleneck(channels, width, stride))
                else:
                    blocks.append(BasicBlock(channels, width, stride, shortcut))
                channels = width * (Bottleneck.expansion if bottleneck else 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.width = channels  # channels of the map
        self.stride = 2 ** (self.n_stages + 1)  # image columns (and rows) behind one of the map
        self.first_centre = 0.0  # image column under the centre of the map's first one

    def forward(self, images: Tensor) -> Tensor:
        """[units, 1, rows, columns] → map [units, width, rows / stride, columns / stride], rounded up, not negative."""
        x = self.stem(images)
        for stage in range(1, self.n_stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x

    def stem(self, images: Tensor) -> Tensor:
        """[units, 1, rows, columns] → [units, channels, rows / 4, columns / 4], rounded up."""
        return max_pool2d(relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; `attention` weighs what is added to it."""

    expansion = 1

    def __init__(
        self, channels: int, width: int, stride: int, shortcut: str = "conv", attention: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(width)
        self.att = attention
        self.downsample = _shortcut(channels, width, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, width, rows / stride, columns / stride]."""
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu((y if self.att is None else self.att(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride, "v1.5") and 1 x 1 convolutions, the last four times as wide, and a shortcut."""

    expansion = 4

    def __init__(
        self, channels: int, width: int, stride: int, shortcut: str = "conv", attention: nn.Module | None = None
    ) -> None:
        super().__init__()
        out = width * self.expansion
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = BatchNorm(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = BatchNorm(out)
        self.att = attention
        self.downsample = _shortcut(channels, out, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, 4 * width, rows / stride, columns / stride]."""
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return relu((y if self.att is None else self.att(y)) + self.downsample(x))


class PadShortcut(nn.Module):
    """Every second row and column; the new channels are zeros, half of them before and half behind the old ones."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        before = (width - channels) // 2
        self.padding = (0, 0, 0, 0, before, width - channels - before)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, width, rows / stride, columns / stride]."""
        return pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class ConvNorm(nn.Module):
    """A convolution without bias, and batch normalisation."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn = BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, width, rows / stride, columns / stride], rounded up."""
        y: Tensor = self.bn(self.conv(x))
        return y


def _shortcut(channels: int, width: int, stride: int, kind: str) -> nn.Module:
    if stride == 1 and channels == width:
        return nn.Identity()
    if kind == "pad":
        return PadShortcut(channels, width, stride)
    if kind == "named":  # as "conv", its parts called conv and bn
        return ConvNorm(channels, width, 1, stride)
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), BatchNorm(width))


def initialise_resnet(network: ResNet, rng: torch.Generator, mode: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """He's normal weights over "fan_out" (ImageNet form) or "fan_in" (small form); normalisation starts as identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu", generator=rng)
        elif isinstance(module, BatchNorm):
            reset_norm(module)
            if mode == "fan_out":
                nn.init.normal_(module.weight, 1.0, 0.02, generator=rng)
