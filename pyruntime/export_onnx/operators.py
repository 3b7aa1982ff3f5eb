"""Every operator of a program in ONNX, one function each; `EMITTERS` is the list."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto

from pyruntime.errors import ModelError
from pyruntime.export_onnx import transformer
from pyruntime.export_onnx.builder import OPSET, S8_SHIFT, Builder, real_clamp
from pyruntime.export_onnx.layers import add, linear, mul
from pyruntime.program import RANGES, Node


def _binary(op: str) -> Any:
    def emit(builder: Builder, node: Node) -> None:
        builder.finish(node, op, [builder.real(name) for name in node.inputs])

    return emit


def _quantize(builder: Builder, node: Node) -> None:
    value = builder.program.values[node.outputs[0]]
    scale, zero_point = builder.quantization(value.name)
    builder.quantize(builder.real(node.inputs[0]), value.name, scale, zero_point, value.dtype, value.name)


def _dequantize(builder: Builder, node: Node) -> None:
    source = builder.program.values[node.inputs[0]]
    if source.dtype == "s32":
        scale, zero_point = builder.quantization(source.name)
        inputs = [source.name, builder.constant(f"{source.name}_scale", np.float32(scale))]
        if zero_point:
            raise ModelError(f"node {node.name!r}: an int32 with a zero point has no ONNX form")
        builder.emit("DequantizeLinear", inputs, node.name, node.outputs[0])
        return
    builder.emit("Identity", [builder.real(source.name)], node.name, node.outputs[0])


_erf = np.vectorize(math.erf)

# Functions a table may stand for, tried in this order: (ONNX operator or "", attributes, NumPy form).
_LUT_FUNCTIONS: list[tuple[str, dict[str, float], Any]] = [
    ("", {}, lambda x: x),
    ("Relu", {}, lambda x: np.maximum(x, 0)),
    ("Sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
    ("SiLU", {}, lambda x: x / (1 + np.exp(-x))),
    ("GELU", {}, lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2),
    ("HardSwish", {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    ("HardSigmoid", {"alpha": 0.2, "beta": 0.5}, lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    ("Tanh", {}, np.tanh),
    ("LeakyRelu", {"alpha": 0.1}, lambda x: np.where(x < 0, 0.1 * x, x)),
    ("LeakyRelu", {"alpha": 0.01}, lambda x: np.where(x < 0, 0.01 * x, x)),
    ("LeakyRelu", {"alpha": 0.2}, lambda x: np.where(x < 0, 0.2 * x, x)),
]


def _lut(builder: Builder, node: Node) -> None:
    """A table: the function it was made from where that can be told, else the table itself."""
    source, value = builder.program.values[node.inputs[0]], builder.program.values[node.outputs[0]]
    table = builder.program.constants[node.inputs[1]].array
    if source.scale is not None and value.scale is not None:
        scale_x, zero_x = builder.quantization(source.name)
        scale_y, zero_y = builder.quantization(value.name)
        codes = np.arange(256, dtype=np.uint8).view(np.int8 if source.dtype == "s8" else np.uint8)
        reals = (codes.astype(np.float64) - zero_x) * scale_x
        low, high = RANGES[value.dtype]
        for op, attributes, function in _LUT_FUNCTIONS:
            expected = np.clip(np.rint(function(reals) / scale_y) + zero_y, low, high)
            if np.abs(expected - table).max() <= 1 and np.mean(expected != table) <= 0.02:
                _lut_function(builder, node, op, attributes)
                return
    index = builder.emit("Cast", [source.name], node.name, to=TensorProto.INT32)
    # Gather counts negative indices from the end: -128..-1 of an s8 are entries 128..255, as in a program.
    if source.dtype == "u8" and builder.moved(source.name):
        table = np.roll(table, S8_SHIFT)
    if value.dtype == "u8" and builder.moved(value.name):
        table = (table.astype(np.int16) - S8_SHIFT).astype(np.int8)
    stored = builder.constant(f"{node.name}_table", table)
    builder.emit("Gather", [stored, index], node.name, value.name, axis=0)


def _lut_function(builder: Builder, node: Node, op: str, attributes: dict[str, Any]) -> None:
    value, x = builder.program.values[node.outputs[0]], builder.real(node.inputs[0])
    if op == "SiLU":
        x = builder.emit("Mul", [x, builder.emit("Sigmoid", [x], node.name)], node.name)
    elif op == "GELU":
        x = _gelu(builder, node.name, x, "gelu")
    elif op:
        x = builder.emit(op, [x], node.name, **attributes)
    builder.quantize(x, value.name, *builder.quantization(value.name), value.dtype, value.name)


_UNARY = {
    "relu": "Relu",
    "leaky_relu": "LeakyRelu",
    "sigmoid": "Sigmoid",
    "hard_sigmoid": "HardSigmoid",
    "hard_swish": "HardSwish",
    "tanh": "Tanh",
    "exp": "Exp",
    "sqrt": "Sqrt",
    "erf": "Erf",
    "neg": "Neg",
    "abs": "Abs",
    "reciprocal": "Reciprocal",
}


def _unary(builder: Builder, node: Node) -> None:
    x, function = builder.real(node.inputs[0]), node.attributes["function"]
    output = node.outputs[0]
    if function == "clip":
        bounds = real_clamp(node.attributes, "lo", "hi", "f32", 1.0, 0)
        builder.clamp(x, node.name, bounds, output)
    elif function == "silu":
        builder.emit("Mul", [x, builder.emit("Sigmoid", [x], node.name)], node.name, output)
    elif function in ("gelu", "gelu_tanh"):
        _gelu(builder, node.name, x, function, output)
    else:
        attributes = {key: node.attributes[key] for key in ("alpha", "beta") if key in node.attributes}
        builder.emit(_UNARY[function], [x], node.name, output, **attributes)


def _gelu(builder: Builder, name: str, x: str, function: str, output: str | None = None) -> str:
    """`x/2 * (1 + erf(x/sqrt 2))`, or the tanh form; the operator Gelu exists only from opset 20 on."""

    def scalar(value: float) -> str:
        return builder.constant(f"{name}_constant", np.float32(value))

    def emit(op: str, *inputs: str, to: str | None = None) -> str:
        return builder.emit(op, inputs, name, to)

    if function == "gelu":
        inner = emit("Erf", emit("Mul", x, scalar(1 / np.sqrt(2))))
    else:
        cube = emit("Mul", emit("Mul", emit("Mul", x, x), x), scalar(0.044715))
        inner = emit("Tanh", emit("Mul", emit("Add", x, cube), scalar(np.sqrt(2 / np.pi))))
    half = emit("Mul", x, scalar(0.5))
    return emit("Mul", half, emit("Add", inner, scalar(1.0)), to=output)


def _pool(builder: Builder, node: Node) -> None:
    attributes = node.attributes
    op = "MaxPool" if node.op == "max_pool" else "AveragePool"
    x = builder.real(node.inputs[0])
    if attributes.get("global", 0) == 1:
        builder.finish(node, f"Global{op}", [x])
        return
    extra = {"kernel_shape": attributes["kernel"]}
    for key in ("strides", "pads", "ceil_mode"):
        extra[key] = attributes.get(key, 0)
    if op == "MaxPool":
        extra["dilations"] = attributes["dilations"]
    else:
        extra["count_include_pad"] = attributes.get("count_include_pad", 0)
        if any(step != 1 for step in attributes["dilations"]):
            raise ModelError(f"node {node.name!r}: a dilated average pool has no form in opset {OPSET}")
    builder.finish(node, op, [x], **extra)


def _movement(builder: Builder, node: Node) -> None:
    """Operators that move data; they keep scale and zero point, so quantizing again is exact."""
    attributes = node.attributes
    inputs = [builder.real(name) for name in node.inputs]
    op = node.op.capitalize()
    extra: dict[str, Any] = {}

    def integers(key: str) -> str:
        return builder.constant(f"{node.name}_{key}", np.asarray(attributes[key], dtype=np.int64))

    if node.op in ("concat", "flatten"):
        extra["axis"] = attributes["axis"]
    elif node.op in ("squeeze", "unsqueeze"):
        inputs.append(integers("axes"))
    elif node.op == "reshape":
        inputs.append(integers("shape"))
        extra["allowzero"] = attributes.get("allowzero", 0)
    elif node.op == "transpose":
        extra["perm"] = attributes["perm"]
    elif node.op == "pad":
        value = builder.program.values[node.outputs[0]]
        scale, zero_point = builder.quantization(value.name)
        fill = (attributes.get("value", 0) - zero_point) * scale
        inputs += [integers("pads"), builder.constant(f"{node.name}_value", np.float32(fill))]
        extra["mode"] = attributes["mode"]
    builder.finish(node, op, inputs, **extra)


def _resize(builder: Builder, node: Node) -> None:
    attributes = node.attributes
    inputs = [builder.real(node.inputs[0]), ""]
    if "scales" in attributes:
        inputs.append(
            builder.constant(f"{node.name}_scales", np.asarray(attributes["scales"], dtype=np.float32))
        )
    else:
        sizes = np.asarray(attributes["sizes"], dtype=np.int64)
        inputs += ["", builder.constant(f"{node.name}_sizes", sizes)]
    extra = {key: attributes[key] for key in ("mode", "coordinate_transformation_mode")}
    if "nearest_mode" in attributes:
        extra["nearest_mode"] = attributes["nearest_mode"]
    builder.finish(node, "Resize", inputs, **extra)


def _plain(op: str, *keys: str, **fixed: Any) -> Any:
    """An operator whose attributes have the names ONNX gives them."""

    def emit(builder: Builder, node: Node) -> None:
        extra = {key: node.attributes[key] for key in keys if key in node.attributes}
        builder.finish(node, op, [builder.real(name) for name in node.inputs], **extra, **fixed)

    return emit


EMITTERS: dict[str, Any] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "conv": linear,
    "dense": linear,
    "add": add,
    "sub": _binary("Sub"),
    "mul": mul,
    "div": _binary("Div"),
    "lut": _lut,
    "unary": _unary,
    "prelu": _plain("PRelu"),
    "max_pool": _pool,
    "average_pool": _pool,
    "reduce_mean": _plain("ReduceMean", "axes", "keepdims"),
    "softmax": _plain("Softmax", "axis"),
    "matmul": transformer.matmul,
    "attention": transformer.attention,
    "layer_norm": transformer.layer_norm,
    "gather": transformer.gather,
    "where": transformer.where,
    "expand": transformer.expand,
    "concat": _movement,
    "slice": transformer.slice_,
    "pad": _movement,
    "reshape": _movement,
    "flatten": _movement,
    "squeeze": _movement,
    "unsqueeze": _movement,
    "transpose": _movement,
    "resize": _resize,
    "cast": _plain("Cast", to=TensorProto.FLOAT),
}
