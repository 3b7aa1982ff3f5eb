"""Counting the instructions of inner loops."""

from __future__ import annotations

from bench import inner_loops


def test_only_innermost_loops() -> None:
    code = [
        (0, "xor    eax,eax"),
        (2, "vpdpbusd zmm1,zmm2,ZMMWORD PTR [rsi]"),
        (8, "jne    2 <f+0x2>"),
        (10, "jne    0 <f>"),
        (12, "ret"),
    ]
    assert list(inner_loops.innermost_loops(code)) == [
        ["vpdpbusd zmm1,zmm2,ZMMWORD PTR [rsi]", "jne    2 <f+0x2>"]
    ]


def test_bounds_of_a_loop() -> None:
    loop = inner_loops.count(
        "f",
        [
            "vmovdqu64 zmm0,ZMMWORD PTR [rdi]",
            "vpermi2d zmm3,zmm0,ZMMWORD PTR [rdi+0x40]",
            "vpdpbusd zmm1,zmm3,ZMMWORD PTR [rsi]",
            "lea    rsi,[rsi+0x40]",
            "vmovdqu64 ZMMWORD PTR [rdx],zmm1",
            "jne    10 <f>",
        ],
    )
    assert (loop.products, loop.loads, loop.vector, loop.shuffles) == (1, 3, 2, 1)
    assert loop.bounds() == {"ports 0, 5": 1.0, "port 5": 1.0, "loads": 1.5, "instructions": 1.0}
