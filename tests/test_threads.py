"""The same bits for any number of threads, on any instruction set, in any floating-point environment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import floating_point
import numpy as np
import pytest

import fusedrnn
from fusedrnn import _native, functional
from fusedrnn.functional.recurrent import Tape

Results = list[np.ndarray]


@pytest.fixture(autouse=True)
def leave_threads_and_backend_alone() -> Iterator[None]:
    threads, backend = _native.get_num_threads(), _native.backend()
    yield
    _native.set_num_threads(threads)
    _native.set_backend(backend)
    _native.force_plan("")


def normal(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def flat(results: Any) -> Results:
    """All arrays in a nest of results, floats too."""
    if results is None or isinstance(results, Tape):
        return []
    if isinstance(results, dict):
        return [a for k in sorted(results) for a in flat(results[k])]
    if isinstance(results, (tuple, list)):
        return [a for r in results for a in flat(r)]
    return [np.asarray(results)]


def same_bits(a: Results, b: Results) -> bool:
    return len(a) == len(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
        for x, y in zip(a, b, strict=True)
    )


# ------------------------------------------------------------------------------------------- the work
def recurrent(
    cell: str,
    dtype: Any,
    T: int,
    B: int,
    I: int,
    H: int,
    D: int,
    scale: float = 1.0,
    precision: str = "ieee",
) -> Callable[[], Results]:
    """Two layers with everything on, ready to run forward and backward without any arithmetic of NumPy."""
    G, L = {"lstm": 4, "gru": 3, "rnn": 1}[cell], 2
    weights = {}
    for layer in range(L):
        for suffix in ("", "_reverse")[:D]:
            name, width = f"l{layer}{suffix}", I if layer == 0 else D * H
            weights[f"weight_ih_{name}"] = normal(G * H, width, dtype=dtype, seed=1) * dtype(width**-0.5)
            weights[f"weight_hh_{name}"] = normal(G * H, H, dtype=dtype, seed=2) * dtype(H**-0.5)
            weights[f"bias_ih_{name}"] = normal(G * H, dtype=dtype, seed=3)
            weights[f"bias_hh_{name}"] = normal(G * H, dtype=dtype, seed=4)
    h0, c0, dhn, dcn = (normal(L * D, B, H, dtype=dtype, seed=s) * dtype(scale) for s in (5, 6, 7, 8))
    state, dstate = ((h0, c0), (dhn, dcn)) if cell == "lstm" else (h0, dhn)
    random = np.random.default_rng(9)
    x, dy = normal(T, B, I, dtype=dtype) * dtype(scale), normal(T, B, D * H, dtype=dtype) * dtype(scale)
    lengths, resets = random.integers(0, T + 1, B), random.random((T, B)) < 0.1
    forward, backward = (getattr(functional, f"{cell}_{way}") for way in ("forward", "backward"))

    def run() -> Results:
        y, out, tape = forward(
            x,
            state,
            functional.pack_weights(weights, precision=precision),
            lengths=lengths,
            resets=resets,
            dropout=0.25,
            dropout_key=1234,
        )
        return flat([y, out, backward(tape, dy, dstate)])

    return run


def linear(precision: str) -> Results:
    x, w, dy = normal(300, 70), normal(90, 70), normal(300, 90)
    return flat(
        [
            functional.linear_forward(x, w, precision=precision),
            functional.linear_backward(dy, x, w, precision=precision),
        ]
    )


def layers(dtype: Any) -> Results:
    x, w, b = normal(300, 70, dtype=dtype), normal(90, 70, dtype=dtype), normal(90, dtype=dtype)
    dy, gain = normal(300, 90, dtype=dtype), normal(70, dtype=dtype)
    ids = np.random.default_rng(0).integers(0, 90, 300)
    y, mean, rstd = functional.layer_norm_forward(x, gain, gain)
    return flat(
        [
            functional.linear_forward(x, w, b),
            functional.linear_backward(dy, x, w),
            functional.embedding_forward(ids, w),
            functional.embedding_backward(x, ids, 90),
            (y, mean, rstd),
            functional.layer_norm_backward(x, x, gain, mean, rstd),
            functional.dropout(x, 0.3, 7),
        ]
    )


def losses(dtype: Any) -> Results:
    pred, classes = normal(999, 37, dtype=dtype), np.random.default_rng(0).integers(0, 37, 999)
    target = (pred > 0).astype(dtype)
    return flat(
        [
            functional.mse(pred, target),
            functional.cross_entropy(pred, classes),
            functional.binary_cross_entropy(pred, target),
        ]
    )


def optimizer(dtype: Any) -> Results:
    param, grad = normal(20_001, dtype=dtype), normal(20_001, dtype=dtype, seed=1)
    first, second = np.zeros_like(param), np.zeros_like(param)
    norm = functional.global_norm([grad])
    for step in range(1, 4):
        functional.adam_(param, grad, first, second, lr=1e-3, step=step, weight_decay=0.01)
    clipped = functional.clip_by_global_norm_([grad], 1.0)
    return flat([param, first, second, norm, clipped, grad])


# Many rows and few units, few rows and many units, one row: the schedules split them differently.
SHAPES = [(9, 50, 5, 33, 1), (12, 5, 7, 130, 2), (20, 1, 9, 150, 1)]

WORK: dict[str, Callable[[], Results]] = {}
for _dtype in (np.float32, np.float64):
    _name = np.dtype(_dtype).name
    for _cell in ("lstm", "gru", "rnn"):
        for _shape in SHAPES:
            WORK[f"{_cell}-{_name}-{'x'.join(map(str, _shape))}"] = recurrent(_cell, _dtype, *_shape)
    WORK[f"layers-{_name}"] = lambda d=_dtype: layers(d)
    WORK[f"losses-{_name}"] = lambda d=_dtype: losses(d)
    WORK[f"optimizer-{_name}"] = lambda d=_dtype: optimizer(d)


for _precision in _native.cpu_precisions()[1:]:
    for _cell in ("lstm", "gru", "rnn"):
        for _shape in SHAPES:
            WORK[f"{_cell}-{_precision}-{'x'.join(map(str, _shape))}"] = recurrent(
                _cell, np.float32, *_shape, precision=_precision
            )
    WORK[f"linear-{_precision}"] = lambda p=_precision: linear(p)


# --------------------------------------------------------------------------------------- the promises
@pytest.mark.parametrize("name", WORK)
def test_same_bits_for_any_number_of_threads(name: str) -> None:
    """On the grid that the plan chooses, on one that splits rows and on one that splits units."""
    fusedrnn.set_num_threads(1)
    alone = WORK[name]()
    assert all(np.isfinite(a).all() for a in alone)
    for n in (2, 3, 4):
        fusedrnn.set_num_threads(n)
        for plan in ("", f"{n}x1", f"1x{n}"):
            _native.force_plan(plan)
            assert same_bits(alone, WORK[name]()), (n, plan)


@pytest.mark.parametrize("name", WORK)
def test_same_bits_when_repeated(name: str) -> None:
    assert same_bits(WORK[name](), WORK[name]())


@pytest.mark.parametrize("name", WORK)
def test_same_bits_on_every_instruction_set(name: str) -> None:
    results = {}
    for isa in _native.available_backends():
        _native.set_backend(isa)
        results[isa] = WORK[name]()
    assert len(results) >= 2
    for isa, result in results.items():
        assert same_bits(results["scalar"], result), isa


# ------------------------------------------------------------------------- floating-point environment
needs_control = pytest.mark.skipif(
    not floating_point.SUPPORTED, reason="sets the control register of x86-64; this machine has another"
)


@needs_control
def test_denormals_are_zero_in_this_process_when_asked_for() -> None:
    """The helper works: otherwise the tests below would test nothing."""
    small = np.full(4, 1e-40, np.float32)
    with floating_point.Control().set_to(floating_point.DEFAULT | floating_point.FLUSH):
        flushed = (small + small).tolist()
    assert flushed == [0.0] * 4
    assert (small + small)[0] > 0


@needs_control
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("setting", [floating_point.FLUSH, floating_point.ROUND_UP])
def test_same_bits_whatever_the_caller_has_set(setting: int, threads: int) -> None:
    fusedrnn.set_num_threads(threads)
    control = floating_point.Control()
    tiny, weight = normal(40, 30) * np.float32(2e-40), normal(20, 30)  # denormal inputs, denormal results
    work = [
        lambda: flat(functional.linear_forward(tiny, weight)),
        lambda: flat(functional.dropout(tiny, 0.5, 3)),
        recurrent("lstm", np.float32, 6, 50, 5, 33, 1, scale=1e-22),
        recurrent("gru", np.float64, 6, 5, 5, 130, 1, scale=1e-160),
        recurrent("lstm", np.float32, 6, 50, 5, 33, 1, scale=1e-22, precision="bf16x3"),
        lambda: flat(functional.linear_forward(tiny, weight, precision="bf16x6")),
    ]
    expected = [run() for run in work]
    assert 0 < np.abs(expected[0][0]).max() < np.finfo(np.float32).tiny
    with control.set_to(floating_point.DEFAULT | setting):
        found = [run() for run in work]
    for a, b in zip(expected, found, strict=True):
        assert same_bits(a, b)


@needs_control
def test_control_register_is_the_callers_after_every_call() -> None:
    control = floating_point.Control()
    setting = floating_point.DEFAULT | floating_point.FLUSH | floating_point.ROUND_UP
    x, weight = normal(8, 30), normal(20, 30)
    for threads in (1, 2):
        fusedrnn.set_num_threads(threads)
        with control.set_to(setting):
            functional.linear_forward(x, weight)
            after = control.read()
        assert after == setting
        with control.set_to(setting):
            with pytest.raises(ValueError, match="x must be"):
                functional.linear_forward(x[:, 1:].copy(), weight)
            after = control.read()
        assert after == setting


# ------------------------------------------------------------------------------------- Python threads
@pytest.mark.parametrize("threads", [1, 2])
def test_two_python_threads_at_once(threads: int) -> None:
    fusedrnn.set_num_threads(threads)
    names = ["lstm-float32-12x5x7x130x2", "gru-float64-9x50x5x33x1"]
    expected = {name: WORK[name]() for name in names}
    wrong: list[str] = []
    start = threading.Barrier(len(names))

    def worker(name: str) -> None:
        start.wait()
        for _ in range(15):
            if not same_bits(WORK[name](), expected[name]):
                wrong.append(name)

    workers = [threading.Thread(target=worker, args=(name,), daemon=True) for name in names]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join(30)
    assert not any(thread.is_alive() for thread in workers)
    assert wrong == []


def test_python_runs_while_a_kernel_computes() -> None:
    x, weight = normal(3000, 1500), normal(1500, 1500)
    fusedrnn.set_num_threads(1)
    times: list[float] = []

    def worker() -> None:
        times.append(time.perf_counter())
        functional.linear_forward(x, weight)
        times.append(time.perf_counter())

    thread = threading.Thread(target=worker)
    thread.start()
    seen = []
    while len(times) < 2:
        seen.append(time.perf_counter())
    thread.join()
    quarter = (times[1] - times[0]) / 4
    assert sum(times[0] + quarter < t < times[1] - quarter for t in seen) > 100


@pytest.mark.parametrize("n", [0, -1, 257])
def test_number_of_threads_out_of_range(n: int) -> None:
    with pytest.raises(ValueError, match=r"n must be an integer in 1\.\.256"):
        fusedrnn.set_num_threads(n)
