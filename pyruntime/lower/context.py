"""What the rewriting rules share: names, emission of nodes and constants, the `Match` a rule answers with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.graph import constant, dims, is_constant, label, topological_nodes
from pyruntime.lower.quantization import Operand, Params
from pyruntime.program import Array, Constant, Node, Program, Value, dtype_name

DTYPES = {
    ir.DataType.FLOAT: "f32",
    ir.DataType.UINT8: "u8",
    ir.DataType.INT8: "s8",
    ir.DataType.INT32: "s32",
    ir.DataType.INT64: "s64",
}


@dataclass
class Match:
    """A rule's answer: the values of the model it reads, and what adds its nodes to the program."""

    inputs: list[ir.Value]
    emit: Callable[[], None]


@dataclass
class Context:
    """State of one lowering.

    `names[value]` is the program's name for a value of the model; an s8 activation is held as u8 (`Params`).
    `exposed` values are outputs of the program: nothing may be fused across them.
    """

    model: ir.Model
    exposed: set[ir.Value]
    program: Program
    names: dict[ir.Value, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    integer_layers: dict[ir.Value, Any] = field(default_factory=dict)  # kept by `layers.integer_layer`
    _taken: set[str] = field(default_factory=set)
    _tables: dict[tuple[str, bytes], str] = field(default_factory=dict)
    _views: dict[tuple[str, Params], str] = field(default_factory=dict)
    _constants: dict[tuple[ir.Value, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.model.graph
        values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
        self._taken = {value.name or "" for value in values}
        self._node_names: set[str] = set()
        self.order = {node: position for position, node in enumerate(topological_nodes(self.model))}
        self.codes = np.arange(256, dtype=np.uint8)

    # ---------------------------------------------------------------- reading the model

    def note(self, node: ir.Node, reason: str) -> None:
        """Records why a node, quantized in the model, runs in float."""
        self.notes[f"{label(node)}: {reason}"] = None

    def feeds_only(self, value: ir.Value | None) -> bool:
        """Whether the value may be fused away: one node reads it, once, and it is no output."""
        return value is not None and value not in self.exposed and len(value.uses()) == 1

    def shape(self, value: ir.Value) -> list[int | str]:
        """Dimensions of a value; unknown ones (some exporters write -1) get a symbol."""
        known = dims(value) or []
        return [f"{value.name}_dim{axis}" if size == -1 else size for axis, size in enumerate(known)]

    # ---------------------------------------------------------------- adding to the program

    def fresh(self, base: str) -> str:
        """A name no value or constant has."""
        name, number = base, 0
        while name in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    def node(
        self,
        source: ir.Node,
        op: str,
        inputs: Sequence[str],
        output: str,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Appends a node named after the node of the model it comes from."""
        base = source.name or output
        name, number = base, 0
        while name in self._node_names:
            number += 1
            name = f"{base}_{number}"
        self._node_names.add(name)
        self.program.nodes.append(Node(name, op, list(inputs), [output], attributes or {}))

    def value(self, name: str, dtype: str, shape: Sequence[int | str], params: Params | None = None) -> str:
        """Describes a value; returns its name."""
        scale, zero_point = (None, None) if params is None else (params.scale, params.zero_point)
        self.program.values[name] = Value(name, dtype, list(shape), scale, zero_point)
        return name

    def float_output(self, value: ir.Value) -> str:
        """Describes a float value of the model under its own name."""
        name = self.names[value] = value.name or self.fresh("value")
        return self.value(name, "f32", self.shape(value))

    def quantized_output(self, value: ir.Value, params: Params) -> str:
        """Describes the u8 form of the output of a QuantizeLinear; an s8 one gets a name of its own."""
        name = value.name or self.fresh("value")
        if value.dtype == ir.DataType.INT8:
            name = self.fresh(f"{name}_u8")
        self.names[value] = name
        return self.value(name, "u8", self.shape(value), params)

    def temporary(self, base: str, like: ir.Value, params: Params | None) -> str:
        """Describes an intermediate value that the model does not name."""
        return self.value(self.fresh(base), "f32" if params is None else "u8", self.shape(like), params)

    def constant(
        self, base: str, array: Array, scheme: str = "", storage: dict[str, Any] | None = None
    ) -> str:
        """Adds a constant under a fresh name."""
        name = self.fresh(base)
        dtype_name(array.dtype)
        self.program.constants[name] = Constant(
            name, np.ascontiguousarray(array).reshape(array.shape), scheme, storage or {}
        )
        return name

    def shared_constant(
        self,
        source: ir.Value,
        form: str,
        array: Array,
        scheme: str,
        storage: dict[str, Any] | None = None,
    ) -> str:
        """Adds a constant once per tensor of the model and form: a weight of two layers is stored once."""
        key = (source, form)
        if key not in self._constants:
            self._constants[key] = self.constant(
                f"{source.name}_{form}" if form else f"{source.name}", array, scheme, storage
            )
        return self._constants[key]

    def float_input(self, value: ir.Value | None) -> str:
        """Program name of a float (or plain integer) input of a node."""
        assert value is not None
        if value in self.names:
            return self.names[value]
        array = constant(value)
        if array is None:
            raise ModelError(f"value {value.name!r} is read before it is made; sort the model")
        if array.dtype not in (np.float32, np.uint8, np.int8, np.int32, np.int64):
            raise ModelError(f"constant {value.name!r} has dtype {array.dtype}; convert it to float32")
        return self.shared_constant(value, "", array, dtype_name(array.dtype))

    def u8_input(self, operand: Operand, node: ir.Node) -> str:
        """Program name of a u8 value with exactly the operand's scale and zero point."""
        if operand.is_constant:
            array = constant(operand.source)
            assert array is not None
            moved = (array.astype(np.int16) + (128 if operand.signed else 0)).astype(np.uint8)
            return self.shared_constant(operand.source, "u8" if operand.signed else "", moved, "u8")
        name = self.names[operand.source]
        value = self.program.values[name]
        if value.dtype == "u8" and value.scale is None:
            value.scale, value.zero_point = operand.params.scale, operand.params.zero_point
        if value.dtype == "u8" and (value.scale, value.zero_point) == (
            operand.params.scale,
            operand.params.zero_point,
        ):
            return name
        # Same integers under another scale, or an s8 program input: a table that renames or moves by 128.
        table = self.codes ^ np.uint8(128) if value.dtype == "s8" else self.codes
        return self.view(name, operand.params, table, operand.source, node)

    def requantized_input(self, operand: Operand, target: Params, node: ir.Node) -> str:
        """Program name of the operand at the target's scale and zero point, exactly as DQ and Q would."""
        if operand.is_constant:
            array = constant(operand.source)
            assert array is not None
            codes = (array.astype(np.int16) + (128 if operand.signed else 0)).astype(np.uint8)
            moved = codes if operand.params == target else target.quantize(operand.params.dequantize(codes))
            return self.constant(f"{operand.source.name}_requantized", moved, "u8")
        name = self.u8_input(operand, node)
        if operand.params == target:
            return name
        table = target.quantize(operand.params.dequantize(self.codes))
        return self.view(name, target, table, operand.source, node)

    def view(self, name: str, params: Params, table: Array, like: ir.Value, node: ir.Node) -> str:
        """A `lut` of a value; made once per value and params."""
        key = (name, params)
        if key not in self._views:
            output = self.temporary(f"{name}_requantized", like, params)
            self.lookup(node, name, table, output)
            self._views[key] = output
        return self._views[key]

    def lookup(self, node: ir.Node, name: str, table: Array, output: str) -> None:
        """Adds a `lut` node; equal tables are stored once."""
        key = (table.dtype.str, table.tobytes())
        if key not in self._tables:
            self._tables[key] = self.constant(f"{output}_table", table, "lut")
        self.node(node, "lut", [name, self._tables[key]], output)


def dynamic(values: Sequence[ir.Value | None]) -> list[ir.Value]:
    """The values that are not constants, i.e. that the program must compute."""
    return [value for value in values if value is not None and not is_constant(value)]


def sources(operands: Sequence[Operand]) -> list[ir.Value]:
    """The integer values behind operands, without constants."""
    return [operand.source for operand in operands if not operand.is_constant]
