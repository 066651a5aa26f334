"""Audio Mamba (SSAM): selective state spaces on log-mel patches (Yadav & Tan, Interspeech 2024, arXiv 2406.02178).

Twelve Mamba blocks and nothing else, in one direction: a token knows those before it, patch after patch of a step, step
after step. All but the blocks is as in `hear_models.ssast`, the paper's baseline: units of 200 log-mel frames (2 s) x
80 bands, 50 steps of 40 ms each, 5 x 768 = 3840 dimensions for base, and the layout of the official release. The class
token comes first, so it hears nothing; it gives the scan a learned start and is dropped. The scan runs on any machine
(`layers/selective_scan.py`). Code: Apache-2.0. The authors' weights carry no licence of their own; fetch and convert
them yourself (`hear-models convert audio_mamba`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch.nn import init

from hear_models import ssast, zoo
from hear_models.checkpoints.facts import SHAPES, Facts
from hear_models.checkpoints.mapping import Official, Rule, Shapes
from hear_models.errors import CheckpointError, UsageError
from hear_models.fields import at_least_one
from hear_models.layers.init import torch_default_
from hear_models.layers.mamba import MambaBlock, Mixer
from hear_models.layers.selective_scan import BACKENDS
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.stream import Stream, open_stream

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "reconstruct"]

FIRST_STEPS = (0.001, 0.1)  # step sizes that random weights begin with, and the smallest of all
SMALLEST_STEP = 1e-4
KEPT_FLOAT32 = (".A_log", ".D", ".dt_proj.bias")  # what the scan is made of


@dataclass(frozen=True)
class Config(ssast.CommonConfig):
    """ssam_base_200_16x4; tiny (192) and small (384) differ in `width`."""

    state: int = 24  # numbers that every channel of a scan remembers
    expansion: int = 3  # channels of a scan / token width
    kernel: int = 4  # tokens that the convolution before a scan sees

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        super().__post_init__()
        at_least_one(self, "state", "expansion", "kernel")


class Model(ssast.CommonModel):
    """The encoder behind the HEAR API; arguments as `LayoutModel`, and three more.

    Args:
        normalize: "clip" (the original's) standardises by the clip's own mean and deviation; "fixed" by `statistics`,
            so that a step depends on nothing that comes after it, and `stream` gives what the whole clip gives.
        statistics: (mean, deviation) of log-mels of similar sounds, as `statistics(clips)` measures them.
        scan: what runs the recurrence, a name of `layers.selective_scan.BACKENDS`; "auto" takes the quickest.
    """

    family = "audio_mamba"
    not_streamed = ""
    config: Config
    config_class = Config

    def __init__(
        self,
        config: Config | None = None,
        *,
        layout: str | None = None,
        timestamps: str | None = None,
        normalize: str = "clip",
        statistics: tuple[float, float] | None = None,
        scan: str = "auto",
        seed: int | None = 0,
        decoder: bool = False,
    ) -> None:
        if scan not in BACKENDS:
            raise UsageError(f"scan={scan!r} is unknown. Use one of {', '.join(BACKENDS)}.")
        if normalize not in ("clip", "fixed") or (normalize == "fixed") != (statistics is not None):
            raise UsageError(
                f"normalize={normalize!r} with statistics={statistics!r}: use normalize='clip' without statistics, or "
                "normalize='fixed' with statistics=(mean, deviation)."
            )
        super().__init__(config, layout=layout, timestamps=timestamps, seed=seed, decoder=decoder)
        for block in self.blocks:
            cast(MambaBlock, block).mixer.backend = scan
        if statistics is not None:
            self.normalise = Standardise.fixed(statistics)

    def new_block(self, i: int) -> MambaBlock:
        """All alike."""
        c = self.config
        return MambaBlock(c.width, Mixer(c.width, c.expansion * c.width, c.state, c.kernel))

    def stream(self, normalize: Any = None) -> Stream:
        """As `HearModel.stream`: exact with layout="corrected" and fixed statistics; each unit begins anew."""
        return open_stream(self, normalize, self.layout)

    def stays_float32(self, name: str) -> bool:
        """Decay rates and step sizes too: what is rounded there is rounded again at every step."""
        return super().stays_float32(name) or name.endswith(KEPT_FLOAT32)

    def initialise_blocks(self, rng: torch.Generator) -> None:
        """As Mamba begins: rates -1 ... -state in every channel, step sizes spread evenly on a logarithmic scale."""
        for block in cast("list[MambaBlock]", list(self.blocks)):
            mixer = block.mixer
            init.ones_(block.norm.weight)
            init.ones_(mixer.D)
            mixer.A_log.data[:] = torch.arange(1, mixer.state + 1).log()
            for layer in (mixer.in_proj, mixer.conv1d, mixer.x_proj, mixer.out_proj):
                torch_default_(layer.weight, layer.bias, rng)
            mixer.out_proj.weight.data /= math.sqrt(self.config.depth)
            limit = mixer.rank**-0.5
            init.uniform_(mixer.dt_proj.weight, -limit, limit, generator=rng)
            low, high = (math.log(step) for step in FIRST_STEPS)
            step = torch.rand(len(mixer.D), generator=rng).mul(high - low).add(low).exp().clamp_min(SMALLEST_STEP)
            mixer.dt_proj.bias.data = step + torch.log(-torch.expm1(-step))  # softplus gives `step` again

    def initialise_decoder(self, rng: torch.Generator) -> None:
        """As SSAST's, without biases in the head of pretraining."""
        super().initialise_decoder(rng)
        assert self.decoder is not None
        init.zeros_(self.decoder.hidden.bias)
        init.zeros_(self.decoder.pred.bias)


def block_sizes(shapes: Shapes, facts: Facts, told: Mapping[str, Any]) -> None:
    """Channels, state and kernel of the scan; the rank of the step sizes follows from the width."""
    width = facts.values["width"]
    inner, state = shapes.of("blocks.0.mixer.A_log", 2)
    if inner % width:
        raise CheckpointError(f"a scan of {inner} channels is no whole multiple of the width {width}.")
    sizes = {"state": state, "expansion": inner // width, "kernel": shapes.of("blocks.0.mixer.conv1d.weight", 3)[2]}
    facts.add_all(sizes, SHAPES)


OFFICIAL = Official(
    format="torch",
    rules=(*ssast.COMMON_RULES, Rule("blocks.{i}.{tensor}", "blocks.{i}.{tensor}")),
    recognise=ssast.official_family,
    infer=partial(ssast.infer_config, Config, block_sizes),
    settings_keys=("model",),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) the default `ssam-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: those of `ssast.load_model`; `normalize="clip" | "fixed"` with `statistics=(mean, deviation)`;
            `scan="auto"` or another name of `layers.selective_scan.BACKENDS`.
    """
    return zoo.load_model(model_file_path, family="audio_mamba", **options)
