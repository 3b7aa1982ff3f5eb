"""The range with the least mean squared error of rounding and clipping, by search over clipped ranges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.observers.base import Histogram
from pyruntime.quantize.observers.search import search
from pyruntime.quantize.ranges import Range, activation_params


class Mse(Histogram):
    def _choose(self) -> Range:
        used = np.flatnonzero(self.counts)
        centers, counts = self.centers[used], self.counts[used].astype(np.float64)
        return search(Range(self.low, self.high), lambda candidate: squared_error(candidate, centers, counts))


def squared_error(
    candidate: Range, centers: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]
) -> float:
    """Sum over the histogram of the squared error of u8 quantization with that range."""
    scale, zero_point = activation_params(candidate)
    step = float(scale)
    quantized = np.clip(np.rint(centers / step) + int(zero_point), 0, 255)
    return float(np.dot(counts, np.square((quantized - int(zero_point)) * step - centers)))
