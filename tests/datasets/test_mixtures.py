"""Soundscapes are drawn and rendered as by the authors' script, sample for sample."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from golden_inputs import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from hear_models.datasets import Library
from hear_models.datasets.gise51 import mixture_folder, read_annotations
from hear_models.datasets.jams import mixture_as_jams, read_jams
from hear_models.datasets.loudness import loudness
from hear_models.datasets.mixing import OFFICIAL_SEED, annotation_text, render_jams, write_mixtures
from hear_models.datasets.mixtures import Mixture, draw_mixture, render, sixteen_bits
from hear_models.datasets.silence import isolated_event, strip_silence
from hear_models.datasets.time_stretch import stretch
from hear_models.errors import AudioFileError, InputError, UsageError

FOLDER = GOLDEN / "gise51"
CORPUS = FOLDER / "corpus"
REFERENCE = np.load(FOLDER / "mixtures.npz")
SILENCE = np.load(FOLDER / "strip_silence.npz")


def official(number: int) -> dict:
    path = CORPUS / "mix" / f"soundscape_unimodal{number}_proc_00.jams"
    return json.loads(path.read_text())["annotations"][0]


@pytest.fixture(scope="module")
def mixtures() -> list[Mixture]:
    """The twelve soundscapes of the authors' script, from its seed and its choices of recordings."""
    events, backgrounds = Library(CORPUS / "fg"), Library(CORPUS / "bg")
    rng = np.random.RandomState(123)
    chosen = [[CORPUS / spec[1][1] for spec in official(n)["sandbox"]["scaper"]["fg_spec"]] for n in range(12)]
    return [draw_mixture(files, events, backgrounds, rng) for files in chosen]


def test_every_draw_is_that_of_the_authors(mixtures):
    for number, mixture in enumerate(mixtures):
        written = official(number)["data"]
        sounds = [mixture.background, *mixture.by_time()]
        assert len(sounds) == len(written)
        for ours, theirs in zip(sounds, written, strict=True):
            value = theirs["value"]
            assert (ours.label, ours.file) == (value["label"], CORPUS / value["source_file"])
            found = [ours.source_time_s, ours.duration_s, ours.snr_db, ours.event_time_s, ours.end_s]
            end = theirs["time"] + theirs["duration"]
            wanted = [value["source_time"], value["event_duration"], value["snr"], theirs["time"], end]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
        lines = read_annotations(CORPUS / "mix" / f"soundscape_unimodal{number}_proc_00.txt")
        assert [line.label for line in lines] == mixture.labels
        np.testing.assert_allclose([a.onset_s for a in lines], [e.event_time_s for e in mixture.by_time()], atol=1e-12)
        np.testing.assert_allclose([a.offset_s for a in lines], [e.end_s for e in mixture.by_time()], atol=1e-12)


