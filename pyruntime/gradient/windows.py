"""Derivatives of convolutions and poolings, tap by tap of the window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Window:
    """The cells of a padded input that each tap of a sliding window reads."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    size: list[int]
    out: list[int]

    @classmethod
    def of(cls, node: ir.Node, kernel: Sequence[int], x: Array, y: Array) -> Window:
        rank = len(kernel)
        pads = graph.get_ints(node, "pads") or [0] * (2 * rank)
        strides = graph.get_ints(node, "strides") or [1] * rank
        dilations = graph.get_ints(node, "dilations") or [1] * rank
        out = list(y.shape[2:])
        # In ceil mode the last window may read beyond the padding.
        need = [(out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(rank)]
        size = [max(need[i], pads[i] + x.shape[2 + i] + pads[rank + i]) for i in range(rank)]
        return cls(list(kernel), strides, dilations, pads[:rank], size, out)

    def taps(self) -> Iterator[tuple[slice, ...]]:
        """The cells that each tap reads for all outputs, for indexing a padded `[N, C, ...]`."""
        for tap in np.ndindex(*self.kernel):
            starts = [tap[i] * self.dilations[i] for i in range(len(tap))]
            cells = [
                slice(start, start + (self.out[i] - 1) * self.strides[i] + 1, self.strides[i])
                for i, start in enumerate(starts)
            ]
            yield (slice(None), slice(None), *cells)

    def padded(self, x: Array, value: float) -> Array:
        widths = [(0, 0), (0, 0)]
        for i, begin in enumerate(self.begins):
            widths.append((begin, self.size[i] - begin - x.shape[2 + i]))
        return np.pad(x, widths, constant_values=value)

    def inner(self, padded: Array, x: Array) -> Array:
        cut = [slice(begin, begin + x.shape[2 + i]) for i, begin in enumerate(self.begins)]
        everything = [slice(None)] * 2
        return np.asarray(padded[tuple(everything + cut)])

    def zeros(self, x: Array) -> Array:
        return np.zeros((*x.shape[:2], *self.size), np.float32)


def conv(node: ir.Node, x: Sequence[Any], y: Sequence[Array], dy: Sequence[Array]) -> list[Array | None]:
    weight, groups = x[1], graph.get_int(node, "group", 1)
    window = Window.of(node, weight.shape[2:], x[0], y[0])
    samples, outputs = dy[0].shape[:2]
    upstream = dy[0].reshape(samples, groups, outputs // groups, -1)
    by_group = weight.reshape(groups, outputs // groups, weight.shape[1], -1)
    gradient = window.zeros(x[0])
    for index, cells in enumerate(window.taps()):
        part = by_group[..., index].transpose(0, 2, 1) @ upstream
        gradient[cells] += part.reshape(samples, x[0].shape[1], *window.out)
    return [window.inner(gradient, x[0])]


def max_pool(node: ir.Node, x: Sequence[Any], y: Sequence[Array], dy: Sequence[Array]) -> list[Array | None]:
    """Equal maxima all get the gradient, which is as good a choice as any."""
    window = Window.of(node, graph.get_ints(node, "kernel_shape") or [], x[0], y[0])
    padded, gradient = window.padded(x[0], -np.inf), window.zeros(x[0])
    for cells in window.taps():
        gradient[cells] += np.where(padded[cells] == y[0], dy[0], np.float32(0))
    return [window.inner(gradient, x[0])]


def average_pool(
    node: ir.Node, x: Sequence[Any], y: Sequence[Array], dy: Sequence[Array]
) -> list[Array | None]:
    window = Window.of(node, graph.get_ints(node, "kernel_shape") or [], x[0], y[0])
    inside = window.padded(np.ones((1, 1, *x[0].shape[2:]), np.float32), 0.0)
    count = np.zeros((1, 1, *window.out), np.float32)
    for cells in window.taps():
        whole = graph.get_int(node, "count_include_pad", 0)
        count += np.float32(1) if whole else inside[cells]
    gradient = window.zeros(x[0])
    for cells in window.taps():
        gradient[cells] += dy[0] / count
    return [window.inner(gradient, x[0])]
