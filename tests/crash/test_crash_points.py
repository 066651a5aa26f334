"""Killed, or on a full disk, at any file operation: the same command again ends with what an undisturbed one has.

Quickly here: some crash points of every writing command. All of them: `pytest -m crash tests/crash`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crash.harness import Case, Crash, contents, run, sounds, strike_everywhere, strike_somewhere, undisturbed

from hear_models.checkpoints.sealed import read_sealed
from hear_models.corpus import parquet, unfinished
from hear_models.corpus.reading import load_embeddings
from hear_models.corpus.run import embed_files
from hear_models.datasets.writing import claim_folder, write_corpus
from hear_models.evaluation.embeddings.extraction import extract
from hear_models.files import write_atomically
from hear_models.rereading.check import check
from hear_models.subjects.subject import resolve
from hear_models.tasks import make_small as toys
from hear_models.tasks.new_task import new_task
from hear_models.tasks.resample_task import resample_task
from hear_models.tasks.task import read_task
from hear_models.training.loop import pretrain
from hear_models.training.recipe import Recipe, read_recipe
from hear_models.training.run import Run
from hear_models.zoo import load_model

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TINY = """family = "mwmae"
[model]
encoder_width = 24
encoder_depth = 1
encoder_heads = 3
decoder_width = 16
decoder_depth = 1
[optimiser]
steps = 2
batch = 2
"""


def embed(target: str) -> Callable[[Path], object]:
    def command(folder: Path) -> object:
        return embed_files([folder / "in"], folder / "out" / target, MODEL, batch_seconds=0.01)

    return command


def embed_windows(target: str) -> Callable[[Path], object]:
    def command(folder: Path) -> object:
        return embed_files([folder / "in"], folder / "out" / target, MODEL, window_s=0.1, batch_seconds=0.01)

    return command


def embedded(folder: Path) -> object:
    """What lies there; of the files of embeddings all but where their recordings were, which is another folder."""
    found: dict[str, object] = dict(contents(folder))
    for name in [name for name in found if name.endswith(".npz")]:
        X, rows = load_embeddings(folder / name)
        found[name] = X.tobytes(), str(rows)
    return found


def table(folder: Path) -> object:
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "t.parquet").to_pydict()
    return sorted(contents(folder)), sorted(zip(rows["path"], map(tuple, rows["embedding"]), strict=True))


def train(folder: Path) -> object:
    return pretrain(RECIPE, Run(folder / "out", (folder / "in",), log_every=1, save_every_s=0), lambda line: None)


def trained(folder: Path) -> object:
    found = contents(folder)
    lines = found.pop("log.jsonl", b"").count(b"\n")
    if found.pop("state.safetensors", None) is not None:  # the order of its metadata is left to chance
        tensors, about, _ = read_sealed(folder / "state.safetensors", "")
        found |= {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
        lines += int(about["step"])
    return found, lines


def corpus(folder: Path) -> object:
    claim_folder(folder / "out", {"seed": 0})
    make = lambda index: np.random.default_rng(index).uniform(-0.5, 0.5, 800).astype(np.float32)  # noqa: E731
    return list(write_corpus(folder / "out", make, 0.2, name="x"))


def small_tasks(folder: Path) -> object:
    return toys.make_small(folder / "out", sample_rates=[16000])


def table_task(folder: Path) -> object:
    if (folder / "out" / "toy").exists():  # the command refuses to replace it
        return None
    return new_task(folder / "table.csv", folder / "in", folder / "out" / "toy")


def write_table(folder: Path) -> None:
    rows = "".join(f"{i}.wav,{label},{split}\n" for i, (label, split) in enumerate(ROWS))
    (folder / "table.csv").write_text("file,label,split\n" + rows)


def resample(folder: Path) -> object:
    return resample_task(read_task(folder / "out"), 48000)


def embed_task(folder: Path) -> object:
    return extract(resolve("logmel-stats"), read_task(TASK), folder / "out")


def task_embeddings(folder: Path) -> object:
    found = contents(folder)
    timed = (".hear-models.json", "profile.embeddings.json")
    return {name: b"" if name.endswith(timed) else data for name, data in found.items()}


def one_file(folder: Path) -> object:
    return write_atomically(folder / "out" / "a.bin", b"x" * 100)


MODEL = load_model("logmel-stats")
RECIPE = Recipe("mwmae")
TASK = Path()
ROWS = [("a", "train"), ("b", "valid"), ("a", "test")]


def task_files(folder: Path) -> object:
    """Its metadata name the place of the table."""
    return {name: data for name, data in contents(folder).items() if not name.endswith("task_metadata.json")}


CASES = {
    "one file": Case(one_file, prepare=lambda folder: (folder / "out").mkdir()),
    "embed .npz": Case(embed("npz"), embedded),
    "embed .parquet": Case(embed("t.parquet"), table),
    "embed .npz, windows": Case(embed_windows("npz"), embedded),
    "embed .parquet, windows": Case(embed_windows("t.parquet"), table),
    "pretrain": Case(train, trained),
    "synthesise": Case(corpus),
    "tasks make-small": Case(small_tasks),
    "tasks new": Case(table_task, task_files, write_table),
    "tasks resample": Case(resample, prepare=lambda folder: shutil.copytree(TASK, folder / "out")),
    "evaluate: embeddings": Case(embed_task, task_embeddings),
}


@pytest.fixture(scope="module", autouse=True)
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The recipe and the task that all cases share: a toy of 20 clips."""
    global RECIPE, TASK
    folder = tmp_path_factory.mktemp("things")
    (folder / "tiny.toml").write_text(TINY)
    RECIPE = read_recipe(str(folder / "tiny.toml"))
    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    torch.optim.AdamW([weight]).step()  # imports for a second what every child would
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "PART_BYTES", 1)  # a part a recording
        patch.setattr(unfinished, "KEEP_S", 0.0)  # each window is kept
        (toy,) = (toy for toy in toys.TOYS if toy.folder.startswith("beijing_opera"))
        patch.setattr(toys, "TOYS", (replace(toy, clips=dict.fromkeys(toy.clips, 1)),))
        TASK = toys.make_small(folder / "tasks", sample_rates=[16000])[0]
        yield


@pytest.mark.parametrize("name", CASES)
def test_some_crash_points(name, tmp_path):
    pytest.importorskip("pyarrow")
    strike_somewhere(CASES[name], tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize("name", CASES)
def test_every_crash_point(name, tmp_path):
    pytest.importorskip("pyarrow")
    print(
        f"{name}: {strike_everywhere(CASES[name], tmp_path)} crash points, killed and full at each, 9 sizes of a file"
    )


def test_what_is_left_is_whole(tmp_path):
    """`hear-models check` finds no fault in what a killed run leaves."""
    case = CASES["embed .npz"]
    _, operations = undisturbed(case, tmp_path / "clean")
    sounds(tmp_path / "killed" / "in")
    run(lambda: case.command(tmp_path / "killed"), tmp_path / "killed", Crash(operations - 4))
    assert [one.kind for one in check([tmp_path / "killed" / "out"]) if one.problem and one.kind != "left over"] == []
