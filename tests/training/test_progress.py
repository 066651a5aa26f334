"""A validation set decides as torch and Lightning would decide; a run that it guides resumes to the same bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from golden_inputs import GOLDEN
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models import gise51
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.cli import pretrain as pretrain_command
from hear_models.datasets.gise51 import mixture_folder, multi_hot
from hear_models.datasets.labelled_scenes import KINDS
from hear_models.datasets.mixing import write_mixtures
from hear_models.datasets.shards import write_shards
from hear_models.errors import CheckpointError, UsageError
from hear_models.metrics.tagging import tagging_scores
from hear_models.training import tagging
from hear_models.training.loop import pretrain
from hear_models.training.progress import Progress, Watched
from hear_models.training.recipe import Data, Optimiser, Recipe, read_recipe, with_steps
from hear_models.training.run import Run
from hear_models.training.tagging import Tagging, Validation, predict
from hear_models.zoo import load_model

MIX = GOLDEN / "gise51" / "corpus" / "mix"
CLASSES = ["Cough", "Dog", "Keys_jangling", "Tap", "Trumpet"]
FLAT = Optimiser(steps=1000, warmup_steps=0, batch=64, base_rate=4e-3)


def progress(**changes) -> Progress:
    return Progress(FLAT, Watched(Validation(schedule="plateau", stop_after=10, **changes), 1, "mAP"))


@settings(max_examples=25, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.3, 0.30001, 0.30002, 0.4, 0.40005, 0.5, 0.9]), min_size=1, max_size=60),
    patience=st.integers(0, 5),
)
def test_the_rate_falls_where_torchs_scheduler_lets_it_fall(scores, patience):
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, "max", 0.1, patience, threshold=1e-4, eps=0)
    ours = progress(patience=patience)
    for step, score in enumerate(scores):
        ours.see({"mAP": score})
        theirs.step(score)
        assert ours.rate(step) == pytest.approx(adam.param_groups[0]["lr"], rel=1e-9)


def test_a_run_ends_after_ten_looks_without_any_gain():
    ours = progress()
    for score in [0.1, 0.2, *[0.2] * 9]:
        ours.see({"mAP": score})
        assert not ours.ended
    ours.see({"mAP": 0.2000001})  # any gain counts for the end, however small
    for _ in range(9):
        assert not ours.see({"mAP": 0.1})
    assert not ours.ended
    ours.see({"mAP": 0.1})
    assert ours.ended


def test_without_a_schedule_of_its_own_a_validation_set_leaves_the_rate_alone():
    ours = Progress(FLAT, Watched(Validation(hours=1.0), 7, "mAP"))
    assert [ours.rate(step) for step in (0, 10, 999)] == [FLAT.rate(step) for step in (0, 10, 999)]
    assert [step for step in range(1, 1001) if ours.due(step)][:2] == [7, 14] and ours.due(1000)
    for _ in range(100):
        ours.see({"mAP": 0.0})
    assert not ours.ended
    warm = Progress(replace(FLAT, warmup_steps=10), Watched(Validation(schedule="plateau"), 1, "mAP"))
    assert warm.rate(5) == pytest.approx(5e-4) and warm.rate(10) == warm.rate(900) == pytest.approx(1e-3)


def recipe(**validation) -> Recipe:
    return Recipe(
        "gise51",
        seed=1,
        model={"architecture": "nano", "classes": CLASSES},
        tables={"tagging": Tagging(frames=60, masks=False), "validation": Validation(frames=60, **validation)},
        optimiser=Optimiser(steps=12, warmup_steps=0, batch=4, base_rate=0.32, weight_decay=0.0, precision="float32"),
    )


def test_a_guided_run_resumes_to_the_same_bits_and_ends_at_the_same_update(tmp_path):
    """Scores are steered, so that the rate falls and the run ends: weights, rate and end must come back."""
    scores = [0.5, 0.6, 0.1, 0.1, 0.1, 0.9]
    guided = recipe(schedule="plateau", every=2, patience=0, stop_after=3)

    def run(folder: Path, stop_after: int | None) -> int:
        log = folder / "log.jsonl"
        done = len(log.read_text().splitlines()) if log.exists() else 0
        looks = scores[done // 2 :]

        def validate(_self) -> dict[str, float]:
            return {"mAP": looks.pop(0)}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tagging.TaggingObjective, "validate", validate)
            return pretrain(guided, Run(folder, (MIX,), (MIX,), stop_after=stop_after, log_every=1), lambda line: None)

    assert run(tmp_path / "whole", None) == 10
    ends = [run(tmp_path / "parts", 3) for _ in range(5)]
    assert ends == [3, 6, 9, 10, 10]
    for name in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert read_header(tmp_path / "whole" / "best.safetensors").notes["step"] == 4
    lines = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 11))
    rates = [line["rate"] for line in lines]
    np.testing.assert_allclose(rates, 0.005 * np.array([1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]), rtol=1e-9)
    assert [line["step"] for line in lines if "mAP" in line] == [2, 4, 6, 8, 10]


def test_a_look_is_the_score_of_the_clips_and_changes_nothing(tmp_path):
    """On the mini corpus of the golden files: twelve updates, and the same weights with a validation set as without."""
    said: list[str] = []
    pretrain(recipe(every=6), Run(tmp_path / "with", (MIX,), (MIX,)), said.append)
    pretrain(recipe(), Run(tmp_path / "without", (MIX,)), said.append)
    with_set, without = (load_model(tmp_path / name / "model.safetensors") for name in ("with", "without"))
    for name, tensor in without.state_dict().items():
        assert torch.equal(with_set.state_dict()[name], tensor), name
    assert not (tmp_path / "without" / "best.safetensors").exists()
    lines = [json.loads(line) for line in (tmp_path / "with" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "mAP" in line] == [6, 12]
    clips = mixture_folder(MIX)
    targets = np.stack([multi_hot(clip.labels, CLASSES) for clip in clips])
    score = tagging_scores(predict(with_set, clips, 60), targets).mean_average_precision
    assert lines[-1]["mAP"] == pytest.approx(score, abs=1e-3)  # features are kept as 16-bit numbers
    assert any("mAP" in line for line in said)


def test_scenes_of_the_validation_set_are_others(tmp_path):
    chosen = replace(recipe(hours=0.02, every=1), model={"architecture": "nano", "classes": list(KINDS)})
    objective = tagging.build(
        replace(chosen, data=Data(procedural_hours=0.02)),
        Run(tmp_path),
        gise51.Model(gise51.Config(architecture="nano", classes=tuple(KINDS)), seed=0),
        lambda line: None,
    )
    trained, _ = objective.batches.sources[0]
    held, _ = objective.held_out[0]
    assert len(trained) == len(held) == 14
    assert not any(np.array_equal(trained[i], held[j]) for i in range(14) for j in range(14))


def test_a_round_through_the_clips_lies_between_two_looks(tmp_path):
    said: list[str] = []
    chosen = replace(recipe(), optimiser=replace(recipe().optimiser, steps=3, batch=2))
    pretrain(chosen, Run(tmp_path, (MIX,), (MIX,)), said.append)  # four clips, two a batch
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3]


@pytest.mark.parametrize(
    "text, what",
    [
        ('schedule = "steps"', "schedule is 'steps'. Use one of cosine, plateau"),
        ("factor = 1.5", "factor lies between 0 and 1"),
        ("patience = -1", "0 or more"),
        ("frames = 0", "1 or more"),
        ("stop = 3", "no field 'stop'"),
    ],
)
def test_a_wrong_validation_table_is_one_sentence(text, what, tmp_path):
    (tmp_path / "wrong.toml").write_text(f'family = "gise51"\n[validation]\n{text}\n')
    with pytest.raises(UsageError, match=what):
        read_recipe(str(tmp_path / "wrong.toml"))


def test_a_schedule_without_a_set_is_refused_and_a_damaged_standing_named(tmp_path):
    with pytest.raises(UsageError, match="--validation FOLDER"):
        pretrain(recipe(schedule="plateau"), Run(tmp_path, (MIX,)), lambda line: None)
    run = Run(tmp_path, (MIX,), (MIX,), stop_after=1)
    pretrain(recipe(schedule="plateau"), run, lambda line: None)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes().replace(b'\\"falls\\"', b'\\"fells\\"'))
    with pytest.raises(CheckpointError, match="damaged"):
        pretrain(recipe(schedule="plateau"), run, lambda line: None)


def test_a_family_that_has_no_validation_set_says_so(tmp_path):
    (tmp_path / "r.toml").write_text('family = "ftcbam"\n[validation]\nhours = 1.0\n')
    with pytest.raises(UsageError, match="no field 'validation'"):
        read_recipe(str(tmp_path / "r.toml"))
    with pytest.raises(UsageError, match="Leave --validation out"):
        pretrain(Recipe("ftcbam"), Run(tmp_path, (MIX,), (MIX,)), lambda line: None)


def test_the_recipe_of_the_paper_is_its_code(tmp_path):
    paper = read_recipe("gise51-mixtures")
    assert paper.tables == {
        "tagging": Tagging(),
        "validation": Validation(schedule="plateau", stop_after=10),
    }
    o = paper.optimiser
    assert (o.peak, o.batch, o.weight_decay, o.betas) == (1e-3, 64, 0.0, (0.9, 0.999))
    assert with_steps(paper, 10).optimiser.warmup_steps == 0
    done = CliRunner().invoke(
        pretrain_command.command, ["gise51-mixtures", "--data", str(MIX), "--output", str(tmp_path)]
    )
    assert isinstance(done.exception, UsageError) and "--validation" in str(done.exception)


def test_the_recipe_runs_on_mixtures_that_are_made_here(tmp_path):
    """The way of docs/tagging.md from isolated events to a tagger, on the mini corpus: mix, pack, train, look."""
    corpus = GOLDEN / "gise51" / "corpus"
    for name, seed in (("train", 123), ("val", 124)):
        list(write_mixtures(corpus / "fg", corpus / "bg", tmp_path / name, 4, seed=seed))
    list(write_shards(mixture_folder(tmp_path / "train"), tmp_path / "shards", 3))
    paper = read_recipe("gise51-mixtures")
    short = replace(
        paper,
        model={"architecture": "nano", "classes": CLASSES},
        tables=paper.tables | {"tagging": replace(paper.tables["tagging"], frames=60)},
        optimiser=replace(paper.optimiser, steps=4, batch=2),
    )
    runs = {}
    for source in ("train", "shards"):
        run = Run(tmp_path / f"run-{source}", (tmp_path / source,), (tmp_path / "val",))
        assert pretrain(short, run, lambda line: None) == 4
        lines = [json.loads(line) for line in (run.output / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [2, 4] and all(0 < line["mAP"] <= 1 for line in lines)
        runs[source] = load_model(run.output / "best.safetensors").state_dict()
    for name, tensor in runs["train"].items():
        assert torch.equal(runs["shards"][name], tensor), name
