"""SincNet with COLA: band-pass filters with learned edges instead of log-mel (Ravanelli and Bengio 2018).

As pretrained by Yadav and Zeghidour 2022 (arXiv 2203.15519, code base audax): filters, rectifier, maximum over 25 ms,
layer normalisation of each frame, then the network of `hear_models.logmel_cola`, where units, dimensions (1280) and the
plan of windows are told: a proposal of this project. Weights: one classifier of AudioSet was published, without a
licence of its own; COLA's with SincNet were not (`hear-models convert sincnet`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hear_models import logmel_cola, zoo
from hear_models.checkpoints.mapping import Rule
from hear_models.fields import one_of
from hear_models.frontends.sincnet import INITS, SincNet
from hear_models.pipeline.capabilities import contrast
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.model import HearModel

__all__ = ["Config", "Model", "contrast", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]


@dataclass(frozen=True)
class Config(logmel_cola.Config):
    """SincNet(64) and EfficientNet-B0."""

    init: str = "mel"  # how edges begin in training, a name of frontends/sincnet.INITS
    learned: bool = True  # False: training leaves the front end as it began

    def __post_init__(self) -> None:
        """As the base, and the names of initialisations."""
        super().__post_init__()
        one_of(self, init=INITS)


class Model(logmel_cola.Model):
    """SincNet before the network of COLA; arguments as `logmel_cola.Model`."""

    family = "sincnet"
    config: Config
    frontend: SincNet

    def __init__(self, config: Config | None = None, *, timestamps: str = "centres", seed: int | None = 0) -> None:
        HearModel.__init__(self, timestamps)
        c = config or Config()
        rng = torch.Generator().manual_seed(seed or 0)
        self.build(c, SincNet(c.n_filters, init=c.init, rng=rng).requires_grad_(c.learned), seed)


OFFICIAL = logmel_cola.audax(
    Config,
    (
        Rule("params/frontend/complex_conv/sinc_kernel", "frontend.filters"),
        Rule("params/frontend/compression/scale", "frontend.norm.weight"),
        Rule("params/frontend/compression/bias", "frontend.norm.bias"),
    ),
    raw_classifier=True,
)


def load_model(model_file_path: str = "", **options: Any) -> HearModel:
    """HEAR 2021: as `logmel_cola.load_model`, the default is `sincnet-nano`."""
    return zoo.load_model(model_file_path, family="sincnet", **options)
