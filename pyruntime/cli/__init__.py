"""The command `pyruntime`: one file per subcommand, each with `add(subparsers)` and `run(arguments)`.

Exit status: 0 done, 1 the job failed, 2 bad use (an unknown option or value), 130 interrupted. An error is
one line on stderr; `--debug` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from pyruntime import __version__
from pyruntime.cli import bench, compare, compress, demo, export, inspect, isa, run, sensitivity, tune
from pyruntime.errors import OptionError, PyruntimeError

COMMANDS = (demo, compress, sensitivity, run, inspect, bench, tune, compare, export, isa)

EXIT_FAILED = 1
EXIT_BAD_USE = 2
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_USE, f"{self.prog}: error: {_one_line(message)} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    root = _Parser(prog="pyruntime", description="Compress trained networks and run them fast on CPUs.")
    root.add_argument("--version", action="version", version=f"pyruntime {__version__}")
    subparsers = root.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = command.add(subparsers, common)
        sub.set_defaults(run=command.run)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as exit_:  # --help, --version and bad use; argparse has printed its line
        return exit_.code if isinstance(exit_.code, int) else EXIT_BAD_USE
    if arguments.debug:
        return _status(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = functools.partial(_warn, arguments.command)
            return _status(arguments)
    except OptionError as error:
        return _fail(arguments, error, EXIT_BAD_USE)
    except PyruntimeError as error:
        return _fail(arguments, error, EXIT_FAILED)
    except BrokenPipeError:  # the reader of our output went away (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except ModuleNotFoundError as error:
        hint = f"{error.name} is not installed; install it with: pip install 'pyruntime-cpu[tools]'"
        return _fail(arguments, hint, EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail(arguments, "interrupted", EXIT_INTERRUPTED)
    except MemoryError:
        return _fail(arguments, "out of memory", EXIT_FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(arguments, f"{where}{error.strerror or error}", EXIT_FAILED)
    except Exception as error:
        return _fail(
            arguments,
            f"internal error: {type(error).__name__}: {error} (run again with --debug)",
            EXIT_FAILED,
        )


def _status(arguments: argparse.Namespace) -> int:
    status: int = arguments.run(arguments)
    sys.stdout.flush()
    return status


def _warn(command: str, message: Warning | str, *_: object) -> None:
    """A warning as one line, without the source line that Python adds."""
    print(f"pyruntime {command}: warning: {_one_line(str(message))}", file=sys.stderr)


def _fail(arguments: argparse.Namespace, error: object, status: int) -> int:
    print(f"pyruntime {arguments.command}: error: {_one_line(str(error))}", file=sys.stderr)
    return status


def _one_line(text: str) -> str:
    return " ".join(text.split())
