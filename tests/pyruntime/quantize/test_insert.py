import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from toolmodels import build, he, make_run, residual_net, shared_net, sqnr_db

from pyruntime import graph
from pyruntime.errors import DataError, ModelError
from pyruntime.prune import parse_spec as parse_prune
from pyruntime.prune import prune
from pyruntime.quantize import QuantizeSpec, Range, calibrate, insert_qdq, make_plan

node = helper.make_node


def quantized(model, x, calibrate_with="minmax"):
    """Copy of the model, quantized on x; and the report."""
    copy = graph.clone(model)
    spec = QuantizeSpec(calibrate=calibrate_with)
    ranges = calibrate(model, {"x": x}, spec, make_plan(model).names, make_run=make_run)
    return copy, insert_qdq(copy, ranges)


def outputs(model, x, name="y"):
    return make_run(model)({"x": x})[name]


def producers(model):
    """Name of a value -> type of the node that makes it."""
    return {output.name: entry.op_type for entry in model.graph for output in entry.outputs}


def inputs(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("calibrate_with", ["minmax", "percentile", "mse"])
def test_close_to_float(calibrate_with):
    model, x = residual_net(np.random.default_rng(0)), inputs((32, 3, 16, 16))
    copy, report = quantized(model, x, calibrate_with)
    assert sqnr_db(outputs(model, x), outputs(copy, x)) > 35
    assert report.float_nodes == []
    assert [row.weight for row in report.layers] == ["w1", "w2", "wd", "w3"]
    assert all(row.sqnr_db > 35 and not row.float_bias for row in report.layers)


def test_quantize_stands_after_the_clamp_and_before_the_sum():
    copy, _ = quantized(residual_net(np.random.default_rng(0)), inputs((4, 3, 16, 16)))
    quantizes = [entry for entry in copy.graph if entry.op_type == "QuantizeLinear"]
    made_by = sorted(entry.inputs[0].producer().op_type for entry in quantizes if entry.inputs[0].producer())
    assert made_by == ["Clip", "Concat", "Conv", "Flatten", "GlobalAveragePool", "MaxPool", "Relu", "Relu"]
    made = producers(copy)
    assert made["y"] == "Gemm"  # the last layer gives float
    (total,) = (entry for entry in copy.graph if entry.op_type == "Add")
    assert [value.producer().op_type for value in total.inputs] == ["DequantizeLinear"] * 2


def test_moved_data_keeps_its_parameters():
    copy, _ = quantized(residual_net(np.random.default_rng(0)), inputs((4, 3, 16, 16)))
    params = {}
    for entry in copy.graph:
        if entry.op_type == "QuantizeLinear":
            name = entry.outputs[0].uses()[0].node.outputs[0].name
            params[name] = tuple(float(graph.constant(value)) for value in entry.inputs[1:])
    assert params["r2"] == params["pooled"] == params["both"] == params["r3"]
    assert params["mean"] == params["features"]
    assert params["r1"] != params["r2"]


def test_onnxruntime_runs_everything_on_integers(tmp_path):
    copy, _ = quantized(residual_net(np.random.default_rng(0)), inputs((4, 3, 16, 16)))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    proto = graph.to_proto(graph.to_standard(copy)).SerializeToString()
    onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    found = {entry.op_type for entry in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "QLinearConv" in found and "QGemm" in found
    assert not found & {
        "Conv",
        "Gemm",
        "FusedConv",
        "FusedGemm",
        "Add",
        "Relu",
        "Clip",
        "Concat",
        "DequantizeLinear",
    }


def test_shared_weights_are_quantized_once():
    model, x = shared_net(np.random.default_rng(1)), inputs((8, 4, 8, 8))
    copy, report = quantized(model, x)
    integers = [
        name for name, value in copy.graph.initializers.items() if graph.constant(value).dtype == np.int8
    ]
    assert sum(name.startswith("w_quantized") for name in integers) == 1
    assert len(report.layers) == 3
    names = [value.name for entry in copy.graph for value in entry.outputs] + list(copy.graph.initializers)
    assert len(names) == len(set(names))
    assert sqnr_db(outputs(model, x), outputs(copy, x)) > 30


def test_zeros_of_pruned_weights_stay_zero():
    model, x = residual_net(np.random.default_rng(2)), inputs((8, 3, 16, 16))
    prune(model, [parse_prune("weight=0.6")])
    zeros = {name: graph.constant(model.graph.initializers[name]) == 0 for name in ("w1", "w2", "w3")}
    copy, _ = quantized(model, x)
    for name, mask in zeros.items():
        integers = graph.constant(copy.graph.initializers[f"{name}_quantized"])
        assert (integers[mask] == 0).all()
        points = graph.constant(copy.graph.initializers[f"{name}_zero_point"])
        assert (points == 0).all()


def test_outputs_that_are_read_again_keep_their_names():
    rng = np.random.default_rng(3)
    model = build(
        [
            node("Conv", ["x", "w"], ["features"]),
            node("Relu", ["features"], ["r"]),
            node("Conv", ["r", "v"], ["y"]),
        ],
        {"w": he(rng, 4, 3, 1, 1), "v": he(rng, 2, 4, 1, 1)},
        {"x": ["N", 3, 4, 4]},
        {"features": ["N", 4, 4, 4], "y": ["N", 2, 4, 4]},
    )
    x = inputs((4, 3, 4, 4))
    copy, _ = quantized(model, x)
    assert [value.name for value in copy.graph.outputs] == ["features", "y"]
    assert producers(copy)["features"] == "DequantizeLinear"
    for name in ("features", "y"):
        assert sqnr_db(outputs(model, x, name), outputs(copy, x, name)) > 30


def test_tails_and_islands_stay_float():
    rng = np.random.default_rng(4)
    model = build(
        [
            node("Conv", ["x", "w"], ["c"], name="conv"),
            node("Softmax", ["c"], ["s"], name="soft", axis=1),
            node("Mul", ["s", "c"], ["m"], name="gate"),
            node("Conv", ["m", "v"], ["d"], name="last"),
            node("Sigmoid", ["d"], ["y"], name="tail"),
        ],
        {"w": he(rng, 4, 3, 1, 1), "v": he(rng, 2, 4, 1, 1)},
        {"x": ["N", 3, 4, 4]},
        {"y": ["N", 2, 4, 4]},
    )
    x = inputs((4, 3, 4, 4))
    copy, report = quantized(model, x)
    assert report.float_nodes == ["Softmax (soft)", "Mul (gate)", "Sigmoid (tail)"]
    assert sqnr_db(outputs(model, x), outputs(copy, x)) > 30


def test_dead_channels_and_dead_activations():
    rng = np.random.default_rng(5)
    w = he(rng, 4, 3, 3, 3)
    w[1] = 0
    w[2] = 1e-42
    bias = np.array([0.1, 0.2, 0.3, -100], np.float32)
    model = build(
        [
            node("Conv", ["x", "w", "b"], ["c"]),
            node("Relu", ["c"], ["r"]),
            node("Conv", ["r", "minus"], ["n"]),
            node("Relu", ["n"], ["dead"]),
            node("Conv", ["dead", "v", "bias"], ["y"]),
        ],
        {
            "w": w,
            "b": bias,
            "minus": -np.ones((4, 4, 1, 1), np.float32),
            "v": he(rng, 2, 4, 1, 1),
            "bias": np.array([3, -4], np.float32),
        },
        {"x": ["N", 3, 6, 6]},
        {"y": ["N", 2, 4, 4]},
    )
    x = inputs((4, 3, 6, 6))
    copy, report = quantized(model, x, "mse")
    for name, value in copy.graph.initializers.items():
        array = graph.constant(value)
        if name.endswith("_scale"):
            assert np.isfinite(array).all() and (array > 0).all(), name
    integers = graph.constant(copy.graph.initializers["w_quantized"])
    assert (integers[1:3] == 0).all()
    assert not any(row.float_bias for row in report.layers)
    np.testing.assert_allclose(outputs(copy, x), outputs(model, x), atol=1e-2)


def test_a_bias_far_larger_than_the_weights():
    """As ONNX Runtime's report: weights of 1e-7 make the bias exceed int32 in accumulator steps."""
    rng = np.random.default_rng(6)
    w = (rng.uniform(-1, 1, (2, 3, 1, 1)) * 1e-7).astype(np.float32)
    model = build(
        [node("Conv", ["x", "w", "b"], ["c"]), node("Relu", ["c"], ["r"]), node("Conv", ["r", "v"], ["y"])],
        {"w": w, "b": np.array([5, -4.5], np.float32), "v": np.ones((1, 2, 1, 1), np.float32)},
        {"x": ["N", 3, 4, 4]},
        {"y": ["N", 1, 4, 4]},
    )
    x = inputs((4, 3, 4, 4)) * 60
    copy, _ = quantized(model, x)
    np.testing.assert_allclose(outputs(copy, x), outputs(model, x), atol=5 / 255)


def test_a_singleton_bias_of_a_gemm():
    rng = np.random.default_rng(7)
    model = build(
        [node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        {"w": he(rng, 5, 8) * np.float32(1e-9), "b": np.array([5], np.float32)},
        {"x": ["N", 8]},
        {"y": ["N", 5]},
    )
    x = inputs((16, 8)) * 60
    copy, _ = quantized(model, x)
    np.testing.assert_allclose(outputs(copy, x), outputs(model, x), atol=5 / 255)


def test_nan_weights_are_refused():
    model = residual_net(np.random.default_rng(0))
    graph.set_initializer(model, "w2", np.full((8, 8, 3, 3), np.inf, np.float32))
    ranges = dict.fromkeys(make_plan(model).names, Range(0, 1))
    with pytest.raises(ModelError, match="'w2' holds NaN or infinity"):
        insert_qdq(model, ranges)


def test_a_missing_range_is_an_error():
    model = residual_net(np.random.default_rng(0))
    with pytest.raises(DataError, match="'r1': has no range"):
        insert_qdq(model, {"x": Range(0, 1)})


def test_sums_with_constants():
    rng = np.random.default_rng(8)
    offset = rng.uniform(0.5, 1, size=(1, 4, 4, 4)).astype(np.float32)
    model = build(
        [
            node("Conv", ["x", "w"], ["c"]),
            node("Add", ["c", "offset"], ["a"]),
            node("Relu", ["a"], ["r"]),
            node("Conv", ["r", "v"], ["y"]),
        ],
        {"w": he(rng, 4, 3, 1, 1), "offset": offset, "v": he(rng, 2, 4, 1, 1)},
        {"x": ["N", 3, 4, 4]},
        {"y": ["N", 2, 4, 4]},
    )
    x = inputs((8, 3, 4, 4))
    copy, report = quantized(model, x)
    assert report.float_nodes == []
    assert sqnr_db(outputs(model, x), outputs(copy, x)) > 30
