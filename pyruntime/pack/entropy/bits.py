"""Bits of a byte string, least significant first."""

from __future__ import annotations

import numpy as np

from pyruntime.program import Array


def distinct(symbols: Array) -> tuple[Array, Array]:
    """The different values of bytes, ascending (u8), and a table [256] of where each one is among them."""
    values = np.flatnonzero(np.bincount(symbols.reshape(-1), minlength=256)).astype(np.uint8)
    places = np.zeros(256, np.int64)
    places[values] = np.arange(values.size)
    return values, places


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
        quotients = values >> width
        ends = np.cumsum(quotients + 1 + width)
        bits = np.ones(int(ends[-1]) if values.size else 0, np.uint8)
        zeros = ends - 1 - width
        bits[zeros] = 0
        for bit in range(width):
            bits[zeros + 1 + bit] = values >> bit & 1
        self._bits.append(bits)

    def bytes(self) -> Array:
        return np.packbits(np.concatenate(self._bits), bitorder="little")


def rice_bits(values: Array, width: int) -> int:
    """Bits that `BitWriter.rice` takes."""
    return int((values >> width).sum()) + values.size * (1 + width)
