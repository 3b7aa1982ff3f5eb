"""Small floating-point formats: a sign, `exponent` bits and `mantissa` bits, at most 16 in all.

    exponent field e = 0:  mantissa * 2^(1 - bias - M)                (zero and subnormals)
    otherwise:             (1 + mantissa / 2^M) * 2^(e - bias)        bias = 2^(E-1) - 1

Finite numbers only. `fp16`, `bf16` and `fp8_e5m2` keep the highest exponent field for infinities and NaN, as
IEEE 754 does; `fp8_e4m3` keeps its highest code alone for NaN (Micikevicius et al. 2022); a plain `fp:E.M`
keeps nothing back. What is too large becomes the largest finite number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MAX_BITS = 16


@dataclass(frozen=True)
class Format:
    """`reserved`: codes at the top that are no finite numbers."""

    exponent: int
    mantissa: int
    reserved: int = 0

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        return int(2 ** (self.exponent - 1)) - 1

    @property
    def largest_code(self) -> int:
        """Code of the largest finite number, without its sign."""
        return int(2 ** (self.exponent + self.mantissa)) - 1 - self.reserved

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return float(self.decode(np.array([self.largest_code]))[0])

    def encode(self, x: Array) -> npt.NDArray[np.uint16]:
        """Codes (sign in the highest of the `bits`) of the nearest numbers, ties to even; x finite."""
        magnitude = np.abs(np.asarray(x, np.float64))
        _, power = np.frexp(magnitude)
        field = np.maximum(power - 1 + self.bias, 1).astype(np.int64)
        # In units of the last place; rounding up to the next power of two carries into the exponent field.
        units = np.rint(np.ldexp(magnitude, self.mantissa - (field - self.bias))).astype(np.int64)
        code = np.where(magnitude == 0, 0, ((field - 1) << self.mantissa) + units)
        code = np.minimum(code, self.largest_code)
        sign = (np.asarray(x) < 0) & (code > 0)
        codes: npt.NDArray[np.uint16] = (code | sign.astype(np.int64) << (self.bits - 1)).astype(np.uint16)
        return codes

    def decode(self, codes: Array) -> npt.NDArray[np.float64]:
        """The numbers, exact."""
        wide = codes.astype(np.int64)
        magnitude = wide & ((1 << (self.bits - 1)) - 1)
        field = magnitude >> self.mantissa
        hidden = np.where(field > 0, 1 << self.mantissa, 0)
        units = (hidden + (magnitude & ((1 << self.mantissa) - 1))).astype(np.float64)
        values = np.ldexp(units, np.maximum(field, 1) - self.bias - self.mantissa)
        signed: npt.NDArray[np.float64] = np.where(wide >> (self.bits - 1), -values, values)
        return signed

    def round(self, x: Array) -> npt.NDArray[np.float64]:
        """The nearest numbers of the format."""
        return self.decode(self.encode(x))


FORMATS: dict[str, Format] = {
    "fp16": Format(5, 10, reserved=2**10),
    "bf16": Format(8, 7, reserved=2**7),
    "fp8_e4m3": Format(4, 3, reserved=1),
    "fp8_e5m2": Format(5, 2, reserved=2**2),
}
_PLAIN = re.compile(r"fp:([1-9]\d?)\.(\d{1,2})")


def find_format(name: str) -> Format:
    """Format of `fp16`, `bf16`, `fp8_e4m3`, `fp8_e5m2` or `fp:E.M`; ValueError (one clause)."""
    if name in FORMATS:
        return FORMATS[name]
    found = _PLAIN.fullmatch(name)
    if found is None:
        raise ValueError(f"'{name}' is no float format; expected {', '.join(FORMATS)} or fp:E.M")
    exponent, mantissa = int(found[1]), int(found[2])
    if exponent > 8 or not 2 <= exponent + mantissa < MAX_BITS:
        raise ValueError(f"'{name}': expected 1..8 exponent bits and 3 to {MAX_BITS} bits with the sign")
    return Format(exponent, mantissa)
