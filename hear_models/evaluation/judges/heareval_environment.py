"""The environment of the released hear-eval-kit: one folder of pinned packages, built once, every hash checked.

The kit cannot live beside us: it wants PyTorch Lightning 1.9, setuptools below 81 and more of its time. So its
packages lie in a folder of their own (`pip install --target`), which the kit's process puts in front of everything
else; torch, numpy and soundfile come from behind it, from the environment that runs hear-models, so that both judges
compute with the same torch.

    python -m hear_models.evaluation.judges.heareval_environment        builds it and prints where it is
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from hear_models.errors import HearModelsError
from hear_models.files import whole_folder
from hear_models.locks import beside, only_writer
from hear_models.resources import cache_folder

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "heareval-requirements.txt"
SOURCES = HERE / "heareval-sources.txt"
KIT_VERSION = "2021.1.3"
PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))  # those whose wheels are pinned
MACHINES = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
UNREACHABLE = ("establish a new connection", "Name or service not known", "Failed to resolve", "ConnectTimeoutError")
NOT_OURS = ("tests", "tmp", "bin", "example.py")  # litter that would hide somebody's modules, and unused programs


class JudgeError(HearModelsError):
    """The released kit could not be installed, or failed on a task."""


def recipe_sha256() -> str:
    """What the environment is made of: the sha256 over the pins of both lists, without comments."""
    lines = [line for path in (REQUIREMENTS, SOURCES) for line in path.read_text(encoding="utf-8").splitlines()]
    return hashlib.sha256("\n".join(line for line in lines if not line.startswith("#")).encode()).hexdigest()


def environment_folder() -> Path:
    """The folder of this recipe for this Python on this kind of machine, whether it was built yet or not."""
    system = f"{sys.implementation.cache_tag} {sys.platform} {platform.machine().lower()}"
    key = hashlib.sha256(f"{recipe_sha256()} {system}".encode()).hexdigest()[:16]
    return cache_folder() / f"heareval-{key}"


def is_built() -> bool:
    """Whether `ensure_environment` has nothing left to do."""
    return environment_folder().is_dir()


def ensure_environment(say: Callable[[str], None] | None = None) -> Path:
    """The kit's packages; built first if they are not there (a download of about 90 MB, once).

    `say` is told, in a sentence, when there is something to wait for. A build happens in a folder of another name
    under a lock and is renamed at the end: a crash leaves no half environment, two processes build it once.
    Raises JudgeError without a network, without pip, and on a Python or machine whose wheels are not pinned.
    """
    folder = environment_folder()
    if folder.is_dir():
        return folder
    _refuse_what_is_not_pinned()
    say = say or (lambda message: None)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_writer(beside(folder), folder, wait=say):
            if not folder.is_dir():
                say(f"building the environment of hear-eval-kit {KIT_VERSION} in {folder} (once, a minute or two)")
                _build(folder)
    except OSError as error:
        raise JudgeError(
            f"{folder} cannot be written: {error.strerror or error}. Name another folder with HEAR_MODELS_CACHE."
        ) from error
    return folder


def _refuse_what_is_not_pinned() -> None:
    here = sys.version_info[:2]
    machine = (sys.platform, platform.machine().lower())
    if here not in PYTHONS or sys.implementation.name != "cpython" or machine not in MACHINES:
        pinned = f"CPython {'.'.join(map(str, PYTHONS[0]))} to {'.'.join(map(str, PYTHONS[-1]))}"
        places = ", ".join(" ".join(pair) for pair in MACHINES)
        raise JudgeError(
            f"The released hear-eval-kit is pinned for {pinned} on {places}, and this is "
            f"{sys.implementation.name} {here[0]}.{here[1]} on {' '.join(machine)}. "
            "Use `--judge builtin`, which is tested to give the same bits."
        )


def _build(folder: Path) -> None:
    log = folder.with_name(folder.name + ".log")
    with whole_folder(folder) as partial:
        with log.open("w", encoding="utf-8") as output:
            pip = _pip(partial / "bootstrap", output)
            common = ["install", "--no-deps", "--require-hashes", "--no-compile", "--disable-pip-version-check"]
            target = ["--target", str(partial)]
            _run([*pip, *common, *target, "--only-binary", ":all:", "-r", str(REQUIREMENTS)], output)
            # setuptools, which builds the two source archives, is the pinned one of the step before
            built = [*pip, *common, *target, "--no-build-isolation", "-r", str(SOURCES)]
            _run(built, output, PYTHONPATH=str(partial))
        for name in ("bootstrap", *NOT_OURS):
            shutil.rmtree(partial / name, ignore_errors=True)
            (partial / name).unlink(missing_ok=True)


def _pip(bootstrap: Path, output: TextIO) -> list[str]:
    """How to call pip for this Python; where it is not installed (uv leaves it out), one from the standard library."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    _run([sys.executable, "-m", "venv", str(bootstrap)], output)
    return [str(bootstrap / "bin" / "python"), "-m", "pip"]


def _run(command: list[str], output: TextIO, **environment: str) -> None:
    """Run one step of the build, its words into the log; JudgeError with pip's own reason if it fails."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_TARGET")}
    process = subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=Path(output.name).parent,  # `-m` looks into the current folder first: a stranger's pip.py must not run
        env={**inherited, **environment},
        start_new_session=True,
    )
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C too: nothing of ours goes on installing
        kill(process)
        raise
    if code:
        raise JudgeError(
            f"The environment of the released hear-eval-kit could not be built: {_reason(Path(output.name), command)}. "
            "`--judge builtin` needs none and is tested to give the same bits."
        )


def _reason(log: Path, command: list[str]) -> str:
    """Why a step failed, in pip's own words where they are to the point, and where the rest stands."""
    text = log.read_text(encoding="utf-8", errors="replace")
    if any(sign in text for sign in UNREACHABLE):
        return f"the package index cannot be reached, and it is needed once (log: {log})"
    errors = [line.removeprefix("ERROR: ").rstrip(".") for line in text.splitlines() if line.startswith("ERROR:")]
    return f"{errors[-1] if errors else ' '.join(command[:4]) + ' failed'} (log: {log})"


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started with `start_new_session`, and all its children."""
    for wanted, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, wanted)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


def main() -> int:
    """`python -m hear_models.evaluation.judges.heareval_environment`."""
    try:
        print(ensure_environment(lambda message: print(message, file=sys.stderr)))
    except HearModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
