"""InferenceSession: runs a packed file, with the habits of onnxruntime.

The session is immutable and `run` is re-entrant: any number of threads may call it at once, the interpreter
lock is released while the core computes, and the integer result depends neither on the instruction set nor on
the thread count.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pyruntime import _core
from pyruntime.errors import DataError, ModelError, OptionError
from pyruntime.pack import read
from pyruntime.program import Program
from pyruntime.tuning import Machine, check_layers, read_choices, this_machine

if TYPE_CHECKING:
    from pyruntime.compression import CompressedModel

ArrayLike: TypeAlias = "npt.NDArray[Any]"
Source: TypeAlias = "str | os.PathLike[str] | bytes | Program | CompressedModel"

MAX_THREADS = 1024

# dtype of the file -> (NumPy dtype, name onnxruntime gives it)
_DTYPES: dict[str, tuple[np.dtype[Any], str]] = {
    "f32": (np.dtype(np.float32), "tensor(float)"),
    "u8": (np.dtype(np.uint8), "tensor(uint8)"),
    "s8": (np.dtype(np.int8), "tensor(int8)"),
    "s32": (np.dtype(np.int32), "tensor(int32)"),
    "s64": (np.dtype(np.int64), "tensor(int64)"),
}


@dataclass(frozen=True)
class SessionOptions:
    """How a session runs.

    num_threads: threads one `run` uses; None takes PYRUNTIME_NUM_THREADS, else every CPU this process may
    use.
    isa: strongest instruction set allowed (see `available_isas`); None takes PYRUNTIME_ISA, else the best
    usable.
    enable_profiling: measure every node; read the times with `InferenceSession.profile`.
    tuning: a file of `pyruntime tune`, whose choices of kernels and divisions go before those of the cost
    models; answers stay the same. None: cost models alone.
    """

    num_threads: int | None = None
    isa: str | None = None
    enable_profiling: bool = False
    tuning: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class NodeArg:
    """An input or output of a model: `shape` has an int or the name of a symbolic dimension per axis."""

    name: str
    shape: list[int | str]
    type: str
    dtype: np.dtype[Any]


class InferenceSession:
    """Runs one model.

    source: path or bytes of a `.pyrt` file, a `Program`, or what `pyruntime.compress` returns.
    Raises FileFormatError (not a packed file, or a damaged one), ModelError (the core cannot run it) and
    OptionError (bad option or environment variable, or a tuning that has nothing for this CPU, instruction
    set and thread count, or for the layers of this model).
    """

    def __init__(self, source: Source, options: SessionOptions | None = None) -> None:
        options = options or SessionOptions()
        num_threads = resolve_num_threads(options.num_threads)
        isa = resolve_isa(options.isa)
        choices = None
        if options.tuning is not None:
            choices = read_choices(options.tuning, resolved_machine(isa, num_threads))
        program, self._label = _load(source, num_threads or _default_num_threads())
        self._profiling = options.enable_profiling
        self._inputs = [_node_arg(program, name) for name in program.inputs]
        self._outputs = [_node_arg(program, name) for name in program.outputs]
        self._input_names, self._output_names = list(program.inputs), list(program.outputs)
        try:
            self._core = make_core(
                program, isa, num_threads, profiling=options.enable_profiling, tuning=choices
            )
        except _core.CoreError as error:
            raise ModelError(f"{self._label}: {error}") from None
        if options.tuning is not None and choices is not None:
            signatures = [layer["signature"] for layer in self._core.tuning()]
            check_layers(options.tuning, choices, signatures, self._label)

    @property
    def isa(self) -> str:
        """Strongest instruction set this session may use."""
        return self._core.isa

    @property
    def num_threads(self) -> int:
        """Threads one `run` uses, the caller's included."""
        return self._core.num_threads

    def get_inputs(self) -> list[NodeArg]:
        """The inputs, in order."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in order."""
        return list(self._outputs)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]
    ) -> list[npt.NDArray[Any]]:
        """Runs the model and returns the outputs asked for (None: all), as new arrays.

        input_feed: one C-contiguous NumPy array, or an object with `__dlpack__` on the CPU, per input, of
        exactly the declared dtype and a shape that fits; nothing is copied or converted. Raises DataError
        otherwise.
        """
        names = self._output_names
        wanted = names if output_names is None else list(output_names)
        for name in wanted:
            if name not in names:
                raise DataError(f"output {name!r} does not exist; the model has {_quoted(names)}")
        try:
            # Most feeds are like the one before; the core sees that faster than the checks below.
            results = self._core.run_again(input_feed)
            if results is None:
                results = self._core.run(self._check_feed(input_feed))
        except _core.CoreError as error:
            raise DataError(f"{self._label}: {error}") from None
        return results if output_names is None else [results[names.index(name)] for name in wanted]

    def kernels(self) -> list[dict[str, Any]]:
        """What runs where: one dict per node with `node, op, kernel, isa, precision, bytes` (of packed
        weights) and `tuned` (chosen by `SessionOptions.tuning`).
        """
        return self._core.kernels()

    def profile(self) -> list[dict[str, Any]]:
        """Times per node, summed over the runs so far; their total is the wall time of those runs.

        Raises OptionError unless the session was made with `enable_profiling=True`.
        """
        if not self._profiling:
            raise OptionError("profile() needs SessionOptions(enable_profiling=True)")
        return self._core.profile()

    def _check_feed(self, feed: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
        names = self._input_names
        for name in feed:
            if name not in names:
                raise DataError(f"input {name!r} does not exist; the model has {_quoted(names)}")
        for name in names:
            if name not in feed:
                raise DataError(f"input {name!r} is missing; the model has {_quoted(names)}")
        symbols: dict[str, tuple[int, str]] = {}
        return [_check_input(argument, feed[argument.name], symbols) for argument in self._inputs]


def make_core(
    program: Program,
    isa: str,
    num_threads: int,
    *,
    profiling: bool = False,
    tuning: Mapping[str, str | None] | None = None,
    list_candidates: bool = False,
) -> _core.Session:
    """The core's session of a program. Raises _core.CoreError.

    isa, num_threads: as `resolve_isa` and `resolve_num_threads` return them. tuning: see `read_choices`.
    """
    nodes = [
        {
            "name": node.name,
            "op": node.op,
            "inputs": list(node.inputs),
            "outputs": list(node.outputs),
            "attributes": dict(node.attributes),
        }
        for node in program.nodes
    ]
    choices = None
    if tuning is not None:
        choices = {signature: choice for signature, choice in tuning.items() if choice is not None}
    return _core.Session(
        {name: _value_dict(value) for name, value in program.values.items()},
        _core_arrays(program),
        nodes,
        list(program.inputs),
        list(program.outputs),
        isa,
        num_threads,
        profiling,
        tuning=choices,
        list_candidates=list_candidates,
    )


def resolved_machine(isa: str, num_threads: int) -> Machine:
    """What a tuning file calls this CPU; isa and num_threads as `resolve_...` return them."""
    return this_machine(isa or available_isas()[-1], num_threads or _default_num_threads())


def available_isas() -> list[str]:
    """Names of the instruction sets this CPU and this build can use, weakest first."""
    return list(_core.available_isas())


def cpu_features() -> dict[str, Any]:
    """What was detected of this CPU: a flag per instruction set, and the brand string."""
    return dict(_core.cpu_features())


def resolve_isa(requested: str | None) -> str:
    """The instruction set to use: `requested`, else PYRUNTIME_ISA, else "" (the core takes the strongest
    usable).

    Raises OptionError for an unknown name, or one this CPU or build cannot use.
    """
    origin = "isa" if requested is not None else "PYRUNTIME_ISA"
    name = os.environ.get("PYRUNTIME_ISA", "") if requested is None else requested
    if requested is None and not name:
        return ""
    report = {row["name"]: row for row in _core.isa_report()}
    usable = ", ".join(available_isas())
    if name not in report:
        raise OptionError(
            f"{origin}: unknown instruction set {name!r}; known: {', '.join(report)}; usable here: {usable}"
        )
    if not report[name]["usable"]:
        raise OptionError(
            f"{origin}: {name!r} cannot be used here: {report[name]['reason']}; usable here: {usable}"
        )
    return name


def resolve_num_threads(requested: int | None) -> int:
    """The thread count to use: `requested`, else PYRUNTIME_NUM_THREADS, else 0 (the core takes what it may
    use).

    Raises OptionError unless the value is an integer from 1 to 1024.
    """
    value: object = requested
    origin = "num_threads"
    if requested is None:
        text = os.environ.get("PYRUNTIME_NUM_THREADS", "")
        if not text:
            return 0
        origin = "PYRUNTIME_NUM_THREADS"
        value = int(text) if text.isascii() and text.isdigit() else text
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= MAX_THREADS:
        raise OptionError(f"{origin}: expected an integer from 1 to {MAX_THREADS}, got {value!r}")
    return int(value)


def _default_num_threads() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load(source: Source, num_threads: int) -> tuple[Program, str]:
    """The program of `source`, and the name errors give it."""
    if isinstance(source, Program):
        return source, source.name or "program"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read(bytes(source), num_threads), "<bytes>"
    if isinstance(source, (str, os.PathLike)):
        return read(source, num_threads), os.fspath(source)
    program = getattr(source, "program", None)
    if isinstance(program, Program):
        return program, program.name or "program"
    raise OptionError(
        f"InferenceSession: expected a path, bytes, Program or CompressedModel, got {type(source).__name__}"
    )


def _core_arrays(program: Program) -> dict[str, npt.NDArray[Any]]:
    """The constants as the core takes them: C-contiguous; what conv alone reads also channels-last."""
    weights = {node.inputs[1] for node in program.nodes if node.op == "conv"}
    others = {name for node in program.nodes for name in node.inputs[:1] + node.inputs[2:]}
    others |= {node.inputs[1] for node in program.nodes if node.op != "conv" and len(node.inputs) > 1}
    weights -= others | set(program.outputs)
    arrays = {}
    for name, constant in program.constants.items():
        array = constant.array
        stays = name in weights and array.dtype == np.int8 and np.moveaxis(array, 1, -1).flags.c_contiguous
        arrays[name] = array if stays else np.asarray(array, order="C")
    return arrays


def _value_dict(value: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"dtype": value.dtype, "shape": list(value.shape)}
    if value.scale is not None:
        entry["scale"] = value.scale
        entry["zero_point"] = value.zero_point
    return entry


def _node_arg(program: Program, name: str) -> NodeArg:
    value = program.values[name]
    dtype, type_name = _DTYPES[value.dtype]
    return NodeArg(name, list(value.shape), type_name, dtype)


def _check_input(argument: NodeArg, given: Any, symbols: dict[str, tuple[int, str]]) -> npt.NDArray[Any]:
    """`given` as an array that the core may read in place, or a DataError that says what was expected."""
    # The texts are made for errors alone: the names of dtypes take longer than a small layer.
    array: npt.NDArray[Any] = given if isinstance(given, np.ndarray) else _from_dlpack(argument, given)
    if array.dtype != argument.dtype:
        raise DataError(f"{_mismatch(argument, array)}; convert it with .astype(numpy.{argument.dtype.name})")
    if len(array.shape) != len(argument.shape):
        raise DataError(_mismatch(argument, array))
    for axis, (want, have) in enumerate(zip(argument.shape, array.shape, strict=True)):
        if isinstance(want, int):
            if have != want:
                raise DataError(_mismatch(argument, array))
        elif want in symbols and symbols[want][0] != have:
            size, other = symbols[want]
            raise DataError(
                f"{_mismatch(argument, array)}; axis {axis} ({want}) is {size} in input {other!r}"
            )
        else:
            symbols[want] = (have, argument.name)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise DataError(
            f"{_mismatch(argument, array)} that is not contiguous (or not aligned); "
            "pass numpy.ascontiguousarray(x)"
        )
    return array


def _from_dlpack(argument: NodeArg, given: Any) -> npt.NDArray[Any]:
    if not hasattr(given, "__dlpack__"):
        raise DataError(
            f"{_expected(argument)}, got {type(given).__name__}; pass a NumPy array or a DLPack object"
        )
    try:
        return np.from_dlpack(given)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{_expected(argument)}, got a DLPack object NumPy cannot read: {reason}") from None


def _expected(argument: NodeArg) -> str:
    return f"input {argument.name!r}: expected {argument.dtype.name} {_shape_text(argument.shape)}"


def _mismatch(argument: NodeArg, array: npt.NDArray[Any]) -> str:
    dtype = array.dtype.name if array.dtype.isnative else array.dtype
    return f"{_expected(argument)}, got {dtype} {_shape_text(list(array.shape))}"


def _shape_text(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(str(size) for size in shape)}]"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
