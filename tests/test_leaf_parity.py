"""LEAF, SincNet and COLA's log-mel equal to the authors' code: their files → convert → load_model → embeddings, losses.

The windows of the HEAR functions are a proposal of ours: the official modules computed it window by window, so what is
compared there is self-consistency, not something that the authors published.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from flax_writer import pack, unflatten
from golden_inputs import TOLERANCE
from learnable_inputs import (
    FOLDER,
    Cola,
    audax_names,
    contrast_batch,
    frontend_names,
    golden,
    relative,
    signal,
    stack,
    unit_norm,
)
from torch import Tensor

import hear_models
from hear_models import leaf, logmel_cola, sincnet
from hear_models.checkpoints.safetensors_file import read_header
from hear_models.errors import CheckpointError, UsageError
from hear_models.frontends import Leaf, SincNet
from hear_models.pipeline.model import HearModel
from hear_models.zoo.convert import convert

FAMILIES = {"leafmini": leaf, "sincmini": sincnet}
FILES = {
    "leafmini": ("leaf", "audax_cola_leafmini"),
    "sincmini": ("sincnet", "audax_cola_sincmini"),
    "probe": ("leaf", "audax_probe_leafmini/best_ckpt_9"),
    "pytorch": ("leaf", "leafpytorch_mini"),
}
PTH = FOLDER / "leafpytorch_mini" / "ckpts" / "epoch=003_tr_loss=1.882768_tr_acc=0.500000_val_acc=0.750000.pth"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Arrays are small: threads that wait for each other on a busy machine cost minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, logmel_cola.Model]:
    """Every official file, converted as a user converts it."""
    folder = tmp_path_factory.mktemp("converted")
    loaded = {}
    for name, (family, source) in FILES.items():
        convert(family, FOLDER / source, folder / f"{name}.safetensors")
        loaded[name] = hear_models.load_model(folder / f"{name}.safetensors")
    return loaded


def embed(model: logmel_cola.Model, audio: Tensor) -> Tensor:
    """Whole clips [clips, samples], as they are → [clips, width]."""
    with torch.no_grad():
        return model.encode(model.window_features(audio))[:, 0]


# ------------------------------------------------------------------ converted files


def test_sizes_follow_from_the_tensors(models):
    found = {name: model.config for name, model in models.items()}
    assert (found["leafmini"].n_filters, found["sincmini"].n_filters, found["pytorch"].n_filters) == (16, 12, 16)
    assert [config.depth_factor for config in found.values()] == [0.25] * 4
    assert [found[name].width_factor for name in FILES] == [0.125, 0.0625, 0.125, 0.125]
    assert [(c.projection, c.classes) for c in found.values()] == [(32, 0), (24, 0), (0, 5), (0, 6)]
    assert [c.level for c in found.values()] == ["window", "window", "window", "peak"]
    assert found["pytorch"].flavour == "leaf-pytorch" and found["pytorch"].window_samples == 16_000
    assert [found[name].drop for name in ("leafmini", "sincmini")] == [0.0, 0.0]  # by its config.json


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_and_logits_of_the_authors_checkpoint_match(models, name):
    file, model, close = golden(f"cola_{name}"), models[name], TOLERANCE["learnable, mini, relative"]
    batch = contrast_batch(200, 6400, noise=300)
    with torch.no_grad():
        features = model.frontend(batch)
        contrasted = FAMILIES[name].contrast(model, batch[:4], batch[4:])
    assert relative(features[:2], file["ckpt_eval/frontend"]) <= close
    assert relative(model.encode(features)[:, 0], file["ckpt_eval/encoder"]) <= close
    assert relative(contrasted.logits, file["ckpt_eval_logits"]) <= close
    for n, what in ((700, "short"), (15_360, "one"), (9001, "odd")):
        pair = stack(unit_norm(signal(400, n)), unit_norm(signal(401, n)))
        assert relative(embed(model, pair), file[f"ckpt_{what}_{n}_encoder"]) <= close, n
    assert relative(embed(model, torch.zeros(1, 15_360)), file["ckpt_silence_15360_encoder"]) <= close


def test_a_probe_keeps_its_classifier(models):
    batch = contrast_batch(200, 6400, noise=300)
    logits = models["probe"].head(embed(models["probe"], batch))
    assert relative(logits, golden("probe_leafmini")["logits"]) <= TOLERANCE["learnable, mini, relative"]
    with pytest.raises(UsageError, match="classifier instead of COLA's head"):
        leaf.contrast(models["probe"], batch[:4], batch[4:])


def test_embeddings_and_logits_of_leaf_pytorch_match(models):
    file, model, close = golden("leafpytorch_mini"), models["pytorch"], TOLERANCE["learnable, mini, relative"]
    batch = stack(*(signal(200 + i, 6400) for i in range(4)))
    with torch.no_grad():
        assert relative(model.frontend(batch)[:2].transpose(1, 2), file["ckpt_features"]) <= close
    assert relative(model.head(embed(model, batch)), file["ckpt_logits"]) <= close
    for n in (700, 9001):
        pair = stack(signal(400, n), signal(401, n))
        assert relative(embed(model, pair), file[f"ckpt_pooled_{n}"]) <= close, n


# ------------------------------------------------------------------ training


def rule_model(name: str) -> logmel_cola.Model:
    """A model with the weights that follow from their official names."""
    front_end, family, n_filters, dim, width = {
        "leafmini": (Leaf, leaf, 16, 32, 0.125),
        "sincmini": (SincNet, sincnet, 12, 24, 0.0625),
    }[name]
    weights = Cola(front_end(n_filters), f"0/{name}/", dim, width_factor=width, depth_factor=0.25, drop=0.0)
    config = family.Config(n_filters=n_filters, width_factor=width, depth_factor=0.25, projection=dim, drop=0.0)
    model = family.Model(config)
    model.load_state_dict(weights.state_dict())
    model.official = weights.official_names()
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_contrast_matches_in_evaluation_and_in_a_training_step(name):
    file, model, contrast = golden(f"cola_{name}"), rule_model(name), FAMILIES[name].contrast
    batch = contrast_batch(200, 6400, noise=300)
    with torch.no_grad():
        logits = contrast(model.eval(), batch[:4], batch[4:]).logits
    assert relative(logits, file["eval_logits"]) <= TOLERANCE["learnable, mini, relative"]

    done = contrast(model.train(), batch[:4], batch[4:])
    done.loss.backward()
    step, close = TOLERANCE["learnable, mini step, relative"], TOLERANCE["learnable, mini gradient, relative"]
    assert relative(done.logits, file["train_logits"]) <= step
    assert float(done.loss.detach()) == pytest.approx(float(file["train_loss"]), rel=step)
    gradients = {model.official[ours]: parameter.grad for ours, parameter in model.named_parameters()}
    for key in (key for key in file if key.startswith("grad/")):
        ours = gradients[key.removeprefix("grad/")]
        assert relative(ours.reshape(file[key].shape), file[key]) <= close, key
    for key, norm in zip(map(str, file["grad_keys"]), file["grad_norms"], strict=True):
        if not (key.endswith("bias") and norm < 1e-4):  # before another normalisation a bias has no gradient
            assert float(gradients[key].double().norm()) == pytest.approx(float(norm), rel=close), key
    state = {model.official[ours]: value for ours, value in model.state_dict().items()}
    updated = [key for key in file if key.startswith("bs1/")]
    assert updated
    for key in updated:
        assert relative(state[key.removeprefix("bs1/")], file[key]) <= step, key


@pytest.mark.parametrize("name", FAMILIES)
def test_four_updates_of_adamw_end_where_the_authors_do(name):
    file, model = golden(f"cola_{name}"), rule_model(name).train()
    batch = contrast_batch(200, 6400, noise=300)
    adam = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses, close = [], TOLERANCE["learnable, trajectory, relative"]
    for step in range(4):
        loss = model.contrast(batch[:4], batch[4:]).loss
        adam.zero_grad()
        loss.backward()
        adam.param_groups[0]["lr"] = float(file["lr_schedule_steps0_7"][step])
        adam.step()
        losses.append(float(loss.detach()))
    assert relative(np.array(losses), file["traj_losses"]) <= close
    state = {model.official[ours]: value for ours, value in model.state_dict().items()}
    for key in (key for key in file if key.startswith("traj_final/")):
        assert relative(state[key.removeprefix("traj_final/")].reshape(file[key].shape), file[key]) <= close, key


def test_contrast_is_of_raw_segments_and_hides_positives_only():
    """No level, noise or masks of its own: the same numbers as front end, encoder and head by hand."""
    for family in (leaf, sincnet, logmel_cola):
        config = family.Config(n_filters=16, width_factor=0.125, depth_factor=0.25, projection=16)
        model = family.Model(config).eval()
        rng = torch.Generator().manual_seed(1)
        anchors, positives = 0.3 * torch.randn(2, 3, 4800, generator=rng)
        with torch.no_grad():
            by_hand = model.head(embed(model, anchors), embed(model, positives))
            assert relative(family.contrast(model, anchors, positives).logits, by_hand.numpy()) <= 1e-5
            hidden = model.contrast(anchors, positives, lambda features: features.flip(2)).logits
            features = model.window_features(positives).flip(2)
            by_hand = model.head(embed(model, anchors), model.encode(features)[:, 0])
        assert relative(hidden, by_hand.numpy()) <= 1e-5


# ------------------------------------------------------------------ the HEAR proposal

CLIPS = {
    "short_5000": signal(600, 5000),
    "one_15360": signal(600, 15_360),
    "long_33333": signal(600, 33_333),
    "loud_16000": signal(600, 16_000, "loud"),
    "silence_9000": signal(600, 9000, "silence"),
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", FAMILIES)
def test_scenes_and_timestamps_are_those_of_the_proposal(models, name, clip):
    file, audio, close = golden("hear_proposal"), stack(CLIPS[clip]), TOLERANCE["learnable, proposal, relative"]
    embeddings, times = models[name].get_timestamp_embeddings(audio)
    assert embeddings.shape[1] == int(file[f"{name}_{clip}_n_timestamps"])
    assert times[0].tolist() == [50.0 * k for k in range(embeddings.shape[1])]
    assert relative(embeddings[0, file[f"{name}_{clip}_sel"]], file[f"{name}_{clip}_emb"]) <= close
    assert relative(models[name].get_scene_embeddings(audio)[0], file[f"{name}_{clip}_mean"]) <= close


def literal(model: logmel_cola.Model, clip: Tensor) -> Tensor:
    """Features of every window alone, [windows, frames, filters]: the flow without what the family overrides."""
    plan = model.plan(len(clip), "timestamps")
    with torch.no_grad():
        return model.window_features(torch.stack(list(HearModel.units(model, clip, plan))))


def shared(model: logmel_cola.Model, clip: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.stack(list(model.units(clip, model.plan(len(clip), "timestamps"))))


@pytest.mark.parametrize("level", logmel_cola.LEVELS)
@pytest.mark.parametrize("kind", ["leaf", "leaf-pytorch", "sincnet", "logmel_cola"])
def test_shared_frames_are_those_of_each_window_alone(kind, level):
    """The clip has a loud part, a quiet one, digital silence, and fades; 1.6 s and 30 windows and more."""
    sizes = {"n_filters": 16, "width_factor": 0.125, "depth_factor": 0.25, "level": level}
    if kind == "leaf-pytorch":
        model = leaf.Model(leaf.Config(flavour="leaf-pytorch", window_samples=16_000, **sizes))
    else:
        family = {"leaf": leaf, "sincnet": sincnet, "logmel_cola": logmel_cola}[kind]
        model = family.Model(family.Config(**sizes))
    for clip in (signal(7, 1), signal(7, 161), signal(7, 26_001), torch_clip_of_all_levels()):
        clip = torch.as_tensor(clip)
        ours, theirs = shared(model, clip), literal(model, clip)
        limit = 2e-3 if kind == "sincnet" else 2e-4  # its layer normalisation raises rounding of quiet frames, in both
        assert relative(ours, theirs.numpy()) <= limit
        if kind != "sincnet":
            same = (ours - theirs).abs().amax((1, 2)) <= 2e-5 * theirs.abs().max()
            assert float(same.float().mean()) > 0.9


def torch_clip_of_all_levels() -> Tensor:
    clip = 2 * torch.from_numpy(signal(8, 70_000))
    clip[20_000:40_000] *= 1e-4
    clip[45_000:66_000] = 0.0
    return clip


def test_a_window_beside_a_bang_hears_silence_and_not_its_rounding(models):
    """Filtering in blocks spreads rounding around loud samples; divided by a quiet window's level it would be loud."""
    clip = torch.zeros(60_000)
    clip[30_000:30_040] = 1.0
    alone = torch.zeros(22_000)  # ends before the bang comes within half a window of its last timestamps
    for name in FAMILIES:
        steps, _ = models[name].get_timestamp_embeddings(clip[None])
        silent, _ = models[name].get_timestamp_embeddings(alone[None])
        assert relative(steps[0, :28], silent[0].numpy()) <= 1e-5


