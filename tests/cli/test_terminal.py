"""What commands share at the terminal: nothing of a progress line stays, and Ctrl-C is one line and exit code 130."""

from __future__ import annotations

import sys

import pytest

from hear_models.cli.terminal import CLEARED, WIDTH, ProgressLine, stopping_with


def test_a_line_of_progress_is_replaced_and_gone_at_the_end(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(ZeroDivisionError), ProgressLine() as line:
        line.say("1 of 2")
        line.say("x" * 200)
        raise ZeroDivisionError
    out, err = capsys.readouterr()
    assert out == "" and err == f"{CLEARED}1 of 2{CLEARED}{'x' * WIDTH}{CLEARED}"


def test_a_log_and_a_command_that_wants_none_get_no_line(monkeypatch, capsys):
    with ProgressLine() as line:
        line.say("nobody looks")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressLine(wanted=False) as line:
        line.say("not wanted")
    assert capsys.readouterr().err == ""


def test_ctrl_c_says_what_is_kept_and_ends_with_130(capsys):
    with pytest.raises(SystemExit) as end, stopping_with("stopped: all is kept"):
        raise KeyboardInterrupt
    assert end.value.code == 130 and capsys.readouterr().err == "stopped: all is kept\n"
