"""Published figures beside ours: found by the model's name, never guessed, other rows below, and all of it optional."""

from __future__ import annotations

import json
import re

import pytest
from leaderboard_records import ESC50, FSD, PITCH, several, write

from hear_models.errors import UsageError
from hear_models.evaluation.board.beside import own_row, rows_beside
from hear_models.evaluation.board.choosing import Options
from hear_models.evaluation.board.csv_table import csv_text
from hear_models.evaluation.board.latex import latex
from hear_models.evaluation.board.leaderboard import Board, build, ranks
from hear_models.evaluation.board.page import page
from hear_models.evaluation.board.results import gather
from hear_models.evaluation.board.statistics import aggregate
from hear_models.evaluation.board.tabulate import markdown, terminal
from hear_models.evaluation.board.wording import introduction
from hear_models.evaluation.runs.record import ModelFacts

PUBLIC = "hear_leaderboard / leaderboard.csv / "
README = "mwmae / README / MW-MAE-B-4x16-4l / MW-MAE (released weights)"


def board(folder, **options) -> Board:
    return build(gather([folder]), Options(**{"resamples": 0, **options}))


def found(name: str, imported: bool = True, protocol: str = "paper"):
    return own_row(ModelFacts(name=name, slug="x", module=name, trained=True), imported, protocol, Options())


# --------------------------------------------------------------------------------------------------- keys by the name
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("mwmae-base", README),
        ("mwmae_base", README),
        ("hear21passt.base", f"{PUBLIC}CP-JKU PaSST base"),
        ("openl3", f"{PUBLIC}OpenL3"),
        ("openl3_hear", f"{PUBLIC}OpenL3"),
        ("hearbaseline.wav2vec2", f"{PUBLIC}wav2vec2"),
        ("panns_hear", f"{PUBLIC}CVSSP PANNS"),
        ("ced_base", f"{PUBLIC}RedRice ced_base"),
        ("CREPE", f"{PUBLIC}CREPE"),
        ("BEATs", "audio_mamba / GRAM Table 6 / BEATs"),
    ],
)
def test_the_row_of_an_imported_model_is_found_by_its_name(name, key):
    own = found(name)
    assert (own.key, own.by_name) == (key, True)


@pytest.mark.parametrize("name", ["base", "model", "my_own_network", "mae-nano", "hear", "audio", ""])
def test_a_name_that_is_no_rows_finds_none(name):
    assert found(name).key is None


def test_a_name_that_several_rows_may_mean_finds_none_and_says_which():
    own = found("hear21passt")
    assert own.key is None and "PaSST" in own.why and "--published MODEL=KEY" in own.why


def test_a_name_of_this_package_counts_for_imported_results_only():
    """Somebody's own module may be called anything."""
    assert found("mwmae-base", imported=False).key is None
    assert found("hear21passt.base", imported=False, protocol="hear").key == f"{PUBLIC}CP-JKU PaSST base"


def test_a_key_that_was_named_comes_first(tmp_path):
    write(tmp_path, "openl3", family=None, protocol="hear", seed=42)
    (table,) = board(tmp_path, keys={"openl3": f"{PUBLIC}CREPE"}).tables
    assert (table.models[0].key, table.models[0].own.by_name) == (f"{PUBLIC}CREPE", False)
    assert "(found by its name)" in terminal(board(tmp_path))


# -------------------------------------------------------------------------------------------------------- other rows
TASKS = {ESC50: "top1_acc", FSD: "mAP", PITCH: "pitch_acc"}


def test_rows_of_the_same_protocol_come_first_and_others_say_what_is_not_comparable():
    lines = rows_beside(TASKS, "paper")
    protocols = [line.table.protocol for line in lines]
    assert protocols == sorted(protocols, key=lambda protocol: protocol != "paper")
    assert {line.table.name for line in lines} >= {"README", "leaderboard.csv", "GRAM Table 6"}
    for line in lines:
        assert ("not comparable" in line.apart) == (line.table.protocol != "paper")
        assert line.table.source
    assert not any("Table 4" in line.key for line in lines)  # an ablation: only if it is named


