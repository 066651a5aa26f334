"""The extractor against what the kit's own runner wrote, and everything that the kit's runner does not promise."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_tasks
import torch

from hear_models import mwmae
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.errors import HearModelsError, UsageError
from hear_models.evaluation.embeddings import extraction
from hear_models.evaluation.embeddings.embedding_writing import labels_at
from hear_models.evaluation.embeddings.extraction import Extraction, extract, key_sha256, kit_batch_size
from hear_models.evaluation.embeddings.folder import read_embedding_folder
from hear_models.subjects import importing
from hear_models.subjects.subject import resolve
from hear_models.tasks.task import TaskError, read_task

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation" / "kit_embeddings.zip"
OPTIONS = {"tvt-v2-5h": {"training": True, "offset": 0.25}}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tasks")
    tiny_tasks.write_all(root)
    return root


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    for rate in (16000, 32000):
        tiny_tasks.write_module(folder, f"echo_{rate}", rate)
    return folder


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of ours, trained by its own word."""
    config = {"encoder_width": 24, "encoder_depth": 1, "encoder_heads": 3, "patch_frames": 40, "decoder_width": 16}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    tensors = mwmae.Model(mwmae.Config(**config)).state_dict()
    write_checkpoint(path, family="mwmae", config=config, tensors=tensors, trained=True)
    return path


@pytest.fixture
def echo(modules: Path, tasks: Path, tmp_path: Path):
    """echo(task, **how): embed a tiny task with the module that says what it was given."""

    def run(name: str, out: Path = tmp_path, **how: Any) -> Extraction:
        module = modules / f"echo_{tiny_tasks.RATES[name]}.py"
        return extract(resolve(str(module), OPTIONS.get(name, {})), read_task(tasks / name), out, **how)

    return run


class NoClasses(pickle.Unpickler):
    """Lists, words and numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        raise AssertionError(f"the kit must not need {module}.{name} to read our labels")


def content(folder: Path) -> dict[str, Any]:
    """Relative name → what a reader gets of each file, but for the profile, our own notes, and the order of labels."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes() if path.is_file() else b""
        if not path.is_file() or name in (".hear-models.json", "profile.embeddings.json"):
            continue
        if name.endswith(".pkl"):
            name, data = f"{name}.json", json.dumps(NoClasses(io.BytesIO(data)).load()).encode()
        if name.endswith((".target-labels.json", ".target-labels.pkl.json")):
            rows = json.loads(data)
            found[name] = [sorted(row) if isinstance(row, list) else row for row in rows]
        elif name.endswith(".filename-timestamps.json"):
            found[name] = [["/".join(file.replace("\\", "/").split("/")[-3:]), t] for file, t in json.loads(data)]
        else:
            found[name] = data
    return found


def kit_content(folder: Path, name: str) -> dict[str, Any]:
    """The golden folder of one task, unpacked."""
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(folder)
    (task,) = folder.glob(f"*/{name}")
    return content(task)


@pytest.mark.parametrize("name", tiny_tasks.RATES)
def test_every_file_is_what_the_kits_runner_writes(name, echo, tmp_path):
    done = echo(name, tmp_path / "ours")
    expected = kit_content(tmp_path / "kit", name)
    found = content(done.folder)
    assert found.keys() == expected.keys()
    assert [file for file in expected if found[file] != expected[file]] == []
    assert done.batches == "kit"
    assert done.folder.parent.name == next((tmp_path / "kit").glob(f"*/{name}")).parent.name
    profile = json.loads((done.folder / "profile.embeddings.json").read_text())
    assert profile.keys() == {"time_elapsed", "gpu_max_mem", "gpu_device_name"}


