"""The transformer inside scikit-learn's own machinery."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hear_models
from hear_models.errors import UsageError
from hear_models.sklearn import Embedder


def clips() -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    t = np.arange(8_000) / 16_000
    tones = [0.3 * np.sin(2 * np.pi * (300 if i % 2 else 3_000) * t) + rng.normal(0, 0.01, 8_000) for i in range(12)]
    return [tone.astype(np.float32) for tone in tones], np.arange(12) % 2


def test_it_is_what_embed_gives():
    x, _ = clips()
    embedder = Embedder().fit(x)
    np.testing.assert_array_equal(embedder.transform(x), np.stack(hear_models.embed(x)))
    assert embedder.n_features_out_ == 512 and len(embedder.get_feature_names_out()) == 512
    steps = Embedder(kind="timestamps").fit(x).transform(x[:2])
    assert steps.shape == (2,) and steps[0].shape[1] == 256


def test_pipelines_searches_clones_and_pickles(tmp_path):
    x, y = clips()
    pipeline = make_pipeline(Embedder(), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"embedder__model": ["mwmae-nano", "mae-nano"]}, cv=2).fit(x, y)
    assert search.best_score_ == 1.0
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert len(pickle.dumps(search.best_estimator_)) < 200_000, "the network is no part of it"
    np.testing.assert_array_equal(again.predict(x), y)
    assert clone(Embedder(model="mae-nano", cache="x")).get_params()["model"] == "mae-nano"


def test_forms_of_a_clip_and_a_cache(tmp_path, monkeypatch):
    x, _ = clips()
    soundfile.write(tmp_path / "a.wav", x[0], 16_000, subtype="FLOAT")
    forms = [str(tmp_path / "a.wav"), tmp_path / "a.wav", x[0], torch.from_numpy(x[0])]
    embedder = Embedder(cache=str(tmp_path / "cache")).fit(forms)
    first = embedder.transform(forms)
    assert np.abs(first - first[0]).max() < 1e-6
    monkeypatch.setattr("hear_models.sklearn.embedder.embed", None)  # nothing is computed again
    np.testing.assert_array_equal(Embedder(cache=str(tmp_path / "cache")).fit(forms).transform(forms), first)


def test_wrong_parameters_are_told_when_fitting():
    with pytest.raises(UsageError, match="kind='scen' is unknown"):
        Embedder(kind="scen").fit([])
    with pytest.raises(UsageError, match="mwmae-nan"):
        Embedder(model="mwmae-nan").fit([])
