"""`pyruntime inspect`: a row per layer of a packed or ONNX file."""

from __future__ import annotations

import argparse
import json

from pyruntime.cli.options import Subparsers, add_command, add_session_options, session_options
from pyruntime.cli.table import percent, size_text, table


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers, common, "inspect", "layer by layer: shapes, scheme, sparsity, bytes, kernel on this CPU"
    )
    parser.add_argument("file", metavar="FILE", help=".pyrt or .onnx")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_session_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.inspect_model import inspect_file

    report = inspect_file(arguments.file, session_options(arguments))
    if arguments.json:
        print(json.dumps(report, indent=2))
        return 0
    rows = [
        [
            layer["name"],
            layer["op"],
            "x".join(map(str, layer["weight_shape"])) if layer["weight_shape"] else "",
            "x".join(map(str, layer["output_shape"])),
            layer["scheme"] or "",
            percent(layer["sparsity"]) if layer["sparsity"] is not None else "",
            layer["bits"] or "",
            size_text(layer["bytes"]) if layer["bytes"] else "",
            layer["codec"] or "",
            layer["kernel"],
            layer["isa"],
            layer["precision"],
        ]
        for layer in report["layers"]
    ]
    header = [
        "layer",
        "op",
        "weight",
        "output",
        "scheme",
        "sparsity",
        "bits",
        "stored",
        "codec",
        "kernel",
        "isa",
    ]
    print(table([*header, "runs in"], rows, left=2))
    total = report["total"]
    print(
        f"{report['file']}: {size_text(report['file_bytes'])}, {len(rows)} layers, "
        f"{total['parameters']} weights, {percent(total['sparsity'])} zero, isa {report['isa']}"
    )
    if report["float_layers"]:
        print(f"runs in float: {', '.join(report['float_layers'])}")
    return 0