@pytest.mark.parametrize("name", tiny_tasks.RATES)
def test_our_reader_reads_our_folders(name, echo, tasks):
    folder, task = read_embedding_folder(echo(name).folder), read_task(tasks / name)
    for split in task.splits:
        rows = folder.split(split)
        assert set(rows.files) == set(task.items(split))
        if task.embedding_type == "scene":
            assert rows.labels == [task.items(split)[file] for file in rows.files]
            for row, file in zip(rows.embeddings, rows.files, strict=True):
                clip = np.load(folder.path / split / f"{file}.embedding.npy", allow_pickle=False)
                assert np.array_equal(row, clip)


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny_tasks.RATES)
def test_the_released_kit_writes_these_files_today(name, echo, tasks, modules, tmp_path, monkeypatch):
    """Builds the kit's environment if it is not there yet (network)."""
    from hear_models.evaluation.judges.heareval import run_embeddings

    monkeypatch.syspath_prepend(str(modules))
    module = f"echo_{tiny_tasks.RATES[name]}"
    run_embeddings(module, None, OPTIONS.get(name, {}), tasks, name, tmp_path / "kit")
    (kit,) = (tmp_path / "kit").glob(f"*/{name}")
    assert content(echo(name, tmp_path / "ours").folder) == content(kit)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["esc50", "nsynth_pitch", "fsd50k", "dcase2016_task2"])
def test_the_default_checkpoint_gets_the_kits_embeddings_of_the_toy_tasks(task, tmp_path):
    """k-fold, train/valid/test with integer labels, multilabel with clips of any length, events."""
    from hear_models.evaluation.judges.heareval import run_embeddings
    from hear_models.tasks.make_small import make_small

    make_small(tmp_path / "tasks", only=[task], sample_rates=[16000])
    (folder,) = (tmp_path / "tasks").iterdir()
    run_embeddings("hear_models.mwmae", None, {}, tmp_path / "tasks", folder.name, tmp_path / "kit")
    ours = extract(resolve("mwmae-nano"), read_task(folder), tmp_path / "ours")
    kit = content(tmp_path / "kit" / "hear_models.mwmae" / folder.name)
    found = content(ours.folder)
    assert found.keys() == kit.keys()
    for file in kit:
        if file.endswith(".embedding.npy"):
            a, b = (np.load(io.BytesIO(side[file]), allow_pickle=False) for side in (found, kit))
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        elif file.endswith(".embeddings.npy"):
            a, b = (np.frombuffer(side[file], "<f4") for side in (found, kit))
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        else:
            assert found[file] == kit[file], file


@pytest.mark.parametrize(
    ("seconds", "rate", "clips"),
    [
        *[(0.81, 16000, 103), (1.0, 16000, 84), (4.0, 16000, 21), (4.77, 16000, 17), (5.0, 16000, 16)],
        *[(18.64, 16000, 4), (120.0, 16000, 1), (None, 16000, 1), (5.0, 48000, 5), (1.0, 22050, 60)],
    ],
)
def test_a_module_sees_the_batches_that_the_kit_makes(seconds, rate, clips):
    assert kit_batch_size(seconds, rate) == clips


def test_an_event_is_active_from_its_start_to_its_very_end():
    events = [{"label": "b", "start": 100.0, "end": 5000.0}, {"label": "a", "start": 5000.0, "end": 6000.0}]
    assert labels_at(events, [99.9, 100.0, 5000.0, 5000.2, 6000.0, 6000.2]) == [[], ["b"], ["a", "b"], ["a"], ["a"], []]
    assert labels_at([events[0], dict(events[0])], [200.0]) == [["b"]], "the same event twice is one event"
    assert labels_at([events[0], {**events[0], "end": 900.0}], [200.0]) == [["b", "b"]], "as the kit"


# ------------------------------------------------------------------------------------------------- our own models
def test_a_clip_of_ours_gets_the_same_embedding_as_alone(tiny_path, tasks, tmp_path):
    """Clips of any lengths share a batch; multilabel task of clips of 25 to 65 ms."""
    loaded = resolve(str(tiny_path)).load()
    task = read_task(tasks / "tags-v1-full")
    done = extract(loaded, task, tmp_path, device="cpu")
    assert done.batches == "clips" and done.dim == loaded.model.scene_embedding_size
    for split in task.splits:
        for file in task.items(split):
            found = np.load(done.folder / split / f"{file}.embedding.npy", allow_pickle=False)
            audio, _ = soundfile.read(task.audio(16000, split, file), dtype="float32")
            alone = loaded.scene(torch.from_numpy(audio)[None])[0].numpy()
            np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


