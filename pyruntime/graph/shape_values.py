"""Integer tensors that carry shapes: which of their entries are known, as numbers or as symbols."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import constant
from pyruntime.graph.nodes import get_int, get_ints

Dim = int | str
_KEY = "pyruntime_known_ints"
_MOST_ENTRIES = 64


def known_ints(value: ir.Value | None) -> list[Dim] | None:
    """Entries of an integer scalar or vector: numbers, or symbols for dimensions unknown until run time.

    None if the value is not such a tensor or nothing is known of it. Filled by `infer_shapes`.
    """
    if value is None:
        return None
    if value.const_value is not None:
        if value.const_value.size > _MOST_ENTRIES or len(value.const_value.shape) > 1:
            return None
        array = constant(value)
        if array is None or not np.issubdtype(array.dtype, np.integer):
            return None
        return [int(entry) for entry in array.reshape(-1)]
    known = value.meta.get(_KEY)
    return list(known) if known is not None else None


def track_ints(node: ir.Node) -> None:
    """Derive what is known of the first output of a node from what is known of its inputs."""
    output = node.outputs[0]
    output.meta.pop(_KEY, None)
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain not in ("", "ai.onnx"):
        return
    kinds = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
    if node.op_type != "Shape" and output.dtype not in kinds:
        return
    if node.op_type not in ("Shape", "Gather", "Slice", "Concat") and not _is_vector(output):
        return
    known = rule(node, [known_ints(value) for value in node.inputs])
    if known is not None and len(known) <= _MOST_ENTRIES:
        output.meta[_KEY] = known


def _is_vector(value: ir.Value) -> bool:
    return value.shape is not None and len(value.shape) <= 1


def _is_scalar(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and len(value.shape) == 0


_Known = list[Dim] | None


def _shape(node: ir.Node, known: Sequence[_Known]) -> _Known:
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    entries: list[Dim] = [
        int(dim) if isinstance(dim, int) else (dim.value or f"{value.name}_dim{axis}")
        for axis, dim in enumerate(value.shape)
    ]
    return entries[slice(get_int(node, "start", 0), get_int(node, "end", len(entries)))]


def _gather(node: ir.Node, known: Sequence[_Known]) -> _Known:
    data, indices = known[0], known[1]
    if (
        data is None
        or indices is None
        or get_int(node, "axis", 0) not in (0, -1)
        or not _is_vector_input(node)
    ):
        return None
    if any(not isinstance(index, int) or not -len(data) <= index < len(data) for index in indices):
        return None
    return [data[int(index)] for index in indices]


def _is_vector_input(node: ir.Node) -> bool:
    return node.inputs[0] is not None and node.inputs[0].shape is not None and len(node.inputs[0].shape) == 1


def _slice(node: ir.Node, known: Sequence[_Known]) -> _Known:
    if known[0] is None or not _is_vector_input(node):
        return None
    bounds = [_single(node, name, index, known) for index, name in ((1, "starts"), (2, "ends"))]
    step = _single(node, "steps", 4, known, 1)
    if bounds[0] is None or bounds[1] is None or not step:
        return None
    return known[0][slice(max(bounds[0], -(1 << 62)), bounds[1], step)]


def _single(
    node: ir.Node, name: str, index: int, known: Sequence[_Known], default: int | None = None
) -> int | None:
    given = get_ints(node, name)
    if given is None and index < len(node.inputs) and node.inputs[index] is not None:
        entries = known[index]
        given = None if entries is None or not isinstance(entries[0], int) else [entries[0]]
        return given[0] if given else None
    return given[0] if given else default


def _concat(node: ir.Node, known: Sequence[_Known]) -> _Known:
    entries: list[Dim] = []
    for value, part in zip(node.inputs, known, strict=True):
        size = (
            value.shape[0]
            if value is not None and value.shape is not None and len(value.shape) == 1
            else None
        )
        if part is not None:
            entries.extend(part)
        elif isinstance(size, int) and size <= _MOST_ENTRIES:
            entries.extend(f"{value.name if value else ''}[{index}]" for index in range(size))
        else:
            return None
    return entries


def _copy(node: ir.Node, known: Sequence[_Known]) -> _Known:
    return known[0]


def _reduce_product(node: ir.Node, known: Sequence[_Known]) -> _Known:
    entries = known[0]
    if entries is None or not all(isinstance(entry, int) for entry in entries):
        return None
    return [math.prod(int(entry) for entry in entries)]


def _arithmetic(node: ir.Node, known: Sequence[_Known]) -> _Known:
    left, right = known[0], known[1]
    if left is None or right is None or not (len(left) == len(right) or 1 in (len(left), len(right))):
        return None
    size = max(len(left), len(right))
    if size and (not left or not right):
        return None
    left, right = left * (size if len(left) == 1 else 1), right * (size if len(right) == 1 else 1)
    name = node.outputs[0].name
    return [
        _combine(node.op_type, a, b, f"{name}[{i}]")
        for i, (a, b) in enumerate(zip(left, right, strict=False))
    ]


def _combine(op_type: str, a: Dim, b: Dim, unknown: str) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        if op_type == "Add":
            return a + b
        if op_type == "Sub":
            return a - b
        if op_type == "Mul":
            return a * b
        return int(a / b) if b else unknown
    if op_type in ("Mul", "Div") and b == 1:
        return a
    if op_type == "Mul" and a == 1:
        return b
    return unknown


def _equal(node: ir.Node, known: Sequence[_Known]) -> _Known:
    """1 or 0 per entry; a dimension never equals a negative number."""
    left, right = known[0], known[1]
    if left is None or right is None or len(left) != len(right):
        return None
    result: list[Dim] = []
    for index, (a, b) in enumerate(zip(left, right, strict=True)):
        negative = any(isinstance(entry, int) and entry < 0 for entry in (a, b))
        if a == b or negative or (isinstance(a, int) and isinstance(b, int)):
            result.append(int(a == b))
        else:
            result.append(f"{node.outputs[0].name}[{index}]")
    return result


def _where(node: ir.Node, known: Sequence[_Known]) -> _Known:
    condition, yes, no = known
    if condition is None or yes is None or no is None or not len(condition) == len(yes) == len(no):
        return None
    if any(isinstance(entry, str) for entry in condition):
        return None
    return [a if entry else b for entry, a, b in zip(condition, yes, no, strict=True)]


_RULES: dict[str, Callable[[ir.Node, Sequence[_Known]], _Known]] = {
    "Shape": _shape,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Cast": _copy,
    "Identity": _copy,
    "Squeeze": _copy,
    "Unsqueeze": _copy,
    "Reshape": _copy,
    "ReduceProd": _reduce_product,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Equal": _equal,
    "Where": _where,
}
