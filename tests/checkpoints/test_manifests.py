"""The manifests in weights/ are complete, true to the networks, and broken ones are refused by name."""

from __future__ import annotations

import hashlib
from importlib import import_module

import pytest

from hear_models.checkpoints.manifest import Manifest, read_manifests
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import CheckpointError
from hear_models.fields import check_fields

MANIFESTS = read_manifests()
WITH_SIZES = [name for name, manifest in MANIFESTS.items() if manifest.family in ("mwmae", "mae")]
PARAMETERS = {"mwmae-base": 92_814_576, "mae-base": 92_814_784}  # counted in the authors' networks


@pytest.mark.parametrize("name", MANIFESTS)
def test_configuration_gives_the_network_that_the_manifest_promises(name):
    manifest = MANIFESTS[name]
    module = import_module(f"hear_models.{manifest.family}")
    config = module.Config(**check_fields(module.Config, manifest.configuration))
    extra = {"seed": None, "decoder": True} if name in WITH_SIZES else {}
    network = module.Model(config, **extra)  # without memory for the weights
    assert network.sample_rate == manifest.sample_rate
    assert network.scene_embedding_size == manifest.scene_embedding_size
    assert network.timestamp_embedding_size == manifest.timestamp_embedding_size
    if name in PARAMETERS:
        assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", WITH_SIZES)
def test_decoder_windows_follow_the_papers_rule(name):
    manifest = MANIFESTS[name]
    module = import_module(f"hear_models.{manifest.family}")
    config = module.Config(**check_fields(module.Config, manifest.configuration))
    rule = import_module("hear_models.mwmae").window_rule(config.tokens)
    assert config.decoder_windows == (rule if manifest.family == "mwmae" else (0,) * len(rule))
    assert config.class_token is (manifest.family == "mae")


def test_every_published_size_is_there():
    sizes = ["tiny", "small", "medium", "base", "large", "huge"]
    base = ["base-8x16", "base-8x8", "base-4x8", "base-5x5", "base-1l", "base-2l", "base-8l"]
    expected = {f"{family}-{size}" for family in ("mwmae", "mae") for size in [*sizes, *base, "nano"]}
    assert expected <= MANIFESTS.keys()


def test_each_family_has_one_default():
    families = [manifest.family for manifest in MANIFESTS.values() if manifest.default]
    assert sorted(families) == sorted({manifest.family for manifest in MANIFESTS.values()})


@pytest.mark.parametrize("name", [name for name, manifest in MANIFESTS.items() if manifest.path])
def test_bundled_file_is_the_one_described(name):
    manifest = MANIFESTS[name]
    data = manifest.path.read_bytes()
    assert manifest.file.sha256 == hashlib.sha256(data).hexdigest()
    assert manifest.file.bytes == len(data) <= 4_000_000
    module = import_module(f"hear_models.{manifest.family}")
    header = read_header(manifest.path)
    assert header.family == manifest.family and header.trained
    assert module.Config(**check_fields(module.Config, header.config)) == module.Config(
        **check_fields(module.Config, manifest.configuration)
    )


def test_unpublished_weights_are_not_promised_more_than_is_known():
    for name in ("mwmae-base", "mae-base"):
        manifest = MANIFESTS[name]
        assert manifest.licence == "not stated" and manifest.original.sha256 == "not verified"
        assert manifest.original.address.startswith("https://") and manifest.path is None


GOOD = """
name = "a"
family = "mwmae"
summary = "s"
status = "untrained"
sample_rate = 16000
dims = 5
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "colour = 1", "unknown fields"),
        (GOOD.replace('status = "untrained"', 'status = "lost"'), "status 'lost'"),
        (GOOD.replace('status = "untrained"', 'status = "bundled"'), "names its file"),
        (GOOD.replace("dims = 5", ""), "scene_embedding_size"),
        (GOOD.replace("16000", '"16000"'), "sample_rate"),
        (GOOD + "[file]\nbundle = 'x'", "bundle"),
        (GOOD + "[pieces]\n[variants]\na = { use = ['huge'] }", "huge"),
        ("name = ", "wrong"),
    ],
)
def test_broken_manifest_is_refused_by_file(tmp_path, text, said):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(CheckpointError, match=rf"bad\.toml.*{said}"):
        read_manifests(tmp_path)


def test_two_manifests_of_one_name_are_refused(tmp_path):
    for file in ("one.toml", "two.toml"):
        (tmp_path / file).write_text(GOOD)
    with pytest.raises(CheckpointError, match="stands in two manifests"):
        read_manifests(tmp_path)


def test_variants_join_their_pieces_in_order(tmp_path):
    (tmp_path / "v.toml").write_text(
        GOOD.replace('name = "a"', "")
        + "[pieces]\nx = { w = 1, d = 2 }\ny = { w = 3 }\n[variants]\nv = { use = ['x', 'y'] }"
    )
    assert read_manifests(tmp_path) == {
        "v": Manifest("v", "mwmae", "s", "untrained", 16000, 5, 5, configuration={"w": 3, "d": 2})
    }
