"""The levels a weight may take once it is quantized, frozen before its values are rounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.ranges import S8_MAX


@dataclass(frozen=True, eq=False)
class Grid:
    """`scales[o] * q` with integer q in [-127, 127] for output channel o; zero is always on it.

    Attributes:
        scales: float32 `[out]`.
    """

    scales: npt.NDArray[np.float32]

    def round(self, values: npt.NDArray[Any], columns: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Nearest levels, real numbers.

        Args:
            values: `[out, n]`, weights of all output channels.
            columns: `[n]`, which of the `taps * in` columns of the weight these are.
        """
        steps = self.scales.astype(np.float64)[:, None]
        rounded: npt.NDArray[np.float64] = np.clip(np.rint(values / steps), -S8_MAX, S8_MAX) * steps
        return rounded
