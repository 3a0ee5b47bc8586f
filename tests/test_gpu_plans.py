"""The plans of a GPU, each forced, against the reference: sizes around tiles, chunks and runs of sums.

Needs ``--backend cuda`` or ``--backend simt``; skipped on a CPU, which refuses these plans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sequences import CUDA_CELLS, Stack, bits, check, check_again, draw, run

from fusedrnn import _native, cpu, functional, nn
from fusedrnn.reference.rounding import round_operand

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(
        cpu.isa() not in ("cuda", "simt"), reason="plans of a GPU: run with --backend cuda or simt"
    ),
]
PLANS = pytest.mark.parametrize("plan", ["reference", "step", "cluster", "grid:8x12"])
EACH_CELL = pytest.mark.parametrize("cell", CUDA_CELLS)
ALL = {"layers": 2, "directions": 2, "lengths": True, "resets": True, "dropout": 0.3}


@pytest.fixture(autouse=True)
def leave_no_plan_behind() -> Iterator[None]:
    yield
    _native.force_plan("")


@PLANS
@EACH_CELL
@pytest.mark.parametrize(
    "sizes",
    [
        {"T": 1, "B": 1, "I": 1, "H": 1},
        {"T": 6, "B": 3, "I": 7, "H": 5, **ALL},
        {"T": 3, "B": 17, "I": 5, "H": 33, "directions": 2, "lengths": True},
        {"T": 2, "B": 65, "I": 3, "H": 17, "resets": True, "bias": False},
        {"T": 2, "B": 3, "I": 67, "H": 70, "batch_first": True, "strided": True, "into": True},
    ],
    ids=str,
)
def test_sizes_around_tiles(cell: str, plan: str, sizes: dict[str, Any]) -> None:
    _native.force_plan(plan)
    check(Stack(cell, **sizes), np.float32)


@PLANS
@EACH_CELL
def test_every_arithmetic(cell: str, plan: str, dtype: Any, precision: str) -> None:
    _native.force_plan(plan)
    check(Stack(cell, T=4, B=33, I=9, H=19, **ALL), dtype, precision)
    check(Stack(cell, T=2, B=17, I=66, H=67), dtype, precision)
    check(Stack(cell, T=3, B=18, I=4, H=22, **ALL), dtype, precision)  # pairs of units, and no whole vectors
    check(Stack(cell, T=3, B=18, I=4, H=20, **ALL), dtype, precision)  # both


@PLANS
@EACH_CELL
@pytest.mark.parametrize(("B", "chunk_steps"), [(2500, 3), (4200, 2)])
def test_chunks_of_steps(cell: str, plan: str, B: int, chunk_steps: int) -> None:
    """More rows than a chunk has: dgates cross its edge, weight gradients add up over chunks and runs."""
    _native.force_plan(plan)
    stack = Stack(cell, T=5, B=B, I=2, H=2, directions=2, lengths=True, resets=True)
    sizes = {"num_layers": 1, "num_directions": 2, "T": 5, "B": B, "I": 2, "H": 2, "threads": 1}
    assert _native.sequence_plan(cell, "float32", **sizes)["chunk_steps"] == chunk_steps
    check(stack, np.float32)


@EACH_CELL
@pytest.mark.parametrize(
    "absent",
    [
        {"dy": False, "dhn": False},
        {"dy": False, "dcn": False},
        {"dhn": False, "dcn": False},
        {"dy": False, "dhn": False, "dcn": False},
        {"state": False, "need_dx": False},
        {"state": False, "bias": False, "dhn": False},
    ],
    ids=str,
)
def test_absent_arguments(cell: str, absent: dict[str, Any]) -> None:
    _native.force_plan("step")
    check(Stack(cell, T=4, B=3, I=3, H=6, layers=2, directions=2, lengths=True, **absent), np.float32)


@PLANS
@EACH_CELL
def test_the_same_bits_again(cell: str, plan: str) -> None:
    _native.force_plan(plan)
    stack = Stack(cell, T=4, B=33, I=5, H=18, layers=2, directions=2, lengths=True, resets=True)
    check_again(stack, np.float32)
    data = draw(replace(stack, dropout=0.5))
    assert bits(run(data, np.float32, None)) == bits(run(data, np.float32, None))


@PLANS
@EACH_CELL
@pytest.mark.parametrize("narrow", ["tf32", "tf32x3", "bf16", "fp16"])
def test_results_are_not_rounded_as_operands_are(cell: str, plan: str, narrow: str) -> None:
    _native.force_plan(plan)
    results = run(draw(Stack(cell, T=2, B=3, I=4, H=9)), np.float32, None, narrow)
    for name in results:
        assert (round_operand(results[name], narrow) != results[name]).any(), name


@PLANS
def test_states_of_rows_without_steps_reach_no_gradient(plan: str) -> None:
    """Products run over all rows: 0 times a state that is not finite would not be 0."""
    _native.force_plan(plan)
    data = draw(Stack("gru", T=3, B=4, I=3, H=5, lengths=True))
    assert data.h0 is not None
    assert data.lengths is not None
    data.lengths[1] = 0
    data.h0[:, 1] = np.inf
    results = run(data, np.float32, None)
    assert np.isfinite(results["dweight_hh_l0"]).all()
    assert np.isinf(results["hn"][:, 1]).all()


def plan_of(cell: str, sizes: dict[str, Any], precision: str = "ieee", layers: int = 1) -> dict[str, Any]:
    return _native.sequence_plan(
        cell, "float32", num_layers=layers, I=4, threads=1, **sizes, precision=precision
    )


@EACH_CELL
@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("forced", "sizes", "blocks"),
    [
        ("cluster:8x1", {"T": 5, "B": 9, "H": 37}, 1),
        ("cluster:8x2", {"T": 4, "B": 8, "H": 32}, 2),
        ("cluster:8x4", {"T": 6, "B": 11, "H": 61}, 4),
        ("cluster:16x2", {"T": 4, "B": 19, "H": 34}, 2),
        ("cluster:32x3", {"T": 3, "B": 33, "H": 34}, 3),
    ],
)
def test_clusters(cell: str, forced: str, sizes: dict[str, int], blocks: int, precision: str) -> None:
    """Tiles of rows and units that are full and that are not, by one block and by several."""
    _native.force_plan(forced)
    plan = plan_of(cell, sizes | {"num_directions": 2}, precision)
    rows = int(forced.split(":")[1].split("x")[0])
    assert plan["name"] == "cluster"
    assert plan["cluster_rows"] == rows
    assert plan["unit_groups"] == blocks
    assert plan["row_groups"] == -(-sizes["B"] // rows)
    check(Stack(cell, I=4, directions=2, lengths=True, resets=True, **sizes), np.float32, precision)


# Two pieces of a chunk, the last layer alone; two chunks, the second too short to be cut.
@pytest.mark.parametrize(
    "sizes", [{"T": 37, "B": 9, "H": 9, "layers": 3}, {"T": 41, "B": 200, "H": 3, "layers": 2}], ids=str
)
@EACH_CELL
def test_two_layers_at_once_have_the_bits_of_one_after_the_other(cell: str, sizes: dict[str, int]) -> None:
    stack = Stack(cell, I=4, lengths=True, resets=True, dropout=0.3, **sizes)
    numbers = {key: value for key, value in sizes.items() if key != "layers"} | {"num_directions": 1}
    results = []
    for forced, at_once in (("cluster:32x2", 2), ("cluster:32x2x1", 1)):
        _native.force_plan(forced)
        assert plan_of(cell, numbers, layers=sizes["layers"])["layers_at_once"] == at_once
        results.append(bits(run(draw(stack), np.float32, None)))
        check_again(replace(stack, dropout=0.0), np.float32)
    assert results[0] == results[1]


def test_two_layers_at_once_compute_what_the_reference_does() -> None:
    _native.force_plan("cluster:8x2")
    check(Stack("gru", T=37, B=5, I=4, H=9, layers=4, lengths=True, resets=True, dropout=0.3), np.float32)


@pytest.mark.parametrize(
    ("layers", "sizes", "at_once"),
    [
        (2, {"T": 32, "B": 64, "num_directions": 1}, 2),
        (2, {"T": 32, "B": 64, "num_directions": 2}, 1),  # a direction needs all of the layer below
        (1, {"T": 32, "B": 64, "num_directions": 1}, 1),
        (2, {"T": 31, "B": 64, "num_directions": 1}, 1),  # pieces too short to be worth it
        (2, {"T": 32, "B": 272, "num_directions": 1}, 1),  # no room for 34 clusters of 2 blocks, twice
    ],
)
def test_when_two_layers_run_at_once(layers: int, sizes: dict[str, int], at_once: int) -> None:
    _native.force_plan("cluster:8x2")
    assert plan_of("lstm", sizes | {"H": 16}, layers=layers)["layers_at_once"] == at_once


@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_the_largest_cluster(precision: str) -> None:
    _native.force_plan("cluster:8x16")
    H = 64 if precision == "ieee" else 250
    assert plan_of("gru", {"T": 3, "B": 3, "H": H, "num_directions": 1}, precision)["unit_groups"] == 16
    check(Stack("gru", T=3, B=3, I=4, H=H, resets=True), np.float32, precision)


@pytest.mark.parametrize(
    ("forced", "precision", "H"),
    [("cluster:8x1", "bf16", 128), ("cluster:8x4", "ieee", 136), ("cluster:8x4", "tf32x3", 140)],
    ids=["more tiles than warps", "longer sums than registers", "of both kinds"],
)
def test_more_of_the_weights_than_registers_hold(forced: str, precision: str, H: int) -> None:
    _native.force_plan(forced)
    assert plan_of("lstm", {"T": 3, "B": 3, "H": H, "num_directions": 1}, precision)["name"] == "cluster"
    check(Stack("lstm", T=3, B=3, I=4, H=H), np.float32, precision)


def test_what_fits_no_cluster_goes_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"T": 3, "B": 3, "num_directions": 1}
    _native.force_plan("cluster")
    assert plan_of("lstm", sizes | {"H": 256})["name"] == "cluster"
    assert plan_of("lstm", sizes | {"H": 2048})["name"] == "step"
    _native.force_plan("cluster:8x1")
    assert plan_of("lstm", sizes | {"H": 256})["name"] == "step"
    check(Stack("rnn_tanh", T=2, B=2, I=3, H=700), np.float32)
    _native.force_plan("cluster")
    numbers = {"num_layers": 1, "I": 4, "threads": 1, "H": 8}
    assert _native.sequence_plan("lstm", "float64", **sizes, **numbers)["name"] == "step"
    if cpu.isa() == "simt":
        _native.force_plan("cluster")
        monkeypatch.setenv("FUSEDRNN_SIMT_CLUSTER", "5")
        small = plan_of("lstm", sizes | {"H": 256})
        assert small["name"] == "cluster"
        assert small["unit_groups"] <= 5
        assert plan_of("lstm", sizes | {"H": 512})["name"] == "step"
        monkeypatch.setenv("FUSEDRNN_SIMT_COMPUTE", "8")
        assert plan_of("lstm", sizes | {"H": 8})["name"] == "step"


@EACH_CELL
@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("forced", "sizes", "directions"),
    [
        ("grid:8x132", {"T": 5, "B": 9, "H": 37}, 2),
        ("grid:8x1", {"T": 4, "B": 17, "H": 8}, 1),
        ("grid:8x5", {"T": 4, "B": 19, "H": 40}, 2),
        ("grid:manyx132", {"T": 3, "B": 33, "H": 34}, 2),
        ("grid:manyx9", {"T": 2, "B": 70, "H": 50}, 1),
    ],
    ids=str,
)
def test_grids(cell: str, forced: str, sizes: dict[str, int], directions: int, precision: str) -> None:
    """Tiles of rows and units that are full or not, one block and several, groups at once and in turns."""
    rows = 8 if "many" not in forced else 16 if precision in ("ieee", "tf32x3") else 32
    _native.force_plan(forced.replace("many", str(rows)))
    plan = plan_of(cell, sizes | {"num_directions": directions}, precision)
    assert plan["name"] == "grid"
    assert plan["cluster_rows"] == rows
    assert plan["unit_groups"] == -(-sizes["H"] // (8 if precision == "ieee" else 16))
    assert plan["row_groups"] == -(-sizes["B"] // rows)
    both = {"directions": directions, "lengths": True, "resets": True}
    check(Stack(cell, I=4, **both, **sizes), np.float32, precision)


@pytest.mark.parametrize(
    ("cell", "precision", "H"),
    [
        ("lstm", "ieee", 300),
        ("lstm", "bf16", 530),
        ("gru", "tf32", 290),
        ("gru", "ieee", 280),
        ("lstm", "tf32x3", 270),
        ("rnn_relu", "fp16", 700),
    ],
    ids=str,
)
def test_more_of_the_weights_than_a_grids_registers_hold(cell: str, precision: str, H: int) -> None:
    """Runs of k longer than the ring for the state, too."""
    _native.force_plan("grid:8x132")
    assert plan_of(cell, {"T": 2, "B": 2, "H": H, "num_directions": 1}, precision)["name"] == "grid"
    check(Stack(cell, T=2, B=2, I=3, H=H), np.float32, precision)


def test_a_grid_for_many_rows_or_for_few() -> None:
    """Whichever takes fewer turns."""
    _native.force_plan("grid")
    sizes = {"T": 3, "H": 1024, "num_directions": 1}
    assert plan_of("lstm", sizes | {"B": 8}, "bf16")["cluster_rows"] == 8
    assert plan_of("lstm", sizes | {"B": 16}, "bf16")["cluster_rows"] == 8
    assert plan_of("lstm", sizes | {"B": 64}, "bf16")["cluster_rows"] == 32
    assert plan_of("lstm", sizes | {"B": 64}, "ieee")["cluster_rows"] == 16


def test_what_fits_no_grid_goes_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"T": 3, "B": 3, "num_directions": 1}
    _native.force_plan("grid")
    fits = [
        ("lstm", "bf16", 2048),
        ("lstm", "ieee", 1056),
        ("lstm", "tf32", 1216),
        ("gru", "tf32", 1472),
        ("lstm", "tf32x3", 1024),
        ("gru", "tf32x3", 1280),
        ("rnn_relu", "tf32x3", 2112),
    ]
    for cell, precision, H in fits:
        assert plan_of(cell, sizes | {"H": H}, precision)["name"] == "grid", (cell, precision, H)
    for cell, precision, H in [
        ("rnn_tanh", "bf16", 2113),
        ("lstm", "ieee", 1057),
        ("lstm", "tf32", 1536),
        ("lstm", "tf32x3", 1025),
        ("gru", "tf32x3", 1281),
    ]:
        assert plan_of(cell, sizes | {"H": H}, precision)["name"] == "step", (cell, precision, H)
    assert plan_of("lstm", sizes | {"H": 4097})["name"] == "step"
    numbers = {"num_layers": 1, "I": 4, "threads": 1, "H": 8}
    assert _native.sequence_plan("lstm", "float64", **sizes, **numbers)["name"] == "step"
    check(Stack("lstm", T=2, B=2, I=3, H=9), np.float64)
    _native.force_plan("grid:8x3")
    assert plan_of("lstm", sizes | {"H": 24})["name"] == "grid"
    assert plan_of("lstm", sizes | {"H": 25})["name"] == "step"
    check(Stack("gru", T=2, B=2, I=3, H=25), np.float32)
    _native.force_plan("grid:32x3")
    assert plan_of("lstm", sizes | {"H": 24})["name"] == "step"
    if cpu.isa() == "simt":
        _native.force_plan("grid")
        monkeypatch.setenv("FUSEDRNN_SIMT_BLOCKS", "5")
        assert plan_of("lstm", sizes | {"H": 40})["name"] == "grid"
        assert plan_of("lstm", sizes | {"H": 41})["name"] == "step"
        check(Stack("gru", T=3, B=20, I=3, H=40, directions=2), np.float32)


@pytest.mark.parametrize("H", [8, 256])
def test_who_waits_for_others_is_for_who_asks(H: int) -> None:
    """No GPU has run them yet, and what waits for others can hang."""
    _native.force_plan("")
    assert plan_of("lstm", {"T": 3, "B": 3, "num_directions": 1, "H": H})["name"] == "step"


@EACH_CELL
@pytest.mark.parametrize("algo", ["auto", "reference", "step", "cluster", "grid"])
def test_who_asks_for_a_plan_gets_it(cell: str, algo: str) -> None:
    """Whatever is forced on everybody else."""
    _native.force_plan("reference")
    sizes = {"T": 3, "B": 5, "I": 4, "H": 67}
    expected = "reference" if algo == "auto" else algo
    plan = _native.sequence_plan(
        cell, "float32", **sizes, num_layers=1, num_directions=1, threads=1, algo=algo
    )
    assert plan["name"] == expected
    data = draw(Stack(cell, **sizes))
    x, dy = (a.astype(np.float32) for a in (data.x, data.dy))
    weights = {name: w.astype(np.float32) for name, w in data.weights.items()}

    def results(algo: str) -> list[bytes]:
        packed = functional.pack_weights(weights, algo=algo)
        forward, backward = (
            getattr(functional, f"{cell.split('_')[0]}_{p}") for p in ("forward", "backward")
        )
        options = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
        y, _, tape = forward(x, None, packed, **options)
        dx, _, dweights = backward(tape, dy)
        return [a.tobytes() for a in (y, dx, *dweights.values())]

    asked = results(algo)
    assert results("step" if expected == "reference" else "reference") != asked
    _native.force_plan(expected)
    assert results("auto") == asked


def test_a_plan_that_somebody_asks_for_and_that_does_not_fit_is_refused() -> None:
    sizes = {"T": 3, "B": 3, "I": 4, "num_layers": 1, "num_directions": 1, "threads": 1}
    with pytest.raises(RuntimeError, match=r"algo 'cluster' does not fit: .*H = 2048.*take 'auto' or 'step'"):
        _native.sequence_plan("lstm", "float32", **sizes, H=2048, algo="cluster")
    with pytest.raises(RuntimeError, match=r"algo 'grid' does not fit: .*no room for a grid.*H = 2048"):
        _native.sequence_plan("lstm", "float32", **sizes, H=2048, algo="grid")
    with pytest.raises(RuntimeError, match="algo 'cluster' does not fit"):
        _native.sequence_plan("lstm", "float64", **sizes, H=8, algo="cluster")
    weights = {"weight_ih_l0": np.ones((1, 2)), "weight_hh_l0": np.ones((1, 1))}
    packed = functional.pack_weights(weights, algo="cluster")
    with pytest.raises(RuntimeError, match="algo 'cluster' does not fit"):
        functional.rnn_forward(np.ones((2, 1, 2)), None, packed)


def test_the_plan_is_data() -> None:
    _native.force_plan("step")
    sizes = {"num_layers": 1, "num_directions": 2, "T": 1000, "B": 65, "I": 64, "H": 70, "threads": 1}
    plan = {
        "name": "step",
        "direction_groups": 2,
        "row_groups": 3,
        "unit_groups": 5,
        "chunk_steps": 126,
    }
    assert _native.sequence_plan("lstm", "float32", **sizes) == plan
    assert _native.sequence_plan("rnn_tanh", "float32", **sizes) == plan | {"unit_groups": 3}
    assert _native.sequence_plan("gru", "float32", **sizes, precision="bf16") == plan
    _native.force_plan("reference")
    assert _native.sequence_plan("lstm", "float64", **sizes)["name"] == "reference"
    _native.force_plan("cluster:32x4")
    cluster = plan | {"name": "cluster", "unit_groups": 3, "cluster_rows": 32}
    got = _native.sequence_plan("gru", "float32", **sizes, precision="bf16")
    assert cluster.items() <= got.items()
    assert 0 < got["shared_bytes"] <= 227 * 1024


@pytest.mark.parametrize("arithmetic", ["tf32x3", "bf16"])
def test_what_no_kernel_computes_is_refused(arithmetic: str) -> None:
    sizes = {"num_layers": 1, "num_directions": 1, "T": 3, "B": 2, "I": 4, "H": 5, "threads": 1}
    with pytest.raises(RuntimeError, match="float64 in ieee precision only"):
        _native.sequence_plan("lstm", "float64", **sizes, precision=arithmetic)


def test_a_grid_of_threads_is_refused() -> None:
    _native.force_plan("2x1")
    sizes = {"num_layers": 1, "num_directions": 1, "T": 3, "B": 2, "I": 4, "H": 5, "threads": 2}
    with pytest.raises(
        RuntimeError,
        match="plan 1x2x1 is a grid of CPU threads: on CUDA a plan is reference, step, cluster or grid",
    ):
        _native.sequence_plan("lstm", "float32", **sizes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(3, 4, peephole=True),
        lambda: nn.LSTM(3, 4, layer_norm=True),
        lambda: nn.LSTM(3, 4, proj_size=2),
        lambda: nn.GRU(3, 4, reset_after=False),
    ],
)
def test_a_cell_of_the_cpu_alone_is_refused(make: Any) -> None:
    module = make()
    with pytest.raises(RuntimeError, match=f"CUDA has no kernels for {module._cell}: it is not on CUDA yet"):
        module(np.zeros((2, 1, 3), np.float32))
