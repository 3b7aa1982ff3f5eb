"""The ONNX graph in the making: names, constants, quantization around float operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pyruntime.errors import ModelError
from pyruntime.program import RANGES, Array, Node, Program

OPSET = 17
S8_SHIFT = 128
IR_VERSION = 8


class Builder:
    """The ONNX graph so far. A quantized value keeps its program name for the integers; `real` gives its
    reals.

    Attributes:
        signed: u8 values are s8 in ONNX, 128 lower; inputs and outputs of the program stay as they are.
    """

    def __init__(self, program: Program, signed: bool = False) -> None:
        self.program = program
        self.signed = signed
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names = {*program.values, *program.constants}
        self._real: dict[str, str] = {}
        self._stored: set[str] = set()

    def unique(self, name: str) -> str:
        """`name`, or `name_2`, ... if something has it already."""
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate

    def constant(self, name: str, array: Array) -> str:
        """A new initializer."""
        name = self.unique(name)
        # Not ascontiguousarray, which makes vectors of scalars: ONNX Runtime refuses pools of such.
        self.initializers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def emit(
        self, op: str, inputs: Sequence[str], name: str, output: str | None = None, **attributes: Any
    ) -> str:
        """A new node with one output; returns the output's name."""
        output = output or self.unique(f"{name}_output")
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=self.unique(f"{name}_{op}"), **attributes)
        )
        return output

    def quantization(self, name: str) -> tuple[float, int]:
        """Scale and zero point of a value; (1, 0) for float."""
        value = self.program.values[name]
        if value.dtype == "f32":
            return 1.0, 0
        if value.scale is None:
            raise ModelError(f"value {name!r} has no scale: it has no ONNX form in reals")
        return float(value.scale), int(value.zero_point or 0)

    def real(self, name: str) -> str:
        """The float tensor of a value or constant: itself, or its DequantizeLinear."""
        if name in self.program.constants:
            if name not in self._stored:
                self._stored.add(name)
                array = np.ascontiguousarray(self.program.constants[name].array)
                self.initializers.append(numpy_helper.from_array(array, name))
            return name
        value = self.program.values[name]
        if value.dtype == "f32" or value.scale is None:
            return name
        if name not in self._real:
            parameters = self.parameters(name, *self.quantization(name), value.dtype)
            output = self.unique(f"{name}_dequantized")
            self._real[name] = self.emit("DequantizeLinear", [name, *parameters], name, output)
        return self._real[name]

    def dequantized(
        self, name: str, array: Array, scale: Array | float, zero_point: int = 0, axis: int = 0
    ) -> str:
        """DequantizeLinear of a new integer constant."""
        if self.signed and array.dtype == np.uint8:
            array, zero_point = (array.astype(np.int16) - S8_SHIFT).astype(np.int8), zero_point - S8_SHIFT
        inputs = [
            self.constant(f"{name}_quantized", array),
            self.constant(f"{name}_scale", np.float32(scale)),
        ]
        if array.dtype != np.int32:  # the bias: int32 has no zero point
            inputs.append(
                self.constant(f"{name}_zero_point", np.full(np.shape(scale), zero_point, array.dtype))
            )
        attributes: dict[str, Any] = {"axis": axis} if np.ndim(scale) else {}
        return self.emit("DequantizeLinear", inputs, name, **attributes)

    def quantize(
        self, real: str, name: str, scale: float, zero_point: int, dtype: str, output: str | None
    ) -> str:
        """QuantizeLinear of a float tensor."""
        return self.emit(
            "QuantizeLinear", [real, *self.parameters(name, scale, zero_point, dtype)], name, output
        )

    def finish(self, node: Node, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        """`op` as the last float operator of a node: clamps as the node says, then quantizes if its value is
        integer.
        """
        value = self.program.values[node.outputs[0]]
        scale, zero_point = self.quantization(value.name) if value.scale is not None else (1.0, 0)
        bounds = real_clamp(node.attributes, "lo", "hi", value.dtype, scale, zero_point)
        self.chain(node, op, inputs, bounds, attributes)

    def chain(
        self,
        node: Node,
        op: str,
        inputs: Sequence[str],
        bounds: tuple[float | None, float | None],
        attributes: dict[str, Any],
    ) -> None:
        """`op` -> clamp to `bounds` -> quantize, where the last one present makes the node's output."""
        value = self.program.values[node.outputs[0]]
        quantized = value.dtype != "f32" and value.scale is not None
        clamped = bounds != (None, None)
        last = None if quantized else value.name
        real = self.emit(op, inputs, node.name, None if clamped else last, **attributes)
        if clamped:
            real = self.clamp(real, node.name, bounds, last)
        if quantized:
            self.quantize(real, value.name, *self.quantization(value.name), value.dtype, value.name)

    def clamp(
        self, real: str, name: str, bounds: tuple[float | None, float | None], output: str | None = None
    ) -> str:
        """Relu or Clip."""
        if bounds == (0.0, None):
            return self.emit("Relu", [real], name, output)
        inputs = [real]
        for side, bound in zip(("min", "max"), bounds, strict=True):
            inputs.append("" if bound is None else self.constant(f"{name}_{side}", np.float32(bound)))
        return self.emit("Clip", inputs[: 2 if bounds[1] is None else 3], name, output)

    def moved(self, name: str) -> bool:
        """Whether a u8 value of the program, or one between two of them, is s8 in ONNX."""
        return self.signed and name not in self.program.inputs and name not in self.program.outputs

    def parameters(self, name: str, scale: float, zero_point: int, dtype: str) -> list[str]:
        zero: Any = np.uint8(zero_point) if dtype == "u8" else np.int8(zero_point)
        if dtype == "u8" and self.moved(name):
            zero = np.int8(zero_point - S8_SHIFT)
        return [self.constant(f"{name}_scale", np.float32(scale)), self.constant(f"{name}_zero_point", zero)]


def real_clamp(
    attributes: dict[str, Any], low: str, high: str, dtype: str, scale: float, zero_point: int
) -> tuple[float | None, float | None]:
    """Bounds of a node in reals; None where QuantizeLinear clamps there anyway, or there is no bound."""
    if dtype not in RANGES:
        bounds = attributes.get(low, -np.inf), attributes.get(high, np.inf)
        return tuple(float(bound) if np.isfinite(bound) else None for bound in bounds)  # type: ignore[return-value]
    ends = RANGES[dtype]
    bounds = attributes.get(low, ends[0]), attributes.get(high, ends[1])
    reals = [(int(bound) - zero_point) * scale for bound in bounds]
    return (
        reals[0] if bounds[0] > ends[0] else None,
        reals[1] if bounds[1] < ends[1] else None,
    )
