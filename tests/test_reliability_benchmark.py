"""The table in docs/reliability.md is what its command measures, and the tests that the page names are there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "reliability.md"


def test_no_damaged_file_loads_and_the_benchmark_says_so(tmp_path):
    command = [sys.executable, "benchmarks/reliability.py", "--flips", "6", "--truncations", "3", "--cached", "2"]
    run = subprocess.run(
        [*command, "--seed", "7", "--json", tmp_path / "counts.json"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    rows = {row["loader"]: row for row in json.loads((tmp_path / "counts.json").read_text())["rows"]}
    assert re.findall(r"^\| ([^|]+) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)[1:][: len(rows)] == list(rows)
    ours = [row for name, row in rows.items() if name.startswith("hear-models")]
    assert len(ours) == 4
    for row in ours:
        assert (row["flips"], row["flips_loaded"], row["truncations"], row["truncations_loaded"]) == (6, 0, 3, 0)
        assert row["errors"] == {"CheckpointError": 9}, "every refusal is the error that tells what to do"
        assert f"| {row['loader']} | 0 of 300 | 0 of 100 |" in DOCUMENT.read_text("utf-8")
    assert rows["safetensors.torch.load_file"]["flips_loaded"] > 0, "the damage is such that others do not see it"


def test_every_test_that_the_page_names_exists():
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", DOCUMENT.read_text("utf-8"))
    assert [name for name in named if f"def {name}(" not in tests] == []
