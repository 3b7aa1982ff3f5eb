"""Arithmetic in the operators we have: Sum, Min, Max, Pow, Neg, Reciprocal -> Add, Clip, Mul, Sqrt, Div."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pyruntime.frontends.passes.attribute_forms import optional_input, scalar_input
from pyruntime.graph.constants import add_initializer, constant, is_constant
from pyruntime.graph.nodes import insert_before, owner, replace_node, topological_nodes
from pyruntime.graph.shapes import rank


def run(model: ir.Model) -> bool:
    """Rewrite every node that has a rule; shape computations in integers are left alone."""
    changed = False
    for node in topological_nodes(model):
        rule = _RULES.get(node.op_type) if node.domain == "" else None
        if rule is not None and node.inputs and node.inputs[0] is not None:
            changed |= rule(node)
    return changed


def _sum(node: ir.Node) -> bool:
    """Sum of several tensors -> a chain of Add."""
    total = node.inputs[0]
    for value in node.inputs[1:]:
        total = insert_before(node, "Add", [total, value], name=node.name).outputs[0]
    if total is None or len(node.inputs) < 2:
        return False
    replace_node(node, total)
    return True


def _bound(node: ir.Node) -> bool:
    """Min or Max with one scalar constant -> Clip."""
    if len(node.inputs) != 2 or (node.inputs[0].dtype if node.inputs[0] else None) != ir.DataType.FLOAT:
        return False
    for data, bound in ((0, 1), (1, 0)):
        scalar, array = scalar_input(node, bound), constant(node.inputs[bound])
        size = rank(node.inputs[data])
        if (
            scalar is None
            or array is None
            or is_constant(node.inputs[data])
            or size is None
            or array.ndim > size
        ):
            continue
        low, high = (-math.inf, scalar) if node.op_type == "Min" else (scalar, math.inf)
        clip = insert_before(node, "Clip", [node.inputs[data]], {"min": low, "max": high}, name=node.name)
        replace_node(node, clip.outputs[0])
        return True
    return False


def _pow(node: ir.Node) -> bool:
    """Pow with exponent 1, 2, 3 or 0.5 -> the operators that compute it exactly as people mean it."""
    exponent, array = scalar_input(node, 1), constant(optional_input(node, 1))
    size, data = rank(node.inputs[0]), node.inputs[0]
    if array is None or size is None or array.ndim > size or data is None or data.dtype != ir.DataType.FLOAT:
        return False
    if exponent == 0.5:
        replace_node(node, insert_before(node, "Sqrt", [data], name=node.name).outputs[0])
        return True
    if exponent not in (1.0, 2.0, 3.0):
        return False
    result = data
    for _ in range(int(exponent) - 1):
        result = insert_before(node, "Mul", [result, data], name=node.name).outputs[0]
    replace_node(node, result)
    return True


def _neg(node: ir.Node) -> bool:
    if (node.inputs[0].dtype if node.inputs[0] else None) != ir.DataType.FLOAT:
        return False
    minus_one = _constant_scalar(node, -1.0)
    replace_node(node, insert_before(node, "Mul", [node.inputs[0], minus_one], name=node.name).outputs[0])
    return True


def _reciprocal(node: ir.Node) -> bool:
    one = _constant_scalar(node, 1.0)
    replace_node(node, insert_before(node, "Div", [one, node.inputs[0]], name=node.name).outputs[0])
    return True


def _constant_scalar(node: ir.Node, value: float) -> ir.Value:
    return add_initializer(owner(node), f"{node.name}_constant", np.asarray(value, np.float32))


_RULES: dict[str, Callable[[ir.Node], bool]] = {
    "Sum": _sum,
    "Min": _bound,
    "Max": _bound,
    "Pow": _pow,
    "Neg": _neg,
    "Reciprocal": _reciprocal,
}
