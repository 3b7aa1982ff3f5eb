"""Quantized operators (QLinearConv, QGemm, ...) -> DequantizeLinear, the float operator, QuantizeLinear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import add_initializer, constant
from pyruntime.graph.nodes import (
    AttributeValue,
    get_int,
    insert_before,
    label,
    owner,
    replace_node,
    topological_nodes,
)
from pyruntime.graph.shapes import rank


def run(model: ir.Model) -> bool:
    """Rewrite every quantized operator that has a rule; others stay and are reported as unsupported."""
    changed = False
    for node in topological_nodes(model):
        rule = _RULES.get((node.domain, node.op_type))
        if rule is not None:
            changed |= rule(node)
    return changed


def _inputs(node: ir.Node, start: int, count: int = 3) -> list[ir.Value | None]:
    given = list(node.inputs[start : start + count])
    return given + [None] * (count - len(given))


def _dequantize(node: ir.Node, start: int, axis: int | None = None) -> ir.Value:
    """Float value of the (tensor, scale, zero_point) inputs that begin at `start`."""
    return _dequantize_values(node, _inputs(node, start), axis)


def _dequantize_values(node: ir.Node, values: Sequence[ir.Value | None], axis: int | None = None) -> ir.Value:
    scale = constant(values[1])
    attributes = {"axis": axis} if axis is not None and scale is not None and scale.size > 1 else {}
    inputs = list(values) if values[2] is not None else list(values[:2])
    return insert_before(
        node, "DequantizeLinear", inputs, attributes, name=f"{node.name}_dequantize"
    ).outputs[0]


def _quantize(node: ir.Node, result: ir.Value, start: int) -> bool:
    """Replace the node by QuantizeLinear of a float result with the (scale, zero_point) inputs at `start`."""
    scale, zero_point = _inputs(node, start, 2)
    inputs = [result, scale] if zero_point is None else [result, scale, zero_point]
    quantize = insert_before(node, "QuantizeLinear", inputs, name=f"{node.name}_quantize")
    replace_node(node, quantize.outputs[0])
    return True


def _float(
    node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, AttributeValue]
) -> ir.Value:
    return insert_before(node, op_type, inputs, attributes, name=node.name).outputs[0]


def _bias(
    node: ir.Node, bias: ir.Value | None, x_scale: ir.Value | None, w_scale: ir.Value | None
) -> ir.Value | None:
    """int32 bias in units of input scale times weight scale, as DequantizeLinear."""
    if bias is None:
        return None
    x_array, w_array = constant(x_scale), constant(w_scale)
    if x_array is None or w_array is None:
        raise ModelError(f"node {label(node)}: its scales are not constant; quantize the model statically")
    if bias.dtype == ir.DataType.FLOAT:
        return bias
    scale = x_array.reshape(-1)[0].astype(np.float32) * w_array.astype(np.float32).reshape(-1)
    scale = scale.reshape(()) if scale.size == 1 else scale
    scale_value = add_initializer(owner(node), f"{bias.name}_scale", scale)
    zeros = add_initializer(owner(node), f"{bias.name}_zero_point", np.zeros(scale.shape, np.int32))
    return _dequantize_values(node, [bias, scale_value, zeros], 0)


def _conv(node: ir.Node) -> bool:
    bias = _bias(node, _inputs(node, 8, 1)[0], node.inputs[1], node.inputs[4])
    inputs = [_dequantize(node, 0), _dequantize(node, 3, 0), *([] if bias is None else [bias])]
    return _quantize(node, _float(node, "Conv", inputs, dict(node.attributes)), 6)


def _matmul(node: ir.Node) -> bool:
    size = rank(node.inputs[3])
    weight = _dequantize(node, 3, size - 1 if size else 1)
    return _quantize(node, _float(node, "MatMul", [_dequantize(node, 0), weight], {}), 6)


def _gemm(node: ir.Node) -> bool:
    axis = 0 if get_int(node, "transB", 0) else 1
    inputs = [_dequantize(node, 0), _dequantize(node, 3, axis)]
    bias = _bias(node, _inputs(node, 6, 1)[0], node.inputs[1], node.inputs[4])
    result = _float(node, "Gemm", [*inputs, *([] if bias is None else [bias])], dict(node.attributes))
    if _inputs(node, 7, 1)[0] is None:
        replace_node(node, result)
        return True
    return _quantize(node, result, 7)


def _binary(op_type: str) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        return _quantize(node, _float(node, op_type, [_dequantize(node, 0), _dequantize(node, 3)], {}), 6)

    return rule


def _unary(op_type: str, *kept: str) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        attributes = {name: attribute for name, attribute in node.attributes.items() if name in kept}
        return _quantize(node, _float(node, op_type, [_dequantize(node, 0)], attributes), 3)

    return rule


def _pool(op_type: str) -> Callable[[ir.Node], bool]:
    def rule(node: ir.Node) -> bool:
        if get_int(node, "channels_last", 0):
            return False
        attributes = {
            name: attribute for name, attribute in node.attributes.items() if name != "channels_last"
        }
        return _quantize(node, _float(node, op_type, [_dequantize(node, 0)], attributes), 3)

    return rule


def _softmax(node: ir.Node) -> bool:
    size, opset = rank(node.inputs[0]), get_int(node, "opset", 13)
    axis = get_int(node, "axis", -1)
    if opset < 13 and size is not None and axis not in (-1, size - 1):
        return False
    return _quantize(node, _float(node, "Softmax", [_dequantize(node, 0)], {"axis": axis}), 3)


def _concat(node: ir.Node) -> bool:
    parts = [_dequantize(node, start) for start in range(2, len(node.inputs), 3)]
    return _quantize(node, _float(node, "Concat", parts, {"axis": get_int(node, "axis", 1)}), 0)


_MS = "com.microsoft"
_RULES: dict[tuple[str, str], Callable[[ir.Node], bool]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (_MS, "QGemm"): _gemm,
    (_MS, "QLinearAdd"): _binary("Add"),
    (_MS, "QLinearMul"): _binary("Mul"),
    (_MS, "QLinearSigmoid"): _unary("Sigmoid"),
    (_MS, "QLinearLeakyRelu"): _unary("LeakyRelu", "alpha"),
    (_MS, "QLinearGlobalAveragePool"): _pool("GlobalAveragePool"),
    (_MS, "QLinearAveragePool"): _pool("AveragePool"),
    (_MS, "QLinearSoftmax"): _softmax,
    (_MS, "QLinearConcat"): _concat,
}
