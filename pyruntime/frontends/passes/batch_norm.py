"""BatchNormalization: folded into the Conv or Gemm before it, else a per-channel Mul and Add."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph.constants import Array, add_initializer, constant, replace_constant_input
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    insert_before,
    label,
    replace_node,
    sole_consumer,
    topological_nodes,
)
from pyruntime.graph.shapes import rank


def run(model: ir.Model) -> bool:
    """Remove every BatchNormalization at inference. Its statistics must be constant."""
    changed = False
    for node in topological_nodes(model):
        if node.op_type == "BatchNormalization" and node.domain == "" and _is_inference(node):
            _remove(node)
            changed = True
    return changed


def _is_inference(node: ir.Node) -> bool:
    if get_int(node, "training_mode", 0) or not get_int(node, "spatial", 1) or rank(node.inputs[0]) is None:
        return False
    return not any(output.uses() or output.is_graph_output() for output in node.outputs[1:])


def _remove(node: ir.Node) -> None:
    scale, shift = _affine(node)
    producer = node.inputs[0].producer() if node.inputs[0] is not None else None
    if producer is not None and _fold(node, producer, scale, shift):
        assert node.inputs[0] is not None
        replace_node(node, node.inputs[0])
        return
    size = rank(node.inputs[0])
    assert size is not None
    shape = [1, -1] + [1] * (size - 2)
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    scale_value = add_initializer(graph, f"{node.name}_scale", scale.astype(np.float32).reshape(shape))
    shift_value = add_initializer(graph, f"{node.name}_shift", shift.astype(np.float32).reshape(shape))
    product = insert_before(node, "Mul", [node.inputs[0], scale_value], name=f"{node.name}_mul")
    total = insert_before(node, "Add", [product.outputs[0], shift_value], name=f"{node.name}_add")
    replace_node(node, total.outputs[0])


def _affine(node: ir.Node) -> tuple[Array, Array]:
    """Per-channel factor and summand of the node in float64: y = factor * x + summand."""
    arrays = [constant(value) for value in node.inputs[1:5]]
    if len(arrays) != 4 or any(array is None for array in arrays):
        raise ModelError(
            f"node {label(node)}: its scale, bias, mean and variance must be constant; export for inference"
        )
    gamma, beta, mean, variance = (np.asarray(array, np.float64).reshape(-1) for array in arrays)
    factor = gamma / np.sqrt(variance + get_float(node, "epsilon", 1e-5))
    summand = beta - mean * factor
    if not (np.all(np.isfinite(factor)) and np.all(np.isfinite(summand))):
        raise ModelError(
            f"node {label(node)}: its statistics give a factor that is not finite; correct the model"
        )
    return factor, summand


def _fold(node: ir.Node, producer: ir.Node, scale: Array, shift: Array) -> bool:
    if (
        producer.op_type not in ("Conv", "ConvTranspose", "Gemm")
        or sole_consumer(producer.outputs[0]) is not node
    ):
        return False
    if producer.op_type == "Gemm" and (not get_int(producer, "transB", 0) or rank(node.inputs[0]) != 2):
        return False
    return scale_outputs(producer, scale, shift)


def scale_outputs(layer: ir.Node, scale: Array, shift: Array) -> bool:
    """Make a Conv, ConvTranspose or Gemm yield `scale * y + shift` per output channel, by its constants.

    Both are float64 `[O]` (or of one element). Returns False, and changes nothing, if the weight or bias is
    not a float constant. Shared constants are copied.
    """
    weight = constant(layer.inputs[1])
    has_bias = len(layer.inputs) > 2 and layer.inputs[2] is not None
    bias = constant(layer.inputs[2]) if has_bias else None
    if weight is None or weight.dtype != np.float32 or (has_bias and bias is None):
        return False
    transposed = layer.op_type == "ConvTranspose"  # its weight is [C, O/group, k...]
    group = get_int(layer, "group", 1) if transposed else 1
    channels = weight.shape[1] * group if transposed else weight.shape[0]
    if any(array.size not in (1, channels) for array in (scale, shift)):
        return False
    scale, shift = np.broadcast_to(scale, channels), np.broadcast_to(shift, channels)
    old_bias = np.zeros(channels) if bias is None else bias.astype(np.float64)
    if np.any(scale != 1):
        factors = scale.reshape([-1] + [1] * (weight.ndim - 1))
        if transposed:
            factors = scale.reshape([group, -1] + [1] * (weight.ndim - 2)).repeat(weight.shape[0] // group, 0)
        replace_constant_input(layer, 1, (weight.astype(np.float64) * factors).astype(np.float32))
    new_bias = (old_bias * scale + shift).astype(np.float32)
    replace_constant_input(layer, 2, new_bias, f"{layer.name}_bias")
    return True
