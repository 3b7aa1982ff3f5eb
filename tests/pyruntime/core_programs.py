"""Building programs node by node and running them through the core, for its tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyruntime import _core, reference
from pyruntime.program import Array, Constant, Node, Program, Value
from pyruntime.validation import validate


class Builder:
    """Methods return the name of the value or constant they add; node outputs have no declared shape."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.program = Program("test", [], [])

    def input(
        self, dtype: str, shape: list[int | str], scale: float | None = None, zero_point: int | None = None
    ) -> str:
        name = f"x{len(self.program.inputs)}"
        self.program.values[name] = Value(name, dtype, shape, as_scale(scale), zero_point)
        self.program.inputs.append(name)
        return name

    def constant(self, array: Array) -> str:
        name = f"c{len(self.program.constants)}"
        self.program.constants[name] = Constant(name, np.ascontiguousarray(array))
        return name

    def node(
        self,
        op: str,
        inputs: list[str],
        dtype: str,
        scale: float | None = None,
        zero_point: int | None = None,
        **attributes: Any,
    ) -> str:
        index = len(self.program.nodes)
        out = f"v{index}"
        self.program.values[out] = Value(out, dtype, [], as_scale(scale), zero_point)
        self.program.nodes.append(Node(f"n{index}", op, inputs, [out], attributes))
        return out

    def weights(self, *shape: int, density: float = 1.0) -> Array:
        w = self.rng.integers(-127, 128, shape).astype(np.int8)
        w[self.rng.random(shape) >= density] = 0
        return w

    def scales(self, n: int, fan_in: int) -> tuple[str, str]:
        """Multipliers and offsets that spread the results of `fan_in` products over 0..255."""
        spread = 50 / (73 * 73 * np.sqrt(fan_in))
        multiplier = self.constant(self.rng.uniform(0.5, 1.5, n).astype(np.float32) * np.float32(spread))
        return multiplier, self.constant(self.rng.uniform(60, 190, n).astype(np.float32))

    def conv(
        self,
        x: str,
        channels: int,
        outputs: int,
        kernel: tuple[int, ...],
        strides: tuple[int, ...] | None = None,
        pads: tuple[int, ...] | None = None,
        dilations: tuple[int, ...] | None = None,
        groups: int = 1,
        residual: str | None = None,
        dtype: str = "u8",
        density: float = 1.0,
        **clamp: float,
    ) -> str:
        """Integer convolution of a u8 value."""
        axes = len(kernel)
        w = self.weights(outputs, channels // groups, *kernel, density=density)
        multiplier, offset = self.scales(outputs, int(np.prod(w.shape[1:])))
        attributes: dict[str, Any] = {
            "strides": list(strides or (1,) * axes),
            "pads": list(pads or (0,) * (2 * axes)),
            "dilations": list(dilations or (1,) * axes),
            "groups": groups,
            **clamp,
        }
        inputs = [x, self.constant(w), multiplier, offset]
        if residual is not None:
            inputs.append(residual)
            attributes |= {"a_multiplier": 0.75, "b_multiplier": 0.5, "add_offset": -20.25}
        quantized = (0.5, 11) if dtype == "u8" else (None, None)
        return self.node("conv", inputs, dtype, *quantized, **attributes)

    def feed(self, **sizes: int) -> dict[str, Array]:
        """Random inputs; symbolic dimensions take `sizes`, default 2."""
        arrays = {}
        for name in self.program.inputs:
            value = self.program.values[name]
            shape = [sizes.get(d, 2) if isinstance(d, str) else d for d in value.shape]
            arrays[name] = random_array(self.rng, value.dtype, shape)
        return arrays

    def finish(self, *outputs: str) -> Program:
        self.program.outputs = list(outputs)
        validate(self.program)
        return self.program


def as_scale(scale: float | None) -> float | None:
    return None if scale is None else float(np.float32(scale))


def random_array(rng: np.random.Generator, dtype: str, shape: list[int]) -> Array:
    if dtype == "f32":
        return rng.normal(0, 2, shape).astype(np.float32)
    low, high = {"u8": (0, 256), "s8": (-128, 128)}.get(dtype, (-1000, 1000))
    numpy_dtype = {"u8": np.uint8, "s8": np.int8, "s32": np.int32, "s64": np.int64}[dtype]
    return rng.integers(low, high, shape).astype(numpy_dtype)


def core_session(program: Program, isa: str = "", threads: int = 1, **options: Any) -> Any:
    values = {
        name: {"dtype": v.dtype, "shape": v.shape, "scale": v.scale, "zero_point": v.zero_point}
        for name, v in program.values.items()
    }
    nodes = [
        {"name": n.name, "op": n.op, "inputs": n.inputs, "outputs": n.outputs, "attributes": n.attributes}
        for n in program.nodes
    ]
    constants = {name: c.array for name, c in program.constants.items()}
    return _core.Session(values, constants, nodes, program.inputs, program.outputs, isa, threads, **options)


def assert_same(got: Array, expected: Array, label: str) -> None:
    assert got.dtype == expected.dtype, label
    assert got.shape == expected.shape, label
    if got.dtype == np.float32:
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5, err_msg=label)
    else:
        np.testing.assert_array_equal(got, expected, err_msg=label)


def check(
    program: Program, feed: dict[str, Array], isa: str = "", threads: int = 1, **options: Any
) -> list[Array]:
    """Runs a program twice and compares it with the reference: integers equal, floats within rounding."""
    session = core_session(program, isa, threads, **options)
    expected = reference.run(program, feed)
    arrays = [feed[name] for name in program.inputs]
    results = session.run(arrays)
    again = session.run(arrays)
    for name, got, repeated in zip(program.outputs, results, again, strict=True):
        assert_same(got, expected[name], f"{name} isa={isa or 'default'} threads={threads}")
        assert got.tobytes() == repeated.tobytes(), name
    return list(results)
