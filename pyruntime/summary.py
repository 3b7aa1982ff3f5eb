"""The table that `CompressedModel.summary` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyruntime.pack.writer import TensorReport, encode
from pyruntime.program import Node, Program

if TYPE_CHECKING:
    from pyruntime.compression import CompressReport
    from pyruntime.prune import PruneReport

WEIGHTED = ("conv", "dense")
HEADER = ("layer", "op", "weight", "scheme", "zeros", "codec", "bytes", "SQNR dB")
FLOAT_BYTES = 4


def summary(program: Program, report: CompressReport) -> str:
    """A row per layer (bytes: weight and what belongs to it), the total, what stayed float or unpruned."""
    pieces, tensors = encode(program)
    by_name = {tensor.name: tensor for tensor in tensors}
    sqnr = {row.node: row.sqnr_db for row in report.quantize.layers} if report.quantize else {}
    layers = [node for node in program.nodes if node.op in WEIGHTED and node.inputs[1] in by_name]
    rows = [_row(node, by_name, sqnr.get(node.name)) for node in layers]
    lines = _table([HEADER, *rows])
    lines.append(_total(layers, by_name, sum(map(len, pieces)), tensors))
    if report.found:
        lines.append(f"found for {report.found}")
    if report.prune is not None:
        lines += _channels(report.prune)
    if report.steps:
        lines.append(f"recovery on {report.samples} samples: {', '.join(report.steps)}")
    if report.prune is not None:
        skipped = [f"{row.node} ({row.skipped})" for row in report.prune.layers if row.skipped]
        lines += [f"not pruned: {', '.join(skipped)}"] if skipped else []
    if report.quantize is None and report.recipe.quantizes:
        lines.append(f"already quantized, taken as it is: --quantize {report.recipe.quantize} is not applied")
        floating = [node.name for node in layers if program.dtype(node.inputs[1]) == "f32"]
        lines += [f"weights decoded when loading, run in float32: {', '.join(floating)}"] if floating else []
    if report.quantize is not None:
        decoded = [row.node for row in report.quantize.layers if not row.integer]
        lines += [f"weights decoded when loading, run in float32: {', '.join(decoded)}"] if decoded else []
    if report.quantize is not None and report.quantize.float_nodes:
        lines.append(f"left in float: {', '.join(report.quantize.float_nodes)}")
    lines += [f"runs in float: {note}" for note in report.notes]
    return "\n".join(lines)


def _row(node: Node, tensors: dict[str, TensorReport], sqnr: float | None) -> tuple[str, ...]:
    weight = tensors[node.inputs[1]]
    size = sum(tensors[name].bytes for name in node.inputs if name in tensors)
    return (
        node.name,
        node.op,
        "x".join(map(str, weight.shape)),
        weight.scheme or weight.dtype,
        f"{100 * (1 - weight.density):.1f} %",
        weight.codec,
        f"{size:,}",
        "" if sqnr is None else f"{sqnr:.1f}",
    )


def _total(
    layers: list[Node], by_name: dict[str, TensorReport], size: int, tensors: list[TensorReport]
) -> str:
    weights = [by_name[name] for name in dict.fromkeys(node.inputs[1] for node in layers)]
    entries = sum(int(np.prod(weight.shape)) for weight in weights)
    kept = sum(weight.density * int(np.prod(weight.shape)) for weight in weights)
    as_float = sum(int(np.prod(tensor.shape)) for tensor in tensors) * FLOAT_BYTES
    zeros = 100 * (1 - kept / entries) if entries else 0.0
    ratio = as_float / size
    return f"total: {entries:,} weights, {zeros:.1f} % zero; file {size:,} bytes, {ratio:.1f}x below float32"


def _channels(report: PruneReport) -> list[str]:
    """A row per group of channels that belong together, and what the network costs now."""
    if not report.groups:
        return []
    rows = [("channels made by", "before", "after", "")]
    for row in report.groups:
        more = f" and {len(row.layers) - 1} more" if len(row.layers) > 1 else ""
        reason = f"kept: {row.skipped}" if row.skipped else ""
        rows.append((row.name + more, str(row.before), str(row.after), reason))
    change = 100 * (report.macs_after / max(1, report.macs_before) - 1)
    total = f"multiply-accumulates: {report.macs_before:,} -> {report.macs_after:,} ({change:+.1f} %)"
    return [*_table(rows), total]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < 4 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
