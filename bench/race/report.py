"""The figures of one network, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.race.networks import Network
from pyruntime.cli.table import table

Rows = list[dict[str, Any]]


def result(network: Network, rows: Rows, dense_label: str) -> dict[str, Any]:
    """One network's entry in the JSON file.

    rows: of `runner.measure`, ours first; those of the dense network have `dense_label` in their label.
    """
    peers = [row for row in rows if row["runtime"] != "pyruntime" and not _is_dense(row, dense_label)]
    dense = [row for row in rows if _is_dense(row, dense_label)]
    found = {"name": network.name, "at_least": network.at_least, "aim": network.aim, "rows": rows}
    found["ours_ms"] = rows[0]["median_ms"]
    found["peer"] = _fastest(peers)
    found["dense_peer"] = _fastest([row for row in dense if row["runtime"] != "pyruntime"])
    found["dense_ours"] = _fastest([row for row in dense if row["runtime"] == "pyruntime"])
    return found


def _is_dense(row: dict[str, Any], dense_label: str) -> bool:
    return bool(dense_label) and row["label"].endswith(dense_label)


def _fastest(rows: Rows) -> dict[str, Any] | None:
    """Label, median and paired ratio (its time over ours) of the fastest of these."""
    if not rows:
        return None
    best = min(rows, key=lambda row: row["ratio"])
    return {"label": best["label"], "median_ms": best["median_ms"], "ratio": best["ratio"]}


def rows_text(rows: Rows) -> str:
    cells = [
        [
            row["label"],
            row["version"],
            *(f"{row[key]:.3f}" for key in ("median_ms", "min_ms", "p99_ms")),
            row["runs"],
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]
    headings = ["runtime", "version", "median ms", "min ms", "p99 ms", "runs", "its time / ours"]
    return table(headings, cells, left=2)


def summary(results: list[dict[str, Any]]) -> str:
    """A row per network: ours, the fastest peer, the paired ratio, and what the ratio is to be."""
    cells = []
    for entry in results:
        if "skipped" in entry:
            cells.append([entry["name"], entry["skipped"], *[""] * 6])
            continue
        peer, dense = entry["peer"], entry["dense_peer"]
        cells.append(
            [
                entry["name"],
                peer["label"] if peer else "no peer",
                f"{entry['ours_ms']:.3f}",
                f"{peer['median_ms']:.3f}" if peer else "",
                f"{peer['ratio']:.2f}x" if peer else "",
                f"{dense['ratio']:.2f}x" if dense else "",
                f"{entry['dense_ours']['ratio']:.2f}x" if entry["dense_ours"] else "",
                f"{entry['at_least']:.1f}x, {entry['aim']:.1f}x",
            ]
        )
    headings = ["network", "fastest peer", "ours ms", "peer ms", "we are faster"]
    headings += ["than peers on dense", "than ours on dense", "at least, aim"]
    return table(headings, cells, left=2)


def add_to_file(path: Path, conditions: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Writes the JSON file; what it holds of other networks under the same conditions stays."""
    kept: list[dict[str, Any]] = []
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        if {key: old.get(key) for key in conditions} == conditions:
            new = {entry["name"] for entry in results}
            kept = [entry for entry in old["networks"] if entry["name"] not in new]
    path.write_text(json.dumps({**conditions, "networks": kept + results}, indent=1) + "\n", encoding="utf-8")
