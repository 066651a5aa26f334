"""The mLSTM cell: the official numbers in every form, whole or cut, their gradients, and memory that stays linear."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
from golden_inputs import GOLDEN, TOLERANCE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hear_models.errors import UsageError
from hear_models.layers import mlstm as room
from hear_models.layers.mlstm import MLSTMState, mlstm

CASES = np.load(GOLDEN / "axlstm" / "mlstm_cases.npz")
NAMES = sorted(key.removesuffix("__meta") for key in CASES.files if key.endswith("__meta"))
# form, steps of a block, whether the table of weights may be factored
FORMS = [
    ("sequential", 128, True),
    ("parallel", 64, True),
    ("parallel", 7, True),
    ("parallel", 1000, False),
    ("parallel", 7, False),
    ("chunkwise", 128, True),
    ("chunkwise", 7, True),
    ("chunkwise", 16, False),
    ("chunkwise", 1, False),
    ("auto", 128, True),
]
any_form = pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f[0]}-{f[1]}-{'factored' if f[2] else 'direct'}")


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: threads that wait for each other on a busy machine would take most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(form, *inputs, **more):
    """mlstm in one of FORMS."""
    mode, block, factored = form
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "PARALLEL_STEPS", block)
        patch.setattr(room, "CHUNK_STEPS", block)
        if not factored:
            patch.setattr(room, "_factored", lambda *_: None)
        return mlstm(*inputs, mode=mode, **more)


def golden_inputs(name, dtype=torch.float32):
    """q, k, v, igate, fgate of a golden case, drawn again from its seed."""
    b, h, s, d, i_scale, i_mean, f_scale, f_mean, seed, qk_scale = CASES[f"{name}__meta"].tolist()
    rng = np.random.Generator(np.random.PCG64(int(seed)))
    b, h, s, d = (int(n) for n in (b, h, s, d))
    q, k, v = (np.float32(qk_scale) * rng.standard_normal((b, h, s, d), dtype=np.float32) for _ in range(3))
    igate, fgate = (
        (mean + scale * rng.standard_normal((b, h, s, 1))).astype(np.float32)[..., 0]
        for mean, scale in ((i_mean, i_scale), (f_mean, f_scale))
    )
    if name == "zero_q":
        q = np.zeros_like(q)
    for key, x in zip("qkvif", (q, k, v, igate, fgate), strict=True):
        if f"{name}__{key}" in CASES:
            assert np.array_equal(x, CASES[f"{name}__{key}"].reshape(x.shape)), f"{name}: {key} was not drawn as it was"
        else:
            assert np.isclose(x.sum(dtype=np.float64), CASES[f"{name}__{key}_sum"], rtol=1e-5, atol=1e-3)
    return [torch.from_numpy(x).to(dtype) for x in (q, k, v, igate, fgate)]


def draw(batch, heads, steps, width, seed, igate=(0.0, 1.0), fgate=(3.0, 1.5), dtype=torch.float64):
    """Random inputs; gates normal with (mean, standard deviation)."""
    rng = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, steps, width, generator=rng, dtype=dtype) for _ in range(3))
    gates = (mean + std * torch.randn(batch, heads, steps, generator=rng, dtype=dtype) for mean, std in (igate, fgate))
    return [q, k, v, *gates]


def assert_close(found, wanted, relative, absolute=1e-36):
    """Largest difference, against the largest wanted value."""
    assert found.shape == wanted.shape
    worst = float((found.double() - wanted.double()).detach().abs().max())
    allowed = relative * float(wanted.detach().abs().max()) + absolute
    assert worst <= allowed, f"off by {worst}, allowed {allowed}"  # NaN fails too


def assert_gradients_agree(found, wanted):
    """Float64; a gradient that only cancellation makes small may be off by rounding errors of the others."""
    largest = max(float(grad.abs().max()) for grad in wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, 1e-7, 1e-12 * largest)


def contents(state):
    """The memory itself, whatever its scale."""
    scale = state.log_scale.exp()
    return scale[..., None, None] * state.matrix, scale[..., None] * state.vector


# --- the official numbers -------------------------------------------------------------------------------------------


@any_form
@pytest.mark.parametrize("name", NAMES)
def test_every_form_computes_the_official_numbers(name, form):
    h = run(form, *golden_inputs(name))
    wanted = CASES[f"{name}__h64"].astype(np.float64)
    found = h[:, :, :: int(CASES[f"{name}__stride"])].double().numpy()
    assert found.shape == wanted.shape and h.dtype == torch.float32
    allowed = max(
        TOLERANCE["mLSTM, in errors of the official float32"] * float(CASES[f"{name}__err"]),
        TOLERANCE["mLSTM, relative"] * np.abs(wanted).max(),
        1e-30,
    )
    assert np.abs(found - wanted).max() <= allowed


@any_form
@pytest.mark.parametrize("name", NAMES)
def test_float64_is_exact_to_the_precision_of_the_golden(name, form):
    h = run(form, *golden_inputs(name, torch.float64))
    wanted = torch.from_numpy(CASES[f"{name}__h64"])
    assert_close(h[:, :, :: int(CASES[f"{name}__stride"])], wanted, 2e-7)


@any_form
@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_cut_in_two_goes_on_where_it_ended(name, form):
    inputs = golden_inputs(name)
    steps = inputs[0].shape[2]
    cut = max(1, steps // 3)
    first, state = run(form, *(x[:, :, :cut] for x in inputs), return_state=True)
    parts = [first]
    if cut < steps:
        parts.append(run(form, *(x[:, :, cut:] for x in inputs), state=state))
    found = torch.cat(parts, dim=2)[:, :, :: int(CASES[f"{name}__stride"])]
    wanted = torch.from_numpy(CASES[f"{name}__h64"])
    allowed = max(
        TOLERANCE["mLSTM, in errors of the official float32"] * float(CASES[f"{name}__err"]),
        TOLERANCE["mLSTM, relative"] * float(wanted.abs().max()),
        1e-30,
    )
    assert float((found - wanted).abs().max()) <= allowed


@any_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["grad", "grad_hard"])
def test_gradients_are_the_official_ones(name, dtype, form):
    inputs = [x.requires_grad_() for x in golden_inputs(name, dtype)]
    h = run(form, *inputs)
    grads = torch.autograd.grad((h * torch.from_numpy(CASES[f"{name}__w"])).sum(), inputs)
    allowed = TOLERANCE[f"mLSTM, {name}, float{torch.finfo(dtype).bits}, relative"]
    for key, grad in zip("qkvif", grads, strict=True):
        assert grad.dtype == dtype
        assert_close(grad, torch.from_numpy(CASES[f"{name}__grad_{key}"]).reshape(grad.shape), allowed)


@any_form
@pytest.mark.parametrize("further", [0.0, 700.0])
@pytest.mark.parametrize("name", ["grad_overflow", "closed_input_overflow"])
def test_gradients_stay_finite_where_the_normaliser_overflows(name, further, form):
    """The official code's are NaN for both gates: exp(-m) is infinite there, and `further` on in float64 too."""
    inputs = golden_inputs(name)
    inputs[3] -= further
    inputs = [x.requires_grad_() for x in inputs]
    grads = torch.autograd.grad(run(form, *inputs).sum(), inputs)
    assert all(float(grad.abs().max()) < 1e-30 for grad in grads)


