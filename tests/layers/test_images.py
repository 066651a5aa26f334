"""Networks for one-channel images, usable alone: sizes of their maps, padding, and batch normalisation as torch's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hear_models.layers.densenet import DenseNet
from hear_models.layers.efficientnet import EfficientNet, SameConv
from hear_models.layers.norm import BatchNorm
from hear_models.layers.resnet import ResNet


def test_batch_normalisation_is_torchs_in_training_and_evaluation():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(5, eps=1e-3, momentum=0.2), nn.BatchNorm2d(5, eps=1e-3, momentum=0.2)
    for name in ("weight", "bias"):
        nn.init.normal_(getattr(ours, name))
        getattr(theirs, name).data.copy_(getattr(ours, name).data)
    for _ in range(2):
        x = torch.randn(3, 5, 4, 6) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    x = torch.randn(3, 5, 4, 6)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_batch_normalisation_computes_in_bfloat16_with_float32_statistics():
    norm = BatchNorm(5).eval()
    norm.weight.data, norm.bias.data = norm.weight.data.bfloat16(), norm.bias.data.bfloat16()
    norm.running_mean += 0.001
    y = norm(torch.ones(1, 5, 2, 2, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16 and norm.running_mean.dtype == torch.float32


# counted in the authors' networks, for an image of 221 x 501
SIZES = [
    (lambda: ResNet((1, 1, 1, 1), (8, 8, 8, 8)), (8, 7, 16)),
    (lambda: ResNet((1, 1, 1, 1), (8, 8, 8, 8), bottleneck=True), (32, 7, 16)),
    (lambda: ResNet((1, 1, 1), (8, 16, 32), shortcut="pad"), (32, 14, 32)),
    (lambda: DenseNet((1, 1, 1, 1), growth=8, stem_width=16), (17, 7, 15)),
    (lambda: EfficientNet(), (1280, 7, 15)),
]


@pytest.mark.parametrize("build, size", SIZES)
def test_maps_have_the_size_of_the_papers(build, size):
    network = build().eval()
    with torch.inference_mode():
        found = network(torch.zeros(1, 1, 221, 501))
    assert tuple(found.shape[1:]) == size
    assert network.width == size[0]
    assert abs(501 / network.stride - size[2]) < 1


@pytest.mark.parametrize("build, size", SIZES)
def test_a_column_of_the_map_lies_where_the_network_says(build, size):
    """Column k of the map is centred on `first_centre` + k * stride: fast mode puts it there in time."""
    network = build().eval()
    for name, parameter in network.named_parameters():  # every filter is a mean: the click spreads evenly
        if parameter.ndim > 1:
            nn.init.constant_(parameter, 1 / parameter[0].numel())
        else:
            nn.init.constant_(parameter, float(name.endswith("weight")))
    with torch.inference_mode():
        background = network(torch.zeros(1, 1, 32, 801))
        centroids = []
        for column in (400, 400 + network.stride):
            image = torch.zeros(1, 1, 32, 801)
            image[..., column] = 100.0
            change = (network(image) - background).abs().double().sum((0, 1, 2))
            centroids.append(float((change * torch.arange(len(change))).sum() / change.sum()))
    assert centroids[1] - centroids[0] == pytest.approx(1.0, abs=0.05)
    place = network.first_centre + network.stride * centroids[0]
    assert place == pytest.approx(400, abs=2)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [14, 28, 55, 111, 221])
def test_same_padding_gives_the_size_of_the_image_it_was_made_for(kernel, stride, size):
    convolution = SameConv(1, 1, kernel, stride, size)
    with torch.inference_mode():
        found = convolution(torch.zeros(1, 1, size, size))
    assert found.shape[2:] == (math.ceil(size / stride),) * 2


def test_efficientnet_pads_as_for_221_whatever_comes():
    """Left and right of the stride-2 filters, in order (section 4.4)."""
    network = EfficientNet(1.1)
    strided = [block.depthwise_conv for block in network.blocks if block.depthwise_conv.stride[0] == 2]
    assert network.conv_stem.same_padding[:2] == (1, 1)
    assert [conv.same_padding[:2] for conv in strided] == [(1, 1), (1, 2), (0, 1), (1, 2)]
    assert len(network.blocks) == 23 and len(EfficientNet(1.0).blocks) == 16


def test_dropped_branches_leave_the_expectation():
    block = EfficientNet().train().blocks[2]
    assert block.adds and 0 < block.drop < 0.2
    torch.manual_seed(0)
    x = torch.randn(400, 24, 3, 3)
    with torch.no_grad():
        branch = block(x) - x
    dropped = branch.flatten(1).eq(0).all(dim=1).float().mean()
    assert float(dropped) == pytest.approx(block.drop, abs=0.03)
