"""Codec `planes`: float32 values as four planes of bytes, entropy coded.

Signs and exponents of trained values repeat; mantissas cut to 16 bits leave planes of zeros.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pyruntime.pack.codecs import layout, stored
from pyruntime.program import Array

PARTS = ("data",)
PLANES = 4


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if array.dtype != np.float32 or array.size == 0:
        return None
    return {"data": store_floats(array.reshape(-1))}, {}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    (data,) = layout.names(parts, PARTS)
    if dtype != np.float32:
        raise ValueError(f"dtype {dtype}, expected float32")
    return load_floats(data, math.prod(shape)).reshape(shape)


def store_floats(vector: Array) -> Array:
    """Byte string u8 [n] of float32 values [count]."""
    little = vector.astype("<f4").view(np.uint8).reshape(-1, PLANES)
    return stored.store(np.ascontiguousarray(little.T))


def load_floats(data: Array, count: int) -> Array:
    """Inverse of `store_floats`."""
    planes = stored.load(data, PLANES, count)
    return np.ascontiguousarray(planes.T).view("<f4").reshape(-1).astype(np.float32, copy=False)
