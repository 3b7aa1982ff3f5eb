"""A program as standard ONNX in QDQ form: DequantizeLinear -> float operator -> QuantizeLinear.

The program alone is enough. With `real = (q - zero_point) * scale`, an integer convolution computes
`q_y = rne(acc * multiplier + offset)`, so the scale of weight channel o is `multiplier[o] * s_y / s_x` and
the bias `(offset[o] - zp_y) * s_y`. Run by the letter of ONNX, the result is within one output step of ours
(float rounding).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import onnx
from onnx import TensorProto, helper

from pyruntime import __version__
from pyruntime.export_onnx.builder import IR_VERSION, OPSET, Builder
from pyruntime.export_onnx.operators import EMITTERS
from pyruntime.program import Program, Value

__all__ = ["export_file", "to_onnx"]

_TYPES = {
    "f32": TensorProto.FLOAT,
    "u8": TensorProto.UINT8,
    "s8": TensorProto.INT8,
    "s32": TensorProto.INT32,
    "s64": TensorProto.INT64,
}


def export_file(
    path: str | os.PathLike[str], output: str | os.PathLike[str], *, signed: bool = False
) -> None:
    """Writes the ONNX form of a packed file; signed: with s8 activations."""
    from pyruntime.loading import check_exists
    from pyruntime.pack import read

    check_exists(path)
    model = to_onnx(read(path), signed=signed)
    onnx.save_model(model, os.fspath(output))


def to_onnx(
    program: Program, emitters: Mapping[str, Any] = EMITTERS, *, signed: bool = False
) -> onnx.ModelProto:
    """The program as an ONNX model (opset 17, QDQ form). ModelError: the standard cannot say it.

    emitters: operator -> function that appends its ONNX form to a Builder.
    signed: u8 activations become s8 ones, 128 lower, which stand for the same values; some runtimes run these
        faster. Inputs and outputs stay as they are.
    """
    builder = Builder(program, signed)
    for node in program.nodes:
        emitters[node.op](builder, node)
    inputs = [_value_info(program.values[name]) for name in program.inputs]
    outputs = [_value_info(program.values[name]) for name in program.outputs]
    graph = helper.make_graph(builder.nodes, program.name or "network", inputs, outputs, builder.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "pyruntime-cpu"
    model.producer_version = __version__
    onnx.checker.check_model(model)
    return model


def _value_info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, _TYPES[value.dtype], value.shape)
