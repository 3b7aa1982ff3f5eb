"""How near each layer comes to what this machine can do: `python -m bench.roofline`.

    python -m bench.roofline [--network GLOB]... [FILE.pyrt]... [--threads N] [--batch N] [--isa NAME]

Prints the peaks (int8 and float32 products per second, bytes per second from each level of memory), then for
each network the layers that lose most: time, multiply-adds, bytes, limit, share of the limit. NETWORK is one
of `python -m bench.race`, with its cache. Without networks and files: the peaks alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench.race import prepare, sources
from bench.race.__main__ import default_cache, select
from bench.roofline import layers, peaks
from pyruntime.bench.runner import sample_feed
from pyruntime.cli.options import positive_int
from pyruntime.cli.table import table
from pyruntime.errors import PyruntimeError
from pyruntime.loading import load_program
from pyruntime.program import Program
from pyruntime.session import available_isas, cpu_features, resolve_isa, resolve_num_threads


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.roofline", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.pyrt")
    parser.add_argument("--network", action="append", metavar="GLOB", help="a network of bench.race")
    parser.add_argument("--threads", type=positive_int, help="default: all CPUs")
    parser.add_argument("--batch", type=positive_int, default=1, help="samples per run (default 1)")
    parser.add_argument("--isa", help="strongest instruction set")
    parser.add_argument("--top", type=positive_int, default=10, help="layers to print (default 10)")
    parser.add_argument("--runs", type=positive_int, default=10, help="runs to average (default 10)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write all figures to this file")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="that of bench.race")
    return parser.parse_args(arguments)


def peaks_text(found: peaks.Peaks) -> str:
    reads = ", ".join(f"{name} {speed / 1e9:.0f}" for name, _, speed in found.levels)
    return (
        f"products: int8 {found.int8 / 1e9:.0f}, float32 {found.f32 / 1e9:.0f} G multiply-adds/s; "
        f"reads: {reads} GB/s"
    )


def layers_text(rows: list[layers.Layer], top: int) -> str:
    """The layers that lose most, and the sum over all."""
    total = layers.Layer(
        "all",
        "",
        "",
        sum(row.time for row in rows),
        sum(row.macs for row in rows),
        sum(row.weight_bytes for row in rows),
        sum(row.activation_bytes for row in rows),
        sum(row.limit for row in rows),
    )
    worst = sorted(rows, key=lambda row: row.loss, reverse=True)[:top]
    cells = [
        [
            row.node,
            row.op,
            row.kernel,
            row.limited_by,
            f"{1e6 * row.time:.1f}",
            f"{row.macs / 1e6:.2f}",
            f"{row.weight_bytes / 1e3:.0f}",
            f"{row.activation_bytes / 1e3:.0f}",
            f"{1e6 * row.limit:.1f}",
            f"{row.limit / row.time:.0%}" if row.time else "",
            f"{1e6 * row.loss:.1f}",
        ]
        for row in [*worst, total]
    ]
    headings = ["layer", "op", "kernel", "limited by", "us", "M MAC", "weight kB", "activation kB"]
    return table([*headings, "limit us", "of limit", "loss us"], cells, left=4)


def programs(options: argparse.Namespace) -> list[tuple[str, Program, layers.Feed]]:
    """Name, program and input of everything asked for; a network that cannot be made is reported."""
    found = []
    for network in select(options.network) if options.network else []:
        try:
            program = load_program(prepare.packed(network, options.cache))
            found.append((network.name, program, prepare.feed(network, options.cache, options.batch)))
        except sources.Missing as error:
            print(f"{network.name}: skipped: {error}")
    for file in options.files:
        program = load_program(file)
        found.append((file.name, program, sample_feed(program, options.batch, {})))
    return found


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        isa = resolve_isa(options.isa) or available_isas()[-1]
        threads = resolve_num_threads(options.threads) or len(os.sched_getaffinity(0))
        asked = programs(options)
        found = peaks.measure(isa, threads)
        print(f"cpu {cpu_features().get('brand') or 'unknown'}, isa {isa}, threads {threads}")
        print(peaks_text(found))
        result: dict[str, Any] = {"isa": isa, "threads": threads, "batch": options.batch, "networks": {}}
        result["peaks"] = {"int8": found.int8, "f32": found.f32, "levels": found.levels}
        for name, program, feed in asked:
            rows = layers.measure(program, feed, found, threads=threads, isa=isa, runs=options.runs)
            print(f"\n{name}\n{layers_text(rows, options.top)}", flush=True)
            result["networks"][name] = [vars(row) for row in rows]
    except PyruntimeError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
