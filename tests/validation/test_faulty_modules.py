"""Every fault of `validate/faulty` is caught, and named by the check that should name it; good modules pass."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from hear_models.subjects.randomness import preserved_randomness
from hear_models.validation import CHECKS, load_module, validate

VALIDATE = Path(__file__).parent.parent.parent / "validate"
FAULTY = sorted(path.stem for path in (VALIDATE / "faulty").glob("f*.py"))
GOOD = sorted(path.stem for path in (VALIDATE / "good").glob("[a-z]*.py"))


@pytest.fixture(autouse=True)
def settings_restored():
    """The faulty modules change global things; other tests must not notice."""
    precision = torch.get_float32_matmul_precision()
    with preserved_randomness():
        yield
    torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize("name", FAULTY)
def test_fault_is_caught_and_named(name):
    dotted = f"validate.faulty.{name}"
    sys.modules.pop(dotted, None)  # a fault at import shows at the first import only
    module = load_module(dotted)
    check, severity, words = importlib.import_module(dotted).EXPECTED
    report = validate(module, length="quick", only=[check])
    found = [finding for finding in report.findings() if finding.check == check and finding.severity == severity]
    assert any(words in finding.found for finding in found), report.findings()
    assert report.ok == (severity != "error")
    blamed = {finding.check for finding in report.findings("error")} - {check}
    assert not blamed, f"the fault is blamed on {blamed} too"


@pytest.mark.parametrize("name", GOOD)
def test_good_module_has_no_errors(name):
    report = validate(f"validate.good.{name}", length="quick")
    assert report.ok, report.findings("error")
    warned = {finding.check for finding in report.findings("warning")}
    assert warned == ({"times-range"} if name == "one_step" else set())  # one step for a whole clip is worth a warning
    assert not any(result.skipped for result in report.results)


def test_twenty_minutes_of_a_good_module_pass():
    report = validate("validate.good.frames", length="long", only=["memory", "time", "drift"])
    assert report.ok and not report.findings("warning"), report.findings()
    assert not any("not tried" in finding.found for finding in report.findings())


def test_every_numbered_fault_has_its_module():
    rows = {int(name[1:3]) for name in FAULTY}
    # 26 (32 kHz, refused wrongly by an old validator) is a good module; 42 (padding) is information, not a fault
    assert rows == set(range(1, 45)) - {26, 42}
    assert "frames_32k" in GOOD


def test_every_check_has_a_fault_that_proves_it():
    proven = {importlib.import_module(f"validate.faulty.{name}").EXPECTED[0] for name in FAULTY}
    assert {check.name for check in CHECKS} - proven == {"padding"}  # information only


def test_findings_teach():
    """Each error says what was expected; whoever wrote the module is not left with a symptom."""
    report = validate("validate.faulty.f03_batch_mean_subtracted", length="quick", only=["batch"])
    (finding,) = report.findings("error")
    assert "largest difference" in finding.found and "rtol 1e-4" in finding.expected and "dim" in finding.example
