"""Graph inputs: initializers listed as inputs become constants, unnamed dimensions get names."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph.shapes import dims


def run(model: ir.Model) -> bool:
    """IR version 3 lists every initializer among the inputs; newer files may too (as a default).

    A dimension of an input without a name is named after the input ("N" for the first, if free), because
    shape computations can only be resolved if equal dimensions are known to be equal.
    """
    graph = model.graph
    changed = False
    for value in graph.initializers.values():
        if value.const_value is not None:
            value.shape = ir.Shape(value.const_value.shape.numpy())
            value.type = ir.TensorType(value.const_value.dtype)
    for value in list(graph.inputs):
        if value.is_initializer() and value.const_value is not None:
            graph.inputs.remove(value)
            changed = True
    taken = {dim for value in graph.inputs for dim in dims(value) or [] if isinstance(dim, str)}
    batch = "N"
    while batch in taken:
        batch += "_"
    for value in graph.inputs:
        if value.shape is None or all(isinstance(dim, int) or dim.value for dim in value.shape):
            continue
        value.shape = ir.Shape(
            [
                dim
                if isinstance(dim, int) or dim.value
                else batch
                if axis == 0
                else f"{value.name}_dim{axis}"
                for axis, dim in enumerate(value.shape)
            ]
        )
        changed = True
    return changed
