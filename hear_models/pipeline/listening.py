"""From the channels of a block to the one that is embedded, and what is odd about what was heard."""

from __future__ import annotations

import os

import numpy as np

from hear_models.errors import AudioFileError, UsageError
from hear_models.files import shown

NAMED_CHANNELS = {"left": 1, "right": 2}
MIX = "mix"
EACH = "each"
FAR_OUTSIDE = 4.0  # times full scale, in float samples: no limiter and no encoder overshoots so far
FULL_SCALES = (128.0, 32768.0, 8388608.0, 2147483648.0)  # of integers that were stored as floats
CANCELLED = 0.02  # share of the channels' mean energy, times 1 / channels, below which a mix has lost the sound

Channel = str | int  # "mix", or a channel from 1


def channel_of(text: str | int) -> Channel:
    """What a user wrote for a channel → "mix", "each" or a number from 1; UsageError for anything else."""
    if text in (MIX, EACH):
        return text
    if isinstance(text, str):
        text = NAMED_CHANNELS.get(text) or (int(text) if text.isdecimal() else 0)
    if isinstance(text, bool) or not isinstance(text, int) or text < 1:
        raise UsageError(f"channel {text!r} is none. Give mix, left, right, each, or a number from 1.")
    return text


class Listener:
    """Makes blocks [frames, channels] mono [frames]; `notes` say afterwards what was odd.

    Args:
        path: of the recording, for errors.
        channels: how many it has.
        channel: "mix" or a number from 1.
        are_floats: its samples are stored as floats, which may have any range.
    """

    def __init__(self, path: str | os.PathLike[str], channels: int, channel: Channel, are_floats: bool) -> None:
        self.path, self.channel, self.are_floats = path, channel, are_floats
        self._peak = self._mixed = self._apart = 0.0
        if channel != MIX and not 1 <= int(channel) <= channels:
            raise AudioFileError(
                f"{shown(path)} has {channels} channel{'s' if channels > 1 else ''}, there is no channel {channel}. "
                "Choose another one, or mix."
            )

    def mono(self, block: np.ndarray) -> np.ndarray:
        """float32 [frames, channels] → float32 [frames]. AudioFileError for NaN and infinity."""
        channels = block.shape[1]
        if self.channel != MIX:
            mono = block[:, int(self.channel) - 1].copy()
        else:
            # by adding columns: mean(axis=1) is slow over 2 values
            mono = block[:, 0].copy()
            for channel in range(1, channels):
                mono += block[:, channel]
            if channels > 1:
                mono /= channels
        if not np.isfinite(mono).all():
            raise AudioFileError(f"{shown(self.path)} contains NaN or infinite samples. Repair or leave it out.")
        if self.channel == MIX and channels > 1:
            flat = block.reshape(-1)
            self._mixed += float(mono @ mono)
            self._apart += float(flat @ flat) / channels
        if self.are_floats:
            self._peak = max(self._peak, float(mono.max(initial=0.0)), -float(mono.min(initial=0.0)))
        return mono

    @property
    def notes(self) -> list[str]:
        """Sentences that end "read as it is" or with what to do; complete once all blocks were heard."""
        found = []
        if self._apart and self._mixed < CANCELLED * self._apart / 2:
            found.append("has channels that cancel in the mix, so hardly anything is left: choose one (--channel left)")
        if self._peak > FAR_OUTSIDE:
            factor = next((scale for scale in FULL_SCALES if self._peak <= scale), self._peak)
            found.append(
                f"has samples up to {self._peak:.6g}, far outside [-1, 1], and is read as it is: "
                f"divide them by {factor:.0f}"
            )
        return found
