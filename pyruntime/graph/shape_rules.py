"""Shape rules: dimensions of a node's outputs from those of its inputs, one function per kind of operator.

A rule gets the node and the dimensions of its inputs (None if unknown) and returns those of its outputs. It
raises ValueError (or an error of indexing) if the inputs do not fit together.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from pyruntime.graph import arithmetic_shapes, movement_shapes, window_shapes
from pyruntime.graph.dimensions import Dims

_Rule = Callable[[ir.Node, list[Dims | None]], "list[Dims | None]"]

_UNARY = [
    "Relu",
    "Clip",
    "LeakyRelu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Gelu",
    "Silu",
    "Softmax",
    "LogSoftmax",
    "Exp",
    "Log",
    "Sqrt",
    "Erf",
    "Neg",
    "Abs",
    "Reciprocal",
    "Floor",
    "Ceil",
    "Round",
    "Softplus",
    "Elu",
    "Selu",
    "Cast",
    "Identity",
    "Dropout",
    "BatchNormalization",
    "QuantizeLinear",
    "DequantizeLinear",
    "LRN",
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "Mish",
    "Not",
    "IsNaN",
]
_BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Min", "Max", "Sum", "Mean", "Mod"]
_BINARY += ["Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or"]

RULES: dict[str, _Rule] = {
    **dict.fromkeys(_UNARY, arithmetic_shapes.same),
    **dict.fromkeys(_BINARY, arithmetic_shapes.elementwise),
    "Conv": window_shapes.conv,
    "ConvTranspose": window_shapes.conv_transpose,
    "MaxPool": window_shapes.pool,
    "AveragePool": window_shapes.pool,
    "LpPool": window_shapes.pool,
    "GlobalAveragePool": window_shapes.global_pool,
    "GlobalMaxPool": window_shapes.global_pool,
    "Gemm": arithmetic_shapes.gemm,
    "MatMul": arithmetic_shapes.matmul,
    "Attention": arithmetic_shapes.attention,
    "Concat": movement_shapes.concat,
    "Split": movement_shapes.split,
    "Slice": movement_shapes.slice_,
    "Pad": movement_shapes.pad,
    "Flatten": movement_shapes.flatten,
    "Reshape": movement_shapes.reshape,
    "Transpose": movement_shapes.transpose,
    "Squeeze": movement_shapes.squeeze,
    "Unsqueeze": movement_shapes.unsqueeze,
    "ReduceMean": arithmetic_shapes.reduce,
    "ReduceSum": arithmetic_shapes.reduce,
    "ReduceMax": arithmetic_shapes.reduce,
    "ReduceMin": arithmetic_shapes.reduce,
    "ReduceProd": arithmetic_shapes.reduce,
    "ReduceL1": arithmetic_shapes.reduce,
    "ReduceL2": arithmetic_shapes.reduce,
    "ReduceSumSquare": arithmetic_shapes.reduce,
    "Resize": movement_shapes.resize,
    "Upsample": movement_shapes.resize,
    "Shape": movement_shapes.shape,
    "Gather": movement_shapes.gather,
    "ConstantOfShape": movement_shapes.constant_of_shape,
    "Expand": movement_shapes.expand,
}
