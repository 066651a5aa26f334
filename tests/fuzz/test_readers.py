"""Broken files of every format that strangers hand over: one HearModelsError each, whatever was changed.

Quickly here; `pytest -m fuzz tests/fuzz` breaks each format many thousand times (docs/reliability.md has the figures).
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from golden_inputs import GOLDEN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hear_models.checkpoints.card import write_card
from hear_models.checkpoints.flax_msgpack import read_flax
from hear_models.checkpoints.safetensors_file import read_checkpoint, write_checkpoint
from hear_models.checkpoints.sealed import read_sealed, sealed
from hear_models.checkpoints.torch_file import read_torch_file
from hear_models.corpus.npz import read_whole
from hear_models.corpus.parquet import verify_table
from hear_models.corpus.run import embed_files
from hear_models.datasets import Library
from hear_models.datasets.gise51 import packed_clip, read_lmdb
from hear_models.datasets.gise51_record import LOCK, Lock
from hear_models.datasets.jams import read_jams
from hear_models.datasets.shards import read_shards, write_shards
from hear_models.errors import HearModelsError
from hear_models.evaluation.board.importing import import_folder
from hear_models.evaluation.judges.outcome import Predictions
from hear_models.evaluation.runs.predictions import read_predictions, write_predictions
from hear_models.evaluation.runs.record import read_record
from hear_models.fetching.download import Got
from hear_models.fetching.unpacking import unpack
from hear_models.tasks.task import read_task
from hear_models.tasks.task_writing import write_task_files
from hear_models.training.features import Kept
from hear_models.training.recipe import read_recipe
from hear_models.zoo import load_model

LONG = int(os.environ.get("HEAR_MODELS_FUZZ_EXAMPLES", "2000"))  # of the longer run, each format
QUICK = 25


@dataclass(frozen=True)
class Format:
    """A file of a format and what reads it.

    Args:
        make: writes a whole one into a folder; returns its path.
        read: of that path.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]


def embeddings(folder: Path, target: str) -> Path:
    import soundfile

    (folder / "in").mkdir()
    soundfile.write(folder / "in" / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 8000), 16000)
    embed_files([folder / "in"], folder / target, load_model("logmel-stats"))
    return folder / target / "a.wav.npz" if target == "npz" else folder / target


def checkpoint(folder: Path) -> Path:
    path = folder / "c.safetensors"
    write_checkpoint(path, family="mwmae", config={"encoder_depth": 1}, tensors={"a": torch.ones(2, 3)})
    return path


def state(folder: Path) -> Path:
    (folder / "s.safetensors").write_bytes(sealed({"a": torch.ones(3)}, {"step": "1"}))
    return folder / "s.safetensors"


def torch_zip(folder: Path) -> Path:
    torch.save({"state_dict": {"a": torch.ones(3), "b": torch.ones(2, 2)}, "epoch": 3}, folder / "t.pth")
    return folder / "t.pth"


def torch_legacy(folder: Path) -> Path:
    content = {"state_dict": {"a": torch.ones(3)}, "epoch": 3}
    torch.save(content, folder / "l.pth", _use_new_zipfile_serialization=False)
    return folder / "l.pth"


def flax(folder: Path) -> Path:
    array = msgpack.packb([[2, 2], "float32", np.ones((2, 2), np.float32).tobytes()])
    (folder / "checkpoint_1").write_bytes(msgpack.packb({"params": {"a": msgpack.ExtType(1, array)}, "step": 1}))
    return folder / "checkpoint_1"


def predictions(folder: Path) -> Path:
    matrix = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    events = {"test": {"a.wav": [{"label": "x", "start": 0.0, "end": 1.0}]}}
    rows = Predictions(list("abcd"), matrix, matrix, matrix, np.arange(4.0))
    write_predictions(folder / "p.npz", {"test": rows}, events)
    return folder / "p.npz"


def record(folder: Path) -> Path:
    older = Path(__file__).parents[1] / "evaluation" / "older_results"
    (path, *_) = sorted(older.rglob("*.json"))
    (folder / "r.json").write_bytes(path.read_bytes())
    return folder / "r.json"


def kit_scores(folder: Path) -> Path:
    place = folder / "module" / "esc50-v2.0.0-full"
    place.mkdir(parents=True)
    fold = {"test_score": 0.5, "test_loss": 0.1, "test_top1_acc": 0.5, "validation_score": 0.4, "epoch": 3}
    content = {"test": fold, "hparams": {"lr": 1e-3, "hidden_layers": 1}, "score_mode": "max", "postprocessing": {}}
    (place / "test.predicted-scores.json").write_text(json.dumps(content))
    return place / "test.predicted-scores.json"


