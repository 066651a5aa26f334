"""COLA's contrast of segments from the same recording (Saeed et al. 2021, arXiv 2010.10915): head and loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hear_models.layers.init import lecun_normal_

EPS = 1e-6  # of layer normalisation
BILINEAR_STD = 0.01  # of the initial bilinear form


class Contrast(NamedTuple):
    """The contrast of anchors and positives: the loss (scalar), and logits [n, n], row i those of anchor i."""

    loss: Tensor
    logits: Tensor


class BilinearHead(nn.Module):
    """Projects embeddings and compares each anchor with each positive by a learned bilinear form.

    z = tanh(LayerNorm(embedding @ projection)), logits[i, j] = anchor z[i] @ W @ positive z[j]; no temperature, no bias
    in the projection.

    Args:
        width: of the embeddings.
        dim: of the projection; 512 in the paper.
    """

    def __init__(self, width: int, dim: int = 512) -> None:
        super().__init__()
        self.projection = nn.Linear(width, dim, bias=False)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.bilinear = nn.Parameter(torch.empty(dim, dim))

    def project(self, embeddings: Tensor) -> Tensor:
        """[clips, width] → [clips, dim] before the tanh."""
        return self.norm(self.projection(embeddings))

    def forward(self, anchors: Tensor, positives: Tensor) -> Tensor:
        """Embeddings [n, width] each → logits [n, n]: row i compares anchor i with every positive."""
        return self.project(anchors).tanh() @ self.bilinear @ self.project(positives).tanh().T


def initialise_head(head: BilinearHead, rng: torch.Generator) -> None:
    """LeCun's normal projection, a bilinear form near zero, normalisation as identity."""
    lecun_normal_(head.projection.weight, head.projection.in_features, rng)
    nn.init.ones_(head.norm.weight)
    nn.init.zeros_(head.norm.bias)
    nn.init.normal_(head.bilinear, std=BILINEAR_STD, generator=rng)


def contrastive_loss(logits: Tensor) -> Tensor:
    """Logits [n, n] → scalar: cross entropy of row i with target i, from anchors to positives only (not symmetric).

    Negatives of an anchor are the other positives of its batch.
    """
    return cross_entropy(logits.float(), torch.arange(len(logits), device=logits.device))
