"""Weights in all the places where exporters put them, shared, tied and clashing."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import assert_same, model_of, node_of, normal, ops, run

from pyruntime.graph import constant, weight_initializer


def make(*args, **kwargs):
    return helper.make_node(*args, **kwargs)


def constant_node(array, name):
    return make("Constant", [], [name], value=numpy_helper.from_array(array))


PRODUCERS = {
    "Constant": lambda w: ([constant_node(w, "w")], {}),
    "Identity": lambda w: ([make("Identity", ["w0"], ["w"])], {"w0": w}),
    "Cast": lambda w: ([make("Cast", ["w0"], ["w"], to=TensorProto.FLOAT)], {"w0": w.astype(np.float16)}),
    "Reshape": lambda w: (
        [make("Reshape", ["w0", "s"], ["w"])],
        {"w0": w.reshape(-1), "s": np.array(w.shape, np.int64)},
    ),
    "Transpose": lambda w: (
        [make("Transpose", ["w0"], ["w"], perm=[3, 2, 0, 1])],
        {"w0": np.ascontiguousarray(w.transpose(2, 3, 1, 0))},
    ),
    "chain": lambda w: (
        [
            constant_node(w.transpose(1, 0, 2, 3).copy(), "a"),
            make("Identity", ["a"], ["b"]),
            make("Transpose", ["b"], ["c"], perm=[1, 0, 2, 3]),
            make("Unsqueeze", ["c", "ax"], ["d"]),
            make("Squeeze", ["d", "ax"], ["w"]),
        ],
        {"ax": np.array([0], np.int64)},
    ),
}


@pytest.mark.parametrize("producer", PRODUCERS)
def test_weight_producer_is_folded(producer):
    weight = np.round(normal(4, 3, 3, 3) * 64) / 64  # exact in float16
    nodes, constants = PRODUCERS[producer](weight)
    proto = model_of([*nodes, make("Conv", ["x", "w"], ["y"])], {"x": ("N", 3, 6, 6)}, ["y"], constants)
    model = assert_same(proto, {"x": normal(2, 3, 6, 6)}, rtol=0, atol=0)
    assert ops(model) == ["Conv"]
    np.testing.assert_array_equal(constant(node_of(model, "Conv").inputs[1]), weight)


QDQ_CHAINS = {
    "DQ": [make("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0)],
    "DQ-Q-DQ": [
        make("DequantizeLinear", ["q", "s", "z"], ["f"], axis=0),
        make("QuantizeLinear", ["f", "s", "z"], ["q2"], axis=0),
        make("DequantizeLinear", ["q2", "s", "z"], ["w"], axis=0),
    ],
    "Transpose before DQ": [
        make("Transpose", ["qt"], ["q3"], perm=[1, 0, 2, 3]),
        make("DequantizeLinear", ["q3", "s", "z"], ["w"], axis=0),
    ],
    "Transpose after DQ": [
        make("DequantizeLinear", ["qt", "s", "z"], ["f"], axis=1),
        make("Transpose", ["f"], ["w"], perm=[1, 0, 2, 3]),
    ],
    "Reshape after DQ": [
        make("DequantizeLinear", ["q", "s", "z"], ["f"], axis=0),
        make("Reshape", ["f", "flat"], ["g"]),
        make("Reshape", ["g", "full"], ["w"]),
    ],
}


@pytest.mark.parametrize("chain", QDQ_CHAINS)
def test_quantized_weight_stays_quantized(chain):
    quantized = np.random.default_rng(1).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8)
    constants = {
        "q": quantized,
        "qt": np.ascontiguousarray(quantized.transpose(1, 0, 2, 3)),
        "s": np.array([0.01, 0.02, 0.5, 0.125], np.float32),
        "z": np.zeros(4, np.int8),
        "flat": np.array([4, -1], np.int64),
        "full": np.array([4, 3, 3, 3], np.int64),
    }
    proto = model_of(
        [*QDQ_CHAINS[chain], make("Conv", ["x", "w"], ["y"])], {"x": (1, 3, 5, 5)}, ["y"], constants
    )
    model = assert_same(proto, {"x": normal(1, 3, 5, 5)}, rtol=0, atol=0)
    assert ops(model) == ["DequantizeLinear", "Conv"]
    weight = weight_initializer(node_of(model, "Conv").inputs[1])
    np.testing.assert_array_equal(constant(weight), quantized)


def test_initializers_listed_as_inputs():
    constants = {"w": normal(4, 3, 3, 3), "b": normal(4)}
    proto = model_of(
        [make("Conv", ["x", "w", "b"], ["y"])],
        {"x": (1, 3, 6, 6)},
        ["y"],
        constants,
        opset=8,
        ir_version=3,
        list_constants_as_inputs=True,
    )
    model = assert_same(proto, {"x": normal(1, 3, 6, 6)})
    assert [value.name for value in model.graph.inputs] == ["x"]


BATCH_NORM = {
    "scale": np.array([0.5, -1, 2, 1.5], np.float32),
    "bias": np.array([1, 0, -1, 3], np.float32),
    "mean": np.array([0.1, 0.2, -0.3, 0], np.float32),
    "var": np.array([1, 0.5, 2, 4], np.float32),
}
STATISTICS = ["scale", "bias", "mean", "var"]


def test_batch_norm_folds_with_a_copy_of_a_shared_weight():
    nodes = [
        make("Conv", ["x", "w"], ["c"]),
        make("BatchNormalization", ["c", *STATISTICS], ["y1"]),
        make("Conv", ["x2", "w"], ["y2"]),
    ]
    constants = {"w": normal(4, 3, 3, 3), **BATCH_NORM}
    proto = model_of(nodes, {"x": (1, 3, 6, 6), "x2": (1, 3, 6, 6)}, ["y1", "y2"], constants)
    model = assert_same(proto, {"x": normal(1, 3, 6, 6), "x2": normal(1, 3, 6, 6, seed=1)})
    assert ops(model) == ["Conv", "Conv"]
    first, second = model.graph
    assert first.inputs[1] is not second.inputs[1]
    np.testing.assert_array_equal(constant(second.inputs[1]), constants["w"])


def test_batch_norm_of_a_conv_read_elsewhere_or_output_is_not_folded():
    weight = {"w": normal(4, 3, 3, 3), **BATCH_NORM}
    norm = make("BatchNormalization", ["c", *STATISTICS], ["n"])
    shared = [make("Conv", ["x", "w"], ["c"]), norm, make("Add", ["c", "n"], ["y"])]
    model = assert_same(model_of(shared, {"x": (1, 3, 6, 6)}, ["y"], weight), {"x": normal(1, 3, 6, 6)})
    assert ops(model) == ["Conv", "Mul", "Add", "Add"]
    as_output = model_of(shared[:2], {"x": (1, 3, 6, 6)}, ["c", "n"], weight)
    assert ops(assert_same(as_output, {"x": normal(1, 3, 6, 6)})) == ["Conv", "Mul", "Add"]


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 21])
def test_batch_norm_versions(opset):
    nodes = [make("BatchNormalization", ["x", *STATISTICS], ["y"], epsilon=1e-3)]
    proto = model_of(nodes, {"x": ("N", 4, 5, 5)}, ["y"], BATCH_NORM, opset=opset)
    assert ops(assert_same(proto, {"x": normal(2, 4, 5, 5)})) == ["Mul", "Add"]


def test_batch_norm_with_one_shared_statistic_and_unused_extra_outputs():
    constants = {"w": normal(4, 3, 1, 1), "one": np.ones(4, np.float32)}

    def network(outputs):
        norm = make("BatchNormalization", ["c", "one", "one", "one", "one"], outputs)
        return model_of(
            [make("Conv", ["x", "w"], ["c"]), norm], {"x": (1, 3, 4, 4)}, ["y"], constants, opset=9
        )

    x = {"x": normal(1, 3, 4, 4)}
    # ONNX Runtime does not run the training outputs, so the plain network gives the expected values.
    model = assert_same(network(["y", "m", "v", "sm", "sv"]), x, expected=run(network(["y"]), x))
    assert ops(model) == ["Conv"]


def test_shared_weights_and_a_value_named_like_a_new_one():
    """Two layers share weight and bias; the names a rewrite would choose are taken."""
    constants = {"w": normal(4, 4, 1, 1), "b": normal(4), **BATCH_NORM}
    nodes = [
        make("Conv", ["x", "w", "b"], ["b0"], name="a"),
        make("BatchNormalization", ["b0", *STATISTICS], ["w_1"], name="n"),
        make("Relu", ["w_1"], ["a_bias"], name="b_1"),
        make("Conv", ["a_bias", "w", "b"], ["y"], name="c"),
    ]
    proto = model_of(nodes, {"x": (1, 4, 4, 4)}, ["y"], constants)
    model = assert_same(proto, {"x": normal(1, 4, 4, 4)})
    assert ops(model) == ["Conv", "Relu", "Conv"]
    names = [value.name for value in model.graph.initializers.values()]
    names += [output.name for node in model.graph for output in node.outputs]
    assert len(set(names)) == len(names)
    np.testing.assert_array_equal(constant(list(model.graph)[2].inputs[1]), constants["w"])


def test_embedding_tied_to_a_dense_layer_through_transpose():
    constants = {"w": normal(6, 5)}
    nodes = [
        make("Gemm", ["x", "w"], ["h"], transB=0),
        make("Transpose", ["w"], ["wt"], perm=[1, 0]),
        make("MatMul", ["h", "wt"], ["y"]),
    ]
    model = assert_same(model_of(nodes, {"x": ("N", 6)}, ["y"], constants), {"x": normal(3, 6)})
    assert ops(model) == ["Gemm", "Gemm"]
