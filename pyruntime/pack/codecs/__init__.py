"""Storage codecs of constants: one file each, one line in `CODECS`.

A codec is a module with

* `encode(array) -> dict[str, array] | None`: parts by name ("" is the tensor itself), None if not applicable;
* `decode(parts, dtype, shape) -> array`: the inverse; ValueError (one clause) for parts that do not fit;
* `size(array) -> int | None`: bytes `encode` would take, without encoding.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from pyruntime.pack.codecs import bitmask, block4, dense, nm2_4
from pyruntime.program import Array


class Codec(Protocol):
    def encode(self, array: Array, /) -> dict[str, Array] | None: ...

    def decode(self, parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], /) -> Array: ...

    def size(self, array: Array, /) -> int | None: ...


# In order of preference among codecs of equal size.
CODECS: dict[str, Codec] = {
    "dense": dense,
    "bitmask": bitmask,
    "block4": block4,
    "nm2_4": nm2_4,
}


def smallest(array: Array) -> str:
    """Name of the codec that stores the array in the fewest bytes."""
    best, best_size = "dense", array.nbytes
    for name, codec in CODECS.items():
        size = codec.size(array)
        if size is not None and size < best_size:
            best, best_size = name, size
    return best
