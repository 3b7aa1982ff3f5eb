"""Old and new forms of the same operators, shape computations, layers and pooling."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import assert_same, model_of, node_of, normal, ops

from pyruntime.errors import ModelError
from pyruntime.frontends.onnx import load
from pyruntime.frontends.passes.fold_constants import _evaluate
from pyruntime.graph import add_initializer, constant, dims, get_float, get_int, get_ints, insert_before


def make(*args, **kwargs):
    return helper.make_node(*args, **kwargs)


def i64(*values):
    return np.array(values, np.int64)


def single(nodes, shape, constants=None, opset=17, x=None, **kwargs):
    """Canonical form of nodes from `x` to `y`, after comparing it with ONNX Runtime."""
    proto = model_of(nodes, {"x": shape}, ["y"], constants, opset=opset)
    concrete = [2 if isinstance(dim, str) else dim for dim in shape]
    return assert_same(proto, {"x": normal(*concrete) if x is None else x}, **kwargs)


@pytest.mark.parametrize("opset", [7, 11, 12, 13, 17])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, None])
def test_softmax_before_13_flattens(opset, axis):
    attributes = {} if axis is None else {"axis": axis}
    if opset < 11 and axis == -1:
        attributes = {"axis": 2}
    single([make("Softmax", ["x"], ["y"], **attributes)], (2, 3, 4), opset=opset)


def test_softmax_over_channels_of_a_1x1_map_needs_no_reshape():
    model = single([make("Softmax", ["x"], ["y"])], ("N", 5, 1, 1), opset=9)
    assert ops(model) == ["Softmax"] and get_int(node_of(model, "Softmax"), "axis", -9) == 1


def test_softmax_before_13_with_a_symbolic_batch():
    model = single([make("Softmax", ["x"], ["y"], axis=1)], ("N", 5, 3), opset=11)
    assert ops(model) == ["Flatten", "Softmax", "Reshape"]


def test_clip_attributes_and_inputs():
    old = single([make("Clip", ["x"], ["y"], min=-0.5, max=0.5)], (2, 3), opset=7)
    bounds = {"low": np.float32(-0.5), "high": np.float32(0.5)}
    new = single([make("Clip", ["x", "low", "high"], ["y"])], (2, 3), bounds, opset=11)
    upper = single([make("Clip", ["x", "", "high"], ["y"])], (2, 3), bounds, opset=17)
    for model, low in ((old, -0.5), (new, -0.5), (upper, -np.inf)):
        clip = node_of(model, "Clip")
        assert len(clip.inputs) == 1
        assert (get_float(clip, "min", 9.0), get_float(clip, "max", 9.0)) == (low, 0.5)


def same_padding(x, y, prefix):
    """A convolution of stride 2 whose pads are computed from the shape, in floats, clipped at 0."""
    names = {
        name: f"{prefix}{name}"
        for name in ("s", "h", "f", "d", "c", "l", "m", "k", "n", "p", "i", "u", "a", "q")
    }
    v = names.get
    return [
        make("Shape", [x], [v("s")]),
        make("Gather", [v("s"), "two_i"], [v("h")], axis=0),
        make("Cast", [v("h")], [v("f")], to=TensorProto.FLOAT),
        make("Div", [v("f"), "two"], [v("d")]),
        make("Ceil", [v("d")], [v("c")]),
        make("Sub", [v("c"), "one"], [v("l")]),
        make("Mul", [v("l"), "two"], [v("m")]),
        make("Add", [v("m"), "three"], [v("k")]),
        make("Sub", [v("k"), v("f")], [v("n")]),
        make("Clip", [v("n"), "zero", ""], [v("p")]),
        make("Cast", [v("p")], [v("i")], to=TensorProto.INT64),
        make("Unsqueeze", [v("i"), "axis"], [v("u")]),
        make("Concat", ["before", v("u"), v("u")], [v("a")], axis=0),
        make("Pad", [x, v("a")], [v("q")]),
        make("Conv", [v("q"), "w"], [y], kernel_shape=[3, 3], strides=[2, 2]),
    ]


def test_pads_computed_in_floats_layer_after_layer():
    scalars = {name: np.float32(i) for i, name in enumerate(("zero", "one", "two", "three"))}
    constants = {
        **scalars,
        "two_i": np.int64(2),
        "axis": i64(0),
        "before": i64(0, 0, 0, 0, 0, 0),
        "w": normal(3, 3, 3, 3),
    }
    nodes = [*same_padding("x", "t", "a_"), make("Relu", ["t"], ["r"]), *same_padding("r", "y", "b_")]
    assert ops(single(nodes, (1, 3, 10, 10), constants)) == ["Conv", "Relu", "Conv"]


def test_canonical_clips_of_constants_fold():
    """Also of whole numbers, where infinite bounds are those of the type."""
    for array in (np.float32([-1, 2, np.nan]), np.int64([2**63 - 1, 5, -7, 2**53 + 1])):
        proto = model_of([make("Relu", ["x"], ["y"])], {"x": (2, 3)}, ["y"])
        model = load(proto)
        value = add_initializer(model, "c", array)
        clip = insert_before(node_of(model, "Relu"), "Clip", [value], {"min": 0.0})
        (folded,) = _evaluate(clip, 17)
        assert folded.dtype == array.dtype
        np.testing.assert_array_equal(folded, np.maximum(array, 0))


@pytest.mark.parametrize("op", ["Min", "Max"])
def test_min_and_max_with_a_scalar_are_clip(op):
    assert ops(single([make(op, ["s", "x"], ["y"])], (2, 3), {"s": np.float32([0.25])})) == ["Clip"]


def test_squeeze_and_unsqueeze_axes():
    for opset, axes in ((11, {"axes": [-1, 0]}), (13, {})):
        inputs = ["a"] if opset >= 13 else []
        nodes = [
            make("Unsqueeze", ["x", *inputs], ["u"], **axes),
            make("Relu", ["u"], ["r"]),
            make("Squeeze", ["r", *inputs], ["y"], **axes),
        ]
        model = single(nodes, ("N", 3), {"a": i64(-1, 0)} if inputs else {}, opset=opset)
        assert get_ints(node_of(model, "Unsqueeze"), "axes") == [0, 3]
        assert get_ints(node_of(model, "Squeeze"), "axes") == [0, 3]


def test_squeeze_without_axes_and_reduce_mean():
    model = single([make("Squeeze", ["x"], ["y"])], ("N", 3, 1, 1), opset=13)
    assert get_ints(node_of(model, "Squeeze"), "axes") == [2, 3]
    old = single([make("ReduceMean", ["x"], ["y"], axes=[-1], keepdims=0)], (2, 3, 4), opset=11)
    new = single([make("ReduceMean", ["x", "a"], ["y"], keepdims=0)], (2, 3, 4), {"a": i64(-1)}, opset=18)
    assert get_ints(node_of(old, "ReduceMean"), "axes") == get_ints(node_of(new, "ReduceMean"), "axes") == [2]
    pooled = single([make("ReduceMean", ["x"], ["y"], axes=[-2, -1])], (2, 3, 4, 5), opset=13)
    assert ops(pooled) == ["GlobalAveragePool"]
    assert get_ints(node_of(single([make("ReduceMean", ["x"], ["y"])], (2, 3)), "ReduceMean"), "axes") == [
        0,
        1,
    ]


def test_slice_forms():
    old = single([make("Slice", ["x"], ["y"], starts=[1], ends=[2**31], axes=[2])], (1, 2, 6), opset=9)
    bounds = {"s": i64(1), "e": i64(2**63 - 1), "a": i64(-1), "t": i64(2)}
    new = single([make("Slice", ["x", "s", "e", "a", "t"], ["y"])], (1, 2, 6), bounds, opset=13)
    assert get_ints(node_of(old, "Slice"), "steps") == [1]
    assert get_ints(node_of(new, "Slice"), "axes") == get_ints(node_of(old, "Slice"), "axes") == [2]
    backwards = {"s": i64(-1), "e": i64(-(2**63)), "a": i64(2), "t": i64(-1)}
    single([make("Slice", ["x", "s", "e", "a", "t"], ["y"])], (1, 2, 6), backwards, opset=13)


def test_split_forms():
    nodes = [make("Split", ["x"], ["a", "b"], axis=1), make("Sub", ["a", "b"], ["y"])]
    for opset in (7, 13):
        assert get_ints(node_of(single(nodes, (2, 6), opset=opset), "Split"), "split") == [3, 3]
    parts = [make("Split", ["x", "p"], ["a", "b"], axis=-1), make("Concat", ["b", "a"], ["y"], axis=-1)]
    model = single(parts, (2, 6), {"p": i64(2, 4)}, opset=13)
    assert get_ints(node_of(model, "Split"), "split") == [2, 4]
    uneven = [
        make("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
        make("Concat", ["b", "a"], ["y"], axis=1),
    ]
    assert get_ints(node_of(single(uneven, (2, 5), opset=18), "Split"), "split") == [3, 2]


def test_pad_forms():
    old = single([make("Pad", ["x"], ["y"], pads=[0, 0, 1, 2, 0, 0, 3, 0], value=1.5)], (1, 1, 3, 3), opset=7)
    constants = {"p": i64(1, 2, 3, 0), "v": np.float32(1.5), "a": i64(-2, 3)}
    new = single([make("Pad", ["x", "p", "v", "a"], ["y"])], (1, 1, 3, 3), constants, opset=18)
    for model in (old, new):
        pad = node_of(model, "Pad")
        assert get_ints(pad, "pads") == [0, 0, 1, 2, 0, 0, 3, 0] and get_float(pad, "value", 0.0) == 1.5


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_and_upsample_versions(mode):
    scales = {"s": np.float32([1, 1, 2, 3])}
    x = (1, 2, 4, 5)
    upsamples = [
        single([make("Upsample", ["x"], ["y"], mode=mode, scales=[1.0, 1.0, 2.0, 3.0])], x, opset=7),
        single([make("Upsample", ["x", "s"], ["y"], mode=mode)], x, scales, opset=9),
        single([make("Resize", ["x", "s"], ["y"], mode=mode)], x, scales, opset=10),
    ]
    for model in upsamples:
        node = node_of(model, "Resize")
        assert node.attributes["coordinate_transformation_mode"].as_string() == "asymmetric"
        assert node.attributes["scales"].as_floats() == (1.0, 1.0, 2.0, 3.0)
    with_roi = {**scales, "roi": np.zeros(0, np.float32)}
    for version, roi in ((11, "roi"), (13, ""), (19, "")):
        single([make("Resize", ["x", roi, "s"], ["y"], mode=mode)], x, with_roi, opset=version)
    sizes = {"z": i64(1, 2, 7, 9)}
    model = single([make("Resize", ["x", "", "", "z"], ["y"], mode=mode)], x, sizes, opset=13)
    assert get_ints(node_of(model, "Resize"), "sizes") == [1, 2, 7, 9]


def test_flatten_spelled_with_shape_gather_concat():
    nodes = [
        make("Shape", ["x"], ["s"]),
        make("Gather", ["s", "zero"], ["b"], axis=0),
        make("Unsqueeze", ["b"], ["b1"], axes=[0]),
        make("Concat", ["b1", "minus"], ["t"], axis=0),
        make("Reshape", ["x", "t"], ["r"]),
        make("Gemm", ["r", "w"], ["y"], transB=1),
    ]
    constants = {"zero": np.array(0, np.int64), "minus": i64(-1), "w": normal(5, 12)}
    model = single(nodes, ("N", 3, 2, 2), constants, opset=11)
    assert ops(model) == ["Reshape", "Gemm"]
    assert get_ints(node_of(model, "Reshape"), "shape") == [0, -1]
    assert dims(model.graph.outputs[0]) == ["N", 5]


def test_channel_shuffle_with_computed_shapes():
    """x.view(b, 2, c // 2, h, w).transpose(1, 2).view(b, c, h, w), all sizes taken from Shape."""
    nodes = [make("Shape", ["x"], ["s"])]
    for index, name in enumerate("bchw"):
        nodes.append(make("Gather", ["s", f"i{index}"], [name], axis=0))
    nodes += [
        make("Div", ["c", "two"], ["half"]),
        *(make("Unsqueeze", [name, "axis"], [name + "1"]) for name in ["b", "c", "h", "w", "half"]),
        make("Concat", ["b1", "two1", "half1", "h1", "w1"], ["t1"], axis=0),
        make("Concat", ["b1", "c1", "h1", "w1"], ["t2"], axis=0),
        make("Reshape", ["x", "t1"], ["r1"]),
        make("Transpose", ["r1"], ["r2"], perm=[0, 2, 1, 3, 4]),
        make("Reshape", ["r2", "t2"], ["y"]),
    ]
    constants = {f"i{index}": np.array(index, np.int64) for index in range(4)}
    constants |= {"two": np.array(2, np.int64), "two1": i64(2), "axis": i64(0)}
    model = single(nodes, ("N", 4, 3, 3), constants, opset=13)
    assert ops(model) == ["Reshape", "Transpose", "Reshape"]
    assert dims(model.graph.outputs[0]) == ["N", 4, 3, 3]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad(auto_pad, stride):
    attributes = {"auto_pad": auto_pad, "strides": [stride, stride]}
    nodes = [
        make("Conv", ["x", "w"], ["c"], **attributes, dilations=[1, 1]),
        make("AveragePool", ["c"], ["a"], kernel_shape=[2, 3], **attributes),
        make("MaxPool", ["a"], ["y"], kernel_shape=[2, 2], **attributes),
    ]
    model = single(nodes, (1, 2, 33, 40), {"w": normal(3, 2, 4, 3)})
    for node in model.graph:
        assert "auto_pad" not in node.attributes
        for name in ("kernel_shape", "strides", "pads", "dilations"):
            assert name in node.attributes


def test_auto_pad_needs_the_size_only_if_strided():
    weight = {"w": normal(3, 2, 3, 3)}
    same = model_of(
        [make("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")], {"x": (1, 2, "H", "W")}, ["y"], weight
    )
    assert get_ints(node_of(load(same), "Conv"), "pads") == [1, 1, 1, 1]
    strided = make("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2], name="c1")
    with pytest.raises(ModelError, match=r"c1.*fixed height and width"):
        load(model_of([strided], {"x": (1, 2, "H", "W")}, ["y"], weight))


CONVOLUTIONS = {
    "groups 2 of 8": ((1, 8, 6, 6), (4, 4, 3, 3), {"group": 2}),
    "depthwise, multiplier 2": ((1, 4, 6, 6), (8, 1, 3, 3), {"group": 4}),
    "one output channel": ((1, 4, 6, 6), (1, 4, 3, 3), {}),
    "dilation 2, groups 64": ((1, 64, 9, 9), (64, 1, 3, 3), {"group": 64, "dilations": [2, 2]}),
    "1-D": ((1, 4, 9), (6, 2, 3), {"group": 2, "strides": [2]}),
    "asymmetric pads": ((1, 2, 5, 6), (3, 2, 2, 3), {"pads": [0, 1, 2, 3], "strides": [2, 1]}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case):
    shape, weight, attributes = CONVOLUTIONS[case]
    model = single([make("Conv", ["x", "w"], ["y"], **attributes)], shape, {"w": normal(*weight)})
    assert get_int(node_of(model, "Conv"), "group", 0) == attributes.get("group", 1)


def test_zero_pad_merges_into_conv_and_average_pool():
    pad = make("Pad", ["x", "p"], ["q"])
    pads = {"p": i64(0, 0, 1, 2, 0, 0, 1, 2), "w": normal(3, 2, 5, 5)}
    model = single([pad, make("Conv", ["q", "w"], ["y"], strides=[2, 2])], (1, 2, 9, 9), pads)
    assert ops(model) == ["Conv"] and get_ints(node_of(model, "Conv"), "pads") == [1, 2, 1, 2]
    model = single([pad, make("AveragePool", ["q"], ["y"], kernel_shape=[3, 3])], (1, 2, 9, 9), pads)
    assert ops(model) == ["AveragePool"]
    model = single([pad, make("MaxPool", ["q"], ["y"], kernel_shape=[3, 3])], (1, 2, 9, 9), pads)
    assert ops(model) == ["Pad", "MaxPool"]
    twice = [pad, make("Conv", ["q", "w"], ["c"]), make("MaxPool", ["q"], ["m"], kernel_shape=[5, 5])]
    model = single([*twice, make("Concat", ["c", "m"], ["y"], axis=1)], (1, 2, 9, 9), pads)
    assert ops(model).count("Pad") == 1
    ones = {**pads, "one": np.float32(1)}
    model = single(
        [make("Pad", ["x", "p", "one"], ["q"]), make("Conv", ["q", "w"], ["y"])], (1, 2, 9, 9), ones
    )
    assert ops(model) == ["Pad", "Conv"]


@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling_shapes(op, ceil_mode):
    for size in (7, 8, 9):
        for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1]):
            attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads, "ceil_mode": ceil_mode}
            model = single([make(op, ["x"], ["y"], **attributes)], (1, 2, size, size))
            assert dims(model.graph.outputs[0]) is not None


