"""Attributes, insertion, replacement and removal of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from pyruntime.errors import ModelError

AttributeValue = int | float | str | Sequence[int] | Sequence[float] | ir.Attr


def label(node: ir.Node) -> str:
    """`op_type (name)` of a node, with its domain if that is not ONNX's own, for messages."""
    op = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
    return f"{op} ({node.name or node.outputs[0].name or 'unnamed'})"


def has_attribute(node: ir.Node, name: str) -> bool:
    """Whether the attribute is written on the node."""
    return name in node.attributes


def get_int(node: ir.Node, name: str, default: int) -> int:
    """Integer attribute, or the default where the node does not have it."""
    return default if name not in node.attributes else _typed(node, name, ir.AttributeType.INT).as_int()


def get_float(node: ir.Node, name: str, default: float) -> float:
    """Float attribute, or the default where the node does not have it."""
    return default if name not in node.attributes else _typed(node, name, ir.AttributeType.FLOAT).as_float()


def get_string(node: ir.Node, name: str, default: str) -> str:
    """String attribute, or the default where the node does not have it."""
    return default if name not in node.attributes else _typed(node, name, ir.AttributeType.STRING).as_string()


def get_ints(node: ir.Node, name: str, default: Sequence[int] | None = None) -> list[int] | None:
    """Integer list attribute, or the default where the node does not have it."""
    if name not in node.attributes:
        return None if default is None else list(default)
    return list(_typed(node, name, ir.AttributeType.INTS).as_ints())


def _typed(node: ir.Node, name: str, kind: ir.AttributeType) -> ir.Attr:
    attribute = node.attributes[name]
    if attribute.type != kind:
        raise ModelError(
            f"node {label(node)}: attribute '{name}' is {attribute.type.name}, expected {kind.name}; "
            "export the model again"
        )
    return attribute


def make_attribute(name: str, value: AttributeValue) -> ir.Attr:
    """ONNX attribute of a Python value; an empty list is a list of integers."""
    if isinstance(value, ir.Attr):
        return value
    if isinstance(value, str):
        return ir.AttrString(name, value)
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, Sequence):
        if any(isinstance(item, float) for item in value):
            return ir.AttrFloat32s(name, [float(item) for item in value])
        return ir.AttrInt64s(name, [int(item) for item in value])
    return ir.AttrInt64(name, int(value))


def set_attribute(node: ir.Node, name: str, value: AttributeValue | None) -> bool:
    """Write an attribute (None removes it). Returns whether the node changed."""
    if value is None:
        return node.attributes.pop(name, None) is not None
    attribute = make_attribute(name, value)
    old = node.attributes.get(name)
    if old is not None and old.type == attribute.type and _plain(old.value) == _plain(attribute.value):
        return False
    node.attributes[name] = attribute
    return True


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value


def owner(node: ir.Node) -> ir.Graph:
    """The graph a node stands in."""
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise ModelError(f"node {label(node)}: not part of a graph")
    return graph


def unique_name(graph: ir.Graph | ir.Model, base: str) -> str:
    """`base`, or `base_1`, `base_2`, ... : the first that no value and no node of the graph has."""
    return _free_name(_used_names(graph.graph if isinstance(graph, ir.Model) else graph), base)


def _used_names(graph: ir.Graph) -> set[str | None]:
    used = {value.name for value in graph.inputs} | set(graph.initializers)
    for node in graph:
        used.add(node.name)
        used.update([output.name for output in node.outputs])
    return used


def _free_name(used: set[str | None], base: str) -> str:
    name, number = base, 0
    while name in used:
        number += 1
        name = f"{base}_{number}"
    return name


def _make_node(
    graph: ir.Graph,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, AttributeValue] | None,
    domain: str,
    name: str,
    outputs: int,
) -> ir.Node:
    used = _used_names(graph)
    name = _free_name(used, name)
    used.add(name)
    node = ir.Node(
        domain,
        op_type,
        list(inputs),
        [make_attribute(key, value) for key, value in (attributes or {}).items()],
        num_outputs=outputs,
        name=name,
    )
    for index, output in enumerate(node.outputs):
        output.name = _free_name(used, f"{name}_output" if outputs == 1 else f"{name}_output{index}")
        used.add(output.name)
    return node


