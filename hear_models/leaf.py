"""LEAF with COLA or classes: a front end whose every stage is learned, before an EfficientNet (Zeghidour et al. 2021).

Two code bases published networks of it, and each needs its own flavour (quirks `pooling-bias`, `first-block-adds`):

- audax, the code of Yadav and Zeghidour 2022 (arXiv 2203.15519): COLA without labels, probes of it, and classifiers;
- leaf-pytorch: classifiers of 40 filters, whose images have a row for each filter; windows of 1 s.

Units, dimensions (1280) and the plan of windows are those of `hear_models.logmel_cola`: a proposal of this project.
Code: BSD 2-Clause (audax), MIT (leaf-pytorch). The classifiers' weights state no licence of their own; COLA's with LEAF
were not published (`hear-models convert leaf`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hear_models import logmel_cola, zoo
from hear_models.checkpoints.facts import GIVEN
from hear_models.checkpoints.mapping import Official, Rule, Shapes
from hear_models.fields import one_of
from hear_models.frontends.leaf import FLAVOURS, INITS, Leaf
from hear_models.pipeline.capabilities import contrast
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel

__all__ = ["Config", "Model", "contrast", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]


@dataclass(frozen=True)
class Config(logmel_cola.Config):
    """LEAF(64) of audax and EfficientNet-B0."""

    flavour: str = "audax"  # or "leaf-pytorch": front end and network as that code base has them
    init: str = "mel"  # how filters begin in training, a name of frontends/leaf.INITS
    learned: bool = True  # False: training leaves the front end as it began

    def __post_init__(self) -> None:
        """As the base, and the names of flavours and initialisations."""
        super().__post_init__()
        one_of(self, flavour=FLAVOURS, init=INITS)


class Model(logmel_cola.Model):
    """LEAF before the network of COLA; arguments as `logmel_cola.Model`."""

    family = "leaf"
    config: Config
    frontend: Leaf

    def __init__(self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0) -> None:
        HearModel.__init__(self, timestamps)
        c = config or Config()
        rng = torch.Generator().manual_seed(seed or 0)
        frontend = Leaf(c.n_filters, flavour=c.flavour, init=c.init, rng=rng)  # type: ignore[arg-type]  # it was checked
        self.build(c, frontend.requires_grad_(c.learned), seed, filters_first=c.flavour == "leaf-pytorch")


# ----------------------------------------------------------------------------------------------------- official files

AUDAX = logmel_cola.audax(
    Config,
    (
        Rule("params/frontend/complex_conv/gabor_kernel", "frontend.filters"),
        Rule("params/frontend/pooling/kernel", "frontend.lowpass", "flat"),
        Rule("params/frontend/compression/ExponentialMovingAverage_0/smooth", "frontend.pcen.smooth"),
        Rule("params/frontend/compression/{coefficient}", "frontend.pcen.{coefficient}"),
    ),
    raw_classifier=True,
)


def leaf_pytorch_family(keys: Collection[str]) -> str | None:
    """The Gabor filters' own name."""
    return "leaf" if "features._complex_conv._kernel" in keys else None


def infer_leaf_pytorch(shapes: Shapes, said: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The Config behind a file of leaf-pytorch: sizes from its tensors, the rest as that code trains."""
    facts = logmel_cola.encoder_facts(shapes, {}, given)
    rules = {"flavour": "leaf-pytorch", "level": "peak", "window_samples": 16_000}
    facts.add("flavour", rules["flavour"], "the tensors' names")
    facts.add_all(given, GIVEN)
    facts.add_all({name: value for name, value in rules.items() if name not in facts.values}, "the code base")
    return asdict(Config(**facts.values))


LEAF_PYTORCH = Official(
    format="torch",
    rules=(
        Rule("features._complex_conv._kernel", "frontend.filters"),
        Rule("features._pooling.weights", "frontend.lowpass", "flat"),
        Rule("features._pooling._bias", "frontend.lowpass_bias"),
        Rule("features._compression.ema._weights", "frontend.pcen.smooth"),
        Rule("features._compression.{coefficient}", "frontend.pcen.{coefficient}"),
        Rule("model._conv_stem.{path}", "encoder.conv_stem.{path}"),
        Rule("model._bn0.{path}", "encoder.bn_stem.{path}"),
        Rule("model._blocks.{i}._{path}", "encoder.blocks.{i}.{path}"),
        Rule("model._conv_head.{path}", "encoder.conv_head.{path}"),
        Rule("model._bn1.{path}", "encoder.bn_head.{path}"),
        Rule("model._fc.{path}", "head.{path}"),
    ),
    recognise=leaf_pytorch_family,
    infer=infer_leaf_pytorch,
    drop=(r".*\.num_batches_tracked",),
)

OFFICIAL = (AUDAX, LEAF_PYTORCH)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: as `logmel_cola.load_model`, the default is `leaf-nano`."""
    return zoo.load_model(model_file_path, family="leaf", **options)
