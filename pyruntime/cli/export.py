"""`pyruntime export`: a packed file as standard ONNX, for any other runtime."""

from __future__ import annotations

import argparse

from pyruntime.cli.options import Subparsers, add_command
from pyruntime.cli.output import atomic_output, check_output
from pyruntime.cli.table import size_text


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers,
        common,
        "export",
        "a packed file as standard ONNX with QuantizeLinear and DequantizeLinear",
    )
    parser.add_argument("file", metavar="FILE.pyrt")
    parser.add_argument("-o", "--output", required=True, metavar="Q.onnx")
    parser.add_argument(
        "--activations",
        choices=("u8", "s8"),
        default="u8",
        help="8-bit form of activations; both stand for the same values (default: u8)",
    )
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.export_onnx import export_file

    check_output("-o", arguments.output, arguments.file)
    with atomic_output(arguments.output) as temporary:
        export_file(arguments.file, temporary, signed=arguments.activations == "s8")
        size = temporary.stat().st_size
    print(f"{arguments.output}: {size_text(size)}")
    return 0