def test_rows_can_be_named_and_all_and_none():
    assert rows_beside(TASKS, "paper", ["none"]) == []
    named = rows_beside(TASKS, "hear", ["*passt*", "BEATs"])
    assert {line.label for line in named} == {
        "CP-JKU PaSST base",
        "CP-JKU PaSST 2lvl",
        "CP-JKU PaSST 2lvl+mel",
        "BEATs",
    }
    every = rows_beside(TASKS, "paper", ["all"])
    assert len(every) > len(rows_beside(TASKS, "paper"))
    assert len({line.label for line in every}) == len(every)
    with pytest.raises(UsageError, match="no published row is called 'nobody'"):
        rows_beside(TASKS, "paper", ["nobody"])


def test_published_rows_stand_below_ours_by_default_in_every_format_for_readers(tmp_path):
    made = board(several(tmp_path, seeds=1))
    for text in (terminal(made), markdown(made), latex(made), page(made)):
        assert "MW-MAE (paper)" in text and "protocol hear, ours is paper" in re.sub(r"\s+(% )?", " ", text)
    assert "MW-MAE (paper)" not in csv_text(made)  # programs get ours, unless they ask
    assert "published" in {line.split(",")[2] for line in csv_text(made, beside=True).splitlines()[1:]}
    assert "more: --published-rows all" in terminal(made)
    assert "MW-MAE (paper)" not in terminal(board(tmp_path, rows=["none"]))


@pytest.mark.parametrize("origin", ["unofficial", "synthetic", "user"])
def test_no_published_row_stands_beside_other_tasks_or_where_they_are_switched_off(tmp_path, origin):
    several(tmp_path / "a", seeds=1, origin=origin)
    several(tmp_path / "b", seeds=1)
    for made in (board(tmp_path / "a"), board(tmp_path / "a", rows=["all"]), board(tmp_path / "b", published=False)):
        assert made.tables[0].beside == []
        assert "MW-MAE (paper)" not in terminal(made) + page(made) + latex(made)


# ---------------------------------------------------------------------------------------------- ranks, sizes, wording
def test_models_of_the_same_printed_s_share_a_rank():
    scores = {"a": 0.9, "b": 0.5, "c": 0.5001, "d": 0.1}
    whole = aggregate({model: {ESC50: {0: score}} for model, score in scores.items()}, [ESC50])
    assert ranks(whole) == {"a": "1", "b": "2=", "c": "2=", "d": "4"}
    assert ranks(None) == {}


def test_dims_parameters_licence_and_dates_of_our_models_stand_in_every_format(tmp_path):
    made = board(several(tmp_path, seeds=1))
    nano = next(row for row in made.tables[0].models if row.label == "mwmae-nano")
    assert nano.about.dims == 8 and nano.about.licence == "Apache-2.0" and 1_000_000 < nano.about.parameters < 3_000_000
    for text in (terminal(made), markdown(made), page(made)):
        assert "1.7 M" in text and "Apache-2.0" in text and "2026-01-31" in text
    assert '"Apache-2.0"' in csv_text(made) or ",Apache-2.0," in csv_text(made)


def test_the_title_is_text(tmp_path):
    made = board(several(tmp_path, seeds=1), title="<b>50 % & more_")
    assert terminal(made).startswith("<b>50 % & more_\n")
    assert "<title>&lt;b&gt;50 % &amp; more_</title>" in page(made) and "<h1>&lt;b&gt;50 % &amp; more_</h1>" in page(
        made
    )
    assert r"\caption{\textless{}b\textgreater{}50 \% \& more\_." in latex(made)


def test_half_widths_are_promised_only_where_there_are_some(tmp_path):
    several(tmp_path / "one", seeds=1)
    several(tmp_path / "two", seeds=2)
    one, two = board(tmp_path / "one").tables[0], board(tmp_path / "two").tables[0]
    assert "half width" not in introduction(one) and "half width" in introduction(two)
    assert "±: 95 %" not in terminal(board(tmp_path / "one"))


