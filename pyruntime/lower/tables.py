"""Chains of tables become one table: `t2[t1[x]]` is a table too."""

from __future__ import annotations

import numpy as np

from pyruntime.program import Constant, Program


def compose_tables(program: Program) -> None:
    """Joins a `lut` with the `lut` that alone reads it, then drops tables nothing reads. Exact."""
    made_by = {node.outputs[0]: node for node in program.nodes}
    readers: dict[str, int] = dict.fromkeys(program.outputs, 1)
    for node in program.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    gone = []
    for node in program.nodes:
        first = made_by.get(node.inputs[0])
        if node.op != "lut" or first is None or first.op != "lut" or readers[first.outputs[0]] != 1:
            continue
        inner, outer = (program.constants[each.inputs[1]].array for each in (first, node))
        name = _free_name(program, f"{node.outputs[0]}_table")
        program.constants[name] = Constant(name, outer[inner.view(np.uint8)], "lut")
        node.inputs = [first.inputs[0], name]
        gone.append(first)
    for node in gone:
        program.nodes.remove(node)
        del program.values[node.outputs[0]]
    _drop_unread_tables(program)


def _free_name(program: Program, base: str) -> str:
    name, number = base, 0
    while name in program.constants or name in program.values:
        number += 1
        name = f"{base}_{number}"
    return name


def _drop_unread_tables(program: Program) -> None:
    read = {name for node in program.nodes for name in node.inputs}
    for name in [name for name in program.constants if name not in read]:
        del program.constants[name]
