"""What the heads of `--quantize` share when they read their value and options."""

from __future__ import annotations

from collections.abc import Iterable

from pyruntime import spec as words
from pyruntime.errors import OptionError

PER = ("channel", "tensor")


class Options:
    """The options of one scheme, each taken once; what is left over is an error."""

    def __init__(self, options: Iterable[tuple[str, str]], what: str) -> None:
        self.what = what
        self._left: dict[str, str] = {}
        for key, value in options:
            if key in self._left:
                raise OptionError(f"{what}: option '{key}' is given twice")
            self._left[key] = value

    def choice(self, key: str, valid: Iterable[str], default: str) -> str:
        value = self._left.pop(key, default)
        return words.choose(value, valid, f"{self.what}: {key}")

    def whole(self, key: str, low: int, high: int) -> int | None:
        """An integer option, None if it is absent."""
        if key not in self._left:
            return None
        return whole(self._left.pop(key), low, high, f"{self.what}: option '{key}'")

    def finish(self, valid: Iterable[str]) -> None:
        """Errors: OptionError for an option that the scheme does not have."""
        for key in self._left:
            known = ", ".join(valid)
            raise OptionError(f"{self.what}: option '{key}' is unknown here; expected one of: {known}")


def whole(text: str, low: int, high: int, what: str) -> int:
    """Integer in [low, high]. Errors: OptionError."""
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise OptionError(f"{what} is '{text}'; expected a whole number from {low} to {high}")
    return int(text)


def no_value(value: str | None, what: str, name: str) -> None:
    """Errors: OptionError if something stands after `name=`."""
    if value is not None:
        raise OptionError(f"{what}: scheme '{name}' takes no value; write just '{name}'")
