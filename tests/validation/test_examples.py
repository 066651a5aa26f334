"""An example that a finding prints passes that finding: nobody is sent in a circle."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

from hear_models.subjects.randomness import preserved_randomness
from hear_models.validation import runner as runner_module
from hear_models.validation import validate

sys.path.insert(0, str(Path(__file__).parent))
from cures import CURES

ROOM = Path(runner_module.__file__).parent


def printed() -> dict[str, list[str]]:
    """Place of every finding with an example → for each form of the example its words that never change."""
    found = {}
    for path in sorted(ROOM.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            makes = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("error", "warning", "info", "make")
            if makes and len(node.args) == 3:
                forms = [texts for texts in forms_of(node.args[2]) if any(texts)]
                if forms:
                    found[f"{path.name}:{node.lineno}"] = forms
    return found


def forms_of(node: ast.expr) -> list[list[str]]:
    if isinstance(node, ast.Constant):
        return [[node.value]]
    if isinstance(node, ast.JoinedStr):
        return [[part.value for part in node.values if isinstance(part, ast.Constant)]]
    if isinstance(node, ast.IfExp):
        return forms_of(node.body) + forms_of(node.orelse)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Dict):
        return [form for value in node.value.values for form in forms_of(value)]
    raise AssertionError(f"an example of another kind: {ast.unparse(node)}")


PRINTED = printed()


def is_form(example: str, words: list[str]) -> bool:
    at = 0
    for word in words:
        if (at := example.find(word, at)) < 0:
            return False
        at += len(word)
    return at > 0.5 * len(example)


def test_every_example_has_a_cure_and_every_cure_is_printed():
    examples = [example for _, example, _ in CURES]
    for place, forms in PRINTED.items():
        for words in forms:
            assert any(is_form(example, words) for example in examples), (place, words)
    for example in examples:
        assert any(is_form(example, words) for forms in PRINTED.values() for words in forms), example


@pytest.mark.parametrize(
    ("check", "example", "source"), CURES, ids=[f"{check}-{k}" for k, (check, _, _) in enumerate(CURES)]
)
def test_a_module_that_follows_the_example_passes_the_check(check, example, source, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"cured_{check.replace('-', '_')}_{abs(hash(source)) % 10**8}"
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    importlib.invalidate_caches()
    with preserved_randomness():
        report = validate(name, length="quick", only=[check])
    left = [finding for finding in report.findings() if finding.severity == "error" or finding.example == example]
    assert not left, (example, left)
