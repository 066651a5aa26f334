"""AxLSTM: matrix memories on log-mel patches, read in both directions (Yadav et al., Interspeech 2025).

Twelve mLSTM blocks and nothing else (arXiv 2408.16568); every second one reads the tokens, class token included, from
the last to the first. All but the blocks is as in `hear_models.ssast`, the paper's baseline: units of 200 log-mel
frames (2 s) x 80 bands, 50 steps of 40 ms each, 5 x 768 = 3840 dimensions for base, and the layout of the official
release. A unit is a sequence of its own: no memory crosses its borders. Within it every step depends on every frame,
because of the blocks that read backwards, so that nothing can be streamed exactly in pieces shorter than a unit. Code:
Apache-2.0. The authors' weights carry no licence of their own; fetch and convert them yourself
(`hear-models convert axlstm`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch.nn import init

from hear_models import ssast, zoo
from hear_models.checkpoints.facts import SHAPES, Facts
from hear_models.checkpoints.mapping import Official, Rule, Shapes
from hear_models.errors import CheckpointError
from hear_models.fields import at_least_one
from hear_models.layers.init import torch_default_
from hear_models.layers.mlstm_block import HEADS, MLSTMBlock
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel
from hear_models.pipeline.plan import Plan, Unit

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "reconstruct"]

SILENT_BELOW = 1e-4  # deviation of a clip's log-mel that counts as none: far below one step of 16 bits
FORGET_BIASES = (3.0, 6.0)  # of the first and the last head when training begins

# Channels of all tokens in 2 s that cost a CPU's pass what 200 frames do: measured, tiny is quickest four units at a
# time, base one (`benchmarks/mlstm.py --network`).
CHANNELS_AT_COST = 250 * 192


@dataclass(frozen=True)
class Config(ssast.CommonConfig):
    """axlstm_base_200_16x4; tiny (192) and small (384) differ in `width`."""

    expansion: int = 2  # channels of the memories / token width
    init_depth_scale: bool = False  # random weights: the last map of a block begins `depth` times smaller

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        super().__post_init__()
        at_least_one(self, "expansion")


class Model(ssast.CommonModel):
    """The encoder behind the HEAR API; arguments as `pipeline.layout_model.LayoutModel`."""

    family = "axlstm"
    not_streamed = "every second block reads a unit from its end to its beginning"
    config: Config
    config_class = Config
    silent_below = SILENT_BELOW

    def new_block(self, i: int) -> MLSTMBlock:
        """Every second one reads backwards."""
        return MLSTMBlock(self.width, self.config.expansion * self.width, reverse=i % 2 == 1)

    def unit_cost(self, unit: Unit, plan: Plan) -> int:
        """On a CPU the channels of a pass must fit into its cache: four units of tiny at a time, one of base."""
        cost, channels = super().unit_cost(unit, plan), self.grid.tokens * self.config.expansion * self.config.width
        return cost if self.pos_embed.device.type != "cpu" else max(cost, cost * channels // CHANNELS_AT_COST)

    def initialise_blocks(self, rng: torch.Generator) -> None:
        """As the official code, where `proj_down` is drawn as if the network had one block (quirk `one-block-init`)."""
        c = self.config
        narrow, down = (2 / (5 * c.width)) ** 0.5, 2 / c.width**0.5
        for block in cast("list[MLSTMBlock]", list(self.blocks)):
            layer = block.layer
            init.ones_(layer.learnable_skip)
            for mixing in (layer.proj_up, layer.q_proj, layer.k_proj, layer.v_proj):
                init.normal_(mixing.weight, std=narrow, generator=rng)
            torch_default_(layer.conv1d.weight, layer.conv1d.bias, rng)
            init.normal_(layer.igate.bias, std=0.1, generator=rng)
            layer.fgate.bias.data[:] = torch.linspace(*FORGET_BIASES, HEADS)
            init.normal_(layer.proj_down.weight, std=down / (c.depth if c.init_depth_scale else 1), generator=rng)


def block_sizes(shapes: Shapes, facts: Facts, told: Mapping[str, Any]) -> None:
    """Channels of the memories; heads and groups are the same in every network."""
    width, doubled = facts.values["width"], shapes.of("blocks.0.layer.proj_up.weight", 2)[0]
    if doubled % (2 * width):
        raise CheckpointError(f"{doubled // 2} channels of the memories are no whole multiple of the width {width}.")
    facts.add("expansion", doubled // (2 * width), SHAPES)


OFFICIAL = Official(
    format="torch",
    rules=(
        *ssast.COMMON_RULES,
        Rule("blocks.{i}.layer.conv1d.conv.{tensor}", "blocks.{i}.layer.conv1d.{tensor}"),
        *(
            Rule(f"blocks.{{i}}.layer.mlstm_cell.{part}.{{tensor}}", f"blocks.{{i}}.layer.{part}.{{tensor}}")
            for part in ("igate", "fgate", "outnorm")
        ),
        Rule("blocks.{i}.{tensor}", "blocks.{i}.{tensor}"),
    ),
    recognise=ssast.official_family,
    infer=partial(ssast.infer_config, Config, block_sizes),
    settings_keys=("model",),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) the default `axlstm-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: those of `ssast.load_model`.
    """
    return zoo.load_model(model_file_path, family="axlstm", **options)
