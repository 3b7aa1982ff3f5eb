"""Observers: see the values of a tensor batch by batch, in fixed memory, and choose its range.

A new observer is one file and one line of `OBSERVERS`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy.typing as npt

from pyruntime.quantize.observers.average import Average
from pyruntime.quantize.observers.entropy import Entropy
from pyruntime.quantize.observers.minmax import MinMax
from pyruntime.quantize.observers.mse import Mse
from pyruntime.quantize.observers.percentile import Percentile
from pyruntime.quantize.ranges import Range


class Observer(Protocol):
    """Built with the tensor's name, for messages."""

    def __init__(self, name: str) -> None: ...

    def update(self, values: npt.NDArray[Any]) -> None:
        """Take one batch, any shape, also empty. NaN and infinities are left out, with one warning."""

    def range(self) -> Range:
        """The range to quantize with. Errors: DataError if no finite value was seen."""


OBSERVERS: dict[str, type[Observer]] = {
    "minmax": MinMax,
    "average": Average,
    "percentile": Percentile,
    "entropy": Entropy,
    "mse": Mse,
}
