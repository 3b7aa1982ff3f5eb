"""Every node and every value has a name, and no two share one."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime.graph.nodes import topological_nodes


def run(model: ir.Model) -> bool:
    """Name what has no name; rename later nodes and values that repeat one.

    Inputs, outputs and weights keep theirs.
    """
    graph = model.graph
    fixed = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    used = {value.name for value in fixed}
    kept = {id(value) for value in fixed}
    changed = False
    for node in topological_nodes(model):
        for index, output in enumerate(node.outputs):
            if id(output) in kept:
                continue
            base = output.name or f"{node.name or node.op_type}_output{index}"
            name = _free(base, used)
            used.add(name)
            if name != output.name:
                output.name = name
                changed = True
    node_names: set[str | None] = set()
    for node in graph:
        name = _free(node.name or f"{node.op_type}_{node.outputs[0].name}", node_names)
        node_names.add(name)
        if name != node.name:
            node.name = name
            changed = True
    return changed


def _free(base: str, used: set[str | None]) -> str:
    name, number = base, 0
    while name in used:
        number += 1
        name = f"{base}_{number}"
    return name
