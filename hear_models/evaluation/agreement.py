"""Whether the two judges are known to give the same bits: a table may mix them only where that was measured.

`agreement.json` is written by the equality test, which runs both judges on the same embeddings and compares every
logit (`python -m hear_models.evaluation.agreement`). An entry counts only as long as the code of the builtin judge,
the recipe of the released kit and its launcher are those that were compared: each is named by its sha256.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMITTED = HERE / "agreement.json"
# What decides the builtin judge's bits. A new neighbour that computes belongs in this list.
BUILTIN_CODE = ("builtin.py", "protocols.py", "folder.py", "metrics.py")
HEAREVAL_CODE = ("heareval-requirements.txt", "heareval_launcher.py", "heareval.py")


@dataclass(frozen=True)
class Proof:
    """One green run of the equality test.

    `torch` is `torch.__version__` with its build ("2.13.0+cpu"), `cpu_capability` what
    `torch.backends.cpu.get_cpu_capability()` said; `max_difference` maps "TASK PROTOCOL" to the largest absolute
    difference between two logits: always 0.0, a run with any other value is not written.
    """

    torch: str
    cpu_capability: str
    machine: str
    python: str
    threads: int
    builtin_sha256: str
    heareval_sha256: str
    max_difference: dict[str, float]
    date: str


def code_sha256(names: tuple[str, ...]) -> str:
    """The sha256 over these files of this folder, names and bytes; a file that is not there counts as empty."""
    digest = hashlib.sha256()
    for name in names:
        path = HERE / name
        content = path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else b""
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def proofs() -> list[Proof]:
    """What was measured: the entries that came with the package."""
    if not COMMITTED.is_file():
        return []
    entries: list[dict[str, Any]] = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return [Proof(**entry) for entry in entries]


def is_current(proof: Proof) -> bool:
    """Whether neither judge has changed since, and nothing differed then."""
    return (
        proof.builtin_sha256 == code_sha256(BUILTIN_CODE)
        and proof.heareval_sha256 == code_sha256(HEAREVAL_CODE)
        and bool(proof.max_difference)
        and all(difference == 0.0 for difference in proof.max_difference.values())
    )


def judges_agree(torch_version: str, cpu_capability: str | None = None) -> bool:
    """Whether both judges gave the same logits, bit for bit, under this build of torch (`torch.__version__`).

    `cpu_capability` (for instance "AVX512") narrows the question to processors of that kind; None asks for any.
    """
    return any(
        proof.torch == torch_version and cpu_capability in (None, proof.cpu_capability) and is_current(proof)
        for proof in proofs()
    )
