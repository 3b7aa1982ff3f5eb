"""Write the quantization of a model into its graph as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.layers import Layer, find_layers
from pyruntime.quantize import weights
from pyruntime.quantize.assignment import Assignment, uniform
from pyruntime.quantize.plan import ELEMENTWISE, QuantizePlan, is_mask, make_plan
from pyruntime.quantize.ranges import Range, activation_params, quantize_u8, to_s8
from pyruntime.quantize.scales import (
    Grids,
    Params,
    bias_of,
    input_of,
    output_of,
    tensor_params,
    weight_grids,
)
from pyruntime.quantize.schemes import Grid, IntegerGrid


@dataclass(frozen=True)
class LayerQuantization:
    """What became of one layer.

    Attributes:
        scheme: of the weight, for people.
        integer: the layer runs on integers; else its weight is decoded when loading and it runs in float32.
        sqnr_db: of the dequantized against the float weight.
        float_bias: the bias stayed float32 though the layer runs on integers, because its integer form would
            have been worse.
    """

    node: str
    weight: str
    scheme: str
    integer: bool
    sqnr_db: float
    float_bias: bool


@dataclass
class QuantizeReport:
    """`layers` in execution order; `float_nodes` are the operators left in float."""

    layers: list[LayerQuantization] = field(default_factory=list)
    float_nodes: list[str] = field(default_factory=list)


def insert_qdq(
    model: ir.Model,
    ranges: Mapping[str, Range],
    grids: Grids | None = None,
    originals: Mapping[str, npt.NDArray[Any]] | None = None,
    assignment: Assignment | None = None,
) -> QuantizeReport:
    """Quantize a canonical float model in place: u8 (or s8) activations per tensor, weights on their grids.

    Every tensor between integer operators gets a QuantizeLinear and a DequantizeLinear (after a Relu or
    Clip, never before it); weights and biases become integer initializers with a DequantizeLinear. The
    dequantized tensor takes over the name of the float one. Operators that move data share scale and zero
    point between inputs and output. A weight without an integer form becomes its exact float32 one. What
    ONNX cannot say of a weight's form rides as metadata on its initializer (`graph.set_storage`).

    Args:
        ranges: of every tensor in `make_plan(model, assignment).names`.
        grids: what `weight_grids` made before the weights were rounded; None if they were not.
        assignment: None stands for int8 everywhere.
        originals: weights by name as they were before that, for the report.
    Errors: DataError if a range is missing; ModelError if a weight is not finite.
    """
    assignment = assignment or uniform(model)
    plan = make_plan(model, assignment)
    params = tensor_params(plan, ranges, assignment)
    if grids is None:
        grids = weight_grids(model, ranges, assignment)
    quantized = _QuantizedWeights(model, plan, params, grids, originals or {}, assignment)
    report = QuantizeReport()
    for layer in find_layers(model):
        if layer.name in assignment.schemes:
            report.layers.append(quantized.apply(layer))
    report.float_nodes = [
        graph.label(node) for node in graph.topological_nodes(model) if _stays_float(node, plan)
    ]
    for node in graph.topological_nodes(model):
        if node in plan.nodes and node.op_type in ELEMENTWISE:
            _quantize_operands(model, node, assignment.signed)
    for value in plan.tensors:
        _quantize_tensor(model, value, params[value], plan, assignment.signed)
    graph.remove_dead_nodes(model)
    return report


def _stays_float(node: ir.Node, plan: QuantizePlan) -> bool:
    return node not in plan.nodes and node.op_type not in ("QuantizeLinear", "DequantizeLinear")


def _quantize_operands(model: ir.Model, node: ir.Node, signed: bool) -> None:
    """Give the constant operand of a sum or product its 8-bit form, for this node alone."""
    for index, value in enumerate(node.inputs):
        array = graph.constant(value)
        if value is None or array is None:
            continue
        params = activation_params(Range(float(array.min()), float(array.max())))
        name = value.name or f"{node.name}_constant"
        integers = graph.add_initializer(
            model, f"{name}_quantized", _stored(quantize_u8(array, *params), signed)
        )
        scale = graph.add_initializer(model, f"{name}_scale", np.asarray(params[0]))
        zero_point = graph.add_initializer(model, f"{name}_zero_point", _stored(params[1], signed))
        dequantize = graph.insert_before(
            node, "DequantizeLinear", [integers, scale, zero_point], name=f"{name}_dequantize"
        )
        dequantize.outputs[0].shape, dequantize.outputs[0].dtype = ir.Shape(array.shape), ir.DataType.FLOAT
        node.replace_input_with(index, dequantize.outputs[0])


def _stored(quantized: npt.NDArray[np.uint8] | np.uint8, signed: bool) -> npt.NDArray[Any]:
    return to_s8(quantized) if signed else np.asarray(quantized)


def _quantize_tensor(
    model: ir.Model, value: ir.Value, params: Params, plan: QuantizePlan, signed: bool
) -> None:
    """Let the readers of a tensor read its quantized form; if no integer node makes it, only integer ones."""
    name = value.name or "tensor"
    scale = graph.add_initializer(model, f"{name}_scale", np.asarray(params[0]))
    zero_point = graph.add_initializer(model, f"{name}_zero_point", _stored(params[1], signed))
    producer = value.producer()
    readers = [use.node for use in value.uses() if use.node in plan.nodes]
    if producer is not None:
        quantize = graph.insert_after(
            producer, "QuantizeLinear", [value, scale, zero_point], name=f"{name}_quantize"
        )
    else:
        first = next(node for node in model.graph if node in readers)
        quantize = graph.insert_before(
            first, "QuantizeLinear", [value, scale, zero_point], name=f"{name}_quantize"
        )
    quantized = quantize.outputs[0]
    quantized.shape, quantized.dtype = value.shape, ir.DataType.INT8 if signed else ir.DataType.UINT8
    dequantize = graph.insert_after(
        quantize, "DequantizeLinear", [quantized, scale, zero_point], name=f"{name}_dequantize"
    )
    result = dequantize.outputs[0]
    result.shape, result.dtype = value.shape, ir.DataType.FLOAT
    if producer not in plan.nodes:
        # Computed in float, or a network input: what stays float reads it as it is.
        for use in tuple(value.uses()):
            if use.node in plan.nodes and not is_mask(use.node, use.idx):
                use.node.replace_input_with(use.idx, result)
        return
    for use in tuple(value.uses()):
        if use.node is not quantize:
            use.node.replace_input_with(use.idx, result)
    _take_over(model, value, result)


def _take_over(model: ir.Model, value: ir.Value, result: ir.Value) -> None:
    """Give the dequantized tensor the name of the float one, and its place among the graph's outputs."""
    for index, output in enumerate(model.graph.outputs):
        if output is value:
            model.graph.outputs[index] = result
    name = value.name
    value.name = graph.unique_name(model, f"{name}_float")
    result.name = name


