"""The selective scan: every backend gives the values and gradients of the recurrence in float64, in pieces too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from hear_models.errors import UsageError
from hear_models.layers import selective_scan as room
from hear_models.layers import selective_scan_torch
from hear_models.layers.selective_scan import selective_scan

numba_room = pytest.importorskip("hear_models.layers.selective_scan_numba")

GOLDEN = Path(__file__).parent.parent / "golden" / "audio_mamba" / "scan_cases.npz"
CASES = ("init", "hard", "mixed", "frozen", "reset", "len1", "long")
ARGUMENTS = {"u": "u", "delta": "dt_raw", "A": "A", "B": "B", "C": "C", "D": "D", "z": "z", "delta_bias": "dt_bias"}
BACKENDS = ("reference", "torch", "numba")
FAST = ("torch", "numba")
OF_LARGEST = 2e-6, 1e-5  # tolerances of values and of gradients, as shares of the largest: the golden README's


def golden(case):
    with np.load(GOLDEN) as arrays:
        return {name.partition("/")[2]: arrays[name] for name in arrays.files if name.startswith(f"{case}/")}


def inputs(batch=2, dim=5, length=37, states=3, seed=0, dtype=torch.float32):
    """Everything a scan takes, as random numbers, with decays from nearly 1 to e^-20."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return {
        "u": normal(batch, dim, length),
        "delta": 2 * normal(batch, dim, length) - 1,
        "A": -torch.exp(normal(dim, states)),
        "B": normal(batch, states, length),
        "C": normal(batch, states, length),
        "D": normal(dim),
        "z": normal(batch, dim, length),
        "delta_bias": normal(dim),
        "state": normal(batch, dim, states),
    }


def with_gradients(arguments):
    return {name: tensor.clone().requires_grad_() for name, tensor in arguments.items()}


def share_of_largest(found, expected):
    """The largest difference as a share of the largest expected value."""
    found, expected = (torch.as_tensor(x).detach().double() for x in (found, expected))
    if not expected.numel():
        return 0.0
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


@pytest.fixture
def threads():
    """Set torch's threads for one test; every scan is shared among them, however small."""
    before, serial = torch.get_num_threads(), numba_room.SERIAL
    numba_room.SERIAL = 0
    yield torch.set_num_threads
    torch.set_num_threads(before)
    numba_room.SERIAL = serial


# Values


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_embeddings_are_those_of_the_recurrence_in_float64(backend, case):
    """With decays down to e^-442, which overflow wherever a state is divided by one."""
    arrays = golden(case)
    arguments = {name: torch.from_numpy(arrays[key]) for name, key in ARGUMENTS.items()}
    for training in (False, True):
        given_ = with_gradients(arguments) if training else arguments
        y, last = selective_scan(**given_, backend=backend, return_state=True)
        assert y.dtype == last.dtype == torch.float32
        assert share_of_largest(y, arrays["y64"]) <= OF_LARGEST[0]
        assert share_of_largest(last, arrays["last_state64"]) <= OF_LARGEST[0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_training_gets_the_gradients_of_the_recurrence_in_float64(backend, case):
    arrays = golden(case)
    arguments = with_gradients({name: torch.from_numpy(arrays[key]) for name, key in ARGUMENTS.items()})
    selective_scan(**arguments, backend=backend).backward(torch.from_numpy(arrays["cotangent"]))
    off = {name: share_of_largest(arguments[name].grad, arrays[f"grad_{key}"]) for name, key in ARGUMENTS.items()}
    assert {name: share for name, share in off.items() if share > OF_LARGEST[1]} == {}


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_gradients_are_the_derivatives(backend):
    """Of every argument, the state among them, through the result and through the last state, over several blocks."""
    arguments = with_gradients(inputs(batch=1, dim=2, length=2 * selective_scan_torch.BLOCK + 3, dtype=torch.float64))
    names = list(arguments)

    def scan(*tensors):
        return selective_scan(**dict(zip(names, tensors, strict=True)), backend=backend, return_state=True)

    assert torch.autograd.gradcheck(scan, tuple(arguments.values()))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    dim=st.integers(1, 2 * numba_room.WIDTH + 3),
    length=st.integers(0, 40),
    states=st.integers(1, 9),
    left_out=st.sets(st.sampled_from(["D", "z", "delta_bias", "state"])),
    soft=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_backends_agree(batch, dim, length, states, left_out, soft, seed):
    arguments = inputs(batch, dim, length, states, seed)
    for name in left_out:
        del arguments[name]
    if not soft:  # then delta is the step itself, which is never negative
        arguments["delta"] = arguments["delta"].abs()
        if "delta_bias" in arguments:
            arguments["delta_bias"] = arguments["delta_bias"].abs()
    options = {"delta_softplus": soft, "return_state": True}
    expected = selective_scan(**{k: v.double() for k, v in arguments.items()}, backend="reference", **options)
    for backend in BACKENDS:
        found = selective_scan(**arguments, backend=backend, **options)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=5e-5)  # sums of terms of up to 100


