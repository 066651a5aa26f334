"""Channels, levels, rates and lengths of recordings: what is chosen, what is warned of, what is refused."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_models.errors import AudioFileError, AudioWarning, UsageError
from hear_models.pipeline import audio
from hear_models.pipeline.audio import probe, read_audio, resample, segments_of, stream_windows
from hear_models.pipeline.decoding import open_recording
from hear_models.pipeline.listening import channel_of

RATE = 16000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 3)).astype(np.float32)


@pytest.mark.parametrize(("channel", "index"), [("left", 0), ("right", 1), ("1", 0), (3, 2), ("3", 2)])
def test_a_channel_can_be_chosen(tmp_path: Path, channel: str | int, index: int) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE, channel=channel_of(channel)), NOISE[:, index])


@pytest.mark.parametrize("channel", ["", "middle", "0", 0, -1, True, 1.5, None])
def test_a_channel_that_is_none_is_told(channel: object) -> None:
    with pytest.raises(UsageError, match="mix, left, right, each, or a number from 1"):
        channel_of(channel)  # type: ignore[arg-type]


def test_a_channel_that_is_not_there_is_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE[:, :1], RATE)
    with pytest.raises(AudioFileError, match="has 1 channel, there is no channel 2"):
        read_audio(tmp_path / "a.wav", RATE, channel=channel_of("right"))


def notes(path: Path) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_audio(path, RATE)
    return [str(warning.message) for warning in caught if issubclass(warning.category, AudioWarning)]


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([1, -1], True),
        ([1, -0.98], True),
        ([1, 1], False),
        ([1, 0], False),
        ([1, -0.5], False),
        ([1, 0, 0, 0, 0, 0], False),
    ],
)
def test_channels_that_cancel_are_told(tmp_path: Path, weights: list[float], told: bool) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE[:, :1] * np.array(weights), RATE)
    found = notes(tmp_path / "a.wav")
    assert len(found) == told and all("cancel in the mix" in note and "a.wav" in note for note in found)
    assert not told or read_audio(tmp_path / "a.wav", RATE, channel=1).any()


def test_independent_channels_and_silence_are_not_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE, RATE)
    soundfile.write(tmp_path / "b.wav", np.zeros((RATE, 2)), RATE)
    assert notes(tmp_path / "a.wav") == notes(tmp_path / "b.wav") == []


@pytest.mark.parametrize(
    ("scale", "factor"), [(32768, "32768"), (2.0**31, "2147483648"), (100, "128"), (2, None), (1, None)]
)
def test_floats_far_outside_are_told_with_the_factor(tmp_path: Path, scale: float, factor: str | None) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE[:, 0] * scale, RATE, subtype="FLOAT")
    found = notes(tmp_path / "a.wav")
    assert len(found) == (factor is not None)
    assert factor is None or f"divide them by {factor}" in found[0]
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE), (NOISE[:, 0] * scale).astype(np.float32))


# ----------------------------------------------------------------------------------------------------- rates, lengths
@pytest.mark.parametrize("rate", [1, 7, 49])
def test_a_rate_that_is_no_sound_is_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(29_000), rate)
    for read in (lambda path: read_audio(path, RATE), probe, lambda path: list(stream_windows(path, RATE, RATE))):
        with pytest.raises(AudioFileError, match=f"{rate} Hz, which is no sound"):
            read(tmp_path / "a.wav")


def test_a_low_rate_needs_no_more_memory_than_its_windows(tmp_path: Path) -> None:
    """An hour at 50 Hz is 57.6 million samples at 16 kHz: 230 MB; a block that libsndfile gives is 42 minutes of it."""
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 180_000), 50)
    code = (
        "import resource, sys; from hear_models.pipeline.audio import stream_windows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "n = sum(len(w) for w in stream_windows(sys.argv[1], 16000, 160000))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.wav")], capture_output=True, text=True, check=True
    ).stdout
    n, grown = map(int, out.split())
    assert n == 3600 * RATE
    assert grown / (1 << (20 if sys.platform == "darwin" else 10)) < 60


def test_what_is_too_long_to_be_read_whole_goes_window_by_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.flac", NOISE[:, 0], RATE)
    monkeypatch.setattr(audio, "LONGEST_SAMPLES", 9000)
    with pytest.raises(AudioFileError, match="too long to be read whole"):
        read_audio(tmp_path / "a.flac", RATE)
    assert len(read_audio(tmp_path / "a.flac", 8000)) == 8000
    assert len(read_audio(tmp_path / "a.flac", RATE, start_s=0.5, duration_s=0.5)) == 8000
    assert sum(map(len, stream_windows(tmp_path / "a.flac", RATE, 4000))) == RATE


def test_many_channels_do_not_make_a_block_large(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((4000, 255), np.int16), RATE)
    recording = open_recording(tmp_path / "a.wav")
    assert max(map(len, recording.blocks())) * 255 <= 1 << 17
    recording.close()


# --------------------------------------------------------------------------------------------------------------- parts
@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "GSM610"), ("WAV", "G721_32"), ("AU", "G723_24"), ("WAV", "NMS_ADPCM_16"), ("WAV", "IMA_ADPCM"),
     ("WAV", "MS_ADPCM"), ("AIFF", "DWVW_16"), ("VOC", "ULAW"), ("XI", "DPCM_16"), ("OGG", "OPUS")],
)  # fmt: skip
def test_a_part_is_a_part_of_the_whole_where_libsndfile_cannot_seek(tmp_path: Path, kind: str, subtype: str) -> None:
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, NOISE[:, 0], 8000 if kind != "XI" else 44100, format=kind, subtype=subtype)
    except soundfile.LibsndfileError as error:
        pytest.skip(f"this libsndfile does not write {kind} {subtype}: {error}")
    path = tmp_path / "a.dat"
    path.write_bytes(buffer.getvalue())
    rate = probe(path).sample_rate
    whole = read_audio(path, rate)
    start = round(0.3 * rate)
    part = read_audio(path, rate, start_s=0.3, duration_s=0.05)
    np.testing.assert_allclose(part, whole[start : start + len(part)], atol=2e-6)
    assert len(part) == round(0.35 * rate) - start


class Counting:
    """A recording that counts what is decoded of it."""

    def __init__(self, path: Path) -> None:
        self.recording = open_recording(path)
        self.frames, self.sample_rate, self.path = self.recording.frames, self.recording.sample_rate, path
        self.decoded = 0

    def blocks(self, start_frame: int = 0, n_frames: int | None = None):
        for block in self.recording.blocks(start_frame, n_frames):
            self.decoded += len(block)
            yield block


def test_a_segment_is_no_longer_than_what_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of silence in a FLAC file is days long, and a table may ask for all of it."""
    soundfile.write(tmp_path / "a.flac", np.zeros(8000 * 60), 8000)
    monkeypatch.setattr("hear_models.pipeline.audio.LONGEST_SAMPLES", 5 * RATE)
    recording = open_recording(tmp_path / "a.flac")
    assert [len(part) for part in segments_of(recording, RATE, [(0.0, 5.0), (56.0, 1e9)])] == [5 * RATE, 4 * RATE]
    for end in (5.1, 1e9):
        with pytest.raises(AudioFileError, match=r"a segment from 1 s on is longer than .* hours\. Cut it"):
            list(segments_of(open_recording(tmp_path / "a.flac"), RATE, [(1.0, 1.0 + end)]))