def test_batches_of_the_kit_and_of_our_own_give_the_same_timestamps(tiny_path, tasks, tmp_path):
    subject, task = resolve(str(tiny_path)), read_task(tasks / "events-v1-full")
    ours, kit = (extract(subject, task, tmp_path / mode, batches=mode) for mode in ("clips", "kit"))
    assert ours.sha256 != kit.sha256, "they are not the same bits, so they are not the same key"
    for split in task.splits:
        a, b = (read_embedding_folder(done.folder).split(split) for done in (ours, kit))
        np.testing.assert_allclose(a.embeddings, b.embeddings, rtol=1e-4, atol=1e-5)
        assert a.labels == b.labels and np.array_equal(a.timestamps_ms, b.timestamps_ms)


def test_a_model_whose_batches_matter_keeps_the_kits(tiny_path, tasks, tmp_path):
    loaded = resolve(str(tiny_path)).load()
    loaded.model.batch_dependent = True
    task = read_task(tasks / "kfold-v1-full")
    sizes = []
    embed = loaded.model.embed_clips
    loaded.model.embed_clips = lambda clips, purpose: sizes.append(len(clips)) or embed(clips, purpose)
    assert extract(loaded, task, tmp_path).batches == "kit"
    assert sizes == [2, 2, 1] * 3  # 30 s by the metadata
    with pytest.raises(UsageError, match="depends on its neighbours"):
        extract(loaded, task, tmp_path, batches="clips")


def test_clips_of_equal_length_go_together_through_a_foreign_module_if_it_is_told_so(echo):
    rows = read_embedding_folder(echo("tags-v1-full", batches="clips").folder).split("train")
    lengths = rows.embeddings[:, 2].tolist()
    assert rows.embeddings[:, 3].tolist() == [lengths.count(n) for n in lengths]
    assert set(read_embedding_folder(echo("tags-v1-full").folder).split("train").embeddings[:, 3]) == {1.0}
    with pytest.raises(UsageError, match="clips, kit"):
        echo("tags-v1-full", batches="large")


# ---------------------------------------------------------------------------------------------------- the cache
def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_call_writes_nothing(echo, tmp_path):
    first = echo("kfold-v1-full")
    before = stamps(tmp_path)
    second = echo("kfold-v1-full")
    assert second.reused and not first.reused
    assert stamps(tmp_path) == before
    assert (second.sha256, second.folder, second.wall_s) == (first.sha256, first.folder, first.wall_s)


def test_the_key_is_known_before_anything_is_embedded(echo, modules, tasks):
    subject = resolve(str(modules / "echo_16000.py"))
    task = read_task(tasks / "kfold-v1-full")
    assert key_sha256(subject.load("cpu"), task) == echo("kfold-v1-full").sha256


def test_other_data_code_options_or_weights_are_embedded_anew(modules, tmp_path):
    folder = tiny_tasks.write_task(
        tmp_path, "kfold-v1-full", {f"fold{k:02d}": 2 for k in range(3)}, [0, 1], 30.0, lambda k: [k % 2]
    )
    module = tmp_path / "mine" / "my_echo.py"
    module.parent.mkdir()
    tiny_tasks.write_module(module.parent, "my_echo", 16000)
    helper = module.with_name("my_helper.py")
    helper.write_text("SCALE = 1\n")
    module.write_text(module.read_text().replace("import torch", "import torch\nimport my_helper"))
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"1")
    seen: dict[str, Path] = {}

    def run(name: str = str(module), options: dict[str, Any] | None = None) -> Extraction:
        sys.modules.pop("my_echo", None)
        done = extract(resolve(name, options), read_task(folder), tmp_path / "out", device="cpu")
        assert not done.reused and done.sha256 not in seen
        seen[done.sha256] = done.folder
        return done

    plain = run()
    clip = folder / "16000" / "fold01" / next(iter(read_task(folder).items("fold01")))
    tiny_tasks.write_clip(clip, tiny_tasks.samples_of(99, 800), 16000)
    changed = run()
    assert changed.folder == plain.folder
    file = next(iter(read_task(folder).items("fold01")))
    row = np.load(changed.folder / "fold01" / f"{file}.embedding.npy", allow_pickle=False)
    assert row[0] == tiny_tasks.samples_of(99, 1)[0] / 32768, "what was there before is replaced"
    module.write_text(module.read_text() + "\nVERSION = 2\n")
    run()
    helper.write_text("SCALE = 2\n")
    run()
    optional = run(options={"offset": 1.0})
    first = run(f"{module}:{weights}")
    weights.write_bytes(b"2")
    second = run(f"{module}:{weights}")
    assert len({plain.folder, optional.folder, first.folder, second.folder}) == 4
    assert sorted(path.name for path in plain.folder.parent.iterdir()) == ["kfold-v1-full"], "nothing is left behind"


