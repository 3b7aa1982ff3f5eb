"""Shape rules of operators that move or index values (`shape_rules` says what a rule is)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import constant
from pyruntime.graph.dimensions import (
    Dim,
    Dims,
    broadcast,
    ints_of,
    is_pending,
    like_dim,
    normalize_axis,
    numbers_of,
    offset_dim,
    product,
    unknown,
)
from pyruntime.graph.nodes import get_int, get_ints
from pyruntime.graph.shape_values import known_ints


def concat(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes) or not known:
        return [None]
    axis = normalize_axis(get_int(node, "axis", 1), len(known[0]), node)
    result = list(known[0])
    for position in range(len(result)):
        at_axis = [shape[position] for shape in known]
        numbers = {dim for dim in at_axis if isinstance(dim, int)}
        if position == axis:
            result[position] = (
                sum(numbers_of(at_axis)) if len(numbers_of(at_axis)) == len(at_axis) else unknown(node, axis)
            )
        elif len(numbers) > 1:
            raise ValueError(f"dimensions {sorted(numbers)} of axis {position} differ")
        elif numbers:
            result[position] = numbers.pop()
    return [result]


def split(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [None]
    axis = normalize_axis(get_int(node, "axis", 0), len(data), node)
    sizes: Sequence[Dim] | None = ints_of(node, "split", 1)
    if is_pending(node, "split", 1):
        sizes = [unknown(node, axis, part) for part in range(len(node.outputs))]
    if sizes is None:
        total, parts = data[axis], len(node.outputs)
        sizes = [unknown(node, axis, part) for part in range(parts)]
        if isinstance(total, int):
            chunk = -(-total // parts)
            sizes = [max(0, min(chunk, total - part * chunk)) for part in range(parts)]
    elif (
        isinstance(data[axis], int)
        and len(numbers_of(sizes)) == len(sizes)
        and sum(numbers_of(sizes)) != data[axis]
    ):
        raise ValueError(f"parts {list(sizes)} of a dimension of {data[axis]}")
    return [[*data[:axis], size, *data[axis + 1 :]] for size in sizes]


def slice_(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    starts, ends = ints_of(node, "starts", 1), ints_of(node, "ends", 2)
    if data is None:
        return [None]
    axes = ints_of(node, "axes", 3)
    if axes is None and (len(node.inputs) < 4 or node.inputs[3] is None) and starts is not None:
        axes = list(range(len(starts)))
    result = list(data)
    if axes is None:
        return [[unknown(node, axis) for axis in range(len(data))]]
    steps = ints_of(node, "steps", 4) or [1] * len(axes)
    for position, axis in enumerate(normalize_axis(axis, len(data), node) for axis in axes):
        size = data[axis]
        if "like_axes" in node.attributes and (get_ints(node, "like_axes") or [])[position] >= 0:
            # Up to a dimension of another tensor: that dimension, for a start of 0 and data that is as long.
            like = like_dim(node, shapes, (get_ints(node, "like_axes") or [])[position], axis)
            whole = starts is not None and starts[position] == 0 and steps[position] == 1
            result[axis] = like if whole else unknown(node, axis)
        elif starts is None or ends is None:
            result[axis] = _pending_end(node, position, steps) or unknown(node, axis)
        elif isinstance(size, int):
            result[axis] = len(
                range(*slice(_bound(starts[position]), _bound(ends[position]), steps[position]).indices(size))
            )
        elif steps[position] > 1 and starts[position] in range(steps[position]) and ends[position] >= 1 << 30:
            result[axis] = f"ceil({offset_dim(size, -starts[position])}/{steps[position]})"
        elif not (starts[position] == 0 and ends[position] >= 1 << 30 and steps[position] == 1):
            result[axis] = unknown(node, axis)
    return [result]


def _pending_end(node: ir.Node, position: int, steps: Sequence[int]) -> Dim | None:
    """The symbol a Slice from 0 ends at."""
    starts = ints_of(node, "starts", 1)
    ends = known_ints(node.inputs[2]) if len(node.inputs) > 2 else None
    if starts is None or ends is None or starts[position] != 0 or steps[position] != 1:
        return None
    return ends[position]


def _bound(bound: int) -> int | None:
    return None if bound <= -(1 << 62) else bound


def pad(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, pads = shapes[0], ints_of(node, "pads", 1)
    if data is None:
        return [None]
    axes = ints_of(node, "axes", 3) or list(range(len(data)))
    if pads is None or is_pending(node, "axes", 3):
        return [[unknown(node, axis) for axis in range(len(data))]]
    if len(pads) != 2 * len(axes):
        raise ValueError(f"{len(pads)} pads for {len(axes)} axes")
    result = list(data)
    for position, axis in enumerate(normalize_axis(axis, len(data), node) for axis in axes):
        size, amount = data[axis], pads[position] + pads[position + len(axes)]
        if amount:
            result[axis] = size + amount if isinstance(size, int) else offset_dim(size, amount)
    return [result]


def flatten(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [[unknown(node, 0), unknown(node, 1)]]
    axis = get_int(node, "axis", 1)
    axis = axis + len(data) if axis < 0 else axis
    parts = [product(data[:axis]), product(data[axis:])]
    return [[unknown(node, index) if part is None else part for index, part in enumerate(parts)]]


def reshape(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    target: Sequence[Dim] | None = get_ints(node, "shape") or None
    if target is None and "shape" not in node.attributes:
        target = known_ints(node.inputs[1]) if len(node.inputs) > 1 else None
    if target is None:
        return [[]] if "shape" in node.attributes else [None]
    if data is None:
        return [[unknown(node, axis) if dim in (0, -1) else dim for axis, dim in enumerate(target)]]
    allow_zero = bool(get_int(node, "allowzero", 0))
    result = [data[axis] if dim == 0 and not allow_zero else dim for axis, dim in enumerate(target)]
    if -1 in result:
        axis = result.index(-1)
        result[axis] = _remaining(data, result[:axis] + result[axis + 1 :], unknown(node, axis))
    elif not any(isinstance(dim, str) for dim in [*data, *result]) and product(data) != product(result):
        raise ValueError(f"shape {data} cannot become {list(result)}")
    return [list(result)]


def _remaining(data: Sequence[Dim], others: Sequence[Dim], unknown: str) -> Dim:
    rest = [dim for dim in data if isinstance(dim, str)]
    for dim in others:
        if isinstance(dim, str):
            if dim not in rest:
                return unknown
            rest.remove(dim)
    have, need = math.prod(numbers_of(data)), math.prod(numbers_of(others))
    if need == 0 or (not rest and have % need):
        raise ValueError(f"{have} elements cannot be split into parts of {need}")
    if rest:
        return rest[0] if len(rest) == 1 and have == need else unknown
    return have // need


def transpose(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [None]
    perm = get_ints(node, "perm") or list(reversed(range(len(data))))
    if sorted(perm) != list(range(len(data))):
        raise ValueError(f"perm {perm} of a tensor of rank {len(data)}")
    return [[data[axis] for axis in perm]]


def squeeze(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None or is_pending(node, "axes", 1):
        return [None]
    axes = ints_of(node, "axes", 1)
    if axes is None:
        axes = [axis for axis, dim in enumerate(data) if dim == 1]
    axes = [normalize_axis(axis, len(data), node) for axis in axes]
    return [[dim for axis, dim in enumerate(data) if axis not in axes]]


def unsqueeze(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, axes = shapes[0], ints_of(node, "axes", 1)
    if data is None or axes is None:
        return [None]
    size = len(data) + len(axes)
    axes = [normalize_axis(axis, size, node) for axis in axes]
    rest = iter(data)
    return [[1 if axis in axes else next(rest) for axis in range(size)]]


def resize(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    if data is None:
        return [None]
    sizes = ints_of(node, "sizes", 3)
    if sizes:
        return [list(sizes)] if len(sizes) == len(data) else [None]
    scales: Sequence[float] | None = None
    if "scales" in node.attributes:
        scales = node.attributes["scales"].as_floats()
    elif len(node.inputs) > 1:
        array = constant(node.inputs[2] if len(node.inputs) > 2 else node.inputs[1])
        scales = None if array is None else [float(item) for item in array.reshape(-1)]
    if not scales or len(scales) != len(data):
        return [[unknown(node, axis) for axis in range(len(data))]]
    result: Dims = []
    for axis, (dim, scale) in enumerate(zip(data, scales, strict=True)):
        # ONNX: floor(size * scale), the scale a float32.
        if isinstance(dim, int):
            result.append(math.floor(np.float32(dim) * np.float32(scale)))
        else:
            whole = float(scale).is_integer()
            result.append(dim if scale == 1 else f"{int(scale)}*({dim})" if whole else unknown(node, axis))
    return [result]


def shape(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    if shapes[0] is None:
        return [[unknown(node, 0)]]
    length = len(shapes[0])
    start, end = get_int(node, "start", 0), get_int(node, "end", length)
    return [[len(range(*slice(start, end).indices(length)))]]


def gather(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data, indices = shapes[0], shapes[1]
    if data is None or indices is None:
        return [None]
    axis = normalize_axis(get_int(node, "axis", 0), len(data), node)
    return [[*data[:axis], *indices, *data[axis + 1 :]]]


def constant_of_shape(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    target = known_ints(node.inputs[0])
    return [None if target is None else list(target)]


def expand(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    """To a shape that is an input, or to attributes `shape` and `like_axes` (canonical form)."""
    data = shapes[0]
    target: Dims | None = list(get_ints(node, "shape") or []) or None
    if "shape" not in node.attributes:
        target = known_ints(node.inputs[1])
    if data is None or target is None:
        return [None]
    for position, axis in enumerate(get_ints(node, "like_axes") or []):
        if axis >= 0:
            target[position] = like_dim(node, shapes, axis, position)
    return [broadcast(node, [data, target])]
