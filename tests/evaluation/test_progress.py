"""What a person sees of a run: on 80 columns, with an end that follows from what was measured."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_models.evaluation.runs.estimate import Estimate, Work, bounds, duration, row_seconds
from hear_models.evaluation.runs.progress import Reporter, State, fit, left, lines
from hear_models.evaluation.runs.summary import RunSummary, SeedScores, plan_text, seeds_text, table

LONG = "tfds_crema_d-1.0.0-full-of-words-without-an-end-and-more"


def test_no_end_is_promised_before_a_job_of_the_kind_was_measured():
    estimate = Estimate()
    jobs = [Work("judge", "esc50", 100.0), Work("judge", "libricount", 200.0)]
    assert estimate.left(jobs) is None
    assert estimate.left([]) == 0.0
    estimate.measured(jobs[0], 10.0)
    assert estimate.left(jobs) == pytest.approx(30.0)
    assert estimate.left([Work("embed", "esc50", 1.0)]) is None


def test_a_task_that_was_measured_goes_by_its_own_time():
    estimate = Estimate()
    estimate.measured(Work("judge", "esc50", 100.0), 10.0)
    estimate.measured(Work("judge", "libricount", 100.0), 50.0)
    assert estimate.seconds(Work("judge", "esc50", 100.0)) == pytest.approx(10.0)
    assert estimate.seconds(Work("judge", "other", 100.0)) == pytest.approx(30.0)


def test_jobs_side_by_side_end_sooner_but_not_before_the_longest():
    estimate = Estimate()
    work = Work("judge", "esc50", 1.0)
    estimate.measured(work, 10.0)
    assert estimate.left([work] * 4, at_once=2) == pytest.approx(20.0)
    assert estimate.left([], [(work, 4.0)], at_once=8) == pytest.approx(6.0)
    assert estimate.left([work], [(work, 4.0)], at_once=8) == pytest.approx(10.0)
    assert estimate.left([], [(work, 40.0)], at_once=8) == 0.0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "1 s"),
        (59, "59 s"),
        (89, "89 s"),
        (95, "2 min"),
        (3600, "60 min"),
        (5400, "1 h 30 min"),
        (200_000, "2 days"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert duration(seconds) == said


@given(
    done=st.integers(0, 99_999),
    of=st.integers(0, 99_999),
    running=st.integers(0, 70),
    left=st.none() | st.floats(0, 1e7),
    failed=st.integers(0, 999),
)
def test_the_changing_lines_fit_on_80_columns(done, of, running, left, failed):
    state = State(
        embeddings=of,
        embeddings_done=min(done, of),
        embedding=f"mwmae-nano  {LONG}",
        clips=(done, of),
        jobs=of,
        jobs_done=min(done, of),
        running=[(f"mwmae-nano  {LONG}  seed {k}", 60.0 * k) for k in range(running)],
        left_s=left,
        failed=failed,
    )
    shown = lines(state, 1.7e9)
    assert all(len(line) <= 80 for line in shown)
    assert len(shown) <= 12


def test_the_lines_say_what_runs_what_is_left_and_when_it_ends():
    state = State(4, 1, "mae  esc50", (30, 200), 12, 3, running=[("mae  esc50  seed 2", 42.0)], left_s=600.0, failed=1)
    text = "\n".join(lines(state, 1.7e9))
    for said in ("1/4", "mae  esc50", "30/200 clips", "3/12", "seed 2", "42 s", "1 failed", "10 min left, until"):
        assert said in text


def test_a_log_gets_one_plain_line_for_each_thing_that_ended(capsys):
    with Reporter(plain=True) as reporter:
        reporter.state.embeddings, reporter.state.jobs = 1, 2
        reporter.embedded("mae  esc50", False, 3.0)
        reporter.state.left_s = 9.0
        reporter.scored("mae  esc50  seed 0", "0.5000", 9.0)
        reporter.failed("mae  esc50  seed 1", "boom [red]not markup[/red]")
        reporter.finished("mae  esc50", 2, "0.5")
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    assert first == "[1/1] embedded mae  esc50 (3 s)"
    assert re.fullmatch(r"\[1/2\] mae  esc50  seed 0: 0\.5000 \(9 s; 9 s left, until \d\d:\d\d\)", second)
    assert third == "failed: mae  esc50  seed 1: boom [red]not markup[/red]"


def test_long_names_are_cut_in_their_middle():
    assert fit("short", " 1", 20) == "short 1"
    assert fit("a" * 50 + "z" * 50, " 12 s", 40) == "a" * 16 + "…" + "z" * 18 + " 12 s"


# ----------------------------------------------------------------------------------------------------- the last words
@pytest.fixture
def summary() -> RunSummary:
    long = "beijing_opera-v1.0-hear2021-full"
    rows = [
        SeedScores("mae", "mae-0a1b2c3d", long, "unofficial", "event_onset_200ms_fms", 8, {0: 0.5, 1: 0.75}),
        SeedScores("mae", "mae-0a1b2c3d", "esc50-v2.0.0-full", "synthetic", "top1_acc", 8, {0: 0.5}),
        SeedScores("mae", "mae-0a1b2c3d", "tags", "official", "mAP", 8, {0: 0.5, 1: None}),
        SeedScores("mae", "mae-0a1b2c3d", "none", "official", "mAP", None, {}, [0, 1]),
    ]
    return RunSummary("paper", "builtin", [0, 1], "results", False, rows, jobs=8, kept=1, done=4)


def test_the_table_says_the_mean_over_seeds_and_what_it_is_worth(summary):
    text = table(summary)
    assert all(len(line) <= 80 for line in text.splitlines())
    row = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert (
        "0.6250" in row["beijing_opera-v1.0-hear2021-full"] and "unofficial" in row["beijing_opera-v1.0-hear2021-full"]
    )
    assert row["esc50-v2.0.0-full"].split() == ["esc50-v2.0.0-full", "top1_acc", "0.5000", "1", "synthetic"]
    assert row["tags"].split() == ["tags", "mAP", "n.d.", "2"]
    assert row["none"].split() == ["none", "mAP", "failed", "0"]
    assert "hear-models leaderboard results" in text and "Synthetic tasks say nothing" in text
    assert "NOT" not in text and "not comparable" not in text


@pytest.mark.parametrize("changes", [{"judge": "probe-knn", "protocol": "not-comparable"}, {"random_labels": True}])
def test_what_is_no_result_is_marked_above_and_below_the_table_and_has_no_leaderboard(summary, changes):
    for name, value in changes.items():
        setattr(summary, name, value)
    told = table(summary).splitlines()
    assert told[0] == told[-1] == summary.marks[0]
    assert "leaderboard results" not in "\n".join(told)
    assert summary.as_dict()["comparable"] is False
    assert plan_text(summary).splitlines()[0] == summary.marks[0]


def test_seeds_are_said_in_short():
    assert seeds_text([42]) == "seed 42"
    assert seeds_text([0, 1, 2, 5, 7, 8]) == "seeds 0-2,5,7-8"


def test_before_the_first_score_there_are_two_bounds(capsys):
    works = [Work("judge:builtin", "esc50", 1000.0), Work("judge:builtin", "tfds", 3000.0)]
    assert bounds(works, 0.001, 1) == (240.0, 2000.0)
    assert bounds(works, 0.001, 2) == (180.0, 1500.0)  # not before the longest is done
    assert 0 < row_seconds(8) < 1
    reporter = Reporter(plain=True)
    reporter.state.jobs = 2
    reporter.scores_take(*bounds(works, 0.001, 2))
    assert "2 to make: 3 min to 25 min for the scores; better known after the first" in capsys.readouterr().err
    reporter.state.left_s = 40.0
    assert left(reporter.state, 0.0).startswith("40 s left")
