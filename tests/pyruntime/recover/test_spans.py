"""Rescaling a span must leave the function as it is, whatever stands between the layers."""

import numpy as np
import pytest
from onnx import helper
from toolmodels import build, he, residual_net, shared_net

from pyruntime import graph
from pyruntime.evaluate import observe
from pyruntime.recover.spans import find_spans, rescale

node = helper.make_node


def run(model, x, output="y"):
    (values,) = observe(model, {"x": x}, [output], batch=len(x))
    return values[output]


def check(model, shape, spans=None):
    """Rescale every span by random powers of two; return the spans as (producers, consumers)."""
    x = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    before, copy = run(model, x), graph.clone(model)
    found = find_spans(copy)
    rng = np.random.default_rng(2)
    for span in found:
        rescale(copy, span, 2.0 ** rng.integers(-3, 4, span.channels))
    np.testing.assert_allclose(run(copy, x), before, rtol=1e-5, atol=1e-5)
    if spans is not None:
        assert [(names(span.producers), names(span.consumers)) for span in found] == spans
    return found


def names(nodes):
    return {entry.name.removesuffix("_1") for entry in nodes}


def weights(rng, **shapes):
    return {name: he(rng, *shape) for name, shape in shapes.items()}


def test_plain_depthwise_pooled_and_flattened():
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "a", "ab"], ["c1"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "d"], ["c2"], name="depthwise", group=4, pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["c2"], ["r2"], alpha=0.1),
        node("Pad", ["r2", "pads"], ["p"]),
        node("MaxPool", ["p"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["m"], ["f"]),
        node("Gemm", ["f", "g", "gb"], ["h"], name="dense", transB=1),
        node("Relu", ["h"], ["r3"]),
        node("Gemm", ["r3", "o"], ["y"], name="head", transB=1),
    ]
    constants = weights(rng, a=(4, 3, 3, 3), d=(4, 1, 3, 3), g=(6, 4 * 16), o=(5, 6))
    constants |= {"ab": rng.normal(size=4).astype(np.float32), "gb": rng.normal(size=6).astype(np.float32)}
    constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    model = build(nodes, constants, {"x": ["N", 3, 6, 6]}, {"y": ["N", 5]})
    check(model, (3, 6, 6), [({"conv"}, {"depthwise"}), ({"depthwise"}, {"dense"}), ({"dense"}, {"head"})])


def test_groups_and_depth_multipliers():
    rng = np.random.default_rng(1)
    nodes = [
        node("Conv", ["x", "a"], ["c1"], name="grouped", group=2),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "b"], ["c2"], name="multiplier", group=8),
        node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "c"], ["y"], name="half", group=2),
    ]
    constants = weights(rng, a=(8, 2, 1, 1), b=(16, 1, 1, 1), c=(6, 8, 1, 1))
    model = build(nodes, constants, {"x": ["N", 4, 5, 5]}, {"y": ["N", 6, 5, 5]})
    check(model, (4, 5, 5), [({"grouped"}, {"multiplier"}), ({"multiplier"}, {"half"})])


def test_residual_sums_share_a_scale():
    """The layer inside the branch makes and reads the channels of the sum."""
    rng = np.random.default_rng(2)
    nodes = [
        node("Conv", ["x", "a"], ["c1"], name="stem"),
        node("Conv", ["c1", "b"], ["c2"], name="branch"),
        node("Add", ["c1", "c2"], ["s"]),
        node("Relu", ["s"], ["r"]),
        node("Conv", ["r", "c"], ["y"], name="head"),
    ]
    model = build(
        nodes,
        weights(rng, a=(4, 3, 1, 1), b=(4, 4, 1, 1), c=(2, 4, 1, 1)),
        {"x": ["N", 3, 5, 5]},
        {"y": ["N", 2, 5, 5]},
    )
    check(model, (3, 5, 5), [({"stem", "branch"}, {"branch", "head"})])


def test_tokens():
    rng = np.random.default_rng(3)
    nodes = [
        node("MatMul", ["x", "a"], ["m"], name="first"),
        node("Add", ["m", "b"], ["s"]),
        node("Relu", ["s"], ["r"]),
        node("MatMul", ["r", "c"], ["y"], name="second"),
    ]
    constants = weights(rng, a=(4, 6), c=(6, 5)) | {"b": rng.normal(size=6).astype(np.float32)}
    model = build(nodes, constants, {"x": ["N", 7, 4]}, {"y": ["N", 7, 5]})
    (span,) = check(model, (7, 4), [({"first"}, {"second"})])
    assert not span.shifts  # the row is the bias of the layer


@pytest.mark.parametrize(
    "between",
    [
        [node("Sigmoid", ["c1"], ["r"])],
        [node("Clip", ["c1", "one", "six"], ["r"])],
        [node("Add", ["c1", "grid"], ["r"])],
        [node("Concat", ["c1", "c1"], ["r"], axis=1)],
        [node("Pad", ["c1", "pads", "one"], ["r"])],
    ],
    ids=["sigmoid", "clip above zero", "sum with a constant", "concat", "pad with ones"],
)
def test_what_is_not_homogeneous_blocks(between):
    rng = np.random.default_rng(4)
    nodes = [
        node("Conv", ["x", "a"], ["c1"]),
        *between,
        node("Conv", ["r", "b"], ["y"]),
    ]
    channels = 8 if between[0].op_type == "Concat" else 4
    size = 7 if between[0].op_type == "Pad" else 5
    constants = weights(rng, a=(4, 3, 1, 1), b=(2, channels, 1, 1))
    constants |= {"one": np.float32(1), "six": np.float32(6), "grid": he(rng, 1, 4, 5, 5)}
    constants["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    constants = {name: np.asarray(array) for name, array in constants.items()}
    model = build(nodes, constants, {"x": ["N", 3, 5, 5]}, {"y": ["N", 2, size, size]})
    assert find_spans(model) == []


def test_outputs_and_shared_weights_block():
    assert find_spans(shared_net(np.random.default_rng(5))) == []
    rng = np.random.default_rng(6)
    nodes = [node("Conv", ["x", "a"], ["c"]), node("Relu", ["c"], ["r"]), node("Conv", ["r", "b"], ["y"])]
    constants = weights(rng, a=(4, 3, 1, 1), b=(2, 4, 1, 1))
    outputs = {"y": ["N", 2, 5, 5], "r": ["N", 4, 5, 5]}
    assert find_spans(build(nodes, constants, {"x": ["N", 3, 5, 5]}, outputs)) == []
    # Everything in this one leads into a Concat.
    assert find_spans(residual_net(rng)) == []


def test_rescaled_tensors_are_no_longer_called_as_they_were():
    rng = np.random.default_rng(7)
    nodes = [node("Conv", ["x", "a"], ["c"]), node("Relu", ["c"], ["r"]), node("Conv", ["r", "b"], ["y"])]
    constants = weights(rng, a=(4, 3, 1, 1), b=(2, 4, 1, 1))
    model = build(nodes, constants, {"x": ["N", 3, 5, 5]}, {"y": ["N", 2, 5, 5]})
    (span,) = find_spans(model)
    rescale(model, span, np.full(4, 2.0))
    assert [output.name for entry in model.graph for output in entry.outputs] == [
        "c_rescaled",
        "r_rescaled",
        "y",
    ]
