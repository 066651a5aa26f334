"""EfficientNet for one-channel images (Tan and Le 2019), in the forms of the code bases whose weights exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu

from hear_models.layers.init import lecun_normal_
from hear_models.layers.norm import BatchNorm, reset_norm
from hear_models.layers.padding import same_padding

DROP_CONNECT = 0.2  # chance in training that the last block's branch is dropped; earlier ones less, linearly
SQUEEZE = 0.25  # width of squeeze-and-excitation / channels before the expansion
WIDTH_MULTIPLE = 8  # scaled widths are multiples of it


@dataclass(frozen=True)
class Form:
    """In what code bases of the same network differ; the defaults are TensorFlow's, and those of its ports to torch."""

    eps: float = 1e-3  # added to the variance by batch normalisation
    momentum: float = 0.01  # weight of the newest batch in its running statistics
    biased_variance: bool = False  # its running variances are divided by n, not by n - 1
    squeeze_bias: bool = True  # convolutions of squeeze-and-excitation have biases
    first_adds: bool = True  # a stage's first block adds its input too, where shapes agree


PORTED = Form()
LEAF_PYTORCH = Form(first_adds=False)  # quirk `first-block-adds`: no effect in B0, whose first blocks change the shape
AUDAX = Form(eps=1e-5, momentum=0.1, biased_variance=True, squeeze_bias=False)


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


# of B0 to B7, then the halves and quarters of B0
WIDTH_FACTORS = (1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 0.5, 0.25, 0.125, 0.0625)
DEPTH_FACTORS = (1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1, 0.5, 0.25)


