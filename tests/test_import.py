"""`import pyruntime` is cheap and pulls in none of the tools. Each check is a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("onnx", "onnx_ir", "onnxscript", "torch", "yaml", "tqdm", "onnxruntime", "openvino", "numpy")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing_heavy() -> None:
    out = _python(f"import pyruntime, sys; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert out.strip() == "[]"


def test_a_session_needs_no_tools() -> None:
    tools = HEAVY[:-1]
    out = _python(f"import sys; from pyruntime import InferenceSession; print([m for m in {tools!r} if m in sys.modules])")
    assert out.strip() == "[]"


def test_import_time() -> None:
    """Best of five, measured inside the process: the aim is 60 ms, the promise 150 ms."""
    code = "import time; t = time.perf_counter(); import pyruntime; print(time.perf_counter() - t)"
    assert min(float(_python(code)) for _ in range(5)) < 0.150


@pytest.mark.parametrize(
    "name",
    ["compress", "Recipe", "InferenceSession", "SessionOptions", "available_isas", "cpu_features", "PyruntimeError"],
)
def test_public_names(name: str) -> None:
    """The order of imports must not matter: a submodule never hides a public name."""
    code = (
        "import pyruntime as prt, pyruntime.compression, pyruntime.recipe, pyruntime.session\n"
        f"assert callable(prt.{name}) and {name!r} in prt.__all__ and {name!r} in dir(prt)"
    )
    _python(code)


def test_unknown_name() -> None:
    out = _python("import pyruntime\ntry:\n    pyruntime.nothing\nexcept AttributeError as e:\n    print(e)")
    assert "nothing" in out
