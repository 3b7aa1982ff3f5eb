"""Recipes found for a target: they reach it, beat uniform ones, and give the same bytes again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

import pyruntime as prt
from pyruntime.cli import main
from pyruntime.errors import DataError, ModelError
from pyruntime.pack import dumps
from pyruntime.search import find
from pyruntime.search.find import grouped, pattern
from pyruntime.search.options import Option


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dense layers of unlike size and spread: `input` [N, 32] -> `logits` [N, 10]."""
    rng = np.random.default_rng(0)
    sizes = [("fc1", 32, 64), ("fc2", 64, 64), ("fc3", 64, 10)]
    arrays, nodes, x = {}, [], "input"
    for name, wide, out in sizes:
        spread = rng.laplace(size=(out, wide)) * rng.uniform(0.2, 1.5, (1, wide)) / np.sqrt(wide)
        arrays |= {f"{name}.weight": spread, f"{name}.bias": rng.normal(0, 0.1, out)}
        y = "logits" if name == "fc3" else f"{name}_out"
        nodes.append(
            helper.make_node("Gemm", [x, f"{name}.weight", f"{name}.bias"], [y], name=name, transB=1)
        )
        if name != "fc3":
            nodes.append(helper.make_node("Relu", [y], [f"{name}_relu"]))
        x = f"{name}_relu"
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    path = tmp_path_factory.mktemp("dense") / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def calibration_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(128, 16)) @ rng.normal(size=(16, 32)) / 4
    path = tmp_path_factory.mktemp("dense") / "data.npz"
    np.savez(path, input=x.astype(np.float32))
    return path


def compress(float_file: Path, calibration_file: Path, recipe: dict[str, Any], **options: Any) -> Any:
    return prt.compress(float_file, recipe, calibration_file, **options)


def noise(float_file: Path, calibration_file: Path, program: Any) -> float:
    x = np.load(calibration_file)["input"]
    (wanted,) = prt.InferenceSession(prt.compress(float_file, "float").program).run(None, {"input": x})
    (found,) = prt.InferenceSession(program).run(None, {"input": x})
    return float(np.square(wanted - found).sum() / np.square(wanted).sum())


def test_size(float_file: Path, calibration_file: Path, tmp_path: Path) -> None:
    """The same bytes by target, by the recipe found, by its YAML file, and on the command line."""
    uniform = compress(float_file, calibration_file, {"prune": ["weight=0.7"], "quantize": "int4,ends=same"})
    limit = len(dumps(uniform.program))
    found = compress(float_file, calibration_file, {"target": f"size={limit}B"})
    packed = dumps(found.program)
    assert 0.8 * limit < len(packed) <= limit
    assert f"{len(packed):,} bytes of" in found.summary()
    ours, theirs = (noise(float_file, calibration_file, model.program) for model in (found, uniform))
    assert ours < 2 * theirs

    recipe = found.report.recipe
    assert recipe.target is None and len(recipe.layers) == 3
    path = tmp_path / "found.yaml"
    path.write_text(recipe.text())
    assert prt.Recipe.of(path) == prt.Recipe.of(yaml.safe_load(recipe.text()))
    assert dumps(prt.compress(float_file, path, calibration_file).program) == packed

    out = tmp_path / "small.pyrt"
    command = ["compress", str(float_file), "-o", str(out), "--calibration", str(calibration_file)]
    assert main([*command, "--target", f"size={limit}B"]) == 0
    assert out.read_bytes() == packed
    assert (tmp_path / "small.recipe.yaml").read_text() == recipe.text()


def test_bits(float_file: Path, calibration_file: Path) -> None:
    sizes = []
    for bits in (3, 5):
        found = compress(float_file, calibration_file, {"quantize": f"mixed,bits={bits},calibrate=minmax"})
        assert found.report.recipe.quantize == "int8,calibrate=minmax" and not found.report.recipe.prune
        sizes.append(len(dumps(found.program)))
    assert sizes[0] < sizes[1]