def insert_before(
    anchor: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    domain: str = "",
    name: str | None = None,
    outputs: int = 1,
) -> ir.Node:
    """Create a node and put it before `anchor`. Its name is made unique; its output is `<name>_output`."""
    graph = owner(anchor)
    name = name or f"{anchor.name or anchor.op_type}_{op_type.lower()}"
    node = _make_node(graph, op_type, inputs, attributes, domain, name, outputs)
    graph.insert_before(anchor, node)
    return node


def insert_after(
    anchor: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, AttributeValue] | None = None,
    *,
    domain: str = "",
    name: str | None = None,
    outputs: int = 1,
) -> ir.Node:
    """Create a node and put it right after `anchor`; otherwise as `insert_before`."""
    graph = owner(anchor)
    name = name or f"{anchor.name or anchor.op_type}_{op_type.lower()}"
    node = _make_node(graph, op_type, inputs, attributes, domain, name, outputs)
    graph.insert_after(anchor, node)
    return node


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """The only node that reads the value, once; None if there are others or the value is a graph output."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    (use,) = uses
    return use.node


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of `old`, and the graph's outputs, read `new` instead.

    `new` takes over the name of `old` if `old` is a graph output or `new` comes from a node just inserted (it
    has no type yet), so that the graph's interface and the names people know survive. Where `new` cannot be
    the graph output (it is an input, a constant or an output already), an Identity that reads it is.
    """
    if old is new:
        return
    for use in old.uses():
        if use.node is not new.producer():
            use.node.replace_input_with(use.idx, new)
    producer = old.producer()
    if old.is_graph_output() and (new.producer() is None or new.is_graph_output()):
        if producer is not None and (producer.op_type != "Identity" or producer.inputs[0] is not new):
            graph = owner(producer)
            identity = ir.Node(
                "", "Identity", [new], outputs=[ir.Value()], name=unique_name(graph, "identity")
            )
            graph.insert_after(producer, identity)
            _take_over(old, identity.outputs[0])
        return
    if old.is_graph_output() or (new.type is None and new.producer() is not None):
        _take_over(old, new)


def _take_over(old: ir.Value, new: ir.Value) -> None:
    if old.is_graph_output():
        graph = old.graph
        assert graph is not None
        for index, output in enumerate(graph.outputs):
            if output is old:
                graph.outputs[index] = new
    name, old.name = old.name, None
    new.name = name
    new.shape = old.shape if new.shape is None else new.shape
    new.type = old.type if new.type is None else new.type


def remove_node(node: ir.Node) -> None:
    """Remove a node whose outputs nothing reads."""
    owner(node).remove(node, safe=True)


def replace_node(node: ir.Node, new: ir.Value | Sequence[ir.Value]) -> None:
    """Replace the outputs of a node by other values, in order, and remove it."""
    values = [new] if isinstance(new, ir.Value) else list(new)
    for old_value, new_value in zip(node.outputs, values, strict=False):
        replace_value(old_value, new_value)
    if not any(output.uses() or output.is_graph_output() for output in node.outputs):
        remove_node(node)


def topological_nodes(model: ir.Model | ir.Graph) -> list[ir.Node]:
    """The nodes in an order in which producers come before consumers (sorts the graph if need be)."""
    graph = model.graph if isinstance(model, ir.Model) else model
    seen: set[ir.Node] = set()
    for node in graph:
        producers = [value.producer() for value in node.inputs if value is not None]
        if any(
            producer is not None and producer.graph is graph and producer not in seen
            for producer in producers
        ):
            graph.sort()
            break
        seen.add(node)
    return list(graph)


def remove_dead_nodes(model: ir.Model) -> bool:
    """Remove nodes and initializers that no graph output depends on. Returns whether there were any."""
    graph = model.graph
    dead = [node for node in reversed(topological_nodes(graph)) if _detach_if_dead(node)]
    unused = _unused_initializers(graph.initializers.values())
    for value in unused:
        assert value.name is not None
        del graph.initializers[value.name]
    return bool(dead or unused)


def _detach_if_dead(node: ir.Node) -> bool:
    if any(output.uses() or output.is_graph_output() for output in node.outputs):
        return False
    remove_node(node)
    return True


def _unused_initializers(values: Iterable[ir.Value]) -> list[ir.Value]:
    return [value for value in values if not value.uses() and not value.is_graph_output()]