def test_weights_that_a_module_finds_by_itself_are_part_of_the_key(modules, tasks, tmp_path):
    """The kit's own runner does not notice that a default checkpoint was trained further."""
    module, weights = tmp_path / "finder.py", tmp_path / "default.txt"
    text = tiny_tasks.ECHO.replace("RATE", "16000")
    own = f"    model.bias = torch.nn.Parameter(torch.tensor(float(open({str(weights)!r}).read())))\n    return model\n"
    module.write_text(text.replace("    return model\n", own, 1))
    task, keys = read_task(tasks / "kfold-v1-full"), set()
    for value in ("1.0", "2.0", "1.0"):
        weights.write_text(value)
        keys.add(key_sha256(resolve(str(module)).load("cpu"), task))
    assert len(keys) == 2


def test_what_others_wrote_is_not_replaced(echo, tmp_path):
    there = tmp_path / "echo_16000" / "kfold-v1-full"
    there.mkdir(parents=True)
    (there / "fold00.embeddings.npy").write_bytes(b"hours of work")
    with pytest.raises(UsageError, match="not written by this program"):
        echo("kfold-v1-full")
    assert [path.name for path in there.iterdir()] == ["fold00.embeddings.npy"]


def test_results_of_the_kits_predictor_beside_outdated_embeddings_are_not_replaced(echo, monkeypatch):
    done = echo("kfold-v1-full")
    (done.folder / "test.predicted-scores.json").write_text("{}")
    assert echo("kfold-v1-full").reused
    monkeypatch.setattr(extraction, "_own_code_sha256", lambda: "another version")
    with pytest.raises(UsageError, match=r"test\.predicted-scores\.json"):
        echo("kfold-v1-full")


# ------------------------------------------------------------------------------------------ what goes wrong
def hidden_and_done(folder: Path) -> tuple[list[str], list[str]]:
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return [name for name in names if name.startswith(".")], [name for name in names if not name.startswith(".")]


