"""The command itself: a mistyped one is told which was meant, and the package shows what it has."""

from __future__ import annotations

import warnings

import pytest
from click.testing import CliRunner

import hear_models
import hear_models.cli.main as main_module
from hear_models.cli.main import cli
from hear_models.errors import HearModelsError


@pytest.mark.parametrize(
    ("typed", "meant"), [("embd", "embed"), ("valdate", "validate"), ("leaderbord", "leaderboard")]
)
def test_a_mistyped_command_is_told_which_one_was_meant(typed, meant):
    done = CliRunner().invoke(cli, [typed, "x"])
    assert done.exit_code == 2 and f"No such command '{typed}'. Did you mean '{meant}'?" in done.output


def test_a_command_like_no_other_is_only_refused():
    done = CliRunner().invoke(cli, ["qqqqqq"])
    assert done.exit_code == 2 and "Did you mean" not in done.output


def test_the_public_functions_are_listed_before_they_are_used():
    assert set(hear_models.__all__) <= set(dir(hear_models))


def test_a_terminal_obeys_nothing_in_an_error(run, monkeypatch):
    def fails(**_):
        warnings.warn("a\x1b[31mb", stacklevel=1)
        raise HearModelsError("a\x1b[2J\x9b\nb\udcff\rc")

    monkeypatch.setattr(main_module.cli, "main", fails)
    code, _, err = run("list")
    assert code == 1 and err.splitlines() == [r"warning: a\x1b[31mb", r"error: a\x1b[2J\x9b", r"b\udcff\rc"]
