"""The words of `--quantize`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyruntime import spec as words
from pyruntime.errors import OptionError
from pyruntime.quantize.observers import OBSERVERS
from pyruntime.quantize.schemes import NAMES, Integer, Scheme, parse_scheme

DEFAULT_OBSERVER = "mse"
DEFAULT_SCHEME = Integer()
NONE = "none"
MIXED = "mixed"  # a search for the scheme of each layer (pyruntime.target), not a scheme
# Weights of up to this many bits leave the first and the last layer, which few weights buy much accuracy, to
# int8.
ENDS_BITS = 4
ENDS = ("int8", "same")
ACTIVATIONS = ("u8", "s8", "dynamic", "float")


@dataclass(frozen=True)
class QuantizeSpec:
    """What `--quantize` asks for.

    Attributes:
        scheme: of the weights; None leaves them float32.
        calibrate: the observer that chooses activation ranges, a key of `observers.OBSERVERS`.
        activations: `u8` (static, per tensor: layers run on integers), `s8` (the same levels, 128 lower, in
            the QDQ model; program and answers are those of `u8`), `dynamic` (as `u8`, but dense layers take
            the range of each token from the token, see `per_token`) or `float` (weights are decoded when
            loading, layers run in float32). Always `float` for a scheme without integers.
        ends: whether layers with nothing before or nothing after them get int8 weights instead.
    """

    scheme: Scheme | None = DEFAULT_SCHEME
    calibrate: str = DEFAULT_OBSERVER
    activations: str = "u8"
    ends: bool = False

    @property
    def integer(self) -> bool:
        """Whether layers run on integers."""
        return self.scheme is not None and self.activations != "float"


def parse_spec(text: str) -> QuantizeSpec:
    """`none`, or a scheme (`schemes.SCHEMES`) and its options, with `calibrate=minmax|average|...`,
    `activations=u8|s8|dynamic|float` and `ends=int8|same`.

    Errors: OptionError, one line that lists what is valid.
    """
    head, options = words.split(text, "--quantize")
    what = f"--quantize '{text}'"
    name, equals, _ = head.partition("=")
    if name.strip() == NONE:
        if equals:
            raise OptionError(f"{what}: scheme 'none' takes no value; write just 'none'")
        for key, _ in options:
            raise OptionError(f"{what}: option '{key}' has no effect with 'none'; leave it out")
        return QuantizeSpec(None, activations="float")
    if name.strip() == MIXED:
        raise OptionError(
            f"{what}: 'mixed' chooses for the whole network; give a layer one of: {', '.join(NAMES)}"
        )
    own, rest = _own(options, what)
    scheme = parse_scheme(head, rest, what)
    calibrate = words.choose(own.get("calibrate", DEFAULT_OBSERVER), OBSERVERS, f"{what}: observer")
    wanted = own.get("activations", "u8" if scheme.integer else "float")
    activations = words.choose(wanted, ACTIVATIONS, f"{what}: activations")
    if activations != "float" and not scheme.integer:
        raise OptionError(f"{what}: {scheme.label} weights run in float32; write activations=float")
    if "calibrate" in own and activations == "float":
        raise OptionError(f"{what}: option 'calibrate' has no effect with float activations; leave it out")
    small = scheme.bits <= ENDS_BITS
    ends = words.choose(own.get("ends", "int8" if small else "same"), ENDS, f"{what}: ends")
    return QuantizeSpec(scheme, calibrate, activations, ends == "int8")


def parse_layer(text: str, layer: str) -> QuantizeSpec:
    """As `parse_spec`, for some layers alone. Errors: OptionError that names them."""
    try:
        found = parse_spec(text)
    except OptionError as error:
        raise OptionError(f"layers: '{layer}': {error}") from None
    if found.activations in ("s8", "dynamic"):
        raise OptionError(
            f"layers: '{layer}': activations={found.activations} is for the whole network; write it in "
            "'quantize'"
        )
    return replace(found, ends=False)


def _own(options: list[tuple[str, str]], what: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The options that are not the scheme's, and those that are."""
    own: dict[str, str] = {}
    rest = []
    for key, value in options:
        if key not in ("calibrate", "activations", "ends"):
            rest.append((key, value))
        elif key in own:
            raise OptionError(f"{what}: option '{key}' is given twice")
        else:
            own[key] = value
    return own, rest
