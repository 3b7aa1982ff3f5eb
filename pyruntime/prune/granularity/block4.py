"""1x4 blocks: four consecutive input channels of one tap, the unit of the int8 dot product instructions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyruntime.prune.granularity import blocks


class Block4:
    name = "block4"
    size = blocks.SIZE
    fixed = False

    def skip_reason(self, channels: int, depthwise: bool) -> str:
        return blocks.too_narrow(channels, depthwise)

    def group(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return blocks.means(scores)

    def spread(self, keep: npt.NDArray[np.bool_], channels: int) -> npt.NDArray[np.bool_]:
        return np.repeat(keep, blocks.SIZE, axis=-1)[..., :channels]

    def pattern(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        raise NotImplementedError("block pruning has no fixed pattern")
