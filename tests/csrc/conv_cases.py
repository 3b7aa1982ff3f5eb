"""Random problems for the integer kernels: buffers with exactly the slack they may read, guarded outputs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

SLACK = 64  # readable bytes before and after every activation buffer
GUARD = 0xA5  # fills outputs; whatever a kernel may not write must keep it


def padded(values: np.ndarray) -> np.ndarray:
    """`values` as one flat u8 buffer with SLACK bytes of noise on both sides."""
    noise = np.full(SLACK, 201, np.uint8)
    return np.concatenate([noise, np.ascontiguousarray(values).reshape(-1), noise])


EPILOGUES = ["u8", "floor", "ceiling", "f32", "residual", "floor_residual", "relu6_residual"]


@dataclasses.dataclass
class Epilogue:
    """The requantize part of a problem; `kind` is one of EPILOGUES.

    u8 and residual have the bounds of a byte, for which kernels have forms of their own; floor and ceiling
    are narrower on one side.
    """

    kind: str

    def arguments(
        self, rng: np.random.Generator, n: int, spread: float, rows: int, cols: int
    ) -> dict[str, Any]:
        """`spread` is the order of magnitude of the accumulators."""
        multiplier = (rng.uniform(20, 120, n) / max(spread, 1.0)).astype(np.float32)
        arguments: dict[str, Any] = {
            "acc_init": rng.integers(-1000, 1000, n).astype(np.int32),
            "multiplier": multiplier,
            "offset": rng.uniform(60, 180, n).astype(np.float32),
        }
        if self.kind == "floor":
            arguments.update(lo=7.0)
        if self.kind == "ceiling":
            arguments.update(hi=201.0)
        if self.kind == "relu6_residual":
            arguments.update(lo=7.0, hi=201.0)
        if self.kind == "f32":
            arguments.update(lo=-55.5, hi=float("inf"), f32_output=True)
        if "residual" in self.kind:
            pitch = n + 5
            residual = rng.integers(0, 256, (rows, cols, pitch)).astype(np.uint8)
            arguments.update(
                residual=padded(residual),
                residual_offset=SLACK,
                residual_row_stride=cols * pitch,
                residual_col_stride=pitch,
                a_multiplier=0.61,
                b_multiplier=0.73,
                add_offset=-20.25,
                add_lo=3.0 if self.kind == "floor_residual" else 0.0,
                add_hi=250.0 if self.kind == "relu6_residual" else 255.0,
            )
        return arguments


def output(rows: int, cols: int, pitch: int, itemsize: int) -> np.ndarray:
    """A guarded output of rows x cols pixels of `pitch` items, as flat u8."""
    return np.full(rows * cols * pitch * itemsize + 2 * SLACK, GUARD, np.uint8)


def requantize_numpy(acc: np.ndarray, a: dict[str, Any], residual: np.ndarray | None) -> np.ndarray:
    """The epilogue of docs/format.md on [rows, cols, n] accumulators, in NumPy."""

    def fma(x: np.ndarray, y: Any, z: Any) -> np.ndarray:
        wide = np.asarray(x, np.longdouble) * np.asarray(y, np.longdouble) + np.asarray(z, np.longdouble)
        return wide.astype(np.float32)

    f = fma(acc.astype(np.float32), a["multiplier"], a["offset"])
    if a.get("f32_output"):
        return np.clip(f, np.float32(a["lo"]), np.float32(a["hi"]))
    q = np.clip(np.rint(f), np.float32(a.get("lo", 0)), np.float32(a.get("hi", 255)))
    if residual is not None:
        other = fma(residual.astype(np.float32), np.float32(a["b_multiplier"]), np.float32(a["add_offset"]))
        q = np.clip(np.rint(fma(q, np.float32(a["a_multiplier"]), other)), a["add_lo"], a["add_hi"])
    return q.astype(np.uint8)
