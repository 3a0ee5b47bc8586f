"""The model behind the benchmarks' limits, on cases small enough to count by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from cuda_limits import CudaLimits, CudaStack
from cuda_limits import stack_limit as cuda_limit
from limits import CELLS, Stack, stack_limit
from pieces import Pieces
from pieces import seconds as pieces_seconds
from pieces import table as pieces_table
from roofline import Limits, Roof

# 2 GFLOP/s: a multiply-add a nanosecond. Caches that hold everything, bandwidths that cost nothing.
FREE = 1e9
ONE = Roof(1, {"avx2": 2.0}, FREE, FREE, FREE, FREE, barrier_us=0.0, fork_us=0.0)
TWO = Roof(2, {"avx2": 4.0}, FREE, FREE, FREE, FREE, barrier_us=0.0, fork_us=0.0)
ALONE = Limits("avx2", 1 << 40, 1 << 40, 1 << 40, ONE, ONE, 1.0)
PAIR = replace(ALONE, all=TWO)
RNN = Stack("rnn", T=3, B=2, I=5, H=7, L=1, train=False)


def test_arithmetic_is_matrix_products_and_activations() -> None:
    limit = stack_limit(RNN, ALONE)
    slots = 3 * 2 * 7 * (5 + 7 + CELLS["rnn"].forward_slots)
    assert limit.seconds == pytest.approx(slots * 1e-9)
    assert (limit.bound, limit.plan) == ("arithmetic", "1x1x1")


def test_training_has_three_times_the_products() -> None:
    slots = 3 * 2 * 7 * (3 * (5 + 7) + CELLS["rnn"].forward_slots + CELLS["rnn"].backward_slots)
    assert stack_limit(replace(RNN, train=True), ALONE).seconds == pytest.approx(slots * 1e-9)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_gates_and_layers_are_counted(cell: str, gates: int) -> None:
    slots = 3 * 2 * 7 * (gates * (5 + 7 + 7 + 7) + 2 * CELLS[cell].forward_slots)
    assert stack_limit(replace(RNN, cell=cell, L=2), ALONE).seconds == pytest.approx(slots * 1e-9)


@pytest.mark.parametrize(("precision", "products"), [("bf16", 1), ("bf16x3", 3), ("bf16x6", 6)])
def test_parts_of_operands_are_products_of_their_own(precision: str, products: int) -> None:
    limit = stack_limit(replace(RNN, precision=precision), ALONE)
    slots = 3 * 2 * 7 * (products * (5 + 7) + CELLS["rnn"].forward_slots)
    assert limit.seconds == pytest.approx(slots * 1e-9)


def test_tiles_multiply_beside_the_cells() -> None:
    stack = replace(RNN, precision="bf16x3", tiles=True)
    products, cells = 3 * 2 * 7 * 3 * (5 + 7) * 1e-9, 3 * 2 * 7 * CELLS["rnn"].forward_slots * 1e-9
    fast, slow = (replace(ALONE, one=(roof := replace(ONE, tile_gflops=rate)), all=roof) for rate in (40, 2))
    assert stack_limit(stack, fast).seconds == pytest.approx(max(products / 20, cells))
    assert stack_limit(stack, slow).seconds == pytest.approx(max(products, cells))


def test_operands_of_tiles_have_half_the_bytes() -> None:
    streaming = replace(ALONE, one=replace(ONE, tile_gflops=FREE), l1_bytes=0)
    streaming = replace(streaming, one=(roof := replace(streaming.one, l2_gbytes=1e-9)), all=roof)
    ieee = stack_limit(RNN, streaming).seconds
    for precision, of_float in (("bf16", 1 / 2), ("bf16x3", 1), ("bf16x6", 3 / 2)):
        found = stack_limit(replace(RNN, precision=precision, tiles=True), streaming).seconds
        assert found == pytest.approx(of_float * ieee, rel=1e-6)


def test_gflop_counts_products_alone() -> None:
    assert replace(RNN, cell="lstm", train=True).gflop == pytest.approx(3 * 2e-9 * 3 * 2 * 4 * 7 * (5 + 7))


def test_steps_past_a_rows_length_cost_nothing() -> None:
    half = stack_limit(replace(RNN, rows=3), ALONE).seconds
    assert half == pytest.approx(stack_limit(RNN, ALONE).seconds / 2)


def test_two_threads_share_the_arithmetic_and_pay_for_the_call() -> None:
    limit = stack_limit(RNN, replace(PAIR, all=replace(TWO, fork_us=0.05, barrier_us=1.0)))
    assert limit.seconds == pytest.approx(stack_limit(RNN, ALONE).seconds / 2 + 0.05e-6)
    assert limit.plan == "1x2x1"


def test_a_row_alone_needs_a_barrier_a_step_or_one_thread() -> None:
    row = replace(RNN, B=1)
    alone = stack_limit(row, ALONE).seconds
    dear = replace(PAIR, all=replace(TWO, barrier_us=1.0))
    assert stack_limit(row, dear).seconds == pytest.approx(alone)
    assert stack_limit(row, dear).plan == "1x1x1"
    cheap = replace(PAIR, all=replace(TWO, barrier_us=0.01))
    assert stack_limit(row, cheap).seconds == pytest.approx(alone / 2 + 3 * 0.01e-6)
    assert stack_limit(row, cheap).plan == "1x1x2"


def test_layers_at_once_need_no_barrier() -> None:
    deep = replace(RNN, B=1, I=7, L=2)
    limit = stack_limit(deep, replace(PAIR, all=replace(TWO, barrier_us=1.0)))
    assert limit.plan == "2x1x1"
    assert limit.seconds == pytest.approx(stack_limit(deep, ALONE).seconds / 2)


def test_layers_at_once_wait_at_their_barriers_together() -> None:
    four = replace(TWO, threads=4, fma_gflops={"avx2": 8.0}, barrier_us=0.01)
    deep = replace(RNN, B=1, I=7, L=2)
    limit = stack_limit(deep, replace(PAIR, all=four))
    assert limit.plan == "2x1x2"
    assert limit.seconds == pytest.approx(stack_limit(deep, ALONE).seconds / 4 + 3 * 0.01e-6)


@pytest.mark.parametrize("level", ["l1", "l2", "l3", "memory"])
def test_recurrent_weights_stream_from_where_they_fit(level: str) -> None:
    """A slice of 196 bytes, caches of 96 bytes each: what a level cannot keep comes from the next."""
    lies = {"l1": 196, "l2": 100, "l3": 4, "memory": 196 * (1 - (64 + 96) / 196)}[level]
    sizes = {"l1_bytes": 96, "l2_bytes": 96, "l3_bytes": 64 if level == "memory" else 1 << 40}
    roof = replace(ONE, fma_gflops={"avx2": FREE}, **{f"{level}_gbytes": 1e-3})
    limit = stack_limit(replace(RNN, B=1), replace(ALONE, one=roof, all=roof, **sizes))
    x_y_weights = 4 * (3 * (5 + 7) + 7 * (5 + 7))
    outside = {"l3": x_y_weights - 192, "memory": x_y_weights - 192 - 64}.get(level, 0)
    streaming = max(lies * 3, outside) / 1e6
    assert limit.seconds == pytest.approx(streaming)
    assert limit.bound == ("memory" if outside > lies * 3 else "weights")


def test_units_shared_out_halve_the_slice() -> None:
    roof = replace(TWO, fma_gflops={"avx2": FREE}, l1_gbytes=2e-3)
    one = replace(ONE, fma_gflops={"avx2": FREE}, l1_gbytes=1e-3)
    limit = stack_limit(replace(RNN, B=1), replace(PAIR, one=one, all=roof))
    assert (limit.plan, limit.bound) == ("1x1x2", "weights")
    assert limit.seconds == pytest.approx(98 * 3 / 1e6)


def test_a_call_that_fits_the_caches_streams_nothing_else_moves_once() -> None:
    slow = replace(ONE, fma_gflops={"avx2": FREE}, memory_gbytes=1e-3)
    small = replace(ALONE, one=slow, all=slow)
    assert stack_limit(RNN, small).seconds < 1e-9
    nothing_fits = replace(small, l1_bytes=0, l2_bytes=0, l3_bytes=0)
    moved = 4 * (3 * 2 * (5 + 7) + 7 * (5 + 7))
    recurrent = 4 * 7 * 7 * 3
    assert stack_limit(RNN, nothing_fits).seconds == pytest.approx(max(moved, recurrent) / 1e6)
    training = stack_limit(replace(RNN, train=True), nothing_fits).seconds
    backward = moved + 4 * (3 * 2 * 5 + 2 * 7 * (5 + 7))
    assert training == pytest.approx((max(moved, recurrent) + backward) / 1e6)


# A GPU that makes a multiply-add a nanosecond from float32 and two from bf16, and whose memory costs nothing.
RATES = {"fma_tflops": 2e-3, "mma_bf16_tflops": 4e-3, "exchange_ns 2 128": 500.0}
RATES |= dict.fromkeys(("copy_gbytes", "read_gbytes", "l2_gbytes"), FREE)
GPU = CudaLimits(RATES, l2_bytes=1 << 40)
GRU = CudaStack("gru", T=3, B=2, I=5, H=7, L=2, train=False, D=2)


def test_a_gpu_multiplies_for_every_layer_and_direction() -> None:
    limit = cuda_limit(GRU, GPU)
    weights = 2 * 3 * 7 * (5 + 7) + 2 * 3 * 7 * (14 + 7)
    assert limit.seconds == pytest.approx(3 * 2 * weights * 1e-9)
    assert limit.bound == "arithmetic"
    assert cuda_limit(replace(GRU, train=True), GPU).seconds == pytest.approx(3 * limit.seconds)
    assert cuda_limit(replace(GRU, precision="bf16"), GPU).seconds == pytest.approx(limit.seconds / 2)
    assert cuda_limit(replace(GRU, rows=5), GPU).seconds == pytest.approx(limit.seconds * 5 / 6)


def test_a_product_faster_than_the_loop_raises_the_roof() -> None:
    faster = replace(GPU, rates={**RATES, "product_ieee_tflops": 8e-3})
    assert cuda_limit(GRU, faster).seconds == pytest.approx(cuda_limit(GRU, GPU).seconds / 4)


def test_steps_wait_where_one_multiprocessor_is_too_small() -> None:
    quick = replace(GPU, rates={**RATES, "fma_tflops": FREE, "mma_bf16_tflops": FREE})
    # 4 * 255^2 bf16 weights are 520 kB, more than a multiprocessor's 495 kB; 4 * 240^2 are 461 kB.
    large = CudaStack("lstm", T=100, B=1, I=5, H=255, L=1, train=False, precision="bf16")
    assert cuda_limit(large, quick).seconds == pytest.approx(100 * 500e-9)
    assert cuda_limit(large, quick).bound == "exchange"
    assert cuda_limit(replace(large, train=True), quick).seconds == pytest.approx(2 * 100 * 500e-9)
    assert cuda_limit(replace(large, H=240), quick).seconds < 1e-9


def test_a_gpu_moves_every_array_once() -> None:
    slow = replace(GPU, rates={**RATES, "l2_gbytes": 1.0, "fma_tflops": FREE})
    weights = 2 * 3 * 7 * (5 + 7) + 2 * 3 * 7 * (14 + 7)
    bytes_forward = 4 * (6 * (5 + 14 + 2 * 14) + weights)
    assert cuda_limit(GRU, slow).seconds == pytest.approx(bytes_forward * 1e-9)
    # What the cache does not hold comes from memory, here at half the cache's rate.
    rates = {**slow.rates, "copy_gbytes": 0.5, "read_gbytes": 0.25}
    half = CudaLimits(rates, l2_bytes=bytes_forward // 4)
    assert cuda_limit(GRU, half).seconds == pytest.approx(bytes_forward * 0.75 * 2e-9)


PIECES = Pieces(lanes=4, tile_flops=1e9, cell_seconds=1e-6, slot_flops=1e9, copy_bytes=1e9)


def test_pieces_fill_vectors_as_the_packing_does() -> None:
    # H 6 in vectors of 4: a full one of units, then 4 gates of 2 units side by side: 4 + 2 vectors of gates.
    infer = Stack("lstm", T=3, B=2, I=5, H=6, L=1, train=False)
    forward = 6 * 2 * (6 * 4) * (5 + 6) * 1e-9 + 6 * 8 * 1e-6
    assert pieces_seconds(infer, PIECES) == pytest.approx(forward)
    backward = 6 * 2 * 2 * (4 * 6) * (8 + 8) * 1e-9 + 6 * 8 * 2 * CELLS["lstm"].backward_slots * 1e-9
    packing = 2 * 3 * 4 * (24 * (5 + 6)) * 1e-9
    assert pieces_seconds(replace(infer, train=True), PIECES) == pytest.approx(forward + backward + packing)


def test_a_second_layer_has_the_first_ones_outputs() -> None:
    first, second = (Stack("lstm", T=3, B=2, I=inputs, H=8, L=1, train=True) for inputs in (4, 8))
    both = pieces_seconds(first, PIECES) + pieces_seconds(second, PIECES)
    assert pieces_seconds(replace(first, L=2), PIECES) == pytest.approx(both)


def test_pieces_are_told_of_lstm_rows_with_tiles_to_fill() -> None:
    def row(name: str, group: str) -> dict[str, Any]:
        peers = {"PyTorch": {"1 thread": {"median": 9.0}, "2 threads": {"median": 4.0}}}
        return {"name": name, "group": group, "ours": {"median": 2.0}, "peers": peers}

    names = [
        "lstm train 3 16 8 8 1",
        "gru train 3 16 8 8 1",
        "lstm train 3 1 8 8 1",
        "lstm train ragged 3 16 8 8 1",
    ]
    lines = pieces_table([row(name, "lstm train") for name in names], PIECES)
    assert [line.split()[:2] for line in lines] == [["row", "ours"], ["lstm", "train"], ["lstm", "train,"]]
    stack = Stack("lstm", T=3, B=16, I=8, H=8, L=1, train=True)
    assert lines[-1].split()[-2:] == ["2.00", f"{4.0 / pieces_seconds(stack, PIECES):.2f}"]
