"""Time until a session runs, and its memory: `python -m bench.startup`.

    python -m bench.startup [--network GLOB]... [--threads N] [--runs N] [--cache DIR]

For every network of the race, ours and ONNX Runtime's int8 in turns, a fresh process each time: `import`,
making the session, the first run, and the peak of resident memory. Then the speed of our entropy decoder on
the weights of the file, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.race import prepare
from bench.race.__main__ import default_cache, select
from bench.race.networks import Network
from bench.race.sources import Missing
from pyruntime.bench import runtimes
from pyruntime.cli.options import positive_int
from pyruntime.cli.table import table
from pyruntime.pack import entropy
from pyruntime.pack.codecs import stored
from pyruntime.pack.container import deserialize

KEYS = ("import", "session", "first_run", "peak")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__.splitlines()[0])
    parser.add_argument("--network", action="append", metavar="GLOB", help="of the race; repeatable")
    parser.add_argument("--threads", type=positive_int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=positive_int, default=7, help="processes per runtime (default 7)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of what is built")
    return parser.parse_args(arguments)


def child(runtime: str, model: str, feed: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.startup.child", runtime, model, str(feed), str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(network: Network, options: argparse.Namespace) -> str:
    """Medians per runtime. Raises Missing."""
    peers = [name for name in ("onnxruntime",) if runtimes.is_installed(name)]
    entrants = [e for e in prepare.entrants(network, options.cache, peers) if "int8" in e.label and e.timed]
    found: dict[str, list[dict[str, float]]] = {entrant.label: [] for entrant in entrants}
    with tempfile.TemporaryDirectory() as folder:
        feed = Path(folder) / "feed.npz"
        arrays: dict[str, Any] = prepare.feed(network, options.cache, 1)
        np.savez(feed, **arrays)
        for _ in range(options.runs):
            for entrant in entrants:
                found[entrant.label].append(child(entrant.runtime, entrant.file, feed, options.threads))
    cells = []
    for label, runs in found.items():
        medians = [float(np.median([run[key] for run in runs])) for key in KEYS]
        cells.append(
            [label, *(f"{value:.1f}" for value in medians), f"{min(r['session'] for r in runs):.1f}"]
        )
    headings = ["runtime", "import ms", "session ms", "first run ms", "peak MB", "session ms, least"]
    return table(headings, cells, left=1)


def decoder(path: str) -> str:
    """Speed of the decoder on the entropy-coded weights of a file."""
    tensors, _ = deserialize(Path(path).read_bytes())
    document = json.loads(_inflated(tensors["__program__"]))
    blocks = []
    for name, entry in document["constants"].items():
        data = tensors.get(f"{name}.data")
        if entry["codec"] == "packed" and data is not None and data[0] == stored.ENTROPY:
            rows, *rest = entry["shape"]
            blocks.append((data[1:], rows, int(np.prod(rest))))
    if not blocks:
        return "no entropy-coded weights beyond the pool"
    symbols = sum(rows * columns for _, rows, columns in blocks)
    seconds = min(_seconds(blocks) for _ in range(5))
    coded = sum(block.nbytes for block, _, _ in blocks)
    return (
        f"entropy decoder, 1 thread: {symbols / seconds / 1e6:.0f} MB/s of weights "
        f"({symbols / 1e6:.1f} MB from {coded / 1e6:.1f} MB in {seconds * 1e3:.1f} ms)"
    )


def _inflated(data: Any) -> bytes:
    import zlib

    return zlib.decompress(data.tobytes())


def _seconds(blocks: list[tuple[Any, int, int]]) -> float:
    largest = max(rows * columns for _, rows, columns in blocks)
    memory = np.zeros(largest, np.uint8)
    start = time.perf_counter()
    for block, rows, columns in blocks:
        entropy.decompress(block, rows, columns, memory[: rows * columns])
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    for network in select(options.network):
        try:
            rows = measure(network, options)
            print(f"\n{network.name}\n{rows}\n{decoder(prepare.packed(network, options.cache))}", flush=True)
        except Missing as error:
            print(f"\n{network.name}\nskipped: {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
