"""The range whose quantized distribution tells least apart from the real one (Kullback-Leibler divergence).

The method of Migacz, "8-bit inference with TensorRT" (GTC 2017), for u8 with a zero point: both ends of the
range are searched, and the levels are those that the quantizer really has. Exact zeros, the spike that a
Relu leaves, do not count: they are exact in every range.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.observers.base import Histogram
from pyruntime.quantize.observers.search import search
from pyruntime.quantize.ranges import U8_STEPS, Range, activation_params


class Entropy(Histogram):
    def _choose(self) -> Range:
        used = np.flatnonzero(self.counts)
        centers, counts = self.centers[used], self.counts[used].astype(np.float64)
        return search(Range(self.low, self.high), lambda candidate: divergence(candidate, centers, counts))


def divergence(candidate: Range, centers: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> float:
    """KL(P || Q) over the bins (ascending) inside the range, in nats; infinite if none is.

    P: the counts, what is clipped on either side added to the first and the last bin. Q: the counts inside,
    those of a level spread evenly over its bins that are not empty.
    """
    scale, zero_point = activation_params(candidate)
    levels = np.rint(centers / float(scale)) + int(zero_point)
    below, above = levels < 0, levels > U8_STEPS
    inside = ~(below | above)
    if not inside.any():
        return float("inf")
    kept = counts[inside]
    index = levels[inside].astype(np.intp)
    spread = np.bincount(index, kept) / np.maximum(np.bincount(index), 1)
    q = spread[index]
    p = kept.copy()
    p[0] += counts[below].sum()
    p[-1] += counts[above].sum()
    return float(np.dot(p, np.log((p / p.sum()) / (q / q.sum()))) / p.sum())
