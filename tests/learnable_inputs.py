"""The inputs of tests/golden/learnable_frontends, regenerated as its README says: clips, and weights from names."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from golden_inputs import GOLDEN
from torch import Tensor, nn

from hear_models.frontends import Leaf, SincNet
from hear_models.layers.contrastive import BilinearHead
from hear_models.layers.efficientnet import AUDAX, LEAF_PYTORCH, EfficientNet

FOLDER = GOLDEN / "learnable_frontends"


@cache
def golden(name: str) -> Mapping[str, np.ndarray]:
    """All arrays of a file, in memory."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def signal(seed: int, n: int, kind: str = "mix") -> np.ndarray:
    """Tone, sweep and noise at 16 kHz; or "silence", "loud", "quiet"; float32 [n]."""
    rng = np.random.Generator(np.random.PCG64(seed))
    f0, f1, k = rng.uniform(100, 3000), rng.uniform(50, 500), rng.uniform(500, 6000)
    noise, t = rng.standard_normal(n), np.arange(n) / 16000
    tone = 0.4 * np.sin(2 * np.pi * f0 * t)
    x = {
        "mix": tone + 0.3 * np.sin(2 * np.pi * (f1 * t + 0.5 * k * t**2)) + 0.1 * noise,
        "silence": np.zeros(n),
        "loud": np.clip(1.5 * noise, -1, 1),
        "quiet": 0.001 * (tone + 0.1 * noise),
    }[kind]
    return x.astype(np.float32)


def unit_norm(x: np.ndarray) -> np.ndarray:
    """Each clip of [..., samples] / its root of the sum of squares."""
    squares = np.maximum((x.astype(np.float64) ** 2).sum(-1, keepdims=True), 1e-9)
    return (x / np.sqrt(squares)).astype(np.float32)


def stack(*clips: np.ndarray) -> Tensor:
    """Clips of equal length → [clips, samples]."""
    return torch.from_numpy(np.stack(clips))


def contrast_batch(first: int, n: int, noise: int | None = None) -> Tensor:
    """4 anchors and 4 positives [8, n], each of norm 1; seeds from `first`; the mini runs add `noise` to positives."""
    anchors = [unit_norm(signal(first + i, n)) for i in range(4)]
    positives = [unit_norm(signal(first + i, 2 * n)[n:]) for i in range(4)]
    if noise is not None:
        positives = [x + np.float32(0.001) * signal(noise + i, n) for i, x in enumerate(positives)]
    return stack(*anchors, *positives)


