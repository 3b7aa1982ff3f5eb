"""Equalization: like ranges in every channel, and the same function."""

import numpy as np
import pytest
from onnx import helper
from toolmodels import build, he, sqnr_db

from pyruntime import graph
from pyruntime.evaluate import observe
from pyruntime.layers import find_layers
from pyruntime.recover import equalize
from pyruntime.recover.common import set_layer
from pyruntime.recover.equalize import balance, within_clip

node = helper.make_node


def separable_net(rng, clip=None):
    """Pointwise, depthwise, pointwise; the ranges of the channels differ by up to 100."""
    spread = 10.0 ** rng.uniform(-1, 1, 8).astype(np.float32)
    act = (
        (lambda a, b: node("Clip", [a, "zero", "six"], [b]))
        if clip
        else (lambda a, b: node("Relu", [a], [b]))
    )
    nodes = [
        node("Conv", ["x", "a", "ab"], ["c1"], name="expand"),
        act("c1", "r1"),
        node("Conv", ["r1", "d", "db"], ["c2"], name="depthwise", group=8, pads=[1, 1, 1, 1]),
        act("c2", "r2"),
        node("Conv", ["r2", "p", "pb"], ["y"], name="project"),
    ]
    bias = {name: rng.normal(size=8).astype(np.float32) * 0.3 for name in ("ab", "db", "pb")}
    constants = {
        "a": he(rng, 8, 4, 1, 1) * spread[:, None, None, None],
        "d": he(rng, 8, 1, 3, 3) / spread[:, None, None, None] ** 1.5,
        "p": he(rng, 8, 8, 1, 1) * spread**0.5,
        "zero": np.float32(0),
        "six": np.float32(clip or 0),
        **bias,
    }
    constants = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    return build(nodes, constants, {"x": ["N", 4, 8, 8]}, {"y": ["N", 8, 8, 8]})


def run(model, x):
    (values,) = observe(model, {"x": x}, ["y"], batch=len(x))
    return values["y"]


def rounded(model):
    """Copy with weights of 8 bits and one scale per tensor."""
    copy = graph.clone(model)
    for layer in find_layers(copy):
        step = np.abs(layer.array()).max() / 127
        set_layer(copy, layer, np.rint(layer.array() / step) * step, None)
    return copy


def images(seed=0):
    return np.random.default_rng(seed).normal(size=(16, 4, 8, 8)).astype(np.float32)


def test_one_scale_per_tensor_serves_equalized_weights():
    model = separable_net(np.random.default_rng(0))
    x = images()
    before, collapsed = run(model, x), sqnr_db(run(model, x), run(rounded(model), x))
    equalize(model, {"x": x})
    np.testing.assert_allclose(run(model, x), before, rtol=1e-4, atol=1e-4)
    assert sqnr_db(before, run(rounded(model), x)) > collapsed + 8
    for layer in find_layers(model)[:2]:
        ranges = np.abs(layer.array()).max(axis=(1, 2))
        assert ranges.max() / ranges.min() < 4


@pytest.mark.parametrize("bound", [1.5, 100.0])
def test_clipped_networks_keep_their_function_on_the_data(bound):
    """A bound that some channels reach, and one that none does."""
    model = separable_net(np.random.default_rng(1), clip=bound)
    x = images()
    before = run(model, x)
    (values,) = observe(model, {"x": x}, ["c1"], batch=len(x))
    reaches = values["c1"].max(axis=(0, 2, 3)) >= bound
    assert reaches.any() == (bound < 10) and not reaches.all()
    equalize(model, {"x": x})
    np.testing.assert_allclose(run(model, x), before, rtol=1e-4, atol=1e-4)
    assert sqnr_db(before, run(rounded(model), x)) > sqnr_db(
        before, run(rounded(separable_net(np.random.default_rng(1), clip=bound)), x)
    )


def test_zeros_stay_zero_and_dead_channels_are_left_alone():
    model = separable_net(np.random.default_rng(2))
    for layer in find_layers(model):
        weight = layer.array().copy()
        weight[np.random.default_rng(3).uniform(size=weight.shape) < 0.4] = 0
        weight[2] = 0
        set_layer(model, layer, weight, None)
    masks = [layer.array() == 0 for layer in find_layers(model)]
    x = images()
    before = run(model, x)
    equalize(model, {"x": x})
    np.testing.assert_allclose(run(model, x), before, rtol=1e-4, atol=1e-4)
    for mask, layer in zip(masks, find_layers(model), strict=True):
        np.testing.assert_array_equal(layer.array() == 0, mask)


def test_balance_by_hand():
    made, read = np.array([4.0, 1.0, 0.0, 1.0]), np.array([1.0, 4.0, 1.0, 0.0])
    np.testing.assert_allclose(balance(made, read), [2.0, 0.5, 1.0, 1.0])


def test_within_clip_by_hand():
    wanted = np.array([0.1, 2.0, 8.0, 0.5])
    np.testing.assert_allclose(
        within_clip(wanted, np.array([0.4, 1.0, 1.5, 0.0])), [0.5, 1.0, 1.0, 0.125], rtol=1e-12
    )
    none_clips = within_clip(wanted, np.array([0.8, 0.1, 0.1, 0.1]))
    np.testing.assert_allclose(none_clips, wanted * 10)
