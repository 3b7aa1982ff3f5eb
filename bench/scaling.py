"""How our time grows with the batch and falls with threads: `python -m bench.scaling`.

    python -m bench.scaling [--network GLOB]... [--threads N] [--batches 1,2,...] [--rounds N] [--cache DIR]

Every (threads, batch) of a network in turns, in one process; medians over the rounds of the best of a turn.
Prints milliseconds per sample, their ratio to those at batch 1, and what the threads gain.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

import pyruntime as prt
from bench.race import prepare
from bench.race.__main__ import default_cache, select
from bench.race.networks import Network
from bench.race.sources import Missing
from pyruntime.cli.options import positive_int
from pyruntime.cli.table import table

TURN_SECONDS = 0.15


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", metavar="GLOB", help="of the race; repeatable")
    parser.add_argument("--threads", type=positive_int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batches", default="1,2,4,8,16,32", help="comma list (default 1,2,4,8,16,32)")
    parser.add_argument("--rounds", type=positive_int, default=5)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of what is built")
    return parser.parse_args(arguments)


def turn(session: prt.InferenceSession, feed: dict[str, np.ndarray]) -> float:
    """Seconds of the fastest run within a turn."""
    best, end = float("inf"), time.perf_counter() + TURN_SECONDS
    while True:
        start = time.perf_counter()
        session.run(None, feed)
        stop = time.perf_counter()
        best = min(best, stop - start)
        if stop > end:
            return best


def measure(network: Network, options: argparse.Namespace) -> str:
    """A row per batch. Raises Missing."""
    path = prepare.packed(network, options.cache)
    batches = [int(text) for text in options.batches.split(",")] if network.any_batch else [1]
    threads = sorted({1, options.threads})
    sessions = {t: prt.InferenceSession(path, prt.SessionOptions(num_threads=t)) for t in threads}
    feeds = {batch: prepare.feed(network, options.cache, batch) for batch in batches}
    times: dict[tuple[int, int], list[float]] = {(t, batch): [] for t in threads for batch in batches}
    for t, batch in times:
        sessions[t].run(None, feeds[batch])
    for _ in range(options.rounds):
        for (t, batch), found in times.items():
            found.append(turn(sessions[t], feeds[batch]) * 1e3 / batch)
    median = {key: float(np.median(found)) for key, found in times.items()}
    cells = []
    for batch in batches:
        row = [str(batch)]
        for t in threads:
            row += [f"{median[t, batch]:.3f}", f"{median[t, batch] / median[t, batches[0]]:.2f}"]
        cells.append([*row, f"{median[1, batch] / median[threads[-1], batch]:.2f}x"])
    headings = ["batch"]
    for t in threads:
        headings += [f"ms a sample, threads {t}", f"to batch {batches[0]}"]
    return table([*headings, f"{threads[-1]} threads gain"], cells, left=0)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    for network in select(options.network):
        try:
            print(f"\n{network.name}\n{measure(network, options)}", flush=True)
        except Missing as error:
            print(f"\n{network.name}\nskipped: {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
