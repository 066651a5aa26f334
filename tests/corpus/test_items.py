"""`hear_models.embed` takes what people hold a clip in, and gives what the samples give."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import hear_models
from hear_models.errors import AudioFileError, AudioWarning, InputError, UsageError
from hear_models.pipeline.audio import resample
from hear_models.pipeline.model import HearModel

same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)  # the promise, whatever the batch and threads
CLIP = np.random.default_rng(3).uniform(-0.5, 0.5, 20_000).astype(np.float32)


def content(samples: np.ndarray = CLIP, rate: int = 16000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


FORMS: dict[str, Callable[[Path], Any]] = {
    "a path": lambda path: path,
    "text": str,
    "bytes": lambda path: path.read_bytes(),
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "a file object": lambda path: open(path, "rb"),  # noqa: SIM115 - as people do
    "bytes in memory": lambda path: io.BytesIO(path.read_bytes()),
    "(array, rate)": lambda path: (CLIP, 16000),
    "[array, rate]": lambda path: [CLIP, np.int64(16000)],
    "a record": lambda path: {"array": CLIP, "sampling_rate": 16000, "path": "x.wav"},
    "a record of lists": lambda path: {"array": CLIP.tolist(), "sampling_rate": 16000},
    "a record of bytes": lambda path: {"bytes": path.read_bytes(), "path": "x.wav"},
    "a record of a path": lambda path: {"bytes": None, "path": str(path)},
    "a decoder": lambda path: SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(np.stack([CLIP, CLIP])), sample_rate=16000)
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_clip_gives_what_its_samples_give(tiny: HearModel, tmp_path: Path, form: str) -> None:
    (tmp_path / "a.wav").write_bytes(content())
    want = hear_models.embed(CLIP, tiny)
    found = hear_models.embed(FORMS[form](tmp_path / "a.wav"), tiny)
    assert isinstance(found, np.ndarray) and found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    several = hear_models.embed([FORMS[form](tmp_path / "a.wav"), CLIP], tiny)
    assert isinstance(several, list) and len(several) == 2
    np.testing.assert_allclose(several[0], want, rtol=1e-4, atol=1e-5)


def test_a_tensor_with_its_rate_gives_a_tensor(tiny: HearModel) -> None:
    found = hear_models.embed((torch.from_numpy(CLIP), 16000), tiny)
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, hear_models.embed(torch.from_numpy(CLIP), tiny))


def test_arrays_bring_rates_of_their_own(tiny: HearModel) -> None:
    low = resample(CLIP, 16000, 8000)
    found = hear_models.embed([(low, 8000), {"array": low, "sampling_rate": 8000}, CLIP], tiny)
    same(found[0], found[1])
    np.testing.assert_allclose(found[0], hear_models.embed(resample(low, 8000, 16000), tiny), rtol=1e-4, atol=1e-5)


COLUMNS: dict[str, Callable[[list[str]], Any]] = {
    "a tuple": tuple,
    "a generator": lambda paths: (path for path in paths),
    "an array of text": np.array,
    "an array of objects": lambda paths: np.array([Path(path) for path in paths], dtype=object),
    "a pandas Series": lambda paths: pytest.importorskip("pandas").Series(paths, index=[5, 6]),
}


@pytest.mark.parametrize("form", COLUMNS)
def test_columns_of_paths_give_a_list(tiny: HearModel, tmp_path: Path, form: str) -> None:
    for name, samples in (("a.wav", CLIP), ("b.wav", CLIP[:9000])):
        (tmp_path / name).write_bytes(content(samples))
    paths = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    found = hear_models.embed(COLUMNS[form](paths), tiny)
    assert isinstance(found, list)
    same(found, hear_models.embed(paths, tiny))


def test_one_bad_file_does_not_stop_the_others(tiny: HearModel, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content())
    (tmp_path / "bad.wav").write_bytes(content()[:9000])
    items = [tmp_path / "a.wav", tmp_path / "bad.wav", tmp_path / "none.wav", b"no audio", np.zeros(0), CLIP]
    with pytest.raises(AudioFileError, match=r"bad\.wav"):
        hear_models.embed(items, tiny)
    with pytest.warns(AudioWarning) as caught:
        found = hear_models.embed(items, tiny, errors="skip")
    assert [result is None for result in found] == [False, True, True, True, True, False]
    same(found[0], hear_models.embed(CLIP, tiny))
    told = [str(warning.message) for warning in caught]
    assert (
        len(told) == 4
        and "bad.wav" in told[0]
        and "none.wav" in told[1]
        and "clip 3" in told[2]
        and "clip 4" in told[3]
    )
    with pytest.warns(AudioWarning):
        assert hear_models.embed(tmp_path / "bad.wav", tiny, errors="skip") is None
    with pytest.raises(UsageError, match="raise, skip"):
        hear_models.embed(items, tiny, errors="ignore")


@pytest.mark.parametrize("kind", ["scene", "timestamps"])
def test_each_channel_is_embedded(tiny: HearModel, tmp_path: Path, kind: str) -> None:
    stereo = np.stack([CLIP, CLIP[::-1]], axis=1)
    (tmp_path / "a.wav").write_bytes(content(stereo))
    left, right = (hear_models.embed(tmp_path / "a.wav", tiny, kind=kind, channel=c) for c in ("left", 2))
    both = hear_models.embed(tmp_path / "a.wav", tiny, kind=kind, channel="each")
    for part, a, b in zip(*(([x] if kind == "scene" else x) for x in (both, left, right)), strict=True):
        np.testing.assert_allclose(part, np.stack([a, b]), rtol=1e-4, atol=1e-5)
    listed = hear_models.embed([content(stereo), content()], tiny, kind=kind, channel="each")
    assert [len(result if kind == "scene" else result[0]) for result in listed] == [2, 1]


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (np.zeros((1600, 2), np.float32), r"\[frames, channels\].*audio\.mean\(axis=1\)"),
        (torch.zeros(16000, 1), r"\[frames, channels\]"),
        ((np.zeros((2, 1600), np.float32), 16000), r"Mix channels down first"),
        ({"array": np.zeros((2, 1600), np.float32), "sampling_rate": 16000}, r"Mix channels down first"),
        ({"array": CLIP}, 'without a "sampling_rate"'),
        ({"text": "a"}, 'dictionary without "array"'),
        (io.StringIO("text"), "binary mode"),
        (b"", "the clip is empty"),
        (b"no audio at all", "the clip is no audio"),
        (({1: 2}), "dictionary without"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(tiny: HearModel, audio: object, said: str) -> None:
    with pytest.raises((InputError, AudioFileError), match=said) as caught:
        hear_models.embed(audio, tiny)
    assert "\n" not in str(caught.value)


def test_the_hear_functions_refuse_channels_in_the_place_of_samples(tiny: HearModel) -> None:
    with pytest.raises(InputError, match=r"\[frames, channels\]"):
        tiny.get_scene_embeddings(torch.zeros(16000, 2))
    assert tiny.get_scene_embeddings(torch.zeros(4, 1)).shape[0] == 4


def test_empty_arguments_and_endless_batches_are_told(tiny: HearModel) -> None:
    with pytest.raises(UsageError, match="empty path"):
        hear_models.embed("", tiny)
    for seconds in (np.inf, np.nan, 0, -1):
        with pytest.raises(UsageError, match="batch_seconds"):
            hear_models.embed(CLIP, tiny, batch_seconds=seconds)


def test_standard_input_is_a_recording(tiny: HearModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content())))
    same(hear_models.embed("-", tiny), hear_models.embed(CLIP, tiny))


# ---------------------------------------------------------------------------------------------- the package `datasets`
def package_of_datasets() -> Any:
    """The package, and not the folder tests/datasets, which Python takes for one where there is no other."""
    pytest.importorskip("datasets.arrow_dataset", reason="the package datasets is not installed")
    import datasets

    return datasets


def test_columns_of_hugging_faces_datasets_are_embedded(tiny: HearModel, tmp_path: Path) -> None:
    datasets = package_of_datasets()
    (tmp_path / "a.wav").write_bytes(content())
    (tmp_path / "b.wav").write_bytes(content(CLIP[:9000]))
    paths = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    want = hear_models.embed(paths, tiny)
    table = datasets.Dataset.from_dict({"audio": paths, "label": [0, 1]})
    table = table.cast_column("audio", datasets.Audio(decode=False))
    same(hear_models.embed(table["audio"], tiny), want)
    inside = datasets.Dataset.from_dict({"audio": [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]})
    same(hear_models.embed(inside["audio"], tiny), want)
    arrays = datasets.Dataset.from_dict(
        {"audio": [{"array": clip, "sampling_rate": 16000} for clip in (CLIP, CLIP[:9000])]}
    )
    np.testing.assert_allclose(hear_models.embed(arrays["audio"], tiny), want, rtol=1e-5, atol=1e-6)


MAP = """
import sys
import datasets, numpy, torch
import hear_models

