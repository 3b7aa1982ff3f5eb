"""The command line as a person uses it: results, exit status, one line of error, nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyruntime
from pyruntime import InferenceSession, available_isas
from pyruntime.cli import main

RNG = np.random.default_rng(0)


@pytest.fixture
def input_file(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, RNG.normal(0, 1, (2, 3, 8, 8)).astype(np.float32))
    return path


def fails(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    """Runs a command that must fail with `status` and exactly one line on stderr; returns that line."""
    assert main([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1 and "Traceback" not in lines[0], captured.err
    assert lines[0].startswith("pyruntime")
    return lines[0]


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_module_and_version(python: Callable[..., Any]) -> None:
    process = python("-m", "pyruntime", "--version")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.strip() == f"pyruntime {pyruntime.__version__}"


@pytest.mark.parametrize(
    "command", ["demo", "compress", "sensitivity", "run", "inspect", "bench", "compare", "export", "isa"]
)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"pyruntime {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["run"], ["isa", "--nothing"], ["bench", "x.pyrt", "--batch", "0"]]
)
def test_bad_use(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 2, *arguments)


def test_isa(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["isa", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["available"] == available_isas()
    # Rows that need VBMI are a part of avx512vnni, no name of their own or twice.
    names = [row["name"] for row in report["isas"]]
    assert len(names) == len(set(names)) and "avx512vbmi" not in names
    assert {row["name"] for row in report["isas"]} >= {"scalar", "avx2", "avx512vnni", "amxint8", "neondot"}
    assert all(row["usable"] or row["reason"] for row in report["isas"])
    assert main(["isa"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in available_isas())


def test_run(packed_file: Path, input_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.npz"
    status = main(
        ["run", str(packed_file), "--input", f"input={input_file}", "-o", str(out), "--threads", "1"]
    )
    assert status == 0, capsys.readouterr().err
    expected = InferenceSession(packed_file).run(None, {"input": np.load(input_file)})[0]
    with np.load(out) as archive:
        assert archive.files == ["logits"]
        np.testing.assert_array_equal(archive["logits"], expected)
    assert listing(tmp_path) == ["out.npz", "x.npy"]


def test_run_of_batch_zero(packed_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((0, 3, 8, 8), np.float32))
    out = tmp_path / "out.npz"
    assert main(["run", str(packed_file), "--input", f"input={tmp_path / 'x.npy'}", "-o", str(out)]) == 0
    assert np.load(out)["logits"].shape == (0, 5)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.pyrt", None, "missing.pyrt"),
        ("empty.pyrt", b"", "empty.pyrt"),
        ("text.pyrt", b"hello, this is a text file\n" * 10, "text.pyrt"),
        ("binary.pyrt", bytes(range(256)) * 4, "binary.pyrt"),
    ],
)
@pytest.mark.parametrize("command", ["run", "inspect", "export", "bench"])
def test_bad_packed_files(
    command: str,
    name: str,
    content: bytes | None,
    words: str,
    tmp_path: Path,
    input_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    before = listing(tmp_path)
    options = {
        "run": ["--input", f"input={input_file}", "-o", tmp_path / "out.npz"],
        "export": ["-o", tmp_path / "out.onnx"],
    }
    assert words in fails(capsys, 1, command, path, *options.get(command, []))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_truncated_packed_file(
    share: float, packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = packed_file.read_bytes()
    path = tmp_path / "cut.pyrt"
    path.write_bytes(data[: int(len(data) * share)])
    assert "cut.pyrt" in fails(capsys, 1, "inspect", path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 3, 8, 8)), ["'input'", "float32", "float64"]),
        (np.zeros((1, 8, 8), np.float32), ["'input'", "[N, 3, 8, 8]", "[1, 8, 8]"]),
        (np.zeros((1, 3, 8, 9), np.float32), ["'input'", "[1, 3, 8, 9]"]),
    ],
)
def test_run_with_wrong_arrays(
    array: np.ndarray,
    words: list[str],
    packed_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save(tmp_path / "x.npy", array)
    line = fails(
        capsys, 1, "run", packed_file, "--input", f"input={tmp_path / 'x.npy'}", "-o", tmp_path / "o.npz"
    )
    assert all(word in line for word in words), line
    assert listing(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("text", ["input", "=x.npy", "input="])
def test_run_with_a_malformed_input(
    text: str, packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, 2, "run", packed_file, "--input", text, "-o", tmp_path / "o.npz")
    assert "NAME=VALUE" in line


def test_run_with_unknown_missing_and_double_inputs(
    packed_file: Path, input_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o.npz"
    assert "'inpt'" in fails(capsys, 1, "run", packed_file, "--input", f"inpt={input_file}", "-o", out)
    twice = ["--input", f"input={input_file}"] * 2
    assert "twice" in fails(capsys, 2, "run", packed_file, *twice, "-o", out)
    missing = tmp_path / "none.npy"
    assert "none.npy" in fails(capsys, 1, "run", packed_file, "--input", f"input={missing}", "-o", out)
    (tmp_path / "pickle.npy").write_bytes(b"\x80\x04K\x01.")
    assert "pickle.npy" in fails(
        capsys, 1, "run", packed_file, "--input", f"input={tmp_path / 'pickle.npy'}", "-o", out
    )
    assert not out.exists()


def test_outputs_that_cannot_be_written_are_refused_first(
    packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The input does not even exist: the output is looked at before any work."""
    (tmp_path / "folder").mkdir()
    for out in (tmp_path / "none" / "o.npz", tmp_path / "folder", packed_file / "o.npz"):
        line = fails(capsys, 2, "run", packed_file, "--input", "input=missing.npy", "-o", out)
        assert str(out) in line and "-o" in line
    assert listing(tmp_path) == ["folder"]


