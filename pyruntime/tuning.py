"""The file that `pyruntime tune` writes and sessions read: how layers ran fastest, for the CPUs measured.

    {"format": "pyruntime tuning", "version": 1, "machines": [
      {"cpu": "...", "isa": "avx512vnni", "threads": 2, "pyruntime": "0.1.0",
       "layers": {"<signature>": "<kernel>, <packing>, <pixel parts>x<channel parts>", "<signature>": null}}]}

A signature names all that a choice depends on, so models with equal layers share entries; null says that the
layer was measured and that no choice was clearly faster than that of the cost models.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyruntime import __version__, _core
from pyruntime.errors import OptionError

FORMAT = "pyruntime tuning"
VERSION = 1

Choices = dict[str, "str | None"]  # by signature


@dataclass(frozen=True)
class Machine:
    """What the times of an entry hold for."""

    cpu: str
    isa: str
    threads: int
    pyruntime: str  # version

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        return f"{self.cpu}, {self.isa}, {self.threads} thread{plural}, pyruntime {self.pyruntime}"


def this_machine(isa: str, threads: int) -> Machine:
    """This CPU, for sessions of this instruction set and thread count."""
    features = _core.cpu_features()
    words = [features["brand"] or "unknown CPU", features["model"]]
    return Machine(" ".join(word for word in words if word), isa, threads, __version__)


def read_choices(path: str | os.PathLike[str], machine: Machine) -> Choices:
    """What a file says for one machine. Raises OptionError if it has nothing for it, or is no such file."""
    machines = read_file(path)
    if machine not in machines:
        others = "; ".join(map(str, machines)) or "nothing"
        raise OptionError(
            f"tuning {os.fspath(path)}: has {others}; expected {machine}: run `pyruntime tune` for these"
        )
    return machines[machine]


def check_layers(
    path: str | os.PathLike[str], choices: Choices, signatures: Iterable[str], label: str
) -> None:
    """Raises OptionError if a model has integer layers and the file none of them, for any input shapes."""
    layers = {_layer(signature) for signature in signatures}
    if layers and layers.isdisjoint(map(_layer, choices)):
        raise OptionError(
            f"tuning {os.fspath(path)}: has none of the {len(layers)} different integer layers of {label}; "
            f"add them with: pyruntime tune {label} -o {os.fspath(path)}"
        )


def _layer(signature: str) -> str:
    """A signature without its grid of output pixels."""
    return signature.rpartition(" on ")[0]


def read_file(path: str | os.PathLike[str]) -> dict[Machine, Choices]:
    """All that a file says. Raises OptionError."""
    if not isinstance(path, (str, os.PathLike)):
        raise OptionError(f"tuning: expected the path of a file, got {type(path).__name__}")
    name = os.fspath(path)
    try:
        data = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise OptionError(f"tuning {name}: no such file; make it with `pyruntime tune`") from None
    except OSError as error:
        raise OptionError(f"tuning {name}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):  # no UTF-8, no JSON
        raise OptionError(f"tuning {name}: is no JSON; make it anew with `pyruntime tune`") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise OptionError(
            f"tuning {name}: is no tuning file of version {VERSION}; make it anew with `pyruntime tune`"
        )
    try:
        machines = {}
        for entry in data["machines"]:
            machine = _machine(entry)
            machines[machine] = _checked(entry["layers"])
            if machine.pyruntime == __version__:  # another version may have had other kernels
                _core.check_tuning({s: c for s, c in machines[machine].items() if c is not None})
    except (KeyError, TypeError, AttributeError):
        raise OptionError(
            f"tuning {name}: is damaged: expected machines with cpu, isa, threads, pyruntime and layers; "
            "make it anew with `pyruntime tune`"
        ) from None
    except _core.CoreError as error:
        raise OptionError(f"tuning {name}: {error}; make it anew with `pyruntime tune`") from None
    return machines


def _machine(entry: Mapping[str, Any]) -> Machine:
    machine = Machine(entry["cpu"], entry["isa"], entry["threads"], entry["pyruntime"])
    texts = (machine.cpu, machine.isa, machine.pyruntime)
    if not all(isinstance(text, str) for text in texts) or type(machine.threads) is not int:
        raise TypeError
    return machine


def _checked(layers: Mapping[str, Any]) -> Choices:
    for choice in layers.values():
        if choice is not None and not isinstance(choice, str):
            raise TypeError
    return dict(layers)


def file_text(machines: Mapping[Machine, Choices]) -> str:
    """The file that `read_file` reads as `machines`."""
    entries = [{**asdict(machine), "layers": choices} for machine, choices in machines.items()]
    return json.dumps({"format": FORMAT, "version": VERSION, "machines": entries}, indent=1) + "\n"