@pytest.mark.parametrize("backend", FAST)
def test_gradients_of_many_channels_agree(backend):
    """More blocks of channels than partial sums, the last one not full; batch items in several parts."""
    dim = numba_room.WIDTH * (numba_room.GROUPS + 2) + 5
    gradients = []
    for which in ("reference", backend):
        arguments = with_gradients(inputs(batch=4, dim=dim, length=19, states=6))
        y, last = selective_scan(**arguments, backend=which, return_state=True)
        (y.square().sum() + last.square().sum()).backward()
        gradients.append({name: tensor.grad for name, tensor in arguments.items()})
    for name, expected in gradients[0].items():
        assert share_of_largest(gradients[1][name], expected) <= OF_LARGEST[1], name


@pytest.mark.parametrize("name", ["u", "A", "D", "z", "delta_bias", "state"])
@pytest.mark.parametrize("backend", FAST)
def test_a_frozen_network_still_trains_the_one_tensor_that_is_not(backend, name):
    arguments = inputs()
    arguments[name].requires_grad_()
    selective_scan(**arguments, backend=backend).square().sum().backward()
    found = arguments[name].grad
    expected = torch.autograd.grad(selective_scan(**arguments, backend="reference").square().sum(), arguments[name])[0]
    assert share_of_largest(found, expected) <= OF_LARGEST[1]


