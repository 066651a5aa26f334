"""What is decoded is the whole file, or an error: containers without a length, with a wrong one, and files cut off."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hear_models.errors import AudioFileError, AudioWarning
from hear_models.pipeline.audio import probe, read_audio, stream_windows
from hear_models.pipeline.containers.mpeg import parse_header

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on the PATH")
pytestmark = pytest.mark.filterwarnings("ignore::hear_models.errors.AudioWarning")
MP3_DELAY = 1105 + 1152  # samples at an end that decoders of MP3 may count or not


def sound(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """A sweep, silence, then noise: encoders of variable bit rate give each another size."""
    t = np.arange(round(seconds * rate)) / rate
    x = 0.3 * np.sin(2 * np.pi * (200 + 150 * t) * t)
    x[len(x) // 3 : len(x) // 2] = 0
    x[len(x) // 2 :] += 0.2 * np.random.default_rng(seed).standard_normal(len(x) - len(x) // 2)
    return np.repeat(x[:, None], channels, axis=1).astype(np.float32)


def encoded(x: np.ndarray, rate: int, kind: str, subtype: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, x, rate, format=kind, subtype=subtype, **options)
    except (ValueError, TypeError, soundfile.LibsndfileError) as error:
        pytest.skip(f"this libsndfile does not write {kind}: {error}")
    return buffer.getvalue()


def seconds_of(data: bytes, path: Path) -> float:
    """Our length, the same by all ways of reading."""
    path.write_bytes(data)
    whole = read_audio(path, 16000)
    assert abs(probe(path).duration_s - len(whole) / 16000) < 1e-3
    windows = np.concatenate(list(stream_windows(path, 16000, 9000)))
    np.testing.assert_array_equal(windows, whole)
    part = read_audio(path, 16000, start_s=0.7, duration_s=0.2)
    np.testing.assert_allclose(part, whole[11200:14400], atol=1e-3)
    return len(whole) / 16000


def ffmpegs_seconds(path: Path, rate: int) -> float:
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-nostdin",
        "-i",
        f"file:{path}",
        "-ac",
        "1",
        "-ar",
        str(rate),
        "-f",
        "f32le",
        "-",
    ]
    return len(subprocess.run(command, capture_output=True, check=True).stdout) / 4 / rate


# ------------------------------------------------------------------------------------------- what happens to a length
def without_info(data: bytes) -> bytes:
    """An MP3 without the frame that tells its length."""
    frame = parse_header(data[:4])
    assert frame is not None and data[frame.info_at : frame.info_at + 4] in (b"Xing", b"Info")
    return data[frame.size :]


def id3(data: bytes) -> bytes:
    return b"ID3\x03\0\0\0\0\x01\x05" + bytes(133) + data + b"TAG" + bytes(125)


def in_wave(data: bytes) -> bytes:
    frame = parse_header(data[:4])
    assert frame is not None
    about = struct.pack("<HHIIHHHHIHHH", 0x55, frame.channels, frame.rate, 16000, 1, 0, 12, 1, 2, frame.size, 1, 0)
    chunks = b"WAVEfmt " + struct.pack("<I", len(about)) + about + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def open_flac(data: bytes) -> bytes:
    """STREAMINFO without the number of samples, as a pipe leaves it."""
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


def ogg_pages(data: bytes) -> list[bytes]:
    pages, at = [], 0
    while at < len(data):
        n = data[at + 26]
        stop = at + 27 + n + sum(data[at + 27 : at + 27 + n])
        pages.append(data[at:stop])
        at = stop
    return pages


def patched(name: bytes, skip: int, value: bytes) -> Callable[[bytes], bytes]:
    """Another length `skip` bytes behind the name of a chunk."""

    def change(data: bytes) -> bytes:
        at = data.index(name) + len(name) + skip
        return data[:at] + value + data[at + len(value) :]

    return change


MPEG_LOSSES: dict[
    str, tuple[Callable[[bytes], bytes], int]
] = {  # what is done to a file, and how often its sound is in it
    "no Info frame": (without_info, 1),
    "no Info frame, tags": (lambda data: id3(without_info(data)), 1),
    "joined": (lambda data: data + data, 2),
    "joined, with tags": (lambda data: id3(data) + id3(data), 2),
    "joined, no Info frames": (lambda data: without_info(data) * 2, 2),
    "an Info frame, then none": (lambda data: data + without_info(data), 2),
    "in WAV": (lambda data: in_wave(without_info(data)), 1),
    "in WAV, with Info": (in_wave, 1),
}


@pytest.mark.parametrize("loss", MPEG_LOSSES)
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_an_mp3_is_read_to_its_end_whatever_its_header_says(tmp_path: Path, loss: str, mode: str) -> None:
    change, times = MPEG_LOSSES[loss]
    for rate, channels in ((44100, 1), (22050, 2), (8000, 1)):  # MPEG 1, 2 and 2.5
        data = encoded(sound(2.0, rate, channels), rate, "MP3", bitrate_mode=mode, compression_level=0.5)
        found = seconds_of(change(data), tmp_path / f"{rate}{'.wav' if 'WAV' in loss else '.mp3'}")
        assert abs(found - 2.0 * times) < times * MP3_DELAY / rate, (rate, channels)


def test_the_sound_of_an_mp3_without_its_header_is_the_same(tmp_path: Path) -> None:
    x = sound(2.0, 16000)
    data = encoded(x, 16000, "MP3", bitrate_mode="CONSTANT")
    (tmp_path / "a.mp3").write_bytes(data)
    (tmp_path / "b.mp3").write_bytes(without_info(data))
    whole, bare = read_audio(tmp_path / "a.mp3", 16000), read_audio(tmp_path / "b.mp3", 16000)
    shift = len(bare) - len(whole)  # the delay at the beginning, and what fills the last frame
    best = min(np.abs(bare[k : k + 20000] - whole[:20000]).max() for k in range(shift))
    assert best < 1e-3


FLAC_LOSSES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "no length": (open_flac, 1),
    "no length, a tag behind": (lambda data: open_flac(data) + b"TAG" + bytes(125), 1),
    "joined": (lambda data: data + data, 2),
    "joined, no lengths": (lambda data: open_flac(data) * 2, 2),
}


@pytest.mark.parametrize("loss", FLAC_LOSSES)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_flac_is_read_to_its_end_whatever_its_header_says(tmp_path: Path, loss: str, subtype: str) -> None:
    change, times = FLAC_LOSSES[loss]
    data = encoded(sound(2.3, 16000, 2), 16000, "FLAC", subtype)
    assert seconds_of(change(data), tmp_path / "a.flac") == pytest.approx(2.3 * times)
    want = soundfile.read(io.BytesIO(data), dtype="float32")[0][-100:, 0]
    np.testing.assert_array_equal(read_audio(tmp_path / "a.flac", 16000)[-100:], want)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_chain_of_ogg_streams_is_read_whole(tmp_path: Path, subtype: str) -> None:
    first = encoded(sound(1.5, 48000), 48000, "OGG", subtype)
    second = encoded(sound(1.0, 48000, seed=2), 48000, "OGG", subtype)
    assert seconds_of(first + second + first, tmp_path / "a.ogg") == pytest.approx(4.0, abs=0.01)
    endless = b"".join(ogg_pages(first)[:-1])
    (tmp_path / "b.ogg").write_bytes(endless)
    alone = read_audio(tmp_path / "b.ogg", 16000)
    assert seconds_of(endless + second, tmp_path / "b.ogg") == pytest.approx(len(alone) / 16000 + 1.0, abs=0.01)


@pytest.mark.parametrize("kind", ["OGG", "MP3", "FLAC"])
def test_what_libsndfile_cannot_join_is_read_by_ffmpeg_or_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = encoded(sound(1.5, 48000), 48000, kind) + encoded(sound(1.0, 48000, 2), 48000, kind)
    (tmp_path / "a").write_bytes(joined)
    if shutil.which("ffmpeg"):
        try:
            assert len(read_audio(tmp_path / "a", 16000)) > 2.4 * 16000
        except AudioFileError as error:
            assert "cannot be decoded whole" in str(error)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioFileError, match=r"libsndfile .*different rates or channels.* ffmpeg is not on the PATH"):
        read_audio(tmp_path / "a", 16000)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_stream_without_its_end_page_is_read_with_a_warning(tmp_path: Path, subtype: str) -> None:
    pages = ogg_pages(encoded(sound(2.0, 48000), 48000, "OGG", subtype))
    (tmp_path / "a.ogg").write_bytes(b"".join(pages[:-1]))
    with pytest.warns(AudioWarning, match="has no end page"):
        assert len(read_audio(tmp_path / "a.ogg", 16000)) > 16000


OPEN_LENGTHS = {
    "0": ("WAV", patched(b"data", 0, bytes(4))),
    "all ones": ("WAV", patched(b"data", 0, b"\xff" * 4)),
    "of sox": ("WAV", patched(b"data", 0, struct.pack("<I", 0x7FFFF000))),
    "of a recorder that stopped updating": ("WAV", patched(b"data", 0, struct.pack("<I", 2000))),
    "WAVEX 0": ("WAVEX", patched(b"data", 0, bytes(4))),
    "RIFX": ("RIFX", patched(b"data", 0, bytes(4))),
    "RF64 0": ("RF64", patched(b"ds64", 4, bytes(24))),
    "W64 0": ("W64", patched(b"data", 12, bytes(8))),
    "AIFF 0": ("AIFF", patched(b"SSND", 0, bytes(4))),
    "CAF -1": ("CAF", patched(b"data", 0, b"\xff" * 8)),
    "AU unknown": ("AU", lambda data: data[:8] + b"\xff" * 4 + data[12:]),
}


@pytest.mark.parametrize("case", OPEN_LENGTHS)
def test_a_length_that_was_left_open_means_to_the_end_of_the_file(tmp_path: Path, case: str) -> None:
    kind, change = OPEN_LENGTHS[case]
    x = sound(1.0, 16000, 2)
    x[:100] = 0  # a recording may begin with silence
    options = {"endian": "BIG"} if kind == "RIFX" else {}
    data = change(encoded(x, 16000, "WAV" if kind == "RIFX" else kind, "PCM_16", **options))
    assert seconds_of(data, tmp_path / "a.wav") == 1.0
    with pytest.warns(AudioWarning, match=r"read to the end of the file"):
        found = read_audio(tmp_path / "a.wav", 16000)
    np.testing.assert_allclose(found, x[:, 0], atol=1e-4)


def test_an_empty_wav_with_something_behind_it_holds_no_sound(tmp_path: Path) -> None:
    behind = b"LIST" + struct.pack("<I", 2000) + b"INFO" + bytes(1996)
    (tmp_path / "a.wav").write_bytes(encoded(np.zeros((0, 1), np.float32), 16000, "WAV") + behind)
    with pytest.raises(AudioFileError, match="holds no samples"):
        read_audio(tmp_path / "a.wav", 16000)


def test_chunks_and_padding_behind_the_sound_are_no_sound(tmp_path: Path) -> None:
    data = encoded(sound(1.0, 16000), 16000, "WAV")
    for behind in (b"LIST" + struct.pack("<I", 2000) + bytes(2000), bytes(5000), b"TAG" + bytes(2000)):
        (tmp_path / "a.wav").write_bytes(data + behind)
        assert len(read_audio(tmp_path / "a.wav", 16000)) == 16000


# ------------------------------------------------------------------------------------------------------------ cut off
# formats of libsndfile that tell their length; PAF, PVF and IRCAM do not
TELLING = [
    "AIFF",
    "AU",
    "AVR",
    "CAF",
    "FLAC",
    "MAT4",
    "MAT5",
    "MP3",
    "MPC2K",
    "NIST",
    "OGG",
    "RF64",
    "SVX",
    "VOC",
    "W64",
    "WAV",
    "WAVEX",
    "WVE",
]


@pytest.mark.parametrize("kind", TELLING)
def test_a_file_that_was_copied_in_part_is_refused(tmp_path: Path, kind: str) -> None:
    mono = kind in ("SVX", "WVE")
    rate = 8000 if kind == "WVE" else 16000
    path = tmp_path / f"a.{kind.lower()}"
    data = encoded(sound(1.5, rate, 1 if mono else 2), rate, kind, None if kind != "WVE" else "ALAW")
    path.write_bytes(data)
    assert len(read_audio(path, rate)) >= round(1.5 * rate) - 1
    for share in (0.3, 0.5, 0.77, 0.98):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(AudioFileError, match=r"cut off or damaged|Is it damaged|no audio that|not whole|holds no"):
            read_audio(path, rate)


@pytest.mark.parametrize("loss", [without_info, open_flac])
def test_a_file_that_was_copied_in_part_is_refused_although_it_tells_no_length(
    tmp_path: Path, loss: Callable[[bytes], bytes]
) -> None:
    kind = "MP3" if loss is without_info else "FLAC"
    data = loss(encoded(sound(2.0, 16000), 16000, kind))
    for share in (0.31, 0.5, 0.77):
        (tmp_path / f"a.{kind.lower()}").write_bytes(data[: int(len(data) * share) - 3])
        with pytest.raises(AudioFileError, match="cut off or damaged"):
            read_audio(tmp_path / f"a.{kind.lower()}", 16000)


FFMPEG_FILES = {
    "m4a": "-c:a aac -movflags +faststart",
    "mp4": "-c:a alac -movflags +frag_keyframe+empty_moov",
    "mka": "-c:a libvorbis",
    "webm": "-c:a libopus",
    "aac": "-c:a aac",
    "ac3": "-c:a ac3",
    "wma": "-c:a wmav2",
    "tta": "-c:a tta",
    "wv": "-c:a wavpack",
    "avi": "-c:a pcm_s16le",
    "ts": "-c:a mp2",
    "flv": "-c:a aac",
    "spx": "-c:a libspeex",
    "oga": "-c:a flac",
    "mp2": "-c:a mp2",
    "caf": "-c:a alac",
}


def made_by_ffmpeg(source: Path, target: Path, options: str) -> Path:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(source), *options.split(), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this ffmpeg does not write {target.suffix}: {done.stderr.strip().splitlines()[-1:]}")
    return target


@needs_ffmpeg
@pytest.mark.parametrize("ending", FFMPEG_FILES)
def test_what_ffmpeg_writes_is_read_whole_and_refused_when_cut(tmp_path: Path, ending: str) -> None:
    soundfile.write(tmp_path / "a.wav", sound(2.0, 16000), 16000)
    path = made_by_ffmpeg(tmp_path / "a.wav", tmp_path / f"a.{ending}", FFMPEG_FILES[ending])
    assert abs(len(read_audio(path, 16000)) / 16000 - ffmpegs_seconds(path, 16000)) < 0.01
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6) - 7])
    with pytest.raises(AudioFileError):
        read_audio(path, 16000)


@needs_ffmpeg
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_our_length_is_that_of_ffmpegs_own_decoding(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["MP3", "FLAC", "OGG", "WAV", "AIFF", "CAF", "AU", "W64"]))
    rate = data.draw(st.sampled_from([16000, 44100, 48000]))
    x = sound(data.draw(st.floats(0.8, 2.5)), rate, data.draw(st.sampled_from([1, 2])))
    made = encoded(x, rate, kind)
    losses: list[Callable[[bytes], bytes]] = [lambda same: same]
    if kind == "MP3":
        losses += [without_info, lambda mp3: id3(without_info(mp3))]
    elif kind in ("FLAC", "WAV"):
        losses += [open_flac if kind == "FLAC" else OPEN_LENGTHS["0"][1]]
    path = tmp_path / f"a.{kind.lower()}"
    found = seconds_of(data.draw(st.sampled_from(losses))(made), path)
    assert abs(found - ffmpegs_seconds(path, rate)) < (1200 / rate if kind in ("MP3", "OGG") else 0.002)


@needs_ffmpeg
@pytest.mark.parametrize(("ending", "options"), [("mp4", "-c:a aac"), ("mkv", "-c:a pcm_s16le"), ("ts", "-c:a mp2")])
def test_a_track_that_begins_late_keeps_its_place_in_the_film(tmp_path: Path, ending: str, options: str) -> None:
    soundfile.write(tmp_path / "a.wav", sound(1.0, 16000), 16000)
    path = tmp_path / f"a.{ending}"
    film = ["-f", "lavfi", "-i", "color=s=16x16:d=3:r=25"]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *film, "-itsoffset", "1.5", "-i", str(tmp_path / "a.wav")]
    subprocess.run([*command, "-c:v", "mpeg4", *options.split(), str(path)], check=True)
    samples = read_audio(path, 16000)
    begin = np.flatnonzero(np.abs(samples) > 0.05)[0] / 16000
    assert abs(begin - 1.5) < 0.1
    np.testing.assert_array_equal(read_audio(path, 16000, start_s=1.2, duration_s=0.5), samples[19200:27200])
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *film, "-c:v", "mpeg4", str(path)], check=True)
    with pytest.raises(AudioFileError, match="has no sound"):
        read_audio(path, 16000)
