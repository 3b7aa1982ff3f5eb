"""The innermost loops of compiled kernels, and the fewest cycles their instructions can take on a core.

python -m bench.inner_loops [--build build] [--only TEXT]

For every innermost loop with integer products (VPDPBUSD, VPDPWSSD) in the objects of the AVX-512 rows: its
products, loads, vector operations and instructions, and the largest of the bounds of a core with two 512-bit
ports (0 and 5, shuffles on 5 alone), two 64-byte loads and six instructions a cycle, for data in the L1
cache. Latencies, branch misses and slower caches come on top: a bound says what a kernel cannot beat, not
what it reaches.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

PRODUCT = re.compile(r"^vpdp(busd|wssd)\b")
SHUFFLE = re.compile(r"^v(perm|punpck|pack|pshuf|shuf|pmovzx|pmovsx|palignr|valign)")
MOVE = re.compile(r"^(vmov|vpbroadcast|vbroadcast|prefetch)")
MEMORY = re.compile(r"\[")


@dataclasses.dataclass
class Loop:
    function: str
    products: int = 0
    loads: int = 0
    vector: int = 0
    shuffles: int = 0
    instructions: int = 0

    def bounds(self) -> dict[str, float]:
        """Cycles of one iteration by resource."""
        return {
            "ports 0, 5": self.vector / 2,
            "port 5": float(self.shuffles),
            "loads": self.loads / 2,
            "instructions": self.instructions / 6,
        }


def compiled(build: pathlib.Path) -> list[pathlib.Path]:
    """Objects of the AVX-512 rows whose source is still there."""
    paths = build.glob("csrc/CMakeFiles/*avx512vnni.dir/kernels/*/*.o")
    sources = build.parent / "csrc" / "kernels"
    return sorted(p for p in paths if (sources / p.parent.name / p.stem).exists())


def functions(path: pathlib.Path) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Name and (address, instruction) of every function of an object file."""
    command = ["objdump", "-dC", "--no-show-raw-insn", "-M", "intel", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for section in re.split(r"^[0-9a-f]+ <(?=.*>:$)", text, flags=re.MULTILINE)[1:]:
        name, _, body = section.partition(">:\n")
        lines = re.findall(r"^\s*([0-9a-f]+):\s+(\S.*?)\s*(?:#.*)?$", body, flags=re.MULTILINE)
        yield name, [(int(address, 16), instruction) for address, instruction in lines]


def innermost_loops(code: list[tuple[int, str]]) -> Iterator[list[str]]:
    """The instructions from the target of a backward jump to the jump, if no other such range is inside."""
    index = {address: i for i, (address, _) in enumerate(code)}
    ranges = []
    for i, (_, instruction) in enumerate(code):
        jump = re.match(r"^j\w+\s+([0-9a-f]+)", instruction)
        target = index.get(int(jump.group(1), 16)) if jump else None
        if target is not None and target <= i:
            ranges.append((target, i))
    for first, last in ranges:
        if not any((a, b) != (first, last) and first <= a and b <= last for a, b in ranges):
            yield [instruction for _, instruction in code[first : last + 1]]


def count(function: str, instructions: list[str]) -> Loop:
    loop = Loop(function, instructions=len(instructions))
    for text in instructions:
        mnemonic, _, operands = text.partition(" ")
        target, _, sources = operands.partition(",")
        loop.products += bool(PRODUCT.match(mnemonic))
        reads = MEMORY.search(sources) or (MEMORY.search(target) and mnemonic in ("cmp", "test"))
        loop.loads += bool(reads and mnemonic != "lea") or mnemonic.startswith("prefetch")
        if mnemonic.startswith("v") and not MOVE.match(mnemonic):
            loop.vector += 1
            loop.shuffles += bool(SHUFFLE.match(mnemonic))
    return loop


def short(name: str) -> str:
    """Without name spaces, result and arguments."""
    name = re.sub(r"pyruntime::|\(anonymous namespace\)::|__vector\(\d+\)", "", name)
    return re.sub(r"^.* (?=\w+<)", "", name.partition("(")[0])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.inner_loops")
    parser.add_argument("--build", default="build", help="directory of scripts/dev-build, beside csrc")
    parser.add_argument("--only", default="", help="part of a path or of a function's name")
    options = parser.parse_args(arguments)
    objects = compiled(pathlib.Path(options.build))
    if not objects:
        print(f"{options.build}: no objects of AVX-512 kernels; run scripts/dev-build first", file=sys.stderr)
        return 1
    print(f"{'kernel: function':70} products loads vector insns  cycles  bound by      MAC/cycle")
    for path in objects:
        for name, code in functions(path):
            label = f"{path.parent.name}/{path.name.removesuffix('.cc.o')}: {short(name)}"
            if options.only not in label:
                continue
            for instructions in innermost_loops(code):
                loop = count(label, instructions)
                if loop.products == 0:
                    continue
                resource, cycles = max(loop.bounds().items(), key=lambda item: item[1])
                per_product = 32 if any("vpdpwssd" in text for text in instructions) else 64
                print(
                    f"{label:70} {loop.products:8} {loop.loads:5} {loop.vector:6} {loop.instructions:5} "
                    f"{cycles:7.1f}  {resource:12} {loop.products * per_product / cycles:9.0f}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