@pytest.mark.parametrize("number", range(12))
def test_samples_are_those_of_the_authors(mixtures, number):
    """Sources at 22,050 Hz to the last bits; resampled ones (Keys_jangling, 44.1 kHz) as near as two resamplers are."""
    ours = render(mixtures[number])
    resampled = "Keys_jangling" in mixtures[number].labels
    tolerance = 1e-3 if resampled else 1e-8
    assert len(ours) == REFERENCE[f"m{number}/n"]
    np.testing.assert_allclose(ours[::97], REFERENCE[f"m{number}/every97"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(np.abs(ours).max(), REFERENCE[f"m{number}/peak"], rtol=0, atol=tolerance)
    rms = np.sqrt((ours[:110_000].reshape(50, 2200) ** 2).mean(axis=1))
    np.testing.assert_allclose(rms, REFERENCE[f"m{number}/block_rms"][:50], rtol=0, atol=tolerance)


@pytest.mark.parametrize("number", [2, 5])
def test_flac_is_that_of_the_authors_bit_by_bit(mixtures, number):
    theirs, _ = soundfile.read(CORPUS / "mix" / f"soundscape_unimodal{number}_proc_00.flac", dtype="int16")
    samples = render(mixtures[number])
    np.testing.assert_array_equal(sixteen_bits(samples, official=True), theirs)
    ours = sixteen_bits(samples).astype(float)
    assert abs((ours / 2**15 - samples).mean()) < 1e-6 < abs((theirs / 2**15 - samples).mean())  # quirk "flac-floor"


@pytest.mark.parametrize("clip", ["Dog/a", "Wind/b", "Tap/c"])
def test_pauses_are_cut_where_sox_cuts_them(clip):
    samples = SILENCE[f"{clip}/in"]
    for name in (name for name in SILENCE.files if name.startswith(f"{clip}/sox_")):
        pause_s = float(name.rpartition("_")[2])
        np.testing.assert_array_equal(strip_silence(samples, 22_050, pause_s), SILENCE[name])
    event = isolated_event(samples, 22_050, clip.partition("/")[0])
    if f"{clip}/out" in SILENCE.files:
        np.testing.assert_array_equal(event, SILENCE[f"{clip}/out"])
    else:
        assert event is None


def test_loudness_of_a_full_scale_sine_is_that_of_the_standard():
    """BS.1770: 997 Hz at 0 dBFS in one channel is -3.01 LUFS; the authors' filters are 0.06 off."""
    for rate in (22_050, 48_000):
        tone = np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate)
        assert loudness(tone, rate) == pytest.approx(-3.01, abs=0.1)
        assert loudness(tone / 10, rate) == pytest.approx(-23.01, abs=0.1)
    assert loudness(np.zeros(22_050), 22_050) == -np.inf


def test_pauses_do_not_make_a_recording_quieter():
    tone = 0.1 * np.sin(2 * np.pi * 997 * np.arange(5 * 22_050) / 22_050)
    with_pause = np.concatenate([tone, np.zeros(5 * 22_050)])
    assert loudness(with_pause, 22_050) == pytest.approx(loudness(tone, 22_050), abs=0.5)


@pytest.mark.parametrize("factor", [0.95, 1.0, 1.05])
def test_stretching_keeps_the_pitch(factor):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 22_050)
    stretched = stretch(tone, factor, 22_050)
    assert len(stretched) == pytest.approx(44_100 * factor, abs=2)
    spectrum = np.abs(np.fft.rfft(stretched * np.hanning(len(stretched))))
    assert spectrum.argmax() * 22_050 / len(stretched) == pytest.approx(440, abs=1)
    with pytest.raises(UsageError, match="out of range"):
        stretch(tone, 3.0, 22_050)


def test_soundscapes_of_a_folder_are_repeatable_and_go_on_where_they_stopped(tmp_path):
    written = list(write_mixtures(CORPUS / "fg", CORPUS / "bg", tmp_path / "a", 6))
    begun = write_mixtures(CORPUS / "fg", CORPUS / "bg", tmp_path / "b", 6)
    next(begun)
    begun.close()
    again = list(write_mixtures(CORPUS / "fg", CORPUS / "bg", tmp_path / "b", 6))
    assert written == again
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 19 and names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    first = min((tmp_path / "a").glob("*.flac"))
    whole = first.read_bytes()
    for damaged in (b"", b"x" + whole[1:]):
        first.write_bytes(damaged)
        list(write_mixtures(CORPUS / "fg", CORPUS / "bg", tmp_path / "a", 6))
        assert first.read_bytes() == whole
    clips = mixture_folder(tmp_path / "a")
    assert [list(clip.labels) for clip in clips] == [mixture.labels for mixture in written]
    assert {len(mixture.events) for mixture in written} <= {1, 2, 3}
    samples = clips[0].read(22_050)
    assert samples.shape == (110_250,) and samples.dtype == np.float32 and 0 < np.abs(samples).max() <= 1
    for changes in ({"seed": 1}, {"official": True}, {"most_events": 1}):
        with pytest.raises(UsageError, match="other settings"):
            list(write_mixtures(CORPUS / "fg", CORPUS / "bg", tmp_path / "a", 6, **changes))


def test_the_official_way_runs_one_random_state_through_all(tmp_path):
    """Given the choices, the draws are those of one RandomState(123), as in the authors' script."""
    made = list(write_mixtures(CORPUS / "fg", CORPUS / "bg", tmp_path, 3, official=True))
    events, backgrounds = Library(CORPUS / "fg"), Library(CORPUS / "bg")
    rng = np.random.RandomState(OFFICIAL_SEED)
    assert made == [draw_mixture([e.file for e in mixture.events], events, backgrounds, rng) for mixture in made]
    theirs, _ = soundfile.read(tmp_path / "soundscape_unimodal2_proc_00.flac", dtype="int16")
    np.testing.assert_array_equal(theirs, sixteen_bits(render(made[2]), official=True))
    for mixture in write_mixtures(CORPUS / "fg", CORPUS / "bg", tmp_path / "one", 8, most_events=1):
        assert len(mixture.events) == 1


