"""`pyruntime inspect`: a row per layer of a packed or ONNX file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pyruntime.cli.options import Subparsers, add_command, add_session_options, session_options
from pyruntime.cli.table import percent, size_text, table
from pyruntime.errors import OptionError


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers, common, "inspect", "layer by layer: shapes, scheme, sparsity, bytes, kernel on this CPU"
    )
    parser.add_argument("file", metavar="FILE", help=".pyrt or .onnx")
    parser.add_argument("--reference", metavar="FLOAT.onnx", help="compare every layer with this network's")
    parser.add_argument("--data", metavar="DATA.npz", help="samples to compare on")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_session_options(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.inspect_model import inspect_file

    if (arguments.reference is None) != (arguments.data is None):
        raise OptionError("inspect: --reference and --data go together; give both or none")
    report = inspect_file(arguments.file, session_options(arguments), arguments.reference, arguments.data)
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
            layer["kernel"] + (" (tuned)" if layer["tuned"] else ""),
            layer["isa"],
            layer["precision"],
            *(_difference(layer) if arguments.data else ()),
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
    differences = ["SQNR dB", "saturated", "dead channels"] if arguments.data else []
    print(table([*header, "runs in", *differences], rows, left=2))
    total = report["total"]
    print(
        f"{report['file']}: {size_text(report['file_bytes'])}, {len(rows)} layers, "
        f"{total['parameters']} weights, {percent(total['sparsity'])} zero, isa {report['isa']}"
    )
    if report["float_layers"]:
        print(f"runs in float: {', '.join(report['float_layers'])}")
    dead = [f"{layer['name']} ({layer['dead_rows']})" for layer in report["layers"] if layer["dead_rows"]]
    if dead:
        print(f"output channels without weights: {', '.join(dead)}")
    return 0


def _difference(layer: dict[str, Any]) -> list[object]:
    """Cells of a layer compared with the reference, empty if the reference has no such value."""
    if "sqnr_db" not in layer:
        return ["", "", ""]
    sqnr = "exact" if layer["sqnr_db"] is None else f"{layer['sqnr_db']:.1f}"
    saturated = "" if layer["saturated"] is None else layer["saturated"]
    return [sqnr, saturated, len(layer["dead_channels"]) or ""]
