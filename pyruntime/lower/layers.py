"""Conv, Gemm and MatMul by a constant: finding them, their weights and biases, in float and in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from pyruntime.graph import constant, get_int, get_ints, storage_of
from pyruntime.lower.context import Context
from pyruntime.lower.quantization import Operand, Params, operand_of, real_constant, spread, to_float32
from pyruntime.program import Array

MAX_INT32 = 2**31 - 1


@dataclass
class Layer:
    """A Conv (`op` conv) or a product by a constant matrix (`op` dense); `bias` may come from an Add."""

    node: ir.Node
    op: str
    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    attributes: dict[str, Any]
    transposed: bool  # the weight is [K, N] and the program wants [N, K]


@dataclass
class IntegerLayer:
    """A layer on integers: weight s8 [O, ...], weight scales and bias (real numbers, or None) float64 [O]."""

    layer: Layer
    x: Operand
    weight: Array
    weight_source: ir.Value
    scales: Array
    bias: Array | None


def find_layer(context: Context, value: ir.Value) -> Layer | None:
    """The layer that makes `value`, with the Add of a constant row behind a product taken for its bias."""
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Add":
        return _with_bias(context, node)
    if node.op_type == "Conv":
        return _conv(node)
    if node.op_type == "Gemm":
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return _dense(node, bias, transposed=get_int(node, "transB", 0) == 0)
    if node.op_type == "MatMul":
        return _dense(node, None, transposed=True)
    return None


def _conv(node: ir.Node) -> Layer | None:
    x, weight = node.inputs[:2]
    assert x is not None and weight is not None
    attributes = {
        "strides": get_ints(node, "strides"),
        "pads": get_ints(node, "pads"),
        "dilations": get_ints(node, "dilations"),
        "groups": get_int(node, "group", 1),
    }
    return Layer(node, "conv", x, weight, node.inputs[2] if len(node.inputs) > 2 else None, attributes, False)


def _dense(node: ir.Node, bias: ir.Value | None, transposed: bool) -> Layer | None:
    x, weight = node.inputs[:2]
    assert x is not None and weight is not None
    array = real_constant(weight)
    if array is None or array.ndim != 2 or real_constant(x) is not None:
        return None
    return Layer(node, "dense", x, weight, bias, {}, transposed)


def _with_bias(context: Context, add: ir.Node) -> Layer | None:
    """MatMul, then Add of a constant row or scalar that nothing else separates."""
    for product, bias in (add.inputs, reversed(list(add.inputs))):
        made_by = product.producer() if product is not None else None
        if made_by is None or made_by.op_type != "MatMul" or not context.feeds_only(product):
            continue
        layer, array = find_layer(context, made_by.outputs[0]), real_constant(bias)
        if layer is None or array is None:
            continue
        outputs = outputs_of(layer)
        if array.size == 1 or (array.shape[-1] == outputs == array.size and array.ndim <= 2):
            layer.bias = bias
            return layer
    return None


def outputs_of(layer: Layer) -> int:
    """Number of output channels."""
    array = weight_array(layer)
    return int(array.shape[1 if layer.transposed else 0])


def weight_array(layer: Layer) -> Array:
    """The stored weight as the model has it: float32, or the integers behind a DequantizeLinear."""
    array = constant(layer.weight)
    if array is None:
        node = layer.weight.producer()
        assert node is not None
        array = constant(node.inputs[0])
    assert array is not None
    return array


def float_bias(layer: Layer) -> Array | None:
    """Bias as float32 [O], or None."""
    array = real_constant(layer.bias)
    if array is None:
        return None
    return np.broadcast_to(array.reshape(-1), (outputs_of(layer),)).astype(np.float32)


def integer_layer(context: Context, value: ir.Value) -> IntegerLayer | None:
    """The layer that makes `value`, if its input and weight are quantized as the integer operator needs.

    A quantized layer that cannot stay on integers is noted.
    """
    if value not in context.integer_layers:
        context.integer_layers[value] = _find_integer_layer(context, value)
    found: IntegerLayer | None = context.integer_layers[value]
    return found


def _find_integer_layer(context: Context, value: ir.Value) -> IntegerLayer | None:
    layer = find_layer(context, value)
    if layer is None:
        return None
    x, dequantize = operand_of(layer.x), layer.weight.producer()
    quantized_weight = dequantize is not None and dequantize.op_type == "DequantizeLinear"
    if x is None or x.is_constant or not quantized_weight:
        if x is not None and not x.is_constant:
            context.note(layer.node, "its input is quantized, its weight is not; it runs in float32")
        return None
    assert dequantize is not None
    found = _integer_weight(layer, dequantize)
    if isinstance(found, str):
        context.note(layer.node, f"{found}; it runs in float32 with dequantized weights")
        return None
    weight, scales = found
    if _may_overflow(weight, x.params):
        context.note(layer.node, "its sums may exceed int32; it runs in float32 with dequantized weights")
        return None
    source = dequantize.inputs[0]
    assert source is not None
    return IntegerLayer(layer, x, weight, source, scales, _exact_bias(layer, weight.shape[0]))


def _integer_weight(layer: Layer, dequantize: ir.Node) -> tuple[Array, Array] | str:
    """(s8 weight [O, ...], float64 scale [O]), or why there is none."""
    quantized = constant(dequantize.inputs[0])
    if quantized is None:
        return "its weight is not constant"
    scale, zero_point = spread(dequantize, quantized.shape)
    centred = quantized.astype(np.int64) - zero_point
    if centred.size and (centred.min() < -128 or centred.max() > 127):
        return "its weights have a zero point that does not fit signed 8 bits"
    axis = 1 if layer.transposed else 0
    if scale.size > 1 and scale.size != scale.reshape(-1).shape[0]:
        return "its weight scales vary along more than the output channels"
    if scale.ndim and scale.size != 1 and (scale.ndim != quantized.ndim or scale.shape[axis] != scale.size):
        return "its weight scales vary along another axis than the output channels"
    weight = centred.astype(np.int8)
    weight = np.ascontiguousarray(weight.T) if layer.transposed else weight
    scales = np.broadcast_to(scale.astype(np.float64).reshape(-1), (weight.shape[0],))
    return weight, scales


def _may_overflow(weight: Array, params: Params) -> bool:
    reach = max(abs(params.zero_point), abs(255 - params.zero_point))
    sums = np.abs(weight.astype(np.int64)).reshape(weight.shape[0], -1).sum(axis=1)
    return bool(sums.size) and int(sums.max()) * reach > MAX_INT32


def _exact_bias(layer: Layer, outputs: int) -> Array | None:
    """Bias in real numbers as float64 [O]: integers times scale without the float32 rounding between."""
    if layer.bias is None:
        return None
    node = layer.bias.producer()
    quantized = constant(node.inputs[0]) if node is not None else None
    if node is not None and quantized is not None:
        scale, zero_point = spread(node, quantized.shape)
        real = (quantized.astype(np.float64) - zero_point) * scale.astype(np.float64)
    else:
        array = real_constant(layer.bias)
        assert array is not None
        real = array.astype(np.float64)
    return np.broadcast_to(real.reshape(-1), (outputs,))


def emit_integer(
    context: Context, found: IntegerLayer, output: str, out: Params | None, attributes: dict[str, Any]
) -> None:
    """Adds the integer node; `out` None: float32 result; `attributes["residual"]`: name of a u8 value."""
    layer, node = found.layer, found.layer.node
    x = context.u8_input(found.x, node)
    form = "transposed" if layer.transposed else ""
    scheme, storage = storage_of(found.weight_source)
    if not scheme:
        scheme = "int8 per_channel" if np.unique(found.scales).size > 1 else "int8 per_tensor"
    weight = context.shared_constant(found.weight_source, form, found.weight, scheme, storage)
    step = 1.0 if out is None else out.scale
    bias = np.zeros(found.weight.shape[0]) if found.bias is None else found.bias
    multiplier = to_float32(found.x.params.scale * found.scales / step)
    offset = to_float32(bias / step + (0 if out is None else out.zero_point))
    inputs = [
        x,
        weight,
        context.constant(f"{node.name}_multiplier", multiplier, "f32"),
        context.constant(f"{node.name}_offset", offset, "f32"),
    ]
    rest = dict(attributes)
    if "residual" in rest:
        inputs.append(rest.pop("residual"))
    context.node(node, layer.op, inputs, output, {**layer.attributes, **rest})


def _float_storage(layer: Layer) -> tuple[str, dict[str, Any]]:
    """Scheme and storage of a weight that is executed in float32."""
    node = layer.weight.producer()
    if node is None:
        scheme, storage = storage_of(layer.weight)
        return scheme or "f32", storage
    source = node.inputs[0]
    assert source is not None
    scheme, storage = storage_of(source)
    found = _integer_weight(layer, node)
    if not isinstance(found, str):
        codes, scales = found
        storage = {**storage, "codes": codes, "scales": scales.astype(np.float32)}
    return f"{scheme} in f32" if scheme else "f32 dequantized", storage


def emit_float(
    context: Context, layer: Layer, output: str, attributes: dict[str, Any], residual: ir.Value | None = None
) -> None:
    """Adds the float node, with the weight dequantized if the model quantizes it."""
    node = layer.node
    array, bias = real_constant(layer.weight), float_bias(layer)
    assert array is not None
    array = np.ascontiguousarray(array.T) if layer.transposed else array
    scheme, storage = _float_storage(layer)
    form = "transposed" if layer.transposed else ""
    weight = context.shared_constant(layer.weight, form, array, scheme, storage)
    inputs = [context.float_input(layer.x), weight]
    inputs.append("" if bias is None else context.constant(f"{node.name}_bias", bias, "f32"))
    if residual is not None:
        inputs.append(context.float_input(residual))
    context.node(node, layer.op, inputs, output, {**layer.attributes, **attributes})
