"""The words of `--prune`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pyruntime import spec as words
from pyruntime.errors import OptionError
from pyruntime.prune import granularity
from pyruntime.prune.criteria import CRITERIA

SCOPES = ("global", "layer", "budget")
OPTIONS = ("criterion", "scope", "exclude", "only")
WHOLE_OPTIONS = (*OPTIONS, "round_to", "macs")
LANES = 16


@dataclass(frozen=True)
class PruneSpec:
    """What one `--prune` asks for.

    Attributes:
        granularity: `filter`, `channel`, or a name that `granularity.find` knows.
        amount: fraction of the groups to set to zero, or of the channels or MACs (see `budget`) to remove, in
            [0, 1); unused by N:M.
        criterion: a key of `criteria.CRITERIA`.
        scope: `global` ranks the groups of all layers together, each score divided by what its layer would
            keep (see `select.layer_adaptive`); `layer` takes the same fraction of every layer; `budget`
            takes of each layer what the measured loss of the outputs suggests (`pyruntime.search`).
        only, exclude: globs on node or weight names; with `only`, just the layers it matches. `filter` looks
            at the layers that make a channel, `channel` at those that read it.
        round_to: counts of channels that are left are multiples of it, since kernels work on that many at
            once; tensors with no more channels than that are left alone. 8 suits networks of few channels: it
            costs less accuracy (docs/results.md), and AVX-512 kernels have panels of 8. 1 allows any count.
        budget: what `amount` is a fraction of, `channels` or `macs`.
    """

    granularity: str
    amount: float = 0.5
    criterion: str = "magnitude"
    scope: str = "global"
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    round_to: int = LANES
    budget: str = "channels"

    @property
    def whole(self) -> bool:
        """Whether channels are removed (`filter`, `channel`)."""
        return self.granularity in granularity.WHOLE

    @property
    def needs(self) -> tuple[str, ...]:
        """What has to be measured on calibration data, as `Criterion.needs`."""
        criterion = CRITERIA[self.criterion]
        return criterion.needs if self.whole else criterion.weights_need


def parse_spec(text: str) -> PruneSpec:
    """`weight=0.9`, `block4=0.85`, `2:4`, `filter=0.3`, `channel=0.3`, then options: `criterion=`, `scope=`,
    `only=GLOB`, `exclude=GLOB`; of `filter` and `channel` also `round_to=` and, in place of the fraction of
    channels, `macs=FRACTION`.

    The globs may be repeated. Errors: OptionError, one line that lists what is valid.
    """
    head, options = words.split(text, "--prune")
    what = f"--prune '{text}': "
    name, equals, amount = (part.strip() for part in head.partition("="))
    whole, found = name in granularity.WHOLE, granularity.find(name)
    if not whole and found is None:
        raise OptionError(f"{what}granularity '{name}' is unknown; expected one of: {_heads()}")
    fixed = found is not None and found.fixed
    by_macs = whole and any(key == "macs" for key, _ in options)
    if equals and (fixed or by_macs):
        advice = "leave out one of the two fractions" if by_macs else f"write just '{name}'"
        raise OptionError(f"{what}'{name}' takes no value{' beside macs' if by_macs else ''}; {advice}")
    if not equals and not fixed and not by_macs:
        raise OptionError(f"{what}'{name}' needs a fraction; write for example '{name}=0.75'")
    base = PruneSpec(name, words.fraction(amount, what + name) if equals else 0.5)
    return _with_options(base, options, what)


def _with_options(spec: PruneSpec, options: list[tuple[str, str]], what: str) -> PruneSpec:
    changes: dict[str, Any] = {}
    globs: dict[str, list[str]] = {"only": [], "exclude": []}
    for key, value in options:
        words.choose(key, WHOLE_OPTIONS if spec.whole else OPTIONS, what + "option")
        if key == "criterion":
            changes[key] = words.choose(value, CRITERIA, what + "criterion")
        elif key == "scope":
            changes[key] = words.choose(value, SCOPES, what + "scope")
        elif key == "round_to":
            changes[key] = _lanes(value, what)
        elif key == "macs":
            changes |= {"amount": words.fraction(value, what + key), "budget": "macs"}
        else:
            globs[key].append(value)
    changes |= {name: tuple(patterns) for name, patterns in globs.items()}
    found = replace(spec, **changes)
    if not found.whole and CRITERIA[found.criterion].weights is None:
        raise OptionError(
            f"{what}criterion '{found.criterion}' judges whole channels; use it with filter=FRACTION or "
            "channel=FRACTION"
        )
    if found.scope == "budget" and (found.whole or not granularity_takes_fraction(found)):
        raise OptionError(f"{what}scope=budget shares out a fraction of weights or blocks; use scope=layer")
    return found


def granularity_takes_fraction(spec: PruneSpec) -> bool:
    pattern = granularity.find(spec.granularity)
    return pattern is not None and not pattern.fixed


def _lanes(value: str, what: str) -> int:
    if not value.isdecimal() or not 1 <= int(value) <= 1024:
        raise OptionError(f"{what}round_to: '{value}' is no count; expected an integer from 1 to 1024")
    return int(value)


def _heads() -> str:
    names = [*granularity.GRANULARITIES, *granularity.WHOLE]
    return ", ".join([*(f"{name}=FRACTION" for name in names), "N:M such as 2:4"])
