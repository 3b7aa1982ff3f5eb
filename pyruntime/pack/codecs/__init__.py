"""Storage codecs of constants: one file each, one line in `CODECS`.

A codec is a module with

* `encode(array, storage) -> (parts, options) | None`: parts by name ("" is the tensor itself) and what the
  program must say beside them; None if not applicable. `storage` is what the constant says of itself;
* `decode(parts, dtype, shape, options) -> array`: the inverse; ValueError (one clause) for what does not fit.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from pyruntime.pack.codecs import (
    bitmask,
    block4,
    dense,
    group,
    hashed,
    nm2_4,
    packed,
    planes,
    scaled,
    small_float,
)
from pyruntime.pack.codecs.layout import Encoded, Options, Storage, total_bytes
from pyruntime.program import Array


class Codec(Protocol):
    def encode(self, array: Array, storage: Storage, /) -> Encoded | None: ...

    def decode(
        self, parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: Options, /
    ) -> Array: ...


# In order of preference among codecs of equal size.
CODECS: dict[str, Codec] = {
    "dense": dense,
    "bitmask": bitmask,
    "block4": block4,
    "nm2_4": nm2_4,
    "packed": packed,
    "group": group,
    "hashed": hashed,
    "float": small_float,
    "scaled": scaled,
    "planes": planes,
}


def smallest(array: Array, storage: Storage) -> tuple[str, Encoded]:
    """Name of the codec that stores the array in the fewest bytes, and what it made of it."""
    best: tuple[int, str, Encoded] | None = None
    for name, codec in CODECS.items():
        encoded = codec.encode(array, storage)
        if encoded is None:
            continue
        total = total_bytes(encoded[0]) + OVERHEAD * len(encoded[0])
        if best is None or total < best[0]:
            best = total, name, encoded
    assert best is not None
    return best[1], best[2]


def storage_of(codec: str, options: Options, parts: dict[str, Array], array: Array) -> dict[str, Any]:
    """`Constant.storage` of a decoded constant, so that writing it again gives the same parts."""
    if codec == "scaled":
        return scaled.storage(parts, array.shape, options)
    if codec == "hashed":
        return {"hashed": options["size"]}
    return {key: options[key] for key in ("group", "float") if key in options}


# What it takes, about, to say where a part is.
OVERHEAD = 8
