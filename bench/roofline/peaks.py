"""What this machine can do at most: multiply-adds and bytes per second, on as many threads as will run."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyruntime.errors import PyruntimeError

SOURCE = Path(__file__).with_name("peaks.c")
# Instruction set of a session -> loops for its products, the best of which counts.
LOOPS = {
    "avx2": ("macs_avx2", "macs_avx2_wide"),
    "avxvnni": ("macs_avxvnni",),
    "avx512vnni": ("macs_avx512vnni",),
}
F32_LOOPS = {"avx512vnni": "macs_f32_avx512"}  # the others: macs_f32
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
SECONDS = 0.1
ALIGNMENT = 64


@dataclass(frozen=True)
class Peaks:
    """Of all threads together.

    Attributes:
        int8, f32: multiply-adds per second.
        levels: (name, bytes that fit, bytes read per second), nearest first; the last has no bound.
    """

    int8: float
    f32: float
    levels: tuple[tuple[str, float, float], ...]

    def bandwidth(self, footprint: float) -> float:
        """Bytes per second from the nearest level that holds `footprint` bytes."""
        return next(speed for _, size, speed in self.levels if footprint <= size)


def measure(isa: str, threads: int) -> Peaks:
    """Raises PyruntimeError: no loop for this instruction set, or no C compiler."""
    if isa not in LOOPS:
        known = ", ".join(LOOPS)
        raise PyruntimeError(f"isa {isa}: its peak cannot be measured; there are loops for {known}")
    library = _compile()
    int8 = max(_rate(getattr(library, name), threads) for name in LOOPS[isa])
    sizes = cache_sizes()
    # L1 and L2 belong to a core, L3 to all of them.
    footprints = {
        "L1": sizes[0] // 2,
        "L2": sizes[1] // 2,
        "L3": sizes[2] // 2 // threads,
        "DRAM": 4 * sizes[2],
    }
    fits = {"L1": sizes[0] * threads, "L2": sizes[1] * threads, "L3": sizes[2], "DRAM": float("inf")}
    levels = [(name, fits[name], _read(library, footprints[name], threads)) for name in footprints]
    return Peaks(int8, _rate(getattr(library, F32_LOOPS.get(isa, "macs_f32")), threads), tuple(levels))


def cache_sizes() -> tuple[int, int, int]:
    """Bytes of L1d, L2 and L3 as the kernel states them, or those of a common server core."""
    sizes = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}
    for index in CACHES.glob("index*"):
        if (index / "type").read_text().strip() != "Instruction":
            text = (index / "size").read_text().strip()
            sizes[int((index / "level").read_text())] = int(text[:-1]) << {"K": 10, "M": 20}[text[-1]]
    return sizes[1], sizes[2], sizes[3]


def _compile() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peaks.so"
        command = ["cc", "-O3", "-shared", "-fPIC", str(SOURCE), "-o", str(library)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise PyruntimeError("cc: not found; the peaks are measured by a C file") from None
        except subprocess.CalledProcessError as error:
            raise PyruntimeError(f"{SOURCE}: {error.stderr.splitlines()[0]}") from None
        loaded = ctypes.CDLL(str(library))
    for name in (
        "macs_f32",
        *F32_LOOPS.values(),
        "read_bytes",
        *(name for names in LOOPS.values() for name in names),
    ):
        getattr(loaded, name).restype = ctypes.c_int64
    return loaded


def _rate(loop: Callable[..., int], threads: int) -> float:
    return _together([lambda rounds: loop(ctypes.c_int64(rounds))] * threads)


def _read(library: ctypes.CDLL, size: int, threads: int) -> float:
    size = size // 256 * 256
    buffers = [np.ones(size + ALIGNMENT, np.uint8) for _ in range(threads)]

    def reader(buffer: np.ndarray) -> Callable[[int], int]:
        start = buffer.ctypes.data + -buffer.ctypes.data % ALIGNMENT
        arguments = ctypes.c_void_p(start), ctypes.c_int64(size)
        return lambda rounds: library.read_bytes(*arguments, ctypes.c_int64(rounds))

    return _together([reader(buffer) for buffer in buffers])


def _together(loops: list[Callable[[int], int]]) -> float:
    """Work per second of one loop per thread, all at the same time; the best of three."""
    rounds = 1
    while True:
        start = time.perf_counter()
        loops[0](rounds)
        elapsed = time.perf_counter() - start
        if elapsed > SECONDS / 10:
            break
        rounds *= 2
    rounds = max(1, round(rounds * SECONDS / elapsed))
    return max(_once(loops, rounds) for _ in range(3))


def _once(loops: list[Callable[[int], int]], rounds: int) -> float:
    rates = [0.0] * len(loops)
    barrier = threading.Barrier(len(loops))

    def work(index: int) -> None:
        barrier.wait()
        start = time.perf_counter()
        done = loops[index](rounds)
        rates[index] = done / (time.perf_counter() - start)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(loops))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)