def task_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        metadata = {
            "task_name": "x",
            "embedding_type": "event",
            "prediction_type": "multilabel",
            "split_mode": "trainvaltest",
            "splits": ["train", "valid", "test"],
            "sample_duration": 1.0,
            "evaluation": ["event_onset_200ms_fms"],
        }
        events = {"a.wav": [{"label": "x", "start": 0.0, "end": 9.0}]}
        write_task_files(folder, metadata, ["x", "y"], dict.fromkeys(metadata["splits"], events))
        return folder / name

    return make


def recipe(folder: Path) -> Path:
    (folder / "r.toml").write_text('family = "mwmae"\nseed = 3\n[model]\nencoder_width = 24\n[data]\ngap_ms = [1, 2]\n')
    return folder / "r.toml"


def features(folder: Path) -> Path:
    kept = Kept(folder / "f", np.float16, 2)
    kept.write("x", [np.zeros((3, 2)), np.ones((2, 2))])
    return kept.index


def packed_clips(folder: Path) -> Path:
    lmdb = pytest.importorskip("lmdb")
    with (
        lmdb.open(str(folder / "x.lmdb"), subdir=False, map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"__len__", msgpack.packb(2))
        for key in (b"0", b"1"):
            transaction.put(key, msgpack.packb([b"fLaC" + b"x" * 5000, "dog,rain"]))
    return folder / "x.lmdb"


CORPUS = GOLDEN / "gise51" / "corpus"


def soundscape(folder: Path) -> Path:
    path = CORPUS / "mix" / "soundscape_unimodal0_proc_00.jams"
    return shutil.copyfile(path, folder / "x.jams")


def read_soundscape(path: Path) -> object:
    return read_jams(path, Library(CORPUS / "fg"), Library(CORPUS / "bg"))


def shard(folder: Path) -> Path:
    clips = [packed_clip(b"fLaC" + b"x" * 600, f"{number}.flac", ("dog", "rain"), number) for number in range(3)]
    list(write_shards(clips, folder / "shards"))
    return folder / "shards" / "shard-000000.tar"


def archive(folder: Path) -> Path:
    with tarfile.open(folder / "x.tar.gz", "w:gz") as tar:
        for number in range(4):
            entry = tarfile.TarInfo(f"x/dog/{number}.wav")
            entry.size = 700
            tar.addfile(entry, io.BytesIO(random.Random(number).randbytes(700)))
    return folder / "x.tar.gz"


def unpack_again(path: Path) -> None:
    unpack(path, path.parent / "x")
    shutil.rmtree(path.parent / "x")


def download_lock(folder: Path) -> Path:
    Lock(folder).note("x.tar.gz", Got(3, "0" * 32, "0" * 64))
    return folder / LOCK


FORMATS = {
    "embeddings .npz": Format(lambda folder: embeddings(folder, "npz"), read_whole),
    "table": Format(lambda folder: embeddings(folder, "t.parquet"), verify_table),
    "checkpoint": Format(checkpoint, read_checkpoint),
    "training state": Format(state, lambda path: read_sealed(path, "Delete it.")),
    "torch zip": Format(torch_zip, lambda path: read_torch_file(path).values),
    "torch legacy": Format(torch_legacy, lambda path: read_torch_file(path).values),
    "flax": Format(flax, read_flax),
    "predictions": Format(predictions, read_predictions),
    "record": Format(record, read_record),
    "scores of the kit": Format(kit_scores, lambda path: import_folder(path.parents[2], "hear")),
    "task metadata": Format(task_file("task_metadata.json"), lambda path: read_task(path.parent)),
    "task vocabulary": Format(task_file("labelvocabulary.csv"), lambda path: read_task(path.parent)),
    "task split": Format(task_file("train.json"), lambda path: read_task(path.parent)),
    "recipe": Format(recipe, lambda path: read_recipe(str(path))),
    "features": Format(features, lambda path: Kept(path.parent / "f", np.float16, 2).read()),
    "packed clips": Format(packed_clips, lambda path: list(read_lmdb(path))),
    "soundscape .jams": Format(soundscape, read_soundscape),
    "shard": Format(shard, lambda path: list(read_shards(path))),
    "archive of sounds": Format(archive, unpack_again),
    "lock of a download": Format(download_lock, lambda path: Lock(path.parent)),
}

change = st.tuples(
    st.sampled_from(["flip", "set", "cut", "insert", "remove", "double"]),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=8),
)