def test_output_over_an_input_is_refused(packed_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = packed_file.read_bytes()
    assert "also an input" in fails(capsys, 2, "export", packed_file, "-o", packed_file)
    assert packed_file.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o500)
    fails(capsys, 2, "export", packed_file, "-o", tmp_path / "q.onnx")


def test_a_device_is_written_through(packed_file: Path, input_file: Path) -> None:
    assert main(["run", str(packed_file), "--input", f"input={input_file}", "-o", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


def test_an_older_output_survives_a_failure(
    tmp_path: Path, input_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "o.npz").write_text("precious")
    (tmp_path / "bad.pyrt").write_text("no")
    fails(capsys, 1, "run", tmp_path / "bad.pyrt", "--input", f"input={input_file}", "-o", tmp_path / "o.npz")
    assert (tmp_path / "o.npz").read_text() == "precious"


@pytest.mark.parametrize("command", ["inspect", "bench"])
def test_unknown_isa(
    command: str, packed_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "'sse9'" in fails(capsys, 2, command, packed_file, "--isa", "sse9")
    monkeypatch.setenv("PYRUNTIME_ISA", "sse9")
    assert "PYRUNTIME_ISA" in fails(capsys, 2, command, packed_file)


def test_bad_thread_counts(
    packed_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("0", "-2", "two", "99999"):
        fails(capsys, 2, "inspect", packed_file, "--threads", text)
    monkeypatch.setenv("PYRUNTIME_NUM_THREADS", "many")
    assert "PYRUNTIME_NUM_THREADS" in fails(capsys, 2, "inspect", packed_file)


def test_inspect(packed_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(packed_file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    layers = {layer["name"]: layer for layer in report["layers"]}
    conv = layers["conv2"]
    assert conv["weight_shape"] == [8, 8, 3, 3] and conv["op"] == "conv"
    assert conv["bits"] == 8 and conv["precision"].startswith("int8")
    assert 0.4 < conv["sparsity"] < 0.6 and conv["codec"] in ("dense", "bitmask", "block4", "nm2_4")
    assert report["file_bytes"] == packed_file.stat().st_size
    assert 0 < report["total"]["bytes"] < report["file_bytes"]
    assert report["total"]["parameters"] == 8 * 3 * 9 + 8 * 8 * 9 + 5 * 8
    assert main(["inspect", str(packed_file)]) == 0
    text = capsys.readouterr().out
    assert "conv2" in text and conv["codec"] in text


def test_export(packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "q.onnx"
    assert main(["export", str(packed_file), "-o", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert listing(tmp_path) == ["q.onnx"]
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~mask


def test_debug_shows_the_traceback(tmp_path: Path, python: Callable[..., Any]) -> None:
    for extra, shown in (([], False), (["--debug"], True)):
        process = python("-m", "pyruntime", "inspect", tmp_path / "none.pyrt", *extra)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 1
        assert ("Traceback" in error) == shown


def test_closed_pipe_is_no_error(packed_file: Path, python: Callable[..., Any]) -> None:
    """As under `| head -n 1`: the reader goes away before anything is written."""
    process = python("-m", "pyruntime", "inspect", packed_file, "--json")
    process.stdout.close()
    error = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert error == ""
