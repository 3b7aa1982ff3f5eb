"""Booleans -> float32 numbers, where not 0 means true: Cast, Not, And, Or, Equal become Where.

The condition of a canonical Where is a float32 tensor (`graph.to_standard` puts the Cast back).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import Array, add_initializer, constant
from pyruntime.graph.nodes import get_int, insert_before, owner, replace_node, topological_nodes
from pyruntime.graph.shape_values import known_ints

_EXACT = 1 << 24  # integers up to here are exact in float32
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
_FLOAT = int(ir.DataType.FLOAT)


def run(model: ir.Model) -> bool:
    """Rewrite every node that has a rule and whose boolean inputs are rewritten already or constant."""
    changed = _constants(model)
    for node in topological_nodes(model):
        rule = _RULES.get(node.op_type) if node.domain == "" else None
        if rule is not None and node.graph is not None and not node.outputs[0].is_graph_output():
            changed |= rule(node)
    return changed


def _constants(model: ir.Model) -> bool:
    changed = False
    for value in tuple(model.graph.initializers.values()):
        array = constant(value) if value.dtype == ir.DataType.BOOL else None
        if array is None or value.is_graph_output():
            continue
        number = add_initializer(model, f"{value.name}_number", array.astype(np.float32))
        for use in tuple(value.uses()):
            use.node.replace_input_with(use.idx, number)
            changed = True
    return changed


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _number(node: ir.Node, number: float) -> ir.Value:
    return add_initializer(owner(node), f"{node.name}_number", np.asarray(number, np.float32))


def _where(node: ir.Node, inputs: list[ir.Value | None]) -> bool:
    result = insert_before(node, "Where", inputs, name=node.name).outputs[0]
    replace_node(node, result)
    result.type = ir.TensorType(ir.DataType.FLOAT)
    return True


def _as_float(node: ir.Node, value: ir.Value) -> ir.Value:
    if _is_float(value):
        return value
    cast = insert_before(node, "Cast", [value], {"to": _FLOAT}).outputs[0]
    cast.shape, cast.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
    return cast


def _cast(node: ir.Node) -> bool:
    """To a boolean: the number itself where it is but a condition, else 1 or 0."""
    value = node.inputs[0]
    is_number = _is_float(value) or (value is not None and value.dtype in _INTEGERS)
    if get_int(node, "to", _FLOAT) != int(ir.DataType.BOOL) or value is None or not is_number:
        return False
    number = _as_float(node, value)
    if any(use.node.op_type not in ("Where", "Not") or use.idx != 0 for use in node.outputs[0].uses()):
        return _where(node, [number, _number(node, 1.0), _number(node, 0.0)])
    replace_node(node, number)
    return True


def _not(node: ir.Node) -> bool:
    value = node.inputs[0]
    return _is_float(value) and _where(node, [value, _number(node, 0.0), _number(node, 1.0)])


def _and(node: ir.Node) -> bool:
    left, right = node.inputs
    return _is_float(left) and _is_float(right) and _where(node, [left, right, _number(node, 0.0)])


def _or(node: ir.Node) -> bool:
    left, right = node.inputs
    return _is_float(left) and _is_float(right) and _where(node, [left, _number(node, 1.0), right])


def _equal(node: ir.Node) -> bool:
    """Comparison with a constant that float32 holds exactly: not (x - constant)."""
    for value, other in (node.inputs, reversed(node.inputs)):
        array = constant(other)
        if value is None or array is None or constant(value) is not None or not _is_exact(array):
            continue
        if known_ints(value) is not None:
            return False  # part of a shape computation, which resolves
        if value.dtype in _INTEGERS or _is_float(value):
            number = add_initializer(owner(node), f"{node.name}_constant", array.astype(np.float32))
            difference = insert_before(node, "Sub", [_as_float(node, value), number]).outputs[0]
            difference.shape = node.outputs[0].shape
            difference.type = ir.TensorType(ir.DataType.FLOAT)
            return _where(node, [difference, _number(node, 0.0), _number(node, 1.0)])
    return False


def _is_nan(node: ir.Node) -> bool:
    """Of a softmax, which is never infinite: x - x is NaN, which is not 0, or 0."""
    value = node.inputs[0]
    made_by = None if value is None else value.producer()
    if made_by is None or made_by.op_type != "Softmax" or not _is_float(value):
        return False
    result = insert_before(node, "Sub", [value, value], name=node.name).outputs[0]
    result.shape, result.type = node.outputs[0].shape, ir.TensorType(ir.DataType.FLOAT)
    replace_node(node, result)
    return True


def _is_exact(array: Array) -> bool:
    return bool(np.isfinite(array).all()) and bool(np.all(np.abs(array) < _EXACT))


_RULES: dict[str, Callable[[ir.Node], bool]] = {
    "Cast": _cast,
    "Not": _not,
    "And": _and,
    "Or": _or,
    "Equal": _equal,
    "IsNaN": _is_nan,
}
