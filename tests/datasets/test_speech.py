"""Synthetic speech with the real espeak-ng where it is installed; trimming and the missing program everywhere."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_models.datasets import speech
from hear_models.errors import HearModelsError, UsageError

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the program espeak-ng is not installed")


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    speech.languages.cache_clear()
    speech.voices.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    yield
    speech.languages.cache_clear()
    speech.voices.cache_clear()


def test_without_espeak_the_error_says_what_to_install(no_programs):
    with pytest.raises(HearModelsError, match="apt install espeak-ng"):
        speech.speak(0, 0)


@given(st.integers(0, 4000), st.integers(400, 4000), st.integers(0, 4000))
def test_trimming_cuts_silence_at_both_ends_and_nothing_else(before, length, after):
    tone = 0.5 * np.sin(np.arange(length) * 0.3).astype(np.float32)
    audio = np.concatenate([np.zeros(before, np.float32), tone, np.zeros(after, np.float32)])
    trimmed = speech.trim(audio)
    assert length - 160 <= trimmed.size <= length + 2 * 320 + 2 * 160
    kept = np.flatnonzero(trimmed)
    assert kept[-1] - kept[0] + 1 >= length - 160


@pytest.mark.parametrize("n", [0, 100, 5000])
def test_trimming_silence_leaves_nothing(n):
    assert speech.trim(np.zeros(n, dtype=np.float32)).size == 0


@needs_espeak
def test_the_machine_speaks_a_word_at_16_khz_without_silence_around_it():
    word, longer = speech.say("banana", "en-us"), speech.say("banana banana", "en-us")
    assert 0.3 < word.size / 16_000 < 0.8
    assert longer.size > 1.5 * word.size
    assert np.abs(word[:1600]).max() > 0.02 and np.abs(word[-1600:]).max() > 0.005


@needs_espeak
def test_pitch_and_speed_are_heard():
    slow, fast = (speech.say("good morning", "en-us", words_per_minute=rate) for rate in (100, 300))
    assert slow.size > 1.5 * fast.size
    assert not np.array_equal(*(speech.say("good", "en-us", pitch=pitch)[:4000] for pitch in (20, 80)))


@needs_espeak
def test_utterances_are_many_voiced_short_in_range_and_repeat_by_seed():
    english, accents, variants = speech.voices()
    assert len(english) >= 5 and len(accents) >= 30 and len(variants) >= 30
    made = [speech.speak(1, index) for index in range(20)]
    usable = [audio for audio in made if audio is not None]
    assert len(usable) >= 12
    for audio in usable:
        assert audio.dtype == np.float32 and 0.25 <= audio.size / 16_000 <= 3.1
        assert 0.01 < np.abs(audio).max() <= 1
    index = next(i for i, audio in enumerate(made) if audio is not None)
    np.testing.assert_array_equal(made[index], speech.speak(1, index))
    assert len({audio.size for audio in usable}) > len(usable) // 2


@needs_espeak
def test_text_that_looks_like_an_option_is_spoken():
    assert speech.say("-h", "en-us").size > 1000


@needs_espeak
def test_an_unknown_voice_is_an_error_and_not_silently_another_voice():
    with pytest.raises(UsageError, match="no voice 'xx-no-such'"):
        speech.say("hello", "xx-no-such")
