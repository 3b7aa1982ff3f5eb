"""1xN blocks: N consecutive input channels of one tap. Four are what an int8 dot product instruction adds up.

A last block that is cut short by the number of channels counts as a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Blocks:
    size: int
    fixed = False

    @property
    def name(self) -> str:
        return f"block{self.size}"

    def skip_reason(self, channels: int, depthwise: bool) -> str:
        return too_narrow(channels, self.size, depthwise)

    def group(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A partial block is the mean of what it has."""
        channels = scores.shape[-1]
        starts = np.arange(0, channels, self.size)
        sums: npt.NDArray[np.float64] = np.add.reduceat(scores, starts, axis=-1)
        sums /= np.minimum(self.size, channels - starts)
        return sums

    def spread(self, keep: npt.NDArray[np.bool_], channels: int) -> npt.NDArray[np.bool_]:
        return np.repeat(keep, self.size, axis=-1)[..., :channels]

    def pattern(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        raise NotImplementedError("block pruning has no fixed pattern")

    def droppable(self, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        raise NotImplementedError("block pruning has no fixed pattern")


def too_narrow(channels: int, size: int, depthwise: bool) -> str:
    """Why a layer cannot hold blocks of that many channels; empty if it can."""
    if depthwise:
        return "depthwise"
    return f"{channels} input channels, fewer than {size}" if channels < size else ""
