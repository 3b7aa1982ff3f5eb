"""Codec `block4`: one bit per block of four consecutive channels of one tap; stored blocks follow."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.pack.codecs import layout
from pyruntime.program import Array

PARTS = ("mask", "values")


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if not layout.applies(array):
        return None
    blocks = layout.to_blocks(array)
    stored = np.asarray(blocks.any(axis=2))
    return {"mask": layout.pack_bits(stored), "values": blocks[stored]}, {}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    mask, values = layout.names(parts, PARTS)
    rows, taps, channels = layout.dimensions(shape)
    stored = layout.unpack_bits(mask, rows, taps * (-(-channels // 4)))
    layout.expect(values, dtype, (int(np.count_nonzero(stored)), 4), "values")
    # One block is one element of this view, which makes the scatter a single pass.
    block = np.dtype((np.void, 4 * dtype.itemsize))
    blocks = np.zeros((stored.size, 4), dtype=dtype)
    blocks.view(block)[:, 0][np.flatnonzero(stored)] = np.ascontiguousarray(values).view(block)[:, 0]
    return layout.from_blocks(blocks, shape)
