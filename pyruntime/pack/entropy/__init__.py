"""Entropy-coded blocks: a matrix of bytes under a static statistical model (docs/format.md, section 4)."""

from __future__ import annotations

import numpy as np

from pyruntime import _core
from pyruntime.pack.entropy.model import Settings, best_settings, head
from pyruntime.program import Array

# A block may not claim more symbols than this for each of its bytes.
MAX_EXPANSION = 1 << 16


def compress(symbols: Array, *, signed: bool = False) -> Array | None:
    """Block (u8 [n]) of a matrix of bytes, None where there is nothing to code or a block cannot say it.

    signed: neighbours in the order of signed bytes have similar frequencies (weights); else of unsigned ones.
    """
    if symbols.size == 0:
        return None
    matrix = np.ascontiguousarray(symbols).view(np.uint8)
    block = _core.entropy.encode(head(matrix, best_settings(matrix, signed)), matrix)
    return block if matrix.size <= MAX_EXPANSION * block.size else None


def decompress(block: Array, rows: int, columns: int, out: Array | None = None) -> Array:
    """The matrix u8 [rows, columns] of a block, in the memory of `out` (u8 [rows * columns]) if given.

    ValueError (one clause) for anything malformed.
    """
    if block.dtype != np.uint8 or block.ndim != 1:
        raise ValueError(f"block is {block.dtype} {list(block.shape)}, expected uint8 [n]")
    if rows * columns == 0 or rows * columns > MAX_EXPANSION * block.size:
        raise ValueError(f"block of {block.size} bytes cannot hold {rows} x {columns} symbols")
    try:
        symbols: Array = _core.entropy.decode(
            block, rows, columns, None if out is None else out.reshape(rows, columns)
        )
    except _core.CoreError as error:
        raise ValueError(str(error).removeprefix("entropy-coded ")) from None
    return symbols


__all__ = ["Settings", "compress", "decompress"]
