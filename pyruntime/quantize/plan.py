"""Which nodes of a float model run on integers, and which tensors therefore become u8."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from pyruntime import graph
from pyruntime.layers import as_layer
from pyruntime.quantize.assignment import Assignment
from pyruntime.quantize.ranges import Range, activation_params, quantize_u8
from pyruntime.quantize.weights import sqnr_db

ELEMENTWISE = ("Add", "Sub", "Mul")
POOL = ("AveragePool", "GlobalAveragePool")
CLAMP = ("Relu", "Clip")
UNARY = (*CLAMP, "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Silu")
# Products of computed tensors.
PRODUCTS = ("MatMul", "Attention")
# A constant operand of a sum or product becomes u8 if that costs less than this.
CONSTANT_SQNR_DB = 30.0
# Their outputs are values of their inputs (or 0), so they keep scale and zero point.
MOVEMENT = (
    "MaxPool",
    "GlobalMaxPool",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Split",
    "Pad",
    "Concat",
    "Resize",
)


@dataclass
class QuantizePlan:
    """What `insert_qdq` will do.

    Attributes:
        nodes: nodes that run on integers.
        tensors: float tensors that become u8, in the order in which they are made.
        groups: tensors that share scale and zero point, as lists; a tensor on its own is a list of one.
        sources: of each group, in the same order, the tensors whose values give its range.
        padding: values that Pad nodes bring into the group of their input, by tensor.
    """

    nodes: set[ir.Node] = field(default_factory=set)
    tensors: list[ir.Value] = field(default_factory=list)
    groups: list[list[ir.Value]] = field(default_factory=list)
    sources: list[list[ir.Value]] = field(default_factory=list)
    padding: dict[ir.Value, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the tensors to calibrate."""
        return [value.name or "" for group in self.sources for value in group]


def make_plan(model: ir.Model, assignment: Assignment | None = None) -> QuantizePlan:
    """Plan for a canonical float model.

    A layer that is assigned to integers (None: all are) runs on them whatever surrounds it, a product of two
    computed tensors or an attention if its operands come from integers. Other operators do if all their
    inputs come from integers and an integer operator reads their result: so tails (softmax, the last sum
    before an output) and islands of float (the residual stream between layer norms) stay float, and the last
    layer gives float.
    """
    order = graph.topological_nodes(model)
    nodes = _wanted(order, _able(order, assignment))
    tensors = _tensors(model, order, nodes)
    plan = QuantizePlan(nodes, tensors)
    plan.groups = _groups(order, nodes, tensors)
    plan.sources = [[v for v in group if not _moved(v, nodes)] for group in plan.groups]
    for node in order:
        if node in nodes and node.op_type == "Pad" and node.inputs[0] is not None:
            plan.padding[node.inputs[0]] = graph.get_float(node, "value", 0.0)
    return plan


def _able(order: list[ir.Node], assignment: Assignment | None) -> set[ir.Node]:
    able: set[ir.Node] = set()
    for node in order:
        layer = as_layer(node)
        if layer is not None:
            fits = assignment is None or layer.name in assignment.integer
        else:
            fits = _has_integer_form(node) and _reads_integers(node, able)
        if fits:
            able.add(node)
    return able


def _wanted(order: list[ir.Node], able: set[ir.Node]) -> set[ir.Node]:
    wanted: set[ir.Node] = set()
    for node in reversed(order):
        readers = (use.node for output in node.outputs for use in output.uses())
        if node in able and (_is_product(node) or any(reader in wanted for reader in readers)):
            wanted.add(node)
    return wanted


def _is_product(node: ir.Node) -> bool:
    """Whether the node is worth integers for its own sake."""
    return as_layer(node) is not None or node.op_type in PRODUCTS


def _has_integer_form(node: ir.Node) -> bool:
    if node.op_type == "Resize":
        return graph.get_string(node, "mode", "nearest") == "nearest"
    if node.op_type == "Pad":
        return graph.get_string(node, "mode", "constant") in ("constant", "reflect", "edge")
    if node.op_type == "Concat":
        return not any(graph.is_constant(value) for value in node.inputs)
    if node.op_type == "MatMul":
        return not any(graph.is_constant(value) for value in node.inputs)
    return node.op_type in (*ELEMENTWISE, *POOL, *UNARY, *MOVEMENT, *PRODUCTS)


def _reads_integers(node: ir.Node, able: set[ir.Node]) -> bool:
    inputs = node.inputs[:3] if node.op_type == "Attention" else node.inputs  # the mask is float
    dynamic = [value for value in inputs if value is not None and not graph.is_constant(value)]
    if node.op_type in ELEMENTWISE and not all(map(_survives_u8, node.inputs)):
        return False
    return bool(dynamic) and all(
        _is_float(value) and (value.producer() is None or value.producer() in able) for value in dynamic
    )


def _survives_u8(value: ir.Value | None) -> bool:
    """Whether an operand is no constant, or one that u8 with one scale represents well enough."""
    array = graph.constant(value)
    if array is None:
        return True
    if array.size == 0 or not np.isfinite(array).all():
        return False
    scale, zero_point = activation_params(Range(float(array.min()), float(array.max())))
    restored = (quantize_u8(array, scale, zero_point).astype(np.float64) - int(zero_point)) * float(scale)
    return sqnr_db(array, restored) >= CONSTANT_SQNR_DB


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (None, ir.DataType.FLOAT)


def _tensors(model: ir.Model, order: list[ir.Node], nodes: set[ir.Node]) -> list[ir.Value]:
    values = list(model.graph.inputs) + [output for node in order for output in node.outputs]
    return [
        value
        for value in values
        if (_read_by(nodes, value) or _moved(value, nodes)) and not _inside_fusion(value, nodes)
    ]


def _read_by(nodes: set[ir.Node], value: ir.Value) -> bool:
    return any(use.node in nodes and not is_mask(use.node, use.idx) for use in value.uses())


def is_mask(node: ir.Node, index: int) -> bool:
    """Whether input `index` of the node is the mask of an attention, which stays float."""
    return node.op_type == "Attention" and index == 3


def _inside_fusion(value: ir.Value, nodes: set[ir.Node]) -> bool:
    """Whether the value lies between a layer or a sum and the Relu or Clip that becomes its clamp."""
    producer, reader = value.producer(), graph.sole_consumer(value)
    if producer is None or reader is None or producer not in nodes or reader.op_type not in CLAMP:
        return False
    return as_layer(producer) is not None or producer.op_type in ELEMENTWISE


def _moved(value: ir.Value, nodes: set[ir.Node]) -> bool:
    producer = value.producer()
    return producer is not None and producer in nodes and producer.op_type in MOVEMENT


def _groups(order: list[ir.Node], nodes: set[ir.Node], tensors: list[ir.Value]) -> list[list[ir.Value]]:
    """Tensors joined by data movement; every group in the order of `tensors`."""
    group_of = {value: [value] for value in tensors}
    for node in order:
        if node not in nodes or node.op_type not in MOVEMENT:
            continue
        joined = [value for value in (*node.inputs, *node.outputs) if value in group_of]
        for value in joined[1:]:
            first, second = group_of[joined[0]], group_of[value]
            if first is not second:
                first.extend(second)
                group_of.update(dict.fromkeys(second, first))
    groups = {id(group): group for group in group_of.values()}
    rank = {value: index for index, value in enumerate(tensors)}
    return [sorted(group, key=lambda value: rank[value]) for group in groups.values()]