def test_the_authors_soundscapes_are_made_again_from_their_jams(tmp_path):
    """Annotations to the byte (.txt) and to the last bit of each number (.jams), samples to the bit (22,050 Hz)."""
    made = list(render_jams(CORPUS / "mix", CORPUS / "fg", CORPUS / "bg", tmp_path))
    names = sorted(path.stem for path in (CORPUS / "mix").glob("*.jams"))
    assert len(made) == len(names) == 12
    for name, mixture in zip(names, made, strict=True):
        assert (tmp_path / f"{name}.txt").read_bytes() == (CORPUS / "mix" / f"{name}.txt").read_bytes()
        ours = json.loads((tmp_path / f"{name}.jams").read_text())
        theirs = json.loads((CORPUS / "mix" / f"{name}.jams").read_text())
        assert ours["annotations"][0]["data"] == theirs["annotations"][0]["data"]
        assert ours["annotations"][0]["annotation_metadata"] == theirs["annotations"][0]["annotation_metadata"]
        assert ours["file_metadata"].keys() == theirs["file_metadata"].keys()
        own = ours["annotations"][0]["sandbox"]["scaper"]
        assert own == {key: theirs["annotations"][0]["sandbox"]["scaper"][key] for key in own}
        flac = CORPUS / "mix" / f"{name}.flac"
        if flac.exists() and "Keys_jangling" not in mixture.labels:
            samples = [soundfile.read(path, dtype="int16")[0] for path in (flac, tmp_path / flac.name)]
            np.testing.assert_array_equal(*samples)


def test_what_is_written_as_jams_is_read_again(mixtures, tmp_path):
    events, backgrounds = Library(CORPUS / "fg"), Library(CORPUS / "bg")
    for mixture in mixtures:
        (tmp_path / "m.jams").write_text(mixture_as_jams(mixture, events, backgrounds))
        again = read_jams(tmp_path / "m.jams", events, backgrounds)
        assert again == Mixture(mixture.background, tuple(mixture.by_time()))
        assert annotation_text(again) == annotation_text(mixture)


def changed(**value) -> dict:
    """The first soundscape's JAMS with another value in its first event."""
    document = json.loads((CORPUS / "mix" / "soundscape_unimodal0_proc_00.jams").read_text())
    document["annotations"][0]["data"][1]["value"] |= value
    return document


