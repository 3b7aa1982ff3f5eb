"""Writes a program as a `.pyrt` file: the smallest codec per constant, the same bytes every time."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyruntime.errors import ModelError, PyruntimeError
from pyruntime.numerics import flush
from pyruntime.pack.codecs import CODECS, smallest
from pyruntime.pack.container import serialize
from pyruntime.program import Array, Program, dtype_name, validate

FORMAT_VERSION = 1
PRODUCER = "pyruntime-cpu 0.1.0"


@dataclass
class TensorReport:
    """How one constant is stored. `density` is the share of entries that are not zero."""

    name: str
    dtype: str
    shape: list[int]
    scheme: str
    codec: str
    bytes: int
    dense_bytes: int
    density: float


@dataclass
class PackReport:
    """What `write` made: the file, its size in bytes, and one row per constant."""

    path: str
    bytes: int
    tensors: list[TensorReport] = field(default_factory=list)


def write(program: Program, path: str | os.PathLike[str]) -> PackReport:
    """Validates the program and writes it.

    The file appears whole or not at all (a temporary file beside it is renamed). Subnormal float32
    constants are flushed to zero. Raises FileFormatError for an invalid program, PyruntimeError for a path
    that cannot be written.
    """
    pieces, rows = encode(program)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                size = sum(file.write(piece) for piece in pieces)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PyruntimeError(f"{target}: cannot write the file ({reason}); check the folder") from None
    return PackReport(str(target), size, rows)


def dumps(program: Program) -> bytes:
    """The bytes `write` would put into the file."""
    return b"".join(encode(program)[0])


def encode(program: Program) -> tuple[list[bytes | memoryview], list[TensorReport]]:
    """Pieces of the file, in order, and a row per constant."""
    validate(program)
    tensors: dict[str, Array] = {}
    described: dict[str, Any] = {}
    rows = []
    for name, constant in program.constants.items():
        array = np.ascontiguousarray(constant.array).reshape(constant.array.shape)
        if array.dtype == np.float32:
            array = flush(array)
        codec = _codec(name, array, program)
        parts = CODECS[codec].encode(array)
        assert parts is not None
        tensors.update({f"{name}.{part}" if part else name: stored for part, stored in parts.items()})
        row = _row(name, array, constant.scheme, codec, sum(stored.nbytes for stored in parts.values()))
        rows.append(row)
        described[name] = {"dtype": row.dtype, "shape": row.shape, "codec": codec}
        if constant.scheme:
            described[name]["scheme"] = constant.scheme
    metadata = {"format": "pyrt", "program": _document(program, described)}
    return list(serialize(tensors, metadata)), rows


def _codec(name: str, array: Array, program: Program) -> str:
    """The smallest codec; `dense` where the names of its parts would meet another constant's name."""
    if name == "__metadata__":
        raise ModelError("constant '__metadata__': the name is reserved; rename the tensor")
    if any(other.startswith(name + ".") for other in program.constants):
        return "dense"
    return smallest(array)


def _row(name: str, array: Array, scheme: str, codec: str, size: int) -> TensorReport:
    return TensorReport(
        name=name,
        dtype=dtype_name(array.dtype),
        shape=list(array.shape),
        scheme=scheme,
        codec=codec,
        bytes=size,
        dense_bytes=array.nbytes,
        density=float(np.count_nonzero(array) / array.size) if array.size else 0.0,
    )


def _document(program: Program, constants: dict[str, Any]) -> str:
    values = {}
    for name, value in program.values.items():
        entry: dict[str, Any] = {"dtype": value.dtype, "shape": value.shape}
        if value.scale is not None:
            entry |= {"scale": value.scale, "zero_point": value.zero_point}
        values[name] = entry
    nodes = [
        {
            "name": node.name,
            "op": node.op,
            "inputs": node.inputs,
            "outputs": node.outputs,
            "attributes": node.attributes,
        }
        for node in program.nodes
    ]
    document = {
        "format_version": FORMAT_VERSION,
        "producer": PRODUCER,
        "name": program.name,
        "inputs": program.inputs,
        "outputs": program.outputs,
        "values": values,
        "constants": constants,
        "nodes": nodes,
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(x: object) -> object:
    """NumPy scalars in attributes as Python numbers."""
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(f"cannot store {type(x).__name__}")
