"""Mul and Add of per-channel constants right after a Conv or Gemm -> its weight and bias."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.frontends.passes.batch_norm import scale_outputs
from pyruntime.graph.constants import constant, per_channel
from pyruntime.graph.nodes import get_int, replace_node, sole_consumer, topological_nodes
from pyruntime.graph.shapes import rank


def run(model: ir.Model) -> bool:
    """Fold where the Conv or Gemm has no other reader and its weight is a float constant."""
    changed = False
    for node in topological_nodes(model):
        if node.domain == "" and node.op_type in ("Add", "Sub", "Mul", "Div"):
            changed |= _fold(node)
    return changed


def _fold(node: ir.Node) -> bool:
    first, second = node.inputs[0], node.inputs[1]
    if first is None or second is None:
        return False
    reversed_ = constant(second) is None
    if reversed_ and node.op_type in ("Sub", "Div"):
        return False
    data, other = (second, first) if reversed_ else (first, second)
    layer, array = data.producer(), constant(other)
    if (
        layer is None
        or array is None
        or layer.op_type not in ("Conv", "ConvTranspose", "Gemm")
        or sole_consumer(data) is not node
    ):
        return False
    if layer.op_type == "Gemm" and not get_int(layer, "transB", 0):
        return False
    size = rank(data)
    vector = per_channel(array, size, axis=(size or 0) - 1 if layer.op_type == "Gemm" else 1)
    if vector is None:
        return False
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Add":
        scale, shift = one, vector
    elif node.op_type == "Sub":
        scale, shift = one, -vector
    elif node.op_type == "Mul":
        scale, shift = vector, zero
    else:
        if not np.all(vector):
            return False
        scale, shift = 1.0 / vector, zero
    if not scale_outputs(layer, scale, shift):
        return False
    replace_node(node, data)
    return True