@pytest.mark.parametrize("backend", FAST)
def test_gradients_of_gradients_are_refused_and_not_wrong(backend):
    arguments = with_gradients(inputs())
    y = selective_scan(**arguments, backend=backend)
    (first,) = torch.autograd.grad(y.square().sum(), arguments["A"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


# Pieces, batches, layouts


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 70), cuts=st.lists(st.integers(0, 70), max_size=6), backend=st.sampled_from(BACKENDS))
def test_a_stream_in_pieces_gives_what_the_whole_gives(length, cuts, backend):
    arguments = inputs(length=length)
    whole, last = selective_scan(**arguments, backend=backend, return_state=True)
    state, pieces = arguments.pop("state"), []
    for start, end in pairwise([0, *sorted(min(cut, length) for cut in cuts), length]):
        piece = {
            name: tensor[..., start:end] if name in ("u", "delta", "B", "C", "z") else tensor
            for name, tensor in arguments.items()
        }
        y, state = selective_scan(**piece, state=state, backend=backend, return_state=True)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_may_be_resumed_twice_from_the_same_state(backend):
    arguments = inputs()
    _, state = selective_scan(**arguments, backend=backend, return_state=True)
    first, again = (selective_scan(**{**arguments, "state": state}, backend=backend) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize("backend", FAST)
def test_training_in_pieces_gives_the_gradients_of_the_whole(backend):
    gradients = []
    for cuts in ([0, 37], [0, 1, 17, 18, 37]):
        arguments = with_gradients(inputs())
        state, total = arguments["state"], 0.0
        for start, end in pairwise(cuts):
            piece = {
                name: tensor[..., start:end] if name in ("u", "delta", "B", "C", "z") else tensor
                for name, tensor in arguments.items()
            }
            y, state = selective_scan(**{**piece, "state": state}, backend=backend, return_state=True)
            total = total + y.square().sum()
        total.backward()
        gradients.append({name: tensor.grad for name, tensor in arguments.items()})
    for name, expected in gradients[0].items():
        assert share_of_largest(gradients[1][name], expected) <= OF_LARGEST[1], name


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_clip_does_not_depend_on_its_neighbours(backend):
    arguments = inputs(batch=9, dim=70, states=24)
    alone = {name: tensor[4:5] if tensor.dim() == 3 else tensor for name, tensor in arguments.items()}
    found, expected = selective_scan(**arguments, backend=backend)[4:5], selective_scan(**alone, backend=backend)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if backend == "numba":
        assert torch.equal(found, expected)


@pytest.mark.parametrize("backend", FAST)
def test_a_broken_number_stays_in_its_channel_and_is_not_hidden(backend):
    for name in ("u", "delta"):
        for training in (False, True):
            arguments = inputs()
            arguments[name][1, 2, 20] = float("nan")
            if training:
                arguments = with_gradients(arguments)
            broken = selective_scan(**arguments, backend=backend).isnan()
            assert broken[1, 2, 20:].all() and broken.sum() == 17


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_layout_of_the_tensors_does_not_matter_and_none_is_overwritten(backend):
    plain = inputs(states=4)
    views = {name: tensor.transpose(0, -1).contiguous().transpose(0, -1) for name, tensor in plain.items()}
    before = {name: tensor.clone() for name, tensor in views.items()}
    found = selective_scan(**views, backend=backend, return_state=True)
    expected = selective_scan(**plain, backend=backend, return_state=True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(views[name], before[name]) for name in views)


@pytest.mark.parametrize("backend", FAST)
def test_silence_and_overflow_end_like_the_formula(backend):
    """A step of 0 keeps the state as it is; e^(delta A) beyond float32 is infinite and not some other number."""
    arguments = inputs(length=30)
    arguments["delta"] = torch.full_like(arguments["delta"], -200.0)
    _, last = selective_scan(**arguments, backend=backend, return_state=True)
    torch.testing.assert_close(last, arguments["state"], rtol=0, atol=0)
    arguments["delta"], arguments["A"] = torch.full_like(arguments["delta"], 100.0), arguments["A"].abs() + 1
    assert not selective_scan(**arguments, backend=backend).isfinite().any()


# Numbers


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_reach_into_the_recurrence(backend):
    results = []
    for autocast in (False, True):
        arguments = with_gradients(inputs())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y = selective_scan(**arguments, backend=backend)
            if backend != "reference":  # which is torch's own on the way back: loss.backward() belongs outside
                y.square().sum().backward()
        if backend == "reference":
            y.square().sum().backward()
        results.append([y.detach(), *(tensor.grad for tensor in arguments.values())])
    for plain, under in zip(*results, strict=True):
        assert under.dtype == torch.float32
        torch.testing.assert_close(under, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_costs_the_rounding_of_the_inputs_and_the_result_only(backend):
    half = {name: tensor.bfloat16() for name, tensor in inputs(length=200).items()}
    y, last = selective_scan(**half, backend=backend, return_state=True)
    expected = selective_scan(**{name: tensor.double() for name, tensor in half.items()}, backend="reference")
    assert y.dtype == torch.bfloat16 and last.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("backend", FAST)
def test_memory_of_training_is_linear_in_length_and_far_below_every_state_of_every_step(backend):
    def kept(length):
        sizes = []
        arguments = with_gradients(inputs(batch=1, dim=64, length=length, states=24))
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            selective_scan(**arguments, backend=backend)
        return sum(sizes)

    assert kept(1024) < 2.1 * kept(512)
    assert kept(512) < 512 * 64 * 24 / 2


@pytest.mark.parametrize("backend", FAST)
def test_no_tensor_of_every_state_of_every_step_is_ever_made(backend):
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.numel())
            return result

    arguments = with_gradients(inputs(batch=1, dim=64, length=600, states=24))
    with Largest() as largest:
        selective_scan(**arguments, backend=backend).sum().backward()
    assert largest.numel < 600 * 64 * 24 / 4


# Wrong use


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "cuda"}, "no scan backend 'cuda'.*auto, torch, numba, .*reference"),
        ({"u": torch.zeros(5, 37)}, r"u has shape \[5, 37\].*\[batch, dim, length\]"),
        ({"A": torch.zeros(4, 3)}, r"A has shape \[4, 3\].*must be \[5, 3\]"),
        ({"B": torch.zeros(2, 37, 3)}, r"B has shape \[2, 37, 3\].*must be \[2, 3, 37\]"),
        ({"C": torch.zeros(1, 3, 37)}, r"C has shape .*must be \[2, 3, 37\]"),
        ({"D": torch.zeros(5, 1)}, r"D has shape .*must be \[5\]"),
        ({"z": torch.zeros(2, 5, 36)}, r"z has shape .*must be \[2, 5, 37\]"),
        ({"state": torch.zeros(2, 3, 5)}, r"state has shape .*must be \[2, 5, 3\]"),
        ({"A": torch.zeros(5, 3, dtype=torch.complex64)}, "A is complex64.*real"),
        ({"u": torch.zeros(2, 5, 37, dtype=torch.int16)}, "u is int16.*floating"),
        ({"z": torch.zeros(2, 5, 37, device="meta")}, "z is on meta and u on cpu"),
        ({"u": torch.zeros(2, 5, 37).double(), "backend": "numba"}, "float32 only.*'torch'"),
    ],
)
def test_wrong_use_is_told_with_what_would_be_right(changes, message):
    with pytest.raises(UsageError, match=message):
        selective_scan(**{**inputs(), **changes})


