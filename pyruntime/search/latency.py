"""How long each form of each layer takes on this CPU, inside the whole network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pyruntime.program import Program
from pyruntime.recipe import Recipe
from pyruntime.search.options import Option
from pyruntime.session import InferenceSession, SessionOptions

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]

ROUNDS = 25  # runs of each form, in turns
WARM_UP = 3
LEAST_SECONDS = 1.0  # of turns of whole networks
# Threads of the linear algebra spin for a while after their last work, and take the CPU from ours.
IDLE_SECONDS = 0.3
FEW = 8  # samples that choose activation ranges: times hardly depend on them


class Compress(Protocol):
    """Compresses the network at hand by a recipe that searches for nothing."""

    def __call__(self, recipe: Recipe, data: Mapping[str, Array]) -> Program: ...


def form(option: Option) -> Option:
    """What decides the time: the pattern of the zeros, and integers or float32. Weights of fewer bits run in
    the same kernels.
    """
    return replace(option, quantize="int8" if option.quantize_spec.integer else "none")


def layer_times(
    compress: Compress,
    data: Mapping[str, Array],
    options: Sequence[Option],
    *,
    session: SessionOptions | None = None,
    progress: Progress | None = None,
) -> tuple[dict[tuple[str, Option], float], dict[Option, float]]:
    """Median microseconds of every layer in every form (see `form`), one sample at a time, and those of the
    whole network with all layers in that form.

    All forms run in turns. Layers that a form does not fit keep their time without zeros.
    """
    forms = list(dict.fromkeys(form(option) for option in options))
    few = {name: array[:FEW] for name, array in data.items()}
    sessions = []
    for number, which in enumerate(forms):
        sessions.append(_session(compress(_recipe(which), few), session))
        if progress is not None:
            progress(number + 1, len(forms) + ROUNDS)
    feed = {name: np.ascontiguousarray(array[:1]) for name, array in data.items()}
    times: dict[tuple[str, Option], list[float]] = {}
    totals: dict[Option, list[float]] = {}
    time.sleep(IDLE_SECONDS)
    for turn in range(ROUNDS):
        for which, runner in zip(forms, sessions, strict=True):
            for _ in range(WARM_UP if turn == 0 else 1):
                before = _profile(runner)
                runner.run(None, feed)
            spent = {node: after - before.get(node, 0.0) for node, after in _profile(runner).items()}
            for node, microseconds in spent.items():
                times.setdefault((node, which), []).append(microseconds)
            totals.setdefault(which, []).append(sum(spent.values()))
        if progress is not None:
            progress(len(forms) + turn + 1, len(forms) + ROUNDS)
    return _medians(times), _medians(totals)


def whole_times(programs: Sequence[Program], data: Mapping[str, Array]) -> list[float]:
    """Median microseconds of each program for one sample, all in turns."""
    feed = {name: np.ascontiguousarray(array[:1]) for name, array in data.items()}
    sessions = [InferenceSession(program) for program in programs]
    time.sleep(IDLE_SECONDS)
    for session in sessions * WARM_UP:
        session.run(None, feed)
    times: list[list[float]] = []
    begin = time.perf_counter()
    while len(times) < ROUNDS or time.perf_counter() - begin < LEAST_SECONDS:
        turn = []
        for session in sessions:
            start = time.perf_counter()
            session.run(None, feed)
            turn.append(1e6 * (time.perf_counter() - start))
        times.append(turn)
    return [float(value) for value in np.median(times, axis=0)]


def _recipe(which: Option) -> Recipe:
    prune = [f"{which.prune},scope=layer"] if which.prune else []
    quantize = "int8,calibrate=minmax" if which.quantize == "int8" else which.quantize
    return Recipe(prune=prune, quantize=quantize, recover=[])


def _session(program: Program, options: SessionOptions | None) -> InferenceSession:
    return InferenceSession(program, replace(options or SessionOptions(), enable_profiling=True))


def _profile(runner: InferenceSession) -> dict[str, float]:
    return {row["node"]: float(row["microseconds"]) for row in runner.profile()}


def _medians(times: Mapping[Any, Sequence[float]]) -> dict[Any, float]:
    return {key: float(np.median(values)) for key, values in times.items()}
