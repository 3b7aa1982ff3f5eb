"""The inputs of a layer as a matrix: one row per output position, so that the layer is `rows @ weight.T`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime import graph
from pyruntime.layers import Layer

Array = npt.NDArray[Any]


def sample_rows(layer: Layer, x: Array, count: int, generator: np.random.Generator) -> Array:
    """Rows of at most `count` output positions of the batch, without repetition: `[groups, rows, taps * in]`.

    Args:
        layer: a Conv of any spatial rank, Gemm or MatMul.
        x: its input, `[N, C, ...]` or `[..., in]`.
    The columns stand in the order of `Layer.array`: taps, then input channels.
    """
    if layer.node.op_type != "Conv":
        flat: Array = x.reshape(-1, x.shape[-1])
        return flat[choose(len(flat), count, generator)][None]
    kernel = layer.shape[2:]
    padded, out = _padded(layer, x)
    index = choose(x.shape[0] * int(np.prod(out)), count, generator)
    sample, *position = np.unravel_index(index, (x.shape[0], *out))
    strides, dilations = _ints(layer, "strides"), _ints(layer, "dilations")
    index_of: list[Any] = [sample.reshape(-1, *[1] * len(kernel)), slice(None)]
    for axis in range(len(kernel)):
        taps = np.arange(kernel[axis]) * dilations[axis]
        offset = taps.reshape([-1 if i == axis else 1 for i in range(len(kernel))])
        start = position[axis] * strides[axis]
        index_of.append(start.reshape(-1, *[1] * len(kernel)) + offset)
    # Advanced indices apart from each other put their axes first: [rows, *kernel, C].
    rows = padded[tuple(index_of)]
    grouped = rows.reshape(len(index), -1, layer.groups, padded.shape[1] // layer.groups)
    ordered = np.ascontiguousarray(grouped.transpose(2, 0, 1, 3))
    matrices: Array = ordered.reshape(layer.groups, len(index), -1)
    return matrices


def sample_outputs(layer: Layer, y: Array, count: int, generator: np.random.Generator) -> Array:
    """Outputs where `sample_rows` looks with the same generator: `[groups, rows, out / groups]`.

    Args:
        y: an output of the layer, `[N, O, ...]` of a Conv, else `[..., out]`.
    """
    last = np.moveaxis(y, 1, -1) if layer.node.op_type == "Conv" else y
    flat = last.reshape(-1, last.shape[-1])
    chosen = flat[choose(len(flat), count, generator)]
    outputs: Array = chosen.reshape(len(chosen), layer.groups, -1).transpose(1, 0, 2)
    return outputs


def mean_input(layer: Layer, x: Array) -> Array:
    """Mean over samples and positions of what each weight multiplies, `[groups, taps, in]`, float64."""
    if layer.node.op_type != "Conv":
        mean: Array = x.reshape(-1, x.shape[-1]).mean(axis=0, dtype=np.float64)[None, None]
        return mean
    kernel = layer.shape[2:]
    padded, out = _padded(layer, x)
    summed = padded.mean(axis=0, dtype=np.float64)
    strides, dilations = _ints(layer, "strides"), _ints(layer, "dilations")
    means = []
    for tap in np.ndindex(*kernel):
        starts = [tap[i] * dilations[i] for i in range(len(kernel))]
        ends = [starts[i] + (out[i] - 1) * strides[i] + 1 for i in range(len(kernel))]
        cells = [slice(start, end, stride) for start, end, stride in zip(starts, ends, strides, strict=True)]
        where = (slice(None), *cells)
        means.append(summed[where].reshape(summed.shape[0], -1).mean(axis=1))
    by_group = np.stack(means).reshape(len(means), layer.groups, -1)
    mean = by_group.transpose(1, 0, 2)
    return mean


def mean_output(layer: Layer, y: Array) -> Array:
    """Mean of an output of the layer over samples and positions, `[out]`, float64."""
    last = np.moveaxis(y, 1, -1) if layer.node.op_type == "Conv" else y
    mean: Array = last.reshape(-1, last.shape[-1]).mean(axis=0, dtype=np.float64)
    return mean


def second_moments(layer: Layer, x: Array) -> Array:
    """Mean over samples and positions of the square of what each weight multiplies, `[out, taps * in]`."""
    squares = mean_input(layer, np.square(x, dtype=np.float64))
    per_group = layer.array().shape[0] // len(squares)
    return np.repeat(squares.reshape(len(squares), -1), per_group, axis=0)


def choose(total: int, count: int, generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """`min(total, count)` different indices below `total`, ascending."""
    if count >= total:
        return np.arange(total)
    return np.sort(generator.choice(total, count, replace=False))


def _padded(layer: Layer, x: Array) -> tuple[Array, list[int]]:
    """The input with its zero padding, and the spatial size of the output."""
    kernel = layer.shape[2:]
    pads = graph.get_ints(layer.node, "pads") or [0] * (2 * len(kernel))
    strides, dilations = _ints(layer, "strides"), _ints(layer, "dilations")
    widths = [(0, 0), (0, 0)] + [(pads[i], pads[i + len(kernel)]) for i in range(len(kernel))]
    padded = np.pad(x, widths) if any(pads) else x
    out = [
        (padded.shape[2 + i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i in range(len(kernel))
    ]
    return padded, out


def _ints(layer: Layer, name: str) -> list[int]:
    return graph.get_ints(layer.node, name) or [1] * (len(layer.shape) - 2)
