"""Codec `float`: float32 weights that are numbers of a small float format times a scale per row.

`storage["float"]` of a constant names the format (`minifloat.find_format`). A scale is `s / 8 * 2^exponent`
with s = 8..15, so its product with a number is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.minifloat import Format, find_format
from pyruntime.pack.codecs import layout, stored
from pyruntime.program import Array

PARTS = ("codes", "eighths", "exponents")
OFFSET = 150  # of the stored exponents


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if "float" not in storage or array.dtype != np.float32 or array.ndim < 2 or array.size == 0:
        return None
    name = str(storage["float"])
    form, matrix = find_format(name), layout.to_matrix(array)
    found = _scales(matrix.astype(np.float64), form)
    if found is None:
        return None
    eighths, exponents = found
    codes = form.encode(matrix / np.ldexp(eighths / 8, exponents)[:, None])
    low = _interleaved(codes, form)
    parts = {
        "codes": stored.store(low),
        "eighths": stored.store(eighths.astype(np.uint8)),
        "exponents": stored.store((exponents + OFFSET).astype(np.uint8)),
    }
    return parts, {"float": name}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    data = layout.names(parts, PARTS)
    rows, taps, channels = layout.dimensions(shape)
    name = options.get("float")
    if not isinstance(name, str) or dtype != np.float32:
        raise ValueError(f"option 'float' is {name!r:.40} and dtype {dtype}, expected a format and float32")
    form = find_format(name)
    planes = stored.load(data[0], rows * (2 if form.bits > 8 else 1), taps * channels)
    codes: Array = planes.astype(np.uint16)
    if form.bits > 8:
        codes = codes[0::2] | codes[1::2] << 8
    if int(codes.max(initial=0)) >> form.bits:
        raise ValueError(f"a code has more than {form.bits} bits")
    eighths = stored.load_vector(data[1], rows)
    exponents = stored.load_vector(data[2], rows).astype(np.int64) - OFFSET
    if rows and not ((eighths >= 8) & (eighths < 16)).all():
        raise ValueError("a scale is out of range")
    # Every number of the format once, then a table.
    numbers = form.decode(np.arange(1 << form.bits))
    with np.errstate(over="ignore"):
        scaled = (numbers[codes] * np.ldexp(eighths / 8, exponents)[:, None]).astype(np.float32)
    return layout.from_matrix(scaled, shape)


def _interleaved(codes: Array, form: Format) -> Array:
    """Codes as bytes: one row of a matrix each, or two (low bytes, high bytes)."""
    if form.bits <= 8:
        return codes.astype(np.uint8)
    both = np.stack([codes & 0xFF, codes >> 8], axis=1).astype(np.uint8)
    return both.reshape(-1, codes.shape[1])


def _scales(matrix: Array, form: Format) -> tuple[Array, Array] | None:
    """Eighths and exponent of a scale for each row under which its values are numbers of the format."""
    top = np.abs(matrix).max(axis=1)
    _, power = np.frexp(np.where(top > 0, top / form.largest, 1.0))
    eighths, exponents = np.full(len(matrix), 8), np.zeros(len(matrix), np.int64)
    left = top > 0
    for octave in range(-1, 2 ** min(form.exponent, 5) + form.mantissa):
        for candidate in range(8, 16):
            rows = np.flatnonzero(left)
            if not rows.size:
                return eighths, exponents
            exponent = power[rows] + octave
            scale = np.ldexp(candidate / 8, exponent)[:, None]
            exact = (form.round(matrix[rows] / scale) * scale == matrix[rows]).all(axis=1)
            exact &= np.abs(exponent) < OFFSET - 50
            hits = rows[exact]
            eighths[hits], exponents[hits] = candidate, exponent[exact]
            left[hits] = False
    return None if left.any() else (eighths, exponents)
