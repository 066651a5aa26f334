"""Several calls of a small network at once must give the same bits, and leave torch's threads as they were."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import hear_models
from hear_models import mwmae
from hear_models.errors import InputError
from hear_models.pipeline import batching
from hear_models.pipeline.encoders import ClipStream, Encoders

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model():
    return hear_models.load_model("mwmae-nano")


def clips(count):
    rng = np.random.default_rng(5)
    return [
        torch.from_numpy(rng.uniform(-0.5, 0.5, rng.integers(500, 40_000)).astype(np.float32)) for _ in range(count)
    ]


def test_workers_give_the_same_bits_as_one_call_after_the_other(model, two_threads):
    encoders = Encoders.of(model, CPU, clips=12)
    batches = [clips(3) for _ in range(4)]
    calls = [encoders.submit(batch, "scene") for batch in batches]
    for batch, call in zip(batches, calls, strict=True):
        for found, expected in zip(call.result(), model.embed_clips(batch), strict=True):
            assert torch.equal(found, expected)
    encoders.close()


def test_torch_keeps_its_number_of_threads(model, two_threads):
    encoders = Encoders.of(model, CPU, clips=12)
    assert torch.get_num_threads() == 2
    encoders.submit(clips(2), "scene").result()
    assert torch.get_num_threads() == 2
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2], "a thread that the caller starts later has another number of torch threads"
    encoders.close()


def test_large_networks_few_clips_and_gpus_get_one_call_at_a_time(two_threads):
    large = batching.SMALL_PARAMETERS + 1
    assert batching.inference_workers(CPU, large, 100) == 1
    assert batching.inference_workers(CPU, 1000, 1) == 1
    assert batching.inference_workers(torch.device("cuda"), 1000, 100) == 1
    if batching._threads_have_their_own_number():
        assert batching.inference_workers(CPU, 1000, 100) == 2


@pytest.mark.parametrize("count", [1, 12], ids=["one worker", "workers"])
def test_what_the_model_raises_arrives_with_the_result(model, two_threads, count):
    encoders = Encoders.of(model, CPU, clips=count)
    with pytest.raises(InputError, match="NaN"):
        encoders.submit([torch.full((500,), float("nan"))], "scene").result()
    encoders.close()


def test_idle_share_says_how_many_workers_have_nothing_to_do(model, two_threads):
    encoders = Encoders.of(model, CPU, clips=12)
    assert encoders.idle_share == 1.0
    call = encoders.submit(clips(40), "scene")
    busy = encoders.idle_share
    call.result()
    assert busy == (1.0 - 1.0 / encoders.workers) if encoders.workers > 1 else busy == 1.0
    assert encoders.idle_share == 1.0
    encoders.close()


def test_the_family_that_the_benchmark_measured_is_small_and_the_base_size_is_not(model):
    assert sum(p.numel() for p in model.parameters()) < batching.SMALL_PARAMETERS
    base = mwmae.Model(mwmae.Config(), seed=None)
    assert sum(p.numel() for p in base.parameters()) > batching.SMALL_PARAMETERS


class Lengths:
    """A model whose embedding of a clip is its length; it notes its batches, and fails at clips of 13 samples."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def embed_clips(self, batch, purpose):
        self.batches.append([len(clip) for clip in batch])
        if 13 in self.batches[-1]:
            raise RuntimeError("13")
        return self.batches[-1]


def streamed(stream, lengths):
    for k, n in enumerate(lengths):
        yield from stream.add(k, np.zeros(n, np.float32))
    yield from stream.finish()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_samples": 10}, [[4, 5, 6], [10], [1, 2]]),
        ({"batch_clips": 2}, [[4, 5], [6, 10], [1, 2]]),
        ({"batch_samples": 1}, [[4], [5], [6], [10], [1], [2]]),
        ({}, [[4, 5, 6, 10, 1, 2]]),
        ({"batch_samples": 10, "keep": lambda tag: tag != 3}, [[4, 5, 6], [1, 2]]),
    ],
    ids=["by seconds", "by clips", "one by one", "all", "without one"],
)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_stream_makes_the_batches_that_were_asked_for_and_keeps_the_order(options, expected, workers):
    model = Lengths()
    encoders = Encoders(model.embed_clips, workers)
    lengths = [4, 5, 6, 10, 1, 2]
    found = []
    for batch in streamed(ClipStream(encoders, CPU, "scene", **options), lengths):
        assert batch.result() == [lengths[tag] for tag in batch.tags]
        found.append(batch.result())
    assert found == expected and sorted(model.batches) == sorted(expected)
    encoders.close()


def test_a_batch_that_failed_can_be_embedded_clip_by_clip():
    model = Lengths()
    wanted = {0, 1, 3}
    stream = ClipStream(Encoders(model.embed_clips), CPU, "scene", keep=lambda tag: tag in wanted)
    (batch,) = streamed(stream, [4, 13, 5, 6])
    with pytest.raises(RuntimeError, match="13"):
        batch.result()
    wanted.remove(3)
    tags = []
    for one in batch.one_by_one():
        tags += one.tags
        if one.tags == [1]:
            with pytest.raises(RuntimeError, match="13"):
                one.result()
        else:
            assert one.result() == [4]
    assert tags == [0, 1] and model.batches == [[4, 13, 6], [4], [13]]
