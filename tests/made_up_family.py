"""A family of fewer than sixty lines, made up for tests, in a folder that only the test knows of."""

from __future__ import annotations

import sys

import pytest

import hear_models

FAMILY = '''"""made_up: a patch encoder of one linear block, to see what a family must say."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hear_models import zoo
from hear_models.checkpoints.facts import masked_decoder, patch_encoder
from hear_models.checkpoints.mapping import Official, Rule
from hear_models.frontends.logmel import LogMel
from hear_models.layers.init import materialise
from hear_models.layers.masked import MaskedDecoder
from hear_models.pipeline.hear import get_scene_embeddings, get_timestamp_embeddings
from hear_models.pipeline.normalise import Standardise
from hear_models.pipeline.patch_model import Grid, PatchModel

@dataclass(frozen=True)
class Config:
    width: int = 16
    depth: int = 1
    patch_frames: int = 4
    patch_bands: int = 40
    class_token: bool = True
    decoder_width: int = 8
    decoder_depth: int = 0

class Model(PatchModel):
    family = "made_up"
    def __init__(self, config=None, *, timestamps="centres", seed=0, decoder=False):
        c = config or Config()
        grid = Grid(40, 80, c.patch_frames, c.patch_bands)
        super().__init__(c, LogMel(), grid, c.width, class_token=c.class_token, timestamps=timestamps)
        self.normalise = Standardise(ddof=0)
        with torch.device("meta"):
            head = MaskedDecoder(c.width, c.decoder_width, (), grid.tokens, grid.pixels, self.class_rows)
            blocks = (nn.Linear(c.width, c.width) for _ in range(c.depth))
            self.build(blocks, nn.LayerNorm(c.width), head if decoder else None, trained_positions=True)
        if seed is not None:
            materialise(self)
            rng = torch.Generator().manual_seed(seed)
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=0.1, generator=rng)
    def training_view(self, clip, rng):
        crop = clip[int(rng.integers(0, max(1, len(clip) - 40))) :][:40]
        return ((np.pad(crop, ((0, 40 - len(crop)), (0, 0)), mode="wrap") + 6) / 6).astype(np.float32)
    def reconstruct(self, units, noise, target_units=None):
        return self.reconstruct_dropped(units, noise, target_units, 0.5)

def infer(shapes, trainer, given):
    return {**patch_encoder(shapes, "width", "depth"), **masked_decoder(shapes), **given}
OFFICIAL = Official("torch", [Rule("net.{path}", "{path}")], lambda keys: None, infer)
def load_model(model_file_path="", **options):
    return zoo.load_model(model_file_path, family="made_up", **options)
'''


@pytest.fixture
def made_up(tmp_path, monkeypatch, request):
    """The family in a folder of its own, beside those of the package; nothing else knows of it.

    A test's parameter replaces the line with `OFFICIAL`.
    """
    lines = FAMILY.splitlines()
    if official := getattr(request, "param", None):
        lines = [official if line.startswith("OFFICIAL") else line for line in lines]
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "made_up.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(hear_models, "__path__", [*hear_models.__path__, str(tmp_path / "families")])
    monkeypatch.chdir(tmp_path)
    yield "made_up"
    sys.modules.pop("hear_models.made_up", None)
