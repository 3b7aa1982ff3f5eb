"""Starts one worker per runtime, checks that outputs agree, and lets them run in turns."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pyruntime.errors import DataError, ModelError
from pyruntime.program import DTYPES, RANGES, Program

Array = npt.NDArray[Any]

IDLE_SECONDS = 0.1  # between turns: the spinning threads of the runtime that just ran fall asleep
MIN_RUNS = 3  # per turn
# Smallest cosine between the outputs of two runtimes on one model. Integer runtimes round between layers in
# their own way; OpenVINO computes float networks in bfloat16 where the CPU has it.
MIN_COSINE = 0.99


@dataclass
class Entrant:
    """One runtime on one file. Entrants of one `group` run the same network, and must agree; one that is not
    `timed` is there for the others to agree with.

    float_group: the group that runs the float form of a quantized network, if one does. A network may
    multiply the rounding of its layers so much that two runtimes differ more than MIN_COSINE allows; they
    still agree if they differ less than quantization has moved the outputs.
    min_cosine: the least cosine of its outputs to those of the first of its group.
    """

    label: str
    runtime: str
    file: str
    group: str
    timed: bool = True
    float_group: str = ""
    min_cosine: float = MIN_COSINE
    turns: list[list[float]] = field(default_factory=list)  # seconds, a list per turn

    def row(self, first: Entrant) -> dict[str, Any]:
        """The figures: milliseconds, and `ratio` = its time over the first entrant's, the median of paired
        turns.
        """
        from pyruntime.bench import runtimes

        times = 1e3 * np.concatenate([np.asarray(turn) for turn in self.turns])
        pairs = [np.median(mine) / np.median(its) for mine, its in zip(self.turns, first.turns, strict=True)]
        return {
            "label": self.label,
            "runtime": self.runtime,
            "version": runtimes.version(self.runtime),
            "file": self.file,
            "median_ms": float(np.median(times)),
            "min_ms": float(times.min()),
            "p99_ms": float(np.percentile(times, 99)),
            "runs": len(times),
            "ratio": float(np.median(pairs)),
        }


def measure(
    entrants: Sequence[Entrant],
    feed: dict[str, Array],
    folder: Path,
    *,
    threads: int,
    isa: str | None,
    tuning: str | os.PathLike[str] | None = None,
    rounds: int = 10,
    seconds: float = 0.2,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Times all entrants in turns; returns the rows, in order, ratios against the first entrant.

    feed: the input all of them get. folder: an empty directory for scratch files. tuning: a file of
    `pyruntime tune`, for our own sessions. seconds: length of one turn (at least three runs). rounds: 0
    checks only, and returns no rows. Raises ModelError if a runtime cannot run its file, or if two of a
    group disagree.
    """
    np.savez(folder / "inputs.npz", **cast(dict[str, Any], feed))
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(entrant)) for entrant in entrants]
        for ask, entrant in zip(workers, entrants, strict=True):
            request = {
                "do": "load",
                "runtime": entrant.runtime,
                "file": entrant.file,
                "threads": threads,
                "isa": isa,
                "tuning": None if tuning is None else os.fspath(tuning),
            }
            ask({**request, "inputs": str(folder / "inputs.npz")})
        outputs = []
        for i, ask in enumerate(workers):
            ask({"do": "outputs", "to": str(folder / f"outputs{i}.npz")})
            with np.load(folder / f"outputs{i}.npz") as archive:
                outputs.append([archive[name] for name in archive.files])
        check_agreement(entrants, outputs)
        timed = [i for i, entrant in enumerate(entrants) if entrant.timed]
        for turn in range(rounds):
            # Every other round backwards, so that nobody always runs after the same neighbour.
            order = timed if turn % 2 == 0 else timed[::-1]
            for i in order:
                time.sleep(IDLE_SECONDS)
                reply = workers[i]({"do": "time", "seconds": seconds, "runs": MIN_RUNS})
                entrants[i].turns.append(reply["times"])
            if progress is not None:
                progress(turn + 1, rounds)
    return [entrant.row(entrants[0]) for entrant in entrants if entrant.timed and entrant.turns]


