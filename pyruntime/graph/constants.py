"""Constants: initializers as NumPy arrays, replaced and never mutated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime.errors import FileFormatError
from pyruntime.graph.nodes import owner, unique_name

Array = npt.NDArray[Any]


def is_constant(value: ir.Value | None) -> bool:
    """Whether the value is an initializer (external data is not read)."""
    return value is not None and value.is_initializer() and value.const_value is not None


def constant(value: ir.Value | None) -> Array | None:
    """Array of an initializer, None for any other value. Treat it as read-only: tensors are shared.

    Errors: FileFormatError if external data cannot be read.
    """
    if value is None or not is_constant(value):
        return None
    assert value.const_value is not None
    try:
        return np.asarray(value.const_value.numpy())
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            f"tensor '{value.name}': cannot be read ({reason}); check the model's external data"
        ) from None


def per_channel(array: Array, rank: int | None, axis: int) -> Array | None:
    """float64 `[C]` of a float32 constant that broadcasts to a tensor of that rank and varies along `axis`
    alone, `[1]` of a single number; None for any other.
    """
    if rank is None or array.dtype != np.float32 or array.ndim > rank:
        return None
    if array.size == 1:
        return array.astype(np.float64).reshape(1)
    shape = (1,) * (rank - array.ndim) + array.shape
    return array.astype(np.float64).reshape(-1) if shape[axis] == array.size else None


def add_initializer(model: ir.Model | ir.Graph, name: str, array: Array) -> ir.Value:
    """New initializer holding `array`; its name is `name`, made unique."""
    graph = model.graph if isinstance(model, ir.Model) else model
    name = unique_name(graph, name)
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def set_initializer(model: ir.Model, value: ir.Value | str, array: Array) -> ir.Value:
    """Give an initializer a new array, seen by all its consumers (a tied weight stays tied).

    The name and the metadata stay; the old tensor is left as it was for clones that share it.
    """
    if isinstance(value, str):
        value = model.graph.initializers[value]
    tensor = ir.tensor(array, name=value.name)
    value.const_value = tensor
    value.shape = ir.Shape(array.shape)
    value.type = ir.TensorType(tensor.dtype)
    return value


def replace_constant_input(node: ir.Node, index: int, array: Array, name: str | None = None) -> ir.Value:
    """Give one input of one node a new constant; other consumers of the old one keep theirs.

    The initializer keeps its name if this use was its only one, else a copy with a unique name is made.
    """
    old = node.inputs[index] if index < len(node.inputs) else None
    if old is not None and is_constant(old) and len(old.uses()) == 1 and not old.is_graph_output():
        tensor = ir.tensor(array, name=old.name)
        old.const_value = tensor
        old.shape = ir.Shape(array.shape)
        old.type = ir.TensorType(tensor.dtype)
        return old
    base = name or (old.name if old is not None else None) or f"{node.name}_constant"
    new = add_initializer(owner(node), base, array)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, new)
    return new


def weight_initializer(value: ir.Value | None) -> ir.Value | None:
    """The initializer behind an input: itself, or what its DequantizeLinear reads; None if dynamic."""
    if value is None:
        return None
    if is_constant(value):
        return value
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear" and is_constant(producer.inputs[0]):
        return producer.inputs[0]
    return None
