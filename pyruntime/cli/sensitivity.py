"""`pyruntime sensitivity`: what each form of each layer costs."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyruntime.cli.options import Subparsers, add_command, add_session_options, session_options
from pyruntime.cli.output import check_output, write_text
from pyruntime.cli.table import percent, size_text, table

if TYPE_CHECKING:
    from pyruntime.search import Row

DESCRIPTION = """\
A table of every layer in every form (int8 .. int2, a codebook, fp8, zeros in single weights, 2:4 and blocks):

loss      squared error of the network's outputs over their squares, with this one layer changed; measured on
          every other sample, the layer's weights being rounded and updated on the others (at most 256
          samples, 32 of large ones); activations stay float32
bytes     of the layer's weights and scales in the file, entropy coded
time      microseconds of the layer on this CPU, one sample, inside a network whose layers all have this form
"""


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers, common, "sensitivity", "loss, bytes and time of each layer in each form", DESCRIPTION
    )
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument(
        "--calibration",
        required=True,
        metavar="DATA.npz",
        help="one array per model input, first axis = samples; labels are not used",
    )
    parser.add_argument("-o", "--output", metavar="TABLE.json", help="write the table as JSON, too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_session_options(parser, tuning=False)
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.cli.progress import progress
    from pyruntime.loading import check_exists

    if arguments.output is not None:
        check_output("-o", arguments.output, arguments.model, arguments.calibration)
    session = session_options(arguments)
    check_exists(arguments.model)
    with progress() as report:
        rows = _rows(arguments.model, arguments.calibration, session, report)
    text = json.dumps({"model": arguments.model, "rows": [row.json() for row in rows]}, indent=1)
    if arguments.output is not None:
        write_text(arguments.output, text + "\n")
    print(text if arguments.json else _table(rows))
    return 0


def _rows(model_path: str, calibration: str, session: Any, report: Any) -> list[Row]:
    from pyruntime import calibration_data
    from pyruntime.compression import compress
    from pyruntime.frontends.onnx import load
    from pyruntime.search import SHOWN, measure
    from pyruntime.search.latency import form, layer_times

    def stage(name: str) -> Any:
        return None if report is None else lambda done, total: report(name, done, total)

    model = load(model_path)
    data = calibration_data.check(model, calibration)
    rows = measure(model, data, SHOWN, progress=stage("measure losses"))
    times, _ = layer_times(
        lambda recipe, few: compress(model, recipe, few).program,
        data,
        SHOWN,
        session=session,
        progress=stage("measure times"),
    )
    return [replace(row, microseconds=times.get((row.layer, form(row.option)))) for row in rows]


def _table(rows: list[Row]) -> str:
    header = ["layer", "form", "weight", "loss", "bytes", "of float32", "zeros", "microseconds"]
    cells = [
        [
            row.layer,
            row.option.label,
            "x".join(map(str, row.shape)),
            f"{row.loss:.2e}",
            size_text(row.bytes),
            percent(row.bytes / row.float_bytes),
            percent(row.zeros),
            "" if row.microseconds is None else f"{row.microseconds:.1f}",
        ]
        for row in rows
    ]
    return table(header, cells, left=2)
