"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pyruntime.errors import OptionError

if TYPE_CHECKING:
    from pyruntime.session import SessionOptions

Subparsers = Any  # argparse gives the class no public name


def add_command(
    subparsers: Subparsers, common: argparse.ArgumentParser, name: str, summary: str, description: str = ""
) -> argparse.ArgumentParser:
    """A subcommand whose help starts with `summary`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        parents=[common],
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_session_options(parser: argparse.ArgumentParser, *, tuning: bool = True) -> None:
    """--threads and --isa; --tuning too, but for commands that measure, or make the networks they run."""
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="threads to use (default: PYRUNTIME_NUM_THREADS, else all CPUs)",
    )
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help="strongest instruction set allowed (default: PYRUNTIME_ISA, else the best)",
    )
    if tuning:
        parser.add_argument("--tuning", metavar="FILE", help="kernels that `pyruntime tune` chose")


def add_feed_options(parser: argparse.ArgumentParser) -> None:
    """--batch and --shape: what random inputs look like."""
    parser.add_argument(
        "--batch", type=positive_int, default=1, metavar="N", help="samples per run (default 1)"
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=1,3,224,224",
        help="shape of an input with free axes",
    )


def input_shapes(arguments: argparse.Namespace) -> dict[str, list[int]]:
    """The shapes that --shape gives, by input; raises OptionError."""
    shapes = {}
    for text in arguments.shape:
        name, value = key_value("--shape", text)
        sizes = value.split(",")
        if not all(size.isascii() and size.isdigit() for size in sizes):
            raise OptionError(f"--shape {text}: expected NAME=1,3,224,224")
        shapes[name] = [int(size) for size in sizes]
    return shapes


def session_options(arguments: argparse.Namespace) -> SessionOptions:
    """Checks --threads and --isa (or the environment) before any work; raises OptionError."""
    from pyruntime.session import SessionOptions, resolve_isa, resolve_num_threads

    resolve_isa(arguments.isa)
    resolve_num_threads(arguments.threads)
    return SessionOptions(
        num_threads=arguments.threads, isa=arguments.isa, tuning=getattr(arguments, "tuning", None)
    )


def positive_int(text: str) -> int:
    """argparse type: an integer above 0."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected an integer above 0, got {text!r}")
    return int(text)


def key_value(option: str, text: str) -> tuple[str, str]:
    """Splits NAME=VALUE; raises OptionError."""
    key, separator, value = text.partition("=")
    if not (separator and key and value):
        raise OptionError(f"{option} {text}: expected NAME=VALUE")
    return key, value
