"""`pyruntime compress`: float ONNX in, packed file out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyruntime.cli.options import Subparsers, add_command
from pyruntime.cli.output import atomic_output, check_output, write_text
from pyruntime.errors import OptionError

if TYPE_CHECKING:
    from pyruntime.recipe import Recipe

DESCRIPTION = """\
Prune and quantize a float ONNX network and pack it into one .pyrt file.

--prune SPEC     zeros: weight=0.9 | block4=0.85 (or 8, 16) | 2:4 (any N:M);
                 channels removed: filter=0.3 | channel=0.3 | filter,macs=0.5 | channel,macs=0.5;
                 options after commas: scope=global|layer|budget (as measured losses suggest), exclude=GLOB,
                 only=GLOB, round_to=16 (8 where layers have few channels),
                 criterion=magnitude|l1|random|geometric_median|bn_scale|taylor|wanda|obs
--quantize SPEC  run on integers: int8 (default) | int2 .. int7 | int4,group=32 | pow2 | codebook=16 |
                 hashed=0.5; decoded when loading, run in float32: fp16 | bf16 | fp8_e4m3 | fp8_e5m2 | fp:E.M;
                 none (stay in float32); options after commas:
                 calibrate=minmax|average|percentile|entropy|mse,
                 activations=u8|s8|dynamic|float (s8: the levels of u8, int8 in ONNX; dynamic: dense layers
                 scale each token when they run; float: weights alone),
                 ends=int8|same (first and last layer; int8 by default for up to 4 bits),
                 per=channel|tensor, symmetric=yes|no (int2 .. int7)
                 mixed,bits=4.5 | mixed,drop=0.5: by search, a scheme of its own for each layer, int8 .. int2
--recover LIST   comma list of: obs, bn, equalize, smooth, adaround, bias; or none
--target K=V     search for the scheme and the zeros of each layer: size=0.25 (share of the float32 weights)
                 or size=2.5MB; latency=0.5 (share of the float32 network's) or latency=1.5ms, measured here;
                 accuracy_drop=0.5 (points, at the least size): of labels if --validation (or, without
                 it, --calibration) has an array `labels`, else of classes that change.
                 With --prune, the search leaves zeros alone. What it finds is written beside OUT.pyrt as
                 OUT.recipe.yaml; that recipe gives the same bytes.
"""


def add(subparsers: Subparsers, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser = add_command(
        subparsers, common, "compress", "prune, quantize and pack an ONNX network", DESCRIPTION
    )
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.pyrt")
    parser.add_argument(
        "--calibration", metavar="DATA.npz", help="one array per model input, first axis = samples"
    )
    parser.add_argument(
        "--recipe", metavar="R.yaml", help="recipe file; the options below override its entries"
    )
    parser.add_argument("--prune", action="append", metavar="SPEC", help="repeatable")
    parser.add_argument("--quantize", metavar="SPEC")
    parser.add_argument("--recover", metavar="LIST")
    parser.add_argument(
        "--target", action="append", metavar="K=V", help="search for a recipe that reaches this"
    )
    parser.add_argument(
        "--validation", metavar="DATA.npz", help="what a search measures accuracy on (default: --calibration)"
    )
    parser.add_argument("--strict", action="store_true", help="fail if any layer would run in float")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from pyruntime.cli.progress import progress
    from pyruntime.compression import compress
    from pyruntime.loading import check_exists

    inputs = (arguments.model, arguments.calibration, arguments.recipe, arguments.validation)
    check_output("-o", arguments.output, *inputs)
    recipe = _recipe(arguments)
    found = f"{arguments.output.removesuffix('.pyrt')}.recipe.yaml" if recipe.searches else None
    if found is not None:
        check_output("the recipe found:", found, *inputs)
    goal = recipe.goal()
    if arguments.validation is not None and (goal is None or goal.kind != "accuracy_drop"):
        raise OptionError(
            "--validation: only a search for accuracy (accuracy_drop, mixed,drop) measures on it"
        )
    check_exists(arguments.model)
    with progress() as report:
        model = compress(
            arguments.model,
            recipe,
            arguments.calibration,
            strict=arguments.strict,
            validation=arguments.validation,
            progress=report,
        )
    with atomic_output(arguments.output) as temporary:
        model.save(temporary)
    print(model.summary())
    if found is not None:
        write_text(found, model.report.recipe.text())
        print(f"recipe found: {found}")
    return 0


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """The recipe of the command line: the file, if any, with the options given put over it. Raises
    OptionError.
    """
    from pyruntime.recipe import Recipe

    changes: dict[str, Any] = {}
    if arguments.prune:
        changes["prune"] = tuple(arguments.prune)
    if arguments.quantize is not None:
        changes["quantize"] = arguments.quantize
    if arguments.recover is not None:
        changes["recover"] = (arguments.recover,)
    if arguments.target is not None:
        if len(arguments.target) > 1:
            raise OptionError("--target: given twice; a search reaches for one target at a time")
        changes["target"] = arguments.target[0]
    base = Recipe.of(arguments.recipe) if arguments.recipe else Recipe()
    return replace(base, **changes)
