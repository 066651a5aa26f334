"""Embeddings read back: the same numbers from files and from a table, with what each row is."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import hear_models
from hear_models.corpus.reading import load_embeddings
from hear_models.corpus.run import embed_files
from hear_models.errors import FileError, InputError


@pytest.fixture(scope="module")
def model():
    return hear_models.load_model("mwmae-nano")


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "sounds"
    (folder / "sub").mkdir(parents=True)
    for index, name in enumerate(("a.wav", "sub/b.wav")):
        samples = np.random.default_rng(index).normal(0, 0.1, 16_000 + 4_000 * index)
        soundfile.write(folder / name, samples, 16_000)
    return folder


@pytest.mark.parametrize("options", [{}, {"window_s": 0.5}, {"kind": "timestamps"}], ids=str)
def test_folder_and_table_say_the_same(model, recordings, tmp_path, options):
    pytest.importorskip("pyarrow")
    embed_files([recordings], tmp_path / "out", model, **options)
    embed_files([recordings], tmp_path / "out.parquet", model, **options)
    x, rows = load_embeddings(tmp_path / "out")
    y, others = hear_models.load_embeddings(str(tmp_path / "out.parquet"))
    np.testing.assert_array_equal(x, y)
    assert rows == others and len(rows) == len(x) and x.dtype == np.float32
    assert {row["path"] for row in rows} == {"a.wav", "sub/b.wav"}
    assert set(rows[0]) == {"path", *(["timestamp_ms"] if "kind" in options else ["start_ms", "end_ms"])}


def test_one_file_alone(model, recordings, tmp_path):
    embed_files([recordings], tmp_path / "out", model)
    x, rows = load_embeddings(tmp_path / "out" / "sub" / "b.wav.npz")
    assert rows[0]["path"] == "b.wav"
    np.testing.assert_allclose(x[0], hear_models.embed(str(recordings / "sub" / "b.wav")), atol=1e-5)


def test_what_is_none_or_damaged_is_told(model, recordings, tmp_path):
    with pytest.raises(InputError, match="not there"):
        load_embeddings(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no embeddings"):
        load_embeddings(tmp_path / "empty")
    embed_files([recordings], tmp_path / "out", model)
    file = tmp_path / "out" / "a.wav.npz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(FileError, match="Embed the recording"):
        load_embeddings(tmp_path / "out")