def test_pool_over_the_whole_plane_is_global():
    for op in ("AveragePool", "MaxPool"):
        assert ops(single([make(op, ["x"], ["y"], kernel_shape=[4, 5])], ("N", 3, 4, 5))) == [f"Global{op}"]


GEMMS = {
    "plain": ({"transB": 1}, (4, 6), (4,)),
    "not transposed": ({}, (6, 4), (4,)),
    "alpha and beta": ({"alpha": 0.5, "beta": 2.0}, (6, 4), (4,)),
    "bias [1, out]": ({"transB": 1}, (4, 6), (1, 4)),
    "bias [1]": ({"transB": 1}, (4, 6), (1,)),
    "bias scalar": ({"transB": 1}, (4, 6), ()),
    "bias per row": ({"transB": 1, "beta": 0.5}, (4, 6), (3, 1)),
    "no bias": ({"transB": 1}, (4, 6), None),
}


@pytest.mark.parametrize("case", GEMMS)
def test_gemm_forms(case):
    attributes, weight, bias = GEMMS[case]
    constants = {"w": normal(*weight)} | ({} if bias is None else {"b": normal(*bias, seed=1)})
    model = single([make("Gemm", ["x", *constants], ["y"], **attributes)], (3, 6), constants)
    gemm = node_of(model, "Gemm")
    assert constant(gemm.inputs[1]).shape == (4, 6) and constant(gemm.inputs[2]).shape == (4,)
    assert ops(model) == (["Gemm", "Add"] if case == "bias per row" else ["Gemm"])