@any_form
def test_gradients_are_finite_where_a_later_keys_weight_overflows(form):
    """Above the diagonal exp is infinite here; a mask after it would let 0 * inf into the gradients."""
    inputs = draw(1, 2, 40, 8, seed=5, igate=(0.0, 200.0), fgate=(-200.0, 200.0), dtype=torch.float32)
    inputs = [x.requires_grad_() for x in inputs]
    grads = torch.autograd.grad(run(form, *inputs).sum(), inputs)
    assert all(bool(grad.isfinite().all()) for grad in grads)


@any_form
def test_closed_forget_gates_do_not_cost_precision(form):
    """F falls to -20,000 before the gates open, and float32 keeps two digits after the point of it."""
    inputs = draw(1, 2, 400, 8, seed=6, fgate=(4.0, 1.0), dtype=torch.float32)
    inputs[4][:, :, :200] -= 104
    assert_close(run(form, *inputs), mlstm(*(x.double() for x in inputs), mode="sequential"), 1e-5)


# --- properties -----------------------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 40), st.integers(1, 6))
gates = st.sampled_from(
    [((0, 1), (3, 1.5)), ((0, 10), (0, 10)), ((-60, 5), (4, 1)), ((5, 3), (-20, 20)), ((0, 0), (9, 0))]
)
forms = st.sampled_from(FORMS)
few = settings(max_examples=40, deadline=None, database=None, derandomize=True)


