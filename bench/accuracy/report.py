"""`docs/results.md` from measured summaries."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyruntime as prt
from bench.accuracy.measure import CALIBRATION_IMAGES, Bench, Summary, describe
from bench.accuracy.recipes import Row

MOST = 4  # of the networks, on which a data-driven method has to beat its baseline


@dataclass(frozen=True)
class Entry:
    """A row on one network, measured."""

    row: Row
    network: str
    float_bytes: int
    method: Summary
    baseline: Summary | None

    @property
    def ratio(self) -> float:
        """Float32 weight bytes over file bytes."""
        return self.float_bytes / self.method.size

    @property
    def passes(self) -> bool:
        """Whether the promises of the row hold; a row without promises passes."""
        fits = self.row.limit is None or self.method.loss <= self.row.limit
        return fits and (self.row.smaller is None or self.ratio >= self.row.smaller)

    @property
    def better(self) -> bool:
        """Whether the method loses less accuracy than its baseline."""
        return self.baseline is not None and self.method.loss < self.baseline.loss

    @property
    def closer(self) -> bool:
        """Whether the logits are closer to the float network's than the baseline's."""
        return self.baseline is not None and self.method.sqnr > self.baseline.sqnr


def measure(bench: Bench, rows: Sequence[Row]) -> list[Entry]:
    return [_entry(bench, row, network) for row in rows for network in row.networks]


def _entry(bench: Bench, row: Row, network: str) -> Entry:
    seeds = bench.seeds if row.baseline is None else bench.few_seeds
    baseline = None if row.baseline is None else bench.summary(network, row.baseline, seeds)
    method = bench.summary(network, row.recipe, seeds)
    return Entry(row, network, bench.float_bytes(network), method, baseline)


def document(bench: Bench, entries: Sequence[Entry]) -> str:
    """The whole of `docs/results.md`."""
    limited = [entry for entry in entries if entry.baseline is None]
    compared = [entry for entry in entries if entry.baseline is not None]
    parts = [_introduction(bench)]
    if limited:
        parts += ["## Limits\n", _limits(limited)]
    if compared:
        parts += ["## Methods beside their naive baselines\n", _comparisons(compared)]
    return "\n".join(parts)


def commit() -> str:
    """The commit of the checkout, with `-dirty` if files differ from it; "unknown" outside a checkout."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _introduction(bench: Bench) -> str:
    seeds, few = (", ".join(map(str, seeds)) for seeds in (bench.seeds, bench.few_seeds))
    return f"""# Accuracy after compression

Written by `python -m bench.accuracy`; do not edit. pyruntime {prt.__version__}, commit {commit()}; the float
networks of `bench/models`; {len(bench.test.pixels)} Fashion-MNIST test images; {CALIBRATION_IMAGES} images
to calibrate, drawn from the training images with the seeds {seeds} (comparisons: {few}). No row trains.

Accuracy in percent. Loss in points, float minus compressed: the mean over the seeds and, after ±, half the
distance between the best and the worst seed. The size is that of the whole `.pyrt` file; the ratio is the
float32 weights over it.
"""


def _limits(entries: Sequence[Entry]) -> str:
    lines = [
        "| method | network | float | compressed | loss | limit | KB | ratio | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        limit = "-" if entry.row.limit is None else f"{entry.row.limit:.1f}"
        if entry.row.smaller is not None:
            limit += f", {entry.row.smaller:.0f}x"
        promised = entry.row.limit is not None or entry.row.smaller is not None
        verdict = ("pass" if entry.passes else "**MISS**") if promised else "-"
        method = entry.method
        lines.append(
            f"| {entry.row.title} | {entry.network} | {method.float_accuracy:.2f} "
            f"| {method.float_accuracy - method.loss:.2f} | {_loss(method)} | {limit} "
            f"| {method.size / 1000:.1f} | {entry.ratio:.1f}x | {verdict} |"
        )
    missed = [entry for entry in entries if not entry.passes]
    lines += ["", f"{len(entries) - len(missed)} of {len(entries)} pass.", "", *_recipes(entries)]
    return "\n".join(lines) + "\n"


def _comparisons(entries: Sequence[Entry]) -> str:
    """A row per method, a column per network: loss of the method / loss of the baseline."""
    networks = list(dict.fromkeys(entry.network for entry in entries))
    lines = [
        "With the method / with its baseline: loss in points, signal-to-noise ratio of the logits in dB.",
        "Where both lose next to nothing, accuracy is chance and the ratio tells more. A method is better",
        f"where one of the two is on at least {MOST} networks.",
        "",
        f"| method | {' | '.join(networks)} | better accuracy | closer logits | |",
        "|---|" + "---|" * (len(networks) + 3),
    ]
    for row in dict.fromkeys(entry.row.title for entry in entries):
        cells = {entry.network: entry for entry in entries if entry.row.title == row}
        texts = [_pair(cells[name]) if name in cells else "-" for name in networks]
        better = sum(entry.better for entry in cells.values())
        closer = sum(entry.closer for entry in cells.values())
        verdict = "better" if max(better, closer) >= MOST else "**no better**"
        counts = f"{better} of {len(cells)} | {closer} of {len(cells)}"
        lines.append(f"| {row} | {' | '.join(texts)} | {counts} | {verdict} |")
    return "\n".join([*lines, "", *_recipes(entries)]) + "\n"


def _pair(entry: Entry) -> str:
    method, baseline = entry.method, entry.baseline
    assert baseline is not None
    return f"{method.loss:.2f} / {baseline.loss:.2f}, {method.sqnr:.1f} / {baseline.sqnr:.1f} dB"


def _loss(summary: Summary) -> str:
    return f"{summary.loss:.2f} ± {summary.spread / 2:.2f}"


def _recipes(entries: Sequence[Entry]) -> list[str]:
    lines = []
    for row in {entry.row.title: entry.row for entry in entries}.values():
        text = f"* {row.title}: `{describe(row.recipe)}`"
        if row.baseline is not None:
            text += f"; baseline `{describe(row.baseline)}`"
        lines.append(text)
    return lines