def test_accuracy(float_file: Path, calibration_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured on the validation data: what a stricter target finds is larger."""
    monkeypatch.setattr(find, "HALVINGS", 3)
    x = np.load(calibration_file)["input"]
    (logits,) = prt.InferenceSession(prt.compress(float_file, "float").program).run(None, {"input": x})
    labels = logits.argmax(axis=1)
    labels[::4] = (labels[::4] + 1) % logits.shape[1]
    validation = {"input": x, "labels": labels}
    found = {}
    for drop in (2, 20):
        model = compress(
            float_file, calibration_file, {"target": f"accuracy_drop={drop}"}, validation=validation
        )
        (ours,) = prt.InferenceSession(model.program).run(None, {"input": x})
        lost = 100 * float((logits.argmax(1) == labels).mean() - (ours.argmax(1) == labels).mean())
        assert lost <= drop and f"{lost:.2f} points accuracy lost" in model.report.found
        found[drop] = len(dumps(model.program))
    assert found[20] < found[2]
    model = compress(float_file, calibration_file, {"quantize": "mixed,drop=5"})
    assert "of the classes changed" in model.report.found and not model.report.recipe.prune
    with pytest.raises(DataError, match="labels have shape"):
        bad = {"input": x, "labels": labels[1:]}
        compress(float_file, calibration_file, {"target": "accuracy_drop=1"}, validation=bad)


def test_latency(float_file: Path, calibration_file: Path) -> None:
    """Within reach of anything, nothing is given up; out of reach of everything, one line says so."""
    found = compress(float_file, calibration_file, {"target": "latency=10s"})
    assert not found.report.recipe.prune and set(found.report.recipe.layers.values()) == {"int8"}
    assert " us of 10,000,000" in found.report.found
    with pytest.raises(ModelError, match="cannot be reached; the fastest network found takes"):
        compress(float_file, calibration_file, {"target": "latency=0.01us"})


def test_what_the_recipe_fixes_stays(float_file: Path, calibration_file: Path) -> None:
    recipe = {"target": "size=0.2", "prune": ["block4=0.5,only=fc2*"], "layers": {"fc1*": "int7"}}
    found = compress(float_file, calibration_file, recipe).report.recipe
    assert list(found.prune) == ["block4=0.5,only=fc2*"] and list(found.layers.values())[-1] == "int7"


def test_scope_budget(float_file: Path, calibration_file: Path) -> None:
    """Half of the weights, where they cost least; no layer like the other."""
    recipe = {"prune": ["weight=0.5,scope=budget,criterion=wanda"], "quantize": "none"}
    found = compress(float_file, calibration_file, recipe)
    weights = [c.array for c in found.program.constants.values() if c.array.ndim > 1]
    zeros = sum(np.count_nonzero(array == 0) for array in weights) / sum(array.size for array in weights)
    assert 0.5 <= zeros < 0.6
    assert all("scope=layer" in text and "criterion=wanda" in text for text in found.report.recipe.prune)
    even = compress(float_file, calibration_file, {**recipe, "prune": ["weight=0.5,scope=layer"]})
    ours, theirs = (noise(float_file, calibration_file, model.program) for model in (found, even))
    assert ours < theirs


def test_out_of_reach(float_file: Path, calibration_file: Path, tmp_path: Path, capsys: Any) -> None:
    command = ["compress", str(float_file), "-o", str(tmp_path / "x.pyrt")]
    calibrated = [*command, "--calibration", str(calibration_file)]
    for status, arguments, says in (
        (1, [*calibrated, "--target", "size=100B"], "cannot be reached; the smallest file found has"),
        (1, [*calibrated, "--quantize", "mixed,bits=1"], "cannot be reached; the least is"),
        (1, [*command, "--target", "size=0.2"], "needs calibration data to measure losses on"),
        (2, [*calibrated, "--target", "size=0.2", "--target", "latency=0.5"], "one target at a time"),
        (2, [*calibrated, "--target", "size=0.2", "--validation", "x.npz"], "only a search for accuracy"),
    ):
        assert main(arguments) == status
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and says in error
    assert not list(tmp_path.iterdir())


def test_patterns() -> None:
    assert pattern("/a/[0],b*") == "/a/[[]0]?b[*]"
    chosen = {"a": Option("int4", "weight=0.5"), "b,c": Option("int3", "weight=0.5"), "d": Option("int8")}
    assert grouped(chosen) == ["weight=0.5,scope=layer,only=a,only=b?c"]
