"""`pyruntime bench`: latency, ours and the peers', in turns."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyruntime.cli.options import (
    Subparsers,
    add_command,
    add_feed_options,
    add_session_options,
    input_shapes,
    positive_int,
    session_options,
)
from pyruntime.cli.output import check_output, write_text
from pyruntime.cli.table import table

if TYPE_CHECKING:
    from pyruntime.bench.runner import Entrant


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers,
        common,
        "bench",
        "latency in turns, one process per runtime, outputs checked before timing",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help=".pyrt or .onnx; ratios are against the first"
    )
    parser.add_argument("--against", default="", metavar="LIST", help="comma list of: onnxruntime, openvino")
    parser.add_argument(
        "--float", dest="float_model", metavar="MODEL.onnx", help="float baseline, ours and the peers'"
    )
    add_feed_options(parser)
    parser.add_argument(
        "--rounds", type=positive_int, default=10, metavar="N", help="turns per runtime (default 10)"
    )
    parser.add_argument("--json", metavar="OUT", help="also write the figures to this file")
    add_session_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.bench import runner, runtimes
    from pyruntime.cli.progress import progress
    from pyruntime.loading import load_program
    from pyruntime.session import InferenceSession, cpu_features

    peers = [name for name in arguments.against.split(",") if name]
    for peer in peers:
        runtimes.check_peer(peer)
    if arguments.json:
        check_output("--json", arguments.json, *arguments.files, arguments.float_model)
    shapes = input_shapes(arguments)
    options = session_options(arguments)
    program = load_program(arguments.files[0])
    session = InferenceSession(program, options)
    feed = runner.sample_feed(program, arguments.batch, shapes)
    with tempfile.TemporaryDirectory() as scratch, progress() as report:
        folder = Path(scratch)
        rows = runner.measure(
            _entrants(arguments, peers, folder),
            feed,
            folder,
            threads=session.num_threads,
            isa=session.isa,
            tuning=options.tuning,
            rounds=arguments.rounds,
            progress=None if report is None else lambda done, total: report("rounds", done, total),
        )
    result = {
        "cpu": cpu_features().get("brand") or "unknown",
        "isa": session.isa,
        "threads": session.num_threads,
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "rows": rows,
    }
    print(f"CPU: {result['cpu']}, isa {session.isa}, {session.num_threads} threads, batch {arguments.batch}")
    print(format_rows(rows))
    if arguments.json:
        write_text(arguments.json, json.dumps(result, indent=2) + "\n")
    return 0


def format_rows(rows: list[dict[str, Any]]) -> str:
    """The table of `runner.measure`; `ratio` above 1 means slower than the first row."""
    cells = [
        [
            row["label"],
            row["version"],
            f"{row['median_ms']:.3f}",
            f"{row['min_ms']:.3f}",
            f"{row['p99_ms']:.3f}",
            row["runs"],
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]
    return table(
        ["runtime, file", "version", "median ms", "min ms", "p99 ms", "runs", "ratio"], cells, left=2
    )


def _entrants(arguments: argparse.Namespace, peers: list[str], folder: Path) -> list[Entrant]:
    """Ours on every file; each peer on the same network: the ONNX file itself, or the QDQ form of a packed
    one.
    """
    from pyruntime.bench.peer_models import peer_entrants
    from pyruntime.bench.runner import Entrant
    from pyruntime.loading import is_onnx

    entrants = []
    files = [*arguments.files, *([arguments.float_model] if arguments.float_model else [])]
    for file in files:
        name = Path(file).name
        entrants.append(Entrant(f"pyruntime {name}", "pyruntime", file, file))
        if is_onnx(file):
            entrants += [Entrant(f"{peer} {name}", peer, file, file) for peer in peers]
        elif peers:
            entrants += peer_entrants(file, peers, name, folder)
    return entrants
