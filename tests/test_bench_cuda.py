"""What the GPU benchmarks make of a profile, and what they time: the parts that need no GPU."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the peers that are timed are PyTorch's")
sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from bench_step import waits_in
from cuda_peers import in_recurrence
from cuda_rows import lengths_of, shapes
from measure import Contender

pytestmark = pytest.mark.peer


@pytest.mark.parametrize(
    ("calls", "waits"),
    [
        ({}, "not visible"),
        ({"cudaStreamSynchronize": 1}, "not visible"),
        ({"cudaLaunchKernel": 3, "cudaMemcpyAsync": 1, "cudaEventRecord": 1}, "none"),
        ({"cudaGraphLaunch": 1, "cudaStreamSynchronize": 0.2}, "none"),
        ({"cuLaunchKernelEx": 2, "cuStreamSynchronize": 2}, "2 cuStreamSynchronize"),
        ({"cudaLaunchKernelExC": 2, "cudaMemcpy": 1, "cudaFree": 1}, "1 cudaMemcpy, 1 cudaFree"),
        ({"cudaLaunchKernel": 2, "cudaEventSynchronize": 1}, "1 cudaEventSynchronize"),
    ],
)
def test_calls_that_wait(calls: dict[str, float], waits: str) -> None:
    assert waits_in(calls) == waits


@pytest.mark.parametrize(
    ("name", "launches", "inside"),
    [
        ("void fusedrnn::cuda::cluster_forward<Lstm>", 1, True),
        ("void fusedrnn::cuda::grid_backward<Gru>", 2, True),
        ("void fusedrnn::cuda::forward_tiles<Lstm>", 512, True),
        ("void elemWiseRNNcell", 512, True),
        ("RNN_blockPersist_fp_LSTM", 1, True),
        ("void fusedrnn::cuda::gemm_tiles<float>", 4, False),
        ("sm90_xmma_gemm_f32f32", 1, False),
        ("sm90_xmma_gemm_f32f32", 512, True),
    ],
)
def test_kernels_of_the_recurrence(name: str, launches: float, inside: bool) -> None:
    assert in_recurrence({"name": name, "launches": launches, "us": 1.0}, 512) == inside


def test_rows_are_those_of_the_tables() -> None:
    names = [shape.name for shape in shapes()]
    assert len(names) == len(set(names)) == 600
    for name in (
        "lstm train 512 256 128 512 fp16",
        "gru infer 512 1 2048 2048 ieee",
        "gru train 512 16 128 256 tf32 ragged",
        "lstm infer 512 64 128 256 bf16 bidirectional",
    ):
        assert name in names
    ragged = next(shape.stack for shape in shapes() if shape.variant == "ragged")
    assert ragged.rows == lengths_of(ragged.B, ragged.T).sum() < ragged.B * ragged.T


def test_queued_calls_share_one_wait() -> None:
    done: list[str] = []

    def call() -> None:
        done.append("call")
        time.sleep(2e-3)

    times = Contender("queued", call, finish=lambda: done.append("wait"), repeat=8).block(0.0)
    assert done == [*["call"] * 8, "wait"] * 2  # the first round is not timed
    assert len(times) == 1
    assert 2e-3 <= times[0] < 16e-3
