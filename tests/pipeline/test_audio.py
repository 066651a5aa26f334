"""Reading recordings in the formats, rates, channels and states of damage in which users have them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models.errors import AudioFileError, UsageError
from hear_models.pipeline.audio import probe, read_audio, resample, stream_windows

RATE = 16000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on the PATH")


def tone(seconds: float, rate: int, hertz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("ending", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 1 / 100),
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-4),
        ("wav", "PCM_32", 1e-4),
        ("wav", "FLOAT", 1e-4),
        ("wav", "DOUBLE", 1e-4),
        ("aiff", "PCM_16", 1e-4),
        ("flac", "PCM_16", 1e-4),
        ("flac", "PCM_24", 1e-4),
        ("ogg", "VORBIS", 0.05),
        ("mp3", "MPEG_LAYER_III", 0.05),
    ],
)
def test_every_format_gives_the_same_tone_at_the_same_level(
    tmp_path: Path, ending: str, subtype: str, tolerance: float
) -> None:
    path = tmp_path / f"a.{ending}"
    try:
        soundfile.write(path, tone(1.0, 44100), 44100, subtype=subtype)
    except (ValueError, soundfile.LibsndfileError) as error:
        pytest.skip(f"this libsndfile does not write {ending} {subtype}: {error}")
    samples = read_audio(path, RATE)
    assert samples.dtype == np.float32 and samples.shape == (RATE,)
    inner = slice(800, -800)
    assert np.abs(samples - tone(1.0, RATE))[inner].max() < tolerance + 1e-3


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rate_and_channels_change_neither_pitch_nor_length(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    weights = np.linspace(0, 2, channels) if channels > 1 else np.ones(1)  # mean 1: the mean over channels is the tone
    soundfile.write(path, tone(0.8, rate, level=0.4)[:, None] * weights, rate, subtype="FLOAT")
    samples = read_audio(path, RATE)
    assert samples.shape == (round(0.8 * RATE),)
    assert np.abs(samples - tone(0.8, RATE, level=0.4))[800:-800].max() < 1e-3
    info = probe(path)
    assert (info.sample_rate, info.channels) == (rate, channels)
    assert info.duration_s == pytest.approx(0.8, abs=1e-3)


def test_integers_scale_to_one_and_floats_keep_their_values(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "int.wav", np.array([-32768, 0, 16384], dtype=np.int16), RATE)
    soundfile.write(tmp_path / "float.wav", np.array([-3.0, 0.0, 0.25], dtype=np.float32), RATE, subtype="FLOAT")
    assert read_audio(tmp_path / "int.wav", RATE).tolist() == [-1.0, 0.0, 0.5]
    assert read_audio(tmp_path / "float.wav", RATE).tolist() == [-3.0, 0.0, 0.25]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_a_recording_of_a_few_samples_is_not_lost_in_resampling(tmp_path: Path, n: int, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(n, 0.5, np.float32), rate, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav", RATE)
    assert len(samples) == max(1, int(n * RATE / rate + 0.5))
    assert np.isfinite(samples).all()
    assert len(resample(np.full(n, 0.5, np.float32), rate, RATE)) == len(samples)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_a_part_of_a_recording_is_the_same_as_that_part_of_the_whole(tmp_path: Path, ending: str, rate: int) -> None:
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(0).standard_normal(round(6.3 * rate)).astype(np.float32) * 0.1
    try:
        soundfile.write(path, noise, rate)
    except (ValueError, soundfile.LibsndfileError) as error:
        pytest.skip(f"this libsndfile does not write {ending}: {error}")
    whole = read_audio(path, RATE)
    for start_s, duration_s in [(0.0, 1.0), (1.2345, 2.5), (3.3, 0.01), (6.0, 99.0), (2.0, None)]:
        part = read_audio(path, RATE, start_s=start_s, duration_s=duration_s)
        start = round(start_s * RATE)
        stop = len(whole) if duration_s is None else min(len(whole), round((start_s + duration_s) * RATE))
        assert len(part) == stop - start
        np.testing.assert_allclose(part, whole[start:stop], atol=2e-6)


def test_a_start_past_the_end_is_an_error_and_not_an_empty_clip(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1, RATE), RATE)
    with pytest.raises(AudioFileError, match=r"ends before 2.0 s"):
        read_audio(tmp_path / "a.wav", RATE, start_s=2.0)
    with pytest.raises(UsageError):
        read_audio(tmp_path / "a.wav", RATE, start_s=-1.0)
    with pytest.raises(UsageError):
        read_audio(tmp_path / "a.wav", 0)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([8000, 16000, 22050, 44100]),
    n=st.integers(1, 60_000),
    window=st.integers(50, 20_000),
    hop_share=st.floats(0.2, 1.0),
)
def test_windows_are_exactly_the_slices_of_the_whole(rate: int, n: int, window: int, hop_share: float) -> None:
    import tempfile

    hop = max(1, int(window * hop_share))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.wav")
        soundfile.write(path, np.random.default_rng(n).uniform(-1, 1, n).astype(np.float32), rate, subtype="FLOAT")
        whole = read_audio(path, RATE)
        windows = list(stream_windows(path, RATE, window, hop))
    for k, samples in enumerate(windows):
        assert np.array_equal(samples, whole[k * hop : k * hop + window])
        assert len(samples) == window or k == len(windows) - 1
    assert (len(windows) - 1) * hop + len(windows[-1]) == len(whole)  # nothing is missing at the end


def test_hours_are_read_window_by_window_at_constant_memory(tmp_path: Path) -> None:
    """Peak memory of reading 30 minutes equals that of 5 minutes (whole, 30 minutes would be 115 MB at 16 kHz)."""
    path = tmp_path / "long.wav"
    code = (
        "import resource, sys; from hear_models.pipeline.audio import stream_windows\n"
        "n = sum(len(w) for w in stream_windows(sys.argv[1], 16000, 160000))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for minutes in (5, 30):
        with soundfile.SoundFile(path, "w", 22050, 1) as file:
            for _ in range(minutes):
                file.write(np.zeros(60 * 22050, np.int16))
        out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
        n, peak = map(int, out.split())
        assert n == minutes * 60 * RATE
        peaks.append(peak / (1 << (20 if sys.platform == "darwin" else 10)))  # macOS counts bytes, Linux KiB
    assert peaks[1] - peaks[0] < 15, f"peak memory in MiB: {peaks}"


@pytest.mark.parametrize("case", ["missing", "folder", "zero bytes", "no samples", "text", "nan", "cut flac", "fifo"])
def test_each_unusable_file_gives_one_clear_error_with_its_path(tmp_path: Path, case: str) -> None:
    path = tmp_path / "odd.wav"
    expected = {
        "missing": "does not exist",
        "folder": "is a folder",
        "zero bytes": "is empty",
        "no samples": "holds no samples",
        "text": "no audio that",
        "nan": "NaN or infinite",
        "cut flac": "damaged",
        "fifo": "not a regular file",
    }[case]
    if case == "folder":
        path.mkdir()
    elif case == "zero bytes":
        path.touch()
    elif case == "no samples":
        soundfile.write(path, np.zeros(0, np.int16), RATE)
    elif case == "text":
        path.write_text("these are words, not sounds\n" * 100)
    elif case == "nan":
        soundfile.write(path, np.array([0.0, np.nan, 0.1] * 9, np.float32), RATE, subtype="FLOAT")
    elif case == "cut flac":
        soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 90_000), RATE, format="FLAC")
        path.write_bytes(path.read_bytes()[:60_000])
    elif case == "fifo":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes on this system")
        os.mkfifo(path)
    with pytest.raises(AudioFileError, match=expected) as caught:
        read_audio(path, RATE)
    assert "odd.wav" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["späße 音.wav", "with space.wav", "new\nline.wav", "-dash.wav", "http:x.wav", "a%03d.wav"]
)
@pytest.mark.parametrize("through_ffmpeg", [False, True])
def test_odd_names_are_read(tmp_path: Path, name: str, through_ffmpeg: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        soundfile.write(os.fsencode(name), tone(0.5, RATE), RATE, format="WAV")
    except OSError as error:
        pytest.skip(f"this file system does not take the name: {error}")
    if through_ffmpeg:
        if shutil.which("ffmpeg") is None:
            pytest.skip("ffmpeg is not on the PATH")
        encode(Path(name), Path("made.m4a"))
        os.replace("made.m4a", name)
    assert abs(len(read_audio(name, RATE)) - RATE // 2) <= 1024


def encode(source: Path, target: Path) -> None:
    subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", f"file:{source}", "-c:a", "aac", f"file:{target}"], check=True
    )


@needs_ffmpeg
def test_what_libsndfile_does_not_know_is_decoded_by_ffmpeg(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(2, 48000), tone(2, 48000)], axis=1), 48000)
    encode(tmp_path / "a.wav", tmp_path / "a.m4a")
    samples = read_audio(tmp_path / "a.m4a", RATE)
    assert abs(len(samples) - 2 * RATE) <= 1024  # AAC rounds up to its frames
    assert np.abs(samples[: 2 * RATE] - tone(2, RATE))[1600:-1600].max() < 0.05
    part = read_audio(tmp_path / "a.m4a", RATE, start_s=0.5, duration_s=1.0)
    np.testing.assert_allclose(part, samples[RATE // 2 : RATE // 2 + RATE], atol=2e-6)
    assert np.array_equal(np.concatenate(list(stream_windows(tmp_path / "a.m4a", RATE, 5000))), samples)
    assert (probe(tmp_path / "a.m4a").channels, probe(tmp_path / "a.m4a").sample_rate) == (2, 48000)


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_a_playlist_cannot_make_ffmpeg_open_another_file(tmp_path: Path, kind: str) -> None:
    soundfile.write(tmp_path / "secret.wav", tone(1, RATE), RATE)
    encode(tmp_path / "secret.wav", tmp_path / "secret.aac")
    text = {
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.aac\n#EXT-X-ENDLIST\n",
        "concat": "ffconcat version 1.0\nfile secret.aac\n",
    }[kind]
    (tmp_path / "list.m4a").write_text(text)
    with pytest.raises(AudioFileError):
        read_audio(tmp_path / "list.m4a", RATE)


def test_without_ffmpeg_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x18ftypM4A " + bytes(100))
    with pytest.raises(AudioFileError, match=r"ffmpeg is not on the PATH.*apt install ffmpeg"):
        read_audio(tmp_path / "a.m4a", RATE)


def test_an_ffmpeg_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name != "posix":
        pytest.skip("the stand-in for a hanging ffmpeg is a shell script")
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    monkeypatch.setattr("hear_models.pipeline.ffmpeg.STALL_S", 0.3)
    (tmp_path / "a.m4a").write_bytes(b"no audio")
    with pytest.raises(AudioFileError, match="gave nothing"):
        read_audio(tmp_path / "a.m4a", RATE)
