"""MAE: the baseline of the MW-MAE paper (Yadav et al., ICLR 2024): plain attention everywhere, and a class token.

See `hear_models.mwmae` for the network, units and dimensions; the class token takes part in attention and is dropped
from the embeddings. Weights: as for MW-MAE, not ours to give (`hear-models convert mae`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from hear_models import mwmae, zoo
from hear_models.checkpoints.mapping import Official, Rule
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "reconstruct"]


@dataclass(frozen=True)
class Config(mwmae.Config):
    """MAE-B-4x16-4l, the published baseline."""

    decoder_windows: tuple[int, ...] = (0,) * 8  # eight global heads: plain attention
    class_token: bool = True


class Model(mwmae.Model):
    """The encoder of the baseline behind the HEAR API; arguments as `mwmae.Model`."""

    family = "mae"

    def __init__(
        self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0, decoder: bool = False
    ) -> None:
        super().__init__(config or Config(), timestamps=timestamps, seed=seed, decoder=decoder)


OFFICIAL = Official(
    format="flax",
    rules=(
        *mwmae.COMMON_RULES,
        Rule("params/cls_token", "cls_token"),
        *mwmae.block_rules("decoder_block_{i:02}", "decoder.blocks.{i}", "Attention_0/Dense_0", "Attention_0/Dense_1"),
    ),
    recognise=mwmae.official_family,
    infer=partial(mwmae.infer_config, Config),
    settings_keys=("model",),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: as `mwmae.load_model`, the default is the bundled `mae-nano`."""
    return zoo.load_model(model_file_path, family="mae", **options)
