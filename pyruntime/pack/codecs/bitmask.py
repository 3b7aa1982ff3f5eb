"""Codec `bitmask`: one bit per entry says whether it is stored; stored entries follow in row order."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.pack.codecs import layout
from pyruntime.program import Array

PARTS = ("mask", "values")


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if not layout.applies(array):
        return None
    matrix = layout.to_matrix(array)
    stored = matrix != 0
    return {"mask": layout.pack_bits(stored), "values": matrix[stored]}, {}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    mask, values = layout.names(parts, PARTS)
    rows, taps, channels = layout.dimensions(shape)
    stored = layout.unpack_bits(mask, rows, taps * channels)
    layout.expect(values, dtype, (int(np.count_nonzero(stored)),), "values")
    matrix = np.zeros(stored.shape, dtype=dtype)
    # Scattering to indices is several times faster than assigning through the mask.
    matrix.reshape(-1)[np.flatnonzero(stored)] = values
    return layout.from_matrix(matrix, shape)
