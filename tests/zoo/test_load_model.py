"""`load_model` gives what its name says, verified, without side effects; anything else is one helpful error."""

from __future__ import annotations

import dataclasses
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import hear_models
from hear_models import mae, mwmae
from hear_models.checkpoints import manifest as manifests
from hear_models.checkpoints.safetensors_file import read_checkpoint, write_checkpoint
from hear_models.errors import CheckpointError, UsageError
from hear_models.zoo import find_entry, list_models, load_model
from hear_models.zoo import load as loading
from hear_models.zoo.convert import convert

GOLDEN = Path(__file__).parent.parent / "golden" / "mwmae"
SMALL = mwmae.Config(encoder_width=24, encoder_depth=1, encoder_heads=3, decoder_width=16, decoder_depth=1)


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "mini.safetensors"
    convert("mwmae", GOLDEN / "mwmae_mini", path, overrides={"encoder_heads": 3})
    return path


def write(path: Path, model: mwmae.Model, **changes) -> str:
    arguments = {
        "family": "mwmae",
        "config": dataclasses.asdict(model.config),
        "tensors": model.state_dict(),
    }
    return write_checkpoint(path, **(arguments | changes))


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """A weights folder of our own, with one bundled checkpoint that its manifest describes."""
    sha256 = write(tmp_path / "tiny.safetensors", mwmae.Model(SMALL, seed=5))
    values = dataclasses.asdict(SMALL)
    configuration = "\n".join(f"{name} = {value}" for name, value in values.items() if type(value) is int)
    (tmp_path / "tiny.toml").write_text(
        'name = "tiny"\nfamily = "mwmae"\nsummary = "s"\nstatus = "bundled"\ndefault = true\nsample_rate = 16000\n'
        f'dims = 120\n[file]\nbundled = "tiny.safetensors"\nsha256 = "{sha256}"\n[configuration]\n{configuration}\n'
    )
    monkeypatch.setattr(manifests, "resource", lambda name: tmp_path)
    return tmp_path


def test_converted_file_holds_the_official_weights(converted):
    model = load_model(converted)
    tensors = read_checkpoint(converted).tensors
    assert model.state_dict().keys() == tensors.keys()
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())
    assert model.config.decoder_windows == (2, 5, 10, 25, 50, 125, 0, 0)
    assert model.checkpoint.trained and model.checkpoint.path == str(converted) and model.checkpoint.sha256
    assert not model.training and next(model.parameters()).dtype == torch.float32
    assert mwmae.load_model(str(converted)).config == model.config


def test_decoder_is_loaded_for_pretraining_only(converted):
    assert load_model(converted).decoder is None
    decoder = load_model(converted, decoder=True).decoder
    want = read_checkpoint(converted, parts=("decoder",)).tensors["decoder.blocks.1.attn.bias_tables.3"]
    assert torch.equal(decoder.blocks[1].attn.bias_tables["3"], want)
    assert not any(value.is_meta for value in [*decoder.parameters(), *decoder.buffers()])


def test_empty_name_is_the_bundled_default_with_its_checksum_verified(bundled):
    for model in (load_model(), load_model(""), mwmae.load_model(), load_model("tiny")):
        assert (model.checkpoint.name, model.checkpoint.trained) == ("tiny", True)
    assert [(entry.name, entry.status) for entry in list_models()] == [("tiny", "bundled")]


def test_bundled_file_with_another_content_is_refused(bundled):
    write(bundled / "tiny.safetensors", mwmae.Model(SMALL, seed=6))  # intact, but not the one of the manifest
    with pytest.raises(CheckpointError, match="not the file that its manifest describes"):
        load_model()


def test_bundled_file_without_a_checksum_in_the_manifest_is_refused(bundled):
    text = (bundled / "tiny.toml").read_text()
    (bundled / "tiny.toml").write_text("\n".join(line for line in text.splitlines() if "sha256" not in line))
    with pytest.raises(CheckpointError, match="gives no sha256"):
        load_model()


def test_bundled_file_of_another_configuration_than_the_manifests_is_refused(bundled):
    text = (bundled / "tiny.toml").read_text()
    (bundled / "tiny.toml").write_text(text.replace("encoder_heads = 3", "encoder_heads = 4"))
    with pytest.raises(CheckpointError, match="encoder_heads"):
        load_model()


def test_missing_bundled_file_gives_the_same_random_network_every_time_and_warns_once(bundled, monkeypatch):
    monkeypatch.setattr(loading, "_warned", set())
    (bundled / "tiny.safetensors").unlink()
    with pytest.warns(UserWarning, match="tiny has no trained weights") as caught:
        first, second = mwmae.load_model(), load_model("tiny")
    assert len(caught) == 1 and caught[0].filename == __file__  # points at the caller
    assert first.checkpoint.trained is False and first.checkpoint.path is None and first.config == SMALL
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert find_entry("tiny").status == "untrained" and not find_entry("tiny").trained


@pytest.mark.parametrize("name", ["mwmae-tiny", "mae-tiny"])
def test_configuration_without_weights_loads_as_untrained(name, monkeypatch):
    monkeypatch.setattr(loading, "_warned", set())
    with pytest.warns(UserWarning, match="random network"):
        model = load_model(name)
    assert (model.scene_embedding_size, len(model.blocks), model.checkpoint.trained) == (960, 12, False)


def test_model_without_parameters_counts_as_trained():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_model("logmel-stats")
    assert model.checkpoint.trained and model.scene_embedding_size == 160


