"""From a float network to a file: what comes out, and one line of help for what goes in wrong."""

import re
import warnings

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from toolmodels import build, he, make_run, residual_net, sqnr_db

from pyruntime import InferenceSession, Recipe, calibration_data, compress, graph
from pyruntime.errors import DataError, FileFormatError, ModelError, OptionError
from pyruntime.reference import run


@pytest.fixture
def model():
    return residual_net(np.random.default_rng(0))


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(48, 3, 16, 16)).astype(np.float32)


def test_int8(model, x):
    compressed = compress(model, calibration={"x": x})
    expected = make_run(model)({"x": x})["y"]
    (found,) = InferenceSession(compressed).run(None, {"x": x})
    assert sqnr_db(expected, found) > 33
    np.testing.assert_allclose(run(compressed.program, {"x": x})["y"], found, rtol=1e-5, atol=1e-5)
    weights = {name: constant.array.dtype for name, constant in compressed.program.constants.items()}
    assert sum(dtype == np.int8 for dtype in weights.values()) == 4
    assert compressed.report.steps == ("obs", "bias")


def test_the_source_is_not_changed(model, x):
    before = graph.to_proto(model).SerializeToString(deterministic=True)
    compress(model, Recipe(prune=["weight=0.5"]), {"x": x})
    assert graph.to_proto(model).SerializeToString(deterministic=True) == before


def test_pruned_and_quantized(model, x):
    compressed = compress(model, Recipe(prune=["block4=0.5"]), {"x": x})
    assert compressed.report.steps == ("obs", "bn", "bias")
    (body,) = (node for node in compressed.program.nodes if node.name == "body")
    weight = compressed.program.constants[body.inputs[1]].array
    zeros = (weight.reshape(8, 2, 4, 9) == 0).all(axis=2)
    assert 0.2 < zeros.mean() < 0.9
    crude = compress(model, Recipe(prune=["block4=0.5"], recover=[]), {"x": x})
    expected = make_run(model)({"x": x})["y"]
    quality = [sqnr_db(expected, InferenceSession(m).run(None, {"x": x})[0]) for m in (compressed, crude)]
    assert quality[0] > quality[1] + 3


def test_float(model, x):
    compressed = compress(model, "float")
    expected = make_run(model)({"x": x})["y"]
    np.testing.assert_allclose(
        InferenceSession(compressed).run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-4
    )


def test_pruned_float_without_data(model, x):
    compressed = compress(model, {"prune": ["weight=0.5"], "quantize": "none"})
    assert compressed.report.steps == ()
    assert "50.0 % zero" in compressed.summary()


def test_save_and_export(model, x, tmp_path):
    compressed = compress(model, calibration={"x": x})
    report = compressed.save(tmp_path / "model.pyrt")
    assert report.bytes == (tmp_path / "model.pyrt").stat().st_size
    compressed.to_onnx(tmp_path / "model.onnx")
    (ours,) = InferenceSession(tmp_path / "model.pyrt").run(None, {"x": x})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert sqnr_db(session.run(None, {"x": x})[0], ours) > 35


def test_two_runs_give_the_same_bytes(model, x, tmp_path):
    files = []
    for name in ("a.pyrt", "b.pyrt"):
        compress(model, Recipe(prune=["block4=0.5"]), {"x": x}).save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


def test_quantized_models_pass_through(model, x, tmp_path):
    first = compress(model, calibration={"x": x})
    first.to_onnx(tmp_path / "q.onnx")
    again = compress(tmp_path / "q.onnx")
    np.testing.assert_array_equal(
        InferenceSession(first).run(None, {"x": x})[0], InferenceSession(again).run(None, {"x": x})[0]
    )
    with pytest.raises(ModelError, match="already quantized"):
        compress(tmp_path / "q.onnx", Recipe(prune=["weight=0.5"]), {"x": x})


def test_summary(model, x):
    text = compress(model, Recipe(prune=["block4=0.5"]), {"x": x}).summary()
    lines = text.splitlines()
    assert lines[0].split() == ["layer", "op", "weight", "scheme", "zeros", "codec", "bytes", "SQNR", "dB"]
    (body,) = (line for line in lines if line.startswith("body"))
    assert re.search(r"8x8x3x3 .* \d+\.\d %  .* \d+\.\d$", body)
    assert "not pruned: stem (3 input channels, fewer than 4), depthwise (depthwise)" in text
    assert "recovery on 48 samples: obs, bn, bias" in text


