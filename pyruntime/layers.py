"""The layers of a model whose weights can be compressed, and their weights as `[out, taps, in]` arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Layer:
    """A Conv, Gemm or MatMul node with a constant float32 weight.

    Attributes:
        node: the node; `node.inputs[0]` is its activation input, a `MatMul` has no bias.
        weight: initializer of the weight (other layers may share it).
        groups: groups of a convolution, else 1.
        transposed: the weight is stored `[in, out]` (MatMul, Gemm with transB = 0) and not `[out, in, ...]`.
    """

    node: ir.Node
    weight: ir.Value
    groups: int
    transposed: bool

    @property
    def name(self) -> str:
        return self.node.name or self.node.outputs[0].name or self.node.op_type

    @property
    def weight_name(self) -> str:
        return self.weight.name or ""

    @property
    def axis(self) -> int:
        """Axis of the output channels in the stored weight."""
        return 1 if self.transposed else 0

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel of several."""
        return self.groups > 1 and self.shape[1] == 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Stored shape of the weight."""
        return tuple(self._stored().shape)

    @property
    def bias(self) -> ir.Value | None:
        """Initializer of the bias, None if the layer has none."""
        if self.node.op_type == "MatMul" or len(self.node.inputs) < 3:
            return None
        return self.node.inputs[2]

    def matrix(self, array: Array) -> Array:
        """Stored weight -> `[out, taps, in / groups]`."""
        if self.transposed:
            return np.ascontiguousarray(array.T)[:, None, :]
        flat = array.reshape(array.shape[0], array.shape[1], -1)
        return np.ascontiguousarray(flat.transpose(0, 2, 1))

    def stored(self, matrix: Array) -> Array:
        """`[out, taps, in / groups]` -> array of the stored shape."""
        if self.transposed:
            return np.ascontiguousarray(matrix[:, 0, :].T)
        return np.ascontiguousarray(matrix.transpose(0, 2, 1)).reshape(self.shape)

    def array(self) -> Array:
        """The weight as `[out, taps, in / groups]`, float32. Read-only by agreement."""
        return self.matrix(self._stored())

    def _stored(self) -> Array:
        array = graph.constant(self.weight)
        assert array is not None
        return graph.viewed(self.weight, array)


def find_layers(model: ir.Model) -> list[Layer]:
    """Layers in execution order; a node whose weight is dynamic or already quantized is none."""
    layers = (as_layer(node) for node in graph.topological_nodes(model))
    return [layer for layer in layers if layer is not None]


def as_layer(node: ir.Node) -> Layer | None:
    """The node as a `Layer`, None if it is not one."""
    if node.domain not in ("", "ai.onnx") or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    array = graph.constant(weight)
    if weight is None or array is None or array.dtype != np.float32 or graph.is_constant(node.inputs[0]):
        return None
    if node.op_type == "Conv" and array.ndim >= 3:
        return Layer(node, weight, graph.get_int(node, "group", 1), False)
    if node.op_type == "MatMul" and array.ndim == 2:
        return Layer(node, weight, 1, True)
    if node.op_type == "Gemm" and array.ndim == 2 and _plain_gemm(node):
        return Layer(node, weight, 1, graph.get_int(node, "transB", 0) == 0)
    return None


def _plain_gemm(node: ir.Node) -> bool:
    return (
        graph.get_int(node, "transA", 0) == 0
        and graph.get_float(node, "alpha", 1.0) == 1.0
        and graph.get_float(node, "beta", 1.0) == 1.0
    )
