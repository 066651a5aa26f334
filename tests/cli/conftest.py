"""Runs `hear-models` inside the test's process, through the same door as the installed command."""

from __future__ import annotations

import sys

import pytest

from hear_models.cli.main import main


@pytest.fixture
def run(monkeypatch, capsys):
    """Arguments of `hear-models` → (exit code, standard output, standard error)."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hear-models", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capsys.readouterr()
        return int(done.value.code or 0), out, err

    return call