def test_a_backend_that_cannot_run_here_says_why(monkeypatch):
    room._missing.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(numba_room.config, "DISABLE_JIT", 1)
        with pytest.raises(UsageError, match=r"NUMBA_DISABLE_JIT is set.*'torch'"):
            selective_scan(**inputs(), backend="numba")
        assert room._choose("auto", torch.device("cpu"), torch.float32) == "torch"
    room._missing.cache_clear()
    assert room._choose("auto", torch.device("cpu"), torch.float32) == "numba"
    assert room._choose("auto", torch.device("cpu"), torch.float64) == "torch"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_default_dtype_of_the_process_does_not_matter(backend):
    expected = selective_scan(**inputs(), backend=backend)
    arguments = inputs()
    torch.set_default_dtype(torch.float64)
    try:
        found = selective_scan(**arguments, backend=backend)
        selective_scan(**with_gradients(arguments), backend=backend).sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


# Threads, processes, the cache of compiled code


def test_bits_do_not_depend_on_the_number_of_threads(threads):
    results = []
    for count in (1, 2, 5):
        threads(count)
        arguments = with_gradients(inputs(batch=3, dim=200))
        y = selective_scan(**arguments, backend="numba")
        y.square().sum().backward()
        with torch.no_grad():
            results.append([selective_scan(**arguments, backend="numba"), y, *(x.grad for x in arguments.values())])
    for result in results[1:]:
        # sums over a batch or a clip around the recurrence are torch's, and share their work by threads
        assert all(torch.equal(a, b) for a, b in zip(result[:2], results[0][:2], strict=True))
        for a, b in zip(result[2:], results[0][2:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_many_threads_may_scan_at_once(threads):
    threads(4)
    problems = [inputs(batch=2, dim=150, seed=seed) for seed in range(6)]
    expected = [selective_scan(**problem, backend="numba") for problem in problems]
    wrong = []

    def work(k):
        for _ in range(20):
            if not torch.equal(selective_scan(**problems[k], backend="numba"), expected[k]):
                wrong.append(k)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


FORKING = """
import os, threading, torch
from hear_models.layers import selective_scan_numba as room
from hear_models.layers.selective_scan import selective_scan
room.SERIAL = 0
torch.set_num_threads(3)
u = torch.randn(2, 200, 50)
arguments = (u, u, -torch.rand(200, 4), torch.randn(2, 4, 50), torch.randn(2, 4, 50))
before = selective_scan(*arguments, backend="numba")
assert room._pools[-1] is not None, "no threads were used: this test would show nothing"
child = os.fork()
if child == 0:
    same = torch.equal(selective_scan(*arguments, backend="numba"), before)
    helped = any(thread.name.startswith("selective-scan") for thread in threading.enumerate())
    os._exit(0 if same and helped else 3)
print("child", os.waitpid(child, 0)[1], torch.equal(selective_scan(*arguments, backend="numba"), before))
"""


def python(code, **environment):
    """A fresh interpreter that sees the same package; what it printed."""
    package = str(Path(room.__file__).parents[2])
    path = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_worker_scans_as_its_parent_does():
    assert python(FORKING).split() == ["child", "0", "True"]


def double(x):
    x[0] *= 2.0


@pytest.mark.parametrize("damage", ["nowhere to write", "damaged"])
def test_a_cache_that_cannot_be_used_is_done_without(damage, monkeypatch, tmp_path):
    """An installed package may lie where nobody may write, with no home folder either; an entry may be cut short."""
    from numba.core import caching

    monkeypatch.setattr(numba_room.config, "CACHE_DIR", str(tmp_path))
    numba_room.compile_kernel("void(float32[::1])", double)
    entries = list(tmp_path.rglob("*.nb[ic]"))
    assert entries, "nothing was cached: this test would show nothing"
    if damage == "damaged":
        for entry in entries:
            entry.write_bytes(entry.read_bytes()[:20])
    else:
        monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    x = np.ones(1, np.float32)
    numba_room.compile_kernel("void(float32[::1])", double)(x)
    assert x[0] == 2


def test_a_scan_in_torch_never_waits_for_numba():
    code = """
import sys, torch
from hear_models.layers.selective_scan import selective_scan
u = torch.zeros(1, 2, 3)
selective_scan(u, u, torch.zeros(2, 1), u[:, :1], u[:, :1], backend="torch")
print(sorted({"numba", "triton", "hear_models.layers.selective_scan_numba"} & set(sys.modules)))
"""
    assert python(code).strip() == "[]"
