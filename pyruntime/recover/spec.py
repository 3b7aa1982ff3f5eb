"""The words of `--recover`."""

from __future__ import annotations

from collections.abc import Iterable

from pyruntime import spec as words

STEPS = ("obs", "bn", "equalize", "smooth", "adaround", "bias")
"""In the order in which they run."""


def parse_steps(names: Iterable[str]) -> tuple[str, ...]:
    """The steps asked for, each once, in the order in which they run.

    Errors: OptionError that lists the valid ones.
    """
    asked = {words.choose(name.strip(), STEPS, f"--recover '{name}': step") for name in names}
    return tuple(step for step in STEPS if step in asked)
