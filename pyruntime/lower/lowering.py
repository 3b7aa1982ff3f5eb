"""The driver: which values the program must compute, then a rule for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pyruntime.errors import FileFormatError, ModelError
from pyruntime.graph import clone, dims, label, topological_nodes
from pyruntime.lower.context import DTYPES, Context, Match
from pyruntime.lower.prepare import expand_float_attention, prepare
from pyruntime.lower.quantization import operand_of
from pyruntime.lower.rules import RULES
from pyruntime.lower.tables import compose_tables
from pyruntime.program import Program
from pyruntime.validation import validate


def lower(model: ir.Model, extra_outputs: Sequence[str] = (), notes: list[str] | None = None) -> Program:
    """Program of a canonical model (see `pyruntime.frontends.onnx`). The model is not changed.

    extra_outputs: names of further values to give out, e.g. to observe them; nothing is fused across them.
    notes: receives one line per node that the model quantizes but that runs in float32, with the reason.

    Raises ModelError naming the node or value that has no form in a program.
    """
    copy = clone(model)
    expand_float_attention(copy)
    outputs = _outputs(copy, extra_outputs)
    prepare(copy, set(outputs))
    name = copy.graph.name or "network"
    context = Context(copy, set(outputs), Program(name, [], []))
    _declare_inputs(context)
    matches = _plan(context, outputs)
    for node in topological_nodes(copy):
        for value in node.outputs:
            if value in matches:
                matches[value].emit()
    context.program.outputs = [_finish_output(context, value) for value in outputs]
    compose_tables(context.program)
    if notes is not None:
        notes.extend(context.notes)
    try:
        validate(context.program, f"model {name!r}")
    except FileFormatError as error:
        raise ModelError(str(error)) from None
    return context.program


def _outputs(model: ir.Model, extra: Sequence[str]) -> list[ir.Value]:
    values = {value.name: value for node in model.graph for value in node.outputs}
    values.update({value.name: value for value in model.graph.inputs})
    found = list(model.graph.outputs)
    for name in extra:
        if name not in values:
            raise ModelError(f"value {name!r}: the model does not compute it")
        found.append(values[name])
    return list(dict.fromkeys(found))


def _declare_inputs(context: Context) -> None:
    for value in context.model.graph.inputs:
        name = value.name or ""
        dtype = DTYPES.get(value.dtype) if value.dtype is not None else None
        if dtype is None or dims(value) is None:
            raise ModelError(f"input {name!r}: needs a shape and a type among {', '.join(DTYPES.values())}")
        context.names[value] = context.value(name, dtype, context.shape(value))
        context.program.inputs.append(name)


def _plan(context: Context, outputs: Sequence[ir.Value]) -> dict[ir.Value, Match]:
    """A match for every value needed, found from the outputs backwards."""
    needed = set(outputs)
    matches: dict[ir.Value, Match] = {}
    for node in reversed(topological_nodes(context.model)):
        for value in node.outputs:
            if value in needed:
                matches[value] = _match(context, value)
                needed.update(matches[value].inputs)
    return matches


def _match(context: Context, value: ir.Value) -> Match:
    node = value.producer()
    assert node is not None
    for rule in RULES:
        match = rule(context, value)
        if match is not None:
            if rule.__name__.startswith("float_"):
                _note_float(context, node)
            return match
    raise ModelError(
        f"node {label(node)}: the operator has no form in a program; replace it before exporting"
    )


def _note_float(context: Context, node: ir.Node) -> None:
    """A float node beside a Q or DQ is worth a line, unless a rule already said why."""
    if any(note.startswith(label(node)) for note in context.notes):
        return
    operands = [operand_of(value) for value in node.inputs]
    if any(operand is not None and not operand.is_constant for operand in operands):
        context.note(node, "there is no integer form for it here; it runs in float32")
    elif any(use.node.op_type == "QuantizeLinear" for value in node.outputs for use in value.uses()):
        context.note(node, "its input is not quantized; it runs in float32")


def _finish_output(context: Context, value: ir.Value) -> str:
    """Name of an output, which must be the model's: an s8 one leaves through a table."""
    if value not in context.names:
        raise ModelError(f"output {value.name!r} is a constant; remove it from the outputs")
    name = context.names[value]
    if name == value.name:
        return name
    node = value.producer()
    assert node is not None and value.name is not None
    held = context.program.values[name]
    context.value(value.name, "s8", held.shape)
    described = context.program.values[value.name]
    described.scale = held.scale
    described.zero_point = None if held.zero_point is None else held.zero_point - 128
    table = (np.arange(256) - 128).astype(np.int8)
    context.lookup(node, name, table, value.name)
    return value.name
