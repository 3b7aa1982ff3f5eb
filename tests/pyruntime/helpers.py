"""Single layers for the tests of recovery."""

import numpy as np
from onnx import helper
from toolmodels import build, he

from pyruntime.layers import find_layers
from pyruntime.quantize.schemes.integer import RangeGrid


def layer_of(rng, kernel=(), group=1, **attributes):
    """Model of one Conv (or Gemm without a kernel) of 6 inputs and 6 outputs, its layer, and an input."""
    if not kernel:
        model = build(
            [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": he(rng, 6, 6)}, *_ends(0)
        )
        return model, find_layers(model)[0], rng.normal(size=(40, 6)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="layer", group=group, **attributes)
    model = build([node], {"w": he(rng, 6, 6 // group, *kernel)}, *_ends(len(kernel)))
    x = rng.normal(size=(4, 6, *[9, 8][: len(kernel)])).astype(np.float32)
    return model, find_layers(model)[0], x


def _ends(spatial):
    sizes = [9, 8][:spatial]
    return {"x": ["N", 6, *sizes]}, {"y": ["N", 6, *["h", "w"][:spatial]]}


def level_grid(scales, top=127):
    """Levels `-top .. top` times the scale of each output channel."""
    high = np.full(len(scales), top)
    return RangeGrid(np.asarray(scales, np.float32), -high, high)
