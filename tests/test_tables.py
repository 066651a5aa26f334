"""No table in the documents that is made from data may differ from the data."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import click
import pytest

PATH = Path(__file__).parent.parent / "benchmarks" / "tables.py"


@pytest.fixture(scope="module")
def command():
    specification = importlib.util.spec_from_file_location("benchmark_tables", PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def test_every_table_in_the_documents_is_what_the_data_give(command):
    differences = {document.name: command.stale(document) for document in command.DOCUMENTS}
    assert {name: lines for name, lines in differences.items() if lines} == {}, "run: python benchmarks/tables.py"


def test_some_tables_are_marked(command):
    text = "".join(document.read_text(encoding="utf-8") for document in command.DOCUMENTS)
    assert len(command.BLOCK.findall(text)) == text.count("<!-- table: ") == text.count("<!-- end of table -->") >= 4


def test_a_changed_figure_is_noticed_and_made_right_again(command, tmp_path):
    document = tmp_path / "page.md"
    text = command.remade("before\n<!-- table: published mwmae / README -->\n<!-- end of table -->\nafter\n")
    document.write_text(text.replace("96.0 ±0.5", "99.0 ±0.5"), encoding="utf-8")
    assert any("99.0 ±0.5" in line for line in command.stale(document))
    assert command.remade(document.read_text(encoding="utf-8")) == text
    assert text.startswith("before\n") and text.endswith("-->\nafter\n")


@pytest.mark.parametrize("what", ["nothing", "published mwmae / Table 99"])
def test_a_table_that_nothing_makes_is_an_error(what, command):
    with pytest.raises(click.ClickException):
        command.made(what)
