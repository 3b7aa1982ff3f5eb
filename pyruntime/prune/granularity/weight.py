"""Single weights (unstructured)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Weight:
    name = "weight"
    size = 1
    fixed = False

    def skip_reason(self, channels: int, depthwise: bool) -> str:
        return ""

    def group(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return scores

    def spread(self, keep: npt.NDArray[np.bool_], channels: int) -> npt.NDArray[np.bool_]:
        return keep

    def pattern(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        raise NotImplementedError("unstructured pruning has no fixed pattern")

    def droppable(self, costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        raise NotImplementedError("unstructured pruning has no fixed pattern")
