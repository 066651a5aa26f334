"""The test of centres tells a wrong time axis from a network that spreads what it hears over a whole unit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hear_models.subjects.module import HearModule
from hear_models.validation.centres import check_centres, locate, middle, two_views
from hear_models.validation.context import Context
from validate._base import Frames, hear_functions
from validate.good import transformer


class Summary(transformer.Model):
    """Each step gets a summary of its unit of 2 s, three times as strong as its own content."""

    def unit_steps(self, frames: Tensor) -> Tensor:
        x = frames.reshape(transformer.STEPS_PER_UNIT, -1) @ self.embed + self.place
        return torch.nn.functional.layer_norm(x + 3 * torch.tanh(3 * x.mean(dim=0)), (32,))


class StrongAttention(transformer.Model):
    mixing = 8.0


class LongWindow(Frames):
    """A window of 1 s every 50 ms: twenty steps answer equally."""

    window = 16000


def delayed(model: type[Frames], ms: float) -> type[Frames]:
    class Delayed(model):
        def prepare(self, audio: Tensor) -> Tensor:
            n = int(ms * self.sample_rate / 1000)
            return torch.nn.functional.pad(audio, (n, 0))[:, : audio.shape[1]]

        def steps(self, audio: Tensor) -> Tensor:
            return super().steps(self.prepare(audio) if model is not Frames else audio)

    return Delayed


def reversed_time(model: type[Frames]) -> type[Frames]:
    class Reversed(model):
        def steps(self, audio: Tensor) -> Tensor:
            return super().steps(audio).flip(1)

    return Reversed


def findings(model: type[Frames]):
    names = ("load_model", "get_timestamp_embeddings", "get_scene_embeddings")
    module = HearModule(model.__name__, dict(zip(names, hear_functions(model), strict=True)))
    return list(check_centres(Context(module, "quick")))


@pytest.mark.parametrize("model", [transformer.Model, StrongAttention, Summary, LongWindow], ids=lambda m: m.__name__)
def test_wide_answers_are_no_fault(model):
    assert findings(model) == []


@pytest.mark.parametrize("model", [transformer.Model, StrongAttention, Summary], ids=lambda m: m.__name__)
def test_wide_answers_hide_no_reversed_time(model):
    (finding,) = findings(reversed_time(model))
    assert finding.severity == "error" and "reversed" in finding.found


@pytest.mark.parametrize(("ms", "severity"), [(400, "error"), (100, "warning")])
def test_a_delay_shows_in_a_transformer(ms, severity):
    """Beyond 10 % of a 2 s answer it is an error; beyond a hop it is worth a warning."""
    (finding,) = findings(delayed(transformer.Model, ms))
    assert finding.severity == severity and "late" in finding.found


def test_narrow_answers_leave_no_room():
    (finding,) = findings(delayed(Frames, 60))
    assert finding.severity == "error" and "too late at all positions" in finding.found


def test_centroid_is_that_of_the_peak():
    times = torch.arange(50, dtype=torch.float64) * 40
    change = torch.full((50,), 0.3, dtype=torch.float64)  # a pedestal over the whole unit
    change[10] = 1.0
    answer = locate(change, times, burst=400.0)
    assert answer.centroid == pytest.approx(400.0) and answer.error == pytest.approx(0.0)
    assert answer.width == pytest.approx(2000.0)


def test_what_all_steps_share_is_taken_away():
    times = torch.arange(50, dtype=torch.float64) * 40
    change = torch.zeros(50, 3, dtype=torch.float64)
    change[:, 0] = 5.0 + 0.5 * torch.cos(torch.arange(50) / 8)
    change[10, 1] = 3.0
    plain, local = two_views(change, times, burst=400.0)
    assert abs(plain.error) > 100 and abs(local.error) < 1


def test_a_ragged_box_is_where_its_middle_is():
    """Strided convolutions over a window of 1 s: a box whose highest peak may stand anywhere."""
    times = torch.arange(50, dtype=torch.float64) * 50
    change = torch.zeros(50, 1, dtype=torch.float64)
    change[10:31, 0] = torch.tensor([0.6, 0.5, 1.0] + [0.5, 0.6, 0.7] * 6, dtype=torch.float64)
    assert abs(locate(change.square().sum(dim=1), times, burst=1000.0).error) > 100
    assert middle(change, times, burst=1000.0).error == pytest.approx(0.0)