def test_progress(model, x):
    seen = []
    compress(model, Recipe(prune=["block4=0.5"]), {"x": x}, progress=lambda *entry: seen.append(entry))
    assert {stage for stage, _, _ in seen} == {
        "update weights",
        "match statistics",
        "calibrate",
        "round weights",
    }
    last = {stage: (done, total) for stage, done, total in seen}
    assert all(done == total for done, total in last.values())


def soft_net(rng):
    node = helper.make_node
    return build(
        [
            node("Conv", ["x", "w"], ["c"], name="conv"),
            node("Softmax", ["c"], ["s"], name="soft", axis=1),
            node("Conv", ["s", "v"], ["y"], name="last"),
        ],
        {"w": he(rng, 4, 3, 1, 1), "v": he(rng, 2, 4, 1, 1)},
        {"x": ["N", 3, 16, 16]},
        {"y": ["N", 2, 16, 16]},
    )


def test_strict_lists_what_runs_in_float(model, x):
    compress(model, calibration={"x": x}, strict=True)
    soft = soft_net(np.random.default_rng(2))
    with pytest.raises(ModelError, match=r"strict: 1 nodes would run in float: softmax \(soft\)"):
        compress(soft, calibration={"x": x}, strict=True)
    relaxed = compress(soft, calibration={"x": x})
    assert relaxed.report.quantize.float_nodes == ["Softmax (soft)"]
    assert "left in float: Softmax (soft)" in relaxed.summary()


def test_quantized_models_are_taken_as_they_are(model, x, tmp_path):
    compress(model, calibration={"x": x}).to_onnx(tmp_path / "qdq.onnx")
    again = compress(tmp_path / "qdq.onnx", calibration={"x": x})
    assert "already quantized, taken as it is: --quantize int8 is not applied" in again.summary()
    assert "run in float32" not in again.summary()
    compress(model, Recipe(quantize="int8,activations=float"), {"x": x}).to_onnx(tmp_path / "weights.onnx")
    weights = compress(tmp_path / "weights.onnx", calibration={"x": x}).summary()
    assert "weights decoded when loading, run in float32: stem" in weights


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: {"input": x}, r"no input 'input'; its inputs are: 'x' float32 \[N, 3, 16, 16\]"),
        (lambda x: {}, "input 'x' is missing"),
        (lambda x: {"x": x.astype(np.float64)}, "'x' is float64, expected float32"),
        (lambda x: {"x": x[:, :2]}, r"has shape \[48, 2, 16, 16\], expected float32 \[N, 3, 16, 16\]"),
        (lambda x: {"x": x[0]}, r"has shape \[3, 16, 16\], expected"),
        (lambda x: {"x": x[:0]}, "no samples"),
        (lambda x: {"x": x * np.nan}, "every sample of input 'x' holds NaN"),
        (lambda x: "missing.npz", "missing.npz: cannot be read"),
    ],
)
def test_wrong_calibration_data(model, x, change, says):
    with pytest.raises(DataError, match=says) as error:
        compress(model, calibration=change(x))
    assert "\n" not in str(error.value)


def test_calibration_from_a_file(model, x, tmp_path):
    np.savez(tmp_path / "data.npz", x=x, labels=np.zeros(48))
    found = compress(model, calibration=tmp_path / "data.npz")
    expected = compress(model, calibration={"x": x})
    for name, constant in expected.program.constants.items():
        np.testing.assert_array_equal(found.program.constants[name].array, constant.array)
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    np.save(tmp_path / "single.npy", x)
    for name in ("bad.npz", "single.npy"):
        with pytest.raises(DataError, match=name):
            compress(model, calibration=tmp_path / name)


def test_samples_with_nan_are_left_out_with_a_warning(model, x):
    dirty = np.concatenate([x, x[:2]])
    dirty[-1, 0, 0, 0], dirty[-2, 0, 3, 3] = np.nan, np.inf
    with pytest.warns(RuntimeWarning, match="'x': 2 samples with NaN or infinity left out"):
        found = compress(model, calibration={"x": dirty})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = compress(model, calibration={"x": x})
    for name, constant in expected.program.constants.items():
        np.testing.assert_array_equal(found.program.constants[name].array, constant.array)


