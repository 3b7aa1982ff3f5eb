"""A whole encoder: float, quantized, exported, with sequences of any length."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from transformer_nets import sentences, tiny_bert

import pyruntime as prt
from pyruntime import graph, reference
from pyruntime.export_onnx import to_onnx
from pyruntime.frontends.onnx import load
from pyruntime.lower import lower


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return tiny_bert()


@pytest.fixture(scope="module")
def compressed(model: onnx.ModelProto) -> prt.CompressedModel:
    return prt.compress(model, "int8", sentences(32, 20))


def run_onnx(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, feed)
    return result


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_float_with_one_session_and_many_lengths(model: onnx.ModelProto) -> None:
    session = prt.InferenceSession(lower(load(model)))
    for count, length in ((1, 1), (2, 7), (1, 64), (3, 16), (2, 7)):
        feed = sentences(count, length, seed=length)
        (result,) = session.run(None, feed)
        np.testing.assert_allclose(result, run_onnx(model, feed), atol=1e-5)


def test_int8_is_the_reference_bit_for_bit(compressed: prt.CompressedModel) -> None:
    sessions = [
        prt.InferenceSession(compressed, prt.SessionOptions(num_threads=threads, isa=isa))
        for isa in prt.available_isas()
        for threads in (1, 2)
    ]
    for count, length in ((1, 1), (2, 33), (3, 16)):
        feed = sentences(count, length, seed=length)
        (expected,) = reference.run(compressed.program, feed).values()
        for session in sessions:
            (result,) = session.run(None, feed)
            np.testing.assert_array_equal(result, expected)


def test_int8_is_close_to_float(model: onnx.ModelProto, compressed: prt.CompressedModel) -> None:
    feed = sentences(8, 24, seed=5)
    (result,) = prt.InferenceSession(compressed).run(None, feed)
    assert cosine(result, run_onnx(model, feed)) > 0.999


def test_what_runs_on_integers(compressed: prt.CompressedModel) -> None:
    used = Counter(node.op for node in compressed.program.nodes)
    assert used["attention"] == 2 and used["dense"] == 12 and used["lut"] == 2 and used["layer_norm"] == 5
    assert not used["matmul"] and not used["softmax"] and not used["transpose"]
    session = prt.InferenceSession(compressed)
    precision = {row["op"]: row["precision"] for row in session.kernels()}
    assert precision["attention"] == "int8" and precision["layer_norm"] == "float32"


def test_the_residual_stream_is_not_quantized(compressed: prt.CompressedModel) -> None:
    program = compressed.program
    sums = [node for node in program.nodes if node.op == "add"]
    assert sums and all(program.dtype(name) == "f32" for node in sums for name in node.inputs)
    assert "dequantize" not in {node.op for node in program.nodes}


def test_standard_onnx_of_the_quantized_model(compressed: prt.CompressedModel) -> None:
    feed = sentences(3, 18, seed=2)
    (expected,) = reference.run(compressed.program, feed).values()
    standard = graph.to_proto(graph.to_standard(compressed.model))
    for proto in (standard, to_onnx(compressed.program)):
        onnx.checker.check_model(proto, full_check=True)
        result = run_onnx(proto, feed)
        assert cosine(result, expected) > 0.9999


def test_packed_file(compressed: prt.CompressedModel, tmp_path) -> None:
    path = tmp_path / "encoder.pyrt"
    compressed.save(path)
    feed = sentences(2, 9)
    (direct,) = prt.InferenceSession(compressed).run(None, feed)
    (packed,) = prt.InferenceSession(path).run(None, feed)
    np.testing.assert_array_equal(packed, direct)


def test_word_that_is_not_in_the_vocabulary(compressed: prt.CompressedModel) -> None:
    feed = sentences(1, 4)
    feed["input_ids"][0, 2] = 100
    with pytest.raises(prt.DataError, match=r"\(gather\): an index is outside the 100 entries of axis 0"):
        prt.InferenceSession(compressed).run(None, feed)
