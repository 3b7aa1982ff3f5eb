"""Codec `hashed`: weights drawn by a hash, with a sign, from a vector; only the vector is stored.

Entry i of the matrix [O, K], counted row by row, is `sign(i) * vector[index(i)]`
(`numerics.hashed_positions`), or 0 where `mask` says so. `storage["hashed"]` of a constant states the size of
the vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.numerics import hashed_positions
from pyruntime.pack.codecs import layout, stored
from pyruntime.program import Array


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if "hashed" not in storage or array.dtype != np.int8 or array.ndim < 2 or array.size == 0:
        return None
    size = int(storage["hashed"])
    matrix = layout.to_matrix(array)
    index, sign = hashed_positions(matrix.size, size)
    flat = matrix.reshape(-1).astype(np.int64)
    vector = np.zeros(size, np.int64)
    kept = flat != 0
    vector[index[kept]] = (flat * sign)[kept]
    drawn = sign * vector[index]
    if not np.array_equal(np.where(kept, drawn, 0), flat):
        return None
    parts = {"vector": stored.store(vector.astype(np.int8))}
    if not np.array_equal(drawn, flat):
        parts["mask"] = stored.store(kept.reshape(matrix.shape).astype(np.uint8))
    return parts, {"size": size}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    (data,) = layout.names(parts, ("vector",))
    rows, taps, channels = layout.dimensions(shape)
    count = rows * taps * channels
    size = layout.whole(options, "size", 1, max(count, 1))
    if dtype != np.int8:
        raise ValueError(f"dtype {dtype}, expected int8")
    vector = stored.load_vector(data, size).view(np.int8)
    if count > layout.MAX_REPEAT * size:
        raise ValueError(f"{size} values cannot make {count} weights")
    index, sign = hashed_positions(count, size)
    drawn = vector[index]
    np.negative(drawn, out=drawn, where=sign < 0)
    if "mask" in parts:
        drawn *= stored.load(parts["mask"], rows, taps * channels).reshape(-1) != 0
    return layout.from_matrix(drawn.reshape(rows, taps * channels), shape)
