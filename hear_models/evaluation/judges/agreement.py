"""Whether the two judges are known to give the same bits: a table may mix them only where that was measured.

The equality test (equality.py) runs both judges on the same embeddings, compares every logit and writes what it saw
down: in `agreement.json`, which comes with the package, or for somebody's own build of torch in their cache folder.
An entry counts only as long as the code of both judges, the launcher and the recipe of the kit's environment are
those that were compared; each is named by its sha256.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from hear_models.evaluation.judges.heareval_environment import cache_folder
from hear_models.evaluation.judges.table import code_of

COMMITTED = Path(__file__).parent / "agreement.json"


@dataclass(frozen=True)
class Proof:
    """One green run of the equality test.

    `torch` is `torch.__version__` with its build ("2.13.0+cpu"), `cpu_capability` what
    `torch.backends.cpu.get_cpu_capability()` said; `max_difference` maps a case ("event, hear, seed 42") to the
    largest absolute difference between two logits: always 0.0, a run with any other value is not written.
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


def builtin_sha256() -> str:
    """The code of our own judge."""
    return code_of("builtin")


def heareval_sha256() -> str:
    """What runs the released kit: our code, the launcher with its shims, and the recipe of the environment."""
    return code_of("heareval")


def own_file() -> Path:
    """Where `python -m hear_models.evaluation.judges.equality` writes what it measured on this machine."""
    return cache_folder() / "agreement.json"


def read_proofs(path: Path) -> list[Proof]:
    """The entries of one file; none if it is not there or of another version of this package."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return [Proof(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    return []


def proofs() -> list[Proof]:
    """What was measured: the entries that came with the package, and those of this machine."""
    return [*read_proofs(COMMITTED), *read_proofs(own_file())]


def is_current(proof: Proof) -> bool:
    """Whether neither judge has changed since, and nothing differed then."""
    return (
        proof.builtin_sha256 == builtin_sha256()
        and proof.heareval_sha256 == heareval_sha256()
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
