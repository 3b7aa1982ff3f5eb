"""Bits of a byte string, least significant first."""

from __future__ import annotations

import numpy as np

from pyruntime.program import Array


class BitWriter:
    """Collects bits."""

    def __init__(self) -> None:
        self._bits: list[Array] = []

    def put(self, value: int, width: int) -> None:
        self.put_all(np.array([value]), width)

    def put_all(self, values: Array, width: int) -> None:
        """Each value in `width` bits."""
        wide = np.asarray(values, np.int64).reshape(-1, 1)
        self._bits.append((wide >> np.arange(width) & 1).astype(np.uint8).reshape(-1))

    def rice(self, values: Array, width: int) -> None:
        """Each value >= 0 as its quotient by `2^width` in ones, a zero, and `width` bits."""
        for value in values.tolist():
            quotient = value >> width
            self._bits.append(np.array([1] * quotient + [0], np.uint8))
            self.put(value & ((1 << width) - 1), width)

    def bytes(self) -> Array:
        return np.packbits(np.concatenate(self._bits), bitorder="little")


def rice_bits(values: Array, width: int) -> int:
    """Bits that `BitWriter.rice` takes."""
    return int((values >> width).sum()) + values.size * (1 + width)