def test_a_network_of_fixed_batch(x):
    rng = np.random.default_rng(3)
    model = build(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"w": he(rng, 4, 3, 1, 1)},
        {"x": [2, 3, 16, 16]},
        {"y": [2, 4, 16, 16]},
    )
    compressed = compress(model, calibration={"x": x[:5]})
    assert InferenceSession(compressed).run(None, {"x": x[:2]})[0].shape == (2, 4, 16, 16)
    with pytest.raises(DataError, match="has 1 samples; the network takes 2 at a time"):
        compress(model, calibration={"x": x[:1]})


@pytest.mark.parametrize(
    ("recipe", "error", "says"),
    [
        ("int8", DataError, "int8 needs calibration data.*pass calibration="),
        (
            {"quantize": "none", "prune": ["weight=0.5"], "recover": ["obs"]},
            DataError,
            "'obs' needs calibration",
        ),
        ("int4", OptionError, "expected one of: int8, float"),
        ({"quantize": "int4"}, DataError, "int4 needs calibration data"),
        (
            {"layers": {"nothing*": "int4"}},
            OptionError,
            r"no layer matches 'nothing\*'; the layers are: stem",
        ),
    ],
)
def test_wrong_recipes(model, x, recipe, error, says):
    with pytest.raises(error, match=says):
        compress(model, recipe, {"x": x} if "layers" in recipe else None)


def test_bias_without_quantization_is_refused(model, x):
    with pytest.raises(OptionError, match="'bias' makes up for quantization"):
        compress(model, {"quantize": "none", "recover": ["bias"]}, {"x": x})


def test_missing_model():
    with pytest.raises(FileFormatError, match=r"nowhere\.onnx"):
        compress("nowhere.onnx", "float")


def test_channels_removed_and_quantized(x):
    """The shrunk network is quantized, packed and run like any other, and its summary says what went."""
    model = residual_net(np.random.default_rng(0), channels=32)
    words = ["channel=0.4,criterion=obs", "block4=0.3"]
    compressed = compress(model, Recipe(prune=words), {"x": x})
    assert compressed.report.steps == ("obs", "bn", "bias")
    (body,) = (node for node in compressed.program.nodes if node.name == "body")
    assert compressed.program.constants[body.inputs[1]].array.shape == (16, 16, 3, 3)
    expected = make_run(model)({"x": x})["y"]
    session = InferenceSession(compressed)
    precisions = {row["precision"] for row in session.kernels() if row["op"] in ("conv", "dense")}
    assert precisions <= {"int8", "int8 (block4)"}
    found = session.run(None, {"x": x})[0]
    crude = compress(model, Recipe(prune=words, recover=[]), {"x": x})
    assert sqnr_db(expected, found) > sqnr_db(expected, InferenceSession(crude).run(None, {"x": x})[0]) + 3
    text = compressed.summary()
    assert re.search(r"stem and 2 more +32 +16\n", text)
    assert re.search(r"head_1 +10 +10 +kept: network output 'y'", text)
    assert re.search(r"multiply-accumulates: [\d,]+ -> [\d,]+ \(-[67]\d\.\d %\)", text)


def test_criteria_ask_for_data(model):
    with pytest.raises(DataError, match="criterion 'obs' needs calibration data"):
        compress(model, Recipe(prune=["channel=0.4,criterion=obs"], quantize="none"))


def test_equalized_after_channels_were_removed(x):
    model = residual_net(np.random.default_rng(0), channels=32)
    recipe = Recipe(prune=["filter=0.4"], recover=["obs", "bn", "equalize", "bias"])
    compressed = compress(model, recipe, {"x": x})
    plain = compress(model, Recipe(prune=["filter=0.4"], quantize="none"), {"x": x})
    wanted = InferenceSession(plain).run(None, {"x": x})[0]
    assert sqnr_db(wanted, InferenceSession(compressed).run(None, {"x": x})[0]) > 25


def test_a_file_that_is_no_npz_is_named_without_advice_to_unpickle_it(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"hello")
    with pytest.raises(
        DataError, match=r"data.npz: cannot be read as .npz \(it is another kind of file"
    ) as error:
        calibration_data.read(path)
    assert "pickle" not in str(error.value)
