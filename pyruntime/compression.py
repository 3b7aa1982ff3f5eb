"""`compress`: a float network becomes a pruned, quantized program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt
import onnx_ir as ir

from pyruntime import calibration_data, graph
from pyruntime.blas import single_threaded
from pyruntime.errors import DataError, ModelError, OptionError
from pyruntime.frontends.onnx import load
from pyruntime.layers import find_layers
from pyruntime.lower import lower
from pyruntime.pack import PackReport, write
from pyruntime.program import MOVEMENT, Program
from pyruntime.prune import PruneReport, prune
from pyruntime.quantize import (
    TOKEN_RANGE,
    QuantizeReport,
    Range,
    affine_layers,
    assign,
    calibrate,
    fuse_attention,
    insert_qdq,
    make_plan,
    scale_tokens,
    weight_grids,
)
from pyruntime.quantize.schemes import Integer
from pyruntime.recipe import Recipe
from pyruntime.recover import (
    correct_bias,
    equalize,
    input_moments,
    match_statistics,
    round_weights,
    smooth,
    update_pruned,
)
from pyruntime.search.find import Search, share_budgets
from pyruntime.search.quality import Judge

if TYPE_CHECKING:
    import onnx

Data = Mapping[str, npt.NDArray[Any]]

# What may stay float in a strict network: the borders, and moving data; a linear resize is arithmetic.
_NO_ARITHMETIC = ("quantize", "dequantize", "cast", *(op for op in MOVEMENT if op != "resize"))


# With fewer bits each layer is rounded on what the ones before became, and refined.
SEQUENTIAL_BITS = 8
SWEEPS = 3
EXAMPLE = "pass calibration={input name: array of samples}, or an .npz file of such arrays"


class Progress(Protocol):
    """Called as the work proceeds: `done` of `total` steps of a stage."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


@dataclass
class CompressReport:
    """What was done.

    Attributes:
        recipe: the recipe as given; steps: the recovery steps that ran.
        prune, quantize: reports of these stages, None if they did not run.
        notes: one line for each node that is quantized in the model but runs in float, and why.
        samples: calibration samples used.
        found: what a search came to, for people; `recipe` is then what it found.
    """

    recipe: Recipe
    steps: tuple[str, ...] = ()
    prune: PruneReport | None = None
    quantize: QuantizeReport | None = None
    notes: list[str] = field(default_factory=list)
    samples: int = 0
    found: str = ""


