"""Whole models: clone, protobuf, save."""

from __future__ import annotations

import os
import pathlib

import onnx
import onnx_ir as ir

# Protobuf refuses messages of 2 GB; the graph itself needs room too.
_EXTERNAL_DATA_BYTES = 1 << 30
_EXTERNAL_TENSOR_BYTES = 1024


def clone(model: ir.Model) -> ir.Model:
    """Copy of the model: own nodes, values and tensor objects; the bytes of the weights are shared."""
    copy = model.clone()
    for value in copy.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = _own_tensor(value.const_value, value.name)
    return copy


def _own_tensor(tensor: ir.TensorProtocol, name: str | None) -> ir.TensorProtocol:
    """Tensor object of its own over the same bytes: renaming a value renames its tensor."""
    if isinstance(tensor, ir.ExternalTensor):
        return ir.ExternalTensor(
            tensor.location,
            tensor.offset,
            tensor.length,
            tensor.dtype,
            shape=tensor.shape.copy(),
            name=name or tensor.name,
            base_dir=tensor.base_dir,
        )
    if tensor.dtype == ir.DataType.STRING:
        return tensor
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers."""
    return sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Protobuf of the model. For models under 2 GB; `save` takes any size."""
    proto: onnx.ModelProto = ir.serde.serialize_model(model)
    return proto


def save(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write an ONNX file; weights go to `<file name>.data` beside it when they exceed 1 GB."""
    path = pathlib.Path(path)
    if weight_bytes(model) < _EXTERNAL_DATA_BYTES:
        in_memory = clone(model)
        for value in in_memory.graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = ir.tensor(value.const_value.numpy(), name=value.name)
        ir.save(in_memory, path)
        return
    ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=_EXTERNAL_TENSOR_BYTES)
