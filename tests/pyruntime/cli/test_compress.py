"""`pyruntime compress` and `pyruntime compare`, from a float ONNX file to a packed one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pyruntime.cli import main

RNG = np.random.default_rng(0)


def fails(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    """Runs a command that must fail with `status` and exactly one line on stderr; returns that line."""
    assert main([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and "Traceback" not in lines[0], captured.err
    return lines[0]


def compress(float_file: Path, calibration_file: Path, out: Path, *options: str) -> None:
    arguments = [
        "compress",
        str(float_file),
        "-o",
        str(out),
        "--calibration",
        str(calibration_file),
        *options,
    ]
    assert main(arguments) == 0


def test_compress_inspect_compare(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.pyrt"
    compress(float_file, calibration_file, out, "--prune", "block4=0.5", "--quantize", "int8")
    captured = capsys.readouterr()
    assert "conv1" in captured.out and captured.err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["small.pyrt"]

    assert main(["inspect", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["float_layers"] == []
    assert report["total"]["sparsity"] > 0.4
    assert report["total"]["bytes"] < 4 * report["total"]["parameters"] / 2

    arguments = [str(float_file), str(out), "--data", str(calibration_file)]
    assert main(["compare", *arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["samples"] == 64
    assert 0 <= report["reference_accuracy"] <= 1 and 0 <= report["candidate_accuracy"] <= 1
    assert 0 < report["agreement"] <= 1
    assert [row["name"] for row in report["outputs"]] == ["logits"]
    noise = [row["sqnr_db"] for row in report["layers"]]
    assert len(noise) >= 2 and noise == sorted(noise)
    assert main(["compare", *arguments]) == 0
    assert "worst first" in capsys.readouterr().out


def test_inspect_against_the_float_network(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A range that leaves the largest values out must show as saturation."""
    out = tmp_path / "small.pyrt"
    compress(float_file, calibration_file, out, "--quantize", "int8,calibrate=entropy")
    capsys.readouterr()
    arguments = ["inspect", str(out), "--reference", str(float_file), "--data", str(calibration_file)]
    assert main([*arguments, "--json"]) == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert layers["conv1"]["sqnr_db"] > 10 and layers["conv1"]["saturated"] > 0
    assert layers["conv1"]["dead_channels"] == [] and layers["conv1"]["dead_rows"] == 0
    assert main(arguments) == 0
    assert "saturated" in capsys.readouterr().out
    assert main(arguments[:4]) == 2
    assert "--reference and --data go together" in capsys.readouterr().err


