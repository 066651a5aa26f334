"""Flax checkpoints are read exactly, and nothing else than CheckpointError comes out of a broken or hostile file."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tracemalloc
from pathlib import Path

import msgpack
import numpy as np
import pytest
from flax_writer import array, pack
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_models.checkpoints.flax_msgpack import find_checkpoint, read_flax
from hear_models.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden" / "mwmae"
CONTAINER = GOLDEN / "container_checkpoint_7"
WHOLE = CONTAINER.read_bytes()


@pytest.fixture
def read(tmp_path):
    """Bytes → what the reader makes of a file with them."""

    def read_bytes(data: bytes, **options):
        (tmp_path / "checkpoint_1").write_bytes(data)
        return read_flax(tmp_path / "checkpoint_1", **options)

    return read_bytes


def chunked(shape, pieces) -> dict:
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): size for i, size in enumerate(shape)},
        "chunks": {str(i): array(np.asarray(piece, np.float32)) for i, piece in enumerate(pieces)},
    }


def test_every_kind_of_entry_is_read_exactly():
    entries = read_flax(CONTAINER).entries
    with np.load(GOLDEN / "container_expected.npz") as expected:
        for path in expected.files:
            value = entries.pop(path).value
            assert value.dtype == expected[path].dtype and value.shape == expected[path].shape, path
            np.testing.assert_array_equal(value, expected[path], err_msg=path)
    assert {path: entry.value for path, entry in entries.items()} == {
        "complex": 1 - 2j,
        "empty": {},
        "flag": True,
        "none": None,
        "plain_float": 2.5,
        "plain_int": 12,
        "text": "abc",
    }


def test_bfloat16_entries_say_so_and_become_float32():
    entries = read_flax(GOLDEN / "mwmae_bf16_mini" / "checkpoint_2").entries
    token = entries["params/mask_token"]
    assert token.dtype == "bfloat16" and token.value.dtype == np.float32
    assert not (token.value.view(np.uint32) & 0xFFFF).any()  # the lower half of a bfloat16 is zero
    assert {entry.dtype for path, entry in entries.items() if path.startswith("params/") and "token" not in path} == {
        "float32"
    }


def test_a_pair_of_numbers_is_a_complex_scalar(read):
    assert read(pack({"z": msgpack.ExtType(2, msgpack.packb([1.5, -2]))})).entries["z"].value == 1.5 - 2j


def test_arrays_need_not_lie_in_alphabetical_order(read):
    tree = {"step": np.array(3, np.int32), "params": {"b": np.zeros(2, np.float32)}, "alpha": 1}
    assert set(read(pack(tree)).entries) == {"step", "params/b", "alpha"}


def test_optimiser_state_is_passed_over_without_taking_memory(read):
    moments = {str(i): np.zeros(250_000, np.float32) for i in range(12)}  # 12 MB
    data = pack({"opt_state": moments, "params": {"w": np.ones(3, np.float32)}})
    tracemalloc.start()
    file = read(data, only=("params",))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(file.entries) == {"params/w"} and file.top_level == ("opt_state", "params")
    assert peak < 5_000_000


def test_the_hash_is_that_of_the_whole_file():
    assert read_flax(CONTAINER, only=("step",)).sha256 == hashlib.sha256(WHOLE).hexdigest()


# ------------------------------------------------------------------------------------------------- broken and hostile
@pytest.mark.parametrize("n_bytes", [*range(0, 40), *range(40, len(WHOLE), 37), len(WHOLE) - 1])
def test_a_truncated_file_is_refused(read, n_bytes):
    with pytest.raises(CheckpointError):
        read(WHOLE[:n_bytes])


@pytest.mark.parametrize("only", [None, ("step",)])
def test_bytes_after_the_end_are_refused(read, only):
    with pytest.raises(CheckpointError, match="bytes follow"):
        read(WHOLE + b"\x00", only=only)


def entry_with(payload) -> bytes:
    return pack({"params": {"w": msgpack.ExtType(1, msgpack.packb(payload))}})


HOSTILE = {
    "shape claims more than there is": (entry_with([[10**9, 10**9], "float32", b"1234"]), "params/w: shape"),
    "shape claims less": (entry_with([[1], "float32", b"12345678"]), "needs 4 bytes, found 8"),
    "negative size": (entry_with([[-1], "float32", b"1234"]), "impossible shape"),
    "size that is text": (entry_with([["1"], "float32", b"1234"]), "impossible shape"),
    "size that is a bool": (entry_with([[True], "float32", b"1234"]), "impossible shape"),
    "shape that is no list": (entry_with([4, "float32", b"1234"]), "impossible shape"),
    "empty array of astronomic sizes": (entry_with([[0, 2**39, 2**39], "float32", b""]), "impossible shape"),
    "seventeen dimensions": (entry_with([[1] * 17, "float32", b"1234"]), "params/w"),
    "unknown dtype": (entry_with([[1], "float31", b"1234"]), "unknown dtype 'float31'"),
    "object dtype": (entry_with([[1], "object", b"12345678"]), "unknown dtype 'object'"),
    "structured dtype": (entry_with([[1], "i4,i4", b"12345678"]), "unknown dtype"),
    "content that is text": (entry_with([[1], "float32", "1234"]), "not bytes"),
    "two fields": (entry_with([[1], "float32"]), "does not hold shape, dtype and bytes"),
    "a map as payload": (entry_with({}), "does not hold shape, dtype and bytes"),
    "garbage as payload": (pack({"w": msgpack.ExtType(1, b"\xc1\xff")}), "bytes are damaged"),
    "unknown extension": (pack({"w": msgpack.ExtType(7, b"")}), "unknown extension code 7"),
    "a time stamp": (pack({"w": msgpack.Timestamp(1, 2)}), "unusable|Timestamp|extension"),
    "scalar with a shape": (
        pack({"w": msgpack.ExtType(3, msgpack.packb([[1], "float32", b"1234"]))}),
        "marked as a scalar",
    ),
    "complex of texts": (pack({"w": msgpack.ExtType(2, msgpack.packb(["a", "b"]))}), "no pair of numbers"),
    "bytes as value": (pack({"w": b"abc"}), "MessagePack"),
    "list as value": (pack({"w": [1, 2]}), "MessagePack"),
    "number as key": (msgpack.packb({"w": {1: 2}}), "damaged"),
    "same key twice": (b"\x81\xa1a\x82\xa1b\x01\xa1b\x02", "same key twice"),
    "same key twice at the top": (b"\x82\xa1b\x01\xa1b\x02", "twice"),
    "key of a megabyte": (pack({"w": {"k" * (1 << 20): 1}}), "MessagePack"),
    "map that claims four thousand million entries": (b"\xdf\xff\xff\xff\xff", "ends too early|MessagePack"),
    "inner map that claims four thousand million": (b"\x81\xa1a\xdf\xff\xff\xff\xff", "max_map_len"),
    "extension that claims four gigabytes": (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", "max_ext_len"),
    "chunks with a gap": (
        pack(
            {"w": {**chunked([2], [[1], [2]]), "chunks": {"0": array(np.ones(1, "f4")), "2": array(np.ones(1, "f4"))}}}
        ),
        "without a gap",
    ),
    "chunks that are too few": (pack({"w": chunked([7], [[1, 2], [3]])}), "needs 7 values"),
    "chunks of two dtypes": (
        pack({"w": {**chunked([2], [[1]]), "chunks": {"0": array(np.ones(1, "f4")), "1": array(np.ones(1, "f8"))}}}),
        "different dtypes",
    ),
    "chunks that are matrices": (pack({"w": chunked([1], [[[1]]])}), "one-dimensional"),
    "no chunks": (pack({"w": chunked([0], [])}), "one-dimensional"),
    "chunked, but not marked true": (
        pack({"w": {**chunked([1], [[1]]), "__msgpack_chunked_array__": 1}}),
        "does not hold shape and chunks",
    ),
    "chunked without a shape": (pack({"w": {"__msgpack_chunked_array__": True}}), "does not hold shape and chunks"),
    "chunked shape of astronomic size": (pack({"w": chunked([10**12, 10**12], [[1]])}), "impossible|needs"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_ends_in_one_clear_error(read, case):
    data, message = HOSTILE[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        read(data)
    assert "checkpoint_1" in str(caught.value)  # the file is named


@pytest.mark.parametrize("depth", [33, 600, 200_000])
def test_deep_nesting_is_refused(read, depth):
    with pytest.raises(CheckpointError):
        read(b"\x81\xa1a" * depth + b"\xc0")


def test_deep_nesting_in_a_part_that_is_passed_over_is_refused_or_skipped(read):
    data = b"\x82\xa1p\x81\xa1w\x01\xa1o" + b"\x81\xa1a" * 100_000 + b"\xc0"
    with pytest.raises(CheckpointError):
        read(data, only=("p",))


def test_too_many_entries_are_refused(read):
    wide = {str(i): None for i in range(4000)}
    with pytest.raises(CheckpointError, match="more than 200000 entries"):
        read(pack({str(i): wide for i in range(60)}))


@given(data=st.binary(max_size=400))
@settings(max_examples=300, deadline=20_000)
def test_random_bytes_give_only_checkpoint_errors(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "random"
    path.write_bytes(b"\x82" + data)
    with contextlib.suppress(CheckpointError):
        read_flax(path)


@st.composite
def mutated(draw) -> bytes:
    """The container with bytes replaced, removed, inserted and pieces copied elsewhere."""
    data = bytearray(WHOLE)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["replace", "flip", "delete", "insert", "copy"]))
        if kind == "replace" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 60))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            start = draw(st.integers(0, len(data)))
            data[at:at] = data[start : start + draw(st.integers(1, 200))]
    return bytes(data)


@given(data=mutated(), only=st.sampled_from([None, ("params",), ("step",)]))
@settings(max_examples=400, deadline=20_000)
def test_a_mutated_checkpoint_is_read_or_refused_in_little_memory(data, only, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        read_flax(path, only)
    except CheckpointError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8_000_000  # the reader's buffer is 1 MiB; a claim of gigabytes must not be believed


# ------------------------------------------------------------------------------------------------------ finding files
def test_newest_checkpoint_is_by_number_not_by_alphabet(tmp_path):
    for name in ("checkpoint_9", "checkpoint_10", "checkpoint_2", "best_ckpt_99", "events.out"):
        shutil.copy(CONTAINER, tmp_path / name)
    assert find_checkpoint(tmp_path) == (tmp_path / "checkpoint_10", None)


def test_config_beside_the_checkpoint_is_found():
    folder = GOLDEN / "mae_mini"
    assert find_checkpoint(folder) == find_checkpoint(folder / "checkpoint_5")
    assert find_checkpoint(folder) == (folder / "checkpoint_5", folder / "config.json")


@pytest.mark.parametrize("inside", [False, True])
def test_orbax_is_refused_by_name(tmp_path, inside):
    orbax = tmp_path / "checkpoint_12"
    orbax.mkdir()
    (orbax / "_METADATA").write_text("{}")
    shutil.copy(CONTAINER, tmp_path / "checkpoint_3")
    with pytest.raises(CheckpointError, match="Orbax"):
        find_checkpoint(orbax if inside else tmp_path)


def test_folder_without_a_checkpoint_and_missing_file_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="holds no file named checkpoint_"):
        find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        find_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (b"\x80\x04\x95" + bytes(100), "pickle, which is never opened"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (b"Google Drive - Quota exceeded", "text file"),
        (b"<!DOCTYPE html><html>", "text file"),
        (bytes(100), "does not begin with"),
        ((40).to_bytes(8, "little") + b'{"a":1}' + bytes(40), "safetensors"),
    ],
)
def test_files_handed_in_by_mistake_are_named_for_what_they_are(read, data, said):
    with pytest.raises(CheckpointError, match=said):
        read(data)
