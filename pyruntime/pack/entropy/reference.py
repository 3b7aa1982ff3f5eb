"""The decoder in plain Python: the specification in code, and the oracle of the tests."""

from __future__ import annotations

import numpy as np

from pyruntime.pack.entropy.model import (
    LANE_BITS,
    MAX_CODE,
    MAX_CONTEXT_BITS,
    SCALE,
    SCALE_BITS,
    STATES,
    scaled,
    weight_of,
)
from pyruntime.program import Array

LOW = 1 << 16


class _Bits:
    def __init__(self, data: Array) -> None:
        self._bits = np.unpackbits(data, bitorder="little").tolist()
        self.position = 0

    def read(self, width: int) -> int:
        bits = self._bits[self.position : self.position + width]
        if len(bits) < width:
            raise ValueError("the head is cut off")
        self.position += width
        return sum(bit << place for place, bit in enumerate(bits))


def decode(block: Array, rows: int, columns: int) -> Array:
    """Symbols u8 [rows, columns] of a block; ValueError for anything malformed."""
    bits = _Bits(block)
    lanes = bits.read(LANE_BITS) + 1
    split, states, shared, signed, unknown = (bool(bits.read(1)) for _ in range(5))
    row_bits, column_bits = bits.read(4), bits.read(4)
    if unknown or (states and not split):
        raise ValueError("unknown flags")
    if max(row_bits, column_bits) > 4 or row_bits + column_bits > MAX_CONTEXT_BITS:
        raise ValueError("too many classes")
    first, last = bits.read(8), bits.read(8)
    alphabet = [at ^ (0x80 if signed else 0) for at in range(first, last + 1) if bits.read(1)]
    if last < first or (split and 0 in alphabet):
        raise ValueError("bad alphabet")
    row_class = [bits.read(row_bits) for _ in range(rows)]
    column_class = [bits.read(column_bits) for _ in range(columns)]
    contexts, state_count = 1 << (row_bits + column_bits), STATES if states else 1
    zero = [bits.read(SCALE_BITS + 1) for _ in range(contexts * state_count)] if split else []
    width = bits.read(2)
    tables = [_table(bits, len(alphabet), width) for _ in range(1 if shared else contexts) if alphabet]
    if any(p > SCALE for p in zero) or (not alphabet and (not split or any(p != SCALE for p in zero))):
        raise ValueError("bad frequencies")

    data = block[-(-bits.position // 8) :]
    if data.size < 4 * lanes or data.size % 2:
        raise ValueError("the data is cut off")
    x = [int(state) for state in data[: 4 * lanes].copy().view("<u4")]
    words = iter([*data[4 * lanes :].copy().view("<u2").tolist(), None])
    if any(state < LOW for state in x):
        raise ValueError("a state is out of range")

    def take(lane: int, start: int, frequency: int) -> None:
        x[lane] = frequency * (x[lane] >> SCALE_BITS) + x[lane] % SCALE - start
        if x[lane] < LOW:
            word = next(words)
            if word is None:
                raise ValueError("the data is cut off")
            x[lane] = x[lane] << 16 | word

    row_order = sorted(range(rows), key=row_class.__getitem__)
    column_order = range(columns) if states else sorted(range(columns), key=column_class.__getitem__)
    symbols = np.zeros((rows, columns), np.uint8)
    for first in range(0, rows, lanes):
        bundle = row_order[first : first + lanes]
        for k in column_order:
            nonzero = list(enumerate(bundle))
            if split:
                nonzero = []
                for lane, row in enumerate(bundle):
                    context = (row_class[row] << column_bits) + column_class[k]
                    p = zero[context * state_count + (_state(symbols[row], k) if states else 0)]
                    if x[lane] % SCALE < p:
                        take(lane, 0, p)
                    else:
                        take(lane, p, SCALE - p)
                        nonzero.append((lane, row))
            for lane, row in nonzero:
                context = (row_class[row] << column_bits) + column_class[k]
                frequency, start = tables[0 if shared else context]
                at = int(np.searchsorted(start, x[lane] % SCALE, side="right")) - 1
                take(lane, int(start[at]), int(frequency[at]))
                symbols[row, k] = alphabet[at]
    if next(words) is not None or any(state != LOW for state in x):
        raise ValueError("the data is damaged")
    return symbols


def _table(bits: _Bits, size: int, width: int) -> tuple[Array, Array]:
    """(frequency, start) of each symbol of one table."""
    codes, code = [], 0
    for _ in range(size):
        quotient = 0
        while bits.read(1):
            quotient += 1
        folded = quotient << width | bits.read(width)
        code += -((folded + 1) // 2) if folded % 2 else folded // 2
        if not 0 <= code <= MAX_CODE:
            raise ValueError("a frequency is out of range")
        codes.append(code)
    weights = weight_of(np.array(codes))
    if not weights.any():
        raise ValueError("a table has no symbol")
    frequency = scaled(weights)
    return frequency, np.cumsum(frequency) - frequency


def _state(row: Array, k: int) -> int:
    """State of the zero flag of column k from the symbols before it."""
    if k % 4 == 0:
        return int(row[max(k - 4, 0) : k].any())
    return (0, 2, 4, 7)[k % 4] + int(np.count_nonzero(row[k - k % 4 : k]))
