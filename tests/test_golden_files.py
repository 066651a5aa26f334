"""Reference arrays are evidence: not one byte of tests/golden changes, comes or goes without a line in SHA256SUMS."""

from __future__ import annotations

import hashlib
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
SUMS = GOLDEN / "SHA256SUMS"
LIMIT_BYTES = 20_000_000


def test_golden_files_are_those_that_were_measured():
    """As `sha256sum -c SHA256SUMS`, and no file without a sum. A golden is never regenerated to pass a test."""
    written = {line[66:]: line[:64] for line in SUMS.read_text(encoding="utf-8").splitlines() if line}
    files = {path.relative_to(GOLDEN).as_posix(): path for path in GOLDEN.rglob("*") if path.is_file() and path != SUMS}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    missing = sorted(written.keys() - found.keys())
    changed = sorted(name for name in written.keys() & found.keys() if written[name] != found[name])
    unlisted = [f"{found[name]}  {name}" for name in sorted(found.keys() - written.keys())]
    assert not changed, f"changed: {changed}; restore them from version control"
    assert not missing, f"listed but not there: {missing}"
    assert not unlisted, "new files; add to tests/golden/SHA256SUMS:\n" + "\n".join(unlisted)


def test_golden_files_stay_small_enough_for_a_clone():
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < LIMIT_BYTES
