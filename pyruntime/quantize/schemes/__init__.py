"""Quantization schemes: how weights are represented. One file each, one line in `SCHEMES`.

A file defines a scheme and its grid (see `base`), and `parse(name, value, options)`, which reads the head
`name=value` of a `--quantize` text and the options that belong to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pyruntime.errors import OptionError
from pyruntime.quantize.schemes import codebook, hashed, integer, pow2, small_float
from pyruntime.quantize.schemes.base import Adjust, Grid, IntegerGrid, Scheme
from pyruntime.quantize.schemes.integer import Integer
from pyruntime.quantize.schemes.words import Options

Parser = Callable[[str, "str | None", Options], Scheme]

# (how people write it, the names it matches, its parser)
SCHEMES: tuple[tuple[str, str, Parser], ...] = (
    ("int2..int8", r"int[2-8]", integer.parse),
    ("pow2", r"pow2", pow2.parse),
    ("codebook=K", r"codebook", codebook.parse),
    ("hashed=RATIO", r"hashed", hashed.parse),
    ("fp16, bf16, fp8_e4m3, fp8_e5m2, fp:E.M", r"fp16|bf16|fp8_e4m3|fp8_e5m2|fp:.*", small_float.parse),
)
NAMES = tuple(name for name, _, _ in SCHEMES)

__all__ = ["NAMES", "Adjust", "Grid", "Integer", "IntegerGrid", "Scheme", "parse_scheme"]


def parse_scheme(head: str, options: Iterable[tuple[str, str]], what: str) -> Scheme:
    """Scheme of a head such as `codebook=16` and its options.

    Args:
        what: how errors name the text, e.g. "--quantize 'int9'".
    Errors: OptionError that lists what is valid.
    """
    name, equals, value = (part.strip() for part in head.partition("="))
    for _, pattern, parse in SCHEMES:
        if re.fullmatch(pattern, name):
            return parse(name, value if equals else None, Options(options, what))
    raise OptionError(f"{what}: scheme '{name}' is unknown; expected one of: {', '.join(NAMES)}, none")
