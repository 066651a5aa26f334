"""Recordings that are held out are never trained on, are looked at alike every time, and are drawn as curves."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_models.checkpoints.safetensors_file import read_checkpoint, read_header
from hear_models.errors import UsageError
from hear_models.training import contrastive, curves
from hear_models.training import masked as masked_objective
from hear_models.training.features import recordings
from hear_models.training.held_out import HeldOut, parts
from hear_models.training.loop import pretrain
from hear_models.training.recipe import Optimiser, Recipe, with_batch
from hear_models.training.run import Run

MASKED = {"encoder_width": 24, "encoder_depth": 1, "encoder_heads": 3, "decoder_width": 16, "decoder_depth": 1}
CONTRASTED = {"width_factor": 0.05, "depth_factor": 0.1, "projection": 16}
FLAT = Optimiser(steps=6, warmup_steps=2, batch=4, base_rate=4e-2, precision="float32")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(20):
        soundfile.write(folder / f"{i:02}.wav", 0.1 * rng.standard_normal(24_000), 16_000)
    return folder


def masked(**looks) -> Recipe:
    return Recipe("mwmae", seed=1, model=MASKED, optimiser=FLAT, tables={"validation": HeldOut(**looks)})


def silent(line: str) -> None:
    pass


def log_of(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.output / "log.jsonl").read_text().splitlines()]


def test_a_share_is_of_whole_recordings_and_of_both_parts_together_nothing_is_lost(corpus):
    trained, held = parts(masked(share=0.2), Run(corpus, (corpus,)))
    inside, outside = ({path.name for path in some[0].paths} for some in (trained, held))
    assert len(outside) == 4 and not inside & outside and inside | outside == {p.name for p in recordings(corpus)}
    assert held == parts(masked(share=0.2), Run(corpus, (corpus,)))[1]
    other = replace(masked(share=0.2), seed=2)
    assert held != parts(other, Run(corpus, (corpus,)))[1]
    assert parts(masked(), Run(corpus, (corpus,)))[1] == []


def test_what_is_asked_for_and_cannot_be_is_refused(corpus, tmp_path):
    with pytest.raises(UsageError, match="20 recordings, too few"):
        parts(masked(share=0.99), Run(corpus, (corpus,)))
    with pytest.raises(UsageError, match="trained on, too"):
        parts(masked(), Run(corpus, (corpus,), validation=(corpus,)))
    with pytest.raises(UsageError, match="--validation FOLDER, or its share"):
        parts(masked(stop_after=3), Run(corpus, (corpus,)))
    with pytest.raises(UsageError, match="share from 0 to below 1"):
        HeldOut(share=1.0)


def test_pairs_of_held_out_recordings_are_looked_at(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(contrastive, "EXAMPLES", 4)
    looks = {"validation": HeldOut(share=0.2, every=1)}
    recipe = Recipe("logmel_cola", seed=1, model=CONTRASTED, optimiser=replace(FLAT, steps=2), tables=looks)
    run = Run(tmp_path / "run", (corpus,))
    pretrain(recipe, run, silent)
    lines = log_of(run)
    assert len(lines) == 2 and all(0 <= line["validation_accuracy"] <= 1 for line in lines)
    assert lines[0]["validation_loss"] != lines[1]["validation_loss"]


def test_looks_change_nothing_but_the_log_and_keep_the_best(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(masked_objective, "EXAMPLES", 8)
    without = Recipe("mwmae", seed=1, model=MASKED, optimiser=FLAT)
    recipe = replace(without, tables={"validation": HeldOut(every=2)})
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder, names in ((inside, range(12)), (outside, range(12, 20))):
        folder.mkdir()
        for i in names:
            (folder / f"{i}.wav").symlink_to(corpus / f"{i:02}.wav")

    plain = Run(tmp_path / "plain", (inside,), log_every=100)
    looked = Run(tmp_path / "looked", (inside,), validation=(outside,), log_every=100)
    assert pretrain(without, plain, silent) == pretrain(recipe, looked, silent) == 6
    lines = log_of(looked)
    assert [line["step"] for line in lines] == [2, 4, 6] and all("validation_loss" in line for line in lines)
    assert log_of(plain)[-1].get("validation_loss") is None
    weights = [read_checkpoint(run.output / "model.safetensors").tensors for run in (plain, looked)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    best = min(lines, key=lambda line: line["validation_loss"])["step"]
    assert read_header(looked.output / "best.safetensors").notes["step"] == best

    stopped = replace(looked, output=tmp_path / "stopped")
    pretrain(recipe, replace(stopped, stop_after=3), silent)
    pretrain(recipe, stopped, silent)
    same = ("step", "validation_loss")
    resumed = [[line[name] for name in same] for line in log_of(stopped) if line["step"] != 3]
    assert resumed == [[line[name] for name in same] for line in lines]


def test_held_out_sound_has_a_part_in_what_the_run_learns_from(corpus, tmp_path):
    run = Run(tmp_path / "run", (corpus,), stop_after=1)
    pretrain(masked(share=0.2), run, silent)
    data = read_header(run.output / "model.safetensors").notes["data"]
    assert {source["name"]: source["recordings"] for source in data["sources"]} == {"corpus": 16, "corpus-held-out": 4}


def test_a_run_that_learns_no_more_ends(corpus, tmp_path):
    still = replace(FLAT, base_rate=0.0, steps=40)
    recipe = replace(masked(share=0.2, every=1, stop_after=2), optimiser=still)
    assert pretrain(recipe, Run(tmp_path / "run", (corpus,)), silent) == 3


def test_curves_are_the_log(corpus, tmp_path):
    pytest.importorskip("matplotlib")
    run = Run(tmp_path / "run", (corpus,), log_every=3, curves=True)
    pretrain(masked(share=0.2, every=2), run, silent)
    rows = list(csv.DictReader((run.output / "curves.csv").open()))
    assert [row["step"] for row in rows] == ["2", "3", "4", "6"] and rows[1]["validation_loss"] == ""
    assert [float(row["loss"]) for row in rows] == [line["loss"] for line in log_of(run)]
    assert (run.output / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_log_that_is_none_is_a_sentence(tmp_path):
    (tmp_path / "log.jsonl").write_text("not json\n")
    with pytest.raises(UsageError, match=r"log\.jsonl"):
        curves.write_curves(tmp_path / "log.jsonl", tmp_path)


def test_events_are_not_written_through_a_link(tmp_path):
    for name in ("run", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(OSError, match="leads out"):
        curves.Events(Run(tmp_path / "run", (), tensorboard=True), 0)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_events_for_tensorboard(corpus, tmp_path):
    run = Run(tmp_path / "run", (corpus,), tensorboard=True)
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="pip install tensorboard"):
            pretrain(masked(), run, silent)
        assert not (run.output / "features").exists()
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pretrain(masked(share=0.2, every=3), run, silent)
    events = EventAccumulator(str(run.output / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("validation_loss")] == [3, 6]


def test_a_finished_run_goes_on_with_more_updates(corpus, tmp_path):
    run = Run(tmp_path / "run", (corpus,))
    assert pretrain(masked(), run, silent) == 6
    longer = replace(masked(), optimiser=replace(FLAT, steps=9))
    with pytest.raises(UsageError, match="--go-on-with-changed optimiser"):
        pretrain(longer, run, silent)
    assert pretrain(longer, replace(run, go_on_with_changed=("optimiser",)), silent) == 9
    assert read_header(run.output / "model.safetensors").notes["changed"][0]["before_update"] == 7


def test_first_weights_of_another_network_are_a_sentence(corpus, tmp_path):
    first = Run(tmp_path / "first", (corpus,), stop_after=1)
    pretrain(masked(), first, silent)
    wider = replace(masked(), model=MASKED | {"encoder_width": 48})
    with pytest.raises(UsageError, match=r"other sizes than \[model\].*\[.*24.*\] there, \[.*48.*\] here"):
        pretrain(wider, Run(tmp_path / "second", (corpus,), init=first.output / "model.safetensors"), silent)
    deeper = replace(masked(), model=MASKED | {"encoder_depth": 2})
    with pytest.raises(UsageError, match="nothing there"):
        pretrain(deeper, Run(tmp_path / "third", (corpus,), init=first.output / "model.safetensors"), silent)


def test_another_batch_keeps_the_rate_of_a_crop():
    half = with_batch(masked(), 2)
    assert (half.optimiser.batch, half.optimiser.peak) == (2, FLAT.peak / 2) and with_batch(masked(), None) == masked()