def test_gradients_reach_the_front_end_through_shared_windows(models):
    audio = stack(signal(9, 18_000))
    for name in ("leafmini", "sincmini"):
        model = models[name]
        model.zero_grad()
        model(audio).sum().backward()
        ours = model.frontend.filters.grad.clone()
        model.zero_grad()
        features = model.window_features(
            torch.stack(list(HearModel.units(model, audio[0], model.plan(18_000, "scene"))))
        )
        model.encode(features).mean(0).sum().backward()
        assert relative(ours, model.frontend.filters.grad.numpy()) <= 1e-3
        model.zero_grad()


def test_the_front_end_stays_float32_in_bfloat16(models):
    model = leaf.Model(models["leafmini"].config)
    model.load_state_dict(models["leafmini"].state_dict())
    audio = stack(CLIPS["one_15360"])
    exact = model.get_scene_embeddings(audio)
    model.use_dtype(torch.bfloat16)
    assert model.frontend.filters.dtype == torch.float32 and model.encoder.conv_stem.weight.dtype == torch.bfloat16
    rough = model.get_scene_embeddings(audio)
    assert rough.dtype == torch.float32 and float(torch.cosine_similarity(exact, rough)) > 0.999
    assert torch.isfinite(leaf.contrast(model, audio.expand(2, -1), audio.expand(2, -1)).loss)


