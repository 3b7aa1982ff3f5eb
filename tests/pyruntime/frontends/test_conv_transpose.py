"""ConvTranspose as convolution: every setting against ONNX Runtime, and what moves and folds around it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnx_models import assert_same, model_of, normal, ops

import pyruntime
from pyruntime.errors import ModelError
from pyruntime.evaluate import runtime
from pyruntime.frontends.onnx import load


def network(shape, weight, bias=True, tail=(), constants=None, **attributes):
    group = attributes.get("group", 1)
    arrays = {"w": normal(*weight, seed=1), **(constants or {})}
    inputs = ["x", "w"]
    if bias:
        arrays["b"] = normal(weight[1] * group, seed=2)
        inputs.append("b")
    nodes = [
        helper.make_node("ConvTranspose", inputs, ["t" if tail else "y"], name="up", **attributes),
        *tail,
    ]
    return model_of(nodes, {"x": shape}, ["y"], arrays)


def check(proto, x):
    """Equal to ONNX Runtime: the canonical form in ONNX Runtime, and our session."""
    model = assert_same(proto, {"x": x}, rtol=1e-4, atol=1e-4)
    wanted = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    found = runtime(model)({"x": x})["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return model


def settings(seed):
    """Random shapes and attributes of one node."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 3))
    group = int(rng.choice([1, 1, 2, 3]))
    kernel, strides, dilations = (rng.integers(1, top, n).tolist() for top in (6, 4, 4))
    attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": group}
    size = rng.integers(3, 8, n).tolist()
    added = [int(rng.integers(0, s)) for s in strides]
    kind = rng.choice(["pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "output_shape"])
    if kind == "pads":
        window = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        room = [(h - 1) * s + w + a - 1 for h, s, w, a in zip(size, strides, window, added, strict=True)]
        begins = [int(rng.integers(0, min(r, 6) // 2 + 1)) for r in room]
        ends = [int(rng.integers(0, min(r, 6) // 2 + 1)) for r in room]
        attributes |= {"pads": begins + ends, "output_padding": added}
    elif kind == "output_shape":
        attributes["output_shape"] = [h * s for h, s in zip(size, strides, strict=True)]
    else:
        attributes["auto_pad"] = kind
    channels, outputs = group * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    return [2, channels, *size], [channels, outputs, *kernel], bool(rng.integers(2)), attributes


@pytest.mark.parametrize("seed", range(40))
def test_random_settings(seed):
    shape, weight, bias, attributes = settings(seed)
    check(network(shape, weight, bias, **attributes), normal(*shape))


def test_stride_equal_to_the_kernel_is_pointwise():
    model = check(network(("N", 4, 5, 6), (4, 3, 2, 2), strides=[2, 2]), normal(2, 4, 5, 6))
    assert ops(model) == ["Conv", "Reshape", "Transpose", "Reshape"]


def test_without_strides_it_is_a_convolution_of_any_plane():
    model = check(network((1, 4, 5, 5), (4, 3, 3, 3), pads=[1, 1, 1, 1]), normal(1, 4, 5, 5))
    assert ops(model) == ["Conv"]


@pytest.mark.parametrize("group", [1, 2])
def test_batch_norm_and_activation_fold(group):
    outputs = 3 * group
    statistics = {name: normal(outputs, seed=index + 5) for index, name in enumerate(("g", "c", "m"))}
    statistics["v"] = np.abs(normal(outputs, seed=9)) + 0.5
    tail = [
        helper.make_node("BatchNormalization", ["t", "g", "c", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    proto = network((1, 4, 5, 5), (4, 3, 3, 3), True, tail, statistics, strides=[2, 2], group=group)
    model = check(proto, normal(1, 4, 5, 5))
    assert ops(model) == ["Conv", "Relu", "Reshape", "Transpose", "Reshape", "Slice"]


def test_layers_on_layers():
    arrays = {"w": normal(4, 6, 4, 4, seed=1), "u": normal(6, 2, 3, 3, seed=2)}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["t"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("ConvTranspose", ["r", "u"], ["y"], strides=[2, 2], output_padding=[1, 1]),
    ]
    check(model_of(nodes, {"x": ("N", 4, 5, 5)}, ["y"], arrays), normal(2, 4, 5, 5))


def test_int8_runs_on_integers(tmp_path):
    x = normal(32, 4, 6, 6)
    tail = [helper.make_node("Relu", ["t"], ["y"])]
    proto = network(("N", 4, 6, 6), (4, 8, 4, 4), True, tail, strides=[2, 2], pads=[1, 1, 1, 1])
    wanted = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    packed = pyruntime.compress(proto, {"quantize": "int8"}, {"x": x})
    found = pyruntime.InferenceSession(packed.program).run(None, {"x": x})[0]
    assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
    conv = next(node for node in packed.program.nodes if node.op == "conv")
    assert packed.program.constants[conv.inputs[1]].array.dtype == np.int8
    packed.to_onnx(tmp_path / "int8.onnx")
    np.testing.assert_allclose(
        onnxruntime.InferenceSession(tmp_path / "int8.onnx").run(None, {"x": x})[0],
        found,
        atol=np.abs(found).max() / 200,
    )


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"strides": [2]}, r"up.*strides \[2\]"),
        ({"strides": [0, 2]}, "step of zero"),
        ({"auto_pad": "SOME"}, "auto_pad 'SOME'"),
        ({"kernel_shape": [2, 2]}, r"kernel_shape \[2, 2\]"),
    ],
)
def test_errors_name_the_node(attributes, message):
    with pytest.raises(ModelError, match=message):
        load(network((1, 4, 5, 5), (4, 3, 3, 3), **attributes))


def test_what_is_not_supported_is_said():
    with pytest.raises(ModelError, match=r"ConvTranspose \(up\): the size of its plane is not known"):
        load(network((1, 4, "H", 5), (4, 3, 3, 3), strides=[2, 2]))
    with pytest.raises(ModelError, match=r"ConvTranspose \(up\): 3-D"):
        load(network((1, 4, 5, 5, 5), (4, 3, 2, 2, 2)))
