"""Models seen through the channels that were kept.

When channels are removed from a network, the float network it came from serves on as the model of what its
tensors ought to hold. A view on a value says which of its entries are left to compare; the value itself
stays whole, so that the model computes what it always did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]
Axes = Mapping[int, npt.NDArray[np.intp]]
"""Axis -> indices that are left."""

_KEY = "pyruntime.view"


def set_view(value: ir.Value, axes: Axes) -> None:
    """Let `viewed` show only these indices of these axes; `clone` drops it."""
    value.meta[_KEY] = dict(axes)


def has_view(value: ir.Value | None) -> bool:
    """Whether `viewed` leaves anything out."""
    return value is not None and bool(value.meta.get(_KEY))


def viewed(value: ir.Value, array: Array) -> Array:
    """What is left of the array of a value, or of samples of it."""
    for axis, indices in value.meta.get(_KEY, {}).items():
        array = np.take(array, indices, axis=axis)
    return array