@few
@given(sizes, gates, forms, st.integers(0, 10_000))
def test_forms_agree_and_leave_the_same_memory(size, kind, form, seed):
    inputs = draw(*size, seed, *kind)
    before = [x.clone() for x in inputs]
    h, state = run(form, *inputs, return_state=True)
    wanted, wanted_state = mlstm(*inputs, mode="sequential", return_state=True)
    assert_close(h, wanted, 1e-9)
    assert torch.allclose(state.log_scale, wanted_state.log_scale, rtol=1e-12, atol=1e-10)
    assert_close(state.matrix, wanted_state.matrix, 1e-9)
    assert_close(state.vector, wanted_state.vector, 1e-9)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True)), "an input was overwritten"


@few
@given(sizes, gates, st.lists(forms, min_size=1, max_size=4), st.integers(0, 10_000))
def test_chunk_by_chunk_with_the_state_is_the_whole(size, kind, pieces, seed):
    """Each piece in a form of its own; outputs, last memory and gradients are those of one call."""
    inputs = [x.requires_grad_() for x in draw(*size, seed, *kind)]
    bounds = np.linspace(0, size[2], len(pieces) + 1).astype(int)
    state, parts = None, []
    for form, first, last in zip(pieces, bounds, bounds[1:], strict=False):
        if first < last:
            h, state = run(form, *(x[:, :, first:last] for x in inputs), state=state, return_state=True)
            parts.append(h)
    whole, last_state = mlstm(*inputs, mode="sequential", return_state=True)
    cut = torch.cat(parts, dim=2)
    assert_close(cut, whole, 1e-9)
    for found, wanted in zip(contents(state), contents(last_state), strict=True):
        assert_close(found, wanted, 1e-9)
    towards = torch.randn(whole.shape, generator=torch.Generator().manual_seed(seed), dtype=whole.dtype)
    assert_gradients_agree(*(torch.autograd.grad((h * towards).sum(), inputs) for h in (cut, whole)))


@few
@given(sizes, gates, forms, st.integers(0, 10_000))
def test_gradients_of_the_forms_agree(size, kind, form, seed):
    """Those of the memory that is left behind too."""
    inputs = [x.requires_grad_() for x in draw(*size, seed, *kind)]
    found, wanted = (
        torch.autograd.grad(h.square().sum() + state.matrix.sum() + state.vector.sum() + state.log_scale.sum(), inputs)
        for h, state in (run(form, *inputs, return_state=True), mlstm(*inputs, mode="sequential", return_state=True))
    )
    assert_gradients_agree(found, wanted)


@any_form
def test_a_step_does_not_see_what_comes_after_it(form):
    inputs = draw(1, 2, 30, 5, seed=3)
    changed = [torch.cat([x[:, :, :17], 5 * torch.ones_like(x[:, :, 17:])], dim=2) for x in inputs]
    assert_close(run(form, *changed)[:, :, :17], run(form, *inputs)[:, :, :17], 1e-12)


@any_form
def test_units_and_heads_do_not_depend_on_their_neighbours(form):
    """Nor does a neighbour with wild gates, which decides how the numbers are computed, change what is computed."""
    calm = draw(1, 1, 60, 8, seed=4, dtype=torch.float32)
    wild = draw(1, 1, 60, 8, seed=5, igate=(0.0, 60.0), fgate=(0.0, 60.0), dtype=torch.float32)
    alone = run(form, *calm)
    for dim in (0, 1):
        together = run(form, *(torch.cat([x, y], dim=dim) for x, y in zip(calm, wild, strict=True)))
        torch.testing.assert_close(together.narrow(dim, 0, 1), alone, rtol=1e-5, atol=1e-5)


# --- memory ---------------------------------------------------------------------------------------------------------


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that live at once, whoever holds them."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self.freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def freed(self, key, size):
        self.known.discard(key)
        self.live -= size


def peak_bytes(steps, mode, backward=False):
    inputs = draw(1, 2, steps, 16, seed=1, dtype=torch.float32)
    if backward:
        inputs = [x.requires_grad_() for x in inputs]
    with LiveBytes() as count:
        h = mlstm(*inputs, mode=mode)
        if backward:
            torch.autograd.grad(h.sum(), inputs)
    return count.peak


@pytest.mark.parametrize("mode", ["chunkwise", "auto"])
@pytest.mark.parametrize("backward", [False, True])
def test_memory_grows_with_the_length_and_not_with_its_square(mode, backward):
    short, long = (peak_bytes(steps, mode, backward) for steps in (1024, 4096))
    assert long < 4.2 * short
    assert long < 4096 * 2 * 16 * 4 * (300 if backward else 10), "a handful of q's size, and blocks for the gradients"


def test_the_count_of_memory_sees_a_square():
    short, long = (peak_bytes(steps, "parallel", backward=True) for steps in (1024, 4096))
    assert long > 10 * short