FAULTY = {
    "nan": ("audio[:, :1]", "audio[:, :1] * (float('nan') if audio.shape[1] == 880 else 1)", "NaN or infinity"),
    "crash": ("n, samples = audio.shape", "raise RuntimeError('no luck')", "raised RuntimeError: no luck"),
    "exit": ("n, samples = audio.shape", "raise SystemExit(3)", "raised SystemExit"),
    "shape": ("rows], 1)\n\ndef", "rows], 1)[None]\n\ndef", r"gave \[1, 1, 6\], expected \[clips, dim\]"),
    "numpy": ("rows], 1)\n\ndef", "rows], 1).numpy()\n\ndef", "gave ndarray"),
    "width": ("rows], 1)\n\ndef", "rows], 1)[:, : 2 + (samples == 880)]\n\ndef", "dimensions"),
    "bfloat16": ("rows], 1)\n\ndef", "rows], 1).bfloat16()\n\ndef", "bfloat16"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_faulty_module_is_named_with_the_clip_and_leaves_nothing_that_counts_as_done(fault, tasks, tmp_path):
    old, new, message = FAULTY[fault]
    module = tiny_tasks.write_module(tmp_path, f"faulty_{fault}", 16000)
    assert module.read_text().count(old) == 1
    module.write_text(module.read_text().replace(old, new))
    with pytest.raises(HearModelsError, match=message) as caught:
        extract(resolve(str(module)), read_task(tasks / "tags-v1-full"), tmp_path / "out")
    assert ".wav" in str(caught.value)
    if fault in ("nan", "width"):
        clip = next(word for word in str(caught.value).replace("/", " ").split() if word.endswith(".wav"))
        frames = soundfile.info(next((tasks / "tags-v1-full").rglob(clip))).frames
        assert frames == 880
    hidden, done = hidden_and_done(tmp_path / "out" / f"faulty_{fault}")
    assert hidden == [".tags-v1-full.partial"] and done == []


def test_a_missing_rate_says_how_to_make_it(tasks, modules, tmp_path):
    with pytest.raises(TaskError, match=r"no audio at 16000 Hz \(it has 32000 Hz\).*hear-models tasks resample"):
        extract(resolve(str(modules / "echo_16000.py")), read_task(tasks / "tvt-v2-5h"), tmp_path)


@pytest.mark.parametrize("wrong", ["rate", "stereo", "cut", "missing", "empty"])
def test_a_clip_that_the_kit_would_not_take_is_named(wrong, modules, tmp_path):
    folder = tiny_tasks.write_task(
        tmp_path, "kfold-v1-full", {f"fold{k:02d}": 2 for k in range(3)}, [0, 1], 30.0, lambda k: [k % 2]
    )
    file = list(read_task(folder).items("fold01"))[1]
    path = folder / "16000" / "fold01" / file
    if wrong == "rate":
        tiny_tasks.write_clip(path, tiny_tasks.samples_of(1, 800), 8000)
    elif wrong == "stereo":
        soundfile.write(path, np.zeros((800, 2)), 16000)
    elif wrong == "cut":
        path.write_bytes(path.read_bytes()[:30])
    elif wrong == "empty":
        soundfile.write(path, np.zeros(0), 16000)
    else:
        path.unlink()
    with pytest.raises(HearModelsError, match=file):
        extract(resolve(str(modules / "echo_16000.py")), read_task(folder), tmp_path / "out")


def test_unequal_clips_in_one_of_the_kits_batches_are_told(modules, tmp_path):
    folder = tiny_tasks.write_task(
        tmp_path, "kfold-v1-full", {f"fold{k:02d}": 2 for k in range(3)}, [0, 1], 30.0, lambda k: [k % 2]
    )
    file = list(read_task(folder).items("fold02"))[1]
    tiny_tasks.write_clip(folder / "16000" / "fold02" / file, tiny_tasks.samples_of(1, 900), 16000)
    with pytest.raises(TaskError, match=r"800 to 900 samples.*sample_duration"):
        extract(resolve(str(modules / "echo_16000.py")), read_task(folder), tmp_path / "out")


def test_finished_splits_survive_a_failure_and_the_rest_is_done_later(tasks, tmp_path):
    """The module fails until a file appears, which is no part of its key."""
    module = tiny_tasks.write_module(tmp_path, "moody", 16000)
    flag = tmp_path / "mended"
    broken = f"import os\n    if audio[0, 0] > 0 and not os.path.exists({str(flag)!r}): raise RuntimeError('no')\n"
    module.write_text(module.read_text().replace("n, samples =", f"{broken}    n, samples =", 1))
    task = read_task(tasks / "kfold-v1-full")
    with pytest.raises(HearModelsError, match="raised RuntimeError"):
        extract(resolve(str(module)), task, tmp_path / "out")
    partial = tmp_path / "out" / "moody" / ".kfold-v1-full.partial"
    finished = [split for split in task.splits if (partial / f".done.{split}").exists()]
    assert 0 < len(finished) < 3
    before = {split: stamps(partial / split) for split in finished}
    flag.touch()
    calls: list[tuple[int, int]] = []
    done = extract(resolve(str(module)), task, tmp_path / "out", progress=lambda n, of: calls.append((n, of)))
    assert calls[0] == (5, 15) and calls[1] == (10, 15) and calls[-1] == (15, 15)
    for split in finished:
        kept = {name.replace("/.kfold-v1-full.partial", "/kfold-v1-full"): t for name, t in before[split].items()}
        assert kept == stamps(done.folder / split)
    assert content(done.folder) == content(extract(resolve(str(module)), task, tmp_path / "again").folder)


def test_a_half_done_folder_of_other_weights_is_not_gone_on_with(tasks, tmp_path):
    module = tiny_tasks.write_module(tmp_path, "moody_too", 16000)
    good = module.read_text()
    module.write_text(good.replace("n, samples =", "if audio[0, 0] > 0: raise RuntimeError('no')\n    n, samples =", 1))
    task = read_task(tasks / "kfold-v1-full")
    with pytest.raises(HearModelsError):
        extract(resolve(str(module)), task, tmp_path / "out")
    module.write_text(good.replace("float(samples)", "float(samples) + 1"))
    sys.modules.pop("moody_too", None)
    importing._files.pop(module.resolve())  # as another process would find it
    done = extract(resolve(str(module)), task, tmp_path / "out")
    for split in task.splits:
        assert set(read_embedding_folder(done.folder).split(split).embeddings[:, 2]) == {801.0}


RUN = """
import sys
from hear_models.evaluation.embeddings.extraction import extract
from hear_models.subjects.subject import resolve
from hear_models.tasks.task import read_task
print("go", flush=True)
extract(resolve(sys.argv[1]), read_task(sys.argv[2]), sys.argv[3])
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupted_run_leaves_no_folder_that_counts_as_done(how, tasks, tmp_path):
    module = tiny_tasks.write_module(tmp_path, "slow_echo", 16000)
    late = "import time, sys; time.sleep(0.3); print('batch', flush=True)\n    n, samples ="
    module.write_text(module.read_text().replace("n, samples =", late, 1))
    arguments = [sys.executable, "-c", RUN, str(module), str(tasks / "kfold-v1-full"), str(tmp_path / "out")]
    # a background job is started with SIGINT ignored, and hands that down
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    assert process.stdout is not None
    for _ in range(6):  # "go", three batches of the first split, two of the second
        process.stdout.readline()
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    hidden, done = hidden_and_done(tmp_path / "out" / "slow_echo")
    assert [name for name in hidden if not name.endswith(".lock")] == [".kfold-v1-full.partial"] and done == []
    unfinished = tmp_path / "out" / "slow_echo" / ".kfold-v1-full.partial"
    assert (unfinished / ".done.fold00").exists() and not (unfinished / ".done.embeddings").exists()
    finished = extract(resolve(str(module)), read_task(tasks / "kfold-v1-full"), tmp_path / "out")
    assert hidden_and_done(finished.folder.parent) == ([], ["kfold-v1-full"])


@pytest.mark.skipif(os.name != "posix", reason="file locks")
def test_two_runs_at_once_do_not_write_into_one_folder(tasks, tmp_path):
    module = tiny_tasks.write_module(tmp_path, "slow_twin", 16000)
    module.write_text(module.read_text().replace("n, samples =", "__import__('time').sleep(0.5)\n    n, samples =", 1))
    arguments = [sys.executable, "-c", RUN, str(module), str(tasks / "kfold-v1-full"), str(tmp_path / "out")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    partial = tmp_path / "out" / "slow_twin" / ".kfold-v1-full.partial"
    end = time.monotonic() + 60
    while not (partial / "fold00").exists() and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(UsageError, match=rf"Another run \(process {process.pid} .* is writing"):
        extract(resolve(str(module)), read_task(tasks / "kfold-v1-full"), tmp_path / "out")
    assert process.wait(timeout=60) == 0
    assert extract(resolve(str(module)), read_task(tasks / "kfold-v1-full"), tmp_path / "out").reused


def test_a_disk_that_is_full_is_one_error(echo, monkeypatch):
    from hear_models.evaluation.embeddings import embedding_writing

    def full(path: str, data: bytes) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(embedding_writing, "_write_plainly", full)
    with pytest.raises(HearModelsError, match="cannot be written: No space left on device"):
        echo("kfold-v1-full")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_used_and_gives_nearly_the_same(tiny_path, tasks, tmp_path):
    subject, task = resolve(str(tiny_path)), read_task(tasks / "kfold-v1-full")
    gpu, cpu = extract(subject, task, tmp_path / "gpu"), extract(subject, task, tmp_path / "cpu", device="cpu")
    assert gpu.device.startswith("cuda") and gpu.sha256 == cpu.sha256
    for split in task.splits:
        a, b = (read_embedding_folder(done.folder).split(split).embeddings for done in (gpu, cpu))
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_progress_counts_clips_to_the_end(echo):
    calls: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        echo("tvt-v2-5h", progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (14, 14) and calls == sorted(calls)
