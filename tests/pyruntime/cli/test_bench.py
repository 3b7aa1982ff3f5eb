"""`pyruntime bench`: turns, processes, the check of outputs, and what happens when something is wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyruntime.bench import peer_models
from pyruntime.bench.runner import Entrant, check_agreement, sample_feed
from pyruntime.cli import main
from pyruntime.errors import DataError, ModelError
from pyruntime.loading import load_program
from pyruntime.program import Node, Program, Value
from pyruntime.session import InferenceSession


def entrants(*groups: str) -> list[Entrant]:
    return [Entrant(f"entrant{i}", "pyruntime", "file", group) for i, group in enumerate(groups)]


def test_bench(packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    arguments = [str(packed_file), str(packed_file), "--against", "onnxruntime", "--rounds", "2"]
    assert main(["bench", *arguments, "--batch", "2", "--threads", "1", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["threads"] == 1 and report["batch"] == 2 and report["cpu"] and report["isa"]
    assert [row["runtime"] for row in report["rows"]] == ["pyruntime", "onnxruntime"] * 2
    assert report["rows"][0]["ratio"] == 1.0
    for row in report["rows"]:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p99_ms"]
        assert row["runs"] >= 6 and row["ratio"] > 0
    text = capsys.readouterr().out
    assert report["cpu"] in text and "onnxruntime" in text and "median" in text


def test_unknown_peer(packed_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(packed_file), "--against", "deepsparse"]) == 2
    assert "deepsparse" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("openvino") is not None, reason="openvino is installed")
def test_peer_that_is_not_installed(packed_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(packed_file), "--against", "openvino"]) == 2
    assert "pip install openvino" in capsys.readouterr().err


def test_disagreement_is_found() -> None:
    x = np.float32([1, 2, 3])
    check_agreement(entrants("a", "a", "b"), [[x], [x * 1.001], [-x]])
    with pytest.raises(ModelError, match="entrant1 and entrant0 disagree"):
        check_agreement(entrants("a", "a"), [[x], [x[::-1]]])
    with pytest.raises(ModelError, match="disagree"):
        check_agreement(entrants("a", "a"), [[x], [x * np.nan]])
    with pytest.raises(ModelError, match="shape"):
        check_agreement(entrants("a", "a"), [[x], [x[:2]]])
    with pytest.raises(ModelError, match="2 outputs"):
        check_agreement(entrants("a", "a"), [[x], [x, x]])


def test_sample_feed_fills_the_range_of_the_model() -> None:
    values = {
        "x": Value("x", "f32", ["N", 3, "H"]),
        "q": Value("q", "u8", ["N", 3, "H"], 0.5, 100),
        "k": Value("k", "u8", ["N", 4]),
    }
    program = Program("p", ["x", "k"], ["q"], values, {}, [Node("quantize", "quantize", ["x"], ["q"])])
    with pytest.raises(DataError, match="--shape x="):
        sample_feed(program, 2, {})
    feed = sample_feed(program, 2, {"x": [1, 3, 999]})
    assert feed["x"].shape == (1, 3, 999) and feed["x"].dtype == np.float32
    assert -50 <= feed["x"].min() < -45 and 72 < feed["x"].max() <= 77.5
    assert feed["k"].shape == (2, 4) and feed["k"].dtype == np.uint8


def test_a_runtime_that_fails_is_named(
    packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    assert main(["bench", str(packed_file), "--float", str(tmp_path / "bad.onnx"), "--rounds", "1"]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "bad.onnx" in error


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_leaves_no_process(packed_file: Path, python: Callable[..., Any]) -> None:
    """Ctrl-C: one line, status 130, and the workers are gone."""
    # In the background of a script the signal is ignored, and the children would inherit that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = python("-m", "pyruntime", "bench", packed_file, "--rounds", "10000", start_new_session=True)
    signal.signal(signal.SIGINT, inherited)
    try:
        time.sleep(3)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130
        assert len(error.splitlines()) == 1 and "interrupted" in error
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_peers_without_vnni_get_weights_of_seven_bits(
    packed_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the weights, twice the multipliers: the same network up to rounding, which ours is checked by."""
    program = load_program(packed_file)
    reduced = peer_models.seven_bit_weights(program)
    for node in program.nodes:
        if node.op in ("conv", "dense") and program.dtype(node.inputs[0]) == "u8":
            assert np.abs(reduced.constants[node.inputs[1]].array).max() <= 63
    feed = sample_feed(program, 2, {})
    (wanted,) = InferenceSession(program).run(None, feed)
    (found,) = InferenceSession(reduced).run(None, feed)
    assert 0 < np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    for exact, count in ((True, 1), (False, 2)):
        monkeypatch.setattr(peer_models, "adds_exactly", lambda exact=exact: exact)
        made = peer_models.peer_entrants(str(packed_file), ["onnxruntime"], "int8", tmp_path)
        assert [entrant.timed for entrant in made] == [False, True][-count:]
        assert len({entrant.group for entrant in made}) == 1
