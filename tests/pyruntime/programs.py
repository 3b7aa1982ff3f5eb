"""Small programs that several tests share."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime.program import Array, Constant, Node, Program, Value


def single(
    op: str,
    inputs: dict[str, tuple[str, list[int | str], float | None, int | None]],
    constants: dict[str, Array],
    out: tuple[str, list[int | str], float | None, int | None],
    attributes: dict[str, Any],
    order: list[str] | None = None,
) -> Program:
    """A program of one node `n` whose output is `y`."""
    values = {name: Value(name, *described) for name, described in inputs.items()}
    values["y"] = Value("y", *out)
    arguments = order if order is not None else [*inputs, *constants]
    return Program(
        "test",
        list(inputs),
        ["y"],
        values,
        {name: Constant(name, array) for name, array in constants.items()},
        [Node("n", op, arguments, ["y"], attributes)],
    )


def conv_program(rng: np.random.Generator, channels: int = 5, outputs: int = 6) -> Program:
    """Integer 3x3 convolution with padding, u8 in and out."""
    weight = rng.integers(-127, 128, (outputs, channels, 3, 3)).astype(np.int8)
    return single(
        "conv",
        {"x": ("u8", ["N", channels, 7, 6], 0.5, 3)},
        {
            "w": weight,
            "m": rng.uniform(1e-4, 1e-2, outputs).astype(np.float32),
            "o": rng.uniform(0, 200, outputs).astype(np.float32),
        },
        ("u8", ["N", outputs, 7, 6], 0.25, 10),
        {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "groups": 1, "lo": 10},
    )