def check_agreement(entrants: Sequence[Entrant], outputs: Sequence[Sequence[Array]]) -> None:
    """Raises ModelError unless the entrants of each group gave the same outputs, up to the rounding of their
    kind.
    """
    leaders: dict[str, int] = {}
    for i, entrant in enumerate(entrants):
        leaders.setdefault(entrant.group, i)

    def moved(leader: int, position: int) -> float:
        """How far quantization has moved an output of a group; 0 if its float form does not run."""
        reference = leaders.get(entrants[leader].float_group)
        return (
            0.0 if reference is None else _distance(outputs[reference][position], outputs[leader][position])
        )

    for i, entrant in enumerate(entrants):
        leader = leaders[entrant.group]
        if len(outputs[i]) != len(outputs[leader]):
            raise ModelError(
                f"{entrant.label} gave {len(outputs[i])} outputs, "
                f"{entrants[leader].label} {len(outputs[leader])}"
            )
        for position, (mine, its) in enumerate(zip(outputs[i], outputs[leader], strict=True)):
            if mine.shape != its.shape:
                raise ModelError(
                    f"output {position}: {entrant.label} gave shape {list(mine.shape)}, "
                    f"{entrants[leader].label} {list(its.shape)}; nothing was timed"
                )
            cosine = _cosine(mine, its)
            if not cosine >= entrant.min_cosine and not _distance(mine, its) <= moved(leader, position):
                raise ModelError(
                    f"output {position}: {entrant.label} and {entrants[leader].label} disagree "
                    f"(cosine {cosine:.4f}, expected at least {entrant.min_cosine}); nothing was timed"
                )


def sample_feed(
    program: Program, batch: int, shapes: dict[str, list[int]], seed: int = 0
) -> dict[str, Array]:
    """Random inputs for a program: symbolic first axes become `batch`; floats fill the range the model
    quantizes to.

    shapes: full shapes by input name, for models with other symbolic axes. Raises DataError if an axis stays
    unknown.
    """
    generator = np.random.default_rng(seed)
    feed: dict[str, Array] = {}
    for name in program.inputs:
        value = program.values[name]
        shape: Sequence[int | str] = shapes.get(name, value.shape)
        if shape and isinstance(shape[0], str):
            shape = [batch, *shape[1:]]
        unknown = [size for size in shape if isinstance(size, str)]
        if unknown:
            raise DataError(
                f"input {name!r} has shape {value.shape}: give {', '.join(unknown)} with --shape {name}=1,..."
            )
        sizes = [int(size) for size in shape]
        if value.dtype == "f32":
            low, high = _quantized_range(program, name)
            feed[name] = generator.uniform(low, high, sizes).astype(np.float32)
        else:
            dtype = DTYPES[value.dtype]
            ends = RANGES[value.dtype] if value.dtype in ("u8", "s8") else (0, 1)
            feed[name] = generator.integers(*ends, sizes, dtype=dtype, endpoint=True)
    return feed


def _quantized_range(program: Program, name: str) -> tuple[float, float]:
    """Reals that the first `quantize` of this input can represent; -2..2 if it is not quantized."""
    for node in program.nodes:
        value = program.values[node.outputs[0]]
        if (
            node.op == "quantize"
            and node.inputs[0] == name
            and value.scale is not None
            and value.dtype == "u8"
        ):
            zero_point = value.zero_point or 0
            return -zero_point * value.scale, (255 - zero_point) * value.scale
    return -2.0, 2.0


@contextlib.contextmanager
def _worker(entrant: Entrant) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """A worker process, as a function from request to reply; it is gone when the block ends."""
    # The worker finds the modules exactly where this process does, whatever directory it is started from.
    code = f"import sys; sys.path[:] = {sys.path!r}; from pyruntime.bench.worker import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdin is not None and process.stdout is not None

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ModelError(
                f"{entrant.label}: its process died with status {process.wait()} on {entrant.file}"
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ModelError(f"{entrant.label}: {entrant.file}: {reply['error']}")
        return reply

    try:
        yield ask
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _distance(a: Array, b: Array) -> float:
    return float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64)))


def _cosine(a: Array, b: Array) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norm == 0.0:
        return 1.0 if np.array_equal(x, y) else 0.0
    return float(x @ y) / norm
