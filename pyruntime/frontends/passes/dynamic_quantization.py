"""MatMulInteger and ConvInteger of inputs quantized while running -> the float operator.

    q, s, z = DynamicQuantizeLinear(x);  y = Cast(MatMulInteger(q, W, z, w_zero)) * (s * w_scale)

is `x @ ((W - w_zero) * w_scale)` but for the rounding of x, and becomes that. The weights keep their levels
as float32 numbers, so that the network is compressed like any float one (`--quantize int8`: static ranges,
`int8,activations=dynamic`: a range for each token). What does not have this form stays and is reported.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.frontends.passes.quantization import dequantize
from pyruntime.graph.constants import Array, add_initializer, constant
from pyruntime.graph.nodes import get_int, insert_before, owner, replace_node, topological_nodes

_FLOAT = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


def run(model: ir.Model) -> bool:
    changed = False
    for node in topological_nodes(model):
        if node.domain == "" and node.op_type in _FLOAT:
            changed |= _to_float(node)
    if changed:  # the other weights (embeddings) were quantized for their size alone
        for node in topological_nodes(model):
            if node.domain == "" and node.op_type == "DequantizeLinear":
                _dequantize_weight(node)
    return changed


def _dequantize_weight(node: ir.Node) -> None:
    """Make the result of a DequantizeLinear of a constant, or of rows gathered from one, a float one."""
    gather = _producer(node.inputs[0], "Gather")
    source = node.inputs[0] if gather is None else gather.inputs[0]
    data, scale = constant(source), constant(node.inputs[1])
    if source is None or data is None or scale is None or (gather is not None and scale.size > 1):
        return
    values = dequantize(node, data)
    if values is None:
        return
    new = add_initializer(owner(node), f"{source.name}_dequantized", values)
    if gather is not None:
        inputs = [new, gather.inputs[1]]
        new = insert_before(node, "Gather", inputs, dict(gather.attributes), name=gather.name).outputs[0]
    replace_node(node, new)


def _to_float(node: ir.Node) -> bool:
    source = _producer(node.inputs[0], "DynamicQuantizeLinear")
    scaled = _scaled(node)
    if source is None or scaled is None or len(node.inputs) < 3 or node.inputs[2] is not source.outputs[2]:
        return False
    scale = _weight_scale(scaled, source)
    weight = constant(node.inputs[1])
    zero_point = (
        constant(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else np.zeros(())
    )
    if scale is None or weight is None or zero_point is None:
        return False
    # One number for each output channel: rows of a convolution's weight, columns of a matrix.
    shape = [-1] + [1] * (weight.ndim - 1) if node.op_type == "ConvInteger" else [-1]
    levels = weight.astype(np.float32) - _spread(zero_point, shape)
    name = f"{node.inputs[1].name}_dequantized"  # type: ignore[union-attr]
    values = add_initializer(owner(node), name, (levels * _spread(scale, shape)).astype(np.float32))
    new = insert_before(
        scaled, _FLOAT[node.op_type], [source.inputs[0], values], dict(node.attributes), name=node.name
    )
    replace_node(scaled, new.outputs[0])
    return True


def _spread(values: Array, shape: list[int]) -> Array:
    return values.astype(np.float32).reshape(shape if values.size > 1 else ())


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and node.op_type == op_type else None


def _reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """The only node that reads the value, if it is of this type."""
    readers = list(value.consumers())
    one = len(readers) == 1 and readers[0].op_type == op_type and not value.is_graph_output()
    return readers[0] if one else None


def _scaled(node: ir.Node) -> ir.Node | None:
    """The Mul behind the Cast of the integers."""
    cast = _reader(node.outputs[0], "Cast")
    if cast is None or get_int(cast, "to", 0) != ir.DataType.FLOAT:
        return None
    return _reader(cast.outputs[0], "Mul")


def _weight_scale(scaled: ir.Node, source: ir.Node) -> Array | None:
    """The constant that, times the scale of the input, scales the integers."""
    for factor in scaled.inputs:
        scales = _producer(factor, "Mul")
        if scales is None or source.outputs[1] not in scales.inputs:
            continue
        others = [value for value in scales.inputs if value is not source.outputs[1]]
        return constant(others[0]) if len(others) == 1 else None
    return None
