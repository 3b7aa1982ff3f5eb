"""The mean over samples of the smallest and the largest value of each: single outliers hardly move it.

A running mean with equal weights, so that neither the order of the samples nor the size of a batch matters
(an exponential average forgets the first samples).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.observers.base import Extremes
from pyruntime.quantize.ranges import Range


class Average(Extremes):
    """First axis = samples. A sample without a finite value does not count."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._samples = 0
        self._low_sum = 0.0
        self._high_sum = 0.0

    def update(self, values: npt.NDArray[Any]) -> None:
        super().update(values)
        if values.size == 0:
            return
        rows = values.reshape(len(values) if values.ndim else 1, -1)
        finite = np.isfinite(rows)
        low = np.where(finite, rows, np.inf).min(axis=1).astype(np.float64)
        high = np.where(finite, rows, -np.inf).max(axis=1).astype(np.float64)
        counted = finite.any(axis=1)
        self._samples += int(np.count_nonzero(counted))
        self._low_sum += float(low[counted].sum())
        self._high_sum += float(high[counted].sum())

    def _choose(self) -> Range:
        return Range(self._low_sum / self._samples, self._high_sum / self._samples)
