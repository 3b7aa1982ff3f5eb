"""One float type: float16, bfloat16 and float64 become float32, also at the graph's inputs and outputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pyruntime.graph.constants import constant, set_initializer

_OTHER_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_CODES = {int(kind) for kind in _OTHER_FLOATS}


def run(model: ir.Model) -> bool:
    """Convert initializers, Constant nodes, casts and declared types.

    The values of half constants are exact in float32.
    """
    changed = False
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype in _OTHER_FLOATS:
            array = constant(value)
            assert array is not None
            set_initializer(model, value, array.astype(np.float32))
            changed = True
    for node in model.graph:
        changed |= _convert_attributes(node)
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.dtype in _OTHER_FLOATS:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            changed = True
    return changed


def _convert_attributes(node: ir.Node) -> bool:
    changed = False
    for name, attribute in list(node.attributes.items()):
        if name in ("to", "dtype", "output_dtype") and attribute.type == ir.AttributeType.INT:
            if attribute.as_int() in _CODES:
                node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
                changed = True
        elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _OTHER_FLOATS:
            array = attribute.as_tensor().numpy().astype(np.float32)
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(array))
            changed = True
    return changed
