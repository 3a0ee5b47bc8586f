"""The schedule of a recurrent stack: data to ask for, a choice to force, never a different bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusedrnn import _native, functional, nn

PLANS = ["1x1", "2x1", "1x2", "3x1", "1x3", "2x2", "2x1x1", "2x2x1", "2x1x2", "2x2x2"]


@pytest.fixture(autouse=True)
def leave_no_plan_behind() -> Iterator[None]:
    threads = _native.get_num_threads()
    yield
    _native.force_plan("")
    _native.set_num_threads(threads)


def run(directions: int) -> list[bytes]:
    """Everything a two-layer GRU gives, forward and backward, and the chunks of steps more than two."""
    T, B, I, H, L = 40, 17, 6, 37, 2
    random = np.random.default_rng(1)
    weights = {}
    for layer in range(L):
        for suffix in ("", "_reverse")[:directions]:
            width = directions * H if layer else I
            weights[f"weight_ih_l{layer}{suffix}"] = random.standard_normal((3 * H, width), np.float32) * 0.2
            weights[f"weight_hh_l{layer}{suffix}"] = random.standard_normal((3 * H, H), np.float32) * 0.2
            weights[f"bias_ih_l{layer}{suffix}"] = random.standard_normal(3 * H, np.float32)
            weights[f"bias_hh_l{layer}{suffix}"] = random.standard_normal(3 * H, np.float32)
    x = random.standard_normal((T, B, I), np.float32)
    h0 = random.standard_normal((L * directions, B, H), np.float32)
    dy = random.standard_normal((T, B, directions * H), np.float32)
    lengths, resets = random.integers(0, T + 1, B), random.random((T, B)) < 0.1
    options = {"lengths": lengths, "resets": resets, "dropout": 0.2, "dropout_key": 3}
    y, hn, tape = functional.gru_forward(x, h0, weights, **options)
    dx, dh0, dweights = functional.gru_backward(tape, dy, h0)
    plain, _, _ = functional.gru_forward(x, h0, weights, lengths=lengths, train=False)
    return [a.tobytes() for a in (y, hn, dx, dh0, plain, *dweights.values())]


@pytest.mark.parametrize("directions", [1, 2])
def test_every_plan_gives_the_same_bits(directions: int) -> None:
    _native.set_num_threads(8)
    _native.force_plan("1x1")
    alone = run(directions)
    for plan in PLANS:
        _native.force_plan(plan)
        assert run(directions) == alone, plan


def test_a_plan_that_needs_more_threads_than_there_are_is_not_used() -> None:
    _native.force_plan("2x2")
    sizes = {"num_layers": 1, "num_directions": 1, "T": 9, "B": 64, "I": 64, "H": 64}
    assert plan_of(threads=4, **sizes) == (1, 2, 2)
    assert plan_of(threads=3, **sizes) == (1, 1, 1)


def plan_of(**sizes: int) -> tuple[int, int, int]:
    plan = _native.sequence_plan("lstm", "float32", **sizes)
    return plan["direction_groups"], plan["row_groups"], plan["unit_groups"]


def test_the_choice_follows_the_sizes() -> None:
    tiny = {"num_layers": 1, "num_directions": 1, "T": 3, "B": 2, "I": 4, "H": 8, "threads": 4}
    assert plan_of(**tiny) == (1, 1, 1)
    many_rows = {"num_layers": 1, "num_directions": 1, "T": 100, "B": 128, "I": 64, "H": 128, "threads": 4}
    assert plan_of(**many_rows) == (1, 4, 1)
    one_row = {"num_layers": 1, "num_directions": 1, "T": 100, "B": 1, "I": 64, "H": 512, "threads": 2}
    assert plan_of(**one_row) == (1, 1, 2)
    both_ways = {"num_layers": 1, "num_directions": 2, "T": 100, "B": 4, "I": 64, "H": 128, "threads": 2}
    assert plan_of(**both_ways) == (2, 1, 1)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo names this processor")
def test_a_step_is_shared_out_where_it_outlasts_a_barrier() -> None:
    """A core of an EPYC does 8e3 operations meanwhile, one of a Xeon 24e3: its cores see each other later."""
    outlasts = 24e3 if "Xeon" in Path("/proc/cpuinfo").read_text() else 8e3
    plans = {}
    for H in range(8, 200, 8):
        sizes = {"num_layers": 1, "num_directions": 1, "T": 500, "B": 1, "I": 64, "H": H, "threads": 2}
        plans[2.0 * 4 * H * H / 2] = plan_of(**sizes)
    assert {plan for flops, plan in plans.items() if flops > outlasts} == {(1, 1, 2)}
    assert {plan for flops, plan in plans.items() if flops <= outlasts} == {(1, 1, 1)}


@pytest.mark.parametrize(
    "name", ["reference", "step", "cluster", "cluster:8x4", "cluster:8x4x1", "grid", "grid:16x9"]
)
def test_a_cpu_refuses_the_plans_of_a_gpu(name: str) -> None:
    _native.force_plan(name)
    with pytest.raises(RuntimeError, match="a plan with a name is a GPU's"):
        plan_of(threads=1, num_layers=1, num_directions=1, T=9, B=64, I=64, H=64)


def test_on_a_cpu_nobody_can_ask_for_a_plan_of_a_gpu() -> None:
    weights = {"weight_ih_l0": np.ones((1, 2)), "weight_hh_l0": np.ones((1, 1))}
    functional.pack_weights(weights, algo="auto")
    with pytest.raises(RuntimeError, match="algo must be 'auto' on a CPU"):
        functional.pack_weights(weights, algo="step")
    with pytest.raises(ValueError, match="algo='cluster' is a plan of CUDA devices: on the CPU only 'auto'"):
        nn.GRU(2, 3, algo="cluster")
    assert nn.RNN(2, 3, nonlinearity="relu").algo == "auto"


@pytest.mark.parametrize("algo", ["", "steps", "2x1", "cluster:8x4"])
def test_an_unknown_algo_is_refused(algo: str) -> None:
    message = rf"algo must be one of 'auto', 'reference', 'step', 'cluster'.*it is '{algo}'"
    with pytest.raises(ValueError, match=message):
        nn.LSTM(2, 3, algo=algo)
    with pytest.raises(ValueError, match=message):
        functional.pack_weights({"weight_ih_l0": np.ones((1, 2)), "weight_hh_l0": np.ones((1, 1))}, algo=algo)


GRIDS = ["2", "0x1", "2x", "2x1x", "2x1 ", "axb", "-1x2", "300x1", "1x1x1x1"]
CLUSTERS = ["cluster:", "cluster:9x4", "cluster:8x17", "cluster:8x4 ", "clusters"]
CLUSTERS += ["cluster:8x4x2", "cluster:8x4x1x1"]
GROUPS = ["grid:", "grid:9x4", "grid:8x256", "grid:8x0", "grid:8x4 ", "grids", "grid:8x4x1"]


@pytest.mark.parametrize("text", GRIDS + CLUSTERS + GROUPS)
def test_a_malformed_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"plan must be ROWSxUNITS or DIRECTIONSxROWSxUNITS"):
        _native.force_plan(text)


@pytest.mark.parametrize(("value", "message"), [("2by1", "FUSEDRNN_PLAN must be"), ("1x1", "")])
def test_the_environment_forces_a_plan(value: str, message: str) -> None:
    sizes = "num_layers=1, num_directions=1, T=100, B=128, I=64, H=128, threads=4"
    plan = f"_native.sequence_plan('lstm', 'float32', {sizes})"
    code = f"from fusedrnn import _native; print({plan}['row_groups'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"FUSEDRNN_PLAN": value},
        capture_output=True,
        text=True,
    )
    assert (done.returncode != 0) == bool(message)
    assert message in done.stderr
    assert message or done.stdout.strip() == "1"
