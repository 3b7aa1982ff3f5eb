"""Measures how the integer layers of a network run fastest on this CPU, inside runs of the whole network.

Sessions in which every layer takes its n-th candidate run in alternating turns, so that caches hold what
they hold in use, and all candidates meet the same noise: first the kernels and packings, divided among the
threads as costs say, then other divisions of the winners. What is left races the cost models once more, layer
by layer and as a whole. All candidates give the same answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyruntime import _core
from pyruntime.errors import ModelError
from pyruntime.program import Program
from pyruntime.session import make_core
from pyruntime.tuning import Choices

Array = npt.NDArray[np.generic]
Progress = Callable[[str, int, int], None]  # stage, done, total

LAYER_MARGIN = 0.03  # a choice must save so much of the time of its layer
NETWORK_MARGIN = 0.01  # and all of them together so much of the time of the network
ROUNDS = 9  # turns of each candidate
FINAL_ROUNDS = 21  # turns of what is left, and of the cost models
TURN_SECONDS = 0.02  # of one turn
LEAST_RUNS = 3  # of one turn
WARM_UP_RUNS = 2  # before a turn: the sessions of the others have filled the caches


@dataclass
class Layer:
    """Nodes with the same signature, microseconds of all of them together."""

    signature: str
    nodes: list[str]
    choice: str  # of the cost models
    tuned: str
    microseconds: float = 0.0
    tuned_microseconds: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether another choice is clearly faster."""
        return self.tuned != self.choice


@dataclass
class Tuning:
    """What was measured. milliseconds: of the whole network, medians; ratio: after over before, the median of
    paired turns. These are 0 where no layer has a faster choice.
    """

    layers: list[Layer] = field(default_factory=list)
    milliseconds: float = 0.0
    tuned_milliseconds: float = 0.0
    ratio: float = 0.0

    @property
    def faster(self) -> bool:
        """Whether the network as a whole is clearly faster."""
        return 0.0 < self.ratio <= 1.0 - NETWORK_MARGIN

    def choices(self) -> Choices:
        """By signature: what is worth keeping; None where the choice of the cost models stays."""
        return {
            layer.signature: layer.tuned if self.faster and layer.changed else None for layer in self.layers
        }


def tune(
    program: Program,
    feed: Mapping[str, Array],
    isa: str,
    num_threads: int,
    progress: Progress | None = None,
) -> Tuning:
    """Measures the candidates of every integer layer for inputs of these shapes.

    isa, num_threads: as `resolve_isa` and `resolve_num_threads` return them. Raises ModelError for a network
    without integer layers, or one that the core cannot run.
    """
    try:
        return _Race(program, [feed[name] for name in program.inputs], isa, num_threads, progress).tune()
    except _core.CoreError as error:
        raise ModelError(f"{program.name or 'program'}: {error}") from None


