"""`pyruntime compare`: what compression changed, on real data."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pyruntime.cli.options import Subparsers, add_command, add_session_options, session_options
from pyruntime.cli.table import percent, table


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers,
        common,
        "compare",
        "accuracy, agreement and signal-to-noise of a model against a reference",
    )
    parser.add_argument("reference", metavar="REFERENCE", help=".onnx (run in float32) or .pyrt")
    parser.add_argument("candidate", metavar="CANDIDATE", help=".pyrt or .onnx")
    parser.add_argument(
        "--data", required=True, metavar="DATA.npz", help="model inputs, and optionally `labels`"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_session_options(parser, tuning=False)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.compare import NO_SIGNAL, compare_files

    report = compare_files(
        arguments.reference, arguments.candidate, arguments.data, session_options(arguments)
    )
    if arguments.json:
        print(json.dumps(report, indent=2))
        return 0
    print(f"samples: {report['samples']}")
    if report["reference_accuracy"] is not None:
        print(
            f"accuracy: reference {percent(report['reference_accuracy'], 2)}, "
            f"candidate {percent(report['candidate_accuracy'], 2)}"
        )
    if report["agreement"] is not None:
        print(f"agreement: {percent(report['agreement'], 2)}")
    header = ["output", "SQNR dB", "cosine", "max error", "saturated", "dead channels"]
    print(table(header, [_row(row) for row in report["outputs"]]))
    if report["layers"]:
        print("\nlayers, worst first")
        print(table(["value", *header[1:]], [_row(row) for row in report["layers"]]))
    if any(row["sqnr_db"] == NO_SIGNAL for row in (*report["outputs"], *report["layers"])):
        print(f"\n{NO_SIGNAL:.0f} dB: the reference is all zero, or one of the two has NaN or infinities")
    return 0


def _row(row: dict[str, Any]) -> list[object]:
    sqnr = "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.2f}"
    saturated = "" if row["saturated"] is None else row["saturated"]
    figures = [sqnr, f"{row['cosine']:.6f}", f"{row['max_error']:.4g}"]
    return [row["name"], *figures, saturated, len(row["dead_channels"]) or ""]
