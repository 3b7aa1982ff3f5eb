"""`analyse`: labels of every tensor of a model, and the groups they form."""

from __future__ import annotations

import onnx_ir as ir

from pyruntime import graph
from pyruntime.layers import as_layer
from pyruntime.prune.dependency.dependencies import Dependencies, Group, Member, fix_all
from pyruntime.prune.dependency.labels import Labels
from pyruntime.prune.dependency.rules import RULES, TAKES_CONSTANTS


def analyse(model: ir.Model) -> Dependencies:
    """Labels and groups of a canonical float model, which is not changed."""
    found = Dependencies()
    for node in graph.topological_nodes(model):
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx", "pyruntime") else None
        if rule is None or not _ranks_known(node):
            fix_all(found, node, f"read by {graph.label(node)}, which is not known to keep channels apart")
        elif node.op_type not in TAKES_CONSTANTS and graph.is_constant(node.inputs[0]):
            fix_all(found, node, "")
        else:
            rule(found, node)
    for value in model.graph.outputs:
        found.fix(value, f"network output '{value.name}'")
    members = (_member(found, node) for node in graph.topological_nodes(model))
    found.members = [member for member in members if member is not None]
    found.groups = _groups(found)
    return found


def _ranks_known(node: ir.Node) -> bool:
    return all(graph.dims(value) is not None for value in (*node.inputs, *node.outputs) if value is not None)


def _member(found: Dependencies, node: ir.Node) -> Member | None:
    layer = as_layer(node)
    if layer is None:
        return None
    axes = found.axes.get(layer.weight, {})
    outputs, inputs = axes.get(layer.axis), axes.get(0 if layer.transposed else 1)
    read = found.activation(node.inputs[0])
    return Member(
        layer,
        None if outputs is None else found.table.classes(outputs),
        None if inputs is None else found.table.classes(inputs),
        _groups_of(found, outputs),
        _groups_of(found, None if read is None else read[1]),
    )


def _groups_of(found: Dependencies, labels: Labels | None) -> tuple[int, ...]:
    if labels is None:
        return ()
    return tuple(dict.fromkeys(found.table.group(label) for label in labels.tolist()))


def _groups(found: Dependencies) -> list[Group]:
    """Groups that layers make, in the order of the first of these layers."""
    groups = []
    for key in dict.fromkeys(group for member in found.members for group in member.makes):
        makers = [member for member in found.members if key in member.makes]
        readers = [member for member in found.members if key in member.reads]
        widths, units = [], {}
        for member in makers:
            assert member.outputs is not None
            own = [unit for unit in member.outputs.tolist() if found.table.group(unit) == key]
            widths.append(len(own))
            units.update(dict.fromkeys(own))
        free = [unit for unit in units if not found.table.reason(unit)]
        reason = "" if free else found.table.reason(next(iter(units)))
        if len(units) == 1 and not reason:
            reason = "all its channels depend on each other" if max(widths) > 1 else "it has one channel"
        groups.append(
            Group(
                makers[0].layer.name,
                tuple(member.layer.name for member in makers),
                tuple(member.layer.name for member in readers),
                tuple(units),
                max(widths),
                reason,
            )
        )
    return groups