FOREIGN = {
    "no document": ("{", "cannot be read as JAMS"),
    "nested": ("[" * 100_000, "cannot be read as JAMS"),
    "another form": ('{"annotations": []}', "no JAMS file of one soundscape"),
    "a list": ("[]", "no JAMS file of one soundscape"),
    "a missing number": (json.dumps(changed(snr=None)), "snr is None, not a number"),
    "no number": (json.dumps(changed(event_time="1")), "event_time is '1', not a number"),
    "not finite": (json.dumps(changed(source_time=float("nan"))), "not a number"),
    "negative": (json.dumps(changed(source_time=-1.0)), "lies between"),
    "huge": (json.dumps(changed(event_duration=1e9)), "lies between"),
    "stretched": (json.dumps(changed(time_stretch=9.0)), "lies between"),
    "shifted": (json.dumps(changed(pitch_shift=1.0)), "pitch shift"),
    "a strange part": (json.dumps(changed(role="chorus")), "the role 'chorus'"),
    "two backgrounds": (json.dumps(changed(role="background")), "not in|backgrounds"),
    "no such sound": (json.dumps(changed(source_file="fg/Trumpet/9.wav")), r"Trumpet/9\.wav is not in"),
    "a way out": (json.dumps(changed(label="..", source_file="../../../README.md")), "is not in"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_strange_jams_file_is_one_sentence(kind, tmp_path):
    text, what = FOREIGN[kind]
    (tmp_path / "strange.jams").write_text(text)
    with pytest.raises(InputError, match=what) as caught:
        read_jams(tmp_path / "strange.jams", Library(CORPUS / "fg"), Library(CORPUS / "bg"))
    assert "strange.jams" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"holds no \.jams"):
        list(render_jams(CORPUS / "fg", CORPUS / "fg", CORPUS / "bg", tmp_path / "out"))


def test_every_label_is_drawn_alike_however_many_recordings_it_has():
    events = Library(CORPUS / "fg")
    assert len(events.files["Dog"]) == 2 and len(events.files["Tap"]) == 1
    chosen = events.choose(np.random.default_rng(0), 5000)
    share = np.mean([path.parent.name == "Dog" for path in chosen])
    assert share == pytest.approx(1 / 5, abs=0.02)


def test_what_cannot_be_mixed_is_said(tmp_path):
    with pytest.raises(UsageError, match="a folder for each label"):
        Library(tmp_path)
    (tmp_path / "bg" / "hum").mkdir(parents=True)
    soundfile.write(tmp_path / "bg" / "hum" / "quiet.wav", np.zeros(44_100), 22_050)
    with pytest.raises(InputError, match="silent"):
        list(write_mixtures(CORPUS / "fg", tmp_path / "bg", tmp_path / "out", 1))
    (tmp_path / "bg" / "hum" / "quiet.wav").write_text("no audio")
    with pytest.raises(AudioFileError, match=r"quiet\.wav"):
        list(write_mixtures(CORPUS / "fg", tmp_path / "bg", tmp_path / "other", 1))
    soundfile.write(
        tmp_path / "bg" / "hum" / "quiet.wav", np.full(200_000, np.nan, np.float32), 22_050, subtype="FLOAT"
    )
    with pytest.raises(AudioFileError, match="NaN"):
        list(write_mixtures(CORPUS / "fg", tmp_path / "bg", tmp_path / "third", 1))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()].count("quiet.wav") == 1
    assert not list(tmp_path.rglob("*.flac")) and not list(tmp_path.rglob("*.txt")) and not list(tmp_path.rglob(".*"))


def test_a_library_is_its_sounds(tmp_path):
    events = Library(CORPUS / "fg")
    assert len(events) == 6 and events.labels == ["Cough", "Dog", "Keys_jangling", "Tap", "Trumpet"]
    clips = list(events)
    assert [clip.labels for clip in clips][:3] == [("Cough",), ("Dog",), ("Dog",)]
    assert len(clips[0].read(22_050)) == round(22_050 * events.duration_s(events.files["Cough"][0]))
    assert clips[0].encoded() == events.files["Cough"][0].read_bytes()
    for label in ("a,b", "a\tb"):
        (tmp_path / label).mkdir()
        soundfile.write(tmp_path / label / "x.wav", np.ones(100), 22_050)
        with pytest.raises(UsageError, match="cannot be a label"):
            Library(tmp_path)
        (tmp_path / label / "x.wav").unlink()
    (tmp_path / "empty").mkdir()
    soundfile.write(tmp_path / "empty" / "x.wav", np.zeros(0), 22_050)
    with pytest.raises(AudioFileError, match="no samples"):
        Library(tmp_path).duration_s(tmp_path / "empty" / "x.wav")


def sox_silence(samples: list[int], window: int, hold: int) -> list[int]:
    """SoX's machine, sample by sample: the ring is emptied when sound has ended."""
    ring: list[int] = []
    held: list[int] = []
    out: list[int] = []
    copying = False
    for sample in samples:
        ring = [*ring, sample**2][-window:]
        active = sum(ring) >= 328**2 * window
        if not copying:
            held = [*held, sample] if active else []
            if len(held) == hold:
                out, held, copying = out + held, [], True
        elif active:
            out, held = [*out, *held, sample], []
        else:
            held.append(sample)
            if len(held) == hold:
                held, ring, copying = [], [], False
    return out + held if copying else out


@given(
    parts=st.lists(
        st.tuples(st.sampled_from([0, 200, 320, 327, 329, 400, 3000]), st.integers(1, 60)), min_size=1, max_size=12
    ),
    hold=st.integers(1, 40),
)
def test_pauses_are_cut_as_sox_does_sample_by_sample(parts, hold):
    """Levels around the threshold of 328, at 1000 Hz: a window of 20 samples."""
    samples = np.concatenate([np.full(n, level, np.int16) for level, n in parts])
    samples[1::2] *= -1
    ours = strip_silence(samples, 1000, hold / 1000)
    assert ours.tolist() == sox_silence(samples.tolist(), 20, hold)
