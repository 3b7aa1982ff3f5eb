"""What each runtime loads, made once and kept in a folder.

CACHE/<source>/float.onnx, calibration.npz            the float network
CACHE/<source>/<recipe>/packed.pyrt, ...              ours, and the forms the peers get
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

import pyruntime as prt
from bench.race import sources
from bench.race.networks import Network
from pyruntime.bench import peer_models, runtimes
from pyruntime.bench.runner import Entrant
from pyruntime.export_onnx import to_onnx
from pyruntime.loading import load_program
from pyruntime.pack import write
from pyruntime.pack.writer import FORMAT_VERSION

FLOAT = "float"  # the group of the float forms of a network
DYNAMIC_COSINE = 0.98  # dynamic int8 to float32: with 8-bit weights MiniLM comes to 0.98996


def source_folder(network: Network, cache: Path) -> Path:
    """The folder of the float network, which is made if it is not there. Raises sources.Missing."""
    folder = cache / network.source
    sources.write(network.source, folder)
    return folder


def packed(network: Network, cache: Path) -> str:
    """Our file of the network. Raises as `entrants`."""
    return _Files(network, cache).packed()


def cached(network: Network, cache: Path) -> str | None:
    """Our file of the network if it is there already."""
    if not (cache / network.source).exists():
        return None
    path = _Files(network, cache).path("packed.pyrt")
    return str(path) if path.exists() else None


def entrants(network: Network, cache: Path, peers: list[str]) -> list[Entrant]:
    """Ours first, then every peer in each configuration that may be its best. Raises sources.Missing,
    OptionError (a recipe of a later release).
    """
    files = _Files(network, cache)
    ours = files.packed()
    if network.is_float:
        found = [Entrant("pyruntime float32", "pyruntime", ours, FLOAT)]
        found += _float_peers(files.float_model(), peers)
        if "openvino" in peers and runtimes.float_precision("openvino") != "float32":
            exact = Entrant("openvino float32", runtimes.OPENVINO_FLOAT32, files.float_model(), FLOAT)
            found.append(exact)
        return found
    found = [Entrant("pyruntime int8", "pyruntime", ours, ours, float_group=FLOAT)]
    exact, bits = ours, ""
    if not peer_models.adds_exactly():
        exact, bits = files.seven_bits(), ", 7-bit weights"
        label = "pyruntime int8, 7-bit weights"
        # As the peers: no sum of products leaves 16 bits, which spares AVX2 kernels the wider form.
        found.append(Entrant(label, "pyruntime", exact, exact, timed=not network.dense, float_group=FLOAT))
    for peer in peers:
        found.append(Entrant(f"{peer} int8{bits}", peer, files.qdq(), exact))
    if network.transformer and "openvino" in peers:
        found.append(Entrant(f"openvino int8, s8{bits}", "openvino", files.signed(), exact))
    found += _float_peers(files.float_model(), peers)
    if network.products and "onnxruntime" in peers:
        label = f"onnxruntime dynamic int8{bits}"
        dynamic = Entrant(label, "onnxruntime", files.dynamic(), FLOAT, min_cosine=DYNAMIC_COSINE)
        found.append(dynamic)
    return found


def _float_peers(model: str, peers: list[str]) -> list[Entrant]:
    return [Entrant(f"{peer} {runtimes.float_precision(peer)}", peer, model, FLOAT) for peer in peers]


class _Files:
    """The forms of one compressed network; each method makes its file the first time and returns its path."""

    def __init__(self, network: Network, cache: Path) -> None:
        self._network = network
        self._source = source_folder(network, cache)
        recipe = json.dumps([prt.__version__, FORMAT_VERSION, dict(network.recipe)])
        self._folder = self._source / hashlib.sha256(recipe.encode()).hexdigest()[:12]
        self._folder.mkdir(exist_ok=True)

    def path(self, name: str) -> Path:
        return self._folder / name

    def packed(self) -> str:
        def make(path: Path) -> None:
            recipe = prt.Recipe.of(self._network.recipe)
            data = sources.calibration(self._source)
            prt.compress(self._source / "float.onnx", recipe, data).save(path)

        return self._once("packed.pyrt", make)

    def seven_bits(self) -> str:
        return self._once(
            "seven_bits.pyrt",
            lambda path: write(peer_models.seven_bit_weights(load_program(self.packed())), path),
        )

    def qdq(self) -> str:
        def make(path: Path) -> None:
            packed = self.packed() if peer_models.adds_exactly() else self.seven_bits()
            onnx.save(peer_models.qdq_model(load_program(packed)), path)

        return self._once("qdq.onnx", make)

    def signed(self) -> str:
        return self._once(
            "qdq_signed.onnx",
            lambda path: onnx.save(peer_models.signed_activations(onnx.load(self.qdq())), path),
        )

    def float_model(self) -> str:
        """The float network; without the channels that were removed, if any were."""
        pruning = list(self._network.recipe.get("prune", ()))
        if not any(text.startswith(("channel", "filter")) for text in pruning):
            return str(self._source / "float.onnx")

        def make(path: Path) -> None:
            recipe = prt.Recipe(prune=pruning, quantize="none", recover=self._network.recipe["recover"])
            data = sources.calibration(self._source)
            program = prt.compress(self._source / "float.onnx", recipe, data).program
            onnx.save(to_onnx(program), path)

        return self._once("pruned_float.onnx", make)

    def dynamic(self) -> str:
        """ONNX Runtime's own form: weights int8 per channel, activations quantized as they come."""

        def make(path: Path) -> None:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            logging.getLogger().setLevel(logging.ERROR)  # it advises to pre-process, to no effect here
            reduce = not peer_models.adds_exactly()
            options = {"weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": reduce}
            quantize_dynamic(self.float_model(), path, **options)

        return self._once("dynamic.onnx", make)

    def _once(self, name: str, make: Callable[[Path], object]) -> str:
        path = self.path(name)
        if not path.exists():
            unfinished = path.with_stem(f"{path.stem}.unfinished")
            make(unfinished)
            unfinished.replace(path)
        return str(path)


def feed(network: Network, cache: Path, batch: int) -> dict[str, np.ndarray]:
    """The input all entrants get."""
    return sources.feed(source_folder(network, cache), batch)
