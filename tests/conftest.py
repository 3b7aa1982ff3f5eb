"""Shared fixtures: a small integer program, a small float network and data for it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pyruntime.program import Constant, Program


def pytest_configure(config: pytest.Config) -> None:
    """Fails early, and clearly, when the source folder hides the installed package."""
    spec = importlib.util.find_spec("pyruntime")
    if spec is None:
        raise pytest.UsageError("pyruntime is not installed: pip install '.[test]'")
    folders = [Path(place) for place in spec.submodule_search_locations or []]
    if not any(list(folder.glob("_core*.so")) or list(folder.glob("_core*.pyd")) for folder in folders):
        raise pytest.UsageError(
            f"{folders[0]} has no compiled core: run `pytest` (not `python -m pytest`) after "
            "pip install '.[test]', or build the core in place with scripts/dev-build"
        )


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.Popen[str]]:
    """Starts `python <arguments>` with the package under test, away from the checkout.

    `-m` and `-c` put the current folder first: in the checkout, the sources without a core.
    """
    import pyruntime

    folder = tmp_path_factory.mktemp("elsewhere")
    environment = {**os.environ, "PYTHONPATH": str(Path(pyruntime.__file__).resolve().parent.parent)}

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, **{**pipes, "cwd": folder, "env": environment, **options})

    return start


@pytest.fixture(scope="session")
def random_program() -> Callable[[], Program]:
    """Makes an integer program by hand: f32 [N, 3, 8, 8] -> conv -> conv with residual -> pool -> dense ->
    f32 [N, 5].
    """
    return _random_program


@pytest.fixture(scope="session")
def packed_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That program as a `.pyrt` file."""
    from pyruntime.pack import write

    path = tmp_path_factory.mktemp("packed") / "small.pyrt"
    write(_random_program(), path)
    return path


@pytest.fixture(scope="session")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small float ONNX network: input `input` f32 [N, 4, 8, 8], output `logits` f32 [N, 5]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    arrays = {
        "w1": rng.normal(0, 0.3, (8, 4, 3, 3)),
        "b1": rng.normal(0, 0.1, 8),
        "w2": rng.normal(0, 0.2, (8, 8, 3, 3)),
        "b2": rng.normal(0, 0.1, 8),
        "w3": rng.normal(0, 0.4, (5, 8)),
        "b3": rng.normal(0, 0.1, 5),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a2"], name="add2"),
        helper.make_node("Relu", ["a2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = tmp_path_factory.mktemp("float") / "small.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def calibration_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 samples for `float_file`, with labels."""
    rng = np.random.default_rng(4)
    path = tmp_path_factory.mktemp("data") / "data.npz"
    images = rng.normal(0, 1, (64, 4, 8, 8)).astype(np.float32)
    np.savez(path, input=images, labels=rng.integers(0, 5, 64))
    return path


def _random_program() -> Program:
    from pyruntime.program import Constant, Node, Program, Value

    rng = np.random.default_rng(2)

    def scale(x: float) -> float:
        return float(np.float32(x))

    def weights(name: str, *shape: int) -> dict[str, Constant]:
        array = rng.integers(-127, 128, shape).astype(np.int8)
        array[rng.random(shape) < 0.5] = 0
        return {name: Constant(name, array, "int8 per_channel")}

    def floats(name: str, low: float, high: float, count: int) -> dict[str, Constant]:
        return {name: Constant(name, rng.uniform(low, high, count).astype(np.float32), "f32")}

    window = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "groups": 1}
    add = {"a_multiplier": scale(0.9), "b_multiplier": scale(0.6), "add_offset": scale(3 - 0.6 * 7)}
    values = [
        Value("input", "f32", ["N", 3, 8, 8]),
        Value("x", "u8", ["N", 3, 8, 8], scale(0.02), 128),
        Value("y1", "u8", ["N", 8, 8, 8], scale(0.03), 7),
        Value("y2", "u8", ["N", 8, 8, 8], scale(0.05), 3),
        Value("p", "u8", ["N", 8, 1, 1], scale(0.02), 5),
        Value("f", "u8", ["N", 8], scale(0.02), 5),
        Value("logits", "f32", ["N", 5]),
    ]
    constants = {
        **weights("w1", 8, 3, 3, 3),
        **floats("m1", 0.002, 0.006, 8),
        **floats("o1", -20, 30, 8),
        **weights("w2", 8, 8, 3, 3),
        **floats("m2", 0.001, 0.003, 8),
        **floats("o2", -10, 20, 8),
        **weights("w3", 5, 8),
        **floats("m3", 0.0005, 0.001, 5),
        **floats("o3", -1, 1, 5),
    }
    nodes = [
        Node("quantize", "quantize", ["input"], ["x"]),
        Node("conv1", "conv", ["x", "w1", "m1", "o1"], ["y1"], {**window, "lo": 7}),
        Node("conv2", "conv", ["y1", "w2", "m2", "o2", "y1"], ["y2"], {**window, **add, "add_lo": 3}),
        Node("pool", "average_pool", ["y2"], ["p"], {"global": 1, "multiplier": 0.05 / 0.02}),
        Node("flatten", "flatten", ["p"], ["f"], {"axis": 1}),
        Node("fc", "dense", ["f", "w3", "m3", "o3"], ["logits"]),
    ]
    named = {value.name: value for value in values}
    return Program("small", ["input"], ["logits"], named, constants, nodes)
