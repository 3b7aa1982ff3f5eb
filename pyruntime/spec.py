"""The words people write for a compression step: `head,key=value,key=value`."""

from __future__ import annotations

from collections.abc import Iterable

from pyruntime.errors import OptionError


def split(text: object, what: str) -> tuple[str, list[tuple[str, str]]]:
    """Head and options of `head,key=value,...`; blanks around each word are dropped.

    Args:
        text: what the person wrote.
        what: how to name it in an error, e.g. "--prune".
    Errors: OptionError if the text is empty, not a string, or an option has no `=` or no value.
    """
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f"{what} {text!r}: expected a text such as 'head,option=value'")
    head, *rest = [word.strip() for word in text.split(",")]
    if not head:
        raise OptionError(f"{what} '{text}': nothing stands before the first comma")
    options = []
    for word in rest:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not key or not value:
            raise OptionError(f"{what} '{text}': option '{word}' is not of the form name=value")
        options.append((key, value))
    return head, options


def choose(value: str, valid: Iterable[str], what: str, later: Iterable[str] = ()) -> str:
    """`value` if it is one of `valid`.

    Errors: OptionError that lists the valid ones; it says "not built yet" for a value of `later`.
    """
    valid = list(valid)
    if value in valid:
        return value
    if value in later:
        raise OptionError(f"{what} '{value}' is not built yet; available: {', '.join(valid)}")
    raise OptionError(f"{what} '{value}' is unknown; expected one of: {', '.join(valid)}")


def fraction(text: str, what: str) -> float:
    """Number in [0, 1). Errors: OptionError."""
    try:
        value = float(text)
    except ValueError:
        raise OptionError(f"{what}: '{text}' is not a number; expected a fraction in [0, 1)") from None
    if not 0.0 <= value < 1.0:
        raise OptionError(f"{what}: {text} is out of range; expected a fraction in [0, 1)")
    return value
