"""Random scores: the baseline every criterion must beat. Seeded by the tensor's name, so runs repeat."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt


def scores(weight: npt.NDArray[Any], name: str) -> npt.NDArray[np.float64]:
    """Uniform in (0, 1); a weight that is already zero scores 0, so it is pruned first."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    return np.where(weight == 0, 0.0, 1.0 - generator.random(weight.shape))