def test_the_level_of_a_clip_does_not_matter_where_windows_are_normalised(models):
    audio = stack(CLIPS["long_33333"])
    for name in FAMILIES:
        scene = models[name].get_scene_embeddings(audio)
        assert relative(models[name].get_scene_embeddings(0.001 * audio), scene.numpy()) <= 1e-3
    model = models["pytorch"]
    loud = model.get_scene_embeddings(4 * audio / audio.abs().max())
    assert relative(model.get_scene_embeddings(9 * audio / audio.abs().max()), loud.numpy()) <= 1e-4
    assert relative(model.get_scene_embeddings(0.1 * audio), loud.numpy()) > 3e-4


# ------------------------------------------------------------------ what files do not say, and bad files


def test_levels_follow_from_config_json_or_from_what_was_trained(tmp_path):
    shutil.copy(FOLDER / "audax_cola_leafmini" / "checkpoint_4", tmp_path / "checkpoint_4")
    assert convert("leaf", tmp_path, tmp_path / "a.safetensors").config["level"] == "window"
    settings = json.loads((FOLDER / "audax_cola_leafmini" / "config.json").read_text())
    settings["audio_config"]["normalize_waveform"] = False
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert convert("leaf", tmp_path, tmp_path / "b.safetensors").config["level"] == "none"
    done = convert("leaf", tmp_path, tmp_path / "c.safetensors", overrides={"level": "peak", "drop": 0.0})
    assert done.config["level"] == "peak"
    settings["model"]["frontend_args"]["n_filters"] = 64
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="n_filters is 16 by the tensors' shapes, but 64"):
        convert("leaf", tmp_path, tmp_path / "d.safetensors")


