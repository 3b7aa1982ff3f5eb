"""Magnitude: the squared weight, so that a block is judged by its L2 norm (Han et al. 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def scores(weight: npt.NDArray[Any], name: str) -> npt.NDArray[np.float64]:
    """`weight ** 2` in float64: no overflow, and no underflow of normal float32 weights."""
    return np.square(weight.astype(np.float64))
