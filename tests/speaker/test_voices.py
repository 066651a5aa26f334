"""Embeddings of recordings: kept by relative path, made again when something changed, resumed when stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_models.errors import AudioFileError, HearModelsError, InputError
from hear_models.speaker import voices
from hear_models.speaker.verification import cohort_of
from hear_models.speaker.voices import Crops, embed_voices
from hear_models.subjects.loaded import Loaded
from hear_models.subjects.subject import resolve

NAMES = ["a/x/00001.wav", "a/y/00001.wav", "b/x/00001.wav"]  # one base name, as all of VoxCeleb's

MODULE = '''
"""A HEAR module of somebody else that counts its calls."""
import torch
CALLS = []
class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 3, 3
def load_model(model_file_path=""):
    return Model()
def get_scene_embeddings(audio, model):
    CALLS.append(tuple(audio.shape))
    return torch.stack([audio.mean(1), audio.std(1), audio.abs().mean(1)], 1) / VALUE
def get_timestamp_embeddings(audio, model):
    raise RuntimeError("not used")
'''


@pytest.fixture
def audio(tmp_path) -> Path:
    for index, name in enumerate(NAMES):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True)
        noise = np.random.default_rng(index).standard_normal(4000 + 100 * index) * 0.1
        soundfile.write(path, noise, 16_000)
    return tmp_path / "audio"


@pytest.fixture
def ours() -> Loaded:
    return resolve("logmel-stats").load("cpu")


@pytest.fixture
def counted(ours, monkeypatch) -> list[int]:
    """How many recordings each call had to embed."""
    counts: list[int] = []
    embedded = voices._embedded

    def counting(loaded, names, audio, crops):
        counts.append(len(names))
        yield from embedded(loaded, names, audio, crops)

    monkeypatch.setattr(voices, "_embedded", counting)
    return counts


def test_embeddings_are_those_of_the_model_in_the_order_of_the_names(ours, audio):
    found = embed_voices(ours, [NAMES[2], NAMES[0], NAMES[2]], audio)
    assert list(found) == [NAMES[2], NAMES[0]]
    for name, embedding in found.items():
        samples = torch.from_numpy(soundfile.read(audio / name, dtype="float32")[0])
        torch.testing.assert_close(torch.from_numpy(embedding), ours.scene(samples[None]), rtol=1e-4, atol=1e-5)


def test_recordings_of_one_base_name_do_not_share_an_embedding(ours, audio, tmp_path, counted):
    first = embed_voices(ours, NAMES, audio, cache=tmp_path / "cache")
    again = embed_voices(ours, NAMES, audio, cache=tmp_path / "cache")
    assert counted == [3, 0]
    assert len({embedding.tobytes() for embedding in first.values()}) == 3
    for name in NAMES:
        np.testing.assert_array_equal(first[name], again[name])


def test_a_stopped_run_goes_on(ours, audio, tmp_path, counted):
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_voices(ours, NAMES, audio, cache=tmp_path / "cache", progress=stop)
    embed_voices(ours, NAMES, audio, cache=tmp_path / "cache")
    assert counted == [3, 1] and seen == [(0, 3), (1, 3), (2, 3)]


def test_what_changed_or_was_damaged_is_embedded_again(ours, audio, tmp_path, counted):
    cache = tmp_path / "cache"
    first = embed_voices(ours, NAMES, audio, cache=cache)
    soundfile.write(audio / NAMES[0], np.random.default_rng(9).standard_normal(5000) * 0.1, 16_000)
    again = embed_voices(ours, NAMES, audio, cache=cache)
    assert not np.array_equal(first[NAMES[0]], again[NAMES[0]])
    (damaged,) = cache.glob(f"*/{NAMES[1]}.npz")
    damaged.write_bytes(damaged.read_bytes()[:50])
    embed_voices(ours, NAMES, audio, cache=cache)
    assert counted == [3, 1, 1]


def test_other_crops_other_options_and_other_folders_have_caches_of_their_own(ours, audio, tmp_path, counted):
    cache = tmp_path / "cache"
    embed_voices(ours, NAMES, audio, cache=cache)
    embed_voices(ours, NAMES, audio, cache=cache, crops=Crops(frames=5))
    (audio.parent / "copy").symlink_to(audio)  # the same folder by another name is the same
    embed_voices(ours, NAMES, audio.parent / "copy", cache=cache)
    assert counted == [3, 3, 0]


def test_crops_are_of_their_length_and_as_many(ours, audio):
    (found,) = embed_voices(ours, NAMES[:1], audio, crops=Crops(4, 5)).values()
    clip = soundfile.read(audio / NAMES[0], dtype="float32")[0]
    assert [len(piece) for piece in Crops(4, 5).of(clip, 16_000)] == [1040] * 4
    assert found.shape == (4, 160) and len({row.tobytes() for row in found}) == 4


def test_any_hear_module_gets_one_recording_a_call(audio, tmp_path, monkeypatch):
    (tmp_path / "counting_module.py").write_text(MODULE.replace("VALUE", "1.0"))
    loaded = resolve(str(tmp_path / "counting_module.py")).load("cpu")
    found = embed_voices(loaded, NAMES, audio)
    assert found[NAMES[0]].shape == (1, 3)
    assert loaded.functions["get_scene_embeddings"].__globals__["CALLS"] == [(1, 4000), (1, 4100), (1, 4200)]


def test_what_is_not_finite_is_refused(audio, tmp_path):
    (tmp_path / "infinite_module.py").write_text(MODULE.replace("VALUE", "0.0"))
    loaded = resolve(str(tmp_path / "infinite_module.py")).load("cpu")
    with pytest.raises(HearModelsError, match=r"NaN or infinity for 'a/x/00001\.wav'"):
        embed_voices(loaded, NAMES, audio, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npz"))


@pytest.mark.parametrize("name", ["../a.wav", "/etc/a.wav", "a/../../b.wav", "a\\b.wav", ""])
def test_a_list_cannot_leave_the_folder(ours, audio, name):
    with pytest.raises(InputError, match="leaves the folder"):
        embed_voices(ours, [name], audio)


def test_a_missing_recording_is_told_before_anything_is_embedded(ours, audio, counted):
    with pytest.raises(AudioFileError, match=r"1 of 4 recordings.*'c/1\.wav'"):
        embed_voices(ours, [*NAMES, "c/1.wav"], audio)
    assert counted == []


def test_a_cohort_has_one_direction_a_speaker():
    cohort = cohort_of(
        {"a/1.wav": np.array([[2.0, 0.0]]), "a/2.wav": np.array([[0.0, 1.0]]), "b/1.wav": np.ones((1, 2))}
    )
    np.testing.assert_allclose(cohort, [[0.5, 0.5], [0.5**0.5, 0.5**0.5]])
    with pytest.raises(InputError, match="no speaker's folder"):
        cohort_of({"1.wav": np.ones((1, 2))})
