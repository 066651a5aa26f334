"""Around torch files: folders, release archives, xz; archives made to fill memory or disk, or to reach elsewhere."""

from __future__ import annotations

import io
import lzma
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_maker import torch_bytes, torch_zip, written

from hear_models.checkpoints.torch_file import find_state_dict, read_torch_file
from hear_models.checkpoints.unpacking import MAX_RATIO
from hear_models.errors import CheckpointError

WEIGHTS = torch.randn(40, 50, generator=torch.Generator().manual_seed(3))
SAVED = torch_bytes({"model": {"w": WEIGHTS}, "epoch": 4})


def packed(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def weights_of(path: Path) -> np.ndarray:
    return find_state_dict(read_torch_file(path).content)["w"].array()


def refused(path: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        weights_of(path)


# ------------------------------------------------------------------------------------------------------ honest ones
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_release_archive_is_read_without_unpacking_it_first(method, tmp_path):
    entries = {"80x208p16x16_0422/": b"", "80x208p16x16_0422/checkpoint-100.pth": SAVED, "__MACOSX/._x.pth": b"junk"}
    path = written(tmp_path, packed({**entries, "80x208p16x16_0422/log.txt": b"text"}, method), "80x208.zip")
    file = read_torch_file(path)
    np.testing.assert_array_equal(weights_of(path), WEIGHTS.numpy())
    assert file.names == (tmp_path.name, "80x208.zip", "80x208p16x16_0422", "checkpoint-100.pth")
    assert file.n_bytes == len(SAVED) and file.values["epoch"] == 4


def test_xz_alone_and_in_an_archive(tmp_path):
    path = written(tmp_path, lzma.compress(SAVED), "a.ckpt.xz")
    np.testing.assert_array_equal(weights_of(path), WEIGHTS.numpy())
    assert read_torch_file(path).names == (tmp_path.name, "a.ckpt")
    path = written(tmp_path, packed({"run/a.pth.xz": lzma.compress(SAVED)}), "a.zip")
    np.testing.assert_array_equal(weights_of(path), WEIGHTS.numpy())


def test_folder_with_one_file_is_enough(tmp_path):
    inner = tmp_path / "80x208p16x16_mini"
    inner.mkdir()
    written(inner, SAVED, "checkpoint-100.pth")
    (tmp_path / "notes.txt").write_text("x")
    for folder in (tmp_path, inner):
        assert read_torch_file(folder).names == ("80x208p16x16_mini", "checkpoint-100.pth")


def test_several_or_no_files_are_listed(tmp_path):
    refused(tmp_path, "the folder holds no .pth, .pt or .ckpt file")
    for name in ("a.pth", "b.ckpt"):
        written(tmp_path, SAVED, name)
    refused(tmp_path, r"the folder holds 2 torch files: a\.pth, b\.ckpt\. Name one of them")
    refused(
        written(tmp_path, packed({"a.pth": SAVED, "b.pt": SAVED}), "r.zip"), r"archive holds 2 torch files: a\.pth, b"
    )
    refused(written(tmp_path, packed({"a.txt": b"x"}), "t.zip"), "the archive holds no .pth")
    refused(tmp_path / "missing.pth", "missing.pth: it does not exist")


def test_names_beyond_ascii_are_read(tmp_path):
    path = tmp_path / "Über größe=0.5.pth"
    torch.save({"model": {"w": WEIGHTS}}, path)
    np.testing.assert_array_equal(weights_of(path), WEIGHTS.numpy())


@pytest.mark.skipif(not hasattr(torch.serialization, "set_crc32_options"), reason="this torch always writes them")
def test_files_saved_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = written(tmp_path, torch_bytes({"w": WEIGHTS}))
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(weights_of(path), WEIGHTS.numpy())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08\0rest", "packed archive .gzip"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x10\0\0\0\0\0\0\0{}              ", "safetensors"),
        (b"\x80\x04}.", "Python pickle that torch.save did not write"),
        (b"\0" * 257 + b"ustar" + b"\0" * 250, "tar archive"),
        (b"random bytes", "no file of torch.save"),
        (packed({"checkpoint-7/data.pkl": b"\x80\x02}."}), "is compressed inside of the torch file"),
        (packed({"a/data.pkl": b"", "b/data.pkl": b""}), "several torch files"),
    ],
)
def test_other_files_are_called_by_their_name(data, said, tmp_path):
    refused(written(tmp_path, data), said)


# ------------------------------------------------------------------------------------------- truncated and damaged
@pytest.mark.parametrize(
    "data", [torch_bytes({"w": WEIGHTS[:2, :3].clone()}), lzma.compress(SAVED)[:3000]], ids=["torch", "xz"]
)
def test_a_file_cut_anywhere_is_refused(data, tmp_path):
    path = tmp_path / "cut.pth"
    for n_bytes in range(0, len(data), 1 if len(data) < 2500 else 29):
        path.write_bytes(data[:n_bytes])
        refused(path, "cut.pth: ")


def test_an_old_file_cut_anywhere_is_refused(tmp_path):
    data = torch_bytes({"w": WEIGHTS[:2, :3].clone()}, _use_new_zipfile_serialization=False)
    path = tmp_path / "cut.pth"
    for n_bytes in range(len(data)):
        path.write_bytes(data[:n_bytes])
        refused(path, "cut.pth: ")
    path.write_bytes(data + b"\0")
    refused(path, "1 bytes follow after its end")


