"""2:4: of every four consecutive input channels of one tap, the two best stay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyruntime.prune.granularity import blocks

KEEP = 2


class TwoOfFour:
    name = "2:4"
    size = 1
    fixed = True

    def skip_reason(self, channels: int, depthwise: bool) -> str:
        return blocks.too_narrow(channels, depthwise)

    def group(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return scores

    def spread(self, keep: npt.NDArray[np.bool_], channels: int) -> npt.NDArray[np.bool_]:
        return keep

    def pattern(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Mask of the two highest scores of each four; the lower channel wins a tie.

        A partial last four keeps at most two as well.
        """
        channels = scores.shape[-1]
        padding = -channels % blocks.SIZE
        padded = np.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(0, padding)], constant_values=-1.0)
        fours = padded.reshape(*scores.shape[:-1], -1, blocks.SIZE)
        order = np.argsort(-fours, axis=-1, kind="stable")
        keep = np.zeros(fours.shape, bool)
        np.put_along_axis(keep, order[..., :KEEP], True, axis=-1)
        return keep.reshape(padded.shape)[..., :channels]
