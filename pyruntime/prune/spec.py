"""The words of `--prune`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyruntime import spec as words
from pyruntime.errors import OptionError
from pyruntime.prune import criteria, granularity

SCOPES = ("global", "layer")
OPTIONS = ("criterion", "scope", "exclude", "only")


@dataclass(frozen=True)
class PruneSpec:
    """What one `--prune` asks for.

    Attributes:
        granularity: a key of `granularity.GRANULARITIES`.
        amount: fraction of the groups to set to zero, in [0, 1); unused by 2:4.
        criterion: a key of `criteria.CRITERIA`.
        scope: `global` ranks the groups of all layers together, each score divided by what its layer would
        keep
            (see `select.layer_adaptive`); `layer` takes the same fraction of every layer.
        only, exclude: globs on node or weight names; with `only`, just the layers it matches.
    """

    granularity: str
    amount: float = 0.5
    criterion: str = "magnitude"
    scope: str = "global"
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def parse_spec(text: str) -> PruneSpec:
    """`weight=0.9`, `block4=0.85` or `2:4`, then options: `criterion=`, `scope=`, `only=GLOB`,
    `exclude=GLOB`.

    The globs may be repeated. Errors: OptionError, one line that lists what is valid.
    """
    head, options = words.split(text, "--prune")
    what = f"--prune '{text}': "
    name, equals, amount = (part.strip() for part in head.partition("="))
    if re.fullmatch(r"\d+:\d+", name) and name not in granularity.GRANULARITIES:
        raise OptionError(f"{what}pattern '{name}' is not built yet; available: {_heads()}")
    if name in granularity.LATER:
        raise OptionError(f"{what}granularity '{name}' is not built yet; available: {_heads()}")
    if name not in granularity.GRANULARITIES:
        raise OptionError(f"{what}granularity '{name}' is unknown; expected one of: {_heads()}")
    fixed = granularity.GRANULARITIES[name].fixed
    if fixed and equals:
        raise OptionError(f"{what}'{name}' takes no value; write just '{name}'")
    if not fixed and not equals:
        raise OptionError(f"{what}'{name}' needs a fraction; write for example '{name}=0.75'")
    return _with_options(
        PruneSpec(name, 0.5 if fixed else words.fraction(amount, what + name)), options, what
    )


def _with_options(spec: PruneSpec, options: list[tuple[str, str]], what: str) -> PruneSpec:
    criterion, scope = spec.criterion, spec.scope
    globs: dict[str, list[str]] = {"only": [], "exclude": []}
    for key, value in options:
        words.choose(key, OPTIONS, what + "option", later=("round_to",))
        if key == "criterion":
            criterion = words.choose(value, criteria.CRITERIA, what + "criterion", criteria.LATER)
        elif key == "scope":
            scope = words.choose(value, SCOPES, what + "scope")
        else:
            globs[key].append(value)
    return PruneSpec(
        spec.granularity, spec.amount, criterion, scope, tuple(globs["only"]), tuple(globs["exclude"])
    )


def _heads() -> str:
    return ", ".join(
        name if entry.fixed else f"{name}=FRACTION" for name, entry in granularity.GRANULARITIES.items()
    )
