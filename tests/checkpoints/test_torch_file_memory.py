"""Small files made to take all memory or all day: refused or read in a process that has little of either."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch_maker import called, named, plain, state_dict, tensor, text, torch_zip, written

MEMORY_BYTES = 1 << 30  # address space that the child may add to that of its imports
LIMIT_MB = 400  # resident memory of the child; its imports have about 30
SECONDS = 60

CHILD = """
import json, resource, sys, time
from hear_models.checkpoints import torch_opening
from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.errors import CheckpointError

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
for path in sys.argv[2:]:
    start, said = time.perf_counter(), []
    steps = [lambda file: file.values, lambda file: len(file.tensors), lambda file: file.notes]
    steps.append(lambda file: [tensor.array().nbytes for tensor in find_state_dict(file.content).values()])
    try:
        file = read_torch_file(path)
    except CheckpointError as error:
        said, steps = ["read: " + str(error)], []
    for step in steps:
        try:
            step(file)
        except CheckpointError as error:
            said.append(str(error))
    file = None
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
    print(json.dumps([peak, time.perf_counter() - start, said]))
"""


def laughs(leaf: bytes, levels: int = 60) -> bytes:
    """A list of ten times the same list of ten times ... as many levels deep."""
    body = leaf + b"q\x000"  # remember it, and take it off the stack
    for level in range(1, levels):
        body += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * 10 + b"e0"
    return body + b"h" + bytes([levels - 1])


LISTED = b"](" + b"K\1" * 100_000 + b"eq\0"  # a list of 100,000, remembered
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "billion laughs": (lambda: b"\x80\x02}" + text("a") + laughs(b"K\1") + b"s.", "no end"),
    "billion laughs of one tensor": (
        lambda: b"\x80\x02}" + text("a") + laughs(tensor("0", 4, 0, (4,), (1,))) + b"s.",
        "no end",
    ),
    "billion laughs of keys": (lambda: b"\x80\x02}" + laughs(b"K\1\x85") + b"K\1s.", "is used as a key"),
    "a deep list": (lambda: b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".", "100 deep"),
    "a deep tuple": (lambda: b"\x80\x02K\1" + b"\x85" * 300_000 + b".", "100 deep"),
    "a deep tuple as a key": (lambda: b"\x80\x02}K\1" + b"\x85" * 300_000 + b"K\1s.", "used as a key"),
    "a deep record": (
        lambda: b"\x80\x02" + named("my", "Net") + b"q\x000" + b"h\0)R" * 100_000 + b"b" * 99_999 + b".",
        "100 deep",
    ),
    "a deep path": (lambda: b"\x80\x02" + (b"}" + text("k" * 900)) * 3000 + b"N" + b"s" * 3000 + b".", "100 deep"),
    "an integer of two gigabytes": (lambda: b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\1" * 100 + b".", "an integer of"),
    "an integer of many digits": (lambda: b"\x80\x02I" + b"9" * 3_000_000 + b"\n.", "an integer of"),
    "bytes that are not there": (lambda: b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"x.", "are announced"),
    "text that is not there": (lambda: b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"x.", "are announced"),
    "a frame that is not there": (lambda: b"\x80\x04\x95" + (1 << 63).to_bytes(8, "little") + b"N.", "a frame of"),
    "a number far up in the memo": (lambda: b"\x80\x02Nr\xff\xff\xff\xff.", ""),
    "three million sets": (lambda: b"\x80\x04" + b"](" + b"\x8f" * 3_000_000 + b"e.", "unfolds to more than 2,000,000"),
    "three million lists": (lambda: b"\x80\x04" + b"](" + b"]" * 3_000_000 + b"e.", "unfolds to more than"),
    "a million records": (
        lambda: b"\x80\x02" + named("my", "Net") + b"q\x000](" + b"h\0)R" * 1_000_000 + b"e.",
        "unfolds to more than",
    ),
    "copies of a list": (
        lambda: b"\x80\x02](" + LISTED + (named("builtins", "list") + b"h\0\x85R") * 10_000 + b"e.",
        "unfolds to more than",
    ),
    "copies of a text": (
        lambda: (
            b"\x80\x02](" + text("x" * 1_000_000) + b"q\0" + text("latin1") + b"q\1"
            b"" + (named("_codecs", "encode") + b"h\0h\1\x86R") * 10_000 + b"e."
        ),
        "unfolds to more than",
    ),
    "bytes by their size": (
        lambda: b"\x80\x02" + called("builtins", "bytearray", plain((1 << 40,))) + b".",
        "bytes are made",
    ),
    "helpers that are handed helpers": (
        lambda: b"\x80\x02" + named("copyreg", "__newobj__") + b"q\0(" + b"h\0" * 500_000 + b"tR.",
        "is no class",
    ),
    "a view of one value, a billion times": (
        lambda: state_dict(w=tensor("0", 4, 0, (1 << 30,), (0,))),
        "more than 32 times the 16 bytes",
    ),
    "ten thousand views": (
        lambda: state_dict(**{f"w{i}": tensor("0", 4, 0, (1 << 20,), (0,)) for i in range(10_000)}),
        "more than 32 times the 16 bytes",
    ),
    "colliding keys": (
        lambda: b"\x80\x02}(" + b"".join(plain((2**61 - 1) * i) + b"N" for i in range(200_000)) + b"u.",
        "a huge integer is used as a key",
    ),
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the child limits itself by what /proc says")
def test_memory_and_time_stay_bounded(tmp_path):
    paths = []
    for name, (make, _) in BOMBS.items():
        data = torch_zip(make(), {"0": np.ones(4, np.float32)})
        paths.append(written(tmp_path, data, f"{name.replace(' ', '-')}.pth"))
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(MEMORY_BYTES), *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=5 * SECONDS,
    )
    assert done.returncode == 0, f"exit code {done.returncode} after {done.stdout.splitlines()[-1:]}: {done.stderr}"
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for (name, (_, expected)), (peak_mb, seconds, said) in zip(BOMBS.items(), rows, strict=True):
        print(f"{name}: {peak_mb:.0f} MB, {seconds:.2f} s, {said}")
        assert peak_mb < LIMIT_MB and seconds < SECONDS, name
        assert not expected or any(expected in sentence for sentence in said), (name, said)
    assert time.perf_counter() - start < 5 * SECONDS
