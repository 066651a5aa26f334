"""Equal to the authors' code: .ckpt or .pth → convert → safetensors → load_model(path) → features, logits, embeddings.

The plans of the HEAR functions are a proposal of ours: what is compared there is an independent computation of the same
proposal (self-consistency), not something that the authors published.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gise51_inputs import FOLDER, NETWORKS, loud, recipe_state, relative, signal, write_exported
from golden_inputs import TOLERANCE, largest_difference
from torch import Tensor

from hear_models import gise51
from hear_models.errors import CheckpointError, UsageError
from hear_models.pipeline.fill import cut
from hear_models.zoo.convert import convert


@pytest.fixture(scope="module")
def lightning(tmp_path_factory) -> Path:
    """A checkpoint that Lightning 1.1.3 wrote, converted as a user converts it."""
    path = tmp_path_factory.mktemp("lightning") / "cifar_resnet20.safetensors"
    convert("gise51", FOLDER / "lightning_cifar_resnet20.ckpt.xz", path)
    return path


@pytest.fixture(scope="module")
def model(lightning) -> gise51.Model:
    return gise51.load_model(str(lightning))


@pytest.fixture(scope="module")
def front_end() -> gise51.Model:
    return gise51.Model(gise51.Config(architecture="nano"), seed=0)


# ------------------------------------------------------------------ the front end

CLIPS = {
    "five": signal(1, 110250),
    "one": signal(2, 22050),
    "short": signal(3, 6615),
    "odd": signal(4, 31337),
    "ten": signal(5, 220500),
    "tiny": signal(6, 300),  # reflected more than once on each side
    "silence": torch.zeros(11025),
    "loud": loud(7, 11025),
}
ROWS, COLUMNS = [0, 1, 2, 20, 110, 219, 220], [0, 1, 2, -2, -1]


@pytest.mark.parametrize("name", CLIPS)
def test_features_match(front_end, name):
    features = front_end.features(CLIPS[name]).T  # [bins, frames]
    with np.load(FOLDER / "frontend.npz") as official:
        assert tuple(features.shape) == tuple(official[f"{name}_shape"])
        assert front_end.frontend.n_frames(len(CLIPS[name])) == features.shape[1]
        if name in official.files:
            assert largest_difference(features, official[name]) <= TOLERANCE["GISE-51, decibels"]
            return
        middle = features.shape[1] // 2
        columns = features[:, [*COLUMNS[:3], middle, *COLUMNS[3:]]]
        assert largest_difference(features[ROWS], official[f"{name}_rows"]) <= TOLERANCE["GISE-51, decibels"]
        assert largest_difference(columns, official[f"{name}_cols"]) <= TOLERANCE["GISE-51, decibels"]


@pytest.mark.parametrize("name", CLIPS)
def test_decibels_before_the_mean_is_taken_away_match(front_end, name):
    decibels = front_end.spectrogram(CLIPS[name]).double()
    with np.load(FOLDER / "frontend.npz") as official:
        for value, key in ((decibels.mean(), "dbmean"), (decibels.max(), "dbmax"), (decibels.min(), "dbmin")):
            assert float(value) == pytest.approx(float(official[f"{name}_{key}"]), abs=TOLERANCE["GISE-51, decibels"])


def test_what_is_150_db_below_the_loudest_is_raised(front_end):
    """Only input far beyond [-1, 1] gets there: the floor of -100 dB lies higher otherwise."""
    decibels = front_end.spectrogram(torch.cat([1e6 * signal(1, 4000), torch.zeros(4000)]))
    assert float(decibels.max()) > 60
    assert float(decibels.min()) == pytest.approx(float(decibels.max()) - 150, abs=1e-4)


def test_the_evaluation_of_the_authors_repeats_and_cuts_as_theirs(front_end):
    with np.load(FOLDER / "frontend.npz") as official:
        short = gise51.fit_frames(front_end.features(CLIPS["short"]), 501).T
        assert largest_difference(short[[0, 7, 110, 220]], official["eval_short"]) <= TOLERANCE["GISE-51, decibels"]
        five = gise51.fit_frames(front_end.features(CLIPS["five"]), 501).T
        assert largest_difference(five[:, :3], official["eval_five_first3"]) <= TOLERANCE["GISE-51, decibels"]
        ten = gise51.fit_frames(front_end.features(CLIPS["ten"]), 501).T
        theirs = official["eval_ten_cols"]
        assert largest_difference(ten[:, [0, 1, 250, 499, 500]], theirs) <= TOLERANCE["GISE-51, decibels"]
        steps = torch.arange(1.0, 8.0)[:, None]
        for key in official.files:
            kind, _, n = key.partition("7_to_")
            if kind == "wrap" or (kind == "center" and int(n) <= 7):
                np.testing.assert_array_equal(gise51.fit_frames(steps, int(n))[:, 0], official[key], err_msg=key)


# ------------------------------------------------------------------ the networks


def images(front_end: gise51.Model) -> dict[str, Tensor]:
    """The inputs of nets.npz, [units, frames, bins]."""

    def features(seed: int, n: int) -> Tensor:
        return front_end.features(signal(seed, n))

    return {
        "five": gise51.fit_frames(features(1, 110250), 501)[None],
        "pair": torch.stack([features(8, 22050), features(9, 22050)]),
        "odd": features(4, 31337)[None],
        "short_wrap": gise51.fit_frames(features(3, 6615), 501)[None],
        "ten": gise51.fit_frames(features(5, 220500), 1001)[None],
    }


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_matches_through_an_exported_file(network, front_end, tmp_path):
    path = tmp_path / "converted.safetensors"
    conversion = convert("gise51", write_exported(network, tmp_path), path)
    assert conversion.config["architecture"] == network
    assert conversion.config["classes"] == gise51.CLASSES
    model = gise51.load_model(str(path))
    about = json.loads((FOLDER / "nets_info.json").read_text("utf-8"))[network]
    assert sum(parameter.numel() for parameter in model.parameters()) == about["params"]
    with np.load(FOLDER / "nets.npz") as official, torch.inference_mode():
        cases = {name: units for name, units in images(front_end).items() if f"{network}/{name}/logits" in official}
        assert len(cases) >= 4
        for name, units in cases.items():
            pooled = model.encode(units)[:, 0]
            assert relative(pooled, official[f"{network}/{name}/penult"]) <= TOLERANCE["GISE-51, relative"], name
            logits = model.classify(units)
            assert relative(logits, official[f"{network}/{name}/logits"]) <= TOLERANCE["GISE-51, relative"], name
            assert relative(model.head(pooled), logits.numpy()) <= 1e-5  # the head sees the embedding


@pytest.mark.parametrize("network", NETWORKS)
def test_state_dict_has_the_official_tensors(network):
    """Names and shapes, without memory; the counters of batch normalisation are the only ones left out."""
    theirs = {
        key: tuple(value.shape)
        for key, value in recipe_state(network).items()
        if not key.endswith("num_batches_tracked")
    }
    model = gise51.Model(gise51.Config(architecture=network), seed=None)
    ours = [tuple(value.shape) for value in model.state_dict().values()]
    assert sorted(ours) == sorted(theirs.values())


def test_every_layer_of_the_lightning_checkpoint_matches(model):
    pair = torch.stack([model.features(signal(8, 22050)), model.features(signal(9, 22050))])
    image = pair.transpose(1, 2)[:, None]
    body = model.body
    with np.load(FOLDER / "ckpt_outputs.npz") as official, torch.inference_mode():
        layers = {"conv1": body.conv1(image)}
        layers["bn1"] = body.bn1(layers["conv1"])
        layers["maxpool"] = body.stem(image)
        layers["layer1"] = body.layer1(layers["maxpool"])
        layers["layer2.0"] = body.layer2[0](layers["layer1"])
        layers["layer2"] = body.layer2(layers["layer1"])
        layers["layer3"] = body.layer3(layers["layer2"])
        for name, value in layers.items():
            assert tuple(value.shape) == tuple(official[f"pair/{name}/shape"]), name
            some = value[:, :3, ::9, ::7]
            assert relative(some, official[f"pair/{name}"]) <= TOLERANCE["GISE-51, checkpoint, relative"], name
            size = float(official[f"pair/{name}/mean_abs"])
            assert float(value.abs().mean()) == pytest.approx(size, rel=TOLERANCE["GISE-51, checkpoint, relative"])
        pooled = layers["layer3"].mean((2, 3), keepdim=True)
        assert relative(pooled, official["pair/avgpool"]) <= TOLERANCE["GISE-51, checkpoint, relative"]
        assert relative(model.classify(pair), official["pair/logits"]) <= TOLERANCE["GISE-51, checkpoint, relative"]
        five = gise51.fit_frames(model.features(signal(1, 110250)), 501)[None]
        logits = model.classify(five)
        assert relative(logits, official["five/logits"]) <= TOLERANCE["GISE-51, checkpoint, relative"]
        assert relative(logits.sigmoid(), official["five/sigmoid"]) <= TOLERANCE["GISE-51, checkpoint, relative"]
        pooled = model.encode(five)[:, 0]
        assert relative(pooled, official["five/penult"]) <= TOLERANCE["GISE-51, checkpoint, relative"]


# ------------------------------------------------------------------ our proposal: scenes and timestamps

PROPOSAL = {
    "short": signal(31, 6615),
    "one": signal(32, 22050),
    "five": signal(33, 110250),
    "multi": signal(34, 471000),  # three chunks
    "tailmerge": signal(35, 230500),  # a tail below 1 s joins the chunk before it
    "silence": torch.zeros(22050),
    "loud": loud(36, 33333),
    "tiny": signal(37, 200),  # shorter than a window: repeated
}


@pytest.mark.parametrize("name", PROPOSAL)
def test_scenes_and_timestamps_are_those_of_the_proposal(model, name):
    audio = PROPOSAL[name][None]
    with np.load(FOLDER / "hear_proposal.npz") as expected:
        scene = gise51.get_scene_embeddings(audio, model)[0]
        assert relative(scene, expected[f"{name}/scene"]) <= TOLERANCE["GISE-51, relative"]
        if f"{name}/ts" not in expected.files:
            return
        embeddings, times = gise51.get_timestamp_embeddings(audio, model)
        assert tuple(embeddings[0].shape) == tuple(expected[f"{name}/emb_shape"])
        assert largest_difference(times[0], expected[f"{name}/ts"]) <= TOLERANCE["milliseconds"]
        some = embeddings[0, expected[f"{name}/emb_idx"]]
        assert relative(some, expected[f"{name}/emb"]) <= TOLERANCE["GISE-51, relative"]
        assert times[0, -1] <= 1000 * audio.shape[1] / model.sample_rate


def test_proposal_of_a_larger_network(tmp_path):
    path = tmp_path / "resnet18.safetensors"
    convert("gise51", write_exported("resnet18", tmp_path), path)
    model = gise51.load_model(str(path))
    audio = PROPOSAL["one"][None]
    embeddings, _ = model.get_timestamp_embeddings(audio)
    with np.load(FOLDER / "hear_proposal.npz") as expected:
        scene = model.get_scene_embeddings(audio)[0]
        assert relative(scene, expected["resnet18/scene"]) <= TOLERANCE["GISE-51, relative"]
        some = embeddings[0, [0, embeddings.shape[1] // 2, -1]]
        assert relative(some, expected["resnet18/emb"]) <= TOLERANCE["GISE-51, relative"]


def test_a_scene_is_not_the_mean_of_its_timestamps(model):
    audio = PROPOSAL["five"][None]
    scene = model.get_scene_embeddings(audio)[0]
    steps, _ = model.get_timestamp_embeddings(audio)
    assert relative(steps[0].mean(0), scene.numpy()) > 0.01


def test_times_are_those_of_the_grid_in_float64(model):
    times = model.plan(22050 * 600, "timestamps").times_ms
    assert times.dtype == np.float64
    np.testing.assert_allclose(times[[0, 1, 12026]], [0, 1100 / 22.05, 12026 * 1100 / 22.05], rtol=1e-15)


# ------------------------------------------------------------------ fast mode, logits


def test_fast_mode_has_the_same_times_and_scenes(model, lightning):
    fast = gise51.load_model(str(lightning), mode="fast")
    for name in ("tiny", "short", "one"):
        audio = PROPOSAL[name][None]
        embeddings, times = fast.get_timestamp_embeddings(audio)
        slow, same = model.get_timestamp_embeddings(audio)
        assert torch.equal(times, same) and embeddings.shape == slow.shape
        assert torch.equal(fast.get_scene_embeddings(audio), model.get_scene_embeddings(audio))


def test_fast_mode_interpolates_the_map_of_the_whole_clip(lightning):
    """Computed here from one pass over a clip that fits into one unit: columns are 16 frames apart, the first at 0."""
    fast = gise51.load_model(str(lightning), mode="fast")
    audio = PROPOSAL["five"]
    features = fast.features(audio)  # 502 frames
    with torch.inference_mode():
        columns = fast.maps(cut(features, -128, 128 + 512, "reflect")[None]).mean(2)[0].T.numpy()  # [columns, dim]
    at_frames = np.arange(0, 502, 5)
    expected = np.stack([np.interp(at_frames, 16 * np.arange(len(columns)) - 128, c) for c in columns.T], axis=1)
    embeddings, _ = fast.get_timestamp_embeddings(audio[None])
    assert relative(embeddings[0], expected) <= 1e-5


def test_units_of_fast_mode_join_without_a_seam(lightning):
    """A clip of several units against one pass over all of it: the margin hides where units meet."""
    fast = gise51.load_model(str(lightning), mode="fast")
    audio = signal(38, 22050 * 25)
    features = fast.features(audio)
    with torch.inference_mode():
        columns = fast.maps(cut(features, -128, 128 + 2512, "reflect")[None]).mean(2)[0].T.numpy()
    at_frames = np.arange(0, len(features), 5)
    expected = np.stack([np.interp(at_frames, 16 * np.arange(len(columns)) - 128, c) for c in columns.T], axis=1)
    embeddings, _ = fast.get_timestamp_embeddings(audio[None])
    assert relative(embeddings[0], expected) <= 1e-3


def test_logits_of_windows_are_the_head_of_the_timestamps(model):
    audio = PROPOSAL["one"]
    logits, times = model.logits(audio)
    embeddings, same = model.get_timestamp_embeddings(audio[None])
    assert logits.shape == (21, 51) and torch.equal(times, same[0])
    torch.testing.assert_close(logits, model.head(embeddings[0]))
    sparse, at = model.logits(audio, hop_frames=50)
    torch.testing.assert_close(sparse, logits[::10])
    assert torch.equal(at, times[::10])


def test_class_names_are_those_of_the_authors_in_their_order():
    for data_set in ("gise51", "audioset527", "vggsound309", "esc50"):
        theirs = json.loads((FOLDER / "labels" / f"{data_set}.json").read_text("utf-8"))
        assert list(gise51.class_names(data_set)) == sorted(theirs, key=theirs.__getitem__)
    assert gise51.class_names("gise51") == gise51.CLASSES and len(gise51.CLASSES) == 51


# ------------------------------------------------------------------ what the converter refuses, and what it finds out


def save(state: dict[str, object], folder: Path, name: str = "network.pth") -> Path:
    torch.save(state, folder / name)
    return folder / name


def test_a_lightning_file_that_names_another_architecture_is_refused(tmp_path):
    state = {f"net.{key}": value for key, value in recipe_state("cifar_resnet20").items()}
    said = {"cfg": {"model": {"arch": "cifar_resnet", "model_depth": 44}}}
    path = save({"state_dict": state, "hyper_parameters": said}, tmp_path)
    with pytest.raises(CheckpointError, match=r"cifar_resnet44.*trainer's configuration"):
        convert("gise51", path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_of_the_loss_in_a_lightning_file_are_not_the_networks(tmp_path):
    state = {f"net.{key}": value for key, value in recipe_state("cifar_resnet20").items()}
    path = save({"state_dict": {**state, "criterion.pos_weight": torch.ones(51)}}, tmp_path)
    assert convert("gise51", path, tmp_path / "out.safetensors").config["architecture"] == "cifar_resnet20"


@pytest.mark.parametrize(
    "classes, first", [(527, "A capella"), (309, "air conditioning noise"), (50, "dog"), (7, "class 0")]
)
def test_class_names_follow_from_their_number(tmp_path, classes, first):
    state = recipe_state("cifar_resnet20")
    state["linear.weight"], state["linear.bias"] = torch.ones(classes, 128), torch.ones(classes)
    config = convert("gise51", save(state, tmp_path), tmp_path / "out.safetensors").config
    assert len(config["classes"]) == classes and config["classes"][0] == first


@pytest.mark.parametrize("key", ["layer2.1.bn2.running_var", "linear.bias", "conv1.weight"])
def test_a_missing_tensor_is_named_as_in_the_file(tmp_path, key):
    state = recipe_state("cifar_resnet20")
    del state[key]
    with pytest.raises(
        CheckpointError, match=key.rpartition(".")[0].replace(".", r"\.") if key != "linear.bias" else "head"
    ):
        convert("gise51", save(state, tmp_path), tmp_path / "out.safetensors")


def test_a_network_of_unknown_depth_is_refused(tmp_path):
    state = {key: value for key, value in recipe_state("cifar_resnet44").items() if not key.startswith("layer3.6")}
    with pytest.raises(CheckpointError, match="no architecture"):
        convert("gise51", save(state, tmp_path), tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    "values", [{"architecture": "vgg"}, {"classes": ()}, {"hop_frames": 0}, {"window_frames": 100}]
)
def test_a_configuration_that_gives_no_network_is_refused(values):
    with pytest.raises(UsageError):
        gise51.Config(**values)


def test_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="windows, fast"):
        gise51.load_model(mode="quick")


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("network", gise51.ARCHITECTURES)
def test_every_architecture_has_its_own_random_weights(network):
    if network in ("resnet101", "resnet152", "densenet161", "densenet169", "densenet201", "cifar_resnet110"):
        gise51.Model(gise51.Config(architecture=network), seed=None)  # the same classes, only deeper
        return
    model = gise51.Model(gise51.Config(architecture=network), seed=3)
    state = model.state_dict()
    assert not any(value.is_meta or not torch.isfinite(value).all() for value in state.values())
    assert all(value.eq(1).all() for name, value in state.items() if name.endswith("running_var"))
    assert all(float(value.std()) > 0 for name, value in state.items() if name.endswith("conv1.weight"))


def test_training_uses_the_batch_and_moves_the_running_statistics(front_end):
    model = gise51.Model(gise51.Config(architecture="efficientnet-b0"), seed=0).train()
    units = torch.stack([front_end.features(signal(seed, 22050)) for seed in (8, 9)])
    before = model.body.bn_stem.running_mean.clone()
    torch.manual_seed(0)
    first = model.classify(units)
    second = model.classify(units)
    assert not torch.equal(first, second), "dropout and dropped branches"
    first.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not torch.equal(before, model.body.bn_stem.running_mean)
    model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(model.classify(units)[:1], model.classify(units[:1]), rtol=1e-4, atol=1e-5)
