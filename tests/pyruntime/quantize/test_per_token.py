"""`activations=dynamic`: each token has the range of its own."""

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from toolmodels import build, he, make_run

from pyruntime import InferenceSession, compress, graph
from pyruntime.errors import OptionError
from pyruntime.quantize import assign, parse_spec, scale_tokens
from pyruntime.reference import run

K = 32
SHAPES = [["N", K], ["N", 5, K], ["N", 2, 5, K]]


def dense_net(shape):
    """Two layers, the first read by an output too; two layers share the input."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    return build(
        [
            node("MatMul", ["x", "w"], ["product"], name="first"),
            node("Add", ["product", "b"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("MatMul", ["r", "v"], ["y"], name="left"),
            node("MatMul", ["r", "u"], ["z"], name="right"),
        ],
        {name: he(rng, K, K) for name in "wvu"} | {"b": 0.1 * he(rng, K)},
        {"x": shape},
        {"h": shape, "y": shape, "z": shape},
    )


def tokens(shape, spread=2.0):
    """Tokens whose sizes differ by factors up to 10^(2 * spread)."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(16, *shape[1:]))
    return (x * 10 ** rng.uniform(-spread, spread, (*x.shape[:-1], 1))).astype(np.float32)


def worst_token(expected, found):
    return (np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_float_network_stays_the_same(shape):
    model, x = dense_net(shape), tokens(shape)
    expected = make_run(model)({"x": x})
    names = scale_tokens(model, assign(model, parse_spec("int8")))
    assert len(names) == 2
    for name, wanted in expected.items():
        assert worst_token(wanted, make_run(model)({"x": x})[name]) < 1e-5
    (h, y, z) = (output.name for output in model.graph.outputs)
    assert (h, y, z) == ("h", "y", "z")
    assert graph.dims(model.graph.outputs[1])[1:] == shape[1:]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_token_keeps_its_levels(shape):
    """Static ranges lose the small tokens; a token out of the calibration data's range loses nothing here."""
    model, x = dense_net(shape), tokens(shape)
    expected = make_run(model)({"x": x * 100})
    dynamic = compress(model, {"quantize": "int8,activations=dynamic"}, {"x": x})
    static = compress(model, {"quantize": "int8"}, {"x": x})
    found = dict(zip("hyz", InferenceSession(dynamic).run(None, {"x": x * 100}), strict=True))
    other = dict(zip("hyz", InferenceSession(static).run(None, {"x": x * 100}), strict=True))
    for name in "hyz":
        assert worst_token(expected[name], found[name]) < 0.05
        assert worst_token(expected[name], other[name]) > 0.5
        np.testing.assert_array_equal(run(dynamic.program, {"x": x * 100})[name], found[name])
    ran = {kernel["node"]: kernel["precision"] for kernel in InferenceSession(dynamic).kernels()}
    assert sum(precision == "int8" for node, precision in ran.items() if "quantize" not in node) == 3


def test_tokens_of_zeros_and_of_one_value():
    model, x = dense_net(SHAPES[1]), tokens(SHAPES[1])
    compressed = compress(model, {"quantize": "int8,activations=dynamic"}, {"x": x})
    x[0], x[1] = 0, 1e-30
    for output in InferenceSession(compressed).run(None, {"x": x}):
        assert np.isfinite(output).all()
    # A token of zeros gives what the biases give.
    expected = make_run(model)({"x": x[:1]})["h"]
    np.testing.assert_allclose(InferenceSession(compressed).run(["h"], {"x": x[:1]})[0], expected, atol=0.01)


def test_export(tmp_path):
    """Other runtimes get the same from plain ONNX; few bits, since some of them saturate at 8."""
    model, x = dense_net(SHAPES[1]), tokens(SHAPES[1])
    compressed = compress(model, {"quantize": "int5,activations=dynamic"}, {"x": x})
    compressed.to_onnx(tmp_path / "q.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "q.onnx", providers=["CPUExecutionProvider"])
    ours = InferenceSession(compressed).run(None, {"x": x})
    for wanted, found in zip(session.run(None, {"x": x}), ours, strict=True):
        assert worst_token(wanted, found) < 1e-3


def test_words():
    assert parse_spec("int4,activations=dynamic").activations == "dynamic"
    with pytest.raises(OptionError, match="run in float32; write activations=float"):
        parse_spec("fp16,activations=dynamic")
