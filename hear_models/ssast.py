"""SSAST: the transformer baseline of the Audio Mamba paper (Yadav & Tan, Interspeech 2024, arXiv 2406.02178).

A plain ViT on log-mel patches, pretrained by putting a mask token in the place of half of them; it shares the name, and
no weights, with the SSAST of Gong et al. (2022). A unit is 200 log-mel frames (2 s) x 80 bands; with patches of 4
frames x 16 bands it gives 50 steps of 40 ms, each the concatenation of 5 tokens: 5 x 768 = 3840 dimensions for base.
Which 5: the official code reads the tokens, which run over time first, as if they ran over bands first, so that
`layout="official"` scrambles the time axis within a unit; `"corrected"` puts the bands of one step side by side.
Here too stands what `hear_models.audio_mamba` has in common with it: all but the blocks. Code: Apache-2.0. The authors'
weights carry no licence of their own; fetch and convert them yourself (`hear-models convert ssast`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import init

from hear_models import zoo
from hear_models.checkpoints.facts import GIVEN, SETTINGS, SHAPES, Facts, patch_encoder
from hear_models.checkpoints.mapping import Official, Rule, Shapes
from hear_models.errors import CheckpointError
from hear_models.fields import one_of
from hear_models.layers.attention import Attention
from hear_models.layers.init import torch_default_
from hear_models.layers.masked import MaskedHead, Reconstruction
from hear_models.layers.transformer import Block
from hear_models.pipeline.capabilities import reconstruct
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.layout_model import LayoutConfig, LayoutModel, check_heads
from hear_models.pipeline.model import HearModel

__all__ = ["Config", "Model", "get_scene_embeddings", "get_timestamp_embeddings", "load_model", "reconstruct"]


@dataclass(frozen=True)
class CommonConfig(LayoutConfig):
    """What encoders that are pretrained by replaced patches add: SSAST, Audio Mamba, AxLSTM."""

    mask_before_pos: bool = False  # the mask token replaces before positions are added, so that it has one
    loss_on: str = "all"  # pretraining loss: "all" patches, visible ones too (as published), or "masked" ones alone

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        super().__post_init__()
        one_of(self, loss_on=("all", "masked"))


@dataclass(frozen=True)
class Config(CommonConfig):
    """ssast_base_200_16x4; tiny and small differ in `width` and `heads`."""

    heads: int = 12  # attention heads
    mlp_ratio: float = 4.0  # hidden width of an MLP / token width

    def __post_init__(self) -> None:
        """Refuse sizes that give no network, with a UsageError that names them."""
        super().__post_init__()
        check_heads(self.width, self.heads)


class CommonModel(LayoutModel):
    """An encoder that is pretrained by replaced patches: `decoder=True` builds mask token and head."""

    config: CommonConfig
    decoder: MaskedHead | None

    def new_decoder(self) -> MaskedHead:
        """Mask token and head."""
        return MaskedHead(self.width, self.grid.pixels)

    def initialise_decoder(self, rng: torch.Generator) -> None:
        """Mask token and head; torch's own scheme for linear layers."""
        assert self.decoder is not None
        init.normal_(self.decoder.mask_token, std=0.02, generator=rng)
        for layer in (self.decoder.hidden, self.decoder.pred):
            torch_default_(layer.weight, layer.bias, rng)

    def reconstruct(self, units: Tensor, noise: Tensor, target_units: Tensor | None = None) -> Reconstruction:
        """Mean squared error of the pixels; see `capabilities.Reconstructs`."""
        c = self.config
        return self.reconstruct_replaced(
            units,
            noise,
            target_units,
            c.mask_ratio,
            loss_on_all=c.loss_on == "all",
            before_positions=c.mask_before_pos,
            pixel_ddof=c.pixel_ddof,
        )


class Model(CommonModel):
    """The encoder behind the HEAR API; arguments as `LayoutModel`."""

    family = "ssast"
    config: Config
    config_class = Config

    def new_block(self, i: int) -> Block:
        """A ViT's."""
        return Block(Attention(self.width, self.config.heads), self.width, self.config.mlp_ratio, gelu="none")


COMMON_RULES = (
    Rule("cls_token", "cls_token"),
    Rule("pos_embed", "pos_embed"),
    Rule("patch_embed.proj.{tensor}", "patch_embed.{tensor}"),
    Rule("encoder_norm.{tensor}", "norm.{tensor}"),
    Rule("mask_token", "decoder.mask_token"),
    Rule("pred.0.{tensor}", "decoder.hidden.{tensor}"),
    Rule("pred.2.{tensor}", "decoder.pred.{tensor}"),
)


