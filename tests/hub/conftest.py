"""A Hub on 127.0.0.1 for each test, and the environment in which the real huggingface_hub talks to it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub.server import HubServer

# what a developer's shell may set; a test starts without
OF_THE_CLIENT = (
    "HF_",
    "HUGGING",
    "HEAR_MODELS_",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
)


def forget_the_client() -> None:
    """huggingface_hub reads its environment when it is imported, so the next import reads what the test has set."""
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        del sys.modules[name]
    logging.getLogger("huggingface_hub").handlers.clear()  # each import adds one


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """For a process of its own: the shell's environment with the tests' Hub in place of huggingface.co."""
    kept = "HEAR_MODELS_CACHE"
    own = {name: value for name, value in os.environ.items() if name == kept or not name.startswith(OF_THE_CLIENT)}
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**own, **hub, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **more}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A running Hub; the environment of this process points to it and to an empty cache in `tmp_path / "home"`."""
    with HubServer() as server:
        wanted = environment(server.endpoint, tmp_path / "home")
        for name in set(os.environ) - set(wanted):
            monkeypatch.delenv(name)
        for name, value in wanted.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("hear_models.checkpoints.hub.PAUSE_S", 0.05)
        forget_the_client()
        yield server
    forget_the_client()


# a shell's background job ignores Ctrl-C, and so do its children unless they ask for it
MAIN = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from hear_models.cli.main import main
main()"""


@dataclass(frozen=True)
class Ended:
    """How a process of `hear-models` ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(hub: HubServer, tmp_path: Path):
    """`command("download", …)` runs `hear-models` in a process of its own; `terminal=True`: stderr is one."""

    def call(*arguments: str, home: Path = tmp_path / "home", terminal: bool = False, **more: str) -> Ended:
        process = start(hub.endpoint, home, *arguments, terminal=terminal, **more)
        if terminal:
            err = read_terminal(process)
            out = process.stdout.read() if process.stdout else ""
            return Ended(process.wait(60), out, err)
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err)

    return call


def start(endpoint: str, home: Path, *arguments: str, terminal: bool = False, **more: str) -> subprocess.Popen[str]:
    """`hear-models ARGUMENTS` as a process that talks to the Hub at `endpoint`."""
    stderr: int = subprocess.PIPE
    if terminal:
        master, stderr = pty.openpty()
        fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        env=environment(endpoint, home, **more),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    if terminal:
        os.close(stderr)
        process.terminal = master  # type: ignore[attr-defined]
    return process


def read_terminal(process: subprocess.Popen[str]) -> str:
    """What came on the terminal until the process closed it."""
    pieces = []
    with contextlib.suppress(OSError):  # Linux: EIO at the end
        while piece := os.read(process.terminal, 65536):  # type: ignore[attr-defined]
            pieces.append(piece)
    os.close(process.terminal)  # type: ignore[attr-defined]
    return b"".join(pieces).decode()
