"""N:M: of every M consecutive input channels of one tap, the N best stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyruntime.prune.granularity.blocks import too_narrow


@dataclass(frozen=True)
class Pattern:
    keep: int
    of: int
    size = 1
    fixed = True

    @property
    def name(self) -> str:
        return f"{self.keep}:{self.of}"

    def skip_reason(self, channels: int, depthwise: bool) -> str:
        return too_narrow(channels, self.of, depthwise)

    def group(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return scores

    def spread(self, keep: npt.NDArray[np.bool_], channels: int) -> npt.NDArray[np.bool_]:
        return keep

    def pattern(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Mask of the N highest scores of each M; the lower channel wins a tie.

        A partial last group keeps at most N as well.
        """
        channels = scores.shape[-1]
        padding = -channels % self.of
        padded = np.pad(scores, [(0, 0)] * (scores.ndim - 1) + [(0, padding)], constant_values=-1.0)
        groups = padded.reshape(*scores.shape[:-1], -1, self.of)
        order = np.argsort(-groups, axis=-1, kind="stable")
        keep = np.zeros(groups.shape, bool)
        np.put_along_axis(keep, order[..., : self.keep], True, axis=-1)
        return keep.reshape(padded.shape)[..., :channels]

    def droppable(self, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The costs, infinite too where an entry has to stay, since its group has no more than N others.

        Args:
            costs: of dropping each entry, `[..., channels]`; infinite for those that are gone.
        """
        channels = costs.shape[-1]
        padded = np.pad(
            costs, [(0, 0)] * (costs.ndim - 1) + [(0, -channels % self.of)], constant_values=np.inf
        )
        groups = padded.reshape(*costs.shape[:-1], -1, self.of)
        rank = np.argsort(np.argsort(groups, axis=-1, kind="stable"), axis=-1, kind="stable")
        surplus = np.isfinite(groups).sum(axis=-1, keepdims=True) - self.keep
        return np.where(rank < surplus, groups, np.inf).reshape(padded.shape)[..., :channels]
