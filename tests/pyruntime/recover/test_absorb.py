"""Offsets of channels move into the biases behind them: smaller ranges, the same function on the data."""

import numpy as np
import pytest
from onnx import helper
from toolmodels import build, he, make_run

from pyruntime import graph
from pyruntime.evaluate import observe
from pyruntime.layers import find_layers
from pyruntime.recover.absorb import absorb
from pyruntime.recover.common import get_bias

node = helper.make_node
OFFSETS = np.array([6, 0, 3, -1, 0, 4, 0, 0], np.float32)


def net(*middle, pads=0, last="r"):
    """`x` -> first -> `c`, some nodes, `last` -> second -> `y`."""
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "a", "ab"], ["c"], name="first"),
        *middle,
        node("Conv", [last, "b", "bb"], ["y"], name="second", pads=[pads] * 4),
    ]
    kernel = 1 + 2 * pads
    constants = {
        "a": he(rng, 8, 4, 1, 1) * 0.2,
        "ab": OFFSETS,
        "f": he(rng, 8, 8, 1, 1) * 0.1,
        "fb": np.float32(1) - OFFSETS / 2,
        "b": he(rng, 6, 8, kernel, kernel),
        "bb": rng.normal(size=6),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    constants = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    used = {name for entry in nodes for name in entry.input}
    constants = {name: array for name, array in constants.items() if name in used}
    return build(nodes, constants, {"x": ["N", 4, 5, 5]}, {"y": ["N", 6, 5, 5]})


RELU = (node("Relu", ["c"], ["r"]),)
RELU6 = (node("Clip", ["c", "zero", "six"], ["r"]),)
RESIDUAL = (node("Conv", ["c", "f", "fb"], ["g"], name="branch"), node("Add", ["c", "g"], ["r"]))
BENT_RESIDUAL = (*RESIDUAL[:-1], node("Add", ["c", "g"], ["s"]), node("Relu", ["s"], ["r"]))


def images():
    return {"x": np.random.default_rng(1).normal(size=(16, 4, 5, 5)).astype(np.float32)}


def tensor(model, name):
    (values,) = observe(model, images(), [name], make_run, batch=16)
    return values[name]


def absorbed(model):
    copy = graph.clone(model)
    absorb(copy, images(), make_run=make_run)
    np.testing.assert_allclose(tensor(copy, "y"), tensor(model, "y"), rtol=1e-4, atol=1e-4)
    return copy


@pytest.mark.parametrize("middle", [RELU, RESIDUAL, BENT_RESIDUAL])
def test_ranges_shrink(middle):
    model = net(*middle)
    copy = absorbed(model)
    (name,) = [value.name for value in find_layers(copy)[-1].node.inputs[:1]]
    assert name == "r_rescaled"
    spread = np.ptp(tensor(copy, name))
    assert spread < 0.8 * np.ptp(tensor(model, "r"))


def test_a_channel_falls_as_far_as_its_relu_allows():
    model = net(*RELU)
    lowest = tensor(model, "c").min(axis=(0, 2, 3))
    copy = absorbed(model)
    first, _ = find_layers(copy)
    np.testing.assert_allclose(OFFSETS - get_bias(first), np.maximum(lowest, 0), atol=1e-5)


def test_a_channel_that_reaches_six_stays():
    model = net(*RELU6)
    reaches = tensor(model, "c").max(axis=(0, 2, 3)) > 6
    first, _ = find_layers(absorbed(model))
    moved = OFFSETS - get_bias(first)
    assert reaches.any() and (moved[reaches] == 0).all()
    assert (moved[~reaches] > 0.5).any()


def test_linear_channels_get_the_mean_zero():
    copy = absorbed(net(*RESIDUAL))
    np.testing.assert_allclose(tensor(copy, "r_rescaled").mean(axis=(0, 2, 3)), 0, atol=1e-4)


def test_zero_padding_keeps_a_span_as_it_is():
    model = net(*RELU, pads=1)
    copy = absorbed(model)
    for before, after in zip(find_layers(model), find_layers(copy), strict=True):
        np.testing.assert_array_equal(get_bias(before), get_bias(after))