class _Race:
    """The sessions of one network and their turns."""

    def __init__(
        self,
        program: Program,
        arrays: Sequence[Array],
        isa: str,
        num_threads: int,
        progress: Progress | None,
    ) -> None:
        self._program, self._arrays = program, list(arrays)
        self._isa, self._num_threads, self._progress = isa, num_threads, progress

    def tune(self) -> Tuning:
        own = self._session({})
        layers = _layers(own)
        if not layers:
            raise ModelError(f"{self._program.name or 'program'}: has no integer layer, so nothing to tune")
        found = {row["signature"]: row for row in own.tuning()}
        candidates = {}
        for signature, row in found.items():
            current = row["choice"].rpartition(", ")[0]  # without its division
            others = [choice for choice, _ in row["rows"] if choice != current]
            candidates[signature] = [row["choice"], *others]
        best = self._fastest("kernels", layers, candidates)
        candidates = {}
        for row in self._session(best).tuning():
            others = [choice for choice in row["divisions"] if choice != row["choice"]]
            candidates[row["signature"]] = [row["choice"], *others]
        best = self._fastest("divisions", layers, candidates)
        self._confirm(layers, best)
        result = Tuning(list(layers.values()))
        if any(layer.changed for layer in result.layers):
            self._race_networks(result)
        return result

    def _session(self, choices: Mapping[str, str], *, profiling: bool = True) -> _core.Session:
        session = make_core(
            self._program,
            self._isa,
            self._num_threads,
            profiling=profiling,
            tuning=choices,
            list_candidates=True,
        )
        session.run(self._arrays)  # makes the plan of these shapes
        return session

    def _fastest(
        self, stage: str, layers: Mapping[str, Layer], candidates: Mapping[str, Sequence[str]]
    ) -> dict[str, str]:
        """The candidate of every layer with the least median time, if it is clearly faster than the first, as
        the core words it, with its division.
        """
        sessions = []
        for n in range(max(map(len, candidates.values()))):
            sessions.append(
                self._session({s: choices[n if n < len(choices) else 0] for s, choices in candidates.items()})
            )
        times = self._layer_times(stage, layers, sessions, ROUNDS)
        worded = [{row["signature"]: row["choice"] for row in session.tuning()} for session in sessions]
        best = {}
        for signature, choices in candidates.items():
            medians = [float(np.median(times[n][signature])) for n in range(len(choices))]
            fastest = int(np.argmin(medians))
            clearly = medians[fastest] <= (1.0 - LAYER_MARGIN) * medians[0]
            best[signature] = worded[fastest if clearly else 0][signature]
        return best

    def _confirm(self, layers: Mapping[str, Layer], best: Mapping[str, str]) -> None:
        """Puts the choices that are clearly faster than those of the cost models into `layers`."""
        sessions = [self._session({}), self._session(best)]
        own, tuned = self._layer_times("confirmation", layers, sessions, FINAL_ROUNDS)
        for signature, layer in layers.items():
            before, after = np.array(own[signature]), np.array(tuned[signature])
            layer.microseconds = layer.tuned_microseconds = float(np.median(before))
            if np.median(after / before) <= 1.0 - LAYER_MARGIN:
                layer.tuned, layer.tuned_microseconds = best[signature], float(np.median(after))

    def _race_networks(self, result: Tuning) -> None:
        """The whole network with and without the choices of `result`, without profiling."""
        choices = {layer.signature: layer.tuned for layer in result.layers if layer.changed}
        sessions = [self._session({}, profiling=False), self._session(choices, profiling=False)]
        medians: list[list[float]] = [[], []]
        for turn in range(FINAL_ROUNDS):
            for n in _order(2, turn):
                medians[n].append(float(np.median(self._turn(sessions[n]))))
            self._report("network", turn + 1, FINAL_ROUNDS)
        before, after = map(np.array, medians)
        result.milliseconds = 1e3 * float(np.median(before))
        result.tuned_milliseconds = 1e3 * float(np.median(after))
        result.ratio = float(np.median(after / before))

    def _layer_times(
        self, stage: str, layers: Mapping[str, Layer], sessions: Sequence[_core.Session], rounds: int
    ) -> list[dict[str, list[float]]]:
        """Per session and signature, the mean microseconds of each turn."""
        times: list[dict[str, list[float]]] = [{s: [] for s in layers} for _ in sessions]
        for turn in range(rounds):
            for n in _order(len(sessions), turn):
                spent = self._profiled_turn(sessions[n])
                for signature, layer in layers.items():
                    times[n][signature].append(sum(spent[node] for node in layer.nodes))
            self._report(stage, turn + 1, rounds)
        return times

    def _profiled_turn(self, session: _core.Session) -> dict[str, float]:
        """Mean microseconds of every node."""
        for _ in range(WARM_UP_RUNS):
            session.run(self._arrays)
        before = _microseconds(session)
        runs = len(self._turn(session, warm_up=0))
        return {node: (after - before[node]) / runs for node, after in _microseconds(session).items()}

    def _turn(self, session: _core.Session, warm_up: int = WARM_UP_RUNS) -> list[float]:
        """Seconds of each run."""
        clock, arrays = time.perf_counter, self._arrays
        for _ in range(warm_up):
            session.run(arrays)
        seconds: list[float] = []
        end = clock() + TURN_SECONDS
        while len(seconds) < LEAST_RUNS or clock() < end:
            start = clock()
            session.run(arrays)
            seconds.append(clock() - start)
        return seconds

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(stage, done, total)


def _layers(session: _core.Session) -> dict[str, Layer]:
    layers: dict[str, Layer] = {}
    for row in session.tuning():
        signature = row["signature"]
        layers.setdefault(signature, Layer(signature, [], row["choice"], row["choice"]))
        layers[signature].nodes.append(row["node"])
    return layers


def _microseconds(session: _core.Session) -> dict[str, float]:
    """Of every node, summed over all runs."""
    return {row["node"]: row["microseconds"] for row in session.profile() if row["op"] != "copy"}


def _order(count: int, turn: int) -> range:
    """Every other round backwards, so that nobody always runs after the same neighbour."""
    return range(count) if turn % 2 == 0 else range(count - 1, -1, -1)
