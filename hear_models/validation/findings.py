"""What a check says: findings that teach (what was found, what was expected, an example that would be right)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hear_models.validation.official import Official

Severity = Literal["error", "warning", "info"]
# what a check is about: the HEAR API; numbers that scores rest on; good manners, which the API does not ask for
Part = Literal["api", "scores", "manners"]
PARTS: tuple[Part, ...] = ("api", "scores", "manners")
Status = Literal["ok", "info", "warning", "error", "skipped"]

# worst last: a check's status is the worst severity among its findings
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    error: the module breaks the HEAR API, or its numbers would mislead an evaluation. warning: allowed, but it costs
    score, time or memory. info: a property worth knowing.
    """

    check: str  # name of the check, as in CHECKS
    severity: Severity
    found: str  # what was found, with its numbers and units
    expected: str = ""  # what was expected, and why
    example: str = ""  # a line of code, or of arithmetic, that would be right
    traceback: str = ""  # of an exception of the module, or of the check

    def to_dict(self) -> dict[str, str]:
        """The finding as plain strings, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CheckResult:
    """One check's outcome: its findings, its time, or why it was not run."""

    name: str
    title: str  # what the check protects, in a few words
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0
    skipped: str = ""  # why the check was not run; empty when it was
    part: Part = "api"

    @property
    def status(self) -> Status:
        """The worst severity found; "ok" without findings, "skipped" when the check was not run."""
        if self.skipped:
            return "skipped"
        if not self.findings:
            return "ok"
        return max((finding.severity for finding in self.findings), key=SEVERITIES.index)


@dataclass(frozen=True)
class Report:
    """The outcome of `validate`: every check in its order."""

    module: str
    results: tuple[CheckResult, ...]
    options: dict[str, Any] = field(default_factory=dict)  # model, device, length of the run
    official: Official | None = None  # what hear-validator would say; None: not asked

    def findings(self, severity: Severity | None = None) -> list[Finding]:
        """All findings in the order of the checks, or only those of one severity."""
        return [
            finding
            for result in self.results
            for finding in result.findings
            if severity is None or finding.severity == severity
        ]

    @property
    def ok(self) -> bool:
        """True without errors; warnings are allowed."""
        return not self.findings("error")

    def of(self, part: Part, severity: Severity) -> int:
        """How many findings of a severity the checks of one part have."""
        return sum(
            finding.severity == severity
            for result in self.results
            for finding in result.findings
            if result.part == part
        )

    @property
    def keeps_api(self) -> bool:
        """True if nothing that the HEAR API asks for was found wanting."""
        return not self.of("api", "error")

    def to_dict(self) -> dict[str, Any]:
        """The report for a program: module, ok, counts, and each check with status, seconds and findings."""
        return {
            "module": self.module,
            "ok": self.ok,
            "keeps_api": self.keeps_api,
            **({} if self.official is None else {"hear_validator": self.official.refusal or "passes"}),
            "errors": len(self.findings("error")),
            "warnings": len(self.findings("warning")),
            **self.options,
            "checks": [
                {
                    "name": result.name,
                    "title": result.title,
                    "part": result.part,
                    "status": result.status,
                    "seconds": round(result.seconds, 3),
                    "skipped": result.skipped,
                    "findings": [finding.to_dict() for finding in result.findings],
                }
                for result in self.results
            ],
        }
