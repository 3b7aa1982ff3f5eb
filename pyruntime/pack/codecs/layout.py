"""The matrix view [O, K] that the sparse codecs store: K runs over (kh, kw, c), channels innermost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyruntime.program import Array

# What a codec may know of a constant beyond its values (`Constant.storage`), what it writes into the program
# beside the parts, and both results of encoding.
Storage = Mapping[str, Any]
Options = Mapping[str, object]
Encoded = tuple[dict[str, Array], dict[str, Any]]

# A codec that draws weights from fewer values may not claim more of them than this for each value.
MAX_REPEAT = 1 << 16


def applies(array: Array) -> bool:
    """Whether sparse codecs store this array: s8 or f32, rank 2 or more, not empty."""
    return array.dtype in (np.int8, np.float32) and array.ndim >= 2 and array.size > 0


def dimensions(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(O, taps, C) of a shape of rank 2 or more."""
    if len(shape) < 2:
        raise ValueError(f"rank {len(shape)}, expected 2 or more")
    return shape[0], math.prod(shape[2:]), shape[1]


def to_matrix(array: Array) -> Array:
    """[O, C, ...] to [O, taps*C]."""
    rows, taps, channels = dimensions(array.shape)
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)).reshape(rows, taps * channels)


def from_matrix(matrix: Array, shape: tuple[int, ...]) -> Array:
    """Inverse of `to_matrix`; of 8-bit weights a view, whose channels stay innermost in memory."""
    rows, taps, channels = dimensions(shape)
    if taps == 1 or channels == 1:
        return matrix.reshape(shape)
    if matrix.itemsize == 1:
        return np.moveaxis(matrix.reshape(rows, *shape[2:], channels), -1, 1)
    cells = matrix.reshape(rows, taps, channels)
    array = np.empty((rows, channels, taps), dtype=matrix.dtype)
    for tap in range(taps):  # twice as fast as one copy of the transposed view
        array[:, :, tap] = cells[:, tap, :]
    return array.reshape(shape)


def to_blocks(array: Array) -> Array:
    """[O, C, ...] to [O, taps*ceil(C/4), 4]; the missing channels of a partial block are zero."""
    rows, taps, channels = dimensions(array.shape)
    cells = to_matrix(array).reshape(rows, taps, channels)
    padded = np.pad(cells, ((0, 0), (0, 0), (0, -channels % 4)))
    return padded.reshape(rows, taps * (padded.shape[2] // 4), 4)


def from_blocks(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Inverse of `to_blocks`; the missing channels are dropped."""
    rows, taps, channels = dimensions(shape)
    cells = np.ascontiguousarray(blocks.reshape(rows, taps, -1)[:, :, :channels])
    return from_matrix(cells, shape)


def pack_bits(bits: Array) -> Array:
    """Booleans [O, n] to bytes [O, ceil(n/8)], least significant bit first."""
    return np.packbits(bits, axis=1, bitorder="little")


def unpack_bits(mask: Array, rows: int, count: int) -> Array:
    """Inverse of `pack_bits`; refuses a mask of another shape and bits set in the unused end of a row."""
    expect(mask, np.dtype(np.uint8), (rows, -(-count // 8)), "mask")
    bits = np.unpackbits(mask, axis=1, bitorder="little")
    if bits[:, count:].any():
        raise ValueError("mask has bits set beyond the end of a row")
    result: Array = bits[:, :count].view(bool)
    return result


def expect(part: Array, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> None:
    """Refuses a part of another dtype or shape than the header implies."""
    if part.dtype != dtype or part.shape != shape:
        raise ValueError(f"{name} is {part.dtype} {list(part.shape)}, expected {dtype} {list(shape)}")


def names(parts: dict[str, Array], expected: tuple[str, ...]) -> list[Array]:
    """The parts in the order asked; refuses missing ones."""
    missing = [name for name in expected if name not in parts]
    if missing:
        raise ValueError(f"part {missing[0]!r} is missing")
    return [parts[name] for name in expected]


def total_bytes(parts: Mapping[str, Array]) -> int:
    """Bytes of all parts."""
    return sum(part.nbytes for part in parts.values())


def whole(options: Options, key: str, low: int, high: int) -> int:
    """Whole number among the options of a codec; ValueError if it is none or out of range."""
    value = options.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"option {key!r} is {value!r:.40}, expected {low}..{high}")
    return value
