"""The compiled core. Use `pyruntime.InferenceSession`; these are its raw parts."""

from typing import Any

import numpy.typing as npt

class CoreError(RuntimeError):
    """What the core refuses, in one line."""

class Session:
    """A program ready to run. Immutable; `run` may be called from several threads at once."""

    def __init__(
        self,
        values: dict[str, dict[str, Any]],
        constants: dict[str, npt.NDArray[Any]],
        nodes: list[dict[str, Any]],
        inputs: list[str],
        outputs: list[str],
        isa: str = "",
        num_threads: int = 0,
        profiling: bool = False,
        weight_format: str = "auto",
        tuning: dict[str, str] | None = None,
        list_candidates: bool = False,
    ) -> None:
        """Arguments as in docs/format.md; constants are decoded, C-contiguous arrays; 8-bit weights of
        conv may also be channels-last.

        isa: cap, "" for the default. num_threads: 0 for every CPU it may use. weight_format: `auto`,
        or which rows of conv_int8 may run (`dense`, `winograd`, `int4`, `block4`, `bitmask`). tuning:
        choices of integer layers by signature. list_candidates: `tuning()` lists what else could run.
        Raises CoreError.
        """

    def run(self, inputs: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Runs on C-contiguous arrays of the declared dtypes; returns new arrays. Raises CoreError."""

    def run_again(self, feed: object) -> list[npt.NDArray[Any]] | None:
        """As `run`, of a dict of exactly the inputs in shapes that ran before; None if it is not that."""

    def kernels(self) -> list[dict[str, Any]]:
        """One dict per node of the newest plan: node, op, kernel, isa, precision, bytes (packed weights),
        tuned (chosen by the tuning).
        """

    def tuning(self) -> list[dict[str, Any]]:
        """One dict per integer layer of the newest plan: node, signature, choice (`<row>, <packing>, <pixel
        parts>x<channel parts>`), tuned. With list_candidates also rows, pairs of a choice without division
        and its estimated cycles, best first, and divisions, choices that differ from `choice` in these.

        Empty for sessions with neither `tuning` nor `list_candidates`.
        """

    def profile(self) -> list[dict[str, Any]]:
        """Dicts of node, op, kernel, calls, microseconds, summed over all runs; they add up to the wall time.

        A row per node, per copy the plan inserted (`op` is `copy`, `node` the value) and one of op `other`.
        """

    @property
    def isa(self) -> str: ...
    @property
    def num_threads(self) -> int: ...

def available_isas() -> list[str]:
    """Usable instruction sets, weakest first."""

def isa_report() -> list[dict[str, Any]]:
    """One dict per known instruction set: name, usable, reason."""

def cpu_features() -> dict[str, Any]:
    """What was detected of this CPU: a flag per instruction set, `amx_reason`, `brand`, `model`."""

def check_tuning(choices: dict[str, str]) -> None:
    """Raises CoreError for a choice of a layer that this build cannot read, or whose kernel it lacks."""

def registry() -> list[dict[str, Any]]:
    """One dict per kernel row of this build: family, name, isa, format (of weights, conv_int8
    only), usable (on this CPU)."""

class entropy:
    """Entropy-coded blocks (docs/format.md, section 4). Raises CoreError for what is malformed."""

    @staticmethod
    def encode(head: npt.NDArray[Any], symbols: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The block of symbols u8 [rows, columns] under the model that the head states."""

    @staticmethod
    def decode(
        block: npt.NDArray[Any],
        rows: int,
        columns: int,
        out: npt.NDArray[Any] | None = None,
        isa: str = "",
    ) -> npt.NDArray[Any]:
        """The symbols u8 [rows, columns] of a block, in `out` if that is given, with instructions up to
        `isa`.
        """

# Runs single kernels; for tests and benchmarks.
testing: Any
