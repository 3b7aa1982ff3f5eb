"""Codec `dense`: the array itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.pack.codecs import layout
from pyruntime.program import Array

PARTS = ("",)


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    return {"": np.ascontiguousarray(array).reshape(array.shape)}, {}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    (array,) = layout.names(parts, PARTS)
    layout.expect(array, dtype, shape, "tensor")
    return np.array(array)  # a copy: the part may be a view of a mapped file
