"""Dynamic activations: a dense layer takes the range of each token (row of its input) from the token itself.

    y = x W^T + b   becomes   s = max |x|,  y = s (x / s) W^T + b,   s for each token

and x / s, which lies in [-1, 1] whatever the data, is quantized with one scale for good. So a token that is
larger than all of the calibration data is not clipped, and one that is smaller keeps all its levels. The
model says it in ONNX's own operators: Abs, MaxPool over the token, Clip, Div, and Mul and Add behind the
layer, all in float32; the product runs on integers.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from pyruntime import graph
from pyruntime.graph.nodes import AttributeValue
from pyruntime.layers import Layer, find_layers
from pyruntime.quantize.assignment import Assignment
from pyruntime.quantize.ranges import SMALLEST_SCALE, Range

RANGE = Range(-1.0, 1.0)  # of every token once it is divided


def scale_tokens(model: ir.Model, assignment: Assignment) -> list[str]:
    """Rewrite the dense layers that are assigned to integers, in place; the float network stays the same but
    for rounding. Convolutions, and products of tensors of rank 5 and more, stay as they are.

    Returns the names of the divided inputs; their range is `RANGE`.
    """
    divided: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
    for layer in find_layers(model):
        x = layer.node.inputs[0]
        if layer.node.op_type != "Gemm" or layer.name not in assignment.integer or x is None:
            continue
        if graph.rank(x) not in (2, 3, 4):
            continue
        if x not in divided:
            divided[x] = _divide(layer, x)
        small, scale = divided[x]
        layer.node.replace_input_with(0, small)
        _multiply(model, layer, scale)
    graph.infer_shapes(model)
    return [small.name or "" for small, _ in divided.values()]


def _divide(layer: Layer, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """`x / s` and `s`, in front of the first layer that reads x."""

    def add(op: str, *inputs: ir.Value, **attributes: AttributeValue) -> ir.Value:
        name = f"{x.name}_token_{op.lower()}"
        return graph.insert_before(layer.node, op, inputs, attributes, name=name).outputs[0]

    rank = graph.rank(x) or 2
    axes = max(1, rank - 2)  # of the plane that MaxPool looks at; a matrix gets an axis more for it
    window = {"kernel_shape": [1] * (axes - 1) + [layer.array().shape[-1]], "strides": [1] * axes}
    pool: dict[str, AttributeValue] = {
        **window,
        "pads": [0] * (2 * axes),
        "dilations": [1] * axes,
        "ceil_mode": 0,
    }
    found = add("Abs", x)
    if rank == 2:
        found = add("Squeeze", add("MaxPool", add("Unsqueeze", found, axes=[1]), **pool), axes=[1])
    else:
        found = add("MaxPool", found, **pool)
    scale = add("Clip", found, min=SMALLEST_SCALE, max=math.inf)
    return add("Div", x, scale), scale


def _multiply(model: ir.Model, layer: Layer, scale: ir.Value) -> None:
    """Give the layer's output its scale and its bias back; the last node takes over the output's name."""
    node, bias, made = layer.node, layer.bias, layer.node.outputs[0]
    scaled = graph.insert_after(node, "Mul", [made, scale], name=f"{layer.name}_token_scale")
    graph.replace_value(made, scaled.outputs[0])
    made.name = graph.unique_name(model, f"{layer.name}_token_product")
    if bias is None:
        return
    node.replace_input_with(2, None)
    node.resize_inputs(2)
    summed = graph.insert_after(scaled, "Add", [scaled.outputs[0], bias], name=f"{layer.name}_token_bias")
    graph.replace_value(scaled.outputs[0], summed.outputs[0])
    scaled.outputs[0].name = graph.unique_name(model, f"{layer.name}_token_scaled")
