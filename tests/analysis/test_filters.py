"""Filters beside where they began and beside the mel scale, from models of both kinds and from files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hear_models import leaf, sincnet
from hear_models.analysis.filters import analyse_filters, to_mel
from hear_models.checkpoints.safetensors_file import write_checkpoint
from hear_models.cli.analyze import command
from hear_models.errors import UsageError

FAMILIES = {"leaf": leaf, "sincnet": sincnet}
SMALL = {"width_factor": 0.125, "depth_factor": 0.25, "n_filters": 8}


def saved(path, family, init, seed=3, move=None):
    """A file as pretraining writes it; `move` changes the filters."""
    module = FAMILIES[family]
    config = module.Config(**SMALL, init=init)
    model = module.Model(config, seed=seed)
    if move is not None:
        with torch.no_grad():
            move(model.frontend.filters)
    settings = {**SMALL, "init": init}
    write_checkpoint(
        path,
        tensors=model.state_dict(),
        family=family,
        parts=("encoder",),
        config=settings,
        notes={"recipe": {"family": family, "seed": seed}, "step": 1},
        dtype="float32",
    )
    return str(path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("init", ["mel", "uniform"])
def test_what_did_not_move_is_where_it_began(tmp_path, family, init):
    analysis = analyse_filters(saved(tmp_path / "a.safetensors", family, init))
    assert analysis.began_with == f"init={init}, seed 3"
    np.testing.assert_array_equal(analysis.now.centre, analysis.began.centre)
    assert analysis.summary()["moved"] == 0
    away = analysis.summary()["median_distance_from_mel_mel"]
    assert (away == 0) if init == "mel" else away > 10


def test_a_moved_gabor_is_found_and_measured(tmp_path):
    """Filter 5 goes up by 0.1 radian a sample: 0.1 / (2 pi) of 16 kHz."""

    def up(filters):
        filters[5, 0] += 0.1
        filters[2, 1] *= 0.5  # an envelope half as long is a band twice as wide

    analysis = analyse_filters(saved(tmp_path / "a.safetensors", "leaf", "mel", move=up))
    assert analysis.now.centre[5] - analysis.began.centre[5] == pytest.approx(16_000 * 0.1 / (2 * np.pi), rel=1e-5)
    assert analysis.now.bandwidth[2] / analysis.began.bandwidth[2] == pytest.approx(2, rel=1e-5)
    summary = analysis.summary()
    assert summary["moved"] == 1 and summary["filters"] == 8
    expected = to_mel(analysis.now.centre[5:6]) - to_mel(analysis.began.centre[5:6])
    assert summary["largest_move_mel"] == pytest.approx(float(expected[0]))


def test_the_bandwidth_of_a_gabor_is_that_of_its_response():
    """Full width at half height of the magnitude of its Fourier transform, measured on a fine grid."""
    frontend = leaf.Model(leaf.Config(**SMALL), seed=0).frontend
    response = torch.fft.fft(frontend.gabors(torch.float64), 2**17).abs()[4]
    above = (response > response.max() / 2).nonzero()
    width = float(above.max() - above.min()) * 16_000 / 2**17
    assert float(frontend.bandwidth_hz[4].detach()) == pytest.approx(width, rel=0.01)


def test_another_file_may_be_what_it_was_before(tmp_path):
    begin = saved(tmp_path / "begin.safetensors", "sincnet", "uniform_hz", seed=9)
    end = saved(tmp_path / "end.safetensors", "sincnet", "mel", move=lambda filters: filters[:, 0].add_(30))
    analysis = analyse_filters(end, begin)
    assert analysis.began_with == begin
    np.testing.assert_array_equal(analysis.began.centre, analyse_filters(begin).now.centre)
    with pytest.raises(UsageError, match="8 filters and sincnet-nano"):
        analyse_filters(end, "sincnet-nano")


def test_the_command_writes_a_row_a_filter_and_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    file = saved(tmp_path / "a.safetensors", "leaf", "truncated_normal")
    table, picture = tmp_path / "filters.csv", tmp_path / "filters.png"
    done = CliRunner().invoke(command, ["filters", file, "-o", str(table), "--plot", str(picture)])
    assert done.exit_code == 0 and max(map(len, done.output.replace(str(tmp_path), "").splitlines())) <= 80, done.output
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    now = analyse_filters(file).now
    assert [float(row["centre_hz"]) for row in rows] == pytest.approx(list(now.centre), abs=1e-3)
    assert set(rows[0]) >= {"filter", "bandwidth_hz", "began_centre_hz", "began_bandwidth_hz", "mel_centre_hz"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    summary = json.loads(CliRunner().invoke(command, ["filters", file, "--json"]).output)
    assert summary["filters"] == 8


@pytest.mark.parametrize("model", ["mwmae-nano", "logmel-cola-nano", "logmel-stats"])
@pytest.mark.filterwarnings("ignore:.*no trained weights")
def test_models_without_learned_filters_are_refused(model):
    with pytest.raises(UsageError, match="no filters that are learned"):
        analyse_filters(model)


def test_wrong_use_leaves_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    file = saved(tmp_path / "a.safetensors", "leaf", "mel")
    done = CliRunner().invoke(command, ["filters", file, "-o", str(tmp_path / "a.csv"), "--plot", "a.docx"])
    assert isinstance(done.exception, UsageError) and not (tmp_path / "a.csv").exists()
