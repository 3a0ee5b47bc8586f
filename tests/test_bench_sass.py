"""What the counts of machine code are made of: loops found in a listing, and how often a step runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from sass_counts import Kernel, above_budget, count, kind_of, polls_that_invalidate, width  # isort: skip, it makes the next two known
from latency import LATENCY, Warp
from machine_code import Instruction, kernel
from step_loops import Shape

# Lines of a source file; instructions name them.
SOURCE = """\
for (uint32_t turn = 0; turn < turns; ++turn) {
  for (int i = hw::thread(); i < items(); i += kClusterThreads) {
    out[g] = at[g * gate];
    for (int i = 1; i < shape_.splits; ++i) {
      const float part = at[g * gate];
    static_cast<C*>(d.hn)[b] = out;
  block.send(turn + 1);
"""
SHAPE = Shape(
    blocks=2, rows=8, units=8, gates=4, handed=1, tiles=2, splits=8, jobs=16, job_depth=4, held=4, bytes=0,
    resident=0, element=4, clocks=0, warps=8, turns=0,
)  # fmt: skip


@pytest.fixture
def listing(tmp_path: Path) -> Kernel:
    """Steps over items over sums of two gates."""
    file = tmp_path / "kernel.cuh"
    file.write_text(SOURCE)
    lines = []

    def code(line: int, *texts: str) -> None:
        lines.append(f'\t//## File "{file}", line {line}')
        for text in texts:
            lines.append(f"        /*{16 * len(lines):04x}*/                   {text} ;")

    code(1, "MOV R1, RZ")
    lines.append(".L_x_1:")
    code(1, "IADD3 R1, R1, 0x1, RZ")
    lines.append(".L_x_2:")
    code(2, "IMAD R2, R2, R3, RZ")
    code(2, "@P1 BRA `(.L_x_4)")
    code(3, "LDS R6, [R5]", "LDS R7, [R5]")
    lines.append(".L_x_3:")
    code(5, "LDS R4, [R5]", "FADD R6, R6, R4", "LDS.64 R4, [R5+0x8]", "FADD R7, R7, R4")
    code(4, "@P0 BRA `(.L_x_3)")
    code(6, "STG.E desc[UR4][R8.64], R6")
    lines.append(".L_x_4:")
    code(2, "@!P2 BRA `(.L_x_2)")
    code(1, "BAR.SYNC.DEFER_BLOCKING 0x0")
    code(1, "BRA P3, `(.L_x_6)")
    code(7, "CALL.REL.NOINC `($divide)", "MOV R9, R9")
    lines.append(".L_x_6:")
    code(7, "STAS [R1], R2")
    code(1, "@P4 BRA `(.L_x_1)")
    code(1, "EXIT")
    return kernel("cluster_forward<Cell>", lines)


def test_loops_and_what_they_are_in(listing: Kernel) -> None:
    assert len(listing.loops) == 3
    steps, items, sums = listing.loops
    assert (steps.parent, items.parent, sums.parent) == (None, steps, items)
    assert len(sums.blocks) == 1


def test_executions(listing: Kernel) -> None:
    phases, _ = count(listing, SHAPE)
    total = sum((counts.kinds for counts in phases.values()), type(next(iter(phases.values())).kinds)())
    # 64 items are 2 warps; each adds 7 parts to the first, of two gates. Eight warps do the rest; the end of
    # a row and the division in a call count nothing.
    assert total["lds"] == 2 * (2 + 7 * 2)
    assert total["fma"] == 2 * 7 * 2
    assert total["imad"] == 2
    assert (total["alu"], total["barrier"], total["exchange"]) == (8, 8, 8)
    assert total["global"] == 0
    assert total["rest"] == 2 * 2 + 2 * 7 + 8 * 2


def test_bytes(listing: Kernel) -> None:
    phases, _ = count(listing, SHAPE)
    moved = sum(counts.moved["lds"] for counts in phases.values())
    assert moved == 2 * 32 * (2 * 4 + 7 * (4 + 8))


@pytest.mark.parametrize(
    ("opcode", "kind", "bytes_a_lane"),
    [
        ("HMMA.16816.F32.BF16", "mma", 0),
        ("FFMA", "fma", 0),
        ("IMAD.WIDE.U32", "imad", 0),
        ("LEA.HI.X.SX32", "alu", 0),
        ("MUFU.EX2", "mufu", 0),
        ("LDS.128", "lds", 16),
        ("LDG.E.U16.CONSTANT", "global", 2),
        ("LDGSTS.E", "global", 4),
        ("SYNCS.PHASECHK.TRANS64.TRYWAIT", "exchange", 0),
        ("UIADD3", "rest", 0),
    ],
)
def test_kinds(opcode: str, kind: str, bytes_a_lane: int) -> None:
    assert (kind_of(opcode), width(opcode)) == (kind, bytes_a_lane)


def test_a_warp_waits_for_scoreboards() -> None:
    warp = Warp()
    load = Instruction(0, "", "LDS", "R1, [R2]", (), stall=2, result=1)
    assert warp.run(load, 1) == 2
    assert warp.run(Instruction(16, "", "FADD", "R3, R3, R4", (), stall=4), 1) == 4
    assert warp.run(Instruction(32, "", "FADD", "R1, R1, R1", (), stall=4, waits=0b10), 0) == 0
    assert (
        warp.run(Instruction(32, "", "FADD", "R1, R1, R1", (), stall=4, waits=0b10), 1) == LATENCY["LDS"] - 2
    )


def test_a_warp_waits_for_its_groups_of_copies() -> None:
    warp = Warp()
    for opcode, operands in (
        ("LDGSTS.E", "[R1]"),
        ("LDGDEPBAR", ""),
        ("LDGSTS.E", "[R1]"),
        ("LDGDEPBAR", ""),
    ):
        warp.run(Instruction(0, "", opcode, operands, (), stall=10), 1)
    assert warp.run(Instruction(0, "", "DEPBAR.LE", "SB0, 0x2", (), stall=1), 1) == 1
    assert warp.run(Instruction(0, "", "DEPBAR.LE", "SB0, 0x1", (), stall=1), 1) == 600 - 40
    assert warp.run(Instruction(0, "", "DEPBAR.LE", "SB0, 0x0", (), stall=1), 1) == 20


def test_control_bits_are_read() -> None:
    lines = ["        /*0000*/                   LDS R1, [R2] ;   /* 0x0000000002017984 */"]
    lines += ["                                                  /* 0x004e220000000800 */"]
    (instruction,) = kernel("a", lines).blocks[0].instructions
    assert (instruction.stall, instruction.result, instruction.read, instruction.waits) == (1, 0, None, 4)


def test_a_latency_above_its_budget_is_wrong() -> None:
    budgets = {"bf16:32:256 step forward": 100.0}
    assert above_budget({"bf16:32:256 step forward": 100.0}, budgets) == []
    assert above_budget({"bf16:32:256 step forward": 101.0}, budgets) == [
        "bf16:32:256 step forward takes 101 clocks, its budget is 100.0"
    ]
    assert above_budget({}, budgets) == ["bf16:32:256 step forward has a budget and no kernel"]
    assert above_budget({"bf16:1:1 step forward": 1.0}, {}) == [
        "bf16:1:1 step forward has no budget in budgets.json"
    ]


@pytest.mark.parametrize("inside", [False, True])
def test_a_poll_that_invalidates_the_cache_is_wrong(tmp_path: Path, inside: bool) -> None:
    file = tmp_path / "poll.cuh"
    file.write_text("if (static_cast<int32_t>(posted - value) >= 0) break;\n")
    texts = [
        "LDG.E.STRONG.GPU R1, [R2]",
        *["CCTL.IVALL"] * inside,
        "@!P0 BRA `(.L_x_1)",
        "CCTL.IVALL",
        "EXIT",
    ]
    lines = [".L_x_1:", f'\t//## File "{file}", line 1']
    lines += [f"        /*{16 * i:04x}*/                   {text} ;" for i, text in enumerate(texts)]
    assert bool(polls_that_invalidate(kernel("grid_forward<Cell>", lines))) == inside
