"""What all observers share: finite values only, the extremes, and a histogram that grows with its data."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.errors import DataError
from pyruntime.quantize.ranges import Range

BINS = 2048
# The extremes see every value; the histogram at most this many of a batch, evenly spaced.
SAMPLE = 1 << 18


class Extremes:
    """Minimum and maximum of the finite values seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.low = np.inf
        self.high = -np.inf
        self._warned = False

    def update(self, values: npt.NDArray[Any]) -> None:
        finite = self._finite(values)
        if finite.size:
            self.low = min(self.low, float(finite.min()))
            self.high = max(self.high, float(finite.max()))
            self._observe(finite)

    def range(self) -> Range:
        if self.low > self.high:
            raise DataError(
                f"tensor '{self.name}': no finite value in the calibration data; check the data and the model"
            )
        return self._choose()

    def _observe(self, finite: npt.NDArray[Any]) -> None:
        """Take a batch of finite values, at least one."""

    def _choose(self) -> Range:
        return Range(self.low, self.high)

    def _finite(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        flat = np.asarray(values).reshape(-1)
        # NaN and infinities show in the extremes, so the usual case needs no mask.
        if flat.size == 0 or (np.isfinite(flat.min()) and np.isfinite(flat.max())):
            return flat
        finite: npt.NDArray[Any] = flat[np.isfinite(flat)]
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"tensor '{self.name}': {flat.size - finite.size} NaN or infinite values left out",
                RuntimeWarning,
                stacklevel=3,
            )
        return finite


class Histogram(Extremes):
    """Adds counts of the values other than 0 in `BINS` equal bins, and the count of exact zeros.

    The bins cover [start, start + BINS * width]. When a value falls outside, neighbouring bins merge and the
    width doubles until it fits, so memory is fixed and no count is lost.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0
        self.start = 0.0
        self.width = 0.0

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        """Middle of each bin."""
        centers: npt.NDArray[np.float64] = np.arange(BINS, dtype=np.float64)
        centers += 0.5
        centers *= self.width
        centers += self.start
        return centers

    @property
    def total(self) -> int:
        """Values counted."""
        return int(self.counts.sum()) + self.zeros

    def _observe(self, finite: npt.NDArray[Any]) -> None:
        sample = finite[:: -(-finite.size // SAMPLE)]
        values = sample[sample != 0].astype(np.float64)
        self.zeros += sample.size - values.size
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if self.width == 0.0:
            self._begin(low, high)
        self._grow(low, high)
        index = ((values - self.start) * (1.0 / self.width)).astype(np.int64)
        self.counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def _begin(self, low: float, high: float) -> None:
        span = max(high - low, max(abs(low), abs(high)) * 1e-3)
        self.start = low
        self.width = max(span / BINS, 1e-300)

    def _grow(self, low: float, high: float) -> None:
        while low < self.start:
            self.start -= BINS * self.width
            self.counts = np.concatenate([np.zeros(BINS // 2, np.int64), self._merged()])
            self.width *= 2
        while high > self.start + BINS * self.width:
            self.counts = np.concatenate([self._merged(), np.zeros(BINS // 2, np.int64)])
            self.width *= 2

    def _merged(self) -> npt.NDArray[np.int64]:
        pairs: npt.NDArray[np.int64] = self.counts.reshape(-1, 2).sum(axis=1)
        return pairs
