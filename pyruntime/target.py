"""The words of `--target`, and of `--quantize mixed`: what a search for a recipe has to reach."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pyruntime import spec as words
from pyruntime.errors import OptionError

MIXED = "mixed"
UNITS = {"size": {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}, "latency": {"us": 1.0, "ms": 1e3, "s": 1e6}}
KINDS = ("size", "latency", "accuracy_drop")


@dataclass(frozen=True)
class Target:
    """What the compressed network may cost.

    Attributes:
        kind: `size` (bytes of the file), `latency` (microseconds for one sample on this CPU), `accuracy_drop`
            (points, at the least size) or `bits` (for each weight in the file, on average).
        value: in these units, or a share of the float32 network's if `relative`.
        prune: whether the search may set weights to zero, too.
        text: as it was written.
    """

    kind: str
    value: float
    relative: bool = False
    prune: bool = True
    text: str = ""


def parse_target(text: str) -> Target:
    """`size=0.25` or `latency=0.5` (shares of the float32 network's), `size=2.5MB`, `latency=1.5ms`,
    `accuracy_drop=0.5` (points). Errors: OptionError, one line that says what is valid.
    """
    name, equals, value = (part.strip() for part in str(text).partition("="))
    words.choose(name, KINDS, "--target")
    what = f"--target '{text}'"
    example = {"size": "size=0.25 or size=2.5MB", "latency": "latency=0.5 or latency=1.5ms"}
    wanted = f"expected for example {example.get(name, 'accuracy_drop=0.5')}"
    match = re.fullmatch(r"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Z]*)", value)
    if not equals or match is None:
        raise OptionError(f"{what}: '{value}' is not a number; {wanted}")
    number, unit = float(match[1]), match[2]
    if name == "accuracy_drop":
        if unit or not 0 <= number < 100:
            raise OptionError(f"{what}: expected points of accuracy from 0 to 100, without a unit; {wanted}")
        return Target(name, number, text=str(text))
    if not unit:
        if not 0 < number < 1:
            raise OptionError(
                f"{what}: a number without a unit is a share of the float32 network's, from 0 to 1; {wanted}"
            )
        return Target(name, number, relative=True, text=str(text))
    if unit not in UNITS[name] or number <= 0:
        raise OptionError(f"{what}: unit '{unit}' is unknown; expected one of: {', '.join(UNITS[name])}")
    return Target(name, number * UNITS[name][unit], text=str(text))


def is_mixed(quantize: object) -> bool:
    """Whether a word of `--quantize` asks for a search."""
    return isinstance(quantize, str) and quantize.split(",")[0].strip() == MIXED


def parse_mixed(text: str) -> tuple[Target, str]:
    """`mixed,bits=4.5` or `mixed,drop=0.5`, with the observer of activations (`calibrate=`): the target, and
    the word of `--quantize` for layers that the search leaves alone.

    Errors: OptionError.
    """
    _, options = words.split(text, "--quantize")
    what = f"--quantize '{text}'"
    found: dict[str, str] = {}
    for key, value in options:
        words.choose(key, ("bits", "drop", "calibrate"), f"{what}: option")
        if key in found:
            raise OptionError(f"{what}: option '{key}' is given twice")
        found[key] = value
    if ("bits" in found) == ("drop" in found):
        raise OptionError(f"{what}: give one of bits=N (of a weight, on average) and drop=POINTS")
    base = "int8" + (f",calibrate={found['calibrate']}" if "calibrate" in found else "")
    if "drop" in found:
        points = _number(found["drop"])
        if points is None or not 0 <= points < 100:
            raise OptionError(
                f"{what}: drop: '{found['drop']}' is out of range; expected points from 0 to 100"
            )
        return Target("accuracy_drop", points, prune=False, text=text), base
    bits = _number(found["bits"])
    if bits is None or not 1 <= bits <= 8:
        raise OptionError(f"{what}: bits: '{found['bits']}' is out of range; expected 1 to 8")
    return Target("bits", bits, prune=False, text=text), base


def _number(text: str) -> float | None:
    """A finite number >= 0; None if the text is something else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None
