"""AudioMAE++: masked autoencoders of macaron blocks with SwiGLU (Yadav et al., IEEE MLSP 2025, arXiv 2507.10464).

Front end, units (2 s), patches, layout and HEAR wrapper are SSAST's and Audio Mamba's (`pipeline/layout_model.py`);
dropping 80 % of the patches and predicting them by a small decoder is as in MAE. The blocks (`layers/macaron.py`) are
new, in the encoder and in the decoder. 50 steps of 40 ms a unit, 5 x 768 = 3840 dimensions for base. Code: Apache-2.0.
The authors' weights carry no licence of their own (`hear-models fetch`, `hear-models convert audiomae_pp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import init

from hear_models import ssast, zoo
from hear_models.checkpoints.facts import SHAPES, Facts, macaron_block, masked_decoder
from hear_models.checkpoints.mapping import Official, Rule, Shapes, Source
from hear_models.fields import at_least_one, one_of
from hear_models.layers.init import xavier_
from hear_models.layers.macaron import BLOCKS, new_block
from hear_models.layers.masked import MaskedDecoder, Reconstruction
from hear_models.layers.patches import sincos_1d
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.layout_model import LayoutConfig, LayoutModel, check_heads
from hear_models.pipeline.model import HearModel

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "reconstruct"]


@dataclass(frozen=True)
class Config(LayoutConfig):
    """maepp_base_200_16x4; tiny and large differ in width, depth, heads and, large, the decoder."""

    heads: int = 12  # attention heads of an encoder block
    mlp_ratio: float = 4.0  # hidden width of a feed-forward layer / token width
    mask_ratio: float = 0.8  # share of the patches that pretraining drops
    decoder_width: int = 384
    decoder_depth: int = 4
    decoder_heads: int = 8
    encoder_block: str = "swiglu"  # or "macaron", without SwiGLU, or "plain", those of the repository's own MAE
    decoder_block: str = "swiglu"
    encoder_rope: bool = False  # rotary positions too; this and what follows in no published model
    decoder_rope: bool = False
    limit_swiglu_features: bool = False  # a narrower SwiGLU
    additive_swiglu: bool = False  # its gate is added
    masking_mode: str = "patch"  # what pretraining drops: single patches, or "timestep", all bands of a step

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        super().__post_init__()
        at_least_one(self, "decoder_width", "decoder_depth")
        one_of(self, encoder_block=BLOCKS, decoder_block=BLOCKS, masking_mode=("patch", "timestep"))
        check_heads(self.width, self.heads)
        check_heads(self.decoder_width, self.decoder_heads, "decoder heads")


class Model(LayoutModel):
    """The encoder behind the HEAR API; arguments as `LayoutModel`."""

    family = "audiomae_pp"
    config: Config
    config_class = Config
    decoder: MaskedDecoder | None

    def new_block(self, i: int) -> nn.Module:
        """All alike."""
        c = self.config
        swiglu = (c.limit_swiglu_features, c.additive_swiglu)
        return new_block(c.encoder_block, c.width, c.heads, c.encoder_rope, c.mlp_ratio, *swiglu)

    def new_decoder(self) -> MaskedDecoder:
        """Narrower blocks, and fixed positions."""
        c, grid = self.config, (self.grid.tokens, self.grid.pixels, self.class_rows)
        swiglu = (c.limit_swiglu_features, c.additive_swiglu)
        sizes = (c.decoder_width, c.decoder_heads, c.decoder_rope, c.mlp_ratio, *swiglu)
        blocks = (new_block(c.decoder_block, *sizes) for _ in range(c.decoder_depth))
        return MaskedDecoder(c.width, c.decoder_width, blocks, *grid, trained_positions=False)

    def initialise_decoder(self, rng: torch.Generator) -> None:
        """The same; positions of the decoder are those of the flattened tokens."""
        d = cast(MaskedDecoder, self.decoder)
        xavier_(d, rng)
        init.normal_(d.mask_token, std=0.02, generator=rng)
        d.pos_embed.data[0, self.class_rows :] = sincos_1d(self.config.decoder_width, torch.arange(self.grid.tokens))

    @property
    def n_tokens(self) -> int:
        """Numbers of noise for a crop: one a patch, or one a step."""
        return self.grid.columns if self.config.masking_mode == "timestep" else self.grid.tokens

    def reconstruct(self, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
        """Mean squared error of the pixels of dropped patches; see `capabilities.Reconstructs`."""
        c, noise = self.config, noise.repeat_interleave(self.grid.tokens // self.n_tokens, dim=1)
        return self.reconstruct_dropped(units, noise, target_units, c.mask_ratio, pixel_ddof=c.pixel_ddof)


def rotations(source: Source) -> dict[str, Any]:
    """Half the width of a head in encoder and decoder, where rotary positions are stored."""
    found = {"encoder": "encoder.blocks.0.rope.freqs", "decoder": "decoder.decoder_blocks.0.rope.freqs"}
    return {"rope": {part: source.arrays[key].values.size for part, key in found.items() if key in source.arrays}}


def block_sizes(shapes: Shapes, facts: Facts, told: Mapping[str, Any]) -> None:
    """Kinds of block, SwiGLU's width and the decoder by the tensors; heads and the gate by the configuration."""
    v, rope = facts.values, told.get("rope") or {}
    settings = (told.get("model") or {}).get("model_args") or {}
    facts.add_all(masked_decoder(shapes), SHAPES)
    for part, name, first in (("encoder", "", "blocks.0"), ("decoder", "decoder_", "decoder.blocks.0")):
        if f"{name}width" in v:
            facts.add_all(macaron_block(shapes, first, part, v[f"{name}width"]), SHAPES)
            facts.add(f"{part}_rope", part in rope, SHAPES)
            if part in rope:
                facts.add(f"{name}heads", v[f"{name}width"] // (2 * rope[part]), SHAPES)
    names = {name: name for name in ("additive_swiglu", "masking_mode", "norm_pix_loss")}
    facts.add_settings({**settings, **(told.get("opt") or {})}, names)
    ssast.add_heads(facts)
    if "decoder_width" in v:
        trained = {v["decoder_width"]: settings.get("decoder_num_heads", 6)}
        ssast.add_heads(facts, "decoder_", trained if settings else {384: 8, 512: 8})  # those of the published models


OFFICIAL = Official(
    format="torch",
    rules=(
        Rule("cls_token", "cls_token"),
        Rule("encoder.pos_embed", "pos_embed"),
        Rule("patch_embed.proj.{tensor}", "patch_embed.{tensor}"),
        Rule("encoder.encoder_norm.{tensor}", "norm.{tensor}"),
        Rule("decoder.mask_token", "decoder.mask_token"),
        *ssast.block_rules("encoder.blocks.{i}", "blocks.{i}"),
        *ssast.block_rules("decoder.decoder_blocks.{i}", "decoder.blocks.{i}"),
        Rule("decoder.decoder_{path}", "decoder.{path}"),
    ),
    recognise=ssast.official_family,
    infer=partial(ssast.infer_config, Config, block_sizes),
    drop=(r".*\.norm3\.(weight|bias)", r".*\.rope\.freqs"),  # never used; follow from the formula
    observe=rotations,
    settings_keys=("model",),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: as `ssast.load_model`, the default is `audiomae-pp-nano`."""
    return zoo.load_model(model_file_path, family="audiomae_pp", **options)
