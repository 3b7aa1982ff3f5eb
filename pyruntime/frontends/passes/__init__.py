"""The passes that bring a model into canonical form, in the order in which they run.

A pass is a function `run(model) -> bool` in a file of its own: it changes the model in place and says whether
it did. Shapes are inferred again after every pass that changed something.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from pyruntime.errors import ModelError
from pyruntime.frontends.passes import (
    activations,
    arithmetic,
    attribute_forms,
    batch_norm,
    booleans,
    contrib,
    conv_transpose,
    convolution,
    dense,
    dynamic_quantization,
    dynamic_shapes,
    float32,
    fold_constants,
    gather,
    group_norm,
    identities,
    inputs,
    layer_norm,
    names,
    padding,
    parallel_branches,
    products,
    qoperator,
    quantization,
    reductions,
    resize,
    scale_shift,
    softmax,
)
from pyruntime.graph.nodes import remove_dead_nodes
from pyruntime.graph.shapes import infer_shapes

Pass = Callable[[ir.Model], bool]

# Once, before anything else.
PREPARE: list[Pass] = [
    names.run,
    inputs.run,
    float32.run,
    qoperator.run,
    contrib.run,
    fold_constants.run,
    dynamic_quantization.run,
]

# Repeated until nothing changes: what one pass makes constant lets another go on.
SIMPLIFY: list[Pass] = [
    fold_constants.run,
    attribute_forms.run,
    reductions.run,
    resize.run,
    softmax.run,
    arithmetic.run,
    booleans.run,
    dynamic_shapes.run,
    gather.run,
    identities.run,
    group_norm.run,
    layer_norm.run,
    products.run,
    quantization.run,
    convolution.run,
    dense.run,
    batch_norm.run,
    padding.run,
    parallel_branches.run,
    activations.run,
    scale_shift.run,
    conv_transpose.run,
    remove_dead_nodes,
]

# Once, at the end.
FINISH: list[Pass] = [remove_dead_nodes, names.run]

_MOST_ROUNDS = 50


def run_all(model: ir.Model) -> None:
    """Run every pass on the model, in place. Errors: ModelError."""
    for step in PREPARE:
        _apply(step, model)
    infer_shapes(model)
    for _ in range(_MOST_ROUNDS):
        changed = False
        for step in SIMPLIFY:
            if _apply(step, model):
                changed = True
                infer_shapes(model)
        if not changed:
            break
    else:
        raise ModelError("the model does not settle into canonical form; report it with the model")
    for step in FINISH:
        _apply(step, model)
    infer_shapes(model)


def _apply(step: Pass, model: ir.Model) -> bool:
    """Run one pass. What a malformed model makes it raise becomes a ModelError; the cause stays attached."""
    try:
        return step(model)
    except (
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
        OverflowError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"malformed model ({step.__module__.split('.')[-1]}: {reason}); correct it"
        ) from error
