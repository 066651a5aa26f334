"""A reconstruction agrees with itself: state dict → convert → load_model(path) → numbers of an independent reference.

No official code and no weights of ft-CBAM exist; nothing here is parity with the authors.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from golden_inputs import GOLDEN, TOLERANCE, largest_difference
from safetensors.numpy import load, load_file
from torch import Tensor

from hear_models import ftcbam
from hear_models.errors import CheckpointError, UsageError
from hear_models.frontends import Spectrogram
from hear_models.speaker.losses import class_loss
from hear_models.zoo import list_models
from hear_models.zoo.convert import convert

FOLDER = GOLDEN / "ftcbam"
NETWORKS = json.loads((FOLDER / "mini_networks.json").read_text("utf-8"))
MINI = np.load(FOLDER / "mini_networks_io.npz")
FULL = np.load(FOLDER / "full_recipe.npz")
FRONT_END = np.load(FOLDER / "front_end.npz")
PATH = np.load(FOLDER / "hear_path.npz")
SMALL = {"widths": (4, 6), "depths": (1, 1), "reduction": 2, "local_dim": 5, "embed_dim": 7}


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return load(lzma.decompress((FOLDER / "mini_networks.safetensors.xz").read_bytes()))


def converted(state: dict, config: dict, folder: Path, **options) -> ftcbam.Model:
    """A bare state dict and its settings as JSON, converted as a user converts it."""
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
    torch.save(tensors, folder / "state.pth")
    (folder / "config.json").write_text(json.dumps(config))
    output = folder / "converted.safetensors"
    convert("ftcbam", folder / "state.pth", output, config=folder / "config.json", force=True, **options)
    return ftcbam.load_model(str(output))


def frames(images: np.ndarray) -> Tensor:
    """[units, 1, bins, frames] → [units, frames, bins]."""
    return torch.from_numpy(images)[:, 0].transpose(1, 2).contiguous()


def mini(name: str, weights: dict[str, np.ndarray], folder: Path) -> ftcbam.Model:
    state = {key.partition("/")[2]: value for key, value in weights.items() if key.partition("/")[0] == name}
    return converted(state, NETWORKS[name], folder)


# ------------------------------------------------------------------ the networks


@pytest.mark.parametrize("name", NETWORKS)
def test_every_mini_network_matches_through_a_converted_file(name, weights, tmp_path):
    model, units = mini(name, weights, tmp_path), frames(MINI[f"{name}/x"])
    body = model.body
    with torch.no_grad():
        steps = model.encode(units)
        assert tuple(steps.shape) == (2, 1, 16) and steps.dtype == torch.float32
        x = body.stem(units.transpose(1, 2)[:, None])
        found = {"stem": x}
        for stage, blocks in enumerate(body.layers):
            found[f"stage{stage}"] = x = blocks(x)
        found |= {"pooled": body.head.pooled(x), "embedding": steps[:, 0]}
        if f"{name}/local" in MINI:
            found["local"] = body.head.local(x)
        found["embedding_bn_train"] = model.train().encode(units)[:, 0]
    compared = {key for key in found if f"{name}/{key}" in MINI}
    assert compared >= {"stage3", "pooled", "embedding", "embedding_bn_train"}
    for key in compared:
        assert largest_difference(found[key], MINI[f"{name}/{key}"]) <= TOLERANCE["ft-CBAM"], key


def recipe_state(model: ftcbam.Model) -> dict[str, Tensor]:
    """Weights by the rule in the golden README."""
    state = {}
    for name, tensor in model.body.state_dict().items():
        shape = tuple(tensor.shape)
        t = np.random.Generator(np.random.PCG64(crc32(name.encode()))).standard_normal(shape, dtype=np.float32)
        if t.ndim > 1:
            t = t / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("running_var"):
            t = 1 + 0.1 * np.abs(t)
        else:
            t = 1 + 0.1 * t if name.endswith("weight") else 0.02 * t
        state[f"body.{name}"] = torch.from_numpy(t.astype(np.float32))
    return state


@pytest.mark.parametrize("name", ["resnet34_ft_tap", "resnet50_ft_gvlad"])
def test_full_sizes_match(name):
    registered = {"resnet34_ft_tap": "ftcbam-resnet34-ft", "resnet50_ft_gvlad": "ftcbam-resnet50-ft-gvlad"}[name]
    manifest = next(entry.manifest for entry in list_models() if entry.name == registered)
    model = ftcbam.Model(ftcbam.Config(**manifest.configuration), seed=None).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == FULL[f"{name}/param_count"]
    model.load_state_dict(recipe_state(model), assign=True)
    image = np.random.Generator(np.random.PCG64(77)).standard_normal((1, 1, 257, 90)).astype(np.float32)
    with torch.inference_mode():
        last = model.maps(frames(image))
        embedding = model.encode(frames(image))[0].numpy()
    assert tuple(last.shape) == tuple(FULL[f"{name}/shape_stage3"])
    assert float(last.abs().mean()) == pytest.approx(float(FULL[f"{name}/stage3_mean_abs"]), rel=1e-5)
    theirs = FULL[f"{name}/embedding"]
    allowed = TOLERANCE["ft-CBAM, full size, relative"]
    assert largest_difference(embedding, theirs) <= allowed * np.abs(theirs).max()


def test_three_steps_of_training_in_float64_match(tmp_path):
    about = json.loads((FOLDER / "train_traj.json").read_text("utf-8"))
    golden, allowed = np.load(FOLDER / "train_traj.npz"), TOLERANCE["ft-CBAM, float64 training, relative"]
    state = load_file(FOLDER / "train_init.safetensors")
    model = converted(state, about, tmp_path).double().train()
    weight = torch.nn.Parameter(torch.from_numpy(state["classifier.weight"]).double())
    named = {**dict(model.body.named_parameters()), "classifier.weight": weight}
    sgd = torch.optim.SGD(
        named.values(), lr=about["lr"], momentum=about["momentum"], weight_decay=about["weight_decay"]
    )
    units, labels = frames(golden["x"]).double(), torch.from_numpy(golden["y"])
    for step in range(3):
        loss = class_loss(model.voices(units), weight, labels, about["loss"], about["scale"], about["margin"])
        sgd.zero_grad()
        loss.backward()
        assert loss.item() == pytest.approx(float(golden[f"step{step}/loss"]), rel=allowed)
        if step == 0:
            for name, parameter in named.items():
                norm = float(golden[f"grad_norm0/{name}"])
                assert float(parameter.grad.norm()) == pytest.approx(norm, rel=allowed, abs=1e-12), name
        sgd.step()
    after = {name.partition("/")[2]: golden[name] for name in golden.files if name.startswith("after3/")}
    for name, theirs in after.items():
        np.testing.assert_allclose(named[name].detach().numpy(), theirs, rtol=allowed, atol=allowed)


# ------------------------------------------------------------------ the front end

SIGNALS = {
    "short_399": FRONT_END["wave"][:399],
    "exact_400": FRONT_END["wave"][:400],
    "odd_5001": FRONT_END["wave"][:5001],
    "long_8000": FRONT_END["wave"],
    "silence": np.zeros(4000, np.float32),
    "clipped": FRONT_END["clipped_wave"],
}
CASES = [key for key in FRONT_END.files if "/" in key and not key.endswith("/shape")]


@pytest.mark.parametrize("case", CASES)
def test_features_match(case):
    signal, _, kind = case.partition("/")
    window, place, spec, norm = kind.split("_")
    config = ftcbam.Config(**SMALL, window=window, center=place == "center", spec=spec, norm=norm)
    features = ftcbam.Model(config, seed=None).features(torch.from_numpy(SIGNALS[signal])).T
    assert tuple(features.shape) == tuple(FRONT_END[f"{case}/shape"])
    theirs = FRONT_END[case]
    ours = features[:: 4 if signal in ("odd_5001", "long_8000") else 8].numpy()
    scale = 1 + np.abs(theirs) if spec == "power" else 1.0
    assert largest_difference(ours / scale, theirs / scale) <= TOLERANCE["ft-CBAM, front end"]


def test_the_front_end_takes_several_clips_and_says_how_many_frames_it_gives():
    for center in (False, True):
        frontend = Spectrogram(center=center, spec="log")
        clips = torch.from_numpy(np.stack([SIGNALS["odd_5001"], np.zeros(5001, np.float32)]))
        both = frontend(clips)
        assert tuple(both.shape) == (2, frontend.n_frames(5001), frontend.n_bins)
        assert torch.equal(both[0], frontend(clips[0])) and both[1].eq(frontend.silence).all()
        assert frontend(clips[0, :100]).shape[0] == frontend.n_frames(100)
    with pytest.raises(UsageError, match="hamming or hann"):
        Spectrogram("blackman")


# ------------------------------------------------------------------ from a clip to embeddings

WAVE = PATH["wave"]
CLIPS = {
    "odd": WAVE,
    "one_second": WAVE[:16000],
    "short_4800": WAVE[:4800],
    "one_sample": WAVE[100:101],
    "silence_20000": np.zeros(20000, np.float32),
    "clipped_12000": np.clip(40 * WAVE[:12000], -1, 1).astype(np.float32),
}


def hear_path(folder: Path, **overrides) -> ftcbam.Model:
    config = json.loads((FOLDER / "hear_path.json").read_text("utf-8"))
    return converted(load_file(FOLDER / "hear_path.safetensors"), config, folder, overrides=overrides)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> ftcbam.Model:
    return hear_path(tmp_path_factory.mktemp("hear"))


@pytest.mark.parametrize("name", CLIPS)
def test_scenes_and_timestamps_match(model, name):
    audio = torch.from_numpy(CLIPS[name])[None]
    scene = ftcbam.get_scene_embeddings(audio, model)[0]
    embeddings, times = ftcbam.get_timestamp_embeddings(audio, model)
    assert largest_difference(scene, PATH[f"{name}/scene"]) <= TOLERANCE["ft-CBAM"]
    assert largest_difference(times[0], PATH[f"{name}/timestamps"]) <= TOLERANCE["milliseconds"]
    some = embeddings[0, PATH[f"{name}/index"]]
    assert largest_difference(some, PATH[f"{name}/embeddings_at_index"]) <= TOLERANCE["ft-CBAM"]


def test_a_long_scene_is_the_mean_of_equal_pieces(tmp_path):
    scene = hear_path(tmp_path, chunk_samples=12000).get_scene_embeddings(torch.from_numpy(WAVE)[None])[0]
    assert largest_difference(scene, PATH["odd/scene_max_chunk_12000"]) <= TOLERANCE["ft-CBAM"]


def test_map_mode_gives_a_step_for_each_column_whose_mean_is_the_scene(model, tmp_path):
    """With the "tap" head: its last layer is linear, so the mean of the columns is the embedding of the whole."""
    cheap = ftcbam.load_model(str(Path(model.checkpoint.path)), timestamp_mode="map")
    audio = torch.from_numpy(WAVE)[None]
    torch.testing.assert_close(cheap.get_scene_embeddings(audio), model.get_scene_embeddings(audio))
    embeddings, times = cheap.get_timestamp_embeddings(audio)
    n_frames = 1 + (len(WAVE) - 400) // 160
    assert embeddings.shape[1] == (n_frames - 1) // 32 + 1 == 8
    np.testing.assert_allclose(times[0], 12.5 + 320.0 * np.arange(8), rtol=0, atol=1e-3)
    torch.testing.assert_close(embeddings[0].mean(0), model.get_scene_embeddings(audio)[0], rtol=1e-4, atol=1e-5)
    assert (cheap.get_timestamp_embeddings(audio[:, :3])[1] <= 3 / 16).all()


def test_map_mode_sees_long_clips_in_units_with_margins(tmp_path):
    cheap = ftcbam.Model(ftcbam.Config(**SMALL), timestamp_mode="map").eval()  # 8 frames a column
    clip = torch.from_numpy(np.random.default_rng(0).standard_normal(16_000 * 25).astype(np.float32) * 0.1)
    embeddings, times = cheap.embed_clips([clip], "timestamps")[0]
    units = cheap.plan(len(clip), "timestamps").units
    assert len(units) == 3 and [unit.steps for unit in units] == [128, 128, 57] and times[-1] <= 25_000
    with torch.inference_mode():
        whole = cheap.encode(cheap.features(clip)[None])[0, 1:]
    assert whole.shape == embeddings.shape
    torch.testing.assert_close(embeddings[:100], whole[:100], rtol=0.2, atol=0.05)


def test_a_window_may_be_followed_by_its_reversal():
    plain, extended = (ftcbam.Model(ftcbam.Config(**SMALL, eval_extend=how)) for how in ("none", "reverse"))
    audio = torch.from_numpy(WAVE)[None, :20000]
    both = torch.cat([audio, audio.flip(1)], dim=1)
    torch.testing.assert_close(extended.get_scene_embeddings(audio), plain.get_scene_embeddings(both))
    with pytest.raises(UsageError, match="no windows to extend"):
        ftcbam.Model(ftcbam.Config(**SMALL, eval_extend="reverse"), timestamp_mode="map")


def test_a_network_for_other_bins_encodes_spectrograms_only():
    other = ftcbam.Model(ftcbam.Config(**SMALL, n_freq=65))
    assert tuple(other.encode(torch.zeros(2, 40, 65)).shape) == (2, 1, 7)
    with pytest.raises(UsageError, match="takes 65 bins"):
        other.get_scene_embeddings(torch.zeros(1, 16000))


# ------------------------------------------------------------------ converting


def test_what_the_file_does_not_say_must_be_said(weights, tmp_path):
    state = {key.partition("/")[2]: value for key, value in weights.items() if key.startswith("ft/")}
    for name in ("n_freq", "stem_stride", "stem_pool", "reduction", "ft_merge"):
        without = {key: value for key, value in NETWORKS["ft"].items() if key != name}
        with pytest.raises(CheckpointError, match=f"does not say {name}"):
            converted(state, without, tmp_path)
    short = {key: NETWORKS["ft"][key] for key in ("n_freq", "stem_stride", "stem_pool", "reduction", "ft_merge")}
    found = converted(state, short, tmp_path).config
    assert (found.block, found.widths, found.depths) == ("basic", (8, 12, 16, 20), (1, 2, 1, 1))
    assert (found.attention, found.kernel, found.gate_bn, found.head) == ("ft", 7, True, "tap")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_configuration_of_every_mini_network_is_found(name, weights, tmp_path):
    config, asked = mini(name, weights, tmp_path).config, NETWORKS[name]
    for key, value in asked.items():
        if key in ("clusters", "ghosts") and asked["head"] != "gvlad":
            continue
        found = getattr(config, "attention" if key == "att" else key)
        assert (list(found) if isinstance(found, tuple) else found) == value, key


def test_a_setting_against_the_tensors_is_refused(weights, tmp_path):
    state = {key.partition("/")[2]: value for key, value in weights.items() if key.startswith("ft/")}
    for key, value in (("att", "f"), ("gate_bn", False), ("embed_dim", 99), ("head", "gap"), ("depths", [1, 1, 1, 1])):
        with pytest.raises(CheckpointError, match="by the tensors' shapes"):
            converted(state, {**NETWORKS["ft"], key: value}, tmp_path)
    del state["layers.1.1.att.time.bn.bias"]
    with pytest.raises(CheckpointError, match=r"missing.*layers\.1\.1\.att\.time\.bn\.bias"):
        converted(state, NETWORKS["ft"], tmp_path)


def test_counters_and_the_classifier_are_passed_over(weights, tmp_path):
    state = {key.partition("/")[2]: value for key, value in weights.items() if key.startswith("ft_gap/")}
    state |= {"stem.bn.num_batches_tracked": np.array(3), "classifier.weight": np.ones((4, 16), np.float32)}
    found = converted(state, NETWORKS["ft_gap"], tmp_path)
    assert not any("classifier" in name for name in found.state_dict())


VARIANTS = [
    {},
    {"head": "stats"},
    {"head": "attentive"},
    {"head": "gvlad", "clusters": 3, "ghosts": 1},
    {"head": "gap", "block": "bottleneck"},
    {"attention": "s", "channel_bias": False},
    {"attention": "f", "placement": "last_block", "depths": (2, 1)},
    {"attention": "t", "channel_attention": False, "gate_bn": False, "kernel": 5},
    {"attention": "c", "gate_bn_init_zero": True},
    {"attention": "none", "stem_stride": 1, "stem_pool": False},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_form_has_random_weights_and_comes_back_from_a_bare_state_dict(changes, tmp_path):
    config = ftcbam.Config(**{**SMALL, **changes})
    before = torch.get_rng_state()
    model = ftcbam.Model(config, seed=3).eval()
    assert torch.equal(before, torch.get_rng_state())
    assert not any(value.is_meta or not torch.isfinite(value).all() for value in model.state_dict().values())
    audio = torch.from_numpy(WAVE)[None, :20000]
    scene = model.get_scene_embeddings(audio)
    assert torch.isfinite(scene).all() and float(scene.std()) > 0
    said = {name: getattr(config, name) for name in (*ftcbam.UNSEEN, "gate_bn_init_zero")}
    again = converted(model.body.state_dict(), said, tmp_path)
    for name in ("attention", "head", "block", "channel_attention", "channel_bias", "placement", "kernel", "gate_bn"):
        if name not in changes and name in ("channel_bias", "placement", "kernel", "gate_bn"):
            continue
        assert getattr(again.config, name) == getattr(config, name), name
    torch.testing.assert_close(again.get_scene_embeddings(audio), scene, rtol=0, atol=0)


@pytest.mark.parametrize(
    "values",
    [
        {"block": "wide"},
        {"attention": "tf"},
        {"ft_merge": "max"},
        {"head": "mean"},
        {"window": "flat"},
        {"norm": "clip"},
        {"widths": (4, 4, 4)},
        {"depths": (1, 0)},
        {"widths": (), "depths": ()},
        {"kernel": 6},
        {"ghosts": -1},
        {"chunk_samples": 0},
        {"timestamp_mode": "fast"},
    ],
)
def test_a_configuration_that_gives_no_network_is_refused(values):
    with pytest.raises(UsageError):
        ftcbam.Config(**{**SMALL, **values})


def test_an_unknown_mode_is_refused():
    with pytest.raises(UsageError, match="windows, map"):
        ftcbam.load_model(timestamp_mode="quick")


def test_bfloat16_is_near():
    exact, rough = ftcbam.Model(ftcbam.Config(**SMALL)).eval(), ftcbam.Model(ftcbam.Config(**SMALL)).eval()
    rough.use_dtype(torch.bfloat16)
    audio = torch.from_numpy(WAVE)[None]
    torch.testing.assert_close(
        rough.get_scene_embeddings(audio), exact.get_scene_embeddings(audio), rtol=0.1, atol=0.05
    )
