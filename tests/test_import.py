"""`import pyruntime` is cheap and pulls in none of the tools. Each check is a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

HEAVY = ("onnx", "onnx_ir", "onnxscript", "torch", "yaml", "tqdm", "onnxruntime", "openvino", "numpy")


@pytest.fixture
def output(python: Callable[..., Any]) -> Callable[[str], str]:
    """Runs code in a fresh interpreter; returns what it prints."""

    def run(code: str) -> str:
        process = python("-c", code)
        out, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        return str(out)

    return run


def test_import_loads_nothing_heavy(output: Callable[[str], str]) -> None:
    out = output(f"import pyruntime, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert out.strip() == "[]"


def test_a_session_needs_no_tools(output: Callable[[str], str]) -> None:
    tools = HEAVY[:-1]
    out = output(
        "import sys; from pyruntime import InferenceSession\n"
        f"print([m for m in {tools!r} if m in sys.modules])"
    )
    assert out.strip() == "[]"


def test_import_time(output: Callable[[str], str]) -> None:
    """Best of five, measured inside the process: the aim is 60 ms, the promise 150 ms."""
    code = "import time; t = time.perf_counter(); import pyruntime; print(time.perf_counter() - t)"
    assert min(float(output(code)) for _ in range(5)) < 0.150


@pytest.mark.parametrize(
    "name",
    [
        "compress",
        "Recipe",
        "InferenceSession",
        "SessionOptions",
        "available_isas",
        "cpu_features",
        "PyruntimeError",
    ],
)
def test_public_names(name: str, output: Callable[[str], str]) -> None:
    """The order of imports must not matter: a submodule never hides a public name."""
    code = (
        "import pyruntime as prt, pyruntime.compression, pyruntime.recipe, pyruntime.session\n"
        f"assert callable(prt.{name}) and {name!r} in prt.__all__ and {name!r} in dir(prt)"
    )
    output(code)


def test_unknown_name(output: Callable[[str], str]) -> None:
    out = output("import pyruntime\ntry:\n    pyruntime.nothing\nexcept AttributeError as e:\n    print(e)")
    assert "nothing" in out
