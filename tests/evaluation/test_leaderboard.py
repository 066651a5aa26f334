"""A table one can trust: what may stand in one table, what stands beside, and what is said of it."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from leaderboard_records import CLIPS, ESC50, FSD, TONIC, several, write

from hear_models.errors import HearModelsError, UsageError
from hear_models.evaluation.board import choosing
from hear_models.evaluation.board.choosing import Options
from hear_models.evaluation.board.csv_table import csv_text
from hear_models.evaluation.board.leaderboard import BEST, TIED, WORSE, Board, build
from hear_models.evaluation.board.page import page
from hear_models.evaluation.board.results import gather
from hear_models.evaluation.board.tabulate import markdown, terminal
from hear_models.evaluation.board.wording import caveats

GOLDEN = Path(__file__).parent.parent / "golden" / "hear_scores"
README = "mwmae / README / MW-MAE-B-4x16-4l / MW-MAE (released weights)"


def board(*folders, imported_protocol=None, **options) -> Board:
    return build(gather(folders, imported_protocol), Options(**options))


def everything_said(made: Board) -> str:
    return " ".join(terminal(made).split())


# ------------------------------------------------------------------------------------------------- what stands together
def test_a_table_shows_mean_width_s_and_marks(tmp_path):
    (table,) = board(several(tmp_path)).tables
    assert [row.label for row in table.models] == ["mwmae-base", "mwmae-nano", "logmel-stats"]  # by s(m)
    assert table.aggregate.of_means["mwmae-base"] == pytest.approx(100)
    assert table.aggregate.of_means["logmel-stats"] == pytest.approx(0)
    for column in table.tasks:
        assert column.ties is None
        assert table.cells[("mwmae-base", column.name)].mark == BEST
        assert table.cells[("logmel-stats", column.name)].mark == WORSE
        assert table.cells[("mwmae-base", column.name)].interval.n == 3
    assert TIED in {table.cells[("mwmae-nano", column.name)].mark for column in table.tasks}


def test_toy_tasks_never_share_a_table_an_aggregate_or_published_figures_with_real_ones(tmp_path):
    several(tmp_path / "real")
    several(tmp_path / "toy", origin="synthetic")
    real, toy = board(tmp_path).tables
    assert (real.origin, toy.origin) == ("official", "synthetic")
    assert all(cell.published is None and cell.verdict is None for cell in toy.cells.values())
    assert real.cells[("mwmae-base", ESC50)].published.value == pytest.approx(0.816)
    assert "no published figure stands beside" in " ".join(caveats(toy))


@pytest.mark.parametrize("origin", ["unofficial", "user", "synthetic"])
def test_only_official_tasks_have_published_figures(origin, tmp_path):
    made = board(several(tmp_path, origin=origin), keys={"mwmae-base": README})
    assert all(cell.published is None for cell in made.tables[0].cells.values())
    assert "81.6" not in terminal(made)


def test_protocols_are_never_mixed(tmp_path):
    write(tmp_path, protocol="paper")
    write(tmp_path, protocol="hear", seed=42)
    tables = board(tmp_path).tables
    assert [table.protocol for table in tables] == ["hear", "paper"]
    assert [table.cells[("mwmae-nano", ESC50)].interval.n for table in tables] == [1, 1]
    assert len(board(tmp_path, protocol="paper").tables) == 1


def test_judges_share_a_table_only_while_they_are_proven_to_agree(tmp_path, monkeypatch):
    write(tmp_path, seed=0, judge="builtin", score=0.8)
    write(tmp_path, seed=1, judge="heareval", score=0.7)
    monkeypatch.setattr(choosing, "judges_agree", lambda version: False)
    made = board(tmp_path)
    assert [table.judges for table in made.tables] == [("builtin",), ("heareval",)]
    assert "stay apart" in everything_said(made)
    monkeypatch.setattr(choosing, "judges_agree", lambda version: version == "2.13.0+cpu")
    (table,) = board(tmp_path).tables
    assert table.cells[("mwmae-nano", ESC50)].interval.n == 2


def test_of_two_agreeing_judges_the_judge_of_record_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "judges_agree", lambda version: True)
    write(tmp_path, judge="builtin")
    write(tmp_path, judge="heareval")
    (table,) = board(tmp_path).tables
    assert table.cells[("mwmae-nano", ESC50)].judges == ("heareval",)
    assert table.cells[("mwmae-nano", ESC50)].interval.n == 1


def test_a_torch_of_which_nothing_is_proven_keeps_judges_apart(tmp_path):
    """The real question, unreplaced: no torch of that name was ever measured."""
    write(tmp_path, seed=0, judge="builtin", torch="0.0.0")
    write(tmp_path, seed=1, judge="heareval", torch="0.0.0")
    assert len(board(tmp_path).tables) == 2


def test_imported_results_stay_in_a_table_of_their_own(tmp_path, monkeypatch):
    """Under which versions they were made is not known, so nothing is proven for them."""
    monkeypatch.setattr(choosing, "judges_agree", lambda version: True)
    write(tmp_path, task=TONIC, origin="unofficial")
    imported, ours = sorted(board(GOLDEN / "seeds", tmp_path).tables, key=lambda table: -len(table.models))
    assert (imported.judges, len(imported.models)) == (("imported",), 3)
    assert imported.tasks[0].ties == "the kit stores predictions as pickles, which are never opened"
    assert (ours.judges, len(ours.models)) == (("builtin",), 1)


def test_the_golden_results_give_the_golden_table(tmp_path):
    expected = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
    rows = csv.DictReader(io.StringIO(csv_text(board(GOLDEN / "seeds"))))
    found = {(row["model"], row["task"]): row for row in rows}
    assert len(found) == 9
    for model, tasks in expected["table"].items():
        for task, figures in tasks.items():
            row = found[(model, task)]
            assert float(row["mean"]) == pytest.approx(figures["mean"], abs=1e-6)
            assert float(row["half_width_95"]) == pytest.approx(figures["half_width"], abs=1e-6)
            assert float(row["s_of_means"]) == pytest.approx(expected["s"][model]["of_means"], abs=1e-6)
            assert float(row["s_half_width_95"]) == pytest.approx(expected["s"][model]["half_width"], abs=1e-6)


def test_shuffled_labels_never_enter(tmp_path):
    write(tmp_path, seed=0)
    write(tmp_path, seed=1, score=0.25, random_labels=True)
    made = board(tmp_path)
    assert made.tables[0].cells[("mwmae-nano", ESC50)].interval.n == 1
    assert "1 results with shuffled labels are left out" in everything_said(made)


def test_quick_looks_have_a_table_of_their_own_without_s_and_published_figures(tmp_path):
    several(tmp_path)
    write(tmp_path, "mwmae-base", judge="probe-linear", protocol="not-comparable")
    write(tmp_path, "mwmae-nano", judge="probe-linear", protocol="not-comparable")
    main, quick = board(tmp_path).tables
    assert (main.quick_look, quick.quick_look) == (False, True)
    assert "not comparable with any leaderboard" in quick.title
    assert quick.aggregate is None
    assert all(cell.published is None and cell.mark != TIED for cell in quick.cells.values())
    assert main.cells[("mwmae-base", ESC50)].interval.n == 3


def test_two_kinds_of_quick_look_do_not_share_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "judges_agree", lambda version: True)
    write(tmp_path, judge="probe-linear", protocol="not-comparable")
    write(tmp_path, judge="probe-knn", protocol="not-comparable")
    assert [table.judges for table in board(tmp_path).tables] == [("probe-knn",), ("probe-linear",)]


def test_random_weights_are_refused_and_marked_when_allowed(tmp_path):
    write(tmp_path)
    write(tmp_path, "mwmae-base", trained=False, sha256=None)
    with pytest.raises(UsageError, match=r"mwmae-base: random weights.*--allow-untrained"):
        board(tmp_path)
    made = board(tmp_path, allow_untrained=True)
    assert "mwmae-base: random weights, not trained." in everything_said(made)
    judged = made.tables[0].cells[("mwmae-base", ESC50)].verdict
    assert (judged.word, judged.reason) == ("not comparable", "random weights, not the published ones")
    assert len(board(tmp_path, models=["mwmae-nano"]).tables[0].models) == 1


# ------------------------------------------------------------------------------------------------ one model, one figure
def test_other_options_or_weights_are_another_row(tmp_path):
    write(tmp_path, name="a")
    write(tmp_path, name="b", options={"timestamps": "official"})
    write(tmp_path, name="c", sha256="9" * 64)
    labels = {row.label for row in board(tmp_path).tables[0].models}
    assert labels == {
        "mwmae-nano [weights cccccccc]",
        "mwmae-nano [weights 99999999]",
        "mwmae-nano (timestamps=official)",
    }


def test_the_same_folder_twice_counts_once(tmp_path):
    write(tmp_path, seed=0)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (table,) = board(tmp_path, tmp_path, tmp_path / "link").tables
    assert table.cells[("mwmae-nano", ESC50)].interval.n == 1


def test_a_copy_of_a_result_counts_once_and_a_contradicting_one_is_an_error(tmp_path):
    write(tmp_path / "a", score=0.8)
    write(tmp_path / "b", score=0.8)
    assert board(tmp_path).tables[0].cells[("mwmae-nano", ESC50)].interval.n == 1
    write(tmp_path / "c", score=0.3)
    with pytest.raises(UsageError, match=r"contradict each other.*seed 0"):
        board(tmp_path)


def test_seeds_of_different_data_are_not_averaged(tmp_path):
    write(tmp_path, seed=0, data="1" * 64)
    write(tmp_path, seed=1, data="2" * 64)
    with pytest.raises(UsageError, match="different data"):
        board(tmp_path)


def test_a_broken_record_is_an_error_and_not_a_missing_seed(tmp_path):
    several(tmp_path)
    path = write(tmp_path, seed=7)
    path.write_text(path.read_text()[:200])
    with pytest.raises(HearModelsError, match="seed-07"):
        board(tmp_path)


def test_a_score_that_is_not_defined_is_named_and_in_no_mean(tmp_path):
    write(tmp_path, seed=0)
    write(tmp_path, seed=1, score=None, predictions=False, undefined="fold00: no clip is labelled dog")
    made = board(tmp_path)
    assert made.tables[0].cells[("mwmae-nano", ESC50)].interval.n == 1
    said = " ".join(everything_said(made).split())
    assert "not defined" in said and "mwmae-nano on ESC-50, seed 1: top1_acc (fold00: no clip is labelled dog)" in said


def test_a_model_without_any_defined_score_stands_in_the_table_all_the_same(tmp_path):
    """Neither 0 nor absent: n.d., in every output, with the reason."""
    write(tmp_path, "mwmae-nano", score=None, predictions=False, undefined="fold00: infinite")
    write(tmp_path, "mwmae-tiny", score=0.5)
    made = board(tmp_path)
    text = terminal(made)
    row = next(line for line in text.splitlines() if line.startswith("mwmae-nano "))
    assert "n.d." in row and "0.0" not in row
    assert "n.d." in markdown(made) and "fold00: infinite" in markdown(made)
    assert "n.d." in page(made) and "fold00: infinite" in page(made)
    (line,) = [line for line in csv_text(made).splitlines() if ",mwmae-nano," in line]
    assert "fold00: infinite" in line
    write(tmp_path / "alone", score=None, predictions=False, undefined="fold00: infinite")
    assert "n.d." in terminal(board(tmp_path / "alone"))


def identified(results, name, seeds, score, weights="w", code="c"):
    for seed in seeds:
        write(
            results, "my_model", seed=seed, score=score, name=name, family=None, sha256=None, identity=(weights, code)
        )


def test_two_versions_of_a_model_are_two_rows(tmp_path):
    """Seeds of one version and seeds of another, merged into one folder: never one mean."""
    identified(tmp_path, "my_model", range(5), 0.9)
    identified(tmp_path, "my_model", range(5, 10), 0.5, code="other")
    made = board(tmp_path)
    assert {row.label for row in made.tables[0].models} == {"my_model [code c]", "my_model [code other]"}
    assert {cell.interval.n for cell in made.tables[0].cells.values()} == {5}


@pytest.mark.parametrize("other", ["weights", "code"])
def test_the_label_says_what_sets_two_versions_apart(tmp_path, other):
    identified(tmp_path / "a", "my_model", range(2), 0.9)
    identified(tmp_path / "b", "my_model", range(2), 0.9, **{other: "other"})
    made = board(tmp_path / "a", tmp_path / "b")
    assert f"my_model [{other} other]" in {row.label for row in made.tables[0].models}


def test_one_version_in_two_folders_is_one_row(tmp_path):
    identified(tmp_path / "a", "my_model", range(5), 0.9)
    identified(tmp_path / "b", "my_model", range(5, 10), 0.9)
    (row,) = board(tmp_path / "a", tmp_path / "b").tables[0].models
    assert row.label == "my_model"


def test_older_records_of_two_versions_are_told_apart_by_their_embeddings(tmp_path):
    write(tmp_path / "a", "my_model", seed=0, family=None, sha256=None, embeddings="1" * 64)
    write(tmp_path / "b", "my_model", seed=1, family=None, sha256=None, embeddings="2" * 64)
    made = board(tmp_path / "a", tmp_path / "b")
    assert {row.label for row in made.tables[0].models} == {
        "my_model [embeddings 11111111]",
        "my_model [embeddings 22222222]",
    }


# ----------------------------------------------------------------------------------------------------------- s(m), ties
def test_s_is_over_the_common_tasks_and_says_which(tmp_path):
    several(tmp_path)
    write(tmp_path, "mwmae-tiny", ESC50, score=0.5)
    made = board(tmp_path)
    assert made.tables[0].aggregate.tasks == (ESC50,)
    said = everything_said(made)
    assert "s(m) is over the 1 tasks that every model has; tasks are lacking for mwmae-tiny" in said
    assert "mean over ESC-50 of 100" in said


def test_the_pool_of_s_is_printed(tmp_path):
    said = everything_said(board(several(tmp_path)))
    assert "which is the 3 models of this table: mwmae-base, mwmae-nano, logmel-stats" in said
    assert "probe seeds only" in said


def test_one_model_has_no_s(tmp_path):
    write(tmp_path)
    (table,) = board(tmp_path).tables
    assert table.aggregate is None
    assert "No s(m): it needs at least two models." in " ".join(caveats(table))


def test_without_predictions_nothing_is_marked_as_tied_and_the_reason_stands_there(tmp_path):
    write(tmp_path, "mwmae-base", predictions=False, score=0.9)
    write(tmp_path, "mwmae-nano", score=0.88)
    (table,) = board(tmp_path).tables
    assert table.tasks[0].ties == "no predictions of mwmae-base"
    assert table.cells[("mwmae-nano", ESC50)].mark is None
    assert "not tested against the others on ESC-50: no predictions of mwmae-base" in " ".join(caveats(table))


def test_predictions_of_other_results_are_noticed(tmp_path):
    """The .npz of another run beside a record: its clips would mark the wrong model as tied."""
    write(tmp_path, "mwmae-base", score=0.95)
    path = write(tmp_path, "mwmae-nano", score=0.9)
    other = write(tmp_path / "other", "mwmae-nano", score=0.1)
    path.with_suffix(".npz").write_bytes(other.with_suffix(".npz").read_bytes())
    (table,) = board(path.parent.parent, tmp_path / "mwmae-base").tables
    assert table.tasks[0].ties.startswith("the predictions of mwmae-nano give 0.")


def test_a_broken_predictions_file_costs_the_marks_and_not_the_table(tmp_path):
    write(tmp_path, "mwmae-base")
    write(tmp_path, "mwmae-nano").with_suffix(".npz").write_bytes(b"PK\x03\x04 not really")
    (table,) = board(tmp_path).tables
    assert "mwmae-nano" in table.tasks[0].ties
    assert len(table.cells) == 2


def test_k_fold_and_ranking_metrics_are_resampled(tmp_path):
    (table,) = board(several(tmp_path, tasks=(TONIC, FSD), seeds=2)).tables
    assert [column.metric for column in table.tasks] == ["mAP", "top1_acc"]
    assert all(column.ties is None for column in table.tasks)


# ---------------------------------------------------------------------------------------------------- published figures
def test_an_absent_published_figure_prints_a_dash_and_its_reason(tmp_path):
    write(tmp_path, "mwmae-base", "dcase2016_task2-hear2021-full", predictions=False)
    write(tmp_path, "mwmae-base", ESC50)
    write(tmp_path, "logmel-stats", ESC50, family="logmel_stats")
    said = everything_said(board(tmp_path))
    assert "DCASE: mwmae, README has no column of event_onset_200ms_fms on this task" in said
    assert "logmel-stats: - (no published scores are known for this model)" in said


def test_too_few_seeds_have_no_verdict(tmp_path):
    (table,) = board(several(tmp_path)).tables
    judged = table.cells[("mwmae-base", ESC50)].verdict
    assert (judged.word, judged.reason) == ("not comparable", "3 of the 10 seeds of the published figure")


def test_ten_seeds_get_a_verdict(tmp_path):
    for seed in range(10):
        write(tmp_path, "mwmae-base", ESC50, seed, 0.82)
        write(tmp_path, "mwmae-base", TONIC, seed, 0.5)
    cells = board(tmp_path).tables[0].cells
    assert cells[("mwmae-base", ESC50)].verdict.word == "reproduced"
    assert cells[("mwmae-base", TONIC)].verdict.word == "not reproduced"


def test_a_users_own_module_can_be_compared_with_the_public_leaderboard(tmp_path):
    write(tmp_path, "my_module", family=None, protocol="hear", seed=42, score=0.95)
    key = "hear_leaderboard / leaderboard.csv / CP-JKU PaSST base"
    assert board(tmp_path).tables[0].cells[("my_module", ESC50)].published.value is None
    judged = board(tmp_path, keys={"my_module": key}).tables[0].cells[("my_module", ESC50)]
    assert judged.published.value > 0.9
    assert judged.verdict.word in ("reproduced", "not reproduced")
    with pytest.raises(UsageError, match="no result is of that model"):
        board(tmp_path, keys={"nobody": key})
    with pytest.raises(UsageError, match="No published"):
        board(tmp_path, keys={"my_module": "nobody / x"})


def test_somebody_elses_model_of_our_name_does_not_get_our_published_scores(tmp_path):
    write(tmp_path, "mwmae-base", family=None)
    assert board(tmp_path).tables[0].cells[("mwmae-base", ESC50)].published.key is None


def test_no_published_leaves_them_out(tmp_path):
    made = board(several(tmp_path), published=False)
    assert "Published figures" not in terminal(made)
    assert "ublished" not in markdown(made).replace("published figure stands", "")


# -------------------------------------------------------------------------------------------------------------- outputs
def test_no_line_of_the_terminal_output_is_longer_than_80_columns(tmp_path):
    from hear_models.tasks.known_tasks import known_tasks

    ten = tuple(name for name, task in known_tasks().items() if task.paper_name)
    several(tmp_path, tasks=ten, seeds=2)
    for end in ("one", "two"):
        write(tmp_path, f"a_module_with_a_rather_long_name_of_its_own.{end}", ESC50, family=None)
    text = terminal(board(tmp_path))
    assert {"…[1]", "…[2]"} <= set(re.findall(r"…\[\d\]", text))  # cut names stay apart
    assert re.search(r"^\[\d\] a_module_with_a_rather_long_name_of_its_own.two$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("mwmae-nano") >= 3  # several blocks of tasks


def test_csv_has_a_row_for_each_model_and_task_with_unrounded_numbers(tmp_path):
    made = board(several(tmp_path))
    rows = list(csv.DictReader(io.StringIO(csv_text(made))))
    assert len(rows) == 9
    for row in rows:
        cell = made.tables[0].cells[(row["model"], row["task"])]
        assert float(row["mean"]) == cell.interval.mean
        assert float(row["half_width_95"]) == cell.interval.half_width
        assert row["interval_over"] == "probe seeds only"
        assert row["seeds"] == "0 1 2"
        assert float(row["s_of_means"]) == made.tables[0].aggregate.of_means[row["model"]]
    (esc,) = (row for row in rows if row["model"] == "mwmae-base" and row["task"] == ESC50)
    assert float(esc["published_value"]) == pytest.approx(0.816)
    assert esc["verdict"] == "not comparable"
    assert {row["p_holm"] for row in rows if row["mark"] == "best"} == {""}


def test_markdown_shows_the_best_bold_and_escapes_names(tmp_path):
    several(tmp_path)
    write(tmp_path, "<b>|*x*`y`[z](http://q)", ESC50, score=0.1, name="hostile", family=None)
    text = markdown(board(tmp_path))
    assert "**" in text
    assert "<b>" not in re.sub(r"(`+)[^`].*?\1", "", text) and "[z]" not in re.sub(r"(`+)[^`].*?[^`]\1(?!`)", "", text)
    grids = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(grids) == 3  # scores, the models, published figures
    for grid in grids:  # every row has as many cells as the head, whatever the names hold
        assert len({line.replace("\\|", "").count("|") for line in grid.splitlines()}) == 1


def test_a_formula_in_a_name_stays_text_in_a_spreadsheet(tmp_path):
    write(tmp_path, '=HYPERLINK("http://x")', name="formula", family=None)
    (row,) = csv.DictReader(io.StringIO(csv_text(board(tmp_path))))
    assert row["model"] == '\'=HYPERLINK("http://x")'


# ---------------------------------------------------------------------------------------------------------- the command
def run(*arguments, exits: int = 0):
    from click.testing import CliRunner

    from hear_models.cli.leaderboard import command

    done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, HearModelsError), done.exception
        assert done.exception.exit_code == exits
        return str(done.exception)
    assert done.exit_code == exits, done.output
    return done.output


def test_the_command_writes_every_format_by_the_name_of_the_file(tmp_path):
    several(tmp_path / "results", seeds=1)
    for name, start in (
        ("t.md", "### "),
        ("t.csv", "protocol,"),
        ("t.txt", "Protocol "),
        ("t.html", "<!doctype html>"),
    ):
        run(tmp_path / "results", "-o", tmp_path / name)
        assert (tmp_path / name).read_text("utf-8").startswith(start)
    assert run(tmp_path / "results", "--format", "csv").startswith("protocol,")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "at least one folder"),
        (["missing"], "does not exist"),
        (["."], "holds no result"),
        (["results", "-o", "table.xlsx"], "does not tell the format"),
        (["results", "--tasks", "gunshot"], "No result is left"),
        (["results", "--models", "nobody"], "No result is left"),
        (["results", "--published", "mwmae-base"], "MODEL=KEY"),
        (["results", "--no-published", "--published-rows", "all"], "Give one of them"),
        (["results", "--published-rows", "nobody"], "no published row is called 'nobody'"),
        (["results", "--json", "-o", "x.csv"], "--json prints"),
        (["results", "--tasks", "esc"], "Did you mean esc50-v2.0.0-full?"),
        (["results", "--models", "mwmae-nan"], "Did you mean mwmae-nano?"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_two(arguments, says, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if arguments == ["."] else tmp_path)
    write(tmp_path / "results")
    assert says in run(*arguments, exits=2)


def test_tasks_and_models_can_be_chosen(tmp_path):
    several(tmp_path)
    text = run(tmp_path, "--tasks", "ESC-50,fsd50k", "--models", "mwmae-*")
    assert "NS-5h" not in text
    assert "logmel-stats" not in text
    assert "ESC-50" in text and "F50K" in text


def test_keys_lists_what_published_takes():
    lines = run("--keys").splitlines()
    assert README in lines
    assert any(line.startswith("axlstm / authors' tables: none (only the abstracts") for line in lines)


def test_the_table_is_made_without_torch(tmp_path):
    """Reading results takes a second, not the import of torch."""
    import subprocess

    several(tmp_path, seeds=1)
    program = (
        "import sys; from hear_models.cli.main import cli;"
        "cli.main(['leaderboard', sys.argv[1]], standalone_mode=False);"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False"


def test_records_of_strangers_cannot_steer_the_terminal(tmp_path):
    path = write(tmp_path)
    content = json.loads(path.read_text("utf-8"))
    content["model"]["name"] = "\x1b[2Jgone"
    path.write_text(json.dumps(content))
    with pytest.raises(HearModelsError, match="control character"):
        board(tmp_path)
    assert CLIPS == 60