@dataclass
class CompressedModel:
    """A compressed network.

    Attributes:
        model: canonical `onnx_ir.Model`, with QuantizeLinear/DequantizeLinear where it is quantized.
        program: what the runtime executes and the file holds.
        report: what was done.
    """

    model: ir.Model
    program: Program
    report: CompressReport

    def save(self, path: str | os.PathLike[str]) -> PackReport:
        """Write the packed file. Errors: PyruntimeError if the path cannot be written."""
        return write(self.program, path)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write standard ONNX (opset 21, QDQ), for any other runtime."""
        graph.save(graph.to_standard(self.model), path)

    def summary(self) -> str:
        """Table for people: a row per layer with op, weight, scheme, zeros, stored bytes, SQNR."""
        from pyruntime.summary import summary

        return summary(self.program, self.report)


@single_threaded()
def compress(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model,
    recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str] = "int8",
    calibration: Data | str | os.PathLike[str] | None = None,
    *,
    strict: bool = False,
    validation: Data | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> CompressedModel:
    """Prune, recover and quantize a network. Deterministic: the same arguments give the same bytes, whatever
    the number of threads (but for a target of latency, which is measured; the recipe found is deterministic
    again). NumPy's BLAS is held to one thread meanwhile; its kernels differ between CPUs, so a file may
    differ from one made on another kind (`OPENBLAS_CORETYPE=Haswell` makes all with AVX2 alike).

    Args:
        model: path or bytes of an ONNX file, a protobuf, or an `onnx_ir.Model`; it is not changed. A model
        that is
            already quantized (QDQ, QLinear operators) is taken as it is.
        recipe: a `Recipe`, a dict of its entries, the path of a YAML file, or a preset: `int8`, `float`.
        calibration: one array per network input, first axis = samples, of the input's dtype; or the path of
        an .npz
            file with these (an array `labels` matters to `validation` alone).
        validation: like `calibration`, with an array `labels` if there are any: what a search measures
            accuracy on. None: the calibration data themselves.
        strict: make arithmetic that would run in float an error.
        progress: called with the stage's name, steps done and steps in all.
    Errors: OptionError (recipe), FileFormatError and ModelError (network), DataError (calibration data).
    """
    plan = Recipe.of(recipe)
    reference = load(model)
    data = None if calibration is None else calibration_data.check(reference, calibration)
    if plan.searches:
        judged = calibration if validation is None else validation
        return _search(reference, plan, data, judged, strict, progress)
    return _compress(reference, plan, data, strict, progress)


def _compress(
    reference: ir.Model, plan: Recipe, data: Data | None, strict: bool, progress: Progress | None
) -> CompressedModel:
    """What `compress` does with a recipe that leaves nothing to search for."""
    steps = plan.recover_steps(calibrated=data is not None)
    prequantized = _is_quantized(reference)
    _check_plan(plan, steps, data, prequantized)
    report = CompressReport(plan, steps, samples=0 if data is None else calibration_data.samples(data))
    result = graph.clone(reference)
    _prune(result, reference, plan, data, report, progress)
    if data is not None and "equalize" in steps:
        equalize(result, data)
    if data is not None and "smooth" in steps:
        smooth(result, data)
    if not prequantized:
        report.quantize = _quantize(result, data, plan, steps, progress)
    program = lower(result, notes=report.notes)
    if strict and (plan.quantizes or prequantized):
        _check_strict(program)
    return CompressedModel(result, program, report)


def _search(
    reference: ir.Model,
    plan: Recipe,
    data: Data | None,
    judged: Data | str | os.PathLike[str] | None,
    strict: bool,
    progress: Progress | None,
) -> CompressedModel:
    """Find the recipe that the plan asks for, and what it makes of the network."""
    goal = plan.goal()
    if data is None or judged is None:
        what = "scope=budget" if goal is None else f"'{goal.text}'"
        raise DataError(f"{what} needs calibration data to measure losses on; {EXAMPLE}")
    if _is_quantized(reference):
        raise ModelError("the model is already quantized; search on the float model it was made from")
    plan = share_budgets(reference, plan, data, progress)
    if goal is None:
        return _compress(reference, plan, data, strict, progress)
    judge = None
    if goal.kind == "accuracy_drop":
        judge = Judge.of(
            reference, calibration_data.check(reference, judged), calibration_data.labels(judged)
        )
    fixed = plan.without_goal()
    pruned = reference
    if plan.prune:
        steps = [step for step in plan.recover_steps(calibrated=True) if step in ("obs", "bn")]
        floating = replace(fixed, quantize="none", layers={}, recover=steps)
        pruned = _compress(reference, floating, data, False, None).model
    found = Search(
        pruned, fixed, data, lambda recipe, some: _compress(reference, recipe, some, False, None), progress
    ).run(goal, judge)
    result: CompressedModel = found.result
    result.report.found = f"{goal.text}: {found.reached}"
    if strict:
        _check_strict(result.program)
    return result


def _check_plan(plan: Recipe, steps: tuple[str, ...], data: Data | None, prequantized: bool) -> None:
    if prequantized and plan.prune:
        raise ModelError("the model is already quantized; prune the float model it was made from")
    if data is None and not prequantized and any(spec.integer for spec in plan.quantize_specs()):
        raise DataError(f"{plan.quantize} needs calibration data to choose activation scales; {EXAMPLE}")
    if steps and data is None:
        raise DataError(f"recover '{steps[0]}' needs calibration data; {EXAMPLE}")
    for step in ("bias", "adaround"):
        if plan.recover is not None and step in steps and not plan.quantizes:
            raise OptionError(
                f"recover '{step}' makes up for quantization, and quantize is 'none'; leave one out"
            )


def _is_quantized(model: ir.Model) -> bool:
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph)


def _prune(
    model: ir.Model,
    reference: ir.Model,
    plan: Recipe,
    data: Data | None,
    report: CompressReport,
    progress: Progress | None,
) -> None:
    """Prune and recover the model in place."""
    if not plan.prune:
        return
    report.prune = prune(model, plan.prune_specs(), data)
    reference = report.prune.view(reference)
    if data is None:
        return
    if "obs" in report.steps:
        update_pruned(
            model, reference, data, report.prune.granularities, progress=_stage(progress, "update weights")
        )
    if "bn" in report.steps:
        match_statistics(model, reference, data, progress=_stage(progress, "match statistics"))


def _quantize(
    model: ir.Model,
    data: Data | None,
    recipe: Recipe,
    steps: tuple[str, ...],
    progress: Progress | None,
) -> QuantizeReport | None:
    """Quantize the model in place; None if the recipe leaves every weight in float32."""
    spec = recipe.quantize_spec()
    assignment = assign(model, spec, recipe.layer_specs())
    if not assignment.schemes:
        return None
    exact = affine_layers(model, assignment) if assignment.integer else []
    if exact:
        schemes = {**assignment.schemes, **dict.fromkeys(exact, Integer())}
        assignment = replace(assignment, schemes=schemes, integer=assignment.integer | set(exact))
    tokens: list[str] = []
    if spec.activations == "dynamic":
        tokens = scale_tokens(model, assignment)
    elif assignment.integer:
        fuse_attention(model)
    ranges: dict[str, Range] = {}
    names = make_plan(model, assignment).names
    if data is not None and names:
        total, stage = calibration_data.samples(data), _stage(progress, "calibrate")
        ranges = calibrate(
            model, data, spec, names, progress=lambda done: stage(done, total) if stage else None
        )
    ranges.update(dict.fromkeys(tokens, TOKEN_RANGE))
    rounding = "obs" in steps or "adaround" in steps
    importance = None
    if data is not None and rounding and any(scheme != Integer() for scheme in assignment.schemes.values()):
        importance = input_moments(model, data)
    grids = weight_grids(model, ranges, assignment, importance)
    originals = {layer.weight_name: layer.stored(layer.array()) for layer in find_layers(model)}
    if data is not None and rounding:
        learned = "adaround" in steps
        careful = learned or any(scheme.bits < SEQUENTIAL_BITS for scheme in assignment.schemes.values())
        sweeps, stage = SWEEPS if careful else 0, _stage(progress, "round weights")
        round_weights(model, data, grids, sequential=careful, sweeps=sweeps, learned=learned, progress=stage)
    elif data is not None and "bias" in steps:
        correct_bias(model, data, grids)
    return insert_qdq(model, ranges, grids, originals, assignment)


def _stage(progress: Progress | None, name: str) -> Any:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


def _check_strict(program: Program) -> None:
    """Errors: ModelError naming the nodes that compute in float."""
    names = [
        f"{node.op} ({node.name})"
        for node in program.nodes
        if node.op not in _NO_ARITHMETIC and _input_dtype(program, node.inputs[0]) == "f32"
    ]
    if names:
        raise ModelError(f"strict: {len(names)} nodes would run in float: {', '.join(names)}")


def _input_dtype(program: Program, name: str) -> str:
    return program.values[name].dtype if name in program.values else ""
