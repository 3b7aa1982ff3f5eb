"""Codec `packed`: 8-bit values in as few bits as their number needs, or entropy coded, whichever is less.

So it holds weights of 2 to 7 bits, codebooks (indices and their table) and sparse weights alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.pack.codecs import layout, stored
from pyruntime.program import Array

PARTS = ("data",)


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if array.dtype not in (np.int8, np.uint8) or array.ndim == 0 or array.size == 0:
        return None
    return {"data": stored.store(array if array.ndim == 1 else layout.to_matrix(array))}, {}


def decode(
    parts: dict[str, Array],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    options: layout.Options,
    out: Array | None = None,
) -> Array:
    """As every codec's; `out` (u8, as many entries) is memory that may be used for the result."""
    (data,) = layout.names(parts, PARTS)
    if dtype not in (np.int8, np.uint8):
        raise ValueError(f"dtype {dtype}, expected int8 or uint8")
    if len(shape) == 1:
        return stored.load_vector(data, shape[0]).view(dtype)
    rows, taps, channels = layout.dimensions(shape)
    return layout.from_matrix(stored.load(data, rows, taps * channels, out).view(dtype), shape)