def embed_column(batch, model):
    return {"embedding": hear_models.embed(batch["audio"], model)}

torch.set_num_threads(1)  # a process that torch has threads in must not be forked
path, paths = sys.argv[1], sys.argv[2:]
table = datasets.Dataset.from_dict({"audio": paths}).cast_column("audio", datasets.Audio(decode=False))
for model in (path, hear_models.load_model(path)):
    found = table.map(embed_column, batched=True, batch_size=2, num_proc=2, fn_kwargs={"model": model})
    numpy.testing.assert_allclose(found["embedding"][:], hear_models.embed(paths, path), rtol=1e-4, atol=1e-5)
"""


def test_map_of_datasets_works_with_workers(tiny_path: Path, tmp_path: Path) -> None:
    """In a process of its own: workers are forked, which hangs where torch has computed with several threads before."""
    package_of_datasets()
    for k in range(4):
        (tmp_path / f"{k}.wav").write_bytes(content(CLIP[k * 1000 :]))
    paths = [str(tmp_path / f"{k}.wav") for k in range(4)]
    done = subprocess.run(
        [sys.executable, "-c", MAP, str(tiny_path), *paths], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_an_array_without_a_rate_is_warned_of_once(monkeypatch):
    """Where the rate cannot be known: not for files, pairs, records, or where it was said; and never twice."""
    import warnings

    import numpy as np

    from hear_models.corpus import items
    from hear_models.errors import AudioWarning

    monkeypatch.setattr(items, "_said_which_rate", [])
    clip = np.zeros(160, dtype=np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for known in ((clip, 16000), {"array": clip, "sampling_rate": 16000}):
            items.Reader(16000).clips(known, "the clip")
        items.Reader(16000, given_rate=16000).clips(clip, "the clip")
        assert not caught
        items.Reader(16000).clips(clip, "the clip")
        items.Reader(16000).clips(clip, "the clip")
    (warning,) = caught
    assert warning.category is AudioWarning and "taken as 16000 Hz, the rate of the model" in str(warning.message)
