"""Which scale every tensor and every weight of a model gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pyruntime import graph
from pyruntime.errors import DataError, ModelError
from pyruntime.layers import Layer, find_layers
from pyruntime.quantize import tie_free, weights
from pyruntime.quantize.assignment import Assignment, uniform
from pyruntime.quantize.plan import CLAMP, QuantizePlan, make_plan
from pyruntime.quantize.ranges import U8_STEPS, Range, activation_params, zero_point_for
from pyruntime.quantize.schemes import Adjust, Grid, Scheme
from pyruntime.quantize.schemes.pow2 import round_up

Params = tuple[np.float32, np.uint8]
Grids = dict[tuple[str, int], Grid]


def tensor_params(
    plan: QuantizePlan, ranges: Mapping[str, Range], assignment: Assignment
) -> dict[ir.Value, Params]:
    """Scale and zero point of every tensor that becomes u8.

    Those of sums have scales without ties; where every weight has a power of two for its scale, so does every
    tensor, and a requantization is a shift.
    """
    params: dict[ir.Value, Params] = {}
    shared = [
        _shared_range(plan, group, sources, ranges)
        for group, sources in zip(plan.groups, plan.sources, strict=True)
    ]
    for group, values in zip(plan.groups, shared, strict=True):
        params.update(dict.fromkeys(group, activation_params(values)))
    if _shifts_only(assignment):
        for group, values in zip(plan.groups, shared, strict=True):
            scale = np.float32(round_up(np.float64(params[group[0]][0])))
            params.update(dict.fromkeys(group, (scale, zero_point_for(values, scale))))
        return params
    for members in _summed(plan):
        scales = tie_free.odd_multiples([params[plan.groups[i][0]][0] for i in members])
        for i, scale in zip(members, scales, strict=True):
            params.update(dict.fromkeys(plan.groups[i], (scale, zero_point_for(shared[i], scale))))
    return params


def _shifts_only(assignment: Assignment) -> bool:
    schemes = [assignment.schemes[name] for name in assignment.integer]
    return bool(schemes) and not any(scheme.movable_scales for scheme in schemes)


def _shared_range(
    plan: QuantizePlan, group: list[ir.Value], sources: list[ir.Value], ranges: Mapping[str, Range]
) -> Range:
    shared = Range(0.0, 0.0)
    for value in sources:
        name = value.name or ""
        if name not in ranges:
            raise DataError(f"tensor '{name}': has no range; calibrate it")
        shared = shared.union(ranges[name])
    for value in group:
        padding = plan.padding.get(value, 0.0)
        shared = shared.union(Range(padding, padding))
    return shared


def _summed(plan: QuantizePlan) -> list[list[int]]:
    """Indices of groups of tensors that sums connect, one list for each connected set."""
    group_of = {value: index for index, group in enumerate(plan.groups) for value in group}
    joined: dict[int, set[int]] = {}
    for value in plan.tensors:
        node = _sum_behind(value)
        if node is None or node not in plan.nodes:
            continue
        together = {group_of[v] for v in (*node.inputs, value) if v is not None and v in group_of}
        for index in tuple(together):
            together |= joined.get(index, set())
        joined.update(dict.fromkeys(together, together))
    sets = {id(members): members for members in joined.values()}
    return [sorted(members) for members in sets.values()]


def _sum_behind(value: ir.Value) -> ir.Node | None:
    """The Add or Sub that makes a tensor, directly or through the Relu or Clip fused into it."""
    node = value.producer()
    if node is not None and node.op_type in CLAMP and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type in ("Add", "Sub") else None


def weight_grids(
    model: ir.Model,
    ranges: Mapping[str, Range],
    assignment: Assignment | None = None,
    importance: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Grids:
    """Grid of every weight that has a scheme, by name and axis of the output channels.

    The scales of a layer that runs on integers are moved a little, so that no output lies halfway between two
    steps (see `tie_free`; not for a weight that several layers share).

    Args:
        assignment: None stands for int8 everywhere.
        importance: layer name -> second moments of what each weight multiplies (`columns.second_moments`).
    Errors: as `insert_qdq`.
    """
    assignment = assignment or uniform(model)
    plan = make_plan(model, assignment)
    params = tensor_params(plan, ranges, assignment)
    users: dict[tuple[str, int], list[Layer]] = {}
    for layer in find_layers(model):
        if layer.name in assignment.schemes:
            users.setdefault((layer.weight_name, layer.axis), []).append(layer)
    grids = {}
    for key, layers in users.items():
        name = layers[0].name
        finite(layers[0].weight)
        scheme = assignment.schemes[name]
        adjust = _adjust(scheme, layers, plan, params) if name in assignment.integer else None
        grids[key] = scheme.fit(layers[0].array(), (importance or {}).get(name), adjust)
    return grids


def _adjust(
    scheme: Scheme, users: list[Layer], plan: QuantizePlan, params: Mapping[ir.Value, Params]
) -> Adjust:
    """What moves scales of the scheme so that they have room for the biases of all layers that use them, and
    no ties.
    """

    def adjust(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        for user in users:
            bias = bias_of(user, scales.size)
            if bias is not None:
                scales = weights.grow_for_bias(scales, bias, params[input_of(user)][0])
        layer, output = users[0], output_of(users[0], plan)
        if not scheme.movable_scales or len(users) > 1 or output not in params:
            return scales
        (input_scale, zero_point), output_scale = params[input_of(layer)], params[output][0]
        step = float(output_scale) / float(input_scale)
        largest_input = max(int(zero_point), U8_STEPS - int(zero_point))
        limits = tie_free.denominators(weights.channel_sum(layer.array()) * largest_input / step)
        return (tie_free.odd_fraction(scales.astype(np.float64) / step, limits) * step).astype(np.float32)

    return adjust


def bias_of(layer: Layer, channels: int) -> npt.NDArray[Any] | None:
    """Bias of a layer, `[channels]`; a Gemm's may be stored as a scalar or a row."""
    if layer.bias is None:
        return None
    return np.broadcast_to(finite(layer.bias).reshape(-1), (channels,))


def input_of(layer: Layer) -> ir.Value:
    """The activation input of a layer."""
    value = layer.node.inputs[0]
    assert value is not None
    return value


def output_of(layer: Layer, plan: QuantizePlan) -> ir.Value:
    """The tensor a layer fills: its own output, or that of the Relu or Clip fused into it."""
    output = layer.node.outputs[0]
    reader = graph.sole_consumer(output)
    if output not in plan.tensors and reader is not None and reader in plan.nodes:
        return reader.outputs[0]
    return output


def finite(value: ir.Value) -> npt.NDArray[Any]:
    """Array of a constant. Errors: ModelError if it is none, or holds NaN or infinity."""
    array = graph.constant(value)
    if array is None:
        raise ModelError(f"tensor '{value.name}': expected a constant")
    if not np.isfinite(array).all():
        raise ModelError(f"weight '{value.name}' holds NaN or infinity; export the model again")
    return array
