"""`hear-models check` finds every flipped bit in what was written, and says how to make it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from hear_models.cli.main import cli
from hear_models.corpus.run import embed_files
from hear_models.errors import UsageError
from hear_models.rereading.check import check
from hear_models.training.loop import pretrain
from hear_models.training.recipe import read_recipe
from hear_models.training.run import Run
from hear_models.zoo import load_model

TINY = """family = "mwmae"
[model]
encoder_width = 24
encoder_depth = 1
encoder_heads = 3
decoder_width = 16
decoder_depth = 1
[optimiser]
steps = 1
batch = 2
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of each: embeddings, a table, a run."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "in").mkdir()
    soundfile.write(folder / "in" / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 32000), 16000)
    model = load_model("logmel-stats")
    embed_files([folder / "in"], folder / "out", model)
    pytest.importorskip("pyarrow")
    embed_files([folder / "in"], folder / "table.parquet", model)
    (folder / "tiny.toml").write_text(TINY)
    pretrain(read_recipe(str(folder / "tiny.toml")), Run(folder / "run", (folder / "in",)), lambda line: None)
    return folder


def problems(folder: Path) -> list[str]:
    return [str(one.path.relative_to(folder)) for one in check([folder]) if one.problem]


def test_what_is_whole_is_found_and_whole(written):
    kinds = {one.kind for one in check([written])}
    assert kinds == {"embeddings", "table of embeddings", "features", "training state", "checkpoint"}
    assert problems(written) == []


@pytest.mark.parametrize(
    "pattern", ["out/*.npz", "*.parquet", "run/state.safetensors", "run/model.safetensors", "run/features/*.f16"]
)
def test_flipped_bits_and_cuts_are_found(written, pattern):
    (path,) = written.glob(pattern)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    unnoticed = []
    try:
        for place in [0, 4, len(whole) - 1, *rng.integers(0, len(whole), 60).tolist()]:
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(broken)
            if not problems(written):
                unnoticed.append(place)
        path.write_bytes(whole[:-20])
        assert len(problems(written)) == 1
    finally:
        path.write_bytes(whole)
    assert unnoticed == []


def test_the_command_says_what_to_make_again_and_ends_with_1(written):
    (path,) = (written / "out").glob("*.npz")
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:100] + b"?" + whole[101:])
        done = CliRunner().invoke(cli, ["check", str(written)])
    finally:
        path.write_bytes(whole)
    assert done.exit_code == 1 and "1 damaged" in done.output
    (line,) = [line for line in done.output.splitlines() if line.startswith("damaged: ")]
    assert "a.wav.npz" in line and line.endswith("The same `hear-models embed` command makes it again.")
    assert CliRunner().invoke(cli, ["check", str(written)]).exit_code == 0


def test_nothing_to_check_is_wrong_use(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for path in (tmp_path, tmp_path / "a.txt", tmp_path / "gone"):
        with pytest.raises(UsageError):
            list(check([path]))


def test_what_a_killed_run_left_is_named(tmp_path):
    (tmp_path / ".hear-models-0123456789abcdef.part").write_bytes(b"half")
    (one,) = check([tmp_path])
    assert one.kind == "left over"
