"""Log-mel frames of a sound that is still going on: those of `LogMel` on the whole of it, as soon as each is known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from hear_models.frontends.logmel import LogMel


class RunningLogMel:
    """Frame k needs half a window of samples behind its centre; the last ones come with the end, which is reflected.

    Args:
        frontend: whose frames these are; more than half a window is common to two windows that follow each other.
    """

    def __init__(self, frontend: LogMel) -> None:
        self.frontend = frontend
        self._half = frontend.window_samples // 2
        self._kept = torch.empty(0, device=frontend.window.device)  # samples that frames to come need
        self._begun = False  # whether the first edge is reflected already

    def push(self, chunk: Tensor) -> Tensor:
        """More samples, float32 [samples], any number → the frames [frames, n_mels] that are final with them."""
        self._kept = torch.cat([self._kept, chunk])
        if not self._begun:
            if len(self._kept) < self.frontend.min_samples:
                return chunk.new_empty(0, self.frontend.n_mels)
            self._kept, self._begun = pad(self._kept[None], (self._half, 0), mode="reflect")[0], True
        frames: Tensor = self.frontend.of_padded(self._kept[None])[0]
        self._kept = self._kept[len(frames) * self.frontend.hop_samples :]
        return frames

    def finish(self) -> Tensor:
        """No more samples: the last frames [frames, n_mels]. One shorter than `min_samples` is followed by zeros."""
        missing = 0 if self._begun else self.frontend.min_samples - len(self._kept)
        frames = self.push(self._kept.new_zeros(missing))
        return torch.cat([frames, self.frontend.of_padded(pad(self._kept[None], (0, self._half), mode="reflect"))[0]])
