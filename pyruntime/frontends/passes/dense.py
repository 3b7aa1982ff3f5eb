"""Dense layers: Gemm of tensors of any rank, weight `[out, in]`, bias `[out]`; others are MatMul and Add."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import Array, add_initializer, constant, is_constant, weight_initializer
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    has_attribute,
    insert_before,
    label,
    owner,
    replace_node,
    sole_consumer,
    topological_nodes,
)
from pyruntime.graph.shapes import rank

_CANONICAL = {"transA": 0, "transB": 1}


def run(model: ir.Model) -> bool:
    """Normalise every Gemm, and every MatMul of a tensor by a constant matrix (with the Add after it)."""
    changed = False
    for node in topological_nodes(model):
        if node.domain != "":
            continue
        if node.op_type == "Gemm":
            changed |= _gemm(node)
        elif node.op_type == "MatMul":
            changed |= _matmul(node)
    return changed


def _gemm(node: ir.Node) -> bool:
    if _is_canonical(node):
        return False
    data = node.inputs[0]
    if get_int(node, "transA", 0):
        data = insert_before(node, "Transpose", [data], {"perm": [1, 0]}).outputs[0]
    alpha, beta = get_float(node, "alpha", 1.0), get_float(node, "beta", 1.0)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    weight = weight_initializer(node.inputs[1])
    if weight is None or rank(weight) != 2:
        return _dynamic_gemm(node, data, alpha, beta, bias)
    transposed = get_int(node, "transB", 0) == 0
    weight_value = _scaled(node, 1, alpha, transposed)
    out = _out_features(weight_value)
    bias_value = _bias_vector(node, bias, beta, out)
    inputs = [data, weight_value, _zero_bias(node, out) if bias_value is None else bias_value]
    result = insert_before(
        node, "Gemm", inputs, _CANONICAL | {"alpha": 1.0, "beta": 1.0}, name=node.name
    ).outputs[0]
    if bias is not None and bias_value is None:
        result = _add(node, result, bias, beta)
    replace_node(node, result)
    return True


def _is_canonical(node: ir.Node) -> bool:
    weight = weight_initializer(node.inputs[1])
    if weight is None or len(node.inputs) < 3 or node.inputs[2] is None:
        return False
    complete = all(has_attribute(node, name) for name in ("alpha", "beta", "transA", "transB"))
    plain = get_float(node, "alpha", 1.0) == 1.0 and get_float(node, "beta", 1.0) == 1.0
    bias = weight_initializer(node.inputs[2])
    fits = (
        bias is not None
        and rank(bias) == 1
        and bias.shape is not None
        and bias.shape[0] == _out_features(weight)
    )
    return complete and plain and fits and get_int(node, "transA", 0) == 0 and get_int(node, "transB", 0) == 1


def _out_features(value: ir.Value) -> int:
    weight = weight_initializer(value)
    assert weight is not None and weight.const_value is not None
    return int(weight.const_value.shape.numpy()[0])


def _dynamic_gemm(
    node: ir.Node, data: ir.Value | None, alpha: float, beta: float, bias: ir.Value | None
) -> bool:
    other = node.inputs[1]
    if get_int(node, "transB", 0):
        other = insert_before(node, "Transpose", [other], {"perm": [1, 0]}).outputs[0]
    result = insert_before(node, "MatMul", [data, other], name=node.name).outputs[0]
    if alpha != 1.0:
        result = insert_before(node, "Mul", [result, _scalar(node, alpha)]).outputs[0]
    if bias is not None:
        result = _add(node, result, bias, beta)
    replace_node(node, result)
    return True


def _add(node: ir.Node, result: ir.Value, bias: ir.Value, beta: float) -> ir.Value:
    if beta != 1.0:
        bias = insert_before(node, "Mul", [bias, _scalar(node, beta)]).outputs[0]
    return insert_before(node, "Add", [result, bias]).outputs[0]


def _scalar(node: ir.Node, value: float) -> ir.Value:
    return add_initializer(owner(node), f"{node.name}_factor", np.asarray(value, np.float32))


def _scaled(node: ir.Node, index: int, factor: float, transposed: bool) -> ir.Value:
    """The weight of a node times a factor, transposed or not, as a new value; the old one is not changed."""
    value = node.inputs[index]
    assert value is not None
    array = constant(value)
    if array is not None:
        if factor == 1.0 and not transposed:
            return value
        new = array.T if transposed else array
        new = new if factor == 1.0 else new.astype(np.float64) * factor
        return _new_constant(node, value, np.ascontiguousarray(new, np.float32))
    return _scaled_quantized(node, value, factor, transposed)


def _new_constant(node: ir.Node, old: ir.Value, array: Array) -> ir.Value:
    """Constant in place of `old`; it takes over the name if `node` was the only reader."""
    if len(old.uses()) == 1 and not old.is_graph_output() and old.is_initializer():
        name = old.name
        old.name = f"{name}_before"
        return add_initializer(owner(node), name or "weight", array)
    return add_initializer(owner(node), old.name or "weight", array)


def _scaled_quantized(node: ir.Node, value: ir.Value, factor: float, transposed: bool) -> ir.Value:
    dequantize = value.producer()
    assert dequantize is not None
    data, scale = constant(dequantize.inputs[0]), constant(dequantize.inputs[1])
    blocked = get_int(dequantize, "block_size", 0)
    if data is None or scale is None or factor <= 0 or dequantize.inputs[0] is None:
        raise ModelError(
            f"node {label(node)}: alpha {factor} with a quantized weight; only alpha > 0 is supported"
        )
    inputs = list(dequantize.inputs)
    attributes = dict(dequantize.attributes)
    if transposed:
        inputs[0] = _new_constant(node, dequantize.inputs[0], np.ascontiguousarray(data.T))
        if scale.ndim > 0:
            attributes["axis"] = ir.AttrInt64("axis", 1 - get_int(dequantize, "axis", 1) % 2)
        if blocked:
            zero_point = constant(inputs[2]) if len(inputs) > 2 else None
            inputs[1] = add_initializer(owner(node), f"{node.name}_scale", np.ascontiguousarray(scale.T))
            if zero_point is not None:
                inputs[2] = add_initializer(
                    owner(node), f"{node.name}_zero_point", np.ascontiguousarray(zero_point.T)
                )
    elif factor == 1.0:
        return value
    if factor != 1.0:
        scaled = (constant(inputs[1]) * np.float64(factor)).astype(np.float32)
        inputs[1] = add_initializer(owner(node), f"{node.name}_scale", scaled)
    return insert_before(node, "DequantizeLinear", inputs, attributes, name=dequantize.name).outputs[0]


def _zero_bias(node: ir.Node, out: int) -> ir.Value:
    return add_initializer(owner(node), f"{node.name}_bias", np.zeros(out, np.float32))


def _bias_vector(node: ir.Node, bias: ir.Value | None, beta: float, out: int) -> ir.Value | None:
    """Bias as a vector of `out` entries; None if it is none (absent, dynamic, or different per row)."""
    array = constant(bias)
    if bias is None:
        return None
    if array is None:
        return _quantized_bias(bias, beta, out)
    if array.size not in (1, out) or (array.ndim == 2 and array.shape[0] != 1) or array.ndim > 2:
        return None
    if array.size == out and array.ndim == 1 and beta == 1.0:
        return bias
    vector = np.broadcast_to(array.reshape(-1), out).astype(np.float64) * beta
    return _new_constant(node, bias, vector.astype(np.float32))


def _quantized_bias(bias: ir.Value, beta: float, out: int) -> ir.Value | None:
    integers = weight_initializer(bias)
    if integers is None or beta != 1.0 or integers.shape is None or list(integers.shape) != [out]:
        return None
    return bias


def _matmul(node: ir.Node) -> bool:
    weight = weight_initializer(node.inputs[1])
    size = rank(node.inputs[0])
    if weight is None or rank(weight) != 2 or size is None or size < 2 or is_constant(node.inputs[0]):
        return False
    weight_value = _scaled(node, 1, 1.0, True)
    out = _out_features(weight_value)
    last, bias_value = node, None
    following = sole_consumer(node.outputs[0])
    if following is not None and following.op_type == "Add" and following.domain == "":
        other = following.inputs[1] if following.inputs[0] is node.outputs[0] else following.inputs[0]
        bias_value = _bias_vector(following, other, 1.0, out) if rank(other) in (0, 1, 2) else None
        last = node if bias_value is None else following
    inputs = [node.inputs[0], weight_value, _zero_bias(node, out) if bias_value is None else bias_value]
    gemm = insert_before(last, "Gemm", inputs, _CANONICAL | {"alpha": 1.0, "beta": 1.0}, name=node.name)
    replace_node(last, gemm.outputs[0])
    return True
