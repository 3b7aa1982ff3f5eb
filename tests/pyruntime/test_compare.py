"""The figures of `compare`, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from pyruntime.compare import Difference, _limits, batches, compare_programs
from pyruntime.errors import DataError, ModelError
from pyruntime.loading import Data
from pyruntime.program import Constant, Node, Program, Value
from pyruntime.session import InferenceSession

RNG = np.random.default_rng(0)


def difference(reference: np.ndarray, candidate: np.ndarray) -> Difference:
    total = Difference()
    for r, c in zip(np.array_split(reference, 3), np.array_split(candidate, 3), strict=True):
        total.add(r, c)
    return total


def test_figures_over_batches() -> None:
    r = RNG.normal(0, 1, (10, 7))
    c = r + RNG.normal(0, 0.1, r.shape)
    found = difference(r, c)
    assert found.sqnr_db == pytest.approx(10 * np.log10((r**2).sum() / ((r - c) ** 2).sum()))
    assert found.cosine == pytest.approx((r * c).sum() / np.linalg.norm(r) / np.linalg.norm(c))
    assert found.max_error == pytest.approx(np.abs(r - c).max())


def test_figures_at_the_edges() -> None:
    zeros, ones = np.zeros((3, 2)), np.ones((3, 2))
    same = difference(ones, ones)
    assert same.sqnr_db is None and same.cosine == pytest.approx(1)
    assert difference(zeros, zeros).sqnr_db is None and difference(zeros, zeros).cosine == 1
    assert difference(zeros, ones).sqnr_db == -999.0 and difference(zeros, ones).cosine == 0
    assert Difference().row("empty")["sqnr_db"] is None


def test_saturation_and_dead_channels() -> None:
    """Channel 1 is constant in the candidate alone, channel 2 in both; 2.6 and -0.6 are out of reach."""
    reference = np.array([[0.0, 1.0, 5.0], [2.6, 2.0, 5.0], [-0.6, 0.5, 5.0]])
    candidate = np.array([[0.0, 1.0, 5.0], [2.0, 1.0, 5.0], [0.0, 1.0, 5.0]])
    found = Difference(axis=1, limits=(-0.5, 2.5))
    found.add(reference[:, :2], candidate[:, :2])
    assert found.saturated == 2 and found.dead_channels == [1]
    found = Difference(axis=1)
    found.add(reference, candidate)
    assert found.row("r")["saturated"] is None and found.dead_channels == [1]


def test_limits_of_quantized_values() -> None:
    np.testing.assert_allclose(_limits(Value("q", "u8", ["N"], 0.01, 0)), (-0.005, 2.555))
    np.testing.assert_allclose(_limits(Value("q", "s8", ["N"], 1.0, 3)), (-131.5, 124.5))
    assert _limits(Value("f", "f32", ["N"])) is None


def scaling(factor: float, batch: int | str = "N") -> Program:
    """y = relu(x * factor), z = y + 1."""
    names = ["x", "p", "y", "z"]
    values = {name: Value(name, "f32", [batch, 3]) for name in names}
    constants = {
        "f": Constant("f", np.full(3, factor, np.float32)),
        "one": Constant("one", np.ones(3, np.float32)),
    }
    nodes = [
        Node("mul", "mul", ["x", "f"], ["p"]),
        Node("relu", "unary", ["p"], ["y"], {"function": "relu"}),
        Node("add", "add", ["y", "one"], ["z"]),
    ]
    return Program("scaling", ["x"], ["z"], values, constants, nodes)


def data(samples: int = 70, labels: bool = True) -> Data:
    x = RNG.normal(0, 1, (samples, 3)).astype(np.float32)
    return Data({"x": x}, x.argmax(axis=1) if labels else None, "data.npz")


def test_accuracy_agreement_and_layers() -> None:
    samples = data()
    samples.inputs["x"] += 3 * (samples.inputs["x"] == samples.inputs["x"].max(axis=1, keepdims=True))
    report = compare_programs(scaling(1.0), scaling(-1.0), samples)
    assert report["reference_accuracy"] == 1.0
    assert report["candidate_accuracy"] < 0.5
    assert report["agreement"] == pytest.approx(report["candidate_accuracy"])
    assert {row["name"] for row in report["layers"]} == {"p", "y"}
    worst = report["layers"][0]
    assert worst["name"] == "p" and worst["sqnr_db"] == pytest.approx(-6.02, abs=0.01)
    assert worst["cosine"] == pytest.approx(-1)


def test_without_labels() -> None:
    report = compare_programs(scaling(1.0), scaling(2.0), data(labels=False))
    assert report["reference_accuracy"] is None and report["candidate_accuracy"] is None
    assert report["agreement"] > 0.9


def test_fixed_batch() -> None:
    session = InferenceSession(scaling(1.0, batch=7))
    assert [len(feed["x"]) for feed in batches(data(14), session)] == [7, 7]
    with pytest.raises(DataError, match="do not fill"):
        list(batches(data(15), session))
    assert compare_programs(scaling(1.0, batch=7), scaling(1.0, batch=7), data(14))["agreement"] == 1.0


def test_different_interfaces() -> None:
    other = scaling(1.0)
    other.inputs = ["other"]
    with pytest.raises(ModelError, match="different inputs"):
        compare_programs(scaling(1.0), other, data())
