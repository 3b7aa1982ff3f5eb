"""The model of an entropy-coded block: chosen from the data, written as the head of the block.

Trained weights are not independent draws of one distribution: whole input channels are dead, output channels
differ in spread. So rows and columns fall into classes, and a symbol's frequencies depend on the class of its
row and of its column. Classes are chosen to minimise the code length (co-clustering by information, Dhillon
et al. 2003). Where zeros come in blocks (1x4, 2:4) the flags before a symbol tell more; that is `states`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyruntime.pack.entropy.bits import BitWriter, distinct, rice_bits
from pyruntime.program import Array

SCALE_BITS = 12
SCALE = 1 << SCALE_BITS
LANE_BITS = 5
STATES = 11
MAX_CODE = 47
MAX_CONTEXT_BITS = 6
ROUNDS = 4
# Interleaved coders of a block: many decode faster, but each takes about 3 bytes.
LEAST_LANES, MAX_LANES, LANE_BYTES = 8, 1 << LANE_BITS, 3
LANE_COST = 0.0015
# What is tried: (row bits, column bits). More contexts than 16 leave the cache and gain next to nothing.
CLASS_BITS = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2), (0, 4))
# Up to so many rows (the 4 bytes of floats, by millions) are classes of their own, and columns, which would
# take minutes to cluster, are only told apart by being all zero, as those of a pruned weight are.
FEW_ROWS = 4
# Settings are tried on about this many symbols, of an even sample of the rows, or of the columns of few rows.
SAMPLE, MIN_ROWS = 1 << 17, 64
# Flags apart from the symbols are tried below this density, and must save this share of the size.
SPLIT_DENSITY, FLAG_COST = 0.5, 0.01
# Symbols as classes of magnitude while clustering, if there are more of them than this.
FEW_SYMBOLS = 40

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """What the model conditions on.

    Attributes:
        row_class, column_class: class of each row and column, below `2^row_bits` and `2^column_bits`.
        split: zero flags are coded apart. states: they depend on the flags before them in groups of four.
        shared: one table of frequencies for all classes (flags still differ).
        signed: the order of the alphabet.
    """

    row_class: Ints
    column_class: Ints
    row_bits: int = 0
    column_bits: int = 0
    split: bool = False
    states: bool = False
    shared: bool = False
    signed: bool = False

    @property
    def contexts(self) -> int:
        return 1 << (self.row_bits + self.column_bits)


def best_settings(symbols: Array, signed: bool) -> Settings:
    """Settings of least estimated size."""
    height, width = symbols.shape
    if symbols.min() == symbols.max():
        return Settings(np.zeros(height, np.int64), np.zeros(width, np.int64), signed=signed)
    if height <= FEW_ROWS and symbols.size >= 2 * SAMPLE:
        chosen = best_settings(symbols[:, :: symbols.size // SAMPLE], signed)
        columns = _used(symbols) if chosen.column_bits else np.zeros(width, np.int64)
        return replace(chosen, column_class=columns)
    coarse = _coarse(symbols)
    stride = max(1, min(symbols.size // SAMPLE, len(symbols) // MIN_ROWS))
    sample = symbols[::stride]
    best: tuple[float, Settings] | None = None
    for row_bits, column_bits, rows, columns in _classes(coarse[::stride]):
        base = Settings(rows, columns, row_bits, column_bits, signed=signed)
        found = _best_variant(sample, base, len(symbols))
        if best is None or found[0] < best[0]:
            best = found
    assert best is not None
    chosen = best[1]
    if stride > 1:
        return _refined(coarse, chosen, stride)
    return chosen


def _classes(symbols: Ints) -> Iterator[tuple[int, int, Ints, Ints]]:
    """(row bits, column bits, class of each row, class of each column) that are worth a try."""
    height, width = symbols.shape
    if height <= FEW_ROWS:
        same: Ints = np.zeros(width, np.int64)
        used = _used(symbols)
        for row_bits in range(height.bit_length()):
            own = 1 << row_bits >= height
            rows: Ints = np.arange(height) if own else _cluster(symbols, 1 << row_bits, 1)[0]
            yield row_bits, 0, rows, same
            if not used.all():
                yield row_bits, 1, rows, used
        return
    for row_bits, column_bits in CLASS_BITS:
        if 2**row_bits <= height and 2**column_bits <= width:
            yield row_bits, column_bits, *_cluster(symbols, 1 << row_bits, 1 << column_bits)


def _used(symbols: Array) -> Ints:
    """Classes of columns: 0 for those that are all zero."""
    return np.asarray(symbols.any(axis=0)).astype(np.int64)


def _refined(symbols: Ints, settings: Settings, stride: int) -> Settings:
    """Classes for all rows, and better ones of the columns, from classes of every `stride`-th row."""
    row_classes, column_classes = 1 << settings.row_bits, 1 << settings.column_bits
    rows, columns = settings.row_class, settings.column_class
    counts = _counts(symbols[::stride], rows, columns, row_classes, column_classes)
    missing = int(symbols.max()) + 1 - counts.shape[2]
    rows = _cheapest(symbols, columns, np.pad(_code_lengths(counts), ((0, 0), (0, 0), (0, missing))))
    if column_classes > 1:
        counts = _counts(symbols, rows, columns, row_classes, column_classes)
        columns = _cheapest(symbols.T, rows, _code_lengths(counts).transpose(1, 0, 2))
    return replace(settings, row_class=rows, column_class=columns)


def _best_variant(sample: Array, base: Settings, rows: int) -> tuple[float, Settings]:
    """(bits, settings) of the best way to code under the classes of `base`.

    A block without flags decodes about twice as fast, so flags must save something.
    """
    tries = [base, replace(base, shared=True)] if base.contexts > 1 else [base]
    if np.count_nonzero(sample) < SPLIT_DENSITY * sample.size:
        split = [replace(settings, split=True) for settings in tries]
        tries += split + [replace(settings, states=True) for settings in split]
    sizes = [code_bits(sample, s, rows) * (1 + FLAG_COST * (s.split + s.states)) for s in tries]
    least = int(np.argmin(sizes))
    return sizes[least], tries[least]


# ------------------------------------------------------------------------------------------------ classes


def _coarse(symbols: Array) -> Ints:
    """The symbols as small whole numbers, by value; by magnitude if they are many."""
    present, places = distinct(symbols)
    if present.size > FEW_SYMBOLS:
        magnitude = np.abs(present.view(np.int8).astype(np.int64))
        classes = np.ceil(2 * np.log2(magnitude + 1)).astype(np.int64)
        places[present] = np.unique(classes, return_inverse=True)[1]
    return places[symbols]


def _cluster(symbols: Ints, row_classes: int, column_classes: int) -> tuple[Ints, Ints]:
    """Classes of rows and columns that shorten the code, from a start by how many bits each one takes."""
    size = int(symbols.max()) + 1
    frequency = np.bincount(symbols.reshape(-1), minlength=size)
    bits = -np.log2(np.maximum(frequency, 1) / symbols.size)[symbols]
    rows = _by_quantile(bits.mean(axis=1), row_classes)
    columns = _by_quantile(bits.mean(axis=0), column_classes)
    for _ in range(ROUNDS if row_classes * column_classes > 1 else 0):
        counts = _counts(symbols, rows, columns, row_classes, column_classes)
        if row_classes > 1:
            rows = _cheapest(symbols, columns, _code_lengths(counts))
            counts = _counts(symbols, rows, columns, row_classes, column_classes)
        if column_classes > 1:
            columns = _cheapest(symbols.T, rows, _code_lengths(counts).transpose(1, 0, 2))
    return rows, columns


def _by_quantile(values: Array, classes: int) -> Ints:
    if classes == 1:
        return np.zeros(values.size, np.int64)
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return rank.astype(np.int64) * classes // values.size


def _counts(symbols: Ints, rows: Ints, columns: Ints, row_classes: int, column_classes: int) -> Ints:
    """How often each symbol occurs, `[row classes, column classes, symbols]`."""
    size = int(symbols.max()) + 1
    keys = (rows[:, None] * column_classes + columns[None, :]) * size + symbols
    counts = np.bincount(keys.reshape(-1), minlength=row_classes * column_classes * size)
    return counts.reshape(row_classes, column_classes, size)


def _code_lengths(counts: Ints) -> Array:
    """Bits of each symbol, of the shape of the counts; finite for what does not occur."""
    smooth = counts + 0.05
    lengths: Array = np.log2(smooth.sum(axis=2, keepdims=True) / smooth)
    return lengths


def _cheapest(symbols: Ints, across: Ints, lengths: Array) -> Ints:
    """The class under which each row takes the fewest bits.

    Args:
        across: classes of the columns. lengths: `[classes, classes of columns, symbols]`.
    """
    classes, other, size = lengths.shape
    keys = across[None, :] * size + symbols
    keys += np.arange(len(symbols))[:, None] * (other * size)
    counts = np.bincount(keys.reshape(-1), minlength=len(symbols) * other * size)
    bits = counts.reshape(len(symbols), -1) @ lengths.reshape(classes, -1).T
    return np.asarray(bits.argmin(axis=1), np.int64)


# ------------------------------------------------------------------------------------------------ tables


@dataclass
class Tables:
    """What the head of a block says besides the classes.

    Attributes:
        alphabet: symbols (u8) in the order of the tables.
        codes: [tables, symbols], logarithmic frequencies as stored. zero: [contexts * states], 0..SCALE.
        counts, flags: how often each symbol of each table, and (zero, other) of each context, occurs.
    """

    alphabet: Ints
    codes: Ints
    zero: Ints
    counts: Ints
    flags: Ints


def weight_of(code: Ints) -> Ints:
    """The weight a logarithmic frequency stands for: 0, 1, 2, 3, then four steps an octave."""
    return np.where(code < 4, code, (4 + (code & 3)) << (np.maximum(code - 4, 0) >> 2))


_WEIGHTS = weight_of(np.arange(MAX_CODE + 1))


def scaled(weights: Ints) -> Ints:
    """Frequencies in proportion to the weights, at least 1 where one is not 0, that add up to SCALE."""
    frequency = np.where(weights > 0, np.maximum(weights * SCALE // weights.sum(), 1), 0)
    while (left := SCALE - int(frequency.sum())) != 0:
        largest = int(frequency.argmax())  # the first of several
        frequency[largest] += max(left, -(int(frequency[largest]) // 2))
    return frequency


def flag_states(nonzero: npt.NDArray[np.bool_]) -> Ints:
    """State of the zero flag at each place, from the flags before it in its row and group of four columns."""
    rows, columns = nonzero.shape
    padded = np.pad(nonzero, ((0, 0), (0, -columns % 4))).reshape(rows, -1, 4).astype(np.int64)
    before = np.cumsum(padded, axis=2) - padded
    any_last = np.pad(padded.any(axis=2).astype(np.int64), ((0, 0), (1, 0)))[:, :-1]
    before[:, :, 0] = any_last
    states: Ints = (before + np.array([0, 2, 4, 7])).reshape(rows, -1)[:, :columns]
    return states


def tables(symbols: Array, settings: Settings) -> Tables:
    """Frequencies of the symbols under the settings."""
    context = (settings.row_class << settings.column_bits)[:, None] + settings.column_class[None, :]
    flags: Array = np.zeros((0, 2), np.int64)
    zero: Array = np.zeros(0, np.int64)
    chosen, places = symbols.reshape(-1), context.reshape(-1)
    if settings.split:
        states = STATES if settings.states else 1
        key = context * states + (flag_states(symbols != 0) if settings.states else 0)
        both = np.bincount((2 * key + (symbols != 0)).reshape(-1), minlength=2 * states * settings.contexts)
        flags = both.reshape(-1, 2)
        total = np.maximum(flags.sum(axis=1), 1)
        zero = np.clip(np.rint(flags[:, 0] * SCALE / total).astype(np.int64), 1, SCALE - 1)
        zero = np.where(flags[:, 1] == 0, SCALE, np.where(flags[:, 0] == 0, 0, zero))
        kept = chosen != 0
        chosen, places = chosen[kept], places[kept]
    count = 1 if settings.shared else settings.contexts
    places = np.zeros_like(places) if settings.shared else places
    counts = np.bincount(places * 256 + chosen, minlength=count * 256).reshape(count, 256)
    order = np.arange(256) ^ (0x80 if settings.signed else 0)
    alphabet = order[np.asarray(counts.any(axis=0))[order]]
    counts = counts[:, alphabet]
    return Tables(alphabet, _codes(counts), zero, counts, flags)


def _codes(counts: Ints) -> Ints:
    """The stored frequencies nearest to the counts of each table; an unused table is even."""
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share = counts * (SCALE / total)
    middles = np.sqrt(_WEIGHTS[1:-1] * _WEIGHTS[2:])
    codes = np.where(counts > 0, 1 + np.searchsorted(middles, share), 0)
    codes[counts.sum(axis=1) == 0] = 1
    return codes


def _deltas(codes: Ints) -> Ints:
    """Codes as differences to the one before, folded to whole numbers >= 0."""
    delta = np.diff(codes, axis=1, prepend=0)
    return np.asarray(np.where(delta < 0, -2 * delta - 1, 2 * delta), np.int64).reshape(-1)


def code_bits(sample: Array, settings: Settings, rows: int) -> float:
    """Size of the block of a matrix of `rows` rows like the sample, head included."""
    found = tables(sample, settings)
    deltas = _deltas(found.codes)
    bits = 50.0 + min(rice_bits(deltas, width) for width in range(4))
    places = found.alphabet ^ (0x80 if settings.signed else 0)
    bits += float(places.max(initial=0) - places.min(initial=0))
    bits += rows * settings.row_bits + sample.shape[1] * settings.column_bits
    if settings.split:
        bits += (SCALE_BITS + 1) * found.zero.size
    data = rows / len(sample) * _data_bits(found)
    return float(bits + data + 16 * lanes(rows, data))


def _data_bits(found: Tables) -> float:
    """What the symbols take that the tables were made of."""
    bits = 0.0
    for counts, codes in zip(found.counts, found.codes, strict=True):
        if counts.any():
            frequency = scaled(weight_of(codes))
            bits -= float(counts[counts > 0] @ np.log2(frequency[counts > 0] / SCALE))
    flags = np.stack([found.zero, SCALE - found.zero], axis=1)
    used = np.asarray(found.flags, np.int64) > 0
    return bits - float(found.flags[used] @ np.log2(flags[used] / SCALE))


def lanes(rows: int, bits: float) -> int:
    """Interleaved coders of so many rows that take so many bits."""
    count = LEAST_LANES
    while count < MAX_LANES and LANE_BYTES * 8 * (2 * count - LEAST_LANES) < LANE_COST * bits:
        count *= 2
    return min(count, rows)


def head(symbols: Array, settings: Settings) -> Array:
    """The head of a block, u8 [n]."""
    found = tables(symbols, settings)
    writer = BitWriter()
    writer.put(lanes(len(symbols), _data_bits(found)) - 1, LANE_BITS)
    for flag in (settings.split, settings.states, settings.shared, settings.signed, False):
        writer.put(int(flag), 1)
    writer.put(settings.row_bits, 4)
    writer.put(settings.column_bits, 4)
    places = found.alphabet ^ (0x80 if settings.signed else 0)
    first, last = (int(places[0]), int(places[-1])) if places.size else (0, 0)
    writer.put(first, 8)
    writer.put(last, 8)
    writer.put_all(np.isin(np.arange(first, last + 1), places), 1)
    writer.put_all(settings.row_class, settings.row_bits)
    writer.put_all(settings.column_class, settings.column_bits)
    writer.put_all(found.zero, SCALE_BITS + 1)
    deltas = _deltas(found.codes)
    width = min(range(4), key=lambda width: rice_bits(deltas, width))
    writer.put(width, 2)
    writer.rice(deltas, width)
    return writer.bytes()
