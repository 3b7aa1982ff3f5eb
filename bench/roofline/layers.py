"""What each layer of a plan has to do, and the least time the machine could do it in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.roofline.peaks import Peaks
from pyruntime import _core
from pyruntime.program import Node, Program
from pyruntime.session import InferenceSession, SessionOptions

Feed = dict[str, npt.NDArray[Any]]

SPARSE_FORMATS = ("block4", "bitmask")
# How many products of 8 bits take as long as one of 16: AVX2 multiplies 16 of these an instruction, and 64 of
# those in three; VNNI 32 and 64.
S16_PRODUCT = {"avx2": 4 / 3, "avx512vnni": 2.0}


@dataclass(frozen=True)
class Layer:
    """One row of a profile. Times in seconds per run.

    Attributes:
        macs: multiply-adds of 8 bits, or what takes as long at the peak; of a layer with a sparse kernel only
            those with weights that are not zero, of one with transformed 3x3 windows those of the tiles.
        weight_bytes: as the plan packed them; activation_bytes: read and written.
        limit: the least time, given the peaks; limited_by: `compute`, or the level the bytes come from.
    """

    node: str
    op: str
    kernel: str
    time: float
    macs: float
    weight_bytes: float
    activation_bytes: float
    limit: float = 0.0
    limited_by: str = ""

    @property
    def loss(self) -> float:
        """Time beyond the limit."""
        return self.time - self.limit


def measure(
    program: Program, feed: Feed, peaks: Peaks, *, threads: int, isa: str, runs: int = 10
) -> list[Layer]:
    """A row per node that takes time, and those for copies and the rest, in order of execution."""
    options = SessionOptions(num_threads=threads, isa=isa)
    shapes = _shapes(program, feed, options)
    session = InferenceSession(program, replace(options, enable_profiling=True))
    for _ in range(2):
        session.run(None, feed)
    before = {(row["node"], row["op"]): row["microseconds"] for row in session.profile()}
    for _ in range(runs):
        session.run(None, feed)
    kernels = {row["node"]: row for row in session.kernels()}
    nodes = {node.name: node for node in program.nodes}
    formats = {row["name"]: row["format"] for row in _core.registry()}
    rows = []
    for row in session.profile():
        time = (row["microseconds"] - before[row["node"], row["op"]]) * 1e-6 / runs
        node = nodes.get(row["node"]) if row["op"] not in ("copy", "other") else None
        isa = row["kernel"].split("__")[-1]
        macs = work(program, node, shapes, formats.get(row["kernel"], ""), isa) if node else 0.0
        activations = (
            sum(_bytes(program, name, shapes) for name in _activations(program, node)) if node else 0
        )
        weights = kernels.get(row["node"], {}).get("bytes", 0) if node else 0
        if row["kernel"] in ("runtime:view", "runtime:fused"):
            activations = 0
        rows.append(Layer(row["node"], row["op"], row["kernel"], time, macs, weights, activations))
    all_weights = sum(row.weight_bytes for row in rows)
    precision = {name: row["precision"] for name, row in kernels.items()}
    return [with_limit(row, peaks, all_weights, precision.get(row.node, "int8")) for row in rows]


def with_limit(row: Layer, peaks: Peaks, all_weights: float, precision: str) -> Layer:
    """The layer with its limit: products at the peak, weights from where all of them fit, activations from
    where this layer's fit; whichever takes longer.
    """
    compute = row.macs / (peaks.int8 if precision.startswith("int8") else peaks.f32)
    weights = row.weight_bytes / peaks.bandwidth(all_weights)
    activations = row.activation_bytes / peaks.bandwidth(row.activation_bytes)
    limit = max(compute, weights + activations)
    if limit == 0.0:
        return row
    if limit == compute:
        cause = "compute"
    else:
        footprint = all_weights if weights > activations else row.activation_bytes
        cause = next(name for name, size, _ in peaks.levels if footprint <= size)
    return replace(row, limit=limit, limited_by=cause)


def work(
    program: Program, node: Node, shapes: dict[str, tuple[int, ...]], weight_format: str, isa: str
) -> float:
    """Multiply-adds of a node whose kernel is of this format and instruction set, as in `Layer.macs`."""
    outputs = math.prod(shapes[node.outputs[0]])
    if node.op in ("conv", "dense"):
        weight = program.constants[node.inputs[1]].array
        share = np.count_nonzero(weight) / weight.size if weight_format in SPARSE_FORMATS else 1.0
        if weight_format == "winograd":
            images, channels, *sizes = shapes[node.outputs[0]]
            tiles = math.prod(-(-size // 4) for size in sizes)
            return float(images * channels * tiles * 36 * weight.shape[1] * S16_PRODUCT[isa])
        return float(outputs * math.prod(weight.shape[1:]) * share)
    if node.op == "matmul":
        return float(outputs * shapes[node.inputs[0]][-1])
    if node.op == "attention":
        queries, keys, values = (shapes[name] for name in node.inputs[:3])
        return float(queries[0] * queries[1] * keys[1] * (keys[2] + values[2]))
    return 0.0


def _activations(program: Program, node: Node) -> list[str]:
    return [name for name in (*node.inputs, *node.outputs) if name and name not in program.constants]


def _bytes(program: Program, name: str, shapes: dict[str, tuple[int, ...]]) -> int:
    return math.prod(shapes[name]) * {"u8": 1, "s8": 1, "s64": 8}.get(program.values[name].dtype, 4)


def _shapes(program: Program, feed: Feed, options: SessionOptions) -> dict[str, tuple[int, ...]]:
    """Shapes of all values, from a run that outputs them all."""
    outputs = [name for node in program.nodes for name in node.outputs]
    found = InferenceSession(replace(program, outputs=outputs), options).run(None, feed)
    shapes = {name: array.shape for name, array in zip(outputs, found, strict=True)}
    return shapes | {name: array.shape for name, array in feed.items()}