SMALL = torch_bytes({"w": WEIGHTS[:3, :4].clone(), "b": WEIGHTS[0, :5].clone()})
EXPECTED = {"w": WEIGHTS[:3, :4].numpy(), "b": WEIGHTS[0, :5].numpy()}


@given(st.integers(0, 8 * len(SMALL) - 1))
@settings(max_examples=400, deadline=None)
def test_a_flipped_bit_is_found_or_changes_nothing(bit):
    data = bytearray(SMALL)
    data[bit // 8] ^= 1 << bit % 8
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = find_state_dict(read_torch_file(written(Path(folder), bytes(data))).content)
            arrays = {key: tensor.array() for key, tensor in found.items()}
        except CheckpointError:
            return
        assert arrays.keys() == EXPECTED.keys()
        for key, expected in EXPECTED.items():
            np.testing.assert_array_equal(arrays[key], expected)


def test_damaged_values_are_named_when_they_are_read(tmp_path):
    at = SAVED.index(WEIGHTS.numpy().tobytes()[:64])
    data = bytearray(SAVED)
    data[at + 5] ^= 1
    file = read_torch_file(written(tmp_path, bytes(data)))
    assert file.values["epoch"] == 4
    with pytest.raises(CheckpointError, match="archive/data/0 are damaged: their checksum is wrong"):
        find_state_dict(file.content)["w"].array()


# --------------------------------------------------------------------------------------------------------- bombs
def test_zip_and_xz_bombs_are_refused_before_they_unfold(tmp_path):
    zeros = bytes(300_000_000)
    bomb = packed({"model.pth": zeros})
    assert len(zeros) > 2 * MAX_RATIO * len(bomb)
    refused(written(tmp_path, bomb, "bomb.zip"), "packed bytes become more than .* which no weights do")
    declared = bomb.rindex(struct.pack("<L", len(zeros)))  # the directory lies: a thousandth of the size
    lying = bomb[:declared] + struct.pack("<L", 300_000) + bomb[declared + 4 :]
    refused(written(tmp_path, lying, "lying.zip"), "model.pth are damaged|packed bytes become more")
    squeezed = lzma.compress(zeros, preset=0)
    refused(written(tmp_path, squeezed, "bomb.ckpt.xz"), "packed bytes become more than")


def test_archives_that_contain_themselves_end(tmp_path):
    data = SAVED
    for _ in range(5):
        data = packed({"model.pth": data}, zipfile.ZIP_STORED)
    refused(written(tmp_path, data, "model.pth"), "archives in archives|archives without end")


def test_a_directory_too_large_is_refused_before_it_is_read(tmp_path):
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, 100 << 20, 0, 0)
    with open(tmp_path / "big.zip", "wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(100 << 20)
        file.write(end)
    refused(tmp_path / "big.zip", "zip directory would have 104857600 bytes")


# ------------------------------------------------------------------------------------------------ entries that lie
@pytest.mark.parametrize(
    "name", ["/etc/passwd.pth", "../../up.pth", "a/../../up.pth", "C:\\x.pth", "a\\..\\x.pth", "C:/x.pth"]
)
def test_entries_outside_of_the_archive_are_refused(name, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, SAVED)
    refused(written(folder, buffer.getvalue(), "r.zip"), "outside of itself")
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "r.zip"]


def test_links_and_encrypted_entries_are_refused(tmp_path):
    link = zipfile.ZipInfo("model.pth")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(written(tmp_path, buffer.getvalue(), "link.zip"), "model.pth is a link")
    data = bytearray(packed({"model.pth": SAVED}))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    refused(written(tmp_path, bytes(data), "secret.zip"), "model.pth is encrypted")
    strange = bytearray(packed({"model.pth": SAVED}))
    strange[strange.rindex(b"PK\x01\x02") + 10] = 93
    refused(written(tmp_path, bytes(strange), "zstd.zip"), "packed by method 93")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_twice_or_on_top_of_each_other_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data.pkl", b"\x80\x02].")
    refused(written(tmp_path, buffer.getvalue(), "twice.pth"), "holds a/data.pkl twice")

    data = bytearray(torch_zip(b"\x80\x02}.", {"0": np.ones(64, np.float32), "1": np.ones(64, np.float32)}))
    first, second = (data.rindex(b"checkpoint-7/data/" + key) for key in (b"0", b"1"))
    data[second - 4 : second] = data[first - 4 : first]  # offset of the header
    refused(written(tmp_path, bytes(data), "moved.pth"), "is not where its directory says|overlap")
    longer = bytearray(torch_zip(b"\x80\x02}.", {"0": np.ones(64, np.float32), "1": np.ones(64, np.float32)}))
    for at in (20, 24):  # both sizes
        begin = longer.rindex(b"checkpoint-7/data/0") - 46 + at
        longer[begin : begin + 4] = struct.pack("<L", 300)
    refused(written(tmp_path, bytes(longer), "overlap.pth"), "data/0 and checkpoint-7/data/1 overlap")
