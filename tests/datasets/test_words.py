"""The digits benchmark is only honest if pretraining never says a digit."""

from __future__ import annotations

import re

import numpy as np

from hear_models.datasets.words import DIGIT_WORDS, PHRASES, WORDS, pseudo_word, utterance

DIGITS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
HOMOPHONES = {"won", "to", "too", "for", "fore", "ate", "sics", "sicks", "oh"}


def test_no_utterance_holds_a_digit_or_a_homophone_of_one():
    assert DIGITS | HOMOPHONES <= DIGIT_WORDS
    said = set(re.findall(r"[a-z]+", " ".join((*WORDS, *PHRASES)).lower()))
    rng = np.random.default_rng(0)
    for _ in range(3000):
        said |= set(re.findall(r"[a-z]+", utterance(rng).lower()))
    assert not said & DIGIT_WORDS
    assert not any(digit in word for word in said for digit in DIGITS - {"one"})  # as in "sixty"; "one" sits in "stone"


def test_words_are_many_plain_and_not_repeated():
    assert len(WORDS) == len(set(WORDS)) > 400
    assert all(re.fullmatch(r"[a-z]+", word) for word in WORDS)
    assert {word[0] for word in WORDS} >= set("abcdefghijklmnopqrstuvwyz")


def test_phrases_are_whole_although_their_lines_are_wrapped():
    assert len(PHRASES) > 30
    assert all(re.fullmatch(r"[a-zI]+( [a-zI]+)+", phrase) for phrase in PHRASES)


def test_invented_words_can_be_spoken_and_vary():
    rng = np.random.default_rng(1)
    invented = [pseudo_word(rng) for _ in range(500)]
    assert len(set(invented)) > 350
    assert all(re.fullmatch(r"[a-z]*[aeiou][a-z]*", word) for word in invented)
