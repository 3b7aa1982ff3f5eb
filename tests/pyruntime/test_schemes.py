"""Every scheme of `--quantize` end to end: what a layer becomes, what the file holds, what really runs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from toolmodels import build, he, make_run, residual_net, shared_net, sqnr_db

from pyruntime import InferenceSession, compress, compression
from pyruntime.errors import OptionError
from pyruntime.export_onnx import export_file
from pyruntime.inspect_model import inspect_file
from pyruntime.reference import run

MODELS = Path(__file__).parents[2] / "bench" / "models"
INTEGER = {
    "int2": 3,
    "int4": 16,
    "int5,per=tensor": 18,
    "int7": 28,
    "int3,symmetric=no": 8,
    "int4,group=8": 16,
    "pow2": 25,
    "codebook=16": 16,
    "hashed=0.9": 9,
}
FLOAT = {"fp16": 60, "bf16": 40, "fp8_e4m3": 24, "fp8_e5m2": 18, "fp:3.2": 18, "int4,activations=float": 16}


@pytest.fixture(scope="module")
def model():
    return residual_net(np.random.default_rng(0), channels=32)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(1).normal(size=(48, 3, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("text", [*INTEGER, *FLOAT])
def test_a_network_in_each_scheme(model, x, text, tmp_path):
    compressed = compress(model, {"quantize": text}, {"x": x})
    compressed.save(tmp_path / "model.pyrt")
    (found,) = InferenceSession(tmp_path / "model.pyrt").run(None, {"x": x})
    quality = sqnr_db(make_run(model)({"x": x})["y"], found)
    assert quality > {**INTEGER, **FLOAT}[text]
    np.testing.assert_allclose(run(compressed.program, {"x": x})["y"], found, rtol=1e-4, atol=1e-4)
    report = inspect_file(tmp_path / "model.pyrt")
    (body,) = (layer for layer in report["layers"] if layer["name"] == "body")
    name = text.split(",")[0]
    assert body["scheme"].startswith(name)
    assert body["precision"].startswith("float32" if text in FLOAT else "int8"), body["precision"]
    assert bool(report["float_layers"]) == (text in FLOAT)
    compressed.to_onnx(tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    # Its integer kernels saturate on CPUs without VNNI.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    (theirs,) = session.run(None, {"x": x})
    assert np.square(theirs - found).sum() < 1e-4 * np.square(found).sum()


@pytest.mark.parametrize(
    ("text", "bits"),
    [("int4", 4), ("int2", 1.6), ("codebook=16", 4), ("fp8_e4m3", 8), ("int4,activations=float", 4)],
)
def test_the_file_holds_the_codes_alone(text, bits, tmp_path):
    rng = np.random.default_rng(2)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="wide", transB=1)
    model = build([node], {"w": he(rng, 128, 256)}, {"x": ["N", 256]}, {"y": ["N", 128]})
    x = rng.normal(size=(64, 256)).astype(np.float32)
    words = text if bits == 8 else f"{text},ends=same"
    compress(model, {"quantize": words, "recover": []}, {"x": x}).save(tmp_path / "model.pyrt")
    (layer,) = (row for row in inspect_file(tmp_path / "model.pyrt")["layers"] if row["weight_shape"])
    assert layer["bits"] == (2 if bits == 1.6 else bits)
    weights = 128 * 256 * bits / 8
    assert layer["bytes"] < 1.02 * weights + 8 * 128 + 64


def test_weights_alone_need_no_data(model, x):
    compressed = compress(model, {"quantize": "fp8_e4m3"})
    (found,) = InferenceSession(compressed).run(None, {"x": x})
    assert sqnr_db(make_run(model)({"x": x})["y"], found) > 22
    assert "decoded when loading, run in float32: stem, body, depthwise, head_1" in compressed.summary()
    with pytest.raises(OptionError, match="write activations=float"):
        compress(model, {"quantize": "fp16,activations=u8"}, {"x": x})


def test_first_and_last_layer_keep_eight_bits(model, x):
    schemes = {
        row.node: row.scheme for row in compress(model, {"quantize": "int4"}, {"x": x}).report.quantize.layers
    }
    assert schemes["stem"] == schemes["head_1"] == "int8 per_channel"
    assert schemes["body"] == schemes["depthwise"] == "int4 per_channel"


def test_layers_of_their_own(model, x):
    """Float, small float and integer layers side by side; the last rule that matches counts."""
    rules = {"*": "int4", "body": "none", "depth*": "fp8_e4m3", "head_1": "int3,group=4"}
    compressed = compress(model, {"quantize": "int8", "layers": rules}, {"x": x})
    schemes = {row.node: (row.scheme, row.integer) for row in compressed.report.quantize.layers}
    assert schemes == {
        "stem": ("int4 per_channel", True),
        "depthwise": ("fp8_e4m3 per_channel", False),
        "head_1": ("int3 group=4", True),
    }
    (found,) = InferenceSession(compressed).run(None, {"x": x})
    assert sqnr_db(make_run(model)({"x": x})["y"], found) > 10
    np.testing.assert_allclose(run(compressed.program, {"x": x})["y"], found, rtol=1e-4, atol=1e-4)


def test_pow2_requantizes_by_shifts(model, x):
    program = compress(model, {"quantize": "pow2"}, {"x": x}).program
    scales = [value.scale for value in program.values.values() if value.scale is not None]
    multipliers = [
        program.constants[node.inputs[2]].array
        for node in program.nodes
        if node.op in ("conv", "dense") and program.values[node.outputs[0]].dtype == "u8"
    ]
    assert multipliers
    for numbers in (np.array(scales), *multipliers):
        assert (np.frexp(numbers)[0] == 0.5).all()


def test_zeros_stay_zero_in_every_scheme(model, x):
    for text in ("int2", "int3,symmetric=no", "codebook=4", "fp8_e4m3", "hashed=0.5"):
        recipe = {"prune": ["weight=0.6"], "quantize": text, "recover": ["obs", "bias"]}
        compressed = compress(model, recipe, {"x": x})
        (body,) = (node for node in compressed.program.nodes if node.name == "body")
        weight = compressed.program.constants[body.inputs[1]].array
        plain = compress(model, {**recipe, "quantize": "none", "recover": ["obs"]}, {"x": x})
        (other,) = (node for node in plain.program.nodes if node.name == "body")
        pruned = plain.program.constants[other.inputs[1]].array
        assert (weight[pruned == 0] == 0).all()
        assert (pruned == 0).mean() > 0.3


def test_two_runs_give_the_same_bytes(model, x, tmp_path):
    files = []
    for name in ("a.pyrt", "b.pyrt"):
        compress(model, {"quantize": "int3,group=8"}, {"x": x}).save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_rounding_on_data_beats_rounding_to_nearest(model, x):
    smooth = np.repeat(np.repeat(x[:, :, :4, :4], 4, axis=2), 4, axis=3) + 0.2 * x
    expected = make_run(model)({"x": smooth})["y"]
    for text, gain in (("int3", 6), ("codebook=8", 2), ("fp:2.1", 2)):
        quality = [
            sqnr_db(
                expected, InferenceSession(compress(model, recipe, {"x": smooth})).run(None, {"x": smooth})[0]
            )
            for recipe in ({"quantize": text, "recover": []}, {"quantize": text})
        ]
        assert quality[1] > quality[0] + gain, text


def test_layers_that_share_a_weight_share_its_scheme():
    x = np.random.default_rng(0).normal(size=(8, 4, 8, 8)).astype(np.float32)
    recipe = {"quantize": "int8", "layers": {"second": "int4"}}
    with pytest.raises(OptionError, match="'second' and 'first' share weight 'w'"):
        compress(shared_net(np.random.default_rng(0)), recipe, {"x": x})


@pytest.mark.parametrize(("text", "careful"), [("int8", False), ("int7", True)])
def test_fewer_bits_are_rounded_on_the_rounded_prefix(model, x, text, careful, monkeypatch):
    seen = []
    monkeypatch.setattr(compression, "round_weights", lambda *_, **words: seen.append(words))
    compress(model, {"quantize": text}, {"x": x})
    assert [(words["sequential"], words["sweeps"] > 0) for words in seen] == [(careful, careful)]


@pytest.mark.parametrize("kind", ["convolutions", "attention"])
def test_signed_activations_are_the_same_levels(kind, model, x, tmp_path):
    """`activations=s8`: int8 tensors in ONNX, the same answers in our runtime and in another one."""
    name = "x"
    if kind == "attention":
        model, name = MODELS / "fashion_transformer.onnx", "input"
        x = np.random.default_rng(1).normal(size=(16, 1, 28, 28)).astype(np.float32)
    found, theirs, types = {}, {}, {}
    for form in ("u8", "s8"):
        compressed = compress(model, {"quantize": f"int8,activations={form}"}, {name: x})
        (found[form],) = InferenceSession(compressed.program).run(None, {name: x})
        compressed.save(tmp_path / f"{form}.pyrt")
        compressed.to_onnx(tmp_path / f"{form}.onnx")
        export_file(tmp_path / "u8.pyrt", tmp_path / f"{form}_exported.onnx", signed=form == "s8")
        for file in (f"{form}.onnx", f"{form}_exported.onnx"):
            types[file] = activation_types(onnx.load(tmp_path / file))
            theirs[file] = letter_by_letter(tmp_path / file, {name: x})
    np.testing.assert_array_equal(found["u8"], found["s8"])
    for file, kinds in types.items():
        assert kinds == {np.dtype(np.int8 if file.startswith("s8") else np.uint8)}, file
    for end in (".onnx", "_exported.onnx"):
        np.testing.assert_allclose(theirs[f"s8{end}"], theirs[f"u8{end}"], rtol=1e-5, atol=1e-5)


def activation_types(model):
    """Dtypes that QuantizeLinear makes."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {arrays[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"}


def letter_by_letter(path, feed):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


def test_signed_activations_belong_to_the_whole_network(model, x):
    with pytest.raises(OptionError, match="activations=s8 is for the whole network"):
        compress(model, {"quantize": "int8", "layers": {"body": "int4,activations=s8"}}, {"x": x})
