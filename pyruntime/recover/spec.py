"""The words of `--recover`."""

from __future__ import annotations

from collections.abc import Iterable

from pyruntime import spec as words

STEPS = ("obs", "bn", "equalize", "smooth", "adaround", "bias")
"""In the order in which they run."""


NONE = "none"


def parse_steps(names: Iterable[str]) -> tuple[str, ...]:
    """The steps asked for, each once, in the order in which they run; `none` alone stands for no step.

    Errors: OptionError that lists the valid ones.
    """
    given = [name.strip() for name in names]
    if given == [NONE]:
        return ()
    asked = {words.choose(name, STEPS, f"--recover '{name}': step") for name in given}
    return tuple(step for step in STEPS if step in asked)
