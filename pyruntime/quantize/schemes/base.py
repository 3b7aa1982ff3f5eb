"""What a scheme and a grid are, and what the integer schemes share.

A scheme (`int4`, `codebook=16`, ...) looks at a weight `[out, taps, in]` once and fits a grid. The grid is
frozen from then on and rounds values to itself column by column, so error feedback may change the values
between two columns:

    grid = scheme.fit(weight, importance)
    column = grid.round(values, columns)     # values [out, n], columns: which n of the taps * in

Zero is a point of every grid that must hold one: a weight that is exactly 0 stays exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pyruntime.quantize.weights import channel_max, weight_scales

Array = npt.NDArray[Any]
Columns = slice | npt.NDArray[np.intp]
# Turns the channel scales a scheme likes into those it must use (a bias that needs a coarser scale, ...).
Adjust = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

ALL = slice(None)
S8_MAX = 127


class Grid(Protocol):
    """The values a weight may take.

    Attributes:
        fixed: the grid holds one value for each weight and rounding has no choice (hashed weights).
        storage: what a storage codec cannot see in the values alone (`Constant.storage`).
    """

    @property
    def fixed(self) -> bool: ...

    @property
    def storage(self) -> Mapping[str, int | str]: ...

    def round(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.float32]:
        """Points of the grid for the values `[out, n]` of the given columns of `taps * in`."""
        ...


@dataclass(frozen=True)
class IntegerGrid:
    """A grid that the int8 kernels execute: points are `code * scale[o]` with signed 8-bit codes.

    Attributes:
        scales: float32 `[out]`.
    """

    scales: npt.NDArray[np.float32]

    @property
    def fixed(self) -> bool:
        return False

    @property
    def storage(self) -> Mapping[str, int | str]:
        return {}

    def codes(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.int8]:
        """The integers of the points that `round` chooses, `[out, n]`."""
        raise NotImplementedError

    def round(self, values: Array, columns: Columns = ALL) -> npt.NDArray[np.float32]:
        return self.codes(values, columns).astype(np.float32) * self.scales[:, None]

    def steps(self, values: Array) -> npt.NDArray[np.float64]:
        """The values in units of the channel scales."""
        steps: npt.NDArray[np.float64] = values / self.scales.astype(np.float64)[:, None]
        return steps


class Scheme(Protocol):
    """How weights are represented.

    Attributes:
        label: for people, e.g. `int4 group=32`.
        bits: of one stored weight, before entropy coding.
        integer: whether the grids are `IntegerGrid`s, executed by the int8 kernels; others are decoded when
            loading and executed in float32.
        movable_scales: whether scales may be moved a little to avoid ties (`Adjust`); False where their exact
            form is the point.
    """

    @property
    def label(self) -> str: ...
    @property
    def bits(self) -> float: ...
    @property
    def integer(self) -> bool: ...
    @property
    def movable_scales(self) -> bool: ...

    def fit(self, weight: Array, importance: Array | None = None, adjust: Adjust | None = None) -> Grid:
        """Grid for a weight.

        Args:
            weight: `[out, taps, in]`, finite.
            importance: `[taps * in]` or `[out, taps * in]`, >= 0: the second moment of what each weight
                multiplies; errors are weighed by it. None: all weights count alike.
            adjust: see `Adjust`; only for integer grids.
        """
        ...


def as_matrix(weight: Array) -> npt.NDArray[np.float64]:
    """`[out, taps, in]` to float64 `[out, taps * in]`."""
    return weight.reshape(len(weight), -1).astype(np.float64)


def as_importance(importance: Array | None, matrix: Array) -> npt.NDArray[np.float64]:
    """Importance that broadcasts over the matrix: `[1, k]` or `[out, k]`; all ones if there is none."""
    if importance is None:
        return np.ones((1, matrix.shape[1]))
    wide = np.asarray(importance, np.float64).reshape(-1, matrix.shape[1])
    # A layer whose inputs are all dead has no say in what is important.
    return wide if wide.any() else np.ones((1, matrix.shape[1]))


def largest(matrix: Array, per: str) -> npt.NDArray[np.float64]:
    """Largest magnitude of each channel; of the tensor, repeated, if `per` is "tensor"."""
    found = channel_max(matrix)
    return np.full_like(found, found.max(initial=0.0)) if per == "tensor" else found


def full_scales(matrix: Array, per: str, levels: int = S8_MAX) -> npt.NDArray[np.float32]:
    """Scales by which the largest magnitude becomes `levels`; dead channels get a usable one."""
    scales: npt.NDArray[np.float32] = weight_scales(largest(matrix, per)) * np.float32(S8_MAX / levels)
    return scales


def adjusted(scales: Array, adjust: Adjust | None) -> npt.NDArray[np.float32]:
    """The scales that are really used, float32."""
    single = scales.astype(np.float32)
    return single if adjust is None else adjust(single)


def per_channel_error(error: Array, importance: Array, per: str) -> npt.NDArray[np.float64]:
    """Weighted squared error `[out]` of an error `[out, k]`; their sum, repeated, if `per` is "tensor"."""
    found: npt.NDArray[np.float64] = (np.square(error) * importance).sum(axis=1)
    return np.full_like(found, found.sum()) if per == "tensor" else found
