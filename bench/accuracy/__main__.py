"""Rebuild `docs/results.md`: every recipe of `recipes.py` on the float networks of `bench/models`.

    python -m bench.accuracy [--dataset FOLDER] [--output FILE] [--only GLOB]... [--quick]
                             [--seeds N] [--comparison-seeds N] [--record FILE]

FOLDER holds the four idx files of Fashion-MNIST, as `*-ubyte.gz` (Debian: package `dataset-fashion-mnist`).
Runs in the root folder of the checkout. Needs `pyruntime` with its tools, no torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

from bench.accuracy.measure import Bench
from bench.accuracy.recipes import ROWS, Row
from bench.accuracy.report import document, measure
from bench.models.fashion_data import Images, read_images

ROOT = Path(__file__).parents[2]
DATASET = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package puts it
SEEDS = (0, 1, 2)
QUICK_IMAGES = 2000


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description="Rebuild docs/results.md.")
    parser.add_argument("--dataset", type=Path, default=DATASET, help=f"folder of the idx files ({DATASET})")
    parser.add_argument(
        "--networks", type=Path, default=ROOT / "bench" / "models", help="folder of the ONNX files"
    )
    parser.add_argument(
        "--output", type=Path, help="default: docs/results.md; with --only or --quick: stdout"
    )
    parser.add_argument(
        "--only", action="append", metavar="GLOB", help="rows whose 'network: title' matches; repeatable"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"one seed, the first {QUICK_IMAGES} test images"
    )
    parser.add_argument(
        "--seeds", type=int, default=len(SEEDS), metavar="N", help=f"calibration seeds ({len(SEEDS)})"
    )
    parser.add_argument(
        "--comparison-seeds", type=int, metavar="N", help="of the methods beside their baselines (as --seeds)"
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="keep what is measured in FILE; another run goes on from it",
    )
    return parser.parse_args(arguments)


def select(rows: list[Row], globs: list[str] | None) -> list[Row]:
    """The rows, each with the networks for which `network: title` matches one of the globs."""
    if globs is None:
        return rows
    kept = []
    for row in rows:
        names = [f"{network}: {row.title}" for network in row.networks]
        chosen = tuple(
            network
            for network, name in zip(row.networks, names, strict=True)
            if any(fnmatch(name, glob) for glob in globs)
        )
        if chosen:
            kept.append(dataclasses.replace(row, networks=chosen))
    return kept


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    rows = select(ROWS, options.only)
    if not rows:
        print(f"--only {' '.join(options.only)}: no row matches; a row is 'network: title'", file=sys.stderr)
        return 2
    try:
        train, test = read_images(options.dataset, "train"), read_images(options.dataset, "t10k")
    except (OSError, ValueError) as error:
        print(f"--dataset {options.dataset}: {error}", file=sys.stderr)
        return 2
    if options.quick:
        test = Images(test.pixels[:QUICK_IMAGES], test.labels[:QUICK_IMAGES])
    start = time.perf_counter()

    def progress(text: str) -> None:
        print(f"{time.perf_counter() - start:6.0f} s  {text}", file=sys.stderr, flush=True)

    seeds = SEEDS[: 1 if options.quick else options.seeds]
    bench = Bench(options.networks, train, test, seeds, progress, options.record, options.comparison_seeds)
    text = document(bench, measure(bench, rows))
    output = options.output
    if output is None and options.only is None and not options.quick:
        output = ROOT / "docs" / "results.md"
    if output is None:
        print(text)
    else:
        output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
