"""ONNX files -> the canonical form that pruning, quantization and lowering rely on.

`load` takes any ONNX model of opset 7 or newer. The result is an `onnx_ir.Model` of this form:

Model
  * One graph, no functions; `opset_imports` says 21 for ONNX's own operators, 1 for domain `pyruntime`
    (`Silu`; `quantize` adds `Attention`). Nodes in topological order. Every node and value has a unique name;
    names of the file are kept where possible, those of inputs and outputs always.
  * Every weight is an initializer, and no initializer is a graph input (IR version 3). Constant, Identity,
    Cast, Reshape, Transpose, ... of constants are folded. Initializers used by several nodes stay shared
    until one needs another value.
  * float32 is the only float type: float16, bfloat16, float64 weights, inputs, outputs and casts become
    float32.
  * Every value has a shape as far as it can be known; dimensions are integers or strings ("N", "(H+1)//2+1").
  * No Identity, Dropout, Cast between floats, Constant, unused node or unused initializer. Exception: an
    Identity whose output is a graph output and whose input is a graph input, a constant or another graph
    output.

Settings are attributes, all written out (in newer opsets many are inputs; `graph.to_standard` converts back).
All axes are counted from the front, auto_pad is resolved, operators with one input have exactly one.
  Clip                 min, max floats (-inf, inf if open). Relu6 is Clip 0, 6; so are Min, Max with a scalar
  Squeeze, Unsqueeze   axes ints
  ReduceMean           axes ints, keepdims. Over all of the plane with keepdims 1 it is GlobalAveragePool
  Slice                starts, ends, axes, steps ints; like_axes ints if the ends come from a second input
  Expand               shape ints, of a second input where like_axes ints is not -1 (dynamic_shapes)
  Gather               axis
  Where                the condition is float32: not 0 is true. There are no booleans (booleans)
  LayerNormalization   axis, epsilon; scale and bias constant, one entry per normalized value
  Split                axis, split ints (one size per output)
  Pad                  mode, pads ints (all axes: begins, ends), value float
  Reshape              shape ints (0 copies, at most one -1), allowzero; shape computations are resolved
  Resize               mode, coordinate_transformation_mode, nearest_mode, and scales floats or sizes ints for
                       all axes; Upsample is Resize
  Flatten, Concat      axis
  Softmax              axis, with the meaning of opset 13 (older ones get Flatten and Reshape around them)
  Transpose            perm
  LeakyRelu            alpha
  HardSigmoid          alpha, beta
  Gelu                 approximate ("none" or "tanh")
  Conv                 kernel_shape, strides, dilations, pads (begins, ends), group; 2 or 3 inputs; weight
                       `[O, C/group, k...]`
  MaxPool, AveragePool kernel_shape, strides, dilations, pads, ceil_mode; AveragePool also count_include_pad
  Gemm                 transA 0, transB 1, alpha 1, beta 1; weight `[out, in]` and bias `[out]`, both constant
                       (through a DequantizeLinear if quantized). Any product of a tensor of rank 2 or more by
                       a constant matrix is a Gemm (`graph.to_standard` makes MatMul and Add of it above
                       rank 2); others are MatMul, and Add for the bias

Rewrites
  * BatchNormalization is folded into a float Conv or Gemm that nothing else reads, else it is Mul and Add of
    `[1, C, 1, 1]`; so are Mul, Div, Add, Sub by per-channel constants after such a layer.
  * Convolutions of one input whose outputs are added, and a Mul and Add of that input, become one Conv.
  * Pad of zeros (of zero points, among quantized tensors) before one Conv or AveragePool becomes its pads.
  * Spelled-out activations become Silu, HardSwish, HardSigmoid, Gelu. Sum becomes Add; Neg, Reciprocal, small
    powers become Mul, Div, Sqrt.
  * ReduceSum, ReduceSumSquare, ReduceL1, ReduceL2 become ReduceMean times the number of values; ReduceMax
    over all of the plane becomes GlobalMaxPool.
  * InstanceNormalization and GroupNormalization become Reshape, LayerNormalization, Reshape, Mul and Add.
  * ReduceMean, Sub, Mul, Sqrt, Div that normalize the last axis become LayerNormalization. Numbers that scale
    an operand of a product of computed tensors become one Mul behind it. Expand that broadcasting replaces is
    dropped.
  * Gather by constant indices is Slice and Concat; SpaceToDepth and DepthToSpace are Reshape, Transpose and
    Reshape.
  * ConvTranspose becomes a Conv with an output channel per phase of the stride, Reshape, Transpose, Reshape
    and Slice; a BatchNormalization behind it is folded first, an activation moves in front of the Reshape.
  * com.microsoft's FusedConv, FusedGemm, BiasGelu, FastGelu and Gelu are taken apart.
  * Pooling over the whole plane becomes GlobalAveragePool or GlobalMaxPool.

Quantized models
  * QLinearConv, QLinearMatMul and com.microsoft's QGemm,
    QLinear{Add,Mul,Sigmoid,LeakyRelu,Softmax,Concat,AveragePool, GlobalAveragePool} become DequantizeLinear,
    the float operator, QuantizeLinear; an int32 bias becomes DequantizeLinear(bias, s_x * s_w, 0) on axis 0.
  * QuantizeLinear and DequantizeLinear have three inputs, scale and zero point constant: scalars per tensor,
    or vectors with attribute `axis`. Scales are finite and > 0.
  * A quantized constant is an integer initializer read by a DequantizeLinear, whatever stood between
    (Transpose, Reshape, further QuantizeLinear/DequantizeLinear pairs); float constants followed by
    QuantizeLinear are quantized.
"""

