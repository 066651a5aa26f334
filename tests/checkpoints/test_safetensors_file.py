"""Our checkpoint file keeps weights exactly and refuses every altered, shortened or foreign file."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tracemalloc

import pytest
import safetensors
import safetensors.torch
import torch

from hear_models.checkpoints.safetensors_file import read_checkpoint, read_header, verify, write_checkpoint
from hear_models.checkpoints.safetensors_raw import read_head, read_tensors
from hear_models.errors import CheckpointError

CONFIG = {"encoder_width": 24, "decoder_windows": (2, 5, 0), "mlp_ratio": 4.0, "class_token": False}


def some_tensors() -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {
        "norm.weight": torch.randn(8, generator=rng),
        "blocks.10.w": torch.randn(3, 5, generator=rng),
        "scalar": torch.tensor(1.5),
        "decoder.embed.weight": torch.randn(4, 2, generator=rng),
    }


def write(path, **changes) -> str:
    arguments = {"family": "mwmae", "config": CONFIG, "tensors": some_tensors(), "source": {"file": "checkpoint_5"}}
    return write_checkpoint(path, **(arguments | changes))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    write(path)
    return path


def test_what_is_written_is_read_back_exactly(tmp_path):
    path = tmp_path / "model.safetensors"
    sha256 = write(path, notes={"steps": 7})
    checkpoint = read_checkpoint(path, parts=("encoder", "decoder"), sha256=sha256)
    assert checkpoint.tensors.keys() == some_tensors().keys()
    for name, value in some_tensors().items():
        assert checkpoint.tensors[name].dtype == torch.float32
        assert torch.equal(checkpoint.tensors[name], value), name
    assert checkpoint.config == {**CONFIG, "decoder_windows": [2, 5, 0]}
    assert (checkpoint.family, checkpoint.parts, checkpoint.trained) == ("mwmae", ("encoder", "decoder"), True)
    assert checkpoint.source == {"file": "checkpoint_5"} and checkpoint.header.notes == {"steps": 7}
    assert checkpoint.sha256 == sha256 and checkpoint.n_bytes == path.stat().st_size


def test_equal_weights_give_equal_files(tmp_path):
    backwards = dict(reversed(some_tensors().items()))
    assert write(tmp_path / "a.safetensors") == write(tmp_path / "b.safetensors", tensors=backwards)


def test_embedding_needs_no_decoder(file):
    assert "decoder.embed.weight" not in read_checkpoint(file).tensors


def test_decoder_can_be_left_out_and_is_then_missed_by_name(tmp_path):
    write(tmp_path / "e.safetensors", parts=["encoder"])
    assert read_header(tmp_path / "e.safetensors").parts == ("encoder",)
    with pytest.raises(CheckpointError, match="holds no decoder"):
        read_checkpoint(tmp_path / "e.safetensors", parts=("encoder", "decoder"))


def test_float16_halves_the_file_and_is_read_as_float32(tmp_path):
    tensors = {"w": torch.linspace(-3, 3, 10_000)}
    write(tmp_path / "32.safetensors", tensors=tensors)
    write(tmp_path / "16.safetensors", tensors=tensors, dtype="float16")
    read = read_checkpoint(tmp_path / "16.safetensors").tensors["w"]
    assert read.dtype == torch.float32 and torch.equal(read, tensors["w"].half().float())
    assert (tmp_path / "16.safetensors").stat().st_size < 0.53 * (tmp_path / "32.safetensors").stat().st_size


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (float("inf"), "float32"), (1e6, "float16")])
def test_weights_that_cannot_be_kept_are_not_written(tmp_path, value, dtype):
    with pytest.raises(CheckpointError, match=r"^blocks\.0\.w holds NaN, infinity or a value beyond"):
        write(tmp_path / "m.safetensors", tensors={"blocks.0.w": torch.tensor([1.0, value])}, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_no_flipped_bit_goes_unnoticed(file, tmp_path):
    """A sample from the whole file, header and tensors; safetensors itself loads flipped bits of tensors silently."""
    whole = file.read_bytes()
    bits = random.Random(3).sample(range(8 * len(whole)), 1500)
    damaged = tmp_path / "damaged.safetensors"
    loaded = []
    for bit in bits:
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            read_checkpoint(damaged)
            loaded.append(bit)
    assert loaded == []


def test_every_truncation_and_every_addition_is_noticed(file, tmp_path):
    whole = file.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for data in [*(whole[:n] for n in range(len(whole))), whole + b"\x00", whole + whole]:
        damaged.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
            read_checkpoint(damaged)


def rewrite(path, change) -> None:
    """Save the file again with changed metadata or tensors, a valid safetensors file that is no longer ours."""
    with safetensors.safe_open(path, "pt") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    content = json.loads(metadata["hear_models"])
    change(content, tensors)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_bytes(safetensors.torch.save(tensors, {"hear_models": text}))


@pytest.mark.parametrize(
    "change",
    [
        lambda content, tensors: content["config"].update(encoder_width=32),
        lambda content, tensors: content.update(trained=False),
        lambda content, tensors: tensors.pop("scalar"),
        lambda content, tensors: tensors.update(extra=torch.zeros(2)),
        lambda content, tensors: tensors.update({"blocks.10.w": tensors["blocks.10.w"].reshape(5, 3).contiguous()}),
        lambda content, tensors: tensors.update(renamed=tensors.pop("scalar")),
        lambda content, tensors: tensors.update({"norm.weight": tensors["norm.weight"] + 1e-7}),
    ],
)
def test_a_file_edited_with_ordinary_tools_is_refused(file, change):
    rewrite(file, change)
    with pytest.raises(CheckpointError, match="does not match its digest"):
        read_checkpoint(file)


def test_a_later_format_asks_for_an_update(file):
    rewrite(file, lambda content, tensors: content.update(format=2))
    with pytest.raises(CheckpointError, match="Update hear-models"):
        read_checkpoint(file)


def test_other_peoples_safetensors_are_sent_to_convert(tmp_path):
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}, {"hear_models": "{}"}):
        path.write_bytes(safetensors.torch.save({"w": torch.zeros(2)}, metadata))
        with pytest.raises(CheckpointError, match=r"hear-models convert|damaged description"):
            read_checkpoint(path)


def test_another_sha256_than_the_manifests_is_refused(file):
    with pytest.raises(CheckpointError, match="not the file that its manifest describes"):
        read_checkpoint(file, sha256="0" * 64)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "m.safetensors"
    write(target)
    before = target.read_bytes()
    with pytest.raises(CheckpointError):
        write(target, tensors={"w": torch.tensor([float("nan")])})
    with pytest.raises(CheckpointError, match="cannot be written"):
        write(tmp_path / "no folder" / "m.safetensors")
    with pytest.raises(CheckpointError, match="is a folder"):
        write(tmp_path)
    assert target.read_bytes() == before and list(tmp_path.iterdir()) == [target]


def test_header_and_digest_are_read_without_torch(file):
    code = (
        "import sys; from hear_models.checkpoints.safetensors_file import verify; "
        "header, tensors, _ = verify(sys.argv[1]); assert 'torch' not in sys.modules; "
        "print(header.family, len(tensors))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mwmae", "4"]
    assert verify(file)[2] == read_checkpoint(file).sha256


def test_a_file_is_in_memory_once(tmp_path):
    write(tmp_path / "a.safetensors", tensors={"patch_embed.weight": torch.ones(3, 1_000_000)})
    for read, share in ((read_checkpoint, 1.2), (verify, 1.2), (read_header, 0.01)):
        read(tmp_path / "a.safetensors")
        tracemalloc.start()
        read(tmp_path / "a.safetensors")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < share * (tmp_path / "a.safetensors").stat().st_size, read.__name__


TABLES = {
    "a gap": {"a": ("F32", [2], [0, 8]), "b": ("F32", [1], [12, 16])},
    "an overlap": {"a": ("F32", [2], [0, 8]), "b": ("F32", [3], [4, 16])},
    "bytes behind": {"a": ("F32", [3], [0, 12])},
    "beyond the end": {"a": ("F32", [5], [0, 20])},
    "backwards": {"a": ("F32", [4], [16, 0])},
    "negative": {"a": ("F32", [-4], [0, -16])},
    "another length": {"a": ("F32", [3], [0, 16])},
    "huge": {"a": ("F32", [1 << 62, 4], [0, 16])},
    "an unknown dtype": {"a": ("F33", [4], [0, 16])},
    "no numbers": {"a": ("F32", ["4"], [0, 16])},
    "true for one": {"a": ("U8", [True, 16], [0, 16])},
    "no table": 3,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_does_not_fit_its_file_is_refused_as_by_the_library(tmp_path, name):
    entries = TABLES[name]
    table = (
        {key: {"dtype": dtype, "shape": shape, "data_offsets": at} for key, (dtype, shape, at) in entries.items()}
        if isinstance(entries, dict)
        else entries
    )
    text = json.dumps(table).encode()
    data = len(text).to_bytes(8, "little") + text + bytes(16)
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(data)
    head, _ = read_head(tmp_path / "a.safetensors")
    with pytest.raises(ValueError):
        read_tensors(tmp_path / "a.safetensors", head)