def broken(whole: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """A file with some of its bytes changed; places are shares of its length."""
    data = bytearray(whole)
    for what, share, piece in changes:
        at = int(share * len(data))
        if what == "flip" and data:
            data[at] ^= 1 << piece[0] % 8
        elif what == "set":
            data[at : at + len(piece)] = piece
        elif what == "cut":
            del data[at:]
        elif what == "insert":
            data[at:at] = piece
        elif what == "remove":
            del data[at : at + piece[0]]
        else:
            data[at:at] = data[at : at + 64]
    return bytes(data)


def try_out(name: str, folder: Path, examples: int) -> int:
    """Break a file `examples` times; returns how many of them were refused."""
    form = FORMATS[name]
    path = form.make(folder)
    whole, refused = path.read_bytes(), 0

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(change, min_size=1, max_size=4))
    def read(changes: list[tuple[str, float, bytes]]) -> None:
        nonlocal refused
        path.write_bytes(broken(whole, changes))
        try:
            form.read(path)
        except HearModelsError as error:
            refused += 1
            assert str(error).strip() and "\n" not in str(error).strip(), str(error)

    read()
    return refused


@pytest.mark.parametrize("name", FORMATS)
def test_some_broken_files(name, tmp_path):
    pytest.importorskip("pyarrow")
    assert try_out(name, tmp_path, QUICK) > 0


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FORMATS)
def test_many_broken_files(name, tmp_path):
    pytest.importorskip("pyarrow")
    print(f"{name}: {try_out(name, tmp_path, LONG)} of {LONG} refused, no other exception")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, derandomize=True, database=None, deadline=None)
@given(notes=st.dictionaries(st.sampled_from(["recipe", "step", "licence", "data", "started_from"]), json_values))
def test_a_signed_header_with_any_notes_is_a_card_or_one_error(notes):
    """Whoever signs a file may write anything into its notes."""
    from dataclasses import replace

    from checkpoints.test_card import FACTS, HEADER

    from hear_models.checkpoints.licences import licence_in

    try:
        licence_in(notes)
        write_card(replace(FACTS, header=replace(HEADER, notes=notes)))
    except HearModelsError as error:
        assert str(error)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("packed clips",)])
def test_what_is_no_plain_file_is_refused_at_once(name, kind, tmp_path):
    """A pipe would wait for ever, /dev/zero has no end."""
    if os.name != "posix":
        pytest.skip("pipes of POSIX")
    if (name, kind) == ("scores of the kit", "folder"):
        pytest.skip("a folder of that name is searched like any other")
    pytest.importorskip("pyarrow")
    path = FORMATS[name].make(tmp_path)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(HearModelsError):
        FORMATS[name].read(path)


def test_an_archive_that_unfolds_without_end_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (25 << 20,)})
    for name in ("test/logit", "metadata"):
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(100 << 20))
        assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
        with pytest.raises(HearModelsError, match="would unfold"):
            read_predictions(tmp_path / "bomb.npz")


def test_a_doubled_name_in_long_json_takes_no_time(tmp_path):
    names = ", ".join(f'"{number}": 0' for number in range(200_000))
    (tmp_path / "r.json").write_text("{" + names + ', "7": 1}')
    with pytest.raises(HearModelsError, match="'7' occurs twice"):
        read_record(tmp_path / "r.json")


def test_links_to_the_folder_above_do_not_multiply(tmp_path):
    kit_scores(tmp_path)
    for number in range(10):
        (tmp_path / f"link{number}").symlink_to(tmp_path, target_is_directory=True)
    assert len(import_folder(tmp_path, "hear")) == 1


def test_a_long_vocabulary_and_many_clips_are_read_quickly(tmp_path):
    metadata = {
        "task_name": "x",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": ["train", "valid", "test"],
        "sample_duration": 1.0,
        "evaluation": ["top1_acc"],
    }
    clips = {f"{number}.wav": [str(number)] for number in range(20_000)}
    write_task_files(tmp_path, metadata, [str(n) for n in range(20_000)], dict.fromkeys(metadata["splits"], clips))
    assert len(read_task(tmp_path).labels) == 20_000
