"""`pyruntime demo`. Only the cheap recovery steps and few rounds: the whole of it takes up to a minute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pyruntime import demo
from pyruntime.cli import main


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "RECOVER", ["bn"])
    monkeypatch.setattr(demo, "BENCH_ROUNDS", 1)


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    assert list(tmp_path.iterdir()) == []
    assert report["samples"] == 1000
    assert report["float_accuracy"] > 0.93
    assert report["accuracy"] > 0.85
    assert report["sparsity"] > 0.7
    assert report["float_bytes"] == (demo.DATA / demo.NETWORK).stat().st_size
    assert report["bytes"] < report["float_bytes"] / 10
    assert report["latency_ms"] > 0 and report["float_latency_ms"] > 0
    assert report["peers"]["onnxruntime"].keys() == {"float32", "int8"}
    assert "layers" not in report


def test_table_and_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--layers", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    for words in (
        "accuracy (1000 test images)",
        "file size",
        "latency",
        "onnxruntime int8",
        "1 threads",
        "block4",
    ):
        assert words in out, words


def test_data() -> None:
    """All classes are there, and the pixels are normalized as in training."""
    data = demo.test_data()
    assert data.inputs["input"].shape == (1000, 1, 28, 28) and data.inputs["input"].dtype == np.float32
    assert data.labels is not None and set(data.labels) == set(range(10))
    assert data.inputs["input"].min() == pytest.approx((0 - 0.2860) / 0.3530)
    assert abs(float(data.inputs["input"].mean())) < 0.1