# ------------------------------------------------------------------ weights that follow from their official names


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers that follow from a name, float32."""
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).standard_normal(shape, dtype=np.float32)


def made_up(name: str, official: tuple[int, ...], fan_in: int) -> np.ndarray:
    """A tensor of an encoder or head with the official name and shape."""
    t = drawn(name, official)
    leaf = name.replace(".", "/").rsplit("/", 1)[-1]
    if leaf in ("var", "running_var"):
        return np.float32(0.45) * np.exp(np.float32(0.1) * t)
    if len(official) > 1:
        return t / np.float32(np.sqrt(fan_in))
    return 1 + np.float32(0.1) * t if leaf in ("scale", "weight") else np.float32(0.02) * t


# how far the front end's parameters lie from their initial values
SPREAD = {
    "gabor_kernel": 0.05,
    "sinc_kernel": 0.05,
    "_kernel": 0.05,
    "kernel": 0.1,
    "weights": 0.1,
    "alpha": 0.1,
    "delta": 0.1,
    "scale": 0.1,
    "root": 0.3,
    "_bias": 0.3,
    "smooth": 0.5,
    "_weights": 0.5,
}


def disturb_frontend(frontend: Leaf | SincNet, prefix: str) -> None:
    """The initial parameters, disturbed as the golden files were; `prefix` as of the official names."""
    for ours, theirs in frontend_names(frontend).items():
        parameter = frontend.get_parameter(ours)
        leaf = theirs.replace(".", "/").rsplit("/", 1)[-1]
        shape = (1, 1, frontend.n_filters, 1) if ours == "lowpass" else tuple(parameter.shape)
        t = torch.from_numpy(drawn(prefix + theirs, shape).reshape(parameter.shape))
        with torch.no_grad():
            added = 0.1 * t if leaf == "bias" else 0.0
            parameter.copy_(parameter * (1 + SPREAD.get(leaf, 0.0) * t) + added)


def frontend_names(frontend: Leaf | SincNet) -> dict[str, str]:
    """Our parameter → its official name below "frontend/" (audax) or "features." (leaf-pytorch)."""
    if isinstance(frontend, SincNet):
        return {
            "filters": "complex_conv/sinc_kernel",
            "norm.weight": "compression/scale",
            "norm.bias": "compression/bias",
        }
    if frontend.flavour == "audax":
        return {
            "filters": "complex_conv/gabor_kernel",
            "lowpass": "pooling/kernel",
            "pcen.alpha": "compression/alpha",
            "pcen.delta": "compression/delta",
            "pcen.root": "compression/root",
            "pcen.smooth": "compression/ExponentialMovingAverage_0/smooth",
        }
    return {
        "filters": "_complex_conv._kernel",
        "lowpass": "_pooling.weights",
        "lowpass_bias": "_pooling._bias",
        "pcen.alpha": "_compression.alpha",
        "pcen.delta": "_compression.delta",
        "pcen.root": "_compression.root",
        "pcen.smooth": "_compression.ema._weights",
    }


def load_frontend(frontend: Leaf | SincNet, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    """Parameters of a golden file under `prefix` + official name."""
    with torch.no_grad():
        for ours, theirs in frontend_names(frontend).items():
            parameter = frontend.get_parameter(ours)
            parameter.copy_(torch.from_numpy(arrays[prefix + theirs].reshape(parameter.shape)))


# ------------------------------------------------------------------ encoder and head


def audax_names(network: EfficientNet) -> dict[str, str]:
    """Our name → audax's below "encoder/"."""
    names = {}
    for name in network.state_dict():
        parts, what = name.split("."), name.rsplit(".", 1)[1]
        norm = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}[what]
        if parts[0] != "blocks":
            outer = f"ConvNormActivation_{int(parts[0].endswith('head'))}"
            names[name] = f"{outer}/BatchNorm_0/{norm}" if parts[0].startswith("bn") else f"{outer}/Conv_0/kernel"
            continue
        block = network.blocks[int(parts[1])]
        first = ("expand_conv", "bn0") if block.expands else ()
        order = {layer: i for i, pair in enumerate(filter(None, (first, ("depthwise_conv", "bn1")))) for layer in pair}
        order |= dict.fromkeys(("project_conv", "bn2"), len(order) // 2)
        outer = f"MBConv_{parts[1]}"
        if parts[2].startswith("se_"):
            names[name] = f"{outer}/SqueezeAndExcitation_0/{parts[2][3:]}/kernel"
        elif parts[2].startswith("bn"):
            names[name] = f"{outer}/ConvNormActivation_{order[parts[2]]}/BatchNorm_0/{norm}"
        else:
            names[name] = f"{outer}/ConvNormActivation_{order[parts[2]]}/Conv_0/kernel"
    return names


def leafpytorch_names(network: EfficientNet) -> dict[str, str]:
    """Our name → leaf-pytorch's below "model."."""
    names = {}
    for name in network.state_dict():
        official = name.replace("bn_stem", "bn0").replace("bn_head", "bn1")
        names[name] = (
            "_blocks." + official.removeprefix("blocks.").replace(".", "._", 1)
            if "blocks" in name
            else ("_" + official)
        )
    return names


def set_tensor(module: nn.Module, name: str, official: str, flax: bool) -> None:
    """Made-up values for one tensor of ours, under its official name and in its official layout."""
    tensor = module.state_dict()[name]
    shape = tuple(tensor.shape)
    axes: tuple[int, ...] = tuple(range(len(shape)))
    if flax and len(shape) in (2, 4) and name.endswith("weight"):  # [out, in, h, w] → [h, w, in, out]
        axes = (2, 3, 1, 0) if len(shape) == 4 else (1, 0)
    theirs = tuple(shape[axis] for axis in axes)
    values = made_up(official, theirs, int(np.prod(theirs[:-1] if flax else theirs[1:])))
    tensor.copy_(torch.from_numpy(np.ascontiguousarray(values.transpose(np.argsort(axes)))))


class Cola(nn.Module):
    """Front end (or none), audax's EfficientNet and COLA's head, put together as the official model is."""

    def __init__(self, frontend: Leaf | SincNet | None, prefix: str, dim: int, **sizes: Any) -> None:
        super().__init__()
        self.frontend = frontend
        self.encoder = EfficientNet(image_size=None, form=AUDAX, **sizes)
        self.head = BilinearHead(self.encoder.width, dim)
        if frontend is not None:
            disturb_frontend(frontend, f"{prefix}frontend/")
        for ours, theirs in audax_names(self.encoder).items():
            set_tensor(self.encoder, ours, f"{prefix}encoder/{theirs}", flax=True)
        for ours, theirs in HEAD_NAMES.items():
            set_tensor(self.head, ours, prefix + theirs, flax=True)

    def official_names(self) -> dict[str, str]:
        """Our name of every tensor → audax's."""
        frontend = frontend_names(self.frontend) if self.frontend is not None else {}
        return (
            {f"frontend.{ours}": f"frontend/{theirs}" for ours, theirs in frontend.items()}
            | {f"encoder.{ours}": f"encoder/{theirs}" for ours, theirs in audax_names(self.encoder).items()}
            | {f"head.{ours}": theirs for ours, theirs in HEAD_NAMES.items()}
        )

    def features(self, batch: Tensor) -> Tensor:
        """[clips, ...] → [clips, frames, filters]; a batch of features goes through as it is."""
        return batch if self.frontend is None else self.frontend(batch)

    def embed(self, features: Tensor) -> Tensor:
        """[clips, frames, filters] → [clips, width]: rows of the image are frames."""
        return self.encoder(features[:, None]).mean((2, 3))

    def forward(self, batch: Tensor) -> Tensor:
        """4 anchors and 4 positives → logits [4, 4]; statistics of a training batch are those of all 8."""
        return self.head(*self.embed(self.features(batch)).chunk(2))


HEAD_NAMES = {
    "projection.weight": "embedding_fc/kernel",
    "norm.weight": "bilinear_layernorm/scale",
    "norm.bias": "bilinear_layernorm/bias",
    "bilinear": "similarity_layer/bilinear_product_weight",
}


class Classifier(nn.Module):
    """LEAF, leaf-pytorch's EfficientNet and a linear head, put together as the official model is."""

    def __init__(self, n_filters: int, classes: int, prefix: str = "", **sizes: Any) -> None:
        super().__init__()
        self.frontend = Leaf(n_filters, flavour="leaf-pytorch")
        self.encoder = EfficientNet(image_size=None, form=LEAF_PYTORCH, **sizes)
        self.head = nn.Linear(self.encoder.width, classes)
        disturb_frontend(self.frontend, f"{prefix}features.")
        for ours, theirs in self.official_names().items():
            if not ours.startswith("frontend"):
                set_tensor(self, ours, prefix + theirs, flax=False)

    def official_names(self) -> dict[str, str]:
        """Our name of every tensor → leaf-pytorch's."""
        return (
            {f"frontend.{ours}": f"features.{theirs}" for ours, theirs in frontend_names(self.frontend).items()}
            | {f"encoder.{ours}": f"model.{theirs}" for ours, theirs in leafpytorch_names(self.encoder).items()}
            | {f"head.{what}": f"model._fc.{what}" for what in ("weight", "bias")}
        )

    def embed(self, features: Tensor) -> Tensor:
        """[clips, frames, filters] → [clips, width]: rows of the image are filters."""
        return self.encoder(features.transpose(1, 2)[:, None]).mean((2, 3))

    def forward(self, batch: Tensor) -> Tensor:
        """[clips, samples] → logits [clips, classes], without dropout."""
        return self.head(self.embed(self.frontend(batch)))


def relative(ours: Tensor | np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference / largest official value; shapes must agree."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    assert ours.shape == theirs.shape, f"{ours.shape} is not {theirs.shape}"
    assert np.isfinite(ours).all()
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max() / np.abs(theirs).max())
