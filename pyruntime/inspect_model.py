"""What is inside a model file, layer by layer, and what this CPU makes of it."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from pyruntime.loading import is_onnx, load_program
from pyruntime.program import MOVEMENT, Node, Program
from pyruntime.session import InferenceSession, SessionOptions

# op -> position of the weight among the inputs
WEIGHT_INPUT = {"conv": 1, "dense": 1}
BITS = {"f32": 32, "s32": 32, "s64": 64, "u8": 8, "s8": 8}


def inspect_file(path: str | os.PathLike[str], options: SessionOptions | None = None) -> dict[str, Any]:
    """Report on a `.pyrt` or `.onnx` file.

    Returns `file, file_bytes, isa, num_threads, inputs, outputs, layers, float_layers, total`; a layer has
    `name, op, weight_shape, output_shape, scheme, sparsity, bits, bytes, codec, kernel, isa, precision`:
    sparsity is the share of weights that are zero, bits the width one stored weight has when decoded, bytes
    what all constants of the layer occupy in the file.
    """
    program = load_program(path)
    session = InferenceSession(program, options)
    stored = _stored(path, program)
    kernels = {row["node"]: row for row in session.kernels()}
    layers = [_layer(program, node, kernels.get(node.name, {}), stored) for node in program.nodes]
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


def float_layers(program: Program, kernels: list[dict[str, Any]]) -> list[str]:
    """Names of the nodes that compute in float: moving data and converting at the border is no computing."""
    idle = {node.name for node in program.nodes if node.op in (*MOVEMENT, "quantize", "dequantize", "cast")}
    return [row["node"] for row in kernels if row["precision"] == "float32" and row["node"] not in idle]


def _layer(
    program: Program, node: Node, kernel: dict[str, Any], stored: dict[str, tuple[str, int]]
) -> dict[str, Any]:
    names = [name for name in node.inputs if name in program.constants]
    weight = None
    if node.op in WEIGHT_INPUT:
        weight = program.constants.get(node.inputs[WEIGHT_INPUT[node.op]])
    sparsity = None
    if weight is not None:
        sparsity = 1.0 - np.count_nonzero(weight.array) / max(weight.array.size, 1)
    main = weight.name if weight is not None else next(iter(names), None)
    return {
        "name": node.name,
        "op": node.op,
        "weight_shape": list(weight.array.shape) if weight is not None else None,
        "output_shape": list(program.values[node.outputs[0]].shape),
        "scheme": (weight.scheme or program.dtype(weight.name)) if weight is not None else None,
        "sparsity": sparsity,
        "bits": BITS[program.dtype(weight.name)] if weight is not None else None,
        "bytes": sum(stored[name][1] for name in names if name in stored),
        "codec": stored[main][0] if main in stored else None,
        "kernel": kernel.get("kernel", ""),
        "isa": kernel.get("isa", ""),
        "precision": kernel.get("precision", ""),
    }


def _stored(path: str | os.PathLike[str], program: Program) -> dict[str, tuple[str, int]]:
    """Codec and stored bytes of every constant. An ONNX file stores plain arrays."""
    if is_onnx(path):
        return {name: ("plain", constant.array.nbytes) for name, constant in program.constants.items()}
    with Path(path).open("rb") as stream:  # `read` has validated the file
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    codecs = {
        name: entry["codec"]
        for name, entry in json.loads(header["__metadata__"]["program"])["constants"].items()
    }
    sizes = dict.fromkeys(codecs, 0)
    for tensor, entry in header.items():
        if tensor == "__metadata__":
            continue
        name = tensor if codecs.get(tensor) == "dense" else tensor.rpartition(".")[0]
        begin, end = entry["data_offsets"]
        sizes[name] = sizes.get(name, 0) + end - begin
    return {name: (codecs[name], sizes[name]) for name in codecs}
