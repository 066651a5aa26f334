"""The transformer inside scikit-learn's own machinery."""

from __future__ import annotations

import io
import pickle
import re

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
from hear_models.errors import AudioFileError, FileError, InputError, UsageError
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


class Streams:
    """As torchcodec's decoder, which `datasets` gives."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples

    def get_all_samples(self):
        class Samples:
            data, sample_rate = torch.from_numpy(self.samples)[None], 16_000

        return Samples()


def forms(folder, samples) -> dict[str, object]:
    """X in all forms that people have, of two clips of equal sound."""
    pandas = pytest.importorskip("pandas")
    files = [folder / "0.wav", folder / "1.wav"]
    for file in files:
        soundfile.write(file, samples, 16_000, subtype="FLOAT")
    texts, content = list(map(str, files)), files[0].read_bytes()
    record = {"path": "nowhere.wav", "array": samples, "sampling_rate": 16_000}
    return {
        "paths": files,
        "a tuple": tuple(texts),
        "an array of paths": np.array(texts),
        "a column of paths": np.array(texts)[:, None],
        "an array of Paths": np.array(files, dtype=object),
        "a Series": pandas.Series(texts, index=[7, 3]),
        "a frame": pandas.DataFrame({"path": texts}),
        "a generator": (file for file in files),
        "glob": folder.glob("*.wav"),
        "bytes": [content, bytearray(content)],
        "files": [io.BytesIO(content), open(files[0], "rb")],
        "pairs": [(samples, 16_000), [samples, np.int64(16_000)]],
        "records": [record, {**record, "path": None}],
        "undecoded records": [{"bytes": content, "path": "nowhere.wav"}, {"bytes": None, "path": texts[0]}],
        "decoders": [Streams(samples), Streams(samples)],
        "a batch": np.stack([samples, samples]),
        "tensors": torch.from_numpy(np.stack([samples, samples])).requires_grad_(),
    }


@pytest.mark.parametrize("cached", [False, True])
def test_every_form_of_recordings_gives_the_same_embeddings(tmp_path, cached):
    x, _ = clips()
    embedder = Embedder(model="logmel-stats", cache=str(tmp_path / "cache") if cached else None).fit(None)
    (tmp_path / "a").mkdir()
    expected = np.stack(hear_models.embed(x[:1], "logmel-stats"))
    for name, given in forms(tmp_path / "a", x[0]).items():
        found = embedder.transform(given)
        assert found.shape == (2, 160), name
        np.testing.assert_allclose(found, expected.repeat(2, 0), atol=1e-5, err_msg=name)
    if cached:  # of streams too the content counts, not where an object lies in memory
        other = [io.BytesIO((tmp_path / "a" / "0.wav").read_bytes()[:4044]), Streams(x[1])]
        soundfile.write(tmp_path / "short.wav", x[0][:4000], 16_000, subtype="FLOAT")
        other[0] = io.BytesIO((tmp_path / "short.wav").read_bytes())
        fresh = Embedder(model="logmel-stats").fit(None)
        found = embedder.transform(other)
        np.testing.assert_allclose(found[1], fresh.transform([x[1]])[0], atol=1e-5)
        assert np.abs(found - expected).max(1).min() > 1e-3


@pytest.mark.parametrize("cached", [False, True])
def test_what_cannot_be_embedded_is_one_sentence(tmp_path, cached):
    pandas = pytest.importorskip("pandas")
    x, _ = clips()
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    embedder = Embedder(model="logmel-stats", cache=str(tmp_path / "cache") if cached else None).fit(None)
    for given, kind, sentence in (
        ([tmp_path / "absent.wav"], AudioFileError, "absent.wav"),
        ([tmp_path], AudioFileError, str(tmp_path.name)),
        ([{"path": str(tmp_path / "absent.wav")}], AudioFileError, "absent.wav"),
        ([tmp_path / "bad.wav"], AudioFileError, "bad.wav"),
        ([{"text": "x"}], InputError, 'without "array"'),
        ([None], InputError, "is a NoneType"),
        (str(tmp_path / "bad.wav"), UsageError, "X is one clip"),
        (x[0], UsageError, "X is one clip"),
        ((x[0], 16_000), UsageError, "X is one clip"),
        (pandas.DataFrame({"path": ["a"], "label": ["b"]}), UsageError, "2 columns"),
        ([], InputError, "X is empty"),
        ([np.array([1, 2, 3])], InputError, "int"),
    ):
        with pytest.raises(kind, match=re.escape(sentence)):
            embedder.transform(given)
    with pytest.raises(UsageError, match="model is a "):
        Embedder(model=hear_models.load_model("logmel-stats")).fit(None)


def test_a_cache_that_is_damaged_or_cannot_be(tmp_path):
    x, _ = clips()
    embedder = Embedder(model="logmel-stats", cache=str(tmp_path / "cache")).fit(x)
    first = embedder.transform(x[:2])
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-3])
    np.testing.assert_array_equal(embedder.transform(x[:2]), first)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        Embedder(model="logmel-stats", cache=str(tmp_path / "file")).fit(x).transform(x[:1])
