"""Batch norms that no layer takes in become depthwise layers of networks that run on integers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from toolmodels import sqnr_db

import pyruntime as prt

node = helper.make_node
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def model_of(nodes, constants, x=(3, 12, 12), y=None):
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *x])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def norm(prefix, channels, spread=1.0):
    """Constants of a batch norm whose channels differ by a factor of 10^(2 spread)."""
    scale = 10 ** RNG.uniform(-spread, spread, channels)
    return {
        f"{prefix}s": scale.astype(np.float32),
        f"{prefix}b": (normal(channels) * 0.3).astype(np.float32),
        f"{prefix}m": (normal(channels) * 0.3).astype(np.float32),
        f"{prefix}v": RNG.uniform(0.5, 2, channels).astype(np.float32),
    }


def norm_node(prefix, x, y):
    return node("BatchNormalization", [x, *(prefix + part for part in "sbmv")], [y], name=f"{prefix}norm")


def dense_block(spread):
    """Two layers of a DenseNet: what they read is normalized anew for each."""
    nodes = [
        node("Conv", ["x", "w0"], ["a"], pads=[1] * 4),
        norm_node("p", "a", "pa"),
        node("Relu", ["pa"], ["ra"]),
        node("Conv", ["ra", "w1"], ["b"], pads=[1] * 4),
        node("Concat", ["a", "b"], ["c"], axis=1),
        norm_node("q", "c", "qc"),
        node("Relu", ["qc"], ["rc"]),
        node("Conv", ["rc", "w2"], ["d"]),
        node("GlobalAveragePool", ["d"], ["g"]),
        node("Flatten", ["g"], ["y"]),
    ]
    constants = {
        "w0": normal(8, 3, 3, 3) * 0.3,
        "w1": normal(8, 8, 3, 3) * 0.2,
        "w2": normal(10, 16, 1, 1) * 0.3,
        **norm("p", 8, spread),
        **norm("q", 16, spread),
    }
    return model_of(nodes, constants, y=["N", 10])


def compressed(model, recipe="int8", shape=(3, 12, 12)):
    x = normal(16, *shape)
    result = prt.compress(model.SerializeToString(), recipe=recipe, calibration={"x": x})
    wanted = prt.InferenceSession(prt.compress(model.SerializeToString(), recipe="float")).run(None, {"x": x})
    got = prt.InferenceSession(result).run(None, {"x": x})
    return result, sqnr_db(wanted[0], got[0])


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_norms_of_a_dense_block_are_layers(spread):
    """With channels that differ a hundredfold u8 with one scale could not hold them."""
    result, sqnr = compressed(dense_block(spread))
    program = result.program
    assert {n.op for n in program.nodes} == {"quantize", "conv", "concat", "average_pool", "flatten"}
    affine = [n for n in program.nodes if "norm" in n.name]
    assert [n.attributes["groups"] for n in affine] == [8, 16]
    assert all(n.attributes.get("lo") == 0 or program.values[n.outputs[0]].zero_point == 0 for n in affine)
    assert sqnr > 30
    for n in affine:  # one weight per channel: as large as 8 bits allow, whatever its scale
        assert np.abs(program.constants[n.inputs[1]].array).min() > 100


@pytest.mark.parametrize("recipe", ["int4", "hashed=0.5", "codebook=16", "pow2"])
def test_they_keep_eight_bits_in_every_scheme(recipe):
    program = compressed(dense_block(1.0), {"quantize": recipe})[0].program
    for n in program.nodes:
        if "norm" in n.name:
            assert np.abs(program.constants[n.inputs[1]].array).min() > 100


def test_float_networks_keep_sums_and_products():
    model = dense_block(0.1)
    ops = {n.op for n in prt.compress(model.SerializeToString(), recipe="float").program.nodes}
    assert {"mul", "add"} <= ops


def test_pruning_does_not_see_them():
    result, _ = compressed(dense_block(0.5), {"prune": ["weight=0.9"], "quantize": "int8"})
    for n in result.program.nodes:
        if "norm" in n.name:
            assert np.all(result.program.constants[n.inputs[1]].array)


def test_scales_in_a_float_stream_stay():
    """A layer scale before a float sum between layer norms is no layer of its own."""
    nodes = [
        node("LayerNormalization", ["x", "ls"], ["l"], axis=-1),
        node("Sigmoid", ["l"], ["t"]),
        node("Mul", ["t", "scale"], ["u"]),
        node("Add", ["u", "x"], ["r"]),
        node("LayerNormalization", ["r", "ls"], ["m"], axis=-1),
        node("MatMul", ["m", "w"], ["y"]),
    ]
    constants = {
        "ls": np.ones(32, np.float32),
        "scale": normal(6, 1),
        "w": normal(32, 5),
    }
    result, _ = compressed(model_of(nodes, constants, x=(6, 32), y=["N", 6, 5]), shape=(6, 32))
    assert "conv" not in {n.op for n in result.program.nodes}


def test_a_scale_or_a_sequence_alone():
    for rank, tail in ((3, (20,)), (4, (6, 6))):
        ones = [1] * (rank - 2)
        nodes = [
            node("Conv", ["x", "w0"], ["a"]),
            node("Relu", ["a"], ["r"]),
            node("Mul", ["scale", "r"], ["u"]),
            node("Conv", ["u", "w1"], ["y"]),
        ]
        constants = {
            "w0": normal(8, 4, *ones),
            "scale": normal(8, *ones),
            "w1": normal(5, 8, *ones),
        }
        result, sqnr = compressed(
            model_of(nodes, constants, x=(4, *tail), y=["N", 5, *tail]), shape=(4, *tail)
        )
        assert [n.attributes["groups"] for n in result.program.nodes if n.op == "conv"] == [1, 8, 1]
        assert sqnr > 30


def test_one_after_the_other():
    nodes = [
        node("Conv", ["x", "w0"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("Mul", ["r", "s"], ["u"]),
        node("Add", ["u", "b"], ["v"]),
        node("Mul", ["v", "s2"], ["t"]),
        node("Conv", ["t", "w1"], ["y"]),
    ]
    constants = {
        "w0": normal(8, 4, 1, 1),
        "s": normal(8, 1, 1),
        "b": normal(8, 1, 1),
        "s2": normal(8, 1, 1),
        "w1": normal(5, 8, 1, 1),
    }
    result, sqnr = compressed(model_of(nodes, constants, x=(4, 6, 6), y=["N", 5, 6, 6]), shape=(4, 6, 6))
    assert [n.attributes["groups"] for n in result.program.nodes if n.op == "conv"] == [1, 8, 8, 1]
    assert sqnr > 30


def test_the_first_layer_keeps_its_bits_behind_one():
    """Of few bits the first and the last layer get eight: a normalized input is no layer of its own."""
    nodes = [
        node("Mul", ["x", "s"], ["u"]),
        node("Add", ["u", "b"], ["v"], name="total"),
        node("Conv", ["v", "w0"], ["a"], pads=[1] * 4),
        node("Relu", ["a"], ["r"]),
        node("Conv", ["r", "w1"], ["c"], pads=[1] * 4),
        node("Relu", ["c"], ["d"]),
        node("Conv", ["d", "w2"], ["y"]),
    ]
    constants = {
        "s": normal(3, 1, 1),
        "b": normal(3, 1, 1),
        "w0": normal(8, 3, 3, 3),
        "w1": normal(8, 8, 3, 3),
        "w2": normal(5, 8, 1, 1),
    }
    result, _ = compressed(model_of(nodes, constants, y=["N", 5, 12, 12]), {"quantize": "int4"})
    largest = [
        int(np.abs(result.program.constants[n.inputs[1]].array.astype(int)).max())
        for n in result.program.nodes
        if n.op == "conv"
    ]
    assert [value > 8 for value in largest] == [True, True, False, True]


def test_the_sum_keeps_its_name():
    nodes = [
        node("Conv", ["x", "w0"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("Mul", ["r", "s"], ["u"]),
        node("Add", ["u", "b"], ["total"]),
        node("MaxPool", ["total"], ["p"], kernel_shape=[2, 2]),
        node("Conv", ["p", "w1"], ["y"]),
    ]
    constants = {
        "w0": normal(8, 3, 1, 1),
        "s": normal(8, 1, 1),
        "b": normal(8, 1, 1),
        "w1": normal(5, 8, 1, 1),
    }
    result, _ = compressed(model_of(nodes, constants, y=["N", 5, 11, 11]))
    assert any(name.startswith("total") for name in result.program.values)