def test_quantization_alone_is_close(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.pyrt"
    compress(float_file, calibration_file, out)
    capsys.readouterr()
    assert main(["compare", str(float_file), str(out), "--data", str(calibration_file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["outputs"][0]["sqnr_db"] > 20
    assert report["agreement"] > 0.9


def test_a_model_equals_itself(
    float_file: Path, calibration_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(float_file), str(float_file), "--data", str(calibration_file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["agreement"] == 1.0
    for row in [*report["outputs"], *report["layers"]]:
        assert row["sqnr_db"] is None and row["max_error"] == 0
        assert row["cosine"] == pytest.approx(1.0, abs=1e-12)


def test_float_stays_float(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.pyrt"
    assert main(["compress", str(float_file), "-o", str(out), "--quantize", "none"]) == 0
    capsys.readouterr()
    assert main(["compare", str(float_file), str(out), "--data", str(calibration_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"] == 1.0


def test_strict(calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A softmax over channels runs in float: reported, and an error under --strict."""
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["input"], ["y"], name="the_softmax", axis=1)],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 8, 8])],
    )
    path, out = tmp_path / "softmax.onnx", tmp_path / "o.pyrt"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    arguments = ["compress", path, "-o", out, "--calibration", calibration_file]
    line = fails(capsys, 1, *arguments, "--strict")
    assert "strict" in line and "the_softmax" in line
    assert not out.exists()
    assert main([str(argument) for argument in arguments]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["float_layers"] == ["the_softmax"]


def test_warnings_are_one_line(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bad sample is left out, and said."""
    images = np.load(calibration_file)["input"]
    images[3, 0, 0, 0] = np.nan
    np.savez(tmp_path / "data.npz", input=images)
    compress(float_file, tmp_path / "data.npz", tmp_path / "o.pyrt")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("pyruntime compress: warning:") and "NaN" in lines[0]


def test_recipe_file(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("prune: ['weight=0.9']\nquantize: int8\nrecover: []\n")
    out = tmp_path / "small.pyrt"
    compress(float_file, calibration_file, out, "--recipe", str(recipe), "--prune", "weight=0.5")
    capsys.readouterr()
    assert main(["inspect", str(out), "--json"]) == 0
    assert 0.4 < json.loads(capsys.readouterr().out)["total"]["sparsity"] < 0.6
    recipe.write_text("prnue: []\n")
    line = fails(capsys, 2, "compress", float_file, "-o", tmp_path / "x.pyrt", "--recipe", recipe)
    assert "prnue" in line
    recipe.write_text("{")
    line = fails(capsys, 2, "compress", float_file, "-o", tmp_path / "x.pyrt", "--recipe", recipe)
    assert "recipe.yaml" in line
    assert not (tmp_path / "x.pyrt").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--quantize", "int9"],
        ["--quantize", "int8,calibrate=magic"],
        ["--prune", "block4=1.5"],
        ["--prune", "block5=0.5"],
        ["--prune", "weight=0.5,criterion=luck"],
        ["--recover", "magic"],
        ["--recipe", "missing.yaml"],
    ],
)
def test_unknown_values(
    options: list[str],
    float_file: Path,
    calibration_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "small.pyrt"
    line = fails(capsys, 2, "compress", float_file, "-o", out, "--calibration", calibration_file, *options)
    assert options[1].split("=")[-1].split(",")[0] in line or options[1] in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.onnx", None),
        ("empty.onnx", b""),
        ("text.onnx", b"hello, this is a text file\n" * 10),
        ("truncated.onnx", "half"),
    ],
)
@pytest.mark.parametrize("command", ["compress", "inspect", "compare"])
def test_bad_models(
    command: str,
    name: str,
    content: bytes | str | None,
    float_file: Path,
    calibration_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if content == "half":
        data = float_file.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    options: dict[str, list[object]] = {
        "compress": ["-o", tmp_path / "out.pyrt", "--calibration", calibration_file],
        "inspect": [],
        "compare": [float_file, "--data", calibration_file],
    }
    assert name in fails(capsys, 1, command, path, *options[command])
    assert sorted(tmp_path.iterdir()) == before


def test_unsupported_operator(
    calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = helper.make_graph(
        [helper.make_node("Det", ["input"], ["y"], name="the_node")],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
    )
    path = tmp_path / "det.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    out = tmp_path / "o.pyrt"
    line = fails(capsys, 1, "compress", path, "-o", out, "--calibration", calibration_file)
    assert "Det" in line and "the_node" in line
    assert not out.exists()


def data(**arrays: np.ndarray) -> dict[str, np.ndarray]:
    return arrays


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        (data(inptu=np.zeros((8, 4, 8, 8), np.float32)), "inptu"),
        (data(), "input"),
        (data(input=np.zeros((8, 3, 8, 8), np.float32)), "input"),
        (data(input=np.zeros((8, 4, 8), np.float32)), "input"),
        (data(input=np.zeros((8, 4, 8, 8), np.int64)), "input"),
        (data(input=np.array(["text"])), "input"),
        (data(input=np.zeros((0, 4, 8, 8), np.float32)), "input"),
        (data(input=np.full((8, 4, 8, 8), np.nan, np.float32)), "input"),
    ],
    ids=["name", "empty", "channels", "rank", "dtype", "text", "no-samples", "nan"],
)
def test_bad_calibration(
    arrays: dict[str, np.ndarray],
    word: str,
    float_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    out = tmp_path / "o.pyrt"
    assert word in fails(capsys, 1, "compress", float_file, "-o", out, "--calibration", path)
    assert [item.name for item in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("content", [None, b"", b"text" * 50, b"PK\x03\x04 cut off"])
def test_bad_calibration_files(
    content: bytes | None, float_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    line = fails(capsys, 1, "compress", float_file, "-o", tmp_path / "o.pyrt", "--calibration", path)
    assert "data.npz" in line
    assert not (tmp_path / "o.pyrt").exists()


def test_int8_without_calibration(
    float_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 1, "compress", float_file, "-o", tmp_path / "o.pyrt", "--quantize", "int8")
    assert "calibration" in line
    assert not (tmp_path / "o.pyrt").exists()


def test_output_is_refused_before_the_work(
    float_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 2, "compress", "missing.onnx", "-o", tmp_path / "none" / "o.pyrt")
    assert "none" in line and "missing.onnx" not in line
    assert "also an input" in fails(capsys, 2, "compress", float_file, "-o", float_file)


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (np.zeros(3, np.int64), "labels"),
        (np.zeros(64, np.float32), "labels"),
        (np.zeros((64, 1), np.int64), "labels"),
    ],
)
def test_compare_with_bad_labels(
    labels: np.ndarray,
    word: str,
    float_file: Path,
    calibration_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, input=np.load(calibration_file)["input"], labels=labels)
    assert word in fails(capsys, 1, "compare", float_file, float_file, "--data", path)


def test_compare_with_nan(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN in the data is an error; where a network makes infinities of numbers, -999 dB are explained."""
    path = tmp_path / "data.npz"
    x = np.load(calibration_file)["input"].copy()
    x[[3, 5], 0] = np.nan
    np.savez(path, input=x)
    line = fails(capsys, 1, "compare", float_file, float_file, "--data", path)
    assert "NaN in 2 of 64 samples (the first: 3)" in line
    x[[3, 5], 0] = np.inf
    np.savez(path, input=x)
    arguments = ["compare", str(float_file), str(float_file), "--data"]
    assert main([*arguments, str(path)]) == 0
    assert "-999 dB: the reference is all zero" in capsys.readouterr().out
    assert main([*arguments, str(calibration_file)]) == 0
    assert "-999" not in capsys.readouterr().out


def test_compare_of_different_models(
    float_file: Path, packed_file: Path, calibration_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 1, "compare", float_file, packed_file, "--data", calibration_file)
    assert "input" in line
