"""`pyruntime isa`: what this CPU can run."""

from __future__ import annotations

import argparse
import json

from pyruntime.cli.options import Subparsers, add_command
from pyruntime.cli.table import table


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers, common, "isa", "CPU features, the instruction sets usable, and why one is not"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime import _core
    from pyruntime.session import available_isas, cpu_features, resolve_isa

    usable, cpu, isas = available_isas(), cpu_features(), _core.isa_report()
    report = {
        "cpu": cpu,
        "isas": isas,
        "available": usable,
        "selected": resolve_isa(None) or usable[-1],
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
        return 0
    rows = [
        [row["name"], "yes" if row["usable"] else "no", "" if row["usable"] else row["reason"]]
        for row in isas
    ]
    print(f"CPU: {cpu.get('brand') or 'unknown'}")
    print(table(["ISA", "usable", "reason"], rows, left=3))
    print(f"selected: {report['selected']}")
    return 0
