"""Pictures: probit axes, every curve drawn, and a sentence where matplotlib is not installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hear_models.errors import UsageError
from hear_models.pictures import check_picture
from hear_models.speaker.metrics import det_points
from hear_models.speaker.plots import draw_curves, draw_det, probit


def test_rates_are_clipped_for_drawing_only():
    np.testing.assert_allclose(probit([0, 0.5, 1]), [-4.753424, 0, 4.753424], atol=1e-5)


def test_pictures_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    fpr, fnr, _ = det_points([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1])
    draw_det(tmp_path / "det.svg", {"one": (fpr, fnr), "other": (fnr[::-1], fpr[::-1])}, "two models")
    text = (tmp_path / "det.svg").read_text("utf-8")
    assert "<svg" in text and text.count('id="line2d_') > 4
    draw_curves(tmp_path / "curve.png", [0, 0.1, 0.5], {"one": [0.1, 0.2, 0.4]}, "bins")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no picture's name"):
        check_picture(tmp_path / "det.doc")


def test_without_matplotlib_the_way_to_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(UsageError, match=r"pip install 'hear-models\[plots\]'"):
        check_picture(tmp_path / "det.png")
