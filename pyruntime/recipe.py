"""A recipe: what to prune, how to quantize, how to recover accuracy, in the words of the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pyruntime import spec as words
from pyruntime.errors import OptionError
from pyruntime.prune.spec import PruneSpec
from pyruntime.prune.spec import parse_spec as parse_prune
from pyruntime.quantize.spec import DEFAULT_SCHEME, QuantizeSpec, parse_layer
from pyruntime.quantize.spec import parse_spec as parse_quantize
from pyruntime.recover.spec import parse_steps
from pyruntime.target import Target, is_mixed, parse_mixed, parse_target

PRESETS: dict[str, dict[str, Any]] = {
    "int8": {"quantize": "int8"},
    "float": {"quantize": "none"},
}


@dataclass(frozen=True)
class Recipe:
    """Steps of a compression, checked when built.

    Attributes:
        prune: words of `--prune`, applied in order, e.g. `["block4=0.75,exclude=stem*"]`.
        quantize: word of `--quantize`.
        layers: layer or weight name, or a pattern of either -> word of `--quantize` for these layers alone,
            e.g. `{"head*": "int8", "block*.conv2": "int4,group=32"}`; of several that match, the last counts.
        recover: words of `--recover`. None leaves the choice to us, given calibration data: `obs, bn` if the
            network is pruned, `obs, bias` if it is quantized. An empty list means none.
        target: word of `--target`: search for the schemes (and zeros) of all layers that `layers` does not
            name. So does `quantize: mixed,...`. What is found is a recipe without a target.
    Errors: OptionError for a word that is unknown, not built yet or out of range.
    """

    prune: Sequence[str] = ()
    quantize: str = "int8"
    layers: Mapping[str, str] = field(default_factory=dict)
    recover: Sequence[str] | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prune", _texts(self.prune, "prune", separator=None))
        if self.recover is not None:
            object.__setattr__(self, "recover", _texts(self.recover, "recover", separator=","))
        self.prune_specs()
        object.__setattr__(self, "layers", _rules(self.layers))
        if self.target is not None and is_mixed(self.quantize):
            raise OptionError(f"'{self.quantize}' and target '{self.target}' both ask for a search; give one")
        self.goal()
        self._check_target()
        self.quantize_specs()
        self.recover_steps(calibrated=False)

    def _check_target(self) -> None:
        """With a target, the scheme is the search's to choose."""
        if self.target is None:
            return
        spec = parse_quantize(self.quantize)
        if spec.scheme != DEFAULT_SCHEME or not spec.integer:
            raise OptionError(
                f"target '{self.target}' chooses each layer's scheme, quantize '{self.quantize}' chooses one "
                "for all; leave out one of them ('layers' holds what the search is to leave alone)"
            )

    def prune_specs(self) -> list[PruneSpec]:
        return [parse_prune(text) for text in self.prune]

    def quantize_spec(self) -> QuantizeSpec:
        """Of the layers that `layers` does not name; of `mixed`, those that the search leaves alone."""
        return parse_quantize(parse_mixed(self.quantize)[1] if is_mixed(self.quantize) else self.quantize)

    def goal(self) -> Target | None:
        """What a search has to reach, None if there is nothing to search for."""
        if is_mixed(self.quantize):
            return parse_mixed(self.quantize)[0]
        return None if self.target is None else parse_target(self.target)

    def without_goal(self) -> Recipe:
        """The recipe of what a search leaves alone."""
        base = parse_mixed(self.quantize)[1] if is_mixed(self.quantize) else self.quantize
        return replace(self, quantize=base, target=None)

    @property
    def searches(self) -> bool:
        """Whether there is something to find before the network can be compressed."""
        return self.goal() is not None or any(spec.scope == "budget" for spec in self.prune_specs())

    def layer_specs(self) -> dict[str, QuantizeSpec]:
        """What `layers` asks for."""
        return {pattern: parse_layer(text, pattern) for pattern, text in self.layers.items()}

    def quantize_specs(self) -> list[QuantizeSpec]:
        """Everything that some layer may get."""
        return [self.quantize_spec(), *self.layer_specs().values()]

    @property
    def quantizes(self) -> bool:
        """Whether any weight may leave float32."""
        return any(spec.scheme is not None for spec in self.quantize_specs())

    def recover_steps(self, calibrated: bool) -> tuple[str, ...]:
        """The steps to run; `calibrated` says whether there is calibration data."""
        if self.recover is not None:
            return parse_steps(self.recover)
        if not calibrated:
            return ()
        pruned = ("obs", "bn") if self.prune else ()
        quantized = ("obs", "bias") if self.quantizes else ()
        return parse_steps((*pruned, *quantized))

    def text(self) -> str:
        """The recipe as YAML, as `of` reads it; entries that say nothing are left out."""
        import yaml

        entries: dict[str, Any] = {
            "prune": list(self.prune),
            "quantize": self.quantize,
            "layers": self.layers,
        }
        entries = {key: value for key, value in entries.items() if value}
        if self.recover is not None:
            entries["recover"] = list(self.recover)
        if self.target is not None:
            entries["target"] = self.target
        text: str = yaml.safe_dump(entries, sort_keys=False, width=110, default_flow_style=False)
        return text

    @classmethod
    def of(cls, source: Recipe | Mapping[str, Any] | str | os.PathLike[str]) -> Recipe:
        """Recipe from a recipe, a dict of its attributes, the path of a YAML file, or the name of a preset.

        Errors: OptionError that lists the presets, or names the file and the entry at fault.
        """
        if isinstance(source, Recipe):
            return source
        if isinstance(source, Mapping):
            return cls._from_mapping(source, "recipe")
        text = os.fspath(source)
        if text in PRESETS:
            return cls._from_mapping(PRESETS[text], f"recipe '{text}'")
        if not isinstance(text, str) or not text.lower().endswith((".yaml", ".yml")):
            raise OptionError(
                f"recipe '{text}' is unknown; expected one of: {', '.join(PRESETS)}, or a .yaml path"
            )
        return cls._from_mapping(_read_yaml(Path(text)), f"recipe {text}")

    @classmethod
    def _from_mapping(cls, entries: Mapping[str, Any], what: str) -> Recipe:
        valid = [entry.name for entry in fields(cls)]
        for key in entries:
            words.choose(str(key), valid, f"{what}: entry")
        try:
            return cls(**entries)
        except OptionError as error:
            raise OptionError(f"{what}: {error}") from None


def _texts(value: object, name: str, separator: str | None) -> tuple[str, ...]:
    """A text or a sequence of texts as a tuple; with a separator, each text may hold several words."""
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not all(isinstance(entry, str) for entry in entries):
        raise OptionError(f"entry '{name}' is {value!r}; expected a list of texts")
    if separator is None:
        return tuple(entries)
    return tuple(word.strip() for entry in entries for word in entry.split(separator) if word.strip())


def _rules(value: object) -> dict[str, str]:
    """The entry `layers`, checked."""
    fits = isinstance(value, Mapping) and all(
        isinstance(text, str) for entry in value.items() for text in entry
    )
    if not fits:
        raise OptionError(f"entry 'layers' is {value!r}; expected layer names and their schemes")
    assert isinstance(value, Mapping)
    return dict(value)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(getattr(error, "strerror", None) or error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise OptionError(f"recipe {path}{place}: cannot be read ({reason})") from None
    if not isinstance(content, Mapping):
        raise OptionError(
            f"recipe {path}: expected entries such as 'quantize: int8', found {type(content).__name__}"
        )
    return content
