"""Codec `nm2_4`: of every four consecutive channels of one tap at most two are not zero; two are stored.

A group with fewer than two nonzero entries stores zeros at the lowest free positions, so every group has two
distinct positions in ascending order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.pack.codecs import layout
from pyruntime.program import Array

PARTS = ("values", "index")


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if not _fits(array):
        return None
    blocks = layout.to_blocks(array)
    # A stable sort of "is zero" puts the nonzero positions first, then the lowest zero ones.
    positions = np.sort(np.argsort(blocks == 0, axis=2, kind="stable")[:, :, :2], axis=2)
    values = np.take_along_axis(blocks, positions, axis=2)
    nibbles = (positions[:, :, 0] | positions[:, :, 1] << 2).astype(np.uint8)
    padded = np.pad(nibbles, ((0, 0), (0, nibbles.shape[1] % 2)))
    return {"values": values, "index": padded[:, 0::2] | padded[:, 1::2] << 4}, {}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    values, index = layout.names(parts, PARTS)
    rows, taps, channels = layout.dimensions(shape)
    groups = taps * (-(-channels // 4))
    layout.expect(values, dtype, (rows, groups, 2), "values")
    layout.expect(index, np.dtype(np.uint8), (rows, -(-groups // 2)), "index")
    nibbles = np.stack((index & 15, index >> 4), axis=2).reshape(rows, -1)[:, :groups]
    first, second = nibbles & 3, nibbles >> 2
    if (first >= second).any():
        raise ValueError("index has a group whose two positions are not ascending")
    blocks = np.zeros((rows, groups, 4), dtype=dtype)
    for position in range(4):
        # Exactly one of the two can match; choosing by mask is faster than a scatter.
        at_first = np.where(first == position, values[:, :, 0], 0)
        blocks[:, :, position] = np.where(second == position, values[:, :, 1], at_first)
    return layout.from_blocks(blocks, shape)


def _fits(array: Array) -> bool:
    if not layout.applies(array):
        return False
    if array.shape[1] % 4 == 0 and 2 * np.count_nonzero(array) > array.size:
        return False  # cheap refusal of what is plainly not 2:4
    nonzero = np.count_nonzero(layout.to_blocks(array), axis=2)
    return bool((nonzero <= 2).all())