def test_gemm_with_transposed_or_dynamic_inputs():
    model = single([make("Gemm", ["x", "w"], ["y"], transA=1)], (6, 3), {"w": normal(6, 4)})
    assert ops(model) == ["Transpose", "Gemm"]
    nodes = [make("Relu", ["x"], ["r"]), make("Gemm", ["x", "r", "b"], ["y"], transB=1, alpha=2.0, beta=3.0)]
    model = single(nodes, (3, 6), {"b": normal(3)})
    assert "Gemm" not in ops(model) and "MatMul" in ops(model)


@pytest.mark.parametrize("bias", [(4,), (1, 4), (1,), None, (3, 1)])
def test_matmul_by_a_constant_matrix_is_a_dense_layer(bias):
    constants = {"w": normal(6, 4)} | ({} if bias is None else {"b": normal(*bias, seed=1)})
    nodes = [make("MatMul", ["x", "w"], ["y" if bias is None else "m"])]
    nodes += [] if bias is None else [make("Add", ["b", "m"], ["y"])]
    model = single(nodes, (3, 6), constants)
    assert ops(model) == (["Gemm", "Add"] if bias == (3, 1) else ["Gemm"])


def test_matmul_of_higher_rank_is_a_gemm():
    nodes = [make("MatMul", ["x", "w"], ["m"]), make("Add", ["m", "b"], ["y"])]
    assert ops(single(nodes, (2, 3, 6), {"w": normal(6, 4), "b": normal(4)})) == ["Gemm"]


