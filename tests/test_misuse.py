"""What would crash or hang: threads that share a model, daemon threads at exit, objects made by `__new__`."""

from __future__ import annotations

import contextlib
import copy
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn.nn import GRU, LSTM, Embedding, Linear, Sequential

PACKAGE = str(Path(fr.__file__).parents[1])


def python(code: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The code in a process of its own, which must not be ended by a signal."""
    prelude = f"import sys; sys.path.insert(0, {PACKAGE!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode >= 0, f"ended by signal {-done.returncode}: {done.stderr}"
    return done


# ------------------------------------------------------------------------------------------------- threads
@pytest.mark.parametrize("shapes", [1, 7], ids=["one", "many"])
def test_a_model_is_trained_by_one_thread_at_a_time(shapes: int) -> None:
    """Many shapes register call shapes and change options all the time."""
    model = Sequential(LSTM(8, 32, seed=0), Linear(32, 2, seed=1))
    optimizer = fr.optim.Adam(model.parameters(), lr=1e-3)
    stop = time.monotonic() + 1.5
    raised: list[str] = []

    def train(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while time.monotonic() < stop:
            T = int(rng.integers(30, 30 + shapes))
            optimizer.lr = float(rng.random() * 1e-3)
            try:
                model.train_step(
                    np.ones((T, 8, 8), np.float32), np.ones((T, 8, 2), np.float32), "mse", optimizer
                )
            except BaseException as error:  # for the assertions below
                raised.append(str(error))

    threads = [threading.Thread(target=train, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised
    assert all("in use by another thread" in text for text in raised)
    model.train_step(np.ones((3, 2, 8), np.float32), np.ones((3, 2, 2), np.float32), "mse", optimizer)


def test_the_native_step_refuses_a_second_thread_by_itself() -> None:
    model = Sequential(LSTM(64, 256, seed=0), Linear(256, 2, seed=1))
    optimizer = fr.optim.SGD(model.parameters())
    x, y = np.ones((400, 16, 64), np.float32), np.ones((400, 16, 2), np.float32)
    for _ in range(2):
        model.train_step(x, y, "mse", optimizer)
    (step,) = model._compiled.values()
    running = threading.Thread(target=model.train_step, args=(x, y, "mse", optimizer))
    running.start()
    time.sleep(0.02)
    with pytest.raises(RuntimeError, match="in use by another thread"):
        step._native.set_options(0, {"lr": 1.0, "momentum": 0.0, "nesterov": 0.0, "weight_decay": 0.0})
    running.join()


def test_ids_that_another_thread_writes_to_are_never_used_unchecked() -> None:
    """With the pages on both sides of a table in use, an id out of range would read them, or crash."""
    embedding = Embedding(4, 64, seed=0)
    model = Sequential(embedding, Linear(64, 4, seed=1))
    optimizer = fr.optim.SGD(model.parameters())
    ids, target = np.zeros((64, 64), np.int64), np.zeros((64, 64), np.int64)
    logits = np.zeros((64, 64, 4), np.float32)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for array in (ids, target):
                array.fill(1 << 40)
                array.fill(0)

    writer = threading.Thread(target=write)
    writer.start()
    stop = time.monotonic() + 1
    try:
        while time.monotonic() < stop:
            for call in (
                lambda: embedding(ids),
                lambda: fr.losses.cross_entropy(logits, target),
                lambda: model.train_step(ids, target, "cross_entropy", optimizer),
            ):
                with contextlib.suppress(ValueError):
                    call()
    finally:
        done.set()
        writer.join()


def test_daemon_threads_within_a_call_end_with_the_process() -> None:
    done = python(
        """
import threading, time
import numpy as np, fusedrnn as fr
x = np.ones((50, 8, 16), np.float32)
def work(seed):
    gru = fr.nn.GRU(16, 32, seed=seed).eval()
    while True:
        gru(x)
for seed in range(6):
    threading.Thread(target=work, args=(seed,), daemon=True).start()
time.sleep(0.3)
"""
    )
    assert (done.returncode, done.stderr) == (0, "")


# ----------------------------------------------------------------------------------- objects without a value
CLASSES = [value for value in vars(_native).values() if isinstance(value, type)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_object_is_made_by_new_alone(cls: Any) -> None:
    assert len(CLASSES) >= 8
    for make in (
        lambda: cls.__new__(cls),
        lambda: cls.__base__.__new__(cls),
        lambda: object.__new__(cls),
        lambda: type("Derived", (cls,), {}).__new__(type("Derived", (cls,), {})),
    ):
        with pytest.raises(TypeError):
            make()


def test_native_objects_are_not_copied_without_their_value() -> None:
    y, _, tape = fr.functional.gru_forward(
        np.ones((2, 1, 2), np.float32), None, GRU(2, 3, seed=0).state_dict()
    )
    assert y.shape == (2, 1, 3)
    for native in (tape.native, tape.packed.native, _native.LossSpec("mse")):
        with pytest.raises(TypeError):
            copy.copy(native)
        with pytest.raises(TypeError):
            type(native).__new__(type(native))


# ------------------------------------------------------------------------------------------------- many parts
def seconds(action: Any) -> float:
    start = time.thread_time()
    action()
    return time.thread_time() - start


def many_parameters(n: int) -> None:
    module = fr.nn.Module()
    array = np.zeros(1, np.float32)
    for i in range(n):
        setattr(module, f"p{i}", fr.nn.Parameter(array))


def many_groups(n: int) -> None:
    array = np.zeros(1, np.float32)
    fr.optim.SGD([{"params": [fr.nn.Parameter(array)]} for _ in range(n)])


def many_groups_added(n: int) -> None:
    array = np.zeros(1, np.float32)
    optimizer = fr.optim.SGD([fr.nn.Parameter(array)])
    for _ in range(n):
        optimizer.add_param_group({"params": [fr.nn.Parameter(array)]})


def many_layers(n: int) -> None:
    fr.nn.LSTM(2, 2, n, seed=0)


def backward_of_many_layers(n: int) -> None:
    gru = fr.nn.GRU(1, 1, n, seed=0)
    y, _ = gru(np.ones((1, 1, 1), np.float32))
    gru.backward(y)


@pytest.mark.parametrize(
    ("action", "n"),
    [
        (many_parameters, 1500),
        (many_groups, 1500),
        (many_groups_added, 1500),
        (many_layers, 300),
        (backward_of_many_layers, 300),
    ],
)
def test_time_grows_with_the_parts_and_not_with_their_square(action: Any, n: int) -> None:
    """Four times as many take about four times as long, where the square would take sixteen times."""
    action(n // 10)
    few = min(seconds(lambda: action(n)) for _ in range(3))
    many = min(seconds(lambda: action(4 * n)) for _ in range(3))
    assert many < 10 * few


# ------------------------------------------------------------------------------------------------- denormals
def test_denormals_are_kept_unless_the_process_says_otherwise() -> None:
    x = np.full((3, 5, 7), 1e-39, np.float32)
    linear = Linear(7, 7, bias=False, seed=0)
    linear.weight.data = np.eye(7, dtype=np.float32)
    np.testing.assert_array_equal(linear(x), x)
    try:
        assert fr.set_flush_denormal(True)
        np.testing.assert_array_equal(linear(x), 0 * x)
        big = GRU(64, 64, seed=0).eval()  # every thread of the team
        assert big(np.full((4, 64, 64), 1e-39, np.float32))[0].any()
    finally:
        fr.set_flush_denormal(False)
    np.testing.assert_array_equal(linear(x), x)
    assert np.float32(1e-39) * np.float32(1) > 0  # the caller's own setting
    with pytest.raises(TypeError, match="mode must be True or False, it is 1"):
        fr.set_flush_denormal(1)  # type: ignore[arg-type]
