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


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """--threads and --isa."""
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


def session_options(arguments: argparse.Namespace) -> SessionOptions:
    """Checks --threads and --isa (or the environment) before any work; raises OptionError."""
    from pyruntime.session import SessionOptions, resolve_isa, resolve_num_threads

    resolve_isa(arguments.isa)
    resolve_num_threads(arguments.threads)
    return SessionOptions(num_threads=arguments.threads, isa=arguments.isa)


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
