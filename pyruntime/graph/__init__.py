"""Helpers over `onnx_ir` that every stage of the tools uses.

A model is an `onnx_ir.Model` in the canonical form of `pyruntime.frontends.onnx`. Constants are initializers;
they are never changed in place but replaced, so that clones of a model may share their tensors.
"""

from pyruntime.graph.attention import expand as expand_attention
from pyruntime.graph.constants import (
    add_initializer,
    constant,
    is_constant,
    per_channel,
    replace_constant_input,
    set_initializer,
    weight_initializer,
)
from pyruntime.graph.export import to_standard
from pyruntime.graph.model import clone, save, to_proto
from pyruntime.graph.nodes import (
    get_float,
    get_int,
    get_ints,
    get_string,
    has_attribute,
    insert_after,
    insert_before,
    label,
    remove_dead_nodes,
    remove_node,
    replace_node,
    replace_value,
    set_attribute,
    sole_consumer,
    topological_nodes,
    unique_name,
)
from pyruntime.graph.shapes import dims, infer_shapes, rank
from pyruntime.graph.storage import set_storage, storage_of
from pyruntime.graph.view import has_view, set_view, viewed

__all__ = [
    "add_initializer",
    "clone",
    "constant",
    "dims",
    "expand_attention",
    "get_float",
    "get_int",
    "get_ints",
    "get_string",
    "has_attribute",
    "has_view",
    "infer_shapes",
    "insert_after",
    "insert_before",
    "is_constant",
    "label",
    "per_channel",
    "rank",
    "remove_dead_nodes",
    "remove_node",
    "replace_constant_input",
    "replace_node",
    "replace_value",
    "save",
    "set_attribute",
    "set_initializer",
    "set_storage",
    "set_view",
    "sole_consumer",
    "storage_of",
    "to_proto",
    "to_standard",
    "topological_nodes",
    "unique_name",
    "viewed",
    "weight_initializer",
]
