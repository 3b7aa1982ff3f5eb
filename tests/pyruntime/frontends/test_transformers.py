"""What exported transformers are made of: layer norm, look-up, dynamic lengths, masks, products."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import assert_same, model_of, node_of, normal, ops

from pyruntime.errors import ModelError
from pyruntime.frontends.onnx import load
from pyruntime.graph import get_float, get_ints

node = helper.make_node


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def test_layer_norm() -> None:
    nodes = [node("LayerNormalization", ["x", "s", "b"], ["y"], epsilon=1e-3)]
    constants = {"s": normal(6), "b": normal(6, seed=1)}
    model = assert_same(model_of(nodes, {"x": ("N", 4, 6)}, ["y"], constants), {"x": normal(2, 4, 6)})
    assert get_float(node_of(model, "LayerNormalization"), "epsilon", 0) == pytest.approx(1e-3)


def test_layer_norm_of_two_axes_with_a_scale_that_broadcasts() -> None:
    nodes = [node("LayerNormalization", ["x", "s"], ["y"], axis=-2)]
    model = assert_same(model_of(nodes, {"x": ("N", 4, 6)}, ["y"], {"s": normal(6)}), {"x": normal(2, 4, 6)})
    scale = node_of(model, "LayerNormalization").inputs[1]
    assert scale is not None and list(scale.shape) == [4, 6]


def spelled(twice: bool, reciprocal: bool, axis: int = -1) -> list:
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=[axis]),
        node("Sub", ["x", "mean"], ["d"]),
        node("Sub", ["x", "mean"], ["d2" if twice else "unused"]),
        node("Pow", ["d2" if twice else "d", "two"], ["squares"]),
        node("ReduceMean", ["squares"], ["variance"], axes=[axis]),
        node("Add", ["variance", "epsilon"], ["shifted"]),
        node("Sqrt", ["shifted"], ["root"]),
    ]
    if reciprocal:
        nodes += [node("Reciprocal", ["root"], ["inverse"]), node("Mul", ["d", "inverse"], ["n"])]
    else:
        nodes += [node("Div", ["d", "root"], ["n"])]
    return [*nodes, node("Mul", ["s", "n"], ["scaled"]), node("Add", ["scaled", "b"], ["y"])]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("reciprocal", [False, True])
@pytest.mark.parametrize("shape", [("N", 4, 6), ("N", 6)])
def test_spelled_out_layer_norm(twice: bool, reciprocal: bool, shape: tuple) -> None:
    constants = {"two": np.float32(2), "epsilon": np.float32(1e-5), "s": normal(6), "b": normal(6, seed=1)}
    proto = model_of(spelled(twice, reciprocal), {"x": shape}, ["y"], constants)
    model = assert_same(proto, {"x": normal(*[3 if size == "N" else size for size in shape])})
    assert ops(model) == ["LayerNormalization"]


def test_normalization_over_another_axis_is_left_alone() -> None:
    constants = {"two": np.float32(2), "epsilon": np.float32(1e-5), "s": normal(6), "b": normal(6, seed=1)}
    proto = model_of(spelled(False, False, axis=1), {"x": ("N", 4, 6)}, ["y"], constants)
    model = assert_same(proto, {"x": normal(3, 4, 6)})
    assert "LayerNormalization" not in ops(model)


def test_embedding_with_positions_up_to_the_length() -> None:
    nodes = [
        node("Gather", ["words", "ids"], ["w"]),
        node("Shape", ["ids"], ["shape"]),
        node("Gather", ["shape", "one"], ["length"]),
        node("Unsqueeze", ["length", "zero"], ["ends"]),
        node("Slice", ["range", "zero", "ends", "last"], ["position"]),
        node("Gather", ["positions", "position"], ["p"]),
        node("Add", ["w", "p"], ["y"]),
    ]
    constants = {"words": normal(20, 6), "positions": normal(9, 6, seed=1), "range": np.arange(9)[None]}
    constants |= {"one": np.int64(1), "zero": ints(0), "last": ints(1)}
    proto = model_of(nodes, {"ids": ("N", "S")}, ["y"], constants, input_type=TensorProto.INT64)
    for length in (1, 5, 9):
        model = assert_same(proto, {"ids": np.arange(2 * length).reshape(2, length)})
    assert sorted(ops(model)) == ["Add", "Gather", "Gather", "Slice"]
    assert get_ints(node_of(model, "Slice"), "like_axes") == [1]


def test_first_token_of_a_sequence_of_any_length() -> None:
    for index, wanted in ((0, [[0], [1]]), (-1, [[-1], [1 << 30]])):
        nodes = [node("Gather", ["x", "index"], ["y"], axis=1)]
        proto = model_of(nodes, {"x": ("N", "S", 4)}, ["y"], {"index": np.int64(index)})
        model = assert_same(proto, {"x": normal(2, 5, 4)})
        assert ops(model) == ["Slice", "Squeeze"]
        cut = node_of(model, "Slice")
        assert [get_ints(cut, "starts"), get_ints(cut, "ends")] == wanted


def test_class_token_expanded_the_long_way() -> None:
    """Expand to [batch, -1, -1] as the exporter writes it: the -1 are replaced by 1 with Equal and Where."""
    nodes = [
        node("Shape", ["x"], ["shape"], start=0, end=1),
        node("Concat", ["shape", "minus", "minus"], ["wanted"], axis=0),
        node("Mul", ["ones", "minus"], ["minuses"]),
        node("Equal", ["wanted", "minuses"], ["keep"]),
        node("Where", ["keep", "ones", "wanted"], ["target"]),
        node("Expand", ["token", "target"], ["tokens"]),
        node("Concat", ["tokens", "x"], ["y"], axis=1),
    ]
    constants = {"minus": ints(-1), "ones": ints(1, 1, 1), "token": normal(1, 1, 4)}
    model = assert_same(model_of(nodes, {"x": ("N", 5, 4)}, ["y"], constants), {"x": normal(3, 5, 4)})
    assert ops(model) == ["Expand", "Concat"]
    assert get_ints(node_of(model, "Expand"), "like_axes") == [0, -1, -1]


def test_expanded_mask_is_broadcast_instead() -> None:
    """Expand [N, 1, 1, S] -> [N, 1, S, S], 1 - mask, Cast to bool, Where: nothing but the mask is left."""
    nodes = [
        node("Shape", ["mask"], ["length"], start=1, end=2),
        node("Shape", ["mask"], ["batch"], start=0, end=1),
        node("Concat", ["batch", "one", "length", "length"], ["target"], axis=0),
        node("Unsqueeze", ["mask", "axes"], ["m4"]),
        node("Expand", ["m4", "target"], ["full"]),
        node("Sub", ["number", "full"], ["absent"]),
        node("Cast", ["absent"], ["condition"], to=TensorProto.BOOL),
        node("Where", ["condition", "low", "absent"], ["bias"]),
        node("Transpose", ["x"], ["xt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["x", "xt"], ["scores"]),
        node("Add", ["scores", "bias"], ["y"]),
    ]
    constants = {"one": ints(1), "axes": ints(1, 2), "number": np.float32(1), "low": np.float32(-1e30)}
    proto = model_of(nodes, {"mask": ("N", "S"), "x": ("N", 2, "S", 3)}, ["y"], constants)
    mask = np.ones((2, 5), np.float32)
    mask[1, 3:] = 0
    model = assert_same(proto, {"mask": mask, "x": normal(2, 2, 5, 3)})
    assert "Expand" not in ops(model) and "Cast" not in ops(model)


def test_booleans() -> None:
    nodes = [
        node("Cast", ["x"], ["a"], to=TensorProto.BOOL),
        node("Equal", ["x", "three"], ["b"]),
        node("Not", ["b"], ["c"]),
        node("And", ["a", "c"], ["d"]),
        node("Or", ["d", "fixed"], ["e"]),
        node("Cast", ["e"], ["f"], to=TensorProto.FLOAT),
        node("Cast", ["a"], ["g"], to=TensorProto.FLOAT),
        node("Where", ["d", "x", "g"], ["h"]),
        node("Add", ["f", "h"], ["y"]),
    ]
    constants = {"three": np.float32(3), "fixed": np.array([True, False, False, False, False])}
    x = np.float32([[0, 1, 2, 3, 4], [3, 0, 0, 5, -1]])
    model = assert_same(model_of(nodes, {"x": ("N", 5)}, ["y"], constants), {"x": x})
    assert not {"Not", "And", "Or", "Equal"} & set(ops(model))


def test_boolean_of_integers() -> None:
    nodes = [
        node("Equal", ["ids", "pad"], ["padding"]),
        node("Where", ["padding", "low", "high"], ["y"]),
    ]
    constants = {"pad": np.int64(0), "low": np.float32(-1), "high": np.float32(2)}
    proto = model_of(nodes, {"ids": ("N", 4)}, ["y"], constants, input_type=TensorProto.INT64)
    assert_same(proto, {"ids": np.array([[0, 7, 0, -3]])})


def test_a_comparison_that_has_no_form_is_named() -> None:
    nodes = [node("Greater", ["x", "z"], ["c"], name="compare"), node("Where", ["c", "x", "z"], ["y"])]
    with pytest.raises(
        ModelError, match=r"unsupported nodes: Greater \(compare\), Where \(.*\): of type BOOL"
    ):
        load(model_of(nodes, {"x": ("N", 5), "z": ("N", 5)}, ["y"]))


def test_guard_against_rows_of_nan() -> None:
    nodes = [
        node("Softmax", ["x"], ["p"]),
        node("IsNaN", ["p"], ["bad"]),
        node("Where", ["bad", "zero", "p"], ["y"]),
    ]
    x = normal(3, 4)
    x[1] = -np.inf
    model = assert_same(model_of(nodes, {"x": ("N", 4)}, ["y"], {"zero": np.float32(0)}), {"x": x})
    assert "IsNaN" not in ops(model)


def test_factors_of_a_product_become_one() -> None:
    nodes = [
        node("Mul", ["q", "c"], ["a"]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("Div", ["kt", "c"], ["b"]),
        node("Mul", ["b", "c"], ["b2"]),
        node("MatMul", ["a", "b2"], ["s"]),
        node("Div", ["s", "c"], ["t"]),
        node("Relu", ["t"], ["y"]),
    ]
    proto = model_of(nodes, {"q": ("N", 4, 8), "k": ("N", 5, 8)}, ["y"], {"c": np.float32(0.4)})
    model = assert_same(proto, {"q": normal(2, 4, 8), "k": normal(2, 5, 8, seed=1)})
    assert ops(model).count("MatMul") == 1 and ops(model).count("Mul") == 1 and "Div" not in ops(model)


def test_transposition_by_reshapes() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "two", "three"], ["s"]),
        node("Slice", ["shape", "three", "four"], ["d"]),
        node("Slice", ["shape", "zero", "two"], ["lead"]),
        node("Concat", ["minus", "s", "d"], ["flat"], axis=0),
        node("Reshape", ["x", "flat"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        node("Concat", ["lead", "d", "s"], ["back"], axis=0),
        node("Reshape", ["t", "back"], ["y"]),
    ]
    constants = {"zero": ints(0), "two": ints(2), "three": ints(3), "four": ints(4), "minus": ints(-1)}
    model = assert_same(model_of(nodes, {"x": ("N", 2, "S", 3)}, ["y"], constants), {"x": normal(4, 2, 5, 3)})
    assert ops(model) == ["Transpose"]


def test_dense_layer_of_sequences_is_a_gemm() -> None:
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["b", "p"], ["y"])]
    constants = {"w": normal(6, 5), "b": normal(5, seed=1)}
    model = assert_same(model_of(nodes, {"x": ("N", "S", 6)}, ["y"], constants), {"x": normal(2, 3, 6)})
    assert ops(model) == ["Gemm"]


def test_gelu_of_both_forms() -> None:
    erf = [
        node("Div", ["x", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Mul", ["x", "f"], ["g"]),
        node("Mul", ["g", "half"], ["y"]),
    ]
    tanh = [
        node("Pow", ["x", "three"], ["cube"]),
        node("Mul", ["cube", "c"], ["d"]),
        node("Add", ["x", "d"], ["e"]),
        node("Mul", ["e", "k"], ["f"]),
        node("Tanh", ["f"], ["g"]),
        node("Add", ["g", "one"], ["h"]),
        node("Mul", ["x", "half"], ["i"]),
        node("Mul", ["i", "h"], ["y"]),
    ]
    constants = {
        "root": math.sqrt(2),
        "one": 1,
        "half": 0.5,
        "three": 3,
        "c": 0.044715,
        "k": math.sqrt(2 / math.pi),
    }
    for nodes in (erf, tanh):
        proto = model_of(nodes, {"x": ("N", 7)}, ["y"], {k: np.float32(v) for k, v in constants.items()})
        assert ops(assert_same(proto, {"x": normal(4, 7)})) == ["Gelu"]