def test_scale_and_shift_fold_into_the_layer_before():
    nodes = [
        make("Conv", ["x", "w"], ["c"]),
        make("Mul", ["c", "m"], ["c1"]),
        make("Sub", ["c1", "s"], ["c2"]),
        make("Div", ["c2", "d"], ["y"]),
    ]
    constants = {"w": normal(4, 3, 1, 1), "m": normal(1, 4, 1, 1), "s": normal(4, 1, 1), "d": np.float32(2)}
    assert ops(single(nodes, (1, 3, 4, 4), constants)) == ["Conv"]
    per_pixel = {"w": normal(4, 3, 1, 1), "m": normal(1, 4, 4, 4)}
    assert ops(single([nodes[0], make("Mul", ["c", "m"], ["y"])], (1, 3, 4, 4), per_pixel)) == ["Conv", "Mul"]


def test_no_op_nodes_vanish_and_interface_names_stay():
    nodes = [
        make("Identity", ["x"], ["a"]),
        make("Dropout", ["a"], ["b"], ratio=0.5),
        make("Relu", ["b"], ["c"]),
        make("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
        make("Identity", ["d"], ["y"]),
    ]
    model = single(nodes, (2, 3), opset=11)
    assert ops(model) == ["Relu"]
    assert [value.name for value in [*model.graph.inputs, *model.graph.outputs]] == ["x", "y"]


def test_outputs_that_are_the_same_value_keep_both_names():
    nodes = [make("Relu", ["x"], ["a"]), make("Identity", ["a"], ["y"]), make("Identity", ["x"], ["z"])]
    proto = model_of(nodes, {"x": (2, 3)}, ["a", "y", "z"])
    model = assert_same(proto, {"x": normal(2, 3)})
    assert [value.name for value in model.graph.outputs] == ["a", "y", "z"]


def test_half_precision_becomes_float32():
    nodes = [
        make("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        make("Conv", ["h", "w"], ["c"]),
        make("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    proto = model_of(nodes, {"x": (1, 3, 4, 4)}, ["y"], {"w": normal(4, 3, 1, 1).astype(np.float16)})
    model = assert_same(proto, {"x": normal(1, 3, 4, 4)}, rtol=0.01, atol=0.01)
    assert ops(model) == ["Conv"]


def test_gather_and_space_to_depth_become_movement():
    model = single([make("Gather", ["x", "i"], ["y"], axis=1)], (1, 6, 2), {"i": i64(4, 5, 0, -3)})
    assert ops(model) == ["Slice", "Slice", "Slice", "Concat"]
    model = single([make("Gather", ["x", "i"], ["y"], axis=1)], ("N", 6, 2), {"i": np.array(2, np.int64)})
    assert ops(model) == ["Slice", "Squeeze"]
    for op, attributes in (("SpaceToDepth", {}), ("DepthToSpace", {}), ("DepthToSpace", {"mode": "CRD"})):
        nodes = [make(op, ["x"], ["y"], blocksize=2, **attributes)]
        assert ops(single(nodes, ("N", 8, 4, 6), opset=13)) == ["Reshape", "Transpose", "Reshape"]


def test_sum_neg_pow_reciprocal():
    nodes = [
        make("Sum", ["x", "x", "x"], ["a"]),
        make("Pow", ["a", "two"], ["b"]),
        make("Neg", ["b"], ["c"]),
        make("Sub", ["c", "two"], ["d"]),
        make("Reciprocal", ["d"], ["y"]),
    ]
    model = single(nodes, (2, 3), {"two": np.float32(2)})
    assert set(ops(model)) == {"Add", "Mul", "Sub", "Div"}


def test_axes_in_a_constant_node_are_not_taken_for_absent():
    axes = helper.make_tensor("a", TensorProto.INT64, [1], [-1])
    nodes = [
        make("Constant", [], ["a"], value=axes),
        make("ReduceMean", ["x", "a"], ["m"], keepdims=0),
        make("Gemm", ["m", "w"], ["y"], transB=1),
    ]
    assert ops(single(nodes, ("N", 5, 3), {"w": normal(4, 5)}, opset=20)) == ["ReduceMean", "Gemm"]


def test_model_local_functions_are_inlined():
    body = [make("Sigmoid", ["v"], ["s"]), make("Mul", ["v", "s"], ["r"])]
    function = helper.make_function("own", "swish", ["v"], ["r"], body, [helper.make_opsetid("", 17)])
    nodes = [make("swish", ["x"], ["h"], domain="own"), make("swish", ["h"], ["y"], domain="own")]
    proto = model_of(nodes, {"x": (2, 3)}, ["y"], domains={"own": 1})
    proto.functions.append(function)
    assert ops(assert_same(proto, {"x": normal(2, 3)})) == ["Silu", "Silu"]


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Clip", "HardSigmoid"])
def test_fused_conv_of_onnx_runtime(activation):
    parameters = {"Relu": [], "LeakyRelu": [0.2], "Clip": [-0.5, 0.5], "HardSigmoid": [0.3, 0.4]}[activation]
    fused = make("FusedConv", ["x", "w", "b", "z"], ["y"], domain="com.microsoft", activation=activation)
    if parameters:
        fused.attribute.append(helper.make_attribute("activation_params", parameters))
    constants = {"w": normal(4, 3, 1, 1), "b": normal(4), "z": normal(1, 4, 4, 4)}
    proto = model_of([fused], {"x": (1, 3, 4, 4)}, ["y"], constants, domains={"com.microsoft": 1})
    assert ops(assert_same(proto, {"x": normal(1, 3, 4, 4)})) == ["Conv", "Add", activation]


def test_fused_gemm_and_gelus_of_onnx_runtime():
    domain = {"domain": "com.microsoft"}
    fused = make("FusedGemm", ["x", "w", "b"], ["h"], activation="LeakyRelu", activation_alpha=0.3, **domain)
    nodes = [fused, make("BiasGelu", ["h", "b"], ["g"], **domain), make("FastGelu", ["g"], ["y"], **domain)]
    constants = {"w": normal(6, 4), "b": normal(4)}
    proto = model_of(nodes, {"x": (3, 6)}, ["y"], constants, domains={"com.microsoft": 1})
    assert ops(assert_same(proto, {"x": normal(3, 6)})) == ["Gemm", "LeakyRelu", "Add", "Gelu", "Gelu"]


@pytest.mark.parametrize("pairs", [False, True])
def test_sparse_initializer_becomes_a_dense_weight(pairs):
    weight = np.zeros((4, 6), np.float32)
    weight[[0, 2, 3], [5, 0, 1]] = [1.5, -2, 3]
    indices = np.argwhere(weight) if pairs else np.flatnonzero(weight)
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [3], weight[weight != 0]),
        helper.make_tensor("i", TensorProto.INT64, indices.shape, indices.reshape(-1)),
        [4, 6],
    )
    proto = model_of([make("Gemm", ["x", "w"], ["y"], transB=1)], {"x": (3, 6)}, ["y"])
    proto.graph.sparse_initializer.append(sparse)
    x = normal(3, 6)
    model = assert_same(proto, {"x": x}, expected=[x @ weight.T])
    np.testing.assert_array_equal(constant(node_of(model, "Gemm").inputs[1]), weight)


def test_operators_on_integers_are_unsupported_unless_they_move_data():
    nodes = [make("Abs", ["x"], ["a"], name="abs"), make("Flatten", ["a"], ["y"])]
    proto = model_of(nodes, {"x": (2, 3)}, ["y"], input_type=TensorProto.INT32, output_type=TensorProto.INT32)
    with pytest.raises(ModelError, match=r"Abs \(abs\): of type INT32;"):
        load(proto)


def test_dynamically_quantized_models_are_sent_back():
    nodes = [
        make("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quant"),
        make("MatMulInteger", ["q", "w", "z"], ["i"], name="product"),
        make("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        make("Mul", ["f", "s"], ["y"]),
    ]
    proto = model_of(nodes, {"x": (2, 3)}, ["y"], {"w": np.ones((3, 4), np.int8)})
    with pytest.raises(
        ModelError, match=r"MatMulInteger \(product\): .*give the float model it was made from"
    ):
        load(proto)


def test_unsupported_nodes_are_all_listed():
    nodes = [
        make("LRN", ["x"], ["a"], size=3, name="norm"),
        make("MaxPool", ["a"], ["b", "i"], kernel_shape=[2, 2], name="pool"),
        make("Thing", ["b"], ["y"], domain="acme", name="own"),
        make("Cast", ["i"], ["z"], to=TensorProto.INT32, name="indices"),
    ]
    proto = model_of(nodes, {"x": (1, 3, 4, 4)}, ["y", "z"], domains={"acme": 1})
    with pytest.raises(ModelError) as error:
        load(proto)
    message = str(error.value)
    for part in (
        "LRN (norm)",
        "MaxPool (pool): its second output",
        "acme.Thing (own)",
        "Cast (indices): to INT32",
    ):
        assert part in message
    assert "\n" not in message
    assert len(ops(load(proto, check=False))) == 4
