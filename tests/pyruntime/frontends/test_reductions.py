"""Sums along axes and normalized groups, from the file to the core."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import ops

import pyruntime as prt
from pyruntime.errors import ModelError
from pyruntime.frontends.onnx import load

RNG = np.random.default_rng(0)
X = RNG.normal(1, 2, (2, 6, 5, 4)).astype(np.float32)
SCALE, BIAS = (RNG.normal(0, 1, 6).astype(np.float32) for _ in range(2))


def model(
    op: str, shape: tuple[int | str, ...] = ("N", 6, 5, 4), opset: int = 21, **settings
) -> onnx.ModelProto:
    """One node; its axes, scale and bias are constants."""
    constants = {}
    if "axes" in settings:
        constants["axes"] = np.array(settings.pop("axes"), np.int64)
    if "Normalization" in op:
        constants = {"scale": settings.pop("scale", SCALE), "bias": settings.pop("bias", BIAS)}
    node = helper.make_node(op, ["x", *constants], ["y"], **settings)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def computed(proto: onnx.ModelProto) -> np.ndarray:
    return prt.InferenceSession(prt.compress(proto, "float")).run(None, {"x": X})[0]


SUMS = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdims=keep),
    "ReduceL1": lambda x, axes, keep: np.abs(x).sum(axes, keepdims=keep),
    "ReduceL2": lambda x, axes, keep: np.sqrt((x * x).sum(axes, keepdims=keep)),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdims=keep),
}


@pytest.mark.parametrize("op", SUMS)
@pytest.mark.parametrize("axes", [(1,), (2, 3), (-1,), (1, 2, 3)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_sums(op: str, axes: tuple[int, ...], keepdims: int) -> None:
    found = computed(model(op, axes=axes, keepdims=keepdims))
    wanted = SUMS[op](X.astype(np.float64), axes, bool(keepdims))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_no_axes() -> None:
    assert ops(load(model("ReduceSum", axes=[], noop_with_empty_axes=1))) == ["Identity"]
    np.testing.assert_array_equal(computed(model("ReduceL1", axes=[], noop_with_empty_axes=1)), np.abs(X))
    total = computed(model("ReduceSum", shape=X.shape))
    np.testing.assert_allclose(total.reshape(()), X.sum(dtype=np.float64), rtol=1e-5)


def test_the_largest_of_a_plane() -> None:
    for keepdims in (0, 1):
        found = computed(model("ReduceMax", axes=[2, 3], keepdims=keepdims))
        np.testing.assert_array_equal(found, X.max((2, 3), keepdims=bool(keepdims)))
    assert ops(load(model("ReduceMax", axes=[2, 3]))) == ["GlobalMaxPool"]


def test_a_sum_over_an_unknown_size_is_refused() -> None:
    with pytest.raises(ModelError, match="ReduceSum"):
        load(model("ReduceSum", axes=[0]))


def normalized(groups: int, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    x = X.astype(np.float64).reshape(len(X), groups, -1)
    y = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-3)
    return y.reshape(X.shape) * scale[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize(
    ("proto", "wanted"),
    [
        (model("InstanceNormalization", epsilon=1e-3), normalized(6, SCALE, BIAS)),
        (model("GroupNormalization", num_groups=3, epsilon=1e-3), normalized(3, SCALE, BIAS)),
        (
            model("GroupNormalization", opset=18, num_groups=2, epsilon=1e-3, scale=SCALE[:2], bias=BIAS[:2]),
            normalized(2, SCALE[:2].repeat(3), BIAS[:2].repeat(3)),
        ),
        (
            model("InstanceNormalization", epsilon=1e-3, scale=SCALE * 0 + 1, bias=BIAS * 0),
            normalized(6, SCALE * 0 + 1, BIAS * 0),
        ),
    ],
)
def test_normalized_groups(proto: onnx.ModelProto, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(computed(proto), wanted, rtol=1e-4, atol=1e-5)
    plain = np.allclose(numpy_helper.to_array(proto.graph.initializer[0]), 1)
    after = [] if plain else ["Mul", "Add"]
    assert ops(load(proto)) == ["Reshape", "LayerNormalization", "Reshape", *after]


def test_groups_that_do_not_divide_the_channels() -> None:
    with pytest.raises(ModelError, match="6 channels in 4 groups"):
        load(model("GroupNormalization", num_groups=4))
