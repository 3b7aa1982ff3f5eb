"""Dimensions of tensors, numbers or symbols, and what shape rules compute with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.nodes import get_int, get_ints, label
from pyruntime.graph.shape_values import known_ints

Dim = int | str
Dims = list[Dim]


def unknown(node: ir.Node, axis: int, output: int = 0) -> str:
    return f"{node.outputs[output].name}_dim{axis}"


def ints_of(node: ir.Node, name: str, index: int) -> list[int] | None:
    """Integers given as an attribute or, in newer opsets, a constant input; else None."""
    if name in node.attributes:
        return get_ints(node, name)
    values = known_ints(node.inputs[index]) if index < len(node.inputs) else None
    if values is None or any(isinstance(value, str) for value in values):
        return None
    return [int(value) for value in values]


def is_pending(node: ir.Node, name: str, index: int) -> bool:
    """Whether integers are given as an input whose value is not known yet (other than absent)."""
    given = index < len(node.inputs) and node.inputs[index] is not None
    return given and ints_of(node, name, index) is None


def normalize_axis(axis: int, rank_: int, node: ir.Node) -> int:
    """Axis counted from the front. Errors: ModelError if it is out of range."""
    if not -rank_ <= axis < rank_:
        raise ModelError(
            f"node {label(node)}: axis {axis} is outside a tensor of rank {rank_}; correct the model"
        )
    return axis + rank_ if axis < 0 else axis


def broadcast(node: ir.Node, shapes: Sequence[Dims]) -> Dims:
    """NumPy broadcasting of shapes with symbols; two different symbols give an unknown dimension."""
    size = max(len(shape) for shape in shapes)
    result: Dims = []
    for axis in range(size):
        at_axis = [shape[axis - size + len(shape)] for shape in shapes if axis - size + len(shape) >= 0]
        candidates = list(dict.fromkeys(dim for dim in at_axis if dim != 1))
        numbers = [dim for dim in candidates if isinstance(dim, int)]
        if len(numbers) > 1:
            raise ValueError(f"dimensions {numbers[0]} and {numbers[1]} of axis {axis} do not broadcast")
        if numbers:
            result.append(numbers[0])
        else:
            result.append(
                1 if not candidates else candidates[0] if len(candidates) == 1 else unknown(node, axis)
            )
    return result


def offset_dim(size: str, amount: int) -> str:
    if amount == 0:
        return f"({size})" if "+" in size or "//" in size else size
    return f"({size}{amount:+d})"


def numbers_of(values: Sequence[Dim]) -> list[int]:
    """The entries that are integers."""
    return [value for value in values if isinstance(value, int)]


def product(values: Sequence[Dim]) -> Dim | None:
    """Product of dimensions: a symbol if it is the only factor, None if it has no simple form."""
    number = math.prod(numbers_of(values))
    symbols = [value for value in values if isinstance(value, str)]
    if not symbols:
        return number
    return symbols[0] if len(symbols) == 1 and number == 1 else None


def like_dim(node: ir.Node, shapes: list[Dims | None], axis: int, position: int) -> Dim:
    like = shapes[1] if len(shapes) > 1 else None
    return unknown(node, position) if like is None else like[axis]


def reduced_axes(node: ir.Node, rank_: int) -> list[int] | None:
    """Axes of a reduction, from the front, ascending; `[]` if it reduces nothing, None if not known yet.

    Errors: ModelError if one is out of range.
    """
    if is_pending(node, "axes", 1):
        return None
    axes = ints_of(node, "axes", 1)
    if not axes:
        return [] if get_int(node, "noop_with_empty_axes", 0) else list(range(rank_))
    return sorted(normalize_axis(axis, rank_, node) for axis in axes)
