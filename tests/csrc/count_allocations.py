"""Prints the allocations of runs of the core: what test_allocations.py starts, the counter preloaded.

    LD_PRELOAD=counter.so python count_allocations.py THREADS

JSON: network -> [of the first run, of each of twenty later ones on average].
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "pyruntime"))

import numpy as np
from core_programs import core_session
from test_core_networks import network
from transformer_nets import sentences, tiny_bert

import pyruntime as prt
from pyruntime import _core, reference
from pyruntime.program import Program

RUNS = 20


def allocations(program: Program, feed: dict[str, Any], threads: int) -> list[float]:
    session = core_session(program, threads=threads)
    inputs = [feed[name] for name in program.inputs]
    outputs = [np.empty_like(reference.run(program, feed)[name]) for name in program.outputs]
    count = ctypes.CDLL(None).allocation_count

    def run(times: int) -> int:
        before: int = count()
        _core.testing.run_session(session, inputs, outputs, times)
        return int(count()) - before

    first = run(1)
    once, often = run(1), run(1 + RUNS)  # the call itself allocates too
    expected = reference.run(program, feed)
    for name, output in zip(program.outputs, outputs, strict=True):
        np.testing.assert_allclose(output, expected[name], rtol=1e-4, atol=1e-4)
    return [first - once, (often - once) / RUNS]


def main() -> None:
    threads, found = int(sys.argv[1]), {}
    for seed in (3, 7, 11):
        b, program = network(seed)
        found[f"network {seed}"] = allocations(program, b.feed(N=2), threads)
    feed = sentences(4, 16)
    for recipe in ("int8", "float"):
        made = prt.compress(tiny_bert(), recipe, None if recipe == "float" else feed)
        found[f"transformer {recipe}"] = allocations(made.program, feed, threads)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
