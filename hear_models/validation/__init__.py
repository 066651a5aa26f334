"""Checks of any HEAR module against the API and beyond it: for the test suite and for `hear-models validate`."""

from hear_models.subjects.module import HearModule, family_modules, load_module
from hear_models.validation.findings import CheckResult, Finding, Report
from hear_models.validation.runner import CHECKS, Check, validate

__all__ = [
    "CHECKS",
    "Check",
    "CheckResult",
    "Finding",
    "HearModule",
    "Report",
    "family_modules",
    "load_module",
    "validate",
]
