"""What torch.save wrote comes back value by value without torch's loader: trainers' files, Lightning's, old ones."""

from __future__ import annotations

import argparse
import collections
import pathlib
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_maker import Call, torch_bytes, torch_zip, written

from hear_models.checkpoints.pickle_data import Instance, Name
from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.checkpoints.torch_tensor import LazyTensor, Storage
from hear_models.errors import CheckpointError

GOLDEN = Path(__file__).parent.parent / "golden"
TRAINER = GOLDEN / "msm_mae" / "80x96p16x8_nocls_mini" / "checkpoint-20.pth"
LIGHTNING = GOLDEN / "gise51" / "lightning_cifar_resnet20.ckpt.xz"
CONTAINERS = [pytest.param(False, id="zip"), pytest.param(True, id="before 1.6")]


def every_kind_of_tensor() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    kinds = {
        str(kind).removeprefix("torch."): (torch.arange(-3, 9).reshape(3, 4) % 5).to(kind)
        for kind in (
            *(torch.float16, torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.complex128),
            *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
            *(torch.float8_e4m3fn, torch.float8_e5m2),
        )
    }
    return {
        **kinds,
        "base": base,
        "transposed": base.T,
        "every second": base[1:3, ::2],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "scalar": torch.tensor(7.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.full((2,), 3.0)),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if expected.dtype.itemsize == 1:  # equality of 8-bit floats is not implemented
        found, expected = found.view(torch.uint8), expected.detach().view(torch.uint8)
    return found.dtype == expected.dtype and found.shape == expected.shape and torch.equal(found, expected.detach())


@pytest.mark.parametrize("old", CONTAINERS)
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_dtype_and_view_comes_back_bit_by_bit(old, protocol, tmp_path):
    expected = every_kind_of_tensor()
    data = torch_bytes(expected, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    found = find_state_dict(read_torch_file(written(tmp_path, data)).content)
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert same(found[key].tensor(), tensor), key
    assert found["parameter"].parameter and not found["base"].parameter


def test_arrays_are_numpys_and_bfloat16_becomes_float32(tmp_path):
    values = torch.randn(50).to(torch.bfloat16)
    data = torch_bytes({"b": values, "h": values.half(), "f8": values.to(torch.float8_e5m2), "t": values > 0})
    found = find_state_dict(read_torch_file(written(tmp_path, data)).content)
    assert found["b"].array().dtype == np.float32
    np.testing.assert_array_equal(found["b"].array(), values.float().numpy())
    assert found["h"].array().dtype == np.float16 and found["t"].array().dtype == np.bool_
    with pytest.raises(CheckpointError, match="float8_e5m2 have no NumPy type"):
        found["f8"].array()


@pytest.mark.parametrize("old", CONTAINERS)
def test_shared_storages_stay_shared_until_they_are_read(old, tmp_path):
    weight = torch.randn(8, 3)
    data = torch_bytes({"in": weight, "out": weight.T, "row": weight[2]}, _use_new_zipfile_serialization=not old)
    found = find_state_dict(read_torch_file(written(tmp_path, data)).content)
    assert found["in"].storage is found["out"].storage is found["row"].storage
    assert same(found["out"].tensor(), weight.T) and same(found["row"].tensor(), weight[2])


@pytest.mark.parametrize("old", CONTAINERS)
def test_weights_from_a_graphics_card_are_read_without_one(old, tmp_path, monkeypatch):
    """The tag of the device stands in the persistent id of every storage."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    data = torch_bytes({"model": {"w": torch.arange(4.0)}}, _use_new_zipfile_serialization=not old)
    assert b"cuda:3" in data
    found = find_state_dict(read_torch_file(written(tmp_path, data)).content)
    assert found["w"].array().tolist() == [0, 1, 2, 3]


def test_files_of_a_big_endian_machine_are_read(tmp_path):
    data = torch_bytes({"w": torch.arange(3.0), "n": torch.tensor([258])})
    with zipfile.ZipFile(written(tmp_path, data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "big.pth", "w") as archive:
        for name, content in entries.items():
            if "/data/" in name:
                content = np.frombuffer(content, "<f4" if len(content) == 12 else "<i8").byteswap().tobytes()
            archive.writestr(name, b"big" if name.endswith("byteorder") else content)
    found = find_state_dict(read_torch_file(tmp_path / "big.pth").content)
    assert found["w"].array().tolist() == [0, 1, 2] and found["n"].array().tolist() == [258]


# ------------------------------------------------------------------------------------------- what stands beside them
@pytest.mark.parametrize("old", CONTAINERS)
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_trainers_dictionary_as_plain_data(old, protocol, tmp_path):
    args = argparse.Namespace(
        size=torch.Size([80, 208]),
        device=torch.device("cuda", 1),
        dtype=torch.bfloat16,
        rate=np.float32(2.5),
        seed=np.int64(7),
        flag=np.bool_(True),
        table=np.arange(6).reshape(2, 3),
        place=pathlib.PurePosixPath("/a/b"),
        names={"x"},
        frozen=frozenset([3]),
        z=1 + 2j,
        raw=b"ab\xff",
        buffer=bytearray(b"x"),
        big=2**70,
        negative=-5,
        nothing=None,
        nested=(1, (2, [3.5])),
        text="ü €",
    )
    content = {
        "model": {"w": torch.ones(2)},
        "args": args,
        "epoch": 3,
        "scaler": {"scale": 65536.0, "_growth_tracker": 5},
        "counts": collections.Counter("aab"),
        "default": collections.defaultdict(list, {"k": [1]}),
        "simple": types.SimpleNamespace(a=1),
    }
    data = torch_bytes(content, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    file = read_torch_file(written(tmp_path, data))
    assert file.values == {
        "model": {},
        "args": {
            **{"size": [80, 208], "device": "cuda:1", "dtype": "torch.bfloat16", "rate": 2.5, "seed": 7, "flag": True},
            **{"table": None, "place": "/a/b", "names": ["x"], "frozen": [3], "z": 1 + 2j, "raw": b"ab\xff"},
            **{"buffer": b"x", "big": 2**70, "negative": -5, "nothing": None, "nested": [1, [2, [3.5]]]},
            "text": "ü €",
        },
        "epoch": 3,
        "scaler": {"scale": 65536.0, "_growth_tracker": 5},
        "counts": {"a": 2, "b": 1},
        "default": {"k": [1]},
        "simple": {"a": 1},
    }
    np.testing.assert_array_equal(file.content["args"].state["table"], np.arange(6).reshape(2, 3))
    assert file.notes == () and list(file.tensors) == ["model/w"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f8", "<i2", "?", "c8", "u1"])
def test_numpy_arrays_in_every_order(order, dtype, tmp_path):
    array = np.array(np.arange(6).reshape(2, 3).astype(dtype), order=order)
    for protocol in (2, 5):
        data = torch_bytes({"a": array, "s": array[1, 2]}, pickle_protocol=protocol)
        content = read_torch_file(written(tmp_path, data)).content
        np.testing.assert_array_equal(content["a"], array)
        assert content["s"] == array[1, 2].item()


def test_numpy_arrays_of_objects_and_texts_are_left_as_records(tmp_path):
    data = torch_bytes({"t": np.array(["a", "bc"]), "o": np.array([None, 3], object)})
    file = read_torch_file(written(tmp_path, data))
    assert isinstance(file.content["t"], Instance) and isinstance(file.content["o"], Instance)


def test_objects_of_unknown_classes_become_records_and_are_noted(tmp_path):
    content = {"made": Call(collections.deque, [1, 2], 3), "time": __import__("datetime").timedelta(3), "f": len}
    file = read_torch_file(written(tmp_path, torch_bytes(content)))
    assert file.content["f"] == Name("builtins", "len") and file.values["f"] == "builtins.len"
    assert file.values["made"] == {"class": "collections.deque", "args": [[1, 2], 3]}
    assert file.values["time"] == {"class": "datetime.timedelta", "args": [3, 0, 0]}
    assert file.notes == (
        "1 object of collections.deque: kept as a record, not made",
        "1 object of datetime.timedelta: kept as a record, not made",
    )


def test_data_that_refer_to_themselves_are_cut_not_fatal(tmp_path):
    """Configurations of omegaconf and networks hold their parents."""
    parent = argparse.Namespace(name="p")
    parent.child = argparse.Namespace(parent=parent, w=torch.ones(2))
    file = read_torch_file(written(tmp_path, torch_bytes({"args": parent})))
    assert file.values == {"args": {"name": "p", "child": {"parent": None}}}
    assert list(file.tensors) == ["args/child/w"]


def test_two_tensors_with_one_path_are_not_mixed_up(tmp_path):
    data = torch_bytes({"a": {"b": torch.ones(1)}, "a/b": torch.zeros(1)})
    file = read_torch_file(written(tmp_path, data))
    with pytest.raises(CheckpointError, match="two tensors have the path a/b"):
        _ = file.tensors


# ------------------------------------------------------------------------------------------------------ real writers
@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="this torch cannot be told what is safe")
def test_official_trainers_file_equals_torchs_own_reading():
    file = read_torch_file(TRAINER)
    with torch.serialization.safe_globals([argparse.Namespace]):
        expected = torch.load(TRAINER, weights_only=True)
    assert len(file.tensors) == 202
    for key, tensor in expected["model"].items():
        assert same(file.tensors[f"model/{key}"].tensor(), tensor), key
    for number, moments in expected["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert same(file.tensors[f"optimizer/state/{number}/{name}"].tensor(), tensor)
    assert file.values["args"] == vars(expected["args"])
    assert file.values["epoch"] == 20 and file.names == ("80x96p16x8_nocls_mini", "checkpoint-20.pth")
    assert list(find_state_dict(file.content)) == list(expected["model"]) and file.notes == ()


def test_real_lightning_checkpoint_opens_without_lightning_and_its_classes():
    file = read_torch_file(LIGHTNING)
    state = find_state_dict(file.content)
    assert len(state) == 116 and all(key.startswith("net.") for key in state)
    weight = state["net.layer1.0.conv1.weight"].array()
    levels = weight * np.sqrt(weight[0].size)  # how the file was made: multiples of 1/sqrt(fan in) from -3 to 3
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-5)
    assert set(np.rint(levels).ravel()) == {-3, -2, -1, 0, 1, 2, 3}
    assert file.values["pytorch-lightning_version"] == "1.1.3" and file.values["epoch"] == 2
    assert file.values["hyper_parameters"]["cfg"]["model"]["arch"] == "cifar_resnet"
    assert "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint" in file.values["callbacks"]
    assert file.values["hyper_parameters"]["tr_tfs"]["class"] == "src.data.transforms.Compose"
    assert "2 objects of src.data.transforms.Compose: kept as a record, not made" in file.notes
    assert file.names == ("gise51", "lightning_cifar_resnet20.ckpt") and file.archive is not None
    assert file.archive_sha256 != file.sha256


def test_only_the_tensors_asked_for_are_read(tmp_path, monkeypatch):
    """An optimiser's hundreds of megabytes stay on the disk."""
    data = torch_bytes({"model": {"w": torch.ones(10)}, "optimizer": {"m": torch.ones(1 << 20)}})
    file = read_torch_file(written(tmp_path, data))
    read: list[int] = []
    plain_read = type(file.window).read
    monkeypatch.setattr(type(file.window), "read", lambda *a: read.append(a[2]) or plain_read(*a))
    assert find_state_dict(file.content)["w"].array().sum() == 10
    assert 0 < sum(read) < 1000
    assert file.content["optimizer"]["m"].array().sum() == 1 << 20 and sum(read) > 1 << 22


def test_file_is_closed_when_the_last_tensor_is_gone(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        tensor = find_state_dict(read_torch_file(written(tmp_path, torch_bytes({"w": torch.ones(2)}))).content)["w"]
        assert tensor.array().tolist() == [1, 1]  # the file object is gone, its bytes are still there
        del tensor


# --------------------------------------------------------------------------------------------------- find_state_dict
W = LazyTensor("float32", (1,), (1,), 0, Storage("0", "float32", 4, False, lambda at, n: b"\0" * n))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"a": W, "version": 2}, {"a"}),
        ({"state_dict": {"net.a": W}, "optimizer_states": [{"x": W}]}, {"net.a"}),
        ({"model": {"a": W}, "model_ema": {"b": W}, "optimizer": {"c": W}}, {"a"}),
        ({"model": 3, "teacher": {"t": W}, "epoch": 1}, {"t"}),
        ({"model": {"module.a": W, "module.b": W}}, {"a", "b"}),
        ({"model": {"module.a": W, "b": W}}, {"module.a", "b"}),
    ],
)
def test_networks_tensors_are_found_in_what_trainers_save(content, found):
    assert set(find_state_dict(content)) == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": {"a": W}, "model": {"b": W}}, "several: state_dict, model"),
        ({"student": {"a": W}, "teacher": {"b": W}}, "several: student, teacher"),
        ({"epoch": 3}, "no entry with a network's tensors"),
        ({}, "no entry with"),
        (Instance(Name("my.nets", "Net")), "<record of my.nets.Net>, not a dictionary"),
        ([W], "a list, not a dictionary"),
        (
            {"model": {"a": W, "b": Instance(Name("torch._utils", "_rebuild_qtensor"))}},
            "b is <record of torch._utils._r",
        ),
        ({"model": {"a": W, 3: W}}, "a tensor has the key 3"),
    ],
)
def test_what_is_no_state_dict_is_said(content, said):
    with pytest.raises(CheckpointError, match=said):
        find_state_dict(content)


def test_an_entry_may_be_named():
    content = {"student": {"a": W}, "teacher": {"b": W}}
    assert set(find_state_dict(content, "teacher")) == {"b"}
    with pytest.raises(CheckpointError, match="no entry 'ema'; it has student, teacher"):
        find_state_dict(content, "ema")


def test_a_whole_pickled_network_is_a_record_and_the_error_names_its_class(tmp_path):
    data = torch_bytes(torch.nn.Linear(2, 3))
    file = read_torch_file(written(tmp_path, data))
    with pytest.raises(CheckpointError, match=r"record of torch\.nn\.modules\.linear\.Linear.*state_dict"):
        find_state_dict(file.content)


def test_torchscript_is_refused_because_it_is_code(tmp_path):
    data = torch_zip(b"\x80\x02}.", extra={"checkpoint-7/constants.pkl": b"\x80\x02)."})
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_torch_file(written(tmp_path, data))