def block_rules(theirs: str, ours: str) -> Iterator[Rule]:
    """Names within a block, of the authors' code and of ours; those that are not told are the same."""
    names = {"attn.qkv_layer": "attn.qkv", "attn.proj_layer": "attn.proj", "mlp.layer{n}": "mlp.fc{n}"}
    for official, name in names.items():
        yield Rule(f"{theirs}.{official}.{{tensor}}", f"{ours}.{name}.{{tensor}}")
    yield Rule(f"{theirs}.{{path}}", f"{ours}.{{path}}")


# family: part of a key that only it has, or those that stand behind it
TELLTALES = {
    "audiomae_pp": "encoder.encoder_norm.",
    "ssast": ".attn.qkv_layer.",
    "audio_mamba": ".mixer.A_log",
    "axlstm": ".mlstm_cell.",
}
HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16}  # by width: the sizes that the official code knows


def official_family(keys: Collection[str]) -> str | None:
    """The blocks tell which of the authors' encoders it is."""
    return next((family for family, part in TELLTALES.items() if any(part in key for key in keys)), None)


def infer_config(
    config_class: type[LayoutConfig],
    blocks: Callable[[Shapes, Facts, Mapping[str, Any]], None],
    shapes: Shapes,
    trainer: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The Config behind an official checkpoint: shapes first, then what the user set, then the trainer's settings.

    `blocks` adds what is the family's own, by the trainer's whole configuration too. The trainer's settings are
    believed in what no shape tells: the bands and the ratio of masking. Values that contradict a shape, and those that
    stay unknown, are errors.
    """
    facts = Facts()
    facts.add_all(patch_encoder(shapes, "width", "depth"), SHAPES)
    facts.add_all(given, GIVEN)
    arguments = trainer.get("args")
    saved = arguments.get("config") if isinstance(arguments, Mapping) else None
    told = trainer if trainer.get("model") else saved or {}
    settings = (told.get("model") or {}).get("model_args") or {}
    blocks(shapes, facts, {**trainer, **told})
    if settings.get("frequency_first"):
        raise CheckpointError(
            "the checkpoint was trained with frequency_first=true, where the official code mixes channels and bands. "
            "It is not supported; none was published."
        )
    v = facts.values
    if "mask_ratio" in settings and "mask_ratio" not in v:
        facts.add("mask_ratio", settings["mask_ratio"], SETTINGS)
    if "n_mels" not in v:
        image = settings.get("img_size") or (config_class.frames_per_unit, config_class.n_mels)
        facts.add("n_mels", image[1], SETTINGS)
    tokens = shapes.of("pos_embed", 3)[1] - v["class_token"]
    bands = v["n_mels"] // v["patch_bands"]
    if bands < 1 or tokens % bands:
        raise CheckpointError(
            f"pos_embed has {tokens} tokens, which {v['n_mels']} bands in patches of {v['patch_bands']} do not divide. "
            "Give --set n_mels=N."
        )
    facts.add("frames_per_unit", tokens // bands * v["patch_frames"], "the tokens of pos_embed")
    return asdict(config_class(**v))


def block_sizes(shapes: Shapes, facts: Facts, told: Mapping[str, Any]) -> None:
    """Hidden width of the MLP, and heads: those are not in the weights and follow from the published widths."""
    width = facts.values["width"]
    facts.add("mlp_ratio", shapes.of("blocks.0.mlp.fc1.weight", 2)[0] / width, SHAPES)
    add_heads(facts)


def add_heads(facts: Facts, part: str = "", known: Mapping[int, int] = HEADS) -> None:
    """Attention heads of a `part` are not in the weights: the user's, or those `known` by its width."""
    width = facts.values[f"{part}width"]
    if f"{part}heads" not in facts.values:
        if width not in known:
            raise CheckpointError(
                f"the weights ({part}width {width}) do not tell the attention heads. Give --set {part}heads=N."
            )
        facts.add(f"{part}heads", known[width], "the published size of that width")


OFFICIAL = Official(
    format="torch",
    rules=(
        *COMMON_RULES,
        *block_rules("blocks.{i}", "blocks.{i}"),
    ),
    recognise=official_family,
    infer=partial(infer_config, Config, block_sizes),
    settings_keys=("model",),
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: the model behind a registry name, a converted checkpoint, or (no path) the default `ssast-nano`.

    Args:
        model_file_path: registry name or `.safetensors` file; "" for the family's default.
        options: `layout="official" | "corrected"`, `timestamps="centres" | "official"`, `dtype="float32" | "bfloat16"`.
    """
    return zoo.load_model(model_file_path, family="ssast", **options)
