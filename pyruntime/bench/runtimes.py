"""How each runtime loads a model and runs it, in its best configuration for latency."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pyruntime.errors import OptionError

Feed = dict[str, npt.NDArray[Any]]
Outputs = list[npt.NDArray[Any]]
Runner = Callable[[Feed], Outputs]

# name -> distribution on the package index
PEERS = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
# OpenVINO held to float32, which it leaves for bf16 by itself where the CPU has that
OPENVINO_FLOAT32 = "openvino_float32"


def check_peer(name: str) -> None:
    """Raises OptionError unless `name` is a known peer that is installed."""
    if name not in PEERS:
        raise OptionError(f"--against {name}: unknown runtime; known: {', '.join(PEERS)}")
    if not is_installed(name):
        raise OptionError(f"--against {name}: is not installed; install it with: pip install {PEERS[name]}")


def is_installed(name: str) -> bool:
    """Whether a peer can be imported here."""
    return importlib.util.find_spec(name) is not None


def version(runtime: str) -> str:
    """Version of an installed runtime."""
    if runtime == "pyruntime":
        from pyruntime import __version__

        return __version__
    return importlib.metadata.version("openvino" if runtime == OPENVINO_FLOAT32 else PEERS[runtime])


# Our name of an instruction set -> what oneDNN, whose kernels OpenVINO takes, calls it
_ONEDNN_ISAS = {"avxvnni": "AVX2_VNNI", "avx512vnni": "AVX512_CORE_VNNI"}
_ONEDNN_VARIABLE = "ONEDNN_MAX_CPU_ISA"


def hold_openvino(isa: str) -> None:
    """Holds OpenVINO in the processes started from now on to one instruction set.

    Raises OptionError for others than avxvnni and avx512vnni: without VNNI its int8 kernels saturate.
    """
    if isa not in _ONEDNN_ISAS:
        known = ", ".join(_ONEDNN_ISAS)
        raise OptionError(f"--same-isa: OpenVINO cannot be held to {isa}; give --isa one of {known}")
    os.environ[_ONEDNN_VARIABLE] = _ONEDNN_ISAS[isa]


def _openvino_is_held() -> bool:
    return os.environ.get(_ONEDNN_VARIABLE) in _ONEDNN_ISAS.values()


def float_precision(runtime: str) -> str:
    """What a runtime computes a float32 network in here."""
    if runtime != "openvino" or _openvino_is_held():
        return "float32"
    return "bf16" if "BF16" in _openvino_says() else "float32"


def _openvino_says() -> list[str]:
    """What OpenVINO computes in here."""
    import openvino as ov

    return list(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def load(
    runtime: str,
    path: str,
    threads: int,
    isa: str | None,
    shapes: dict[str, list[int]],
    tuning: str | None = None,
) -> Runner:
    """A function that runs the model at `path` with `threads` threads on inputs of these shapes.

    isa, tuning: options of our own sessions.
    """
    if runtime == "pyruntime":
        return _pyruntime(path, threads, isa, tuning)
    return _PEER_LOADERS[runtime](path, threads, shapes)


def _pyruntime(path: str, threads: int, isa: str | None, tuning: str | None) -> Runner:
    from pyruntime.loading import load_program
    from pyruntime.session import InferenceSession, SessionOptions

    options = SessionOptions(num_threads=threads, isa=isa, tuning=tuning)
    session = InferenceSession(load_program(path), options)
    return lambda feed: session.run(None, feed)


def _onnxruntime(path: str, threads: int, shapes: dict[str, list[int]]) -> Runner:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feed: [np.asarray(output) for output in session.run(None, feed)]


def _openvino(path: str, threads: int, shapes: dict[str, list[int]], *, float32: bool = False) -> Runner:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape({name: list(shape) for name, shape in shapes.items()})
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    if float32 or _openvino_is_held():  # held, it would still try bf16, and fail
        hints["INFERENCE_PRECISION_HINT"] = "f32"
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    names = [output.get_any_name() for output in model.outputs]

    def run(feed: Feed) -> Outputs:
        request.infer(feed, share_inputs=True)
        return [request.get_tensor(name).data for name in names]

    return run


_PEER_LOADERS: dict[str, Callable[[str, int, dict[str, list[int]]], Runner]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    OPENVINO_FLOAT32: partial(_openvino, float32=True),
}
