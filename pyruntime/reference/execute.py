"""Runs the nodes of a program one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pyruntime.errors import DataError, ModelError
from pyruntime.program import DTYPES, Array, Node, Program, Value
from pyruntime.reference.call import Call
from pyruntime.reference.ops import OPS


def run(
    program: Program, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
) -> dict[str, Array]:
    """Evaluates a validated program.

    `inputs`: one array per program input, of the declared dtype and shape (symbolic dimensions take any
    size, the same for the same symbol). `outputs`: names of any values, default the program's outputs.
    Raises DataError for inputs that do not fit and ModelError for a node whose input shapes do not fit.
    """
    wanted = list(program.outputs if outputs is None else outputs)
    for name in wanted:
        if name not in program.values and name not in program.constants:
            raise DataError(f"output {name!r}: the program has no such value")
    arrays: dict[str, Array] = {name: constant.array for name, constant in program.constants.items()}
    arrays.update(_checked_inputs(program, inputs))
    for node in program.nodes:
        arrays[node.outputs[0]] = _evaluate(program, node, arrays)
    return {name: arrays[name] for name in wanted}


def _evaluate(program: Program, node: Node, arrays: Mapping[str, Array]) -> Array:
    out = program.values[node.outputs[0]]
    call = Call(
        arrays=[arrays[name] if name else None for name in node.inputs],
        sources=[program.values.get(name) for name in node.inputs],
        out=out,
        attributes=node.attributes,
    )
    try:
        with np.errstate(all="ignore"):
            result = OPS[node.op](call)
    except (ValueError, IndexError) as error:
        raise ModelError(f"node {node.name!r} ({node.op}): shapes do not fit: {error}") from error
    return np.ascontiguousarray(result, dtype=DTYPES[out.dtype]).reshape(result.shape)


def _checked_inputs(program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    unknown = sorted(set(inputs) - set(program.inputs))
    if unknown:
        raise DataError(f"input {unknown[0]!r}: not an input of the program, expected {program.inputs}")
    symbols: dict[str, int] = {}
    checked = {}
    for name in program.inputs:
        if name not in inputs:
            raise DataError(f"input {name!r} is missing")
        checked[name] = _checked_input(program.values[name], np.asarray(inputs[name]), symbols)
    return checked


def _checked_input(value: Value, array: Array, symbols: dict[str, int]) -> Array:
    expected = f"expected {value.dtype} {value.shape}"
    if array.dtype != DTYPES[value.dtype]:
        raise DataError(f"input {value.name!r}: dtype {array.dtype}, {expected}")
    fits = len(array.shape) == len(value.shape)
    for size, declared in zip(array.shape, value.shape, strict=False):
        wanted = symbols.setdefault(declared, size) if isinstance(declared, str) else declared
        fits = fits and size == wanted
    if not fits:
        raise DataError(f"input {value.name!r}: shape {list(array.shape)}, {expected}")
    return array
