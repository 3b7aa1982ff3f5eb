"""`pyruntime demo`: the main job on a bundled network, offline, in under a minute."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from pyruntime.cli.options import Subparsers, add_command, add_session_options, session_options
from pyruntime.cli.table import percent, size_text, table


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers,
        common,
        "demo",
        "compress a bundled trained network and measure it, offline, in under a minute",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--layers", action="store_true", help="also show every layer and the kernel it runs in"
    )
    add_session_options(parser, tuning=False)
    return parser


def run(arguments: argparse.Namespace) -> int:
    # The small inverses of weight recovery: OpenBLAS's threads spin more than they compute, four times slower
    # on a busy machine. NumPy reads this when it is imported, below.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from pyruntime.cli.progress import progress
    from pyruntime.demo import run_demo

    options = session_options(arguments)
    with progress() as report:
        result = run_demo(options, report)
    if arguments.json:
        shown = {key: value for key, value in result.items() if key != "layers" or arguments.layers}
        print(json.dumps(shown, indent=2))
        return 0
    print(_text(result))
    if arguments.layers:
        print("\n" + _layers(result["layers"]))
    return 0


def _text(result: dict[str, Any]) -> str:
    size, float_size = result["bytes"], result["float_bytes"]
    latency, float_latency = result["latency_ms"], result["float_latency_ms"]
    summary = table(
        ["", "float32", "compressed", "change"],
        [
            [
                f"accuracy ({result['samples']} test images)",
                percent(result["float_accuracy"], 2),
                percent(result["accuracy"], 2),
                f"{100 * (result['accuracy'] - result['float_accuracy']):+.2f} points",
            ],
            ["zero weights", "", percent(result["sparsity"]), ""],
            ["file size", size_text(float_size), size_text(size), f"{float_size / size:.1f}x smaller"],
            [
                "latency, batch 1 (ours)",
                f"{float_latency:.3f} ms",
                f"{latency:.3f} ms",
                _speed(float_latency, latency),
            ],
        ],
    )
    rows = [
        [
            row["label"],
            row["version"],
            f"{row['median_ms']:.3f}",
            f"{row['min_ms']:.3f}",
            f"{row['ratio']:.2f}",
        ]
        for row in result["rows"]
    ]
    times = table(["in turns, batch 1", "version", "median ms", "min ms", "ratio"], rows, left=2)
    steps = f"prune {result['prune']}, quantize {result['quantize']}, recover {','.join(result['recover'])}"
    return (
        f"{result['network']} (Fashion-MNIST): {steps}\n\n{summary}\n\n{times}\n\n"
        f"CPU: {result['cpu']}, isa {result['isa']}, {result['threads']} threads"
    )


def _speed(before: float, after: float) -> str:
    return f"{before / after:.2f}x faster" if after <= before else f"{after / before:.2f}x slower"


def _layers(layers: list[dict[str, Any]]) -> str:
    rows = [
        [
            layer["name"],
            layer["op"],
            "x".join(map(str, layer["weight_shape"] or [])),
            percent(layer["sparsity"]) if layer["sparsity"] is not None else "",
            size_text(layer["bytes"]) if layer["bytes"] else "",
            layer["codec"] or "",
            layer["kernel"],
            layer["isa"],
            layer["precision"],
        ]
        for layer in layers
    ]
    return table(
        ["layer", "op", "weight", "zero", "stored", "codec", "kernel", "isa", "runs in"], rows, left=2
    )