from __future__ import annotations

import os
import pathlib
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from onnx_ir.passes.common import InlinePass

from pyruntime.errors import FileFormatError, ModelError
from pyruntime.frontends import passes
from pyruntime.frontends.checks import (
    NEWEST_OPSET,
    OLDEST_OPSET,
    check_definitions,
    check_external_data,
    check_opset,
    check_structure,
)
from pyruntime.frontends.support import check_supported
from pyruntime.graph.export import STANDARD_IR_VERSION, STANDARD_OPSET
from pyruntime.graph.model import clone
from pyruntime.graph.nodes import topological_nodes

Source: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model

__all__ = ["NEWEST_OPSET", "OLDEST_OPSET", "canonicalize", "check_supported", "load"]


def load(source: Source, *, check: bool = True) -> ir.Model:
    """Read a model and bring it into canonical form. The source is not changed.

    source: path of an .onnx file, its bytes, a protobuf, or a model already in memory. Weights in external
    files are memory-mapped, never copied into a protobuf, so models over 2 GB are fine.
    check: raise if the canonical model holds something that is not supported (`check_supported`).

    Errors: FileFormatError if the file is missing, empty, truncated, no ONNX, or its external data is;
    ModelError if the model is malformed or unsupported.
    """
    name = str(source) if isinstance(source, (str, os.PathLike)) else "model"
    model = source if isinstance(source, ir.Model) else _read(source)
    check_external_data(model, name)
    try:
        canonical = canonicalize(model)
        if check:
            check_supported(canonical)
    except ModelError as error:
        raise ModelError(f"{name}: {error}" if name != "model" else str(error)) from error
    return canonical


def canonicalize(model: ir.Model) -> ir.Model:
    """Canonical form of a model, as a new model that shares unchanged weights. Idempotent.

    Errors: ModelError naming the node at fault.
    """
    check_opset(model)
    check_structure(model)
    topological = _sorted_clone(model)
    if topological.functions:
        topological = InlinePass()(topological).model
    passes.run_all(topological)
    topological.opset_imports[""] = STANDARD_OPSET
    topological.opset_imports["pyruntime"] = 1
    topological.ir_version = STANDARD_IR_VERSION
    return topological


def _read(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> ir.Model:
    if isinstance(source, onnx.ModelProto):
        return _deserialize(source, "model", None)
    if isinstance(source, bytes):
        return _deserialize(_parse(source, "model"), "model", None)
    path = pathlib.Path(source)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file; give the path of an .onnx file") from None
    except IsADirectoryError:
        raise FileFormatError(f"{path}: is a directory; give the path of an .onnx file") from None
    except OSError as error:
        raise FileFormatError(
            f"{path}: cannot be read ({error.strerror}); check the file's permissions"
        ) from None
    return _deserialize(_parse(data, str(path)), str(path), path.parent)


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    if not data:
        raise FileFormatError(f"{name}: the file is empty; export or copy the model again")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # protobuf's DecodeError, whose module differs between its implementations
        raise FileFormatError(
            f"{name}: not an ONNX model, or truncated ({len(data)} bytes); export or copy the model again"
        ) from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise FileFormatError(
            f"{name}: not an ONNX model (no graph or no opset in it); export the model again"
        )
    return proto


def _deserialize(proto: onnx.ModelProto, name: str, folder: pathlib.Path | None) -> ir.Model:
    proto = _with_dense_initializers(proto, name)
    check_definitions(proto, name)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as error:  # onnx_ir wraps whatever it meets
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise ModelError(f"{name}: malformed model ({reason}); export the model again") from None
    ir.external_data.set_base_dir(model.graph, str(folder) if folder is not None else "")
    return model


def _with_dense_initializers(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model itself, or if it has sparse initializers a copy in which they are dense ones."""
    if not proto.graph.sparse_initializer:
        return proto
    dense = onnx.ModelProto()
    dense.CopyFrom(proto)
    for sparse in proto.graph.sparse_initializer:
        try:
            shape = tuple(sparse.dims)
            values = numpy_helper.to_array(sparse.values)
            indices = numpy_helper.to_array(sparse.indices)
            array = np.zeros(shape, values.dtype)
            flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
            array.reshape(-1)[flat] = values
        except (ValueError, IndexError, TypeError, MemoryError) as error:
            raise ModelError(
                f"{name}: sparse initializer '{sparse.values.name}' is malformed ({error}); correct the model"
            ) from None
        dense.graph.initializer.append(numpy_helper.from_array(array, sparse.values.name))
    del dense.graph.sparse_initializer[:]
    return dense


def _sorted_clone(model: ir.Model) -> ir.Model:
    try:
        topological_nodes(model)
        return clone(model)
    except ValueError as error:
        raise ModelError(
            f"the nodes of the model form a cycle ({str(error).splitlines()[0]}); correct it"
        ) from None
