"""`.ci/conformance` says in one sentence what is wrong, and leaves nothing half built behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent.parent.parent / ".ci" / "conformance"


def conformance(cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script with an empty cache and an index that holds nothing."""
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(cache),
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_CONFIG_FILE": os.devnull,
    }
    return subprocess.run(
        ["bash", str(SCRIPT), "hear_models.mwmae"],
        env={**os.environ, **offline, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
    )


def test_without_network_and_cache_it_says_so_and_leaves_no_environment(tmp_path):
    """Nor does it take what a killed build left, under another name, for an environment."""
    killed = tmp_path / "hear-models" / "conformance-0123456789abcdef.partial.AbCdEf"
    (killed / "bin").mkdir(parents=True)
    done = conformance(tmp_path)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert "no environment is cached" in sentence and "offline?" in sentence
    assert [path for path in (tmp_path / "hear-models").iterdir() if path.suffix != ".log"] == [killed]


def test_a_wrong_interpreter_is_named(tmp_path):
    done = conformance(tmp_path, PYTHON="no-such-python")
    assert done.returncode == 1 and "PYTHON=" in done.stderr
    assert not (tmp_path / "hear-models").exists()
