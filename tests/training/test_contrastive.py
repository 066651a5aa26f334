"""COLA through the loop: pairs come from one recording, a stopped run ends with the same bits, the loss falls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import hear_models
from hear_models import leaf, logmel_cola
from hear_models.errors import UsageError
from hear_models.pipeline.capabilities import ContrastiveModel, Contrasts
from hear_models.training.batches import each_once
from hear_models.training.contrastive import Contrasting, Segments, drawn_by, two_segments
from hear_models.training.features import FULL_SCALE, Recordings, folder_recordings, raw_samples
from hear_models.training.loop import pretrain
from hear_models.training.objectives import chosen_way, ways_of
from hear_models.training.recipe import Data, Optimiser, Recipe, read_recipe
from hear_models.training.run import Run

SIZES = {"width_factor": 0.0625, "depth_factor": 0.25, "n_filters": 8, "projection": 16, "drop": 0.3}
NAMES = ("leaf", "sincnet", "logmel_cola")


def recipe(family: str, steps: int = 10, **optimiser) -> Recipe:
    values = {"base_rate": 0.08, "batch": 4, "precision": "float32", "weight_decay": 1e-6, **optimiser}
    return Recipe(
        family,
        seed=3,
        model=dict(SIZES),
        data=Data(procedural_hours=0.03),
        optimiser=Optimiser(steps=steps, warmup_steps=1, **values),
    )


def quiet(line: str) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("samples")


@pytest.fixture
def constant_source(tmp_path):
    """Recording i is the constant i / 10, of 3, 1 and 0.5 segments."""
    clips = [np.full(n, (i + 1) / 10, np.float32) for i, n in enumerate((46_080, 15_360, 7_680))]
    clips.append(np.full(100, 0.9, np.float32))  # too short
    return raw_samples(Recordings("made", ("made",), iter(clips)), 16_000, 3840, tmp_path, quiet)


@pytest.mark.parametrize("family", NAMES)
def test_ten_updates_on_procedural_sound(family, tmp_path, cache):
    before = torch.random.get_rng_state()
    assert pretrain(recipe(family), Run(tmp_path / "run", cache=cache, log_every=5), quiet) == 10
    assert torch.equal(torch.random.get_rng_state(), before)
    trained = hear_models.load_model(tmp_path / "run" / "model.safetensors")
    assert trained.family == family and trained.checkpoint.trained
    begun = type(trained)(trained.config, seed=3)
    moved = {n for (n, a), b in zip(begun.named_parameters(), trained.parameters(), strict=True) if not a.equal(b)}
    assert "head.bilinear" in moved and "encoder.conv_stem.weight" in moved
    assert ("frontend.filters" in moved) == (family != "logmel_cola")
    assert not torch.equal(trained.encoder.bn_head.running_mean, begun.encoder.bn_head.running_mean)


def test_a_stopped_run_ends_with_the_same_bits(tmp_path, cache):
    """Dropped branches and masks follow from the step, not from how often the run was begun."""
    whole = Run(tmp_path / "whole", cache=cache)
    pretrain(recipe("logmel_cola", 6), whole, quiet)
    torch.manual_seed(99)
    parts = Run(tmp_path / "parts", cache=cache, stop_after=2)
    assert [pretrain(recipe("logmel_cola", 6), parts, quiet) for _ in range(3)] == [2, 4, 6]
    ours, theirs = (hear_models.load_model(tmp_path / n / "model.safetensors").state_dict() for n in ("parts", "whole"))
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def test_the_loss_falls(tmp_path, cache):
    """On one batch again and again, so that 20 updates show it: anchors find their positives."""
    sizes = {**SIZES, "width_factor": 0.125, "n_filters": 16, "drop": 0.0}
    longer = replace(recipe("logmel_cola", 20, batch=6, base_rate=0.3), model=sizes)
    pretrain(longer, Run(tmp_path / "run", cache=cache, log_every=5, synthetic_batch=True), quiet)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]


def test_frozen_front_ends_stay_as_they_began(tmp_path, cache):
    frozen = replace(recipe("leaf", 2), model={**SIZES, "learned": False, "init": "uniform"})
    pretrain(frozen, Run(tmp_path / "run", cache=cache), quiet)
    trained = hear_models.load_model(tmp_path / "run" / "model.safetensors")
    begun = leaf.Model(trained.config, seed=3)
    assert torch.equal(begun.frontend.filters, trained.frontend.filters)
    assert not torch.equal(begun.head.bilinear, trained.head.bilinear)


# ------------------------------------------------------------------ pairs


def test_both_segments_of_a_pair_come_from_one_recording(constant_source):
    model = logmel_cola.Model(logmel_cola.Config(**SIZES, level="none"))
    anchors, positives = Segments([constant_source], model, 0.0, seed=1).batch(0, 3)
    assert len(constant_source) == 3  # the one below a quarter of a segment is left out
    levels = [round(float(pair.max()) * FULL_SCALE / FULL_SCALE, 4) for pair in anchors]
    assert sorted(levels) == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)
    assert [round(float(pair.max()), 4) for pair in positives] == levels


def test_noise_is_added_to_positives_after_the_level_was_taken_away(constant_source):
    model = logmel_cola.Model(logmel_cola.Config(**SIZES))
    anchors, positives = Segments([constant_source], model, 0.001, seed=1).batch(0, 3)
    assert np.square(anchors).sum(1) == pytest.approx([1.0] * 3, abs=1e-5)
    clean = Segments([constant_source], model, 0.0, seed=1).batch(0, 3).positives
    noise = positives - clean
    assert float(noise.std()) == pytest.approx(0.001, rel=0.02) and abs(float(noise.mean())) < 1e-5
    again = Segments([constant_source], model, 0.001, seed=1).batch(0, 3)
    assert np.array_equal(again.positives, positives) and np.array_equal(again.anchors, anchors)
    other = Segments([constant_source], model, 0.001, seed=1).batch(1, 3)
    assert not np.array_equal(other.positives, positives)


def test_segments_lie_anywhere_and_short_recordings_amid_zeros():
    rng = np.random.default_rng(0)
    ramp = torch.arange(1.0, 41.0)
    pairs = [two_segments(ramp, 10, rng) for _ in range(300)]
    starts = {int(first[0]) for first, _ in pairs}
    assert starts == set(range(1, 31)), "offsets from 0 to below length - segment"
    assert any(int(a[0]) != int(b[0]) for a, b in pairs)
    first, _ = two_segments(torch.ones(6), 10, rng)
    assert len(first) == 10
    padded = torch.cat([torch.zeros(7), torch.ones(6), torch.zeros(7)])
    assert any(torch.equal(first, padded[k : k + 10]) for k in range(10))


def test_every_recording_comes_once_a_round():
    draws = list(each_once(5, 1, 0, 15))
    assert [sorted(draws[k : k + 5]) for k in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert draws[:5] != draws[5:10] and list(each_once(5, 1, 7, 3)) == draws[7:10]


def test_samples_are_kept_as_16_bits_once(tmp_path):
    rng = np.random.default_rng(1)
    samples = (0.3 * rng.standard_normal(20_000)).clip(-1, 1).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    said: list[str] = []
    for _ in range(2):
        recordings = folder_recordings(tmp_path, [tmp_path / "a.wav"], "a", 16_000, 1.0, 1, said.append)
        source = raw_samples(recordings, 16_000, 100, tmp_path / "cache", said.append)
        assert [len(source[i]) for i in range(len(source))] == [16_000, 4000]
        np.testing.assert_allclose(source[0][:, 0] / FULL_SCALE, samples[:16_000], atol=0.51 / FULL_SCALE)
    assert len(list((tmp_path / "cache").glob("*.i16"))) == 1
    assert said == [said[0]] * 2 and "0.00 h" in said[0]


def test_what_is_drawn_follows_from_the_step():
    def drawn(step: int) -> list[float]:
        with drawn_by(3, step, torch.device("cpu")) as rng:
            return [float(torch.rand(1)), float(torch.rand(1, generator=rng))]

    assert drawn(4) == drawn(4) != drawn(5)


def test_masks_fall_on_positives_only():
    seen = {}

    class Spy(logmel_cola.Model):
        def network(self, units):
            seen["units"] = units
            return super().network(units)

    model = Spy(logmel_cola.Config(**SIZES))
    batch = torch.randn(8, 15_360)
    features = model.window_features(batch)

    def hide(positives):
        return torch.full_like(positives, 7.0)

    model.contrast(batch[:4], batch[4:], hide)
    assert torch.equal(seen["units"][:4], features[:4]) and bool((seen["units"][4:] == 7).all())
    assert Contrasting() == Contrasting(noise=0.001, masks=True, official_masks=False)


# ------------------------------------------------------------------ who can, and what is refused


def test_three_families_can_contrast_and_no_other():
    for family in NAMES:
        assert ways_of(family) == ["contrastive"] and chosen_way(family) == "contrastive"
        assert issubclass(hear_models.zoo.families.family_module(family).Model, Contrasts)
    assert "contrastive" not in ways_of("mwmae") and "contrastive" not in ways_of("gise51")
    assert isinstance(logmel_cola.Model(logmel_cola.Config(**SIZES)), ContrastiveModel)
    with pytest.raises(UsageError, match="cannot be trained by the objective 'masked'"):
        chosen_way("leaf", "masked")


@pytest.mark.parametrize("name", ["leaf-nano", "sincnet-nano", "logmel-cola-nano"])
def test_shipped_recipes_are_those_of_the_registry_and_differ_in_the_front_end_only(name):
    shipped, other = read_recipe(name), read_recipe("leaf-nano")
    entry = next(entry for entry in hear_models.list_models() if entry.name == name)
    config = hear_models.zoo.families.family_module(entry.family).Config
    assert config(**entry.manifest.configuration) == config(**shipped.model)
    assert shipped.family == entry.family and entry.default
    assert (shipped.model, shipped.data, shipped.optimiser) == (other.model, other.data, other.optimiser)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": Data()}, "nothing to train on"),
        ({"data": Data(procedural_hours=0.01, procedural_share=0.5)}, "procedural_share has no meaning"),
        ({"optimiser": Optimiser(batch=1)}, "nothing to be told from"),
        ({"model": {**SIZES, "classes": 3, "projection": 0}}, "classifier instead of COLA's head"),
    ],
)
def test_a_wrong_recipe_is_told_in_a_sentence(change, said, tmp_path, cache):
    with pytest.raises(UsageError, match=said):
        pretrain(replace(recipe("logmel_cola", 1), **change), Run(tmp_path / "run", cache=cache), quiet)
