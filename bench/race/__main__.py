"""Race the runtimes on whole networks: `python -m bench.race`.

    python -m bench.race [--network GLOB]... [--threads N] [--batch N] [--isa NAME [--same-isa]] [--rounds N]
        [--json OUT]

Builds or reads each network, compresses it, makes the form each peer is fastest with, checks that the
outputs agree, and times all runtimes in turns, one process each. What it builds stays in --cache. --rounds 0
builds and checks without timing; --json adds to its file.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from bench.race import prepare, report
from bench.race.networks import NETWORKS, TINY, Network, find
from bench.race.sources import Missing
from pyruntime.bench import runner, runtimes
from pyruntime.cli.options import positive_int
from pyruntime.errors import OptionError, PyruntimeError
from pyruntime.session import available_isas, cpu_features, resolve_isa, resolve_num_threads


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.race", description=__doc__.splitlines()[0])
    names = ", ".join(network.name for network in NETWORKS)
    parser.add_argument(
        "--network", action="append", metavar="GLOB", help=f"default: all of {names}; repeatable"
    )
    parser.add_argument("--threads", type=positive_int, help="of every runtime (default: all CPUs)")
    parser.add_argument("--batch", type=positive_int, default=1, help="samples per run (default 1)")
    parser.add_argument("--isa", help="strongest instruction set of ours")
    parser.add_argument(
        "--same-isa",
        action="store_true",
        help="holds OpenVINO to --isa, too (avxvnni, avx512vnni); ONNX Runtime cannot be held",
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="turns per runtime (default 10); 0 only checks"
    )
    parser.add_argument("--against", default="onnxruntime,openvino", help="comma list of peers")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures to this file")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of what is built")
    return parser.parse_args(arguments)


def default_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "pyruntime-race"


def select(globs: list[str] | None) -> list[Network]:
    """The networks that match one of the globs, in the order of the table; the tiny ones by name only."""
    if globs is None:
        return NETWORKS
    found = [n for n in [*NETWORKS, *TINY] if n.name in globs]
    found += [n for n in NETWORKS if n not in found and any(fnmatch(n.name, glob) for glob in globs)]
    if not found:
        names = ", ".join(network.name for network in NETWORKS)
        raise OptionError(f"--network {' '.join(globs)}: no network matches; there are {names}")
    return sorted(found, key=[*NETWORKS, *TINY].index)


def race(network: Network, options: argparse.Namespace, peers: list[str]) -> dict[str, Any]:
    """The network's entry of the report. Raises Missing, PyruntimeError."""
    if options.batch > 1 and not network.any_batch:
        raise Missing("its batch is fixed at 1")
    entrants = prepare.entrants(network, options.cache, peers)
    dense_label = f" on {network.dense}" if network.dense else ""
    if network.dense:
        dense = prepare.entrants(find(network.dense), options.cache, peers)
        for entrant in dense:
            # Of ours, the one with weights of the same 8 bits.
            timed = entrant is dense[0] or entrant.runtime != "pyruntime"
            entrants.append(replace(_renamed(entrant, dense_label), timed=timed))
    with tempfile.TemporaryDirectory() as scratch:
        rows = runner.measure(
            entrants,
            prepare.feed(network, options.cache, options.batch),
            Path(scratch),
            threads=options.threads,
            isa=options.isa,
            rounds=options.rounds,
        )
    if not rows:
        return {"name": network.name, "skipped": f"not timed: {len(entrants)} entrants agree"}
    return report.result(network, rows, dense_label)


def _renamed(entrant: runner.Entrant, ending: str) -> runner.Entrant:
    """The entrant as one on another network."""
    return replace(
        entrant,
        label=entrant.label + ending,
        group=entrant.group + ending,
        float_group=entrant.float_group + ending,
        turns=[],
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        options.isa = resolve_isa(options.isa) or available_isas()[-1]
        options.threads = resolve_num_threads(options.threads) or len(os.sched_getaffinity(0))
        peers = [name for name in options.against.split(",") if name]
        for peer in peers:
            runtimes.check_peer(peer)
        if options.same_isa:
            runtimes.hold_openvino(options.isa)
        networks = select(options.network)
    except OptionError as error:
        print(error, file=sys.stderr)
        return 2
    conditions = {
        "cpu": cpu_features().get("brand") or "unknown",
        "isa": options.isa + (", also OpenVINO's" if options.same_isa else ""),
        "threads": options.threads,
        "batch": options.batch,
        "versions": {name: runtimes.version(name) for name in ["pyruntime", *peers]},
    }
    print(", ".join(f"{key} {value}" for key, value in conditions.items() if key != "versions"))
    results, failed = [], False
    for network in networks:
        try:
            entry = race(network, options, peers)
        except Missing as error:
            entry = {"name": network.name, "skipped": f"skipped: {error}"}
        except PyruntimeError as error:
            entry, failed = {"name": network.name, "skipped": f"failed: {error}"}, True
        results.append(entry)
        print(f"\n{network.name}\n{entry.get('skipped') or report.rows_text(entry['rows'])}", flush=True)
    if options.rounds and options.json:
        report.add_to_file(options.json, conditions, results)
    if options.rounds:
        print(f"\n{report.summary(results)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
