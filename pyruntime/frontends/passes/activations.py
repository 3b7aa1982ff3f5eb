"""Activations spelled out in several nodes -> one: Silu, HardSwish, HardSigmoid, Gelu, Sigmoid.

There are many ways to write each of them (x*0.5*(1+erf(x/sqrt 2)), 0.5*(x*(erf(x*0.7071)+1)),
x*clip(x+3,0,6)/6, ...). Instead of one pattern per spelling, the group of element-wise nodes that depends on
a single tensor is evaluated in float64 on a grid of points and compared with the functions we have; what
computes the same function is the same activation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import Array, constant
from pyruntime.graph.nodes import (
    AttributeValue,
    get_float,
    get_string,
    insert_before,
    remove_dead_nodes,
    replace_node,
    topological_nodes,
)
from pyruntime.graph.shapes import rank

_MOST_NODES = 12
_TOLERANCE = 2e-6
# Dense where the functions bend, sparse far out: a spelling with an extra clip far away is another function.
_GRID: Array = np.concatenate(
    [np.linspace(-12.0, 12.0, 2401), *(sign * np.logspace(1.1, 8, 40) for sign in (-1.0, 1.0))]
)


def run(model: ir.Model) -> bool:
    """Fuse, the largest groups first. Values inside a group that others read are kept for them."""
    changed = False
    for node in reversed(topological_nodes(model)):
        if node.graph is not None and node.op_type in _ROOTS and node.domain == "":
            changed |= _fuse(node)
    if changed:
        remove_dead_nodes(model)
    return changed


def _erf(x: Array) -> Array:
    return np.asarray([math.erf(item) for item in x], np.float64)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


_Target = tuple[str, str, dict[str, AttributeValue], Callable[[Array], Array]]
_TARGETS: list[_Target] = [
    ("pyruntime", "Silu", {}, lambda x: x * _sigmoid(x)),
    ("", "HardSwish", {}, lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    ("", "HardSigmoid", {"alpha": 1.0 / 6.0, "beta": 0.5}, lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    ("", "Gelu", {"approximate": "none"}, lambda x: 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))),
    ("", "Gelu", {"approximate": "tanh"}, _gelu_tanh),
    ("", "Sigmoid", {}, _sigmoid),
]


@functools.cache
def _expected() -> list[Array]:
    return [function(_GRID) for _, _, _, function in _TARGETS]


def _clip(node: ir.Node, x: Array) -> Array:
    return np.clip(x, get_float(node, "min", -math.inf), get_float(node, "max", math.inf))


def _hard_sigmoid(node: ir.Node, x: Array) -> Array:
    return np.clip(get_float(node, "alpha", 0.2) * x + get_float(node, "beta", 0.5), 0.0, 1.0)


def _gelu(node: ir.Node, x: Array) -> Array:
    return (
        _gelu_tanh(x)
        if get_string(node, "approximate", "none") == "tanh"
        else 0.5 * x * (1 + _erf(x / math.sqrt(2)))
    )


_UNARY: Mapping[str, Callable[[ir.Node, Array], Array]] = {
    "Relu": lambda node, x: np.maximum(x, 0.0),
    "Clip": _clip,
    "Sigmoid": lambda node, x: _sigmoid(x),
    "HardSigmoid": _hard_sigmoid,
    "Tanh": lambda node, x: np.tanh(x),
    "Erf": lambda node, x: _erf(x),
    "Exp": lambda node, x: np.exp(x),
    "Gelu": _gelu,
}
_BINARY: Mapping[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}
_ROOTS = {*_BINARY, "Clip"}
_BENDS = {"Clip", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Exp", "Relu"}


def _fuse(root: ir.Node) -> bool:
    group = _group(root)
    if group is None:
        return False
    for source, nodes in group:
        if len(nodes) < 2 or not any(node.op_type in _BENDS for node in nodes):
            continue
        result = _evaluate(root.outputs[0], source)
        target = None if result is None else _match(result)
        if target is None:
            continue
        domain, op_type, attributes, _ = target
        fused = insert_before(root, op_type, [source], attributes, domain=domain, name=root.name)
        replace_node(root, fused.outputs[0])
        return True
    return False


def _match(result: Array) -> _Target | None:
    for target, expected in zip(_TARGETS, _expected(), strict=True):
        if np.allclose(result, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
            return target
    return None


def _group(root: ir.Node) -> list[tuple[ir.Value, set[ir.Node]]] | None:
    """Tensors the root may be a function of, farthest first, each with the element-wise nodes in between."""
    cone = _cone(root)
    candidates: dict[ir.Value, None] = {}
    for node in cone:
        for value in node.inputs:
            if value is not None and constant(value) is None:
                candidates[value] = None
    groups = []
    for value in candidates:
        nodes: set[ir.Node] = set()
        if _depends_only_on(root.outputs[0], value, nodes):
            groups.append((value, nodes))
    return sorted(groups, key=lambda item: -len(item[1])) or None


def _cone(root: ir.Node) -> list[ir.Node]:
    """Element-wise nodes above the root, nearest first."""
    found, queue = [root], [root]
    while queue and len(found) < _MOST_NODES:
        for value in queue.pop(0).inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and producer not in found and _is_elementwise(producer):
                found.append(producer)
                queue.append(producer)
    return found


def _is_elementwise(node: ir.Node) -> bool:
    return node.domain == "" and (node.op_type in _UNARY or node.op_type in _BINARY)


def _is_scalar(value: ir.Value, like: ir.Value) -> bool:
    size, own = rank(like), rank(value)
    return (
        value.const_value is not None
        and value.is_initializer()
        and value.const_value.size == 1
        and size is not None
        and own is not None
        and own <= size
    )


def _depends_only_on(value: ir.Value, source: ir.Value, nodes: set[ir.Node]) -> bool:
    if value is source or _is_scalar(value, source):
        return True
    node = value.producer()
    if node is None or not _is_elementwise(node) or (value.is_graph_output() and len(nodes) > 0):
        return False
    if node not in nodes:
        nodes.add(node)
        if len(nodes) > _MOST_NODES:
            return False
    return all(item is not None and _depends_only_on(item, source, nodes) for item in node.inputs)


def _evaluate(value: ir.Value, source: ir.Value) -> Array | None:
    with np.errstate(all="ignore"):
        return _value_on_grid(value, source)


def _value_on_grid(value: ir.Value, source: ir.Value) -> Array | None:
    if value is source:
        return _GRID
    array = constant(value)
    if array is not None:
        return np.full(_GRID.shape, float(array.reshape(())))
    node = value.producer()
    assert node is not None
    inputs = [_value_on_grid(item, source) for item in node.inputs if item is not None]
    if any(item is None for item in inputs):
        return None
    if node.op_type in _UNARY:
        return _UNARY[node.op_type](node, inputs[0])  # type: ignore[arg-type]  # None is excluded above
    return _BINARY[node.op_type](inputs[0], inputs[1])  # type: ignore[arg-type]  # None is excluded above
