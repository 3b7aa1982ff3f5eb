"""What is inside a model file, layer by layer, and what this CPU makes of it."""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pyruntime.compare import compare_programs, tensor_name
from pyruntime.loading import check_exists, is_onnx, load_data, load_program
from pyruntime.minifloat import find_format
from pyruntime.pack import read_stored
from pyruntime.program import MOVEMENT, Node, Program
from pyruntime.session import InferenceSession, SessionOptions

# op -> position of the weight among the inputs
WEIGHT_INPUT = {"conv": 1, "dense": 1}
BITS = {"f32": 32, "s32": 32, "s64": 64, "u8": 8, "s8": 8}


def inspect_file(
    path: str | os.PathLike[str],
    options: SessionOptions | None = None,
    reference: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Report on a `.pyrt` or `.onnx` file.

    Args:
        reference, data: the float network and a `.npz` of samples; with them every layer whose result the
            reference has too gets `sqnr_db, cosine, saturated, dead_channels` (see `compare`).

    Returns `file, file_bytes, isa, num_threads, inputs, outputs, layers, float_layers, total`; a layer has
    `name, op, weight_shape, output_shape, scheme, sparsity, dead_rows, bits, bytes, codec, kernel, isa,
    precision, tuned`: sparsity is the share of weights that are zero, dead_rows the number of output channels
    whose weights all are, bits what the scheme gives one weight, bytes what all constants of the layer occupy
    in the file, precision what it is executed in, tuned whether `options.tuning` chose the kernel.
    """
    program, stored = _load(path)
    session = InferenceSession(program, options)
    kernels = {row["node"]: row for row in session.kernels()}
    layers = [_layer(program, node, kernels.get(node.name, {}), stored) for node in program.nodes]
    if reference is not None and data is not None:
        # Times do not matter there, and the reference has layers of its own.
        plain = None if options is None else replace(options, tuning=None)
        _add_differences(layers, program, reference, data, plain)
    weights = [layer for layer in layers if layer["weight_shape"]]
    parameters = sum(int(np.prod(layer["weight_shape"])) for layer in weights)
    zeros = sum(round(layer["sparsity"] * np.prod(layer["weight_shape"])) for layer in weights)
    return {
        "file": os.fspath(path),
        "file_bytes": Path(path).stat().st_size,
        "isa": session.isa,
        "num_threads": session.num_threads,
        "inputs": [{"name": a.name, "dtype": a.dtype.name, "shape": a.shape} for a in session.get_inputs()],
        "outputs": [{"name": a.name, "dtype": a.dtype.name, "shape": a.shape} for a in session.get_outputs()],
        "layers": layers,
        "float_layers": float_layers(program, session.kernels()),
        "total": {
            "parameters": parameters,
            "sparsity": zeros / parameters if parameters else 0.0,
            "bytes": sum(size for _, size in stored.values()),
        },
    }


def _add_differences(
    layers: list[dict[str, Any]],
    program: Program,
    reference: str | os.PathLike[str],
    data: str | os.PathLike[str],
    options: SessionOptions | None,
) -> None:
    original = load_program(reference)
    samples = load_data(data, InferenceSession(original, options).get_inputs())
    report = compare_programs(original, program, samples, options)
    found = {row["name"]: row for row in (*report["outputs"], *report["layers"])}
    for layer, node in zip(layers, program.nodes, strict=True):
        row = found.get(tensor_name(node.outputs[0]))
        if row is not None:
            figures = ("sqnr_db", "cosine", "saturated", "dead_channels")
            layer.update({figure: row[figure] for figure in figures})


def float_layers(program: Program, kernels: list[dict[str, Any]]) -> list[str]:
    """Names of the nodes that compute in float: moving data and converting at the border is no computing."""
    idle = {node.name for node in program.nodes if node.op in (*MOVEMENT, "quantize", "dequantize", "cast")}
    return [row["node"] for row in kernels if row["precision"] == "float32" and row["node"] not in idle]


def _load(path: str | os.PathLike[str]) -> tuple[Program, dict[str, tuple[str, int]]]:
    """The program, and codec and stored bytes of every constant. An ONNX file stores plain arrays."""
    if is_onnx(path):
        program = load_program(path)
        return program, {name: ("plain", c.array.nbytes) for name, c in program.constants.items()}
    check_exists(path)
    program, stored = read_stored(path)
    return program, {name: (entry.codec, entry.bytes) for name, entry in stored.items()}


def scheme_bits(scheme: str, dtype: str) -> float:
    """Bits of one weight by the text of its scheme; of its dtype if the text names none."""
    integer, shared, drawn = (
        re.search(text, scheme) for text in (r"\bint(\d)", r"codebook=(\d+)", r"hashed=(\S+)")
    )
    if integer is not None:
        return int(integer[1])
    if shared is not None:
        return math.ceil(math.log2(int(shared[1])))
    if drawn is not None:
        return 8 * float(drawn[1])
    try:
        return find_format(scheme.partition(" ")[0]).bits
    except ValueError:
        return BITS[dtype]


def _layer(
    program: Program, node: Node, kernel: dict[str, Any], stored: dict[str, tuple[str, int]]
) -> dict[str, Any]:
    names = [name for name in node.inputs if name in program.constants]
    weight = None
    if node.op in WEIGHT_INPUT:
        weight = program.constants.get(node.inputs[WEIGHT_INPUT[node.op]])
    sparsity = dead_rows = None
    if weight is not None:
        sparsity = 1.0 - np.count_nonzero(weight.array) / max(weight.array.size, 1)
        dead_rows = int(np.count_nonzero(~weight.array.reshape(len(weight.array), -1).any(axis=1)))
    main = weight.name if weight is not None else next(iter(names), None)
    return {
        "name": node.name,
        "op": node.op,
        "weight_shape": list(weight.array.shape) if weight is not None else None,
        "output_shape": list(program.values[node.outputs[0]].shape),
        "scheme": (weight.scheme or program.dtype(weight.name)) if weight is not None else None,
        "sparsity": sparsity,
        "dead_rows": dead_rows,
        "bits": scheme_bits(weight.scheme, program.dtype(weight.name)) if weight is not None else None,
        "bytes": sum(stored[name][1] for name in names if name in stored),
        "codec": stored[main][0] if main in stored else None,
        "kernel": kernel.get("kernel", ""),
        "isa": kernel.get("isa", ""),
        "precision": kernel.get("precision", ""),
        "tuned": kernel.get("tuned", False),
    }
