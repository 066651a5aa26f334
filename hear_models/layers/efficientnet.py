"""EfficientNet for one-channel images (Tan and Le 2019), with paddings that are fixed when the network is built."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from hear_models.layers.norm import BatchNorm, reset_norm

EPS, MOMENTUM = 1e-3, 0.01  # of batch normalisation, as in TensorFlow
DROP_CONNECT = 0.2  # chance in training that the last block's branch is dropped; earlier ones less, linearly
SQUEEZE = 0.25  # width of squeeze-and-excitation / channels before the expansion


class Stage(NamedTuple):
    """A row of the paper's table 1."""

    repeats: int
    kernel: int
    stride: int  # of its first block
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNet(nn.Module):
    """Inverted bottlenecks with squeeze-and-excitation between a 3 x 3 stem and a 1 x 1 head.

    "Same" padding is computed once for a square image of `image_size` and kept whatever comes: with another size it is
    not TensorFlow's padding, but weights that were trained so need it.

    Args:
        depth_factor: blocks of a stage / those of B0, rounded up: 1.0 for B0, 1.1 for B1.
        image_size: rows and columns of the square image that paddings are computed for.
    """

    def __init__(self, depth_factor: float = 1.0, image_size: int = 221) -> None:
        super().__init__()
        size, channels = image_size, 32
        self.conv_stem = SameConv(1, channels, 3, 2, size)
        size, self.stride, self.first_centre = self._after(self.conv_stem, size, 1, 0.0)
        self.bn_stem = BatchNorm(channels, EPS, MOMENTUM)
        blocks: list[InvertedBottleneck] = []
        total = sum(math.ceil(depth_factor * stage.repeats) for stage in STAGES)
        for stage in STAGES:
            for repeat in range(math.ceil(depth_factor * stage.repeats)):
                stride = stage.stride if repeat == 0 else 1
                drop = DROP_CONNECT * len(blocks) / total
                block = InvertedBottleneck(channels, stage.width, stage.kernel, stride, stage.expansion, size, drop)
                size, self.stride, self.first_centre = self._after(
                    block.depthwise_conv, size, self.stride, self.first_centre
                )
                blocks.append(block)
                channels = stage.width
        self.blocks = nn.ModuleList(blocks)
        self.width = 4 * channels  # channels of the map
        self.conv_head = nn.Conv2d(channels, self.width, 1, bias=False)
        self.bn_head = BatchNorm(self.width, EPS, MOMENTUM)

    @staticmethod
    def _after(conv: SameConv, size: int, stride: int, centre: float) -> tuple[int, int, float]:
        """(size, stride, first centre) behind `conv`, the last two in columns of the image."""
        before, kernel = conv.same_padding[0], conv.kernel_size[0]
        return math.ceil(size / conv.stride[0]), stride * conv.stride[0], centre + stride * ((kernel - 1) / 2 - before)

    def forward(self, images: Tensor) -> Tensor:
        """[units, 1, rows, columns] → map [units, width, rows / 32, columns / 32], about."""
        x = silu(self.bn_stem(self.conv_stem(images)))
        for block in self.blocks:
            x = block(x)
        return silu(self.bn_head(self.conv_head(x)))


class SameConv(nn.Conv2d):
    """A convolution without bias that pads for an image of `size` as TensorFlow does: the odd one at the end."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, size: int, groups: int = 1) -> None:
        missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        before, after = missing // 2, missing - missing // 2
        even = before if before == after else 0  # then the convolution pads by itself
        super().__init__(channels, width, kernel, stride, padding=even, groups=groups, bias=False)
        self.same_padding = (before, after, before, after)  # left, right, top, bottom

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, width, rows / stride, columns / stride], about."""
        return super().forward(x if self.padding[0] or not any(self.same_padding) else pad(x, self.same_padding))


class InvertedBottleneck(nn.Module):
    """Expand 1 x 1, filter each channel, squeeze and excite, project 1 x 1; the input is added where shapes agree."""

    def __init__(
        self, channels: int, width: int, kernel: int, stride: int, expansion: int, size: int, drop: float
    ) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion != 1:
            self.expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self.bn0 = BatchNorm(wide, EPS, MOMENTUM)
        self.depthwise_conv = SameConv(wide, wide, kernel, stride, size, groups=wide)
        self.bn1 = BatchNorm(wide, EPS, MOMENTUM)
        squeezed = max(1, int(channels * SQUEEZE))  # of the input, not of the expanded channels
        self.se_reduce = nn.Conv2d(wide, squeezed, 1)
        self.se_expand = nn.Conv2d(squeezed, wide, 1)
        self.project_conv = nn.Conv2d(wide, width, 1, bias=False)
        self.bn2 = BatchNorm(width, EPS, MOMENTUM)
        self.expands, self.adds, self.drop = expansion != 1, stride == 1 and channels == width, drop

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, width, rows / stride, columns / stride], about."""
        y = silu(self.bn0(self.expand_conv(x))) if self.expands else x
        y = silu(self.bn1(self.depthwise_conv(y)))
        gate = self.se_expand(silu(self.se_reduce(y.mean((2, 3), keepdim=True))))
        y = self.bn2(self.project_conv(torch.sigmoid(gate) * y))
        if not self.adds:
            return y
        if self.training and self.drop:
            kept = torch.rand(y.shape[0], 1, 1, 1, device=y.device, dtype=y.dtype) >= self.drop
            y = y * kept / (1 - self.drop)
        return x + y


def initialise_efficientnet(network: EfficientNet, rng: torch.Generator) -> None:
    """Uniform weights and biases as torch's convolutions have them; normalisation starts as identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            limit = 1 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.weight, -limit, limit, generator=rng)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -limit, limit, generator=rng)
        elif isinstance(module, BatchNorm):
            reset_norm(module)
