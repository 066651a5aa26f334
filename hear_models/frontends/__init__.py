"""From waveforms to what a network sees; every front end is a plain module, usable alone in anybody's network."""

from __future__ import annotations

from hear_models.frontends.leaf import Leaf
from hear_models.frontends.log_spectrogram import LogSpectrogram
from hear_models.frontends.logmel import LogMel
from hear_models.frontends.pcen import PCEN
from hear_models.frontends.sincnet import SincNet
from hear_models.frontends.spectrogram import Spectrogram
from hear_models.frontends.uncentred_logmel import UncentredLogMel

__all__ = ["PCEN", "Leaf", "LogMel", "LogSpectrogram", "SincNet", "Spectrogram", "UncentredLogMel"]
