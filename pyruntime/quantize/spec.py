"""The words of `--quantize`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyruntime import spec as words
from pyruntime.errors import OptionError
from pyruntime.quantize.observers import OBSERVERS

SCHEMES = ("int8", "none")
SCHEMES_LATER = re.compile(
    r"int[2-7]|pow2|fp16|bf16|fp8_e4m3|fp8_e5m2|fp:.*|codebook|hashed|mixed|group|bits|drop"
)
DEFAULT_OBSERVER = "mse"


@dataclass(frozen=True)
class QuantizeSpec:
    """What `--quantize` asks for.

    Attributes:
        scheme: `int8` (weights s8, symmetric, per output channel; activations u8 per tensor) or `none` (stay
        float). calibrate: the observer that chooses activation ranges, a key of `observers.OBSERVERS`.
    """

    scheme: str = "int8"
    calibrate: str = DEFAULT_OBSERVER


def parse_spec(text: str) -> QuantizeSpec:
    """`int8` or `none`, then options: `calibrate=minmax|average|percentile|entropy|mse`, `activations=u8`.

    Errors: OptionError, one line that lists what is valid.
    """
    head, options = words.split(text, "--quantize")
    what = f"--quantize '{text}': "
    name = head.partition("=")[0].strip()
    later = (name,) if SCHEMES_LATER.fullmatch(name) else ()
    scheme = words.choose(name, SCHEMES, what + "scheme", later)
    if name != head:
        raise OptionError(f"{what}scheme '{name}' takes no value; write just '{name}'")
    calibrate = DEFAULT_OBSERVER
    for key, value in options:
        words.choose(key, ("calibrate", "activations"), what + "option")
        if scheme == "none":
            raise OptionError(f"{what}option '{key}' has no effect with 'none'; leave it out")
        if key == "calibrate":
            calibrate = words.choose(value, OBSERVERS, what + "observer")
        else:
            words.choose(value, ("u8",), what + "activations", later=("s8", "float"))
    return QuantizeSpec(scheme, calibrate)
