"""The arrows of docs/architecture.md, checked on the sources; nothing is imported here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pyruntime"
CSRC = ROOT / "csrc"

# Everybody may use these.
COMMON = {"errors", "numerics", "version", ""}
# module (first name below `pyruntime`) -> what it may import from the package
ARROWS = {
    "errors": set(),
    "blas": set(),
    "program": set(),
    "validation": {"program"},
    "minifloat": set(),
    "graph": set(),
    "frontends": {"graph"},
    "spec": set(),
    "layers": {"graph"},
    "evaluate": {"graph", "lower", "session"},
    "prefix": {"graph", "evaluate"},
    "columns": {"graph", "layers"},
    "gradient": {"graph", "layers"},
    "prune": {"graph", "layers", "spec", "evaluate", "columns", "gradient"},
    "quantize": {"graph", "layers", "spec", "evaluate", "minifloat"},
    "recover": {"graph", "layers", "spec", "evaluate", "prefix", "columns", "prune", "quantize"},
    "lower": {"graph", "program", "validation"},
    "pack": {"_core", "minifloat", "program", "validation"},
    "reference": {"program"},
    "session": {"_core", "pack", "program", "tuning"},
    "tuning": {"_core", "__version__"},
    "tune": {"_core", "program", "session", "tuning"},
    "calibration_data": {"graph"},
    "summary": {"pack", "program"},
    "search": {
        "blas",
        "graph",
        "layers",
        "spec",
        "evaluate",
        "prefix",
        "columns",
        "prune",
        "quantize",
        "recover",
        "pack",
        "program",
        "recipe",
        "session",
        "lower",
        "target",
    },
    "recipe": {"spec", "prune", "quantize", "recover", "target"},
    "target": {"spec"},
}
# Only the tools may need these distributions; the runtime runs without them.
TOOLS_ONLY = {
    "onnx",
    "onnx_ir",
    "onnxscript",
    "threadpoolctl",
    "yaml",
    "tqdm",
    "torch",
    "onnxruntime",
    "openvino",
}
RUNTIME_MODULES = {
    "__init__",
    "errors",
    "numerics",
    "program",
    "validation",
    "minifloat",
    "pack",
    "session",
    "tuning",
    "reference",
}


def _sources() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def _home(path: Path) -> str:
    """First name below the package: `pyruntime/prune/spec.py` -> `prune`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names a source imports. Imports under `if TYPE_CHECKING:` do not run, and do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only: set[ast.AST] = set()
    inside_functions: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            typing_only.update(child for statement in node.body for child in ast.walk(statement))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside_functions.update(ast.walk(node))
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in typing_only or (top_level_only and node in inside_functions):
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; the project imports by full name"
            assert node.module is not None
            if node.module == "pyruntime":
                names.update(f"pyruntime.{alias.name}" for alias in node.names)
            else:
                names.add(node.module)
    return names


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", _sources(), ids=_id)
def test_python_arrows(path: Path) -> None:
    home = _home(path)
    if home not in ARROWS:
        return
    used = {name.split(".")[1] for name in _imports(path) if name.startswith("pyruntime.")}
    wrong = used - ARROWS[home] - COMMON - {home}
    assert not wrong, f"{_id(path)} imports {sorted(wrong)}; `{home}` may use {sorted(ARROWS[home])}"


def test_every_listed_module_exists() -> None:
    """A renamed module must not slip out of the check."""
    homes = {_home(path) for path in _sources()}
    assert set(ARROWS) <= homes, sorted(set(ARROWS) - homes)


@pytest.mark.parametrize("path", [p for p in _sources() if _home(p) in RUNTIME_MODULES], ids=_id)
def test_runtime_needs_no_tools(path: Path) -> None:
    assert not {name.split(".")[0] for name in _imports(path)} & TOOLS_ONLY


@pytest.mark.parametrize("path", _sources(), ids=_id)
def test_optional_peers_are_imported_late(path: Path) -> None:
    """onnxruntime, openvino and torch are never needed to import a module of the package."""
    if _home(path) == "torch":
        return
    late = {"onnxruntime", "openvino", "torch"}
    assert not {name.split(".")[0] for name in _imports(path, top_level_only=True)} & late


def _includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE)


def _cpp_sources() -> list[Path]:
    return sorted(path for path in CSRC.rglob("*") if path.suffix in {".h", ".cc", ".inc"})


# layer -> layers it may include
CPP_ARROWS = {
    "base": {"base"},
    "entropy": {"base", "entropy"},
    "kernels": {"base", "kernels"},
    "runtime": {"base", "kernels", "runtime"},
    "bindings": {"base", "entropy", "kernels", "runtime", "bindings"},
}


@pytest.mark.parametrize("path", _cpp_sources(), ids=_id)
def test_cpp_arrows(path: Path) -> None:
    layer = path.relative_to(CSRC).parts[0]
    assert layer in CPP_ARROWS, f"{_id(path)} belongs to no layer"
    for name in _includes(path):
        first = name.split("/")[0]
        if first in CPP_ARROWS:
            assert first in CPP_ARROWS[layer], f"{_id(path)} includes {name}"
        if layer != "bindings":
            assert not name.startswith(("pybind11", "Python.h")), f"{_id(path)} includes {name}"


def _isa_sources() -> list[Path]:
    return [path for path in _cpp_sources() if re.match(r"(x86_|arm_|scalar)\w*\.cc$", path.name)]


@pytest.mark.parametrize("path", _isa_sources(), ids=_id)
def test_isa_sources_hold_no_std_templates(path: Path) -> None:
    """A template compiled with AVX-512 flags may be the copy the linker keeps for every CPU."""
    banned = {"vector", "algorithm", "string", "iostream", "map", "functional", "memory", "numeric"}
    assert not banned & set(_includes(path)), _id(path)


def test_sources_were_found() -> None:
    assert len(_sources()) > 10
    assert len(_cpp_sources()) > 10
    assert len(_isa_sources()) > 3