class _QuantizedWeights:
    """Quantizes each weight once, however many layers share it."""

    def __init__(
        self,
        model: ir.Model,
        plan: QuantizePlan,
        params: Mapping[ir.Value, Params],
        grids: Grids,
        originals: Mapping[str, npt.NDArray[Any]],
        assignment: Assignment,
    ) -> None:
        self._model = model
        self._params = params
        self._grids = grids
        self._originals = originals
        self._assignment = assignment
        self._outputs = {layer.node: output_of(layer, plan) for layer in find_layers(model)}
        self._done: dict[tuple[str, int], tuple[ir.Value, float]] = {}

    def apply(self, layer: Layer) -> LayerQuantization:
        key = (layer.weight_name, layer.axis)
        grid, scheme = self._grids[key], self._assignment.schemes[layer.name].label
        if key not in self._done:
            self._done[key] = self._quantize(layer, grid, scheme)
        weight, sqnr = self._done[key]
        layer.node.replace_input_with(1, weight)
        integer = layer.name in self._assignment.integer
        float_bias = integer and isinstance(grid, IntegerGrid) and self._apply_bias(layer, grid.scales)
        return LayerQuantization(layer.name, layer.weight_name, scheme, integer, sqnr, float_bias)

    def _quantize(self, layer: Layer, grid: Grid, scheme: str) -> tuple[ir.Value, float]:
        """The weight on its grid, and its SQNR in dB."""
        weight, name = layer.array(), layer.weight_name
        flat = weight.reshape(len(weight), -1)
        original = self._originals.get(name, layer.stored(weight))
        if not isinstance(grid, IntegerGrid):
            rounded = layer.stored(grid.round(flat).reshape(weight.shape))
            value = graph.add_initializer(self._model, f"{name}_quantized", rounded)
            graph.set_storage(value, scheme, grid.storage)
            return value, weights.sqnr_db(original, rounded)
        codes = grid.codes(flat).reshape(weight.shape)
        restored = layer.stored(codes.astype(np.float32) * grid.scales[:, None, None])
        value = self._dequantized(layer.node, name, layer.stored(codes), grid.scales, layer.axis)
        dequantize = value.producer()
        assert dequantize is not None and dequantize.inputs[0] is not None
        graph.set_storage(dequantize.inputs[0], scheme, grid.storage)
        return value, weights.sqnr_db(original, restored)

    def _apply_bias(self, layer: Layer, scales: npt.NDArray[np.float32]) -> bool:
        bias = bias_of(layer, scales.size)
        if bias is None or layer.bias is None:
            return False
        output = self._outputs[layer.node]
        output_scale = self._params[output][0] if output in self._params else None
        found = weights.quantize_bias(bias, self._params[input_of(layer)][0], scales, output_scale)
        if found is None:
            return True
        integers, steps = found
        value = self._dequantized(layer.node, layer.bias.name or f"{layer.name}_bias", integers, steps, 0)
        layer.node.replace_input_with(2, value)
        return False

    def _dequantized(
        self,
        anchor: ir.Node,
        name: str,
        integers: npt.NDArray[Any],
        scales: npt.NDArray[np.float32],
        axis: int,
    ) -> ir.Value:
        quantized = graph.add_initializer(self._model, f"{name}_quantized", integers)
        scale = graph.add_initializer(self._model, f"{name}_scale", scales)
        zeros = graph.add_initializer(
            self._model, f"{name}_zero_point", np.zeros(scales.shape, integers.dtype)
        )
        node = graph.insert_before(
            anchor,
            "DequantizeLinear",
            [quantized, scale, zeros],
            {"axis": axis},
            name=f"{name}_dequantize",
        )
        node.outputs[0].shape, node.outputs[0].dtype = ir.Shape(integers.shape), ir.DataType.FLOAT
        return node.outputs[0]