def test_two_kinds_of_quick_look_stay_apart_because_they_are_two_kinds(tmp_path):
    for judge in ("probe-linear", "probe-knn"):
        write(tmp_path, judge=judge, protocol="not-comparable")
    assert board(tmp_path).notes == [
        "Tables of probe-knn, probe-linear stay apart: they are quick looks of different kinds, whose scores cannot be "
        "compared."
    ]


def test_a_width_of_s_that_spans_the_scale_is_not_printed(tmp_path):
    for seed, score in enumerate((0.2, 0.9, 0.5)):
        write(tmp_path, "a", ESC50, seed, score, family=None)
        write(tmp_path, "b", ESC50, seed, 0.4, family=None)
    text = " ".join(terminal(board(tmp_path)).split())
    assert "No width beside a" in text and ": their seeds spread over the whole scale; run more." in text


# --------------------------------------------------------------------------------------------------------------- LaTeX
def test_latex_has_booktabs_rules_balanced_braces_and_escaped_names(tmp_path):
    several(tmp_path, seeds=2)
    write(tmp_path, r"100%_{\input{x}}&#$~^", ESC50, score=0.1, name="hostile", family=None)
    text = latex(board(tmp_path, resamples=None))
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in text
    shown = [line for line in text.splitlines() if not line.startswith("%")]
    assert r"\input" not in "".join(shown) and r"100\%\_\{\textbackslash{}input\{x\}\}\&\#\$\textasciitilde{}" in text
    bare = re.sub(r"\\[\\{}&%$#_]", "", "\n".join(shown))
    assert bare.count("{") == bare.count("}")
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    rows = [line for line in shown if line.endswith(r" \\")]
    assert {row.replace(r"\&", "").count(" & ") + 1 for row in rows} == {len(columns)}
    assert r"\textbf{" in text and r"\textcolor{gray}" in text and "±" not in "".join(shown)


# -------------------------------------------------------------------------------------------------------------- pandas
def test_results_come_as_a_data_frame_one_row_a_result(tmp_path):
    pytest.importorskip("pandas")
    import hear_models

    several(tmp_path, seeds=2, tasks=(ESC50,))
    write(tmp_path, "mwmae-nano", ESC50, 2, None, predictions=False, undefined="fold00: infinite")
    frame = hear_models.load_results(tmp_path)
    assert len(frame) == 7 and frame["score"].isna().sum() == 1
    means = frame.groupby("model")["score"].mean()
    assert means["mwmae-base"] > means["logmel-stats"]
    assert str(frame["finished"].dtype).startswith("datetime64") and set(frame["task"]) == {ESC50}
    assert set(hear_models.load_results([tmp_path, str(tmp_path)])["seed"]) == {0, 1, 2}


def test_without_pandas_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    import hear_models

    monkeypatch.setattr("hear_models.extras.is_installed", lambda package: False)
    with pytest.raises(UsageError, match=r"needs pandas. Install it: pip install 'hear-models\[pandas\]'"):
        hear_models.load_results(tmp_path)


def test_the_paper_behind_a_model_stands_on_the_page_and_in_the_csv(tmp_path):
    made = board(several(tmp_path, seeds=1))
    assert "arXiv 2306.00561" in page(made).split("<summary>Models</summary>")[1].split("</details>")[0]
    assert "arXiv 2306.00561" in csv_text(made)


def test_json_holds_the_rows_of_the_csv_and_what_is_said(tmp_path):
    from click.testing import CliRunner

    from hear_models.cli.leaderboard import command

    several(tmp_path, seeds=1)
    arguments = [str(tmp_path), "--json", "--resamples", "0", "--title", "Ours"]
    made = json.loads(CliRunner().invoke(command, arguments).stdout)
    (table,) = made["tables"]
    assert made["title"] == "Ours" and len(table["rows"]) == 9 and table["caveats"]
    assert {row["row"] for row in table["rows"]} == {"ours"}
    asked = json.loads(CliRunner().invoke(command, [*arguments, "--published-rows", "CP-JKU*"]).stdout)
    assert {row["row"] for row in asked["tables"][0]["rows"]} == {"ours", "published"}
