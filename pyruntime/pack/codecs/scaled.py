"""Codec `scaled`: float32 weights that are 8-bit codes times a scale per row, `f32(code) * scale`.

Weights of integer schemes in layers that run in float32. `storage["codes"]` (int8, the shape of the constant)
and `storage["scales"]` (float32 [O]) of a constant state them; the codes are stored by a codec of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.pack.codecs import group, hashed, layout, packed, planes
from pyruntime.program import Array

CODES = {"packed": packed, "group": group, "hashed": hashed}


def encode(array: Array, storage: layout.Storage) -> layout.Encoded | None:
    if "codes" not in storage or array.dtype != np.float32 or array.ndim < 2 or array.size == 0:
        return None
    codes, scales = storage["codes"], storage["scales"]
    if not np.array_equal(_product(codes, scales), array):
        return None
    rest = {key: value for key, value in storage.items() if key not in ("codes", "scales")}
    made = {name: codec.encode(codes, rest) for name, codec in CODES.items()}
    found = {name: encoded for name, encoded in made.items() if encoded is not None}
    name = min(found, key=lambda name: layout.total_bytes(found[name][0]))
    parts, options = found[name]
    return {**parts, "scales": planes.store_floats(scales)}, {**options, "codes": name}


def decode(
    parts: dict[str, Array], dtype: np.dtype[Any], shape: tuple[int, ...], options: layout.Options
) -> Array:
    if dtype != np.float32:
        raise ValueError(f"dtype {dtype}, expected float32")
    return _product(*_load(parts, shape, options))


def storage(parts: dict[str, Array], shape: tuple[int, ...], options: layout.Options) -> dict[str, Any]:
    """`Constant.storage` of a decoded constant."""
    codes, scales = _load(parts, shape, options)
    rest = {"group": options.get("group"), "hashed": options.get("size")}
    return {"codes": codes, "scales": scales, **{key: x for key, x in rest.items() if x is not None}}


def _load(parts: dict[str, Array], shape: tuple[int, ...], options: layout.Options) -> tuple[Array, Array]:
    """Codes and scales."""
    (data,) = layout.names(parts, ("scales",))
    name = options.get("codes")
    if name not in tuple(CODES) or len(shape) < 2:
        raise ValueError(f"option 'codes' is {name!r:.40}, rank {len(shape)}")
    codes = CODES[str(name)].decode(parts, np.dtype(np.int8), shape, options)
    return codes, planes.load_floats(data, shape[0])


def _product(codes: Array, scales: Array) -> Array:
    with np.errstate(all="ignore"):
        product: Array = codes.astype(np.float32) * scales.reshape(-1, *[1] * (codes.ndim - 1))
    return product
