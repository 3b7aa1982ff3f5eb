"""`pyruntime tune` and --tuning: the file it writes, what is printed, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pyruntime import tune as module
from pyruntime.cli import main
from pyruntime.cli.tune import format_result
from pyruntime.session import resolved_machine
from pyruntime.tune import Layer, Tuning
from pyruntime.tuning import Choices, read_file

LAYER = Layer("conv", ["c1", "c2"], "a, plain, 1x1", "b, plain, 2x1", 20.0, 10.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "FINAL_ROUNDS", 2)
    monkeypatch.setattr(module, "TURN_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
def test_tune_then_run(packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds every layer, entries of other thread counts stay, and the other commands take it."""
    out = str(tmp_path / "t.json")
    for threads in ("1", "2"):
        assert main(["tune", str(packed_file), "-o", out, "--threads", threads, "--batch", "2"]) == 0
    text = capsys.readouterr().out
    assert "2 threads" in text and "of 3 different integer layers" in text
    machines = read_file(out)
    assert set(machines) == {resolved_machine("", 1), resolved_machine("", 2)}
    assert all(len(choices) == 3 for choices in machines.values())
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 8, 8), np.float32))
    session = ["--tuning", out, "--threads", "2"]
    feed = ["--input", f"input={tmp_path / 'x.npy'}", "-o", str(tmp_path / "y.npz")]
    assert main(["run", str(packed_file), *feed, *session]) == 0
    assert main(["inspect", str(packed_file), *session]) == 0
    assert main(["bench", str(packed_file), "--rounds", "1", *session]) == 0


@pytest.mark.usefixtures("quick")
def test_default_file_stands_beside_the_model(packed_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.pyrt"
    model.write_bytes(packed_file.read_bytes())
    assert main(["tune", str(model)]) == 0
    assert len(read_file(tmp_path / "net.tuning.json")) == 1


def test_inspect_names_what_was_tuned(
    packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyruntime.loading import load_program
    from pyruntime.session import make_core
    from pyruntime.tuning import file_text

    first = make_core(load_program(packed_file), "", 1, list_candidates=True).tuning()[0]
    path = tmp_path / "t.json"
    path.write_text(file_text({resolved_machine("", 1): {first["signature"]: first["choice"]}}))
    arguments = ["inspect", str(packed_file), "--threads", "1", "--tuning", str(path)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("(tuned)") == 1
    assert main([*arguments, "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert [layer["name"] for layer in layers if layer["tuned"]] == [first["node"]]


def test_results_as_text() -> None:
    text = format_result(Tuning([LAYER], 2.0, 1.8, 0.9))
    assert "c1 and 1 more" in text and "10.0" in text and "5.0" in text
    assert "2.000 ms before, 1.800 ms after, ratio 0.900" in text
    assert "no choice is kept" in format_result(Tuning([LAYER], 2.0, 2.0, 1.0))
    assert "no layer" in format_result(Tuning([Layer("conv", ["c"], "a", "a")]))


def test_what_older_runs_found_stays_where_nothing_is_faster() -> None:
    from pyruntime.cli.tune import _merge

    machine = resolved_machine("", 1)
    machines: dict[object, Choices] = {machine: {"conv": "old", "dense": "old"}}
    assert _merge(machines, machine, Tuning([LAYER], 2.0, 2.0, 1.0)) == 0  # type: ignore[arg-type]
    assert machines[machine] == {"conv": "old", "dense": "old"}
    assert _merge(machines, machine, Tuning([LAYER], 2.0, 1.0, 0.5)) == 1  # type: ignore[arg-type]
    assert machines[machine] == {"conv": "b, plain, 2x1", "dense": "old"}


def test_bad_files(packed_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("no JSON")
    assert main(["tune", str(packed_file), "-o", str(wrong)]) == 2
    assert "is no JSON" in capsys.readouterr().err and wrong.read_text() == "no JSON"
    assert main(["tune", str(packed_file), "-o", str(packed_file)]) == 2
    assert "is also an input" in capsys.readouterr().err
    assert main(["inspect", str(packed_file), "--tuning", str(tmp_path / "absent.json")]) == 2
    assert "absent.json: no such file" in capsys.readouterr().err
