"""The compile job's rules on made-up reports of ptxas: each is seen to break. The job itself needs nvcc."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import cuda_budgets
import pytest
from cuda_budgets import (
    Budget,
    Kernel,
    Launches,
    blocks_at_once,
    check,
    instances,
    parse,
    read_launches,
    short_name,
)
from sequences import CUDA_CELLS

GEMM = "_ZN8fusedrnn4cuda10gemm_tilesINS0_4door4Bf16ELNS0_5MajorE0ELS4_1EEEvNS0_8GemmTaskIT_EE"
CLEAR = "_ZN8fusedrnn4cuda39_GLOBAL__N__1f3a5d27_7_rows_cu_3c1fe9f112clear_kernelIdEEvNS1_9ClearTaskE"
# ptxas of CUDA 13.0
REPORT = f"""\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{GEMM}' for 'sm_90'
ptxas info    : Function properties for {GEMM}
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 133.169 ms
ptxas info    : Compiling entry function '{CLEAR}' for 'sm_90'
ptxas info    : Function properties for {CLEAR}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 18 registers, used 0 barriers
"""
PTX = f"""\
.visible .entry {GEMM}(
	.param .align 8 .b8 {GEMM}_param_0[144]
)
.maxntid 128, 1, 1
.minnctapersm 3
{{
	div.rn.f32 	%f3, %f1, %f2;
	div.rn.f32 	%f4, %f3, %f2;
}}
"""


def budgets(**changes: Any) -> dict[str, Budget]:
    return {
        "step": Budget(
            **{"threads": 128, "blocks": 2, "shared": 90000, "registers": {"float": 200}} | changes
        )
    }


def kernel(**changes: Any) -> Kernel:
    made = {
        "name": "step<Lstm<Math<float>>, float>",
        "registers": 200,
        "spilled": 0,
        "stack": 0,
        "static_shared": 0,
    }
    return Kernel(**made | changes)


def test_every_cell_has_a_source_for_each_of_its_plans(tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("no cmake to write the instances with")
    made = {str(path.relative_to(tmp_path)) for path in instances(tmp_path)}
    recurrent = {name for name in made if name.startswith("recurrent/")}
    assert recurrent == {f"recurrent/{plan}{cell}.cu" for cell in CUDA_CELLS for plan in ("", "grid/")}


def test_a_report_is_read() -> None:
    gemm, clear = parse(REPORT, PTX)
    assert gemm == Kernel("gemm_tiles<Bf16, 0, 1>", 168, 20, 16, 1024, 128, 3, 2)
    assert (gemm.family, gemm.element) == ("gemm_tiles", "Bf16")
    assert clear == Kernel("clear_kernel<double>", 18, 0, 0, 0)
    with pytest.raises(ValueError, match="lacks"):
        parse(REPORT.replace("Used 18 registers", ""), "")


def test_names_lose_their_namespaces() -> None:
    cell = "fusedrnn::Elman<fusedrnn::cuda::Math<float>, fusedrnn::Tanh>"
    name = f"void fusedrnn::cuda::step<{cell}, fusedrnn::cuda::Tf32>"
    assert (
        short_name(f"{name}(fusedrnn::cuda::(anonymous namespace)::Task)")
        == "step<Elman<Math<float>, Tanh>, Tf32>"
    )
    assert short_name("fusedrnn::cuda::plain(fusedrnn::cuda::Task<float>)") == "plain"


def test_what_keeps_to_its_budget_is_silent() -> None:
    launches = {"step<Lstm<Math<float>>, float>": Launches(128, 90000)}
    assert check([kernel()], budgets(), launches) == []
    assert check([kernel(bound_threads=128, bound_blocks=2)], budgets()) == []
    assert check([kernel(bound_threads=128, bound_blocks=3)], budgets()) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"registers": 201}, "uses 201 registers, its budget is 200"),
        ({"spilled": 4}, "spills 4 bytes"),
        ({"stack": 8}, "has a stack of 8"),
        ({"static_shared": 16}, "16 bytes of static shared memory"),
        ({"name": "step<double>"}, "no budget of registers for double"),
        ({"name": "step"}, "no budget of registers for a kernel without element type"),
        ({"name": "new_kernel<float>"}, "new_kernel<float> has no budget"),
        ({"bound_threads": 256, "bound_blocks": 2}, r"launch bounds \(256, 2\)"),
        ({"bound_threads": 128, "bound_blocks": 1}, r"launch bounds \(128, 1\)"),
    ],
    ids=str,
)
def test_a_kernel_beyond_its_budget_is_named(changes: dict[str, Any], fault: str) -> None:
    wrong = check([kernel(**changes)], budgets(registers={"float": 200}))
    assert len([line for line in wrong if "which no kernel needs" not in line]) == 1
    with pytest.raises(AssertionError, match=fault):
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"registers": {"float": 200, "Bf16": 100}}, "registers for Bf16, which no kernel needs"),
        ({"blocks": 3}, "leaves room for 2 blocks of float, and says 3"),
        ({"shared": 120000}, "leaves room for 1 blocks of float, and says 2"),
        ({"shared": 170000, "blocks": 1}, "has 170000 bytes of shared memory"),
    ],
    ids=str,
)
def test_a_budget_that_cannot_be_is_named(changes: dict[str, Any], fault: str) -> None:
    (line,) = check([kernel()], budgets(**changes))
    assert line.startswith("the budget of step ")
    assert fault in line


def test_kernels_of_clusters_have_the_shared_memory_of_sm_90() -> None:
    most = {"shared": 227 * 1024, "blocks": 1}
    assert check([kernel()], budgets(**most, clusters=True)) == []
    assert check([kernel()], budgets(**most, fitted=True)) == []
    assert len(check([kernel()], budgets(**most))) == 1


@pytest.mark.parametrize(
    ("launches", "fault"),
    [
        ({}, "was never launched"),
        ({"step<Lstm<Math<float>>, float>": Launches(160, 0)}, "launched with 160 threads"),
        ({"step<Lstm<Math<float>>, float>": Launches(128, 90001)}, "90001 bytes of shared memory"),
        ({"step<Lstm<Math<float>>, float>": Launches(128, 90000, 2, "0x12")}, "takes 2 passes .* of 0x12"),
    ],
)
def test_launches_are_held_to_budgets(launches: dict[str, Launches], fault: str) -> None:
    (line,) = check([kernel()], budgets(), launches)
    assert re.search(fault, line)


def test_divisions_are_held_to_budgets() -> None:
    assert check([kernel(divisions=1)], budgets()) == []
    (line,) = check([kernel(divisions=1)], budgets(divides=False))
    assert "divides floats 1 times" in line


def test_bank_conflicts_that_a_budget_names_are_allowed() -> None:
    launches = {"step<Lstm<Math<float>>, float>": Launches(128, 90000, 2, "0x12")}
    assert check([kernel()], budgets(banks=2), launches) == []


def test_notes_of_several_runs_are_put_together(tmp_path: Path) -> None:
    clear = "PN8fusedrnn4cuda4door5NamedIXadL_ZNS0_12_GLOBAL__N_112clear_kernelIdEEvNS2_9ClearTaskEEEEE"
    for i, numbers in enumerate(("128 64 1 0x10", "64 512 4 0x20")):
        (tmp_path / str(i)).write_text(f"{clear} {numbers}\n")
    norm = "PN8fusedrnn4cuda4door5NamedIXadL_ZNS0_12_GLOBAL__N_111norm_kernelENS2_8NormTaskEEEEE"
    (tmp_path / "2").write_text(f"{norm} 256 64 0 0\n")
    assert read_launches([tmp_path / str(i) for i in range(3)]) == {
        "clear_kernel<double>": Launches(128, 512, 4, "0x20"),
        "norm_kernel": Launches(256, 64),
    }


def test_room_on_a_multiprocessor() -> None:
    assert blocks_at_once(registers=255, threads=128, shared=0) == 2
    assert blocks_at_once(registers=168, threads=128, shared=46080) == 3
    assert blocks_at_once(registers=169, threads=128, shared=46080) == 2
    assert blocks_at_once(registers=16, threads=128, shared=0) == 16
    assert blocks_at_once(registers=16, threads=32, shared=0) == 32


def test_the_stored_budgets_can_be_kept() -> None:
    for family, budget in cuda_budgets.read_budgets(cuda_budgets.BUDGETS).items():
        budget.seen |= set(budget.registers)
        assert not cuda_budgets.faults_of_budget(budget), family
