"""The range with the least mean squared error of rounding and clipping, by search over clipped ranges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.observers.base import Histogram
from pyruntime.quantize.ranges import Range, activation_params

RATIOS = np.linspace(1.0, 0.2, 81)
SWEEPS = 2


class Mse(Histogram):
    """Coordinate search: each end of the range is tried at 20 % to 100 % of what was seen, the other held."""

    def _choose(self) -> Range:
        full = Range(self.low, self.high)
        used = np.flatnonzero(self.counts)
        centers, counts = self.centers[used], self.counts[used].astype(np.float64)
        best = full
        for _ in range(SWEEPS):
            before = best
            best = self._search(
                [Range(best.low, full.high * ratio) for ratio in RATIOS], centers, counts, best.high
            )
            best = self._search(
                [Range(full.low * ratio, best.high) for ratio in RATIOS], centers, counts, best.low
            )
            if best == before:
                break
        return best

    def _search(
        self,
        candidates: list[Range],
        centers: npt.NDArray[np.float64],
        counts: npt.NDArray[np.float64],
        end: float,
    ) -> Range:
        if end == 0.0:
            return candidates[0]
        errors = [squared_error(candidate, centers, counts) for candidate in candidates]
        return candidates[int(np.argmin(errors))]


def squared_error(
    candidate: Range, centers: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> float:
    """Sum over the histogram of the squared error of u8 quantization with that range."""
    scale, zero_point = activation_params(candidate)
    step = float(scale)
    quantized = np.clip(np.rint(centers / step) + int(zero_point), 0, 255)
    return float(np.dot(counts, np.square((quantized - int(zero_point)) * step - centers)))
