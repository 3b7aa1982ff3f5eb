"""`pyruntime tune`: chooses kernels by measurement, and keeps the choices in a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pyruntime.cli.options import (
    Subparsers,
    add_command,
    add_feed_options,
    add_session_options,
    input_shapes,
    session_options,
)
from pyruntime.cli.output import check_output, write_text
from pyruntime.cli.table import table

if TYPE_CHECKING:
    from pyruntime.tune import Layer, Tuning
    from pyruntime.tuning import Choices, Machine

DESCRIPTION = """\
Measures how every integer layer runs fastest on this CPU, inside runs of the whole network, and writes the
choices to a file for --tuning and SessionOptions(tuning=...). Answers stay the same, bit for bit.

A choice is kept if it saves 3 % of the time of its layer, and all of them only if they save 1 % of the time
of the network. Keep the machine quiet meanwhile."""


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers, common, "tune", "measure which kernels run a model fastest on this CPU", DESCRIPTION
    )
    parser.add_argument("file", metavar="MODEL.pyrt")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="file to add the choices to (default: MODEL.tuning.json beside the model)",
    )
    add_feed_options(parser)
    add_session_options(parser, tuning=False)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.bench.runner import sample_feed
    from pyruntime.cli.progress import progress
    from pyruntime.loading import load_program
    from pyruntime.session import resolve_isa, resolve_num_threads, resolved_machine
    from pyruntime.tune import tune
    from pyruntime.tuning import file_text, read_file

    output = arguments.output or str(Path(arguments.file).with_suffix(".tuning.json"))
    shapes = input_shapes(arguments)
    options = session_options(arguments)
    isa, num_threads = resolve_isa(options.isa), resolve_num_threads(options.num_threads)
    machine = resolved_machine(isa, num_threads)
    program = load_program(arguments.file)
    check_output("-o", output, arguments.file)
    written = Path(output).exists() and Path(output).stat().st_size > 0
    machines = read_file(output) if written else {}
    feed = sample_feed(program, arguments.batch, shapes)
    with progress() as report:
        result = tune(program, feed, isa, num_threads, report)
    kept = _merge(machines, machine, result)
    write_text(output, file_text(machines))
    print(f"{machine}, batch {arguments.batch}")
    print(format_result(result))
    print(f"{output}: {kept} of {len(result.layers)} different integer layers run otherwise than costs say")
    return 0


def _merge(machines: dict[Machine, Choices], machine: Machine, result: Tuning) -> int:
    """Adds what was measured; returns how many choices are new. Where the network as a whole did not become
    faster, what older runs found stays.
    """
    known = machines.setdefault(machine, {})
    for signature, choice in result.choices().items():
        if result.faster or signature not in known:
            known[signature] = choice
    return sum(choice is not None for choice in result.choices().values())


def format_result(result: Tuning) -> str:
    """The layers whose choice changed, and the whole network before and after."""
    changed = [layer for layer in result.layers if layer.changed]
    if not changed:
        return "no layer has a choice that is clearly faster than that of the cost models"
    rows = [_row(layer) for layer in changed]
    text = table(["layer", "choice of the cost models", "tuned choice", "us", "tuned us"], rows, left=3)
    text += (
        f"\nwhole network: {result.milliseconds:.3f} ms before, {result.tuned_milliseconds:.3f} ms after, "
        f"ratio {result.ratio:.3f} (median of turns)"
    )
    return text if result.faster else f"{text}\nthe network is not clearly faster: no choice is kept"


def _row(layer: Layer) -> list[object]:
    others = f" and {len(layer.nodes) - 1} more" if len(layer.nodes) > 1 else ""
    count = len(layer.nodes)
    return [
        layer.nodes[0] + others,
        layer.choice,
        layer.tuned,
        f"{layer.microseconds / count:.1f}",
        f"{layer.tuned_microseconds / count:.1f}",
    ]
