"""`pyruntime run`: inference on arrays from files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pyruntime.cli.options import Subparsers, add_command, add_session_options, key_value, session_options
from pyruntime.cli.output import atomic_output, check_output
from pyruntime.errors import OptionError


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(subparsers, common, "run", "run a packed file on arrays")
    parser.add_argument("file", metavar="FILE.pyrt")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        required=True,
        metavar="NAME=X.npy",
        help="array of one input (repeat per input)",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.npz", help="where to write the outputs, by name"
    )
    add_session_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    import numpy as np

    from pyruntime.loading import load_array
    from pyruntime.session import InferenceSession

    feed_files: dict[str, str] = {}
    for text in arguments.input:
        name, path = key_value("--input", text)
        if name in feed_files:
            raise OptionError(f"--input {text}: input {name!r} was given twice")
        feed_files[name] = path
    check_output("-o", arguments.output, arguments.file, *feed_files.values())
    options = session_options(arguments)
    session = InferenceSession(arguments.file, options)
    feed: dict[str, Any] = {name: load_array(path) for name, path in feed_files.items()}
    outputs = session.run(None, feed)
    names = [output.name for output in session.get_outputs()]
    with atomic_output(arguments.output) as temporary, Path(temporary).open("wb") as stream:
        arrays: dict[str, Any] = dict(zip(names, outputs, strict=True))
        np.savez(stream, **arrays)
    for name, array in zip(names, outputs, strict=True):
        print(f"{name}: {array.dtype.name} {list(array.shape)}")
    return 0
