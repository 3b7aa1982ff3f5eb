"""Shape rules of element-wise operators, products and reductions (`shape_rules` says what a rule is)."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph.dimensions import Dims, broadcast, reduced_axes
from pyruntime.graph.nodes import get_int


def same(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    return [shapes[0]]


def elementwise(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    known = [shape for shape in shapes if shape is not None]
    return [broadcast(node, known)] if len(known) == len(shapes) else [None]


def gemm(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    a, b = shapes[0], shapes[1]
    if a is None or b is None:
        return [None]
    rows, inner = (a[1], a[0]) if get_int(node, "transA", 0) else (a[0], a[1])
    columns, other = (b[0], b[1]) if get_int(node, "transB", 0) else (b[1], b[0])
    inner = a[-1] if len(a) > 2 else inner  # a canonical Gemm takes tensors of any rank
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise ValueError(f"{inner} columns times {other} rows")
    return [[*a[:-1], columns] if len(a) > 2 else [rows, columns]]


def matmul(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    a, b = shapes[0], shapes[1]
    if a is None or b is None:
        return [None]
    left, right = ([1, *a] if len(a) == 1 else a), ([*b, 1] if len(b) == 1 else b)
    if isinstance(left[-1], int) and isinstance(right[-2], int) and left[-1] != right[-2]:
        raise ValueError(f"{left[-1]} columns times {right[-2]} rows")
    batch = broadcast(node, [left[:-2], right[:-2]])
    return [batch + ([] if len(a) == 1 else [left[-2]]) + ([] if len(b) == 1 else [right[-1]])]


def attention(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    q, v = shapes[0], shapes[2]
    return [None if q is None or v is None else [*q[:2], v[2]]]


def reduce(node: ir.Node, shapes: list[Dims | None]) -> list[Dims | None]:
    data = shapes[0]
    axes = None if data is None else reduced_axes(node, len(data))
    if data is None or axes is None:
        return [None]
    keep = get_int(node, "keepdims", 1)
    return [[1 if axis in axes else dim for axis, dim in enumerate(data) if keep or axis not in axes]]
