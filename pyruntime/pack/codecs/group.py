"""Codec `group`: 8-bit values that are a small integer times the multiplier of their group of columns.

`storage["group"]` of a constant states the size of the groups: consecutive entries of a row of the matrix
[O, K]; the last group of a row may be short.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.pack.codecs import layout, stored
from pyruntime.program import Array

PARTS = ("values", "multipliers")


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if "group" not in storage or array.dtype != np.int8 or array.ndim < 2 or array.size == 0:
        return None
    size = int(storage["group"])
    matrix = layout.to_matrix(array)
    padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % size))).reshape(len(matrix), -1, size)
    # The greatest common divisor of a group; of a group of zeros 1.
    multipliers = np.maximum(np.gcd.reduce(padded.astype(np.int64), axis=2), 1)
    values = (padded // multipliers[:, :, None]).reshape(len(matrix), -1)[:, : matrix.shape[1]]
    parts = {
        "values": stored.store(values.astype(np.int8)),
        "multipliers": stored.store(multipliers.astype(np.uint8)),
    }
    return parts, {"group": size}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    values, multipliers = layout.names(parts, PARTS)
    rows, taps, channels = layout.dimensions(shape)
    size = layout.whole(options, "group", 1, 1 << 24)
    if dtype != np.int8:
        raise ValueError(f"dtype {dtype}, expected int8")
    small = stored.load(values, rows, taps * channels).view(np.int8)
    factors = stored.load(multipliers, rows, -(-taps * channels // size))
    wide = np.repeat(factors.astype(np.int16), size, axis=1)[:, : taps * channels] * small
    if wide.size and (wide.min() < -128 or wide.max() > 127):
        raise ValueError("a value times its multiplier does not fit 8 bits")
    return layout.from_matrix(wide.astype(np.int8), shape)
