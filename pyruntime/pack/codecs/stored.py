"""Small whole numbers as bytes, in the shortest of three ways. What several codecs build on.

A stored matrix is a byte string that begins with its kind:

    0   an interval: its first and last value, then each entry's distance from the first
    1   a table: the number of different values - 1, these values, then each entry's place among them
    2   an entropy-coded block (docs/format.md, section 4)

Values are bytes; distances count modulo 256 and so suit signed ones. Distances and places take as few bits as
the largest one needs, row after row, least significant bit first. If all entries are one value that is none:
zeros follow until the string has a byte for every 65,536 entries.
"""

from __future__ import annotations

import numpy as np

from pyruntime.pack import entropy
from pyruntime.pack.entropy.bits import distinct
from pyruntime.program import Array

INTERVAL, TABLE, ENTROPY = range(3)
# A vector is coded as this many rows, so that the interleaved coders have something to do.
VECTOR_ROWS = 8


def store(matrix: Array) -> Array:
    """Byte string u8 [n] of an 8-bit matrix (rank 2, not empty) or vector."""
    matrix = _as_matrix(matrix)
    first, last = int(matrix.min()), int(matrix.max())
    values, places = distinct(matrix.view(np.uint8))
    interval_width, table_width = (last - first).bit_length(), (values.size - 1).bit_length()
    interval_bytes = 3 + _packed_bytes(matrix.size, interval_width)
    table_bytes = 2 + values.size + _packed_bytes(matrix.size, table_width)
    block = entropy.compress(matrix.view(np.uint8), signed=matrix.dtype == np.int8)
    if block is not None and 1 + block.size < min(interval_bytes, table_bytes):
        return np.concatenate([np.array([ENTROPY], np.uint8), block])
    if interval_bytes <= table_bytes:
        distance = (matrix.astype(np.int64).reshape(-1) - first).astype(np.uint8)
        head = np.array([INTERVAL, first % 256, last % 256], np.uint8)
        if interval_width == 0:
            return np.append(head, np.zeros(_packed_bytes(matrix.size, 0), np.uint8))
        return np.concatenate([head, _pack(distance, interval_width)])
    index = places[matrix.view(np.uint8)].reshape(-1).astype(np.uint8)
    head = np.concatenate([np.array([TABLE, values.size - 1], np.uint8), values])
    return np.concatenate([head, _pack(index, table_width)])


def load(data: Array, rows: int, columns: int, out: Array | None = None) -> Array:
    """The matrix u8 [rows, columns]; ValueError (one clause) for anything malformed.

    out: memory u8 [rows * columns] that an entropy-coded one is decoded into.
    """
    if data.dtype != np.uint8 or data.ndim != 1 or data.size < 3:
        raise ValueError(f"stored values are {data.dtype} {list(data.shape)}, expected uint8 [n]")
    if data[0] == ENTROPY:
        return entropy.decompress(data[1:], rows, columns, out)
    if data[0] == INTERVAL:
        count, packed = (int(data[2]) - int(data[1])) % 256 + 1, data[3:]
        values = (np.arange(count) + data[1]).astype(np.uint8)
    elif data[0] == TABLE:
        count = int(data[1]) + 1
        values, packed = data[2 : 2 + count], data[2 + count :]
    else:
        raise ValueError(f"stored values are of kind {data[0]}, expected 0..{ENTROPY}")
    width = (count - 1).bit_length()
    if values.size != count or packed.size != _packed_bytes(rows * columns, width):
        raise ValueError(f"stored values are {data.size} bytes, too many or too few for {rows} x {columns}")
    index = _unpack(packed, rows * columns, width)
    if index.size and int(index.max()) >= count:
        raise ValueError(f"stored values have an index beyond the {count} values")
    result: Array = values[index].reshape(rows, columns)
    return result


def load_vector(data: Array, count: int) -> Array:
    """The vector u8 [count] that `store` was given."""
    columns = -(-count // VECTOR_ROWS)
    return load(data, VECTOR_ROWS, columns).reshape(-1)[:count]


def _as_matrix(array: Array) -> Array:
    if array.ndim == 2:
        return np.ascontiguousarray(array)
    return np.pad(array, (0, -array.size % VECTOR_ROWS)).reshape(VECTOR_ROWS, -1)


def _packed_bytes(count: int, width: int) -> int:
    """Bytes after the head of so many distances or places; heads of one value have 3 bytes."""
    return -(-count * width // 8) if width else max(0, -(-count // entropy.MAX_EXPANSION) - 3)


def _pack(index: Array, width: int) -> Array:
    bits = np.unpackbits(index[:, None], axis=1, count=width, bitorder="little")
    return np.packbits(bits.reshape(-1), bitorder="little")


def _unpack(packed: Array, count: int, width: int) -> Array:
    bits = np.unpackbits(packed, count=count * width, bitorder="little")
    padded = np.zeros((count, 8), np.uint8)
    padded[:, :width] = bits.reshape(count, width)
    return np.packbits(padded, axis=1, bitorder="little").reshape(-1)