def scaled_width(width: int, factor: float) -> int:
    """A width times `factor`, rounded to a multiple of 8 that is not below 0.9 of it."""
    exact = width * factor
    rounded = max(WIDTH_MULTIPLE, int(exact + WIDTH_MULTIPLE / 2) // WIDTH_MULTIPLE * WIDTH_MULTIPLE)
    return rounded if rounded >= 0.9 * exact else rounded + WIDTH_MULTIPLE


def block_widths(depth_factor: float, width_factor: float) -> list[int]:
    """Channels behind the stem and behind every block."""
    stages = [[scaled_width(s.width, width_factor)] * math.ceil(depth_factor * s.repeats) for s in STAGES]
    return [scaled_width(32, width_factor), *(width for stage in stages for width in stage)]


def factors_of(widths: Sequence[int]) -> tuple[float, float] | None:
    """The (depth, width) factors of a network with these `block_widths`; published ones first. None: there are none."""
    for width_factor in (*WIDTH_FACTORS, *(n / 64 for n in range(1, 129))):
        if scaled_width(32, width_factor) == widths[0] and scaled_width(320, width_factor) == widths[-1]:
            for depth_factor in (*DEPTH_FACTORS, *(n / 12 for n in range(1, 49))):
                if block_widths(depth_factor, width_factor) == list(widths):
                    return depth_factor, width_factor
    return None


class EfficientNet(nn.Module):
    """Inverted bottlenecks with squeeze-and-excitation between a 3 x 3 stem and a 1 x 1 head.

    "Same" padding is computed for every image, or once for a square image of `image_size` and kept whatever comes: with
    another size it is not TensorFlow's padding, but weights that were trained so need it.

    Args:
        depth_factor: blocks of a stage / those of B0, rounded up: 1.0 for B0, 1.1 for B1.
        image_size: rows and columns of the square image that paddings are computed for; None: of each image itself.
        width_factor: channels / those of B0, rounded to multiples of 8.
        form: in what code bases differ.
        drop: chance in training that the last block's branch is dropped; earlier ones less, linearly.
    """

    def __init__(
        self,
        depth_factor: float = 1.0,
        image_size: int | None = 221,
        *,
        width_factor: float = 1.0,
        form: Form = PORTED,
        drop: float = DROP_CONNECT,
    ) -> None:
        super().__init__()
        size, channels = image_size, scaled_width(32, width_factor)
        self.conv_stem = SameConv(1, channels, 3, 2, size)
        size, self.stride, self.first_centre = self._after(self.conv_stem, size, 1, 0.0)
        self.bn_stem = norm(channels, form)
        blocks: list[InvertedBottleneck] = []
        total = sum(math.ceil(depth_factor * stage.repeats) for stage in STAGES)
        for stage in STAGES:
            width = scaled_width(stage.width, width_factor)
            for repeat in range(math.ceil(depth_factor * stage.repeats)):
                stride = stage.stride if repeat == 0 else 1
                adds = stride == 1 and channels == width and (repeat > 0 or form.first_adds)
                dropped = drop * len(blocks) / total
                block = InvertedBottleneck(
                    channels, width, stage.kernel, stride, stage.expansion, size, dropped, adds, form
                )
                size, self.stride, self.first_centre = self._after(
                    block.depthwise_conv, size, self.stride, self.first_centre
                )
                blocks.append(block)
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.width = 4 * channels  # channels of the map
        self.conv_head = nn.Conv2d(channels, self.width, 1, bias=False)
        self.bn_head = norm(self.width, form)

    @staticmethod
    def _after(conv: SameConv, size: int | None, stride: int, centre: float) -> tuple[int | None, int, float]:
        """(size, stride, first centre) behind `conv`, the last two in columns of the image.

        With paddings of each image, the centre is that for sizes that are multiples of the network's stride.
        """
        kernel, step = conv.kernel_size[0], conv.stride[0]
        before = conv.same_padding[0] if size is not None else same_padding(2 * step, kernel, step)[0]
        after = math.ceil(size / step) if size is not None else None
        return after, stride * step, centre + stride * ((kernel - 1) / 2 - before)

    def forward(self, images: Tensor) -> Tensor:
        """[units, 1, rows, columns] → map [units, width, rows / 32, columns / 32], about."""
        x = silu(self.bn_stem(self.conv_stem(images)))
        for block in self.blocks:
            x = block(x)
        return silu(self.bn_head(self.conv_head(x)))


class SameConv(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow does, the odd one at the end; `size` None: for each image."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, size: int | None, groups: int = 1) -> None:
        self.per_image = size is None and stride > 1  # with stride 1, paddings do not depend on the size
        before, after = same_padding(kernel if size is None else size, kernel, stride)
        even = before if before == after and not self.per_image else 0  # then the convolution pads by itself
        super().__init__(channels, width, kernel, stride, padding=even, groups=groups, bias=False)
        self.same_padding = (before, after, before, after)  # left, right, top, bottom

    def forward(self, x: Tensor) -> Tensor:
        """[units, channels, rows, columns] → [units, width, rows / stride, columns / stride], about."""
        if self.per_image:
            rows, columns = (same_padding(x.shape[i], self.kernel_size[0], self.stride[0]) for i in (2, 3))
            return super().forward(pad(x, (*columns, *rows)))
        return super().forward(x if self.padding[0] or not any(self.same_padding) else pad(x, self.same_padding))


class InvertedBottleneck(nn.Module):
    """Expand 1 x 1, filter each channel, squeeze and excite, project 1 x 1; the input is added if `adds`."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        stride: int,
        expansion: int,
        size: int | None,
        drop: float,
        adds: bool,
        form: Form,
    ) -> None:
        super().__init__()
        wide = channels * expansion
        if expansion != 1:
            self.expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self.bn0 = norm(wide, form)
        self.depthwise_conv = SameConv(wide, wide, kernel, stride, size, groups=wide)
        self.bn1 = norm(wide, form)
        squeezed = max(1, int(channels * SQUEEZE))  # of the input, not of the expanded channels
        self.se_reduce = nn.Conv2d(wide, squeezed, 1, bias=form.squeeze_bias)
        self.se_expand = nn.Conv2d(squeezed, wide, 1, bias=form.squeeze_bias)
        self.project_conv = nn.Conv2d(wide, width, 1, bias=False)
        self.bn2 = norm(width, form)
        self.expands, self.adds, self.drop = expansion != 1, adds, drop

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


def norm(width: int, form: Form) -> BatchNorm:
    """Batch normalisation of a form."""
    return BatchNorm(width, form.eps, form.momentum, form.biased_variance)


def initialise_efficientnet(network: EfficientNet, rng: torch.Generator, kind: str = "uniform") -> None:
    """Random convolutions; normalisation starts as identity.

    `kind`: "uniform", weights and biases as torch's convolutions have them; "he", truncated normal weights of variance
    2 / fan-in and biases of zero, as Flax draws them (audax).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            if kind == "he":
                lecun_normal_(module.weight, fan_in / 2, rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                continue
            limit = 1 / math.sqrt(fan_in)
            nn.init.uniform_(module.weight, -limit, limit, generator=rng)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -limit, limit, generator=rng)
        elif isinstance(module, BatchNorm):
            reset_norm(module)
