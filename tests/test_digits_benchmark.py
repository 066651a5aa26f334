"""The digits benchmark must be honest: the held-out speaker untouched, C chosen inside, chance scored as chance."""

from __future__ import annotations

import importlib.util
import json
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

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "digits.py"

pytest.importorskip("sklearn", reason="the probe needs scikit-learn (extra `eval`)")
spec = importlib.util.spec_from_file_location("digits", SCRIPT)
assert spec is not None and spec.loader is not None
digits = importlib.util.module_from_spec(spec)
sys.modules["digits"] = digits
spec.loader.exec_module(digits)

SPEAKERS = ["ann", "bob", "cem", "dora"]


def made_up(speakers: list[str], each: int = 5, noise: float = 0.1, seed: int = 0):
    """Embeddings [recordings, 12] in which the digit is plain and every speaker shifts everything."""
    rng = np.random.default_rng(seed)
    digit = np.tile(np.repeat(np.arange(10), each), len(speakers))
    speaker = np.repeat(speakers, 10 * each)
    centres = rng.standard_normal((10, 12))
    shift = np.repeat(0.1 * rng.standard_normal((len(speakers), 12)), 10 * each, axis=0)
    return centres[digit] + shift + noise * rng.standard_normal((digit.size, 12)), digit, speaker


def test_clear_embeddings_score_high_for_every_speaker():
    score = digits.evaluate_embeddings(*made_up(SPEAKERS))
    assert list(score.per_speaker) == SPEAKERS
    assert score.mean > 95 and score.mean == pytest.approx(np.mean(list(score.per_speaker.values())))
    assert score.held_out is None


def test_embeddings_that_say_nothing_score_at_chance():
    embeddings, digit, speaker = made_up(SPEAKERS, each=20)
    noise = np.random.default_rng(1).standard_normal(embeddings.shape)
    assert 5 < digits.evaluate_embeddings(noise, digit, speaker).mean < 16


def test_the_held_out_speaker_has_no_influence_on_anything_else():
    embeddings, digit, speaker = made_up([*SPEAKERS, digits.HELD_OUT])
    without = speaker != digits.HELD_OUT
    wild = embeddings.copy()
    wild[~without] = 1e6
    expected = digits.evaluate_embeddings(embeddings[without], digit[without], speaker[without])
    assert digits.evaluate_embeddings(wild, digit, speaker) == expected
    scored = digits.evaluate_embeddings(wild, digit, speaker, held_out=True)
    assert scored.per_speaker == expected.per_speaker and scored.held_out <= 20


def test_a_speakers_own_recordings_do_not_choose_his_c():
    """Wrong labels for one speaker change his score, but not the C with which he is scored."""
    embeddings, digit, speaker = made_up(SPEAKERS, noise=0.8)
    wrong = np.where(speaker == "bob", (digit + 1) % 10, digit)
    right, spoilt = (digits.evaluate_embeddings(embeddings, labels, speaker) for labels in (digit, wrong))
    assert right.chosen_c["bob"] == spoilt.chosen_c["bob"]
    assert spoilt.per_speaker["bob"] < 20 < 50 < right.per_speaker["bob"]


def test_the_held_out_speaker_is_scored_when_asked_for_with_an_interval():
    score = digits.evaluate_embeddings(*made_up([*SPEAKERS, digits.HELD_OUT]), held_out=True)
    low, high = score.held_out_interval
    assert score.held_out_recordings == 50 and low <= score.held_out <= high and score.held_out > 90


def test_pairs_fitted_once_choose_the_same_c_as_the_nested_loops():
    embeddings, digit, speaker = made_up(SPEAKERS, noise=1.0)
    features = embeddings.astype(np.float32)
    chosen = {}
    for outer in SPEAKERS:
        totals = np.zeros(len(digits.C_GRID))
        for inner in SPEAKERS:
            if inner != outer:
                train = ~np.isin(speaker, [outer, inner])
                totals += digits._accuracies(features, digit, train, [speaker == inner], digits.C_GRID)[0]
        chosen[outer] = digits.C_GRID[int(np.argmax(totals))]
    assert digits.evaluate_embeddings(embeddings, digit, speaker).chosen_c == chosen


def test_a_constant_feature_does_no_harm():
    embeddings, digit, speaker = made_up(SPEAKERS)
    constant = np.concatenate([embeddings, np.full((len(embeddings), 1), 7.3)], axis=1)
    assert digits.evaluate_embeddings(constant, digit, speaker).mean > 95


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=50)
def test_the_interval_covers_each_end_with_the_promised_probability(case):
    from scipy.stats import binom

    correct, n = case
    low, high = (limit / 100 for limit in digits.binomial_interval(correct, n))
    assert 0 <= low <= correct / n <= high <= 1
    assert low == 0 if correct == 0 else binom.sf(correct - 1, n, low) == pytest.approx(0.025)
    assert high == 1 if correct == n else binom.cdf(correct, n, high) == pytest.approx(0.025)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A miniature of the data set: each digit a tone of its own, each speaker a detuning; 8 kHz."""
    root = tmp_path_factory.mktemp("digits")
    rng = np.random.default_rng(0)
    for s, name in enumerate([*SPEAKERS[:3], digits.HELD_OUT]):
        (root / name).mkdir()
        for digit in range(10):
            for index in range(3):
                n = int(rng.integers(1600, 4000))
                tone = 0.3 * np.sin(2 * np.pi * (300 + 300 * digit) * (1 + 0.01 * s) * np.arange(n) / 8000)
                audio = tone + 0.003 * rng.standard_normal(n)
                soundfile.write(root / name / f"{digit}_{index}.flac", audio, 8000)
    return root


def test_the_command_prints_a_table_at_80_columns_and_writes_json(folder, tmp_path):
    command = [sys.executable, SCRIPT, folder, "--random", "0", "--theo", "--json", tmp_path / "rows.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["name"] for row in rows] == list(digits.FLOORS)
    assert all(row["score"]["mean"] > 80 and row["score"]["held_out"] is not None for row in rows)


def test_the_held_out_speaker_is_not_even_opened_unless_asked_for(folder, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(folder, broken)
    for path in (broken / digits.HELD_OUT).iterdir():
        path.write_bytes(b"not a recording")
    recordings = digits.read_recordings(broken, held_out=False)
    assert digits.HELD_OUT not in set(recordings.speaker) and len(recordings.clips) == 90
    with pytest.raises(AudioFileError):
        digits.read_recordings(broken, held_out=True)


def test_models_are_scored_as_they_embed_and_random_twins_differ(folder):
    from hear_models import mwmae

    model = mwmae.Model(mwmae.Config(encoder_width=12, encoder_depth=1, encoder_heads=2), seed=0)
    recordings = digits.read_recordings(folder, held_out=False)
    row = digits.score("tiny", digits.model_embedder(model), recordings, held_out=False)
    assert row.dim == model.scene_embedding_size == 60 and row.score.mean > 50
    twins = [digits.model_embedder(digits.random_twin(model, seed))(recordings.clips[:2]) for seed in (0, 1)]
    assert (twins[0] == digits.model_embedder(model)(recordings.clips[:2])).all()
    assert not (twins[0] == twins[1]).all()


def test_too_few_speakers_is_one_clear_error(folder, tmp_path):
    for name in SPEAKERS[:2]:
        shutil.copytree(folder / name, tmp_path / name)
    with pytest.raises(UsageError, match="at least 3"):
        digits.read_recordings(tmp_path, held_out=False)
