"""Canonical form -> valid standard ONNX, so that any other runtime can run a model of ours."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from pyruntime.graph.attention import expand as expand_attention
from pyruntime.graph.constants import Array, add_initializer, constant, weight_initializer
from pyruntime.graph.model import clone
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    get_ints,
    insert_before,
    remove_dead_nodes,
    replace_node,
    topological_nodes,
)
from pyruntime.graph.shapes import rank

STANDARD_OPSET = 21
STANDARD_IR_VERSION = 10


def to_standard(model: ir.Model) -> ir.Model:
    """New model of opset 21: attribute forms become inputs, own operators become standard ones.

    The nodes, values and tensors of `model` are not touched; weights are shared.
    QuantizeLinear/DequantizeLinear stay.
    """
    result = clone(model)
    for node in topological_nodes(result):
        if node.op_type == "Attention" and node.domain == "pyruntime":
            expand_attention(node)
    for node in topological_nodes(result):
        rule = _RULES.get(node.op_type) if node.domain in ("", "pyruntime") else None
        if rule is not None:
            rule(node)
    remove_dead_nodes(result)
    used = {node.domain for node in result.graph}
    versions = {
        domain: version for domain, version in result.opset_imports.items() if domain in used and domain
    }
    result.opset_imports.clear()
    result.opset_imports.update({"": STANDARD_OPSET, **versions})
    result.ir_version = STANDARD_IR_VERSION
    return result


def _move(node: ir.Node, attribute: str, index: int, array: Array) -> None:
    """Turn an attribute into a constant input."""
    node.attributes.pop(attribute, None)
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    assert node.graph is not None and isinstance(node.graph, ir.Graph)
    node.replace_input_with(index, add_initializer(node.graph, f"{node.name}_{attribute}", array))


def _move_ints(node: ir.Node, attribute: str, index: int) -> None:
    values = get_ints(node, attribute)
    if values is not None:
        _move(node, attribute, index, np.asarray(values, np.int64))


def _input_dtype(node: ir.Node) -> np.dtype[np.generic]:
    value = node.inputs[0]
    dtype = value.dtype if value is not None else None
    return np.dtype((dtype or ir.DataType.FLOAT).numpy())


def _clip(node: ir.Node) -> None:
    for index, name in ((1, "min"), (2, "max")):
        bound = get_float(node, name, math.nan)
        if math.isfinite(bound):
            _move(node, name, index, np.asarray(bound, _input_dtype(node)))
        node.attributes.pop(name, None)


def _axes(node: ir.Node) -> None:
    _move_ints(node, "axes", 1)


def _dimensions(node: ir.Node, sizes: list[int], like_axes: list[int]) -> ir.Value:
    """int64 vector of sizes, where entry i is dimension like_axes[i] of input 1 if that is not -1."""
    assert isinstance(node.graph, ir.Graph)
    parts = []
    for position, (size, axis) in enumerate(zip(sizes, like_axes, strict=True)):
        if axis >= 0:
            ends = {"start": axis, "end": axis + 1}
            parts.append(insert_before(node, "Shape", [node.inputs[1]], ends).outputs[0])
        else:
            name = f"{node.name}_size_{position}"
            parts.append(add_initializer(node.graph, name, np.asarray([size], np.int64)))
    return insert_before(node, "Concat", parts, {"axis": 0}).outputs[0]


def _expand(node: ir.Node) -> None:
    sizes, like_axes = get_ints(node, "shape") or [], get_ints(node, "like_axes")
    if like_axes is None:
        return _move_ints(node, "shape", 1)
    node.replace_input_with(1, _dimensions(node, sizes, like_axes))
    node.attributes.pop("shape")
    node.attributes.pop("like_axes")
    return None


def _where(node: ir.Node) -> None:
    condition = node.inputs[0]
    assert condition is not None
    if condition.dtype != ir.DataType.BOOL:
        cast = insert_before(node, "Cast", [condition], {"to": int(ir.DataType.BOOL)})
        node.replace_input_with(0, cast.outputs[0])


def _slice(node: ir.Node) -> None:
    like_axes = get_ints(node, "like_axes")
    if like_axes is not None:
        ends = _dimensions(node, get_ints(node, "ends") or [], like_axes)
        node.attributes.pop("like_axes")
        node.attributes.pop("ends")
        node.resize_inputs(3)
        node.replace_input_with(2, ends)
    for index, name in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps")):
        _move_ints(node, name, index)


def _split(node: ir.Node) -> None:
    _move_ints(node, "split", 1)


def _pad(node: ir.Node) -> None:
    value = get_float(node, "value", 0.0)
    _move_ints(node, "pads", 1)
    if "value" in node.attributes:
        _move(node, "value", 2, np.asarray(value, _input_dtype(node)))


def _reshape(node: ir.Node) -> None:
    _move_ints(node, "shape", 1)
    if not get_int(node, "allowzero", 0):
        node.attributes.pop("allowzero", None)


def _resize(node: ir.Node) -> None:
    if "scales" in node.attributes:
        scales = node.attributes["scales"].as_floats()
        _move(node, "scales", 2, np.asarray(scales, np.float32))
    _move_ints(node, "sizes", 3)


def _gemm(node: ir.Node) -> None:
    """ONNX's Gemm takes matrices: of higher ranks it is MatMul by the transposed weight, and Add."""
    size = rank(node.inputs[0])
    if size is None or size == 2:
        return
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    product = insert_before(node, "MatMul", [node.inputs[0], _transposed(node, weight)], name=node.name)
    result = product.outputs[0]
    result.shape, result.type = node.outputs[0].shape, node.outputs[0].type
    if bias is not None:
        result = insert_before(node, "Add", [result, bias]).outputs[0]
    replace_node(node, result)


def _transposed(node: ir.Node, weight: ir.Value | None) -> ir.Value:
    stored = weight_initializer(weight)
    array = constant(stored)
    assert weight is not None and stored is not None and array is not None
    assert isinstance(node.graph, ir.Graph)
    moved = add_initializer(node.graph, f"{stored.name}_transposed", np.ascontiguousarray(array.T))
    dequantize = weight.producer()
    if dequantize is None:
        return moved
    attributes = dict(dequantize.attributes)
    parameters = list(dequantize.inputs[1:])
    scale = constant(parameters[0])
    if scale is not None and scale.ndim:
        attributes["axis"] = ir.AttrInt64("axis", 1 - get_int(dequantize, "axis", 1) % 2)
    if scale is not None and scale.ndim == 2:  # one scale for each block
        for index, parameter in enumerate(parameters):
            blocks = constant(parameter)
            assert blocks is not None and parameter is not None
            name = f"{parameter.name}_transposed"
            parameters[index] = add_initializer(node.graph, name, np.ascontiguousarray(blocks.T))
    inputs = [moved, *parameters]
    return insert_before(node, "DequantizeLinear", inputs, attributes, name=dequantize.name).outputs[0]


def _silu(node: ir.Node) -> None:
    sigmoid = insert_before(node, "Sigmoid", node.inputs[:1])
    replace_node(node, insert_before(node, "Mul", [node.inputs[0], sigmoid.outputs[0]]).outputs[0])


_RULES: dict[str, Callable[[ir.Node], None]] = {
    "Clip": _clip,
    "Squeeze": _axes,
    "Unsqueeze": _axes,
    "ReduceMean": _axes,
    "Slice": _slice,
    "Expand": _expand,
    "Where": _where,
    "Split": _split,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Silu": _silu,
    "Gemm": _gemm,
    "ReduceSum": _axes,
    "ReduceMax": _axes,
}
