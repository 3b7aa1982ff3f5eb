"""What a layer in a form costs, against the same network rounded by other means and run in ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from toolmodels import make_run, residual_net

from pyruntime import graph
from pyruntime.cli import main
from pyruntime.layers import Layer, find_layers
from pyruntime.recover.common import get_bias, set_layer
from pyruntime.search import sensitivity
from pyruntime.search.options import Option, combined
from pyruntime.search.sensitivity import Row, interpolate, measure, split, spread_out
from pyruntime.search.trial import Trial

OPTIONS = [
    *combined([""], ["int8", "int4", "int2", "none"]),
    *combined(["weight=0.5", "2:4"], ["int8", "none"]),
]
SAMPLES = 32


@pytest.fixture(scope="module")
def case() -> tuple[ir.Model, dict[str, np.ndarray], list[Row]]:
    rng = np.random.default_rng(0)
    model = residual_net(rng)
    data = {"x": rng.normal(size=(SAMPLES, 3, 16, 16)).astype(np.float32)}
    return model, data, measure(model, data, OPTIONS, make_run=make_run)


def find(rows: list[Row], layer: str, option: str) -> Row:
    (row,) = [row for row in rows if (row.layer, row.option.label) == (layer, option)]
    return row


def test_rows(case: tuple[ir.Model, dict[str, np.ndarray], list[Row]]) -> None:
    model, _, rows = case
    labels = [option.label for option in OPTIONS]
    assert list(dict.fromkeys(row.layer for row in rows)) == [layer.name for layer in find_layers(model)]
    assert [row.option.label for row in rows if row.layer == "body"] == labels
    # Three input channels hold no pattern of four; a depthwise layer is not pruned.
    assert [row.option.label for row in rows if row.layer == "stem"] == labels[:6]
    assert [row.option.label for row in rows if row.layer == "depthwise"] == labels[:4]


def test_losses_are_in_order(case: tuple[ir.Model, dict[str, np.ndarray], list[Row]]) -> None:
    model, _, rows = case
    for layer in (layer.name for layer in find_layers(model)):
        found = [find(rows, layer, option) for option in ("none", "int8", "int4", "int2")]
        losses = [row.loss for row in found]
        assert losses[0] < 1e-12 and losses == sorted(losses) and losses[1] < losses[3] / 10
        sizes = [row.bytes for row in found[1:]]
        assert sizes == sorted(sizes, reverse=True) and sizes[0] < found[0].float_bytes
    assert find(rows, "body", "2:4 int8").zeros == pytest.approx(0.5, abs=0.01)
    # Any half of the weights is a wider choice than two of every four.
    assert find(rows, "body", "weight=0.5 none").loss < find(rows, "body", "2:4 none").loss


def test_losses_between_anchors(case: tuple[ir.Model, dict[str, np.ndarray], list[Row]]) -> None:
    """Measured at the anchors, near what would be measured between them, and in the order of the layer's own
    errors.
    """
    model, data, _ = case
    options = combined(["", "weight=0.5"], ["int8", "int6", "int5", "int4", "int3", "int2"])
    full = measure(model, data, options, make_run=make_run)
    some = measure(model, data, options, anchors=4, make_run=make_run)
    ratios = np.array([mine.loss / theirs.loss for mine, theirs in zip(some, full, strict=True)])
    assert np.isclose(ratios, 1, rtol=1e-6).mean() > 0.3
    assert ratios.min() > 0.5 and ratios.max() < 2
    assert spread_out(np.array([5.0, 1.0, 100.0, 0.0, 90.0, 10.0]), 2) == [3, 2]
    assert interpolate(np.array([1.0, 10.0, 100.0]), np.array([1.0, 100.0]), np.array([3.0, 300.0])) == (
        pytest.approx([3.0, 30.0, 300.0])
    )


def test_loss_is_that_of_the_network_with_this_layer_changed(
    case: tuple[ir.Model, dict[str, np.ndarray], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data, _ = case
    half = split(data, 1)[1]

    class Shrinking:
        def __init__(self, layer: Layer, sums: object, samples: int) -> None:
            self.layer = layer

        def trial(self, option: Option) -> Trial:
            return Trial(self.layer.array() * np.float32(0.9), get_bias(self.layer) + 0.1, 7)

    monkeypatch.setattr(sensitivity, "Subject", Shrinking)
    rows = measure(model, data, OPTIONS[:1])
    wanted = make_run(model)(half)["y"]
    for row in rows:
        copy = graph.clone(model)
        layer = next(layer for layer in find_layers(copy) if layer.name == row.layer)
        set_layer(copy, layer, layer.array() * 0.9, get_bias(layer) + 0.1)
        found = make_run(copy)(half)["y"]
        expected = np.square(wanted - found).sum() / np.square(wanted).sum()
        assert row.loss == pytest.approx(expected, rel=1e-4) and row.loss > 1e-5 and row.bytes == 7


def test_loss_is_measured_on_other_samples(case: tuple[ir.Model, dict[str, np.ndarray], list[Row]]) -> None:
    """What the layer is fitted on has no say: zeros that are free there cost what they cost elsewhere."""
    model, data, _ = case
    x = data["x"].copy()
    losses = []
    for blind in (slice(None), slice(None, None, 2)):  # all samples, or those that the layer is fitted on
        x[:, 1:] = data["x"][:, 1:]
        x[blind, 1:] = 0  # do not see two of three channels
        rows = measure(model, {"x": x}, [Option("none", "weight=0.5")])
        losses.append(next(row.loss for row in rows if row.layer == "stem"))
    assert losses[1] > 5 * losses[0]


def test_it_repeats_and_leaves_the_model_alone(
    case: tuple[ir.Model, dict[str, np.ndarray], list[Row]],
) -> None:
    model, data, rows = case
    before = [layer.array().copy() for layer in find_layers(model)]
    assert measure(model, data, OPTIONS[:2], make_run=make_run) == [
        row for row in rows if row.option in OPTIONS[:2]
    ]
    for layer, array in zip(find_layers(model), before, strict=True):
        assert np.array_equal(layer.array(), array)


def test_command(
    float_file: Path, calibration_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.json"
    command = ["sensitivity", str(float_file), "--calibration", str(calibration_file), "-o", str(out)]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "conv1" in captured.out and "block4=0.75 int8" in captured.out
    rows = json.loads(out.read_text())["rows"]
    assert {"layer", "option", "loss", "bytes", "microseconds", "zeros"} <= set(rows[0])
    assert all(row["loss"] >= 0 and row["bytes"] > 0 and row["microseconds"] > 0 for row in rows)
    assert main([*command[:4], "-o", str(tmp_path / "absent" / "t.json")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["sensitivity", str(float_file), "--calibration", str(float_file)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
