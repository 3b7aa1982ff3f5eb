"""Blocks of consecutive input channels of one tap, as the packed file's codecs cut them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZE = 4


def means(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`[..., channels]` -> `[..., ceil(channels / 4)]`; a partial block is the mean of what it has."""
    channels = scores.shape[-1]
    starts = np.arange(0, channels, SIZE)
    sums: npt.NDArray[np.float64] = np.add.reduceat(scores, starts, axis=-1)
    sums /= np.minimum(SIZE, channels - starts)
    return sums


def too_narrow(channels: int, depthwise: bool) -> str:
    """Why a layer cannot hold blocks of 4 channels; empty if it can."""
    if depthwise:
        return "depthwise"
    return f"{channels} input channels, fewer than {SIZE}" if channels < SIZE else ""
