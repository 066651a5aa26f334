"""`hear_models.embed`: the result has the form of what was given, and the numbers are those of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

import hear_models
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.errors import AudioFileError, InputError, UsageError
from hear_models.pipeline.model import HearModel

RNG = np.random.default_rng(3)
CLIPS = [RNG.uniform(-0.5, 0.5, n).astype(np.float32) for n in (16000, 7000, 40000, 1)]


def scene(model: HearModel, clip: np.ndarray) -> np.ndarray:
    return model.get_scene_embeddings(torch.from_numpy(clip)[None])[0].numpy()


def test_one_array_gives_one_embedding(tiny: HearModel) -> None:
    found = hear_models.embed(CLIPS[0], tiny)
    assert isinstance(found, np.ndarray) and found.shape == (tiny.scene_embedding_size,) and found.dtype == np.float32
    np.testing.assert_allclose(found, scene(tiny, CLIPS[0]), rtol=1e-4, atol=1e-5)


def test_unequal_clips_give_a_list_in_their_order(tiny: HearModel) -> None:
    for batch_seconds in (0.1, 60.0):
        found = hear_models.embed(CLIPS, tiny, batch_seconds=batch_seconds)
        assert isinstance(found, list) and len(found) == len(CLIPS)
        for clip, embedding in zip(CLIPS, found, strict=True):
            np.testing.assert_allclose(embedding, scene(tiny, clip), rtol=1e-4, atol=1e-5)


def test_a_batch_gives_a_batch_and_a_tensor_gives_a_tensor(tiny: HearModel) -> None:
    audio = torch.from_numpy(np.stack([CLIPS[0], CLIPS[0][::-1]]))
    found = hear_models.embed(audio, tiny)
    assert torch.equal(found, tiny.get_scene_embeddings(audio))
    embeddings, times = hear_models.embed(audio, tiny, kind="timestamps")
    expected = tiny.get_timestamp_embeddings(audio)
    assert torch.equal(embeddings, expected[0]) and torch.equal(times, expected[1])
    assert isinstance(hear_models.embed(audio.numpy(), tiny), np.ndarray)


def test_timestamps_come_with_their_times(tiny: HearModel) -> None:
    embeddings, times = hear_models.embed(CLIPS[2], tiny, kind="timestamps")
    assert embeddings.shape == (len(times), tiny.timestamp_embedding_size)
    pairs = hear_models.embed(CLIPS, tiny, kind="timestamps")
    assert [pair[0].shape[0] for pair in pairs] == [len(pair[1]) for pair in pairs]
    np.testing.assert_allclose(pairs[2][0], embeddings, rtol=1e-4, atol=1e-5)


def test_a_file_gives_what_its_samples_give(tiny: HearModel, tmp_path: Path, make: Callable[..., np.ndarray]) -> None:
    samples = make(tmp_path / "a.wav", 1.0, channels=2).mean(axis=1)
    found = hear_models.embed(tmp_path / "a.wav", tiny)
    np.testing.assert_allclose(found, scene(tiny, samples), rtol=1e-2, atol=1e-3)  # 16 bits on the disk
    several = hear_models.embed([str(tmp_path / "a.wav"), CLIPS[1]], tiny)
    np.testing.assert_allclose(several[0], found, rtol=1e-4, atol=1e-5)


def test_arrays_at_another_rate_are_resampled(tiny: HearModel) -> None:
    seconds = np.arange(48000) / 48000
    sweep = np.sin(2 * np.pi * (200 + 800 * seconds) * seconds).astype(np.float32)
    low = hear_models.embed(sweep[::3].copy(), tiny)  # the sweep is far below 8 kHz: every third sample is 16 kHz
    np.testing.assert_allclose(hear_models.embed(sweep, tiny, sample_rate=48000), low, rtol=0.05, atol=0.05)
    assert not np.allclose(hear_models.embed(sweep, tiny), low, rtol=0.05, atol=0.05)
    torch.testing.assert_close(
        hear_models.embed(torch.from_numpy(sweep), tiny, sample_rate=48000).numpy(),
        hear_models.embed(sweep, tiny, sample_rate=48000),
    )


def test_a_name_or_file_is_loaded_with_its_options(tiny_path: Path, tiny: HearModel) -> None:
    np.testing.assert_array_equal(hear_models.embed(CLIPS[0], tiny_path), hear_models.embed(CLIPS[0], tiny))
    official = hear_models.embed(CLIPS[0], str(tiny_path), kind="timestamps", timestamps="official")
    assert official[0].shape[1] == tiny.timestamp_embedding_size
    with pytest.raises(UsageError, match="load_model"):
        hear_models.embed(CLIPS[0], tiny, timestamps="official")


def test_the_input_is_left_as_it_was_and_read_only_arrays_work(tiny: HearModel) -> None:
    clip = CLIPS[0].astype(np.float64)
    clip.setflags(write=False)
    before = clip.copy()
    hear_models.embed(clip, tiny)
    hear_models.embed(clip[::-1], tiny)
    assert np.array_equal(clip, before)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(9, np.int16), "32768"),
        (torch.zeros(9, dtype=torch.int32), "Scale integers"),
        ([np.zeros(9, np.float32), np.zeros(9, np.int16)], "clip 1 is int16"),
        (np.zeros((2, 3, 4), np.float32), "shape"),
        (np.zeros(0, np.float32), "empty"),
        ([], "list is empty"),
        ([0.1, 0.2], "clip 0 is a float"),
        (None, "NoneType"),
        ([CLIPS[0], np.array([0.1, np.nan], np.float32)], "clip 1 holds NaN"),
    ],
)
def test_wrong_input_is_an_error_that_names_the_clip(tiny: HearModel, audio: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        hear_models.embed(audio, tiny)
    assert issubclass(InputError, ValueError)


def test_wrong_use_is_told(tiny: HearModel, tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match="does not exist"):
        hear_models.embed("missing.wav", tiny)
    with pytest.raises(UsageError, match="kind"):
        hear_models.embed(CLIPS[0], tiny, kind="scenes")
    with pytest.raises(UsageError, match="for arrays"):
        hear_models.embed("missing.wav", tiny, sample_rate=16000)


def test_random_weights_are_not_taken_for_a_trained_model(tiny: HearModel, tmp_path: Path) -> None:
    path = tmp_path / "random.safetensors"
    config = asdict(tiny.config)
    write_checkpoint(path, family="mwmae", config=config, tensors=tiny.state_dict(), trained=False)
    with pytest.raises(UsageError, match="allow_untrained=True"):
        hear_models.embed(CLIPS[0], path)
    assert hear_models.embed(CLIPS[0], path, allow_untrained=True).shape == (tiny.scene_embedding_size,)
