"""The command itself: a mistyped one is told which was meant, and the package shows what it has."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import hear_models
from hear_models.cli.main import cli


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