@pytest.mark.parametrize("make", [lambda path: load_model(path), lambda path: load_model("mwmae-tiny")])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_state_of_the_caller_is_not_touched(converted, make):
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    make(converted)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]


def test_options_reach_the_model(converted):
    model = load_model(converted, timestamps="official", dtype="bfloat16", device="cpu")
    assert model.timestamps == "official" and next(model.parameters()).dtype == torch.bfloat16
    scene = model.get_scene_embeddings(torch.zeros(1, 8000))
    assert scene.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timestamp": "official"}, "Did you mean timestamps.*Valid options: .*timestamps.*dtype"),
        ({"seed": 3}, "'seed' is no option"),
        ({"config": SMALL}, "'config' is no option"),
        ({"self": 1}, "'self' is no option"),
        ({"timestamps": "middle"}, "timestamps='middle' is unknown. Use one of"),
        ({"dtype": "float8"}, "dtype='float8' is unknown. Use one of"),
        ({"dtype": None}, "dtype=None is unknown"),
        ({"dtype": []}, "unknown"),
        ({"device": "toaster"}, "device='toaster'"),
    ],
)
def test_wrong_option_lists_what_is_valid(converted, options, said):
    with pytest.raises(UsageError, match=said):
        load_model(converted, **options)


@pytest.mark.parametrize("name", ["mwmae-base", "mae-base"])
def test_unpublished_weights_tell_the_way(name):
    with pytest.raises(CheckpointError, match=r"hear-models fetch m\w+-base.*drive\.google\.com"):
        load_model(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mwmae-nan", "Did you mean mwmae-nano"),
        ("MWMAE-NANO", "Did you mean mwmae-nano"),
        ("mwmae", r"There is the family 'mwmae': `hear_models\.mwmae\.load_model\(\)`"),
        ("no-such-thing-at-all", "neither a model's name .* nor a file that exists.*hear-models list"),
        ("weights/nothing.safetensors", "nor a file that exists"),
        ("hf://repo", r"no address on the Hub\. Write hf://ORGANISATION/REPOSITORY"),
        (17, "takes a name or a path, not int"),
        (None, "takes a name or a path, not NoneType"),
    ],
)
def test_wrong_name_is_one_helpful_error(name, said):
    with pytest.raises(UsageError, match=said):
        load_model(name)


@pytest.mark.parametrize("official", ["mwmae_mini", "mwmae_mini/checkpoint_5"])
def test_official_file_is_sent_to_convert(official):
    with pytest.raises(CheckpointError, match="hear-models convert FAMILY INPUT"):
        load_model(GOLDEN / official)


def test_foreign_and_damaged_files_are_refused(tmp_path, converted):
    pth, broken = tmp_path / "model.pth", tmp_path / "broken.safetensors"
    pth.write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match="hear-models convert"):
        load_model(pth)
    data = bytearray(converted.read_bytes())
    data[-3] ^= 1
    broken.write_bytes(data)
    with pytest.raises(CheckpointError, match="does not match its digest"):
        load_model(broken)
    shutil.copy(GOLDEN / "mwmae_mini" / "checkpoint_5", broken)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(broken)


def test_family_of_file_and_of_module_must_agree(converted):
    with pytest.raises(UsageError, match="of the family mwmae, not of mae"):
        mae.load_model(str(converted))
    with pytest.raises(UsageError, match="of the family mae, not of mwmae"):
        mwmae.load_model("mae-tiny")


def test_unknown_family_in_a_file_is_refused(tmp_path):
    write(tmp_path / "m.safetensors", mwmae.Model(SMALL), family="os")
    with pytest.raises(CheckpointError, match="'os', which this version of hear-models does not know"):
        load_model(tmp_path / "m.safetensors")


def changed(change) -> dict:
    tensors = dict(mwmae.Model(SMALL).state_dict())
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("blocks.0.mlp.fc1.bias"), r"the tensor blocks\.0\.mlp\.fc1\.bias is missing"),
        (lambda t: t.update(extra=torch.zeros(2)), "no tensor extra"),
        (lambda t: t.update({"norm.bias": torch.zeros(25)}), r"norm\.bias is \[25\], expected \[24\]"),
    ],
)
def test_one_tensor_too_few_too_many_or_misshaped_is_named(tmp_path, change, said):
    write(tmp_path / "m.safetensors", mwmae.Model(SMALL), tensors=changed(change))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("config", [{"heads": 3}, {"encoder_width": "wide"}, {"encoder_heads": 7}, {"patch_frames": 0}])
def test_file_with_an_impossible_configuration_is_refused(tmp_path, config):
    write(tmp_path / "m.safetensors", mwmae.Model(SMALL), config=dataclasses.asdict(SMALL) | config)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "m.safetensors")


def test_listing_models_does_not_import_torch():
    code = "import sys, hear_models; print(len(hear_models.list_models())); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(hear_models.list_models())


def test_default_stands_first_in_the_list():
    entries = list_models()
    assert entries[0].name == "mwmae-nano" and entries[0].default
    assert len({entry.name for entry in entries}) == len(entries)


def test_what_another_thread_draws_while_a_model_is_loaded_is_drawn_once(monkeypatch):
    drawn: list[torch.Tensor] = []
    build = loading.new_model

    def meanwhile(*arguments, **options):
        drawn.append(torch.rand(4))
        return build(*arguments, **options)

    monkeypatch.setattr(loading, "new_model", meanwhile)
    load_model("mwmae-nano")
    drawn.append(torch.rand(4))
    assert not torch.equal(*drawn)
