"""Pad of zeros before Conv or AveragePool -> the `pads` of that node."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import constant
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    get_ints,
    get_string,
    set_attribute,
    sole_consumer,
    topological_nodes,
)


def run(model: ir.Model) -> bool:
    """Merge where legal: the padding is constant zero, spatial, non-negative, and only the one node reads it.

    Among quantized tensors (Pad, QuantizeLinear, DequantizeLinear, Conv) zero means the zero point, which is
    what the convolution pads with.
    """
    changed = False
    for node in topological_nodes(model):
        if node.op_type == "Pad" and node.domain == "":
            changed |= _merge(node)
    return changed


def _merge(pad: ir.Node) -> bool:
    pads, source = get_ints(pad, "pads"), pad.inputs[0]
    if (
        pads is None
        or source is None
        or len(pad.inputs) > 1
        or get_string(pad, "mode", "constant") != "constant"
    ):
        return False
    spatial = len(pads) // 2 - 2
    if spatial < 1 or min(pads) < 0 or any(pads[:2]) or any(pads[2 + spatial : 4 + spatial]):
        return False
    found = _consumer(pad)
    if found is None:
        return False
    node, source = found
    amounts = pads[2 : 2 + spatial] + pads[4 + spatial :]
    own = get_ints(node, "pads") or [0] * (2 * spatial)
    merged = [a + b for a, b in zip(amounts, own, strict=True)]
    if node.op_type == "AveragePool" and not _pool_can_take(node, own, merged):
        return False
    set_attribute(node, "pads", merged)
    node.replace_input_with(0, source)
    return True


def _pool_can_take(node: ir.Node, own: list[int], merged: list[int]) -> bool:
    """An average pool counts cells of a Pad; its own padding only with count_include_pad.

    ONNX wants pads < kernel.
    """
    kernel = get_ints(node, "kernel_shape") or []
    if get_int(node, "ceil_mode", 0) or any(
        amount >= size for amount, size in zip(merged, kernel * 2, strict=True)
    ):
        return False
    if any(own) and not get_int(node, "count_include_pad", 0):
        return False
    set_attribute(node, "count_include_pad", 1)
    return True


def _consumer(pad: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The Conv or AveragePool that alone reads the padded tensor, and the value it may read instead."""
    source, node = pad.inputs[0], sole_consumer(pad.outputs[0])
    if source is None or node is None:
        return None
    value = get_float(pad, "value", 0.0)
    if node.op_type == "QuantizeLinear" and value == 0:
        # Dequantize -> Pad -> Quantize with the same parameters -> Dequantize -> Conv.
        producer, second = source.producer(), sole_consumer(node.outputs[0])
        if producer is None or second is None or second.op_type != "DequantizeLinear":
            return None
        if not (_same_parameters(producer, node) and _same_parameters(node, second)):
            return None
        return _target(second, source)
    if node.op_type == "DequantizeLinear":
        zero_point = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if zero_point is None or zero_point.size != 1 or float(zero_point.reshape(())) != value:
            return None
        target = _target(node, node.outputs[0])
        if target is not None:
            node.replace_input_with(0, source)
        return target
    if value != 0 or node.op_type not in ("Conv", "AveragePool") or node.inputs[0] is not pad.outputs[0]:
        return None
    return node, source


def _target(dequantize: ir.Node, source: ir.Value) -> tuple[ir.Node, ir.Value] | None:
    node = sole_consumer(dequantize.outputs[0])
    if node is None or node.op_type != "Conv" or node.inputs[0] is not dequantize.outputs[0]:
        return None
    return node, source


def _same_parameters(first: ir.Node, second: ir.Node) -> bool:
    if {first.op_type, second.op_type} != {"QuantizeLinear", "DequantizeLinear"}:
        return False
    for index in (1, 2):
        a, b = (
            constant(node.inputs[index]) if len(node.inputs) > index else None for node in (first, second)
        )
        if a is None or b is None or a.dtype != b.dtype or a.size != 1 or not np.array_equal(a, b):
            return False
    return True