def test_a_file_of_another_front_end_is_named(tmp_path):
    for family, source, right in (
        ("leaf", "audax_cola_sincmini", "sincnet"),
        ("logmel_cola", "audax_cola_leafmini", "leaf"),
    ):
        with pytest.raises(CheckpointError, match=f"is a checkpoint of {right}"):
            convert(family, FOLDER / source, tmp_path / "out.safetensors")


def test_the_parameters_beside_a_pth_are_not_needed_and_not_opened(tmp_path):
    """hparams.pickle lies beside the folder of checkpoints; one that is no pickle at all changes nothing."""
    (tmp_path / "ckpts").mkdir()
    shutil.copy(PTH, tmp_path / "ckpts" / PTH.name)
    (tmp_path / "hparams.pickle").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    convert("leaf", tmp_path, tmp_path / "folder.safetensors")
    convert("leaf", PTH, tmp_path / "file.safetensors")
    ours, theirs = (hear_models.load_model(tmp_path / f"{name}.safetensors") for name in ("folder", "file"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert read_header(tmp_path / "file.safetensors").source["epoch"] == 3


def test_a_log_mel_file_of_cola_is_one_without_a_front_end(tmp_path):
    config = logmel_cola.Config(width_factor=0.125, depth_factor=0.25, projection=16)
    model = logmel_cola.Model(config)
    names = {f"encoder.{ours}": f"encoder/{theirs}" for ours, theirs in audax_names(model.encoder).items()}
    names |= {"head.projection.weight": "embedding_fc/kernel", "head.norm.weight": "bilinear_layernorm/scale"}
    names |= {"head.norm.bias": "bilinear_layernorm/bias"}
    names |= {"head.bilinear": "similarity_layer/bilinear_product_weight"}
    leaves = {}
    for ours, theirs in names.items():
        value = model.state_dict()[ours].numpy()
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        value = value.T if ours == "head.projection.weight" else value
        collection = "batch_stats" if theirs.endswith(("/mean", "/var")) else "params"
        leaves[f"{collection}/{theirs}"] = np.ascontiguousarray(value)
    path = tmp_path / "checkpoint_1"
    path.write_bytes(pack(unflatten(leaves) | {"frozen_params": {}}))
    done = convert("logmel_cola", path, tmp_path / "out.safetensors")
    assert done.config["level"] == "window" and done.config["width_factor"] == 0.125
    again = logmel_cola.load_model(str(tmp_path / "out.safetensors"))
    audio = stack(CLIPS["short_5000"])
    assert torch.equal(again.get_scene_embeddings(audio), model.get_scene_embeddings(audio))


def test_the_log_mel_family_standardises_each_window(models):
    """Its features are the front end's golden ones after (x - mean) / (std + 1e-7); silence becomes zeros."""
    model = logmel_cola.Model(logmel_cola.Config(width_factor=0.125, depth_factor=0.25))
    features = model.window_features(stack(unit_norm(signal(100, 4801)), unit_norm(signal(101, 4801))))
    theirs = golden("logmel_audax")["norm_4801"][..., 0]
    assert relative(features, theirs) <= TOLERANCE["learnable, log-mel, relative"]
    assert not model.window_features(torch.zeros(1, 15_360)).any()


def test_random_networks_follow_their_seed_and_learned_false_freezes_the_front_end():
    config = leaf.Config(n_filters=8, width_factor=0.125, depth_factor=0.25, init="uniform", learned=False)
    one, same, other = leaf.Model(config, seed=1), leaf.Model(config, seed=1), leaf.Model(config, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.frontend.filters, other.frontend.filters)
    assert not any(parameter.requires_grad for parameter in one.frontend.parameters())
    assert all(parameter.requires_grad for parameter in one.encoder.parameters())
    assert set(frontend_names(one.frontend)) == {name for name, _ in one.frontend.named_parameters()}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"classes": 5}, "Set one of the two"),
        ({"projection": 0}, "Set one of the two"),
        ({"level": "loud"}, "level is 'loud'"),
        ({"width_factor": 0.0}, "above 0"),
        ({"drop": 1.0}, "drop is 1.0"),
        ({"flavour": "tf"}, "flavour is 'tf'"),
        ({"init": "cosine"}, "init is 'cosine'"),
        ({"hop_samples": 801}, "not multiples of 160"),
    ],
)
def test_a_wrong_configuration_is_told_in_a_sentence(values, said):
    with pytest.raises(UsageError, match=said):
        leaf.Model(leaf.Config(**values), seed=None)
