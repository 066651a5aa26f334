"""The places of official weights on 127.0.0.1, an empty cache, and manifests of small official checkpoints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fetching.manifests import MANIFESTS
from hub.places import PlacesServer

from hear_models.checkpoints import manifest as manifests

GOLDEN = Path(__file__).parent.parent / "golden"
FLAX = GOLDEN / "mwmae" / "mwmae_mini"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlacesServer]:
    """The server, and an environment of this process that leads there and to an empty cache in `tmp_path / "cache"`."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("HEAR_MODELS_"):
            monkeypatch.delenv(name)
    weights = tmp_path / "weights"
    weights.mkdir()
    for name, text in MANIFESTS.items():
        (weights / f"{name}.toml").write_text(text)
    monkeypatch.setattr(manifests, "resource", lambda name: weights)
    quick = SimpleNamespace(sleep=lambda seconds: None, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("hear_models.fetching.web.time", quick)
    with PlacesServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HEAR_MODELS_CACHE", str(tmp_path / "cache"))
        server.use_gdown(monkeypatch)
        yield server


@pytest.fixture
def drive(places: PlacesServer) -> PlacesServer:
    """A folder as the authors' is said to be: two runs, each with checkpoints and a configuration."""
    for run in ("mwmae_mini_run1", "mae_mini_run1"):
        for file in ("checkpoint_5", "config.json"):
            places.put_in_drive(f"{run}/{file}", (FLAX / file).read_bytes())
    places.put_in_drive("mwmae_mini_run1/checkpoint_4", b"an older one")
    return places


@pytest.fixture
def run(monkeypatch, capsys):
    """Arguments of `hear-models` → (exit code, standard output, standard error)."""
    from hear_models.cli.main import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hear-models", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return call