# --- precision, graphs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["parallel", "chunkwise", "sequential"])
@pytest.mark.parametrize("forget", [-3.0, 1.5])
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
def test_half_precision_only_rounds(mode, dtype, allowed, forget):
    """Gates and sums stay float32: F reaches -750 or -50 here, which bfloat16 knows to within 2 or 0.1."""
    inputs = draw(1, 2, 250, 16, seed=2, igate=(0.0, 1.0), fgate=(forget, 1.0), dtype=torch.float32)
    halves = [x.to(dtype) for x in inputs[:3]] + inputs[3:]
    h, state = mlstm(*halves, mode=mode, return_state=True)
    assert h.dtype == dtype and state.matrix.dtype == state.vector.dtype == torch.float32
    wanted = mlstm(*(x.double() for x in halves), mode="sequential")
    error = (h.double() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert float(error) < allowed
    again, _ = mlstm(*halves, mode=mode, state=state, return_state=True)
    assert bool(again.isfinite().all())


@pytest.mark.parametrize("mode", ["parallel", "chunkwise", "sequential"])
def test_autocast_changes_nothing_in_the_cell(mode):
    inputs = draw(1, 2, 50, 8, seed=2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mlstm(*inputs, mode=mode)
    assert torch.equal(inside, mlstm(*inputs, mode=mode))


@pytest.mark.parametrize("mode", ["parallel", "chunkwise"])
def test_one_graph_serves_every_gate(mode):
    """A recorded graph must not contain a decision that the example's numbers took."""
    graph = torch.compile(mlstm, backend="eager", fullgraph=True)
    for fgate in ((3.0, 1.0), (-100.0, 1.0)):
        inputs = draw(1, 1, 140, 4, seed=1, fgate=fgate, dtype=torch.float32)
        assert_close(graph(*inputs, mode=mode), mlstm(*(x.double() for x in inputs), mode="sequential"), 2e-6)


def test_gates_may_be_of_another_precision_than_the_rest():
    q, k, v, igate, fgate = draw(1, 2, 20, 4, seed=2, dtype=torch.float32)
    assert_close(mlstm(q, k, v, igate.double(), fgate.double()), mlstm(q, k, v, igate, fgate), 1e-6)


def test_inference_and_training_compute_the_same():
    inputs = draw(1, 2, 300, 8, seed=2, dtype=torch.float32)
    for mode in ("parallel", "chunkwise", "sequential"):
        with torch.inference_mode():
            quick = mlstm(*inputs, mode=mode)
        assert torch.equal(quick, mlstm(*(x.clone().requires_grad_() for x in inputs), mode=mode).detach())


# --- wrong use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"mode": "fast"}, "no mode 'fast'"),
        (lambda a: {"q": a["q"][0]}, r"\[B, H, S, d\]"),
        (lambda a: {"k": a["k"][:, :1]}, r"\[1, 2, 6, 4\], \[1, 1, 6, 4\]"),
        (lambda a: {name: a[name][:, :, :0] for name in a}, "no size 0"),
        (lambda a: {"igate": a["igate"][..., None]}, r"one number for each head and step, \[1, 2, 6\]"),
        (lambda a: {"fgate": a["fgate"][:, :, 1:]}, r"\[1, 2, 5\]"),
        (lambda a: {"v": a["v"].double()}, "torch.float64"),
        (lambda a: {name: a[name].int() for name in "qkv"}, "one floating dtype"),
        (lambda a: {"igate": a["igate"].int()}, "floating-point"),
        (lambda a: {"q": a["q"].to("meta")}, "different devices"),
        (lambda a: {"state": state_of(a, width=3)}, "The state has the shapes"),
        (lambda a: {"state": state_of(a)._replace(matrix=torch.zeros(1, 2, 4, 4).double())}, "Keep to one dtype"),
        (lambda a: {"state": state_of(a)._replace(log_scale=torch.zeros(1, 2))}, "log_scale"),
    ],
)
def test_wrong_use_is_explained(change, message):
    arguments = dict(zip(("q", "k", "v", "igate", "fgate"), draw(1, 2, 6, 4, 0, dtype=torch.float32), strict=True))
    with pytest.raises(UsageError, match=message) as raised:
        mlstm(**{**arguments, **change(arguments)})
    assert str(raised.value).count(". ") == 1, "one sentence on what is wrong, one on what to do"


def state_of(arguments, width=4):
    state = mlstm(**{name: x[..., :width] if name in "qkv" else x for name, x in arguments.items()}, return_state=True)[
        1
    ]
    assert isinstance(state, MLSTMState) and not math.isnan(float(state.matrix.sum()))
    return state
