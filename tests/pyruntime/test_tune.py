"""The measuring run: what it keeps, given times that a test makes up, and what it gives on a real network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pyruntime as prt
from pyruntime import tune as module
from pyruntime.program import Program
from pyruntime.tune import Layer, Tuning, tune


class Times(module._Race):
    """A race whose turns take the times of `choice_times`, by the text of a choice; others take 100 us."""

    choice_times: dict[str, float]
    network: dict[bool, float]  # seconds, by whether any choice is tuned

    def _profiled_turn(self, session: Any) -> dict[str, float]:
        return {
            row["node"]: next((t for text, t in self.choice_times.items() if text in row["choice"]), 100.0)
            for row in session.tuning()
        }

    def _turn(self, session: Any, warm_up: int = 0) -> list[float]:
        return [self.network[any(row["tuned"] for row in session.tuning())]]


def race(
    monkeypatch: pytest.MonkeyPatch, program: Program, times: dict[str, float], network: dict[bool, float]
) -> Tuning:
    monkeypatch.setattr(Times, "choice_times", times, raising=False)
    monkeypatch.setattr(Times, "network", network, raising=False)
    monkeypatch.setattr(module, "_Race", Times)
    return tune(program, feed(), "avx2" if "avx2" in prt.available_isas() else "scalar", 2)


def feed() -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(0).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)}


needs_avx2 = pytest.mark.skipif("avx2" not in prt.available_isas(), reason="names AVX2 kernels")
OTHER = "conv_int8_u8s8s32_1x16x4__avx2"


@needs_avx2
def test_faster_kernels_and_divisions_are_kept(
    monkeypatch: pytest.MonkeyPatch, random_program: Callable[[], Program]
) -> None:
    times = {f"{OTHER}, folded, 2x1": 40.0, OTHER: 50.0}
    result = race(monkeypatch, random_program(), times, {False: 1.0, True: 0.5})
    assert result.faster and result.ratio == 0.5
    kept = [choice for choice in result.choices().values() if choice is not None]
    assert kept and all(choice.startswith(OTHER) for choice in kept)
    assert f"{OTHER}, folded, 2x1" in kept
    for layer in result.layers:
        assert layer.changed == (result.choices()[layer.signature] is not None)


@needs_avx2
def test_gains_below_the_margin_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, random_program: Callable[[], Program]
) -> None:
    result = race(monkeypatch, random_program(), {OTHER: 98.0}, {False: 1.0, True: 0.5})
    assert not result.faster and result.layers and set(result.choices().values()) == {None}


@needs_avx2
def test_a_network_that_is_not_faster_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, random_program: Callable[[], Program]
) -> None:
    result = race(monkeypatch, random_program(), {OTHER: 50.0}, {False: 1.0, True: 0.995})
    assert any(layer.changed for layer in result.layers)
    assert not result.faster and set(result.choices().values()) == {None}


def test_real_times(random_program: Callable[[], Program], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "FINAL_ROUNDS", 2)
    monkeypatch.setattr(module, "TURN_SECONDS", 0.0)
    stages: list[str] = []
    result = tune(random_program(), feed(), "", 2, lambda stage, done, total: stages.append(stage))
    assert [layer.nodes for layer in result.layers] == [["conv1"], ["conv2"], ["fc"]]
    assert all(layer.microseconds > 0 and layer.tuned_microseconds > 0 for layer in result.layers)
    assert stages[:6] == ["kernels", "kernels", "divisions", "divisions", "confirmation", "confirmation"]


def test_equal_layers_are_one() -> None:
    layers = [Layer("a", ["x", "y"], "k, plain, 1x1", "k, plain, 2x1", 2.0, 1.0)]
    assert Tuning(layers, 1.0, 0.9, 0.9).choices() == {"a": "k, plain, 2x1"}


def test_network_without_integer_layers(float_file: Any) -> None:
    from pyruntime.loading import load_program

    x = np.zeros((1, 4, 8, 8), np.float32)
    with pytest.raises(prt.ModelError, match="no integer layer"):
        tune(load_program(float_file), {"input": x}, "", 1)
