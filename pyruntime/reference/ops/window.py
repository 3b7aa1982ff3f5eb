"""Sliding windows shared by convolution and pooling. Spatial arrays are [N, C, (H,) W]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from pyruntime.program import Array


def output_size(size: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int, ceil: bool) -> int:
    """Number of windows; with `ceil`, one more partial window unless it would start beyond the input."""
    span = size + sum(pads) - ((kernel - 1) * dilation + 1)
    if span < 0:
        return 0
    count = span // stride + 1
    if ceil and span % stride and count * stride < size + pads[0]:
        count += 1
    return count


class Windows:
    """The cells under each kernel tap: `for tap, cells in windows.taps(padded)`, cells [N, C, *output]."""

    def __init__(
        self,
        size: Sequence[int],
        kernel: Sequence[int],
        strides: Sequence[int],
        pads: Sequence[int],
        dilations: Sequence[int],
        ceil: bool = False,
    ) -> None:
        rank = len(kernel)
        if len(size) != rank:
            raise ValueError(f"kernel of rank {rank} on {len(size)} spatial axes")
        self.kernel, self.strides, self.dilations = kernel, strides, dilations
        self.pads = [(pads[axis], pads[axis + rank]) for axis in range(rank)]
        self.output = [
            output_size(size[a], kernel[a], strides[a], self.pads[a], dilations[a], ceil) for a in range(rank)
        ]
        # Windows added by `ceil` may reach past the padding; what they need more is `overhang`.
        self.overhang = [
            max(
                0,
                (self.output[a] - 1) * strides[a]
                + (kernel[a] - 1) * dilations[a]
                + 1
                - size[a]
                - sum(self.pads[a]),
            )
            for a in range(rank)
        ]

    def _reach(self, axis: int) -> int:
        return (
            (self.output[axis] - 1) * self.strides[axis] + (self.kernel[axis] - 1) * self.dilations[axis] + 1
        )

    def pad(self, x: Array, fill: float, fill_overhang: float | None = None) -> Array:
        """x with `fill` in the padding and `fill_overhang` (default the same) beyond it."""
        padded = np.pad(x, [(0, 0), (0, 0), *self.pads], constant_values=fill)
        beyond = fill if fill_overhang is None else fill_overhang
        return np.pad(padded, [(0, 0), (0, 0), *((0, n) for n in self.overhang)], constant_values=beyond)

    def taps(self, padded: Array) -> Iterator[tuple[tuple[int, ...], Array]]:
        """Kernel positions in (kh, kw) order with the cell each output sees there."""
        for tap in product(*(range(k) for k in self.kernel)):
            cuts = [slice(None), slice(None)]
            for axis, position in enumerate(tap):
                start, stride, count = position * self.dilations[axis], self.strides[axis], self.output[axis]
                cuts.append(slice(start, start + (count - 1) * stride + 1 if count else start, stride))
            yield tap, padded[tuple(cuts)]