@pytest.mark.parametrize("rate", [RATE, 22050])
def test_segments_are_the_slices_of_the_whole_and_overlaps_are_decoded_once(tmp_path: Path, rate: int) -> None:
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, rate * 60).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav", RATE)
    spans = [(1.0, 5.0), (1.0, 1.01), (1.5, 4.0), (2.0, 9.0), (8.0, 8.5), (40.0, 41.0), (40.5, 99.0), (59.99, 60.5)]
    recording = Counting(tmp_path / "a.wav")
    found = list(segments_of(recording, RATE, spans))  # type: ignore[arg-type]
    assert len(found) == len(spans)
    for (start, end), segment in zip(spans, found, strict=True):
        np.testing.assert_allclose(segment, whole[round(start * RATE) : round(end * RATE)], atol=2e-6)
    assert recording.decoded < (8 + 20 + 4) * rate  # each second once, and what resampling sees beside it
    with pytest.raises(AudioFileError, match="ends before 61 s, where a segment begins"):
        list(segments_of(Counting(tmp_path / "a.wav"), RATE, [(1.0, 2.0), (61.0, 62.0)]))  # type: ignore[arg-type]


def test_resampy_can_resample(tmp_path: Path) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", tone, 44100, subtype="FLOAT")
    import resampy

    found = read_audio(tmp_path / "a.wav", RATE, resampler="resampy")
    np.testing.assert_array_equal(found, resampy.resample(tone, 44100, RATE, filter="kaiser_best"))
    assert 0 < np.abs(found - read_audio(tmp_path / "a.wav", RATE))[200:-200].max() < 1e-3
    part = read_audio(tmp_path / "a.wav", RATE, start_s=0.25, duration_s=0.5, resampler="resampy")
    np.testing.assert_array_equal(part, found[4000:12000])
    for n in (1, 2, 3):
        assert len(resample(tone[:n], 44100, RATE, "resampy")) == 1
    with pytest.raises(UsageError, match="soxr, resampy"):
        read_audio(tmp_path / "a.wav", RATE, resampler="sinc")
