"""The second floor: the same fixed random layer for every user, and no more than that."""

from __future__ import annotations

import numpy as np
import torch

from hear_models import random_projection
from hear_models.frontends.logmel import LogMel

WEIGHT = [0.16643154621124268, 0.07558031380176544]
SCENE = [0.907223, 2.571386, 2.530743, 2.769991]


def noise() -> torch.Tensor:
    return torch.from_numpy(0.1 * np.random.RandomState(0).standard_normal((1, 16000))).float()


def test_every_user_has_the_same_projection():
    """Seeds of the caller change nothing, and the numbers are those of the day on which they were chosen."""
    torch.manual_seed(1)
    np.random.seed(1)
    first = random_projection.load_model()
    other = random_projection.Model(seed=5)
    assert torch.equal(first.weight, other.weight) and torch.equal(first.bias, other.bias)
    assert not list(first.parameters()), "nothing is learned"
    np.testing.assert_allclose(first.weight[0, :2], WEIGHT, rtol=1e-6)
    np.testing.assert_allclose(random_projection.get_scene_embeddings(noise(), first)[0, :4], SCENE, rtol=1e-3)


def test_a_scene_is_the_mean_of_rectified_random_features():
    model = random_projection.load_model()
    frames = (LogMel()(noise())[0] + 6) / 6
    expected = np.maximum(frames.numpy() @ model.weight.numpy() + model.bias.numpy(), 0).mean(axis=0)
    np.testing.assert_allclose(
        random_projection.get_scene_embeddings(noise(), model)[0], expected, rtol=1e-4, atol=1e-5
    )
    steps, times = random_projection.get_timestamp_embeddings(noise(), model)
    step = torch.relu(frames[15:20] @ model.weight + model.bias).mean(0)
    torch.testing.assert_close(steps[0, 3], step, rtol=1e-4, atol=1e-4)
    assert steps.shape == (1, 20, 512) and times[0, 0] == 20
