"""Ctrl-C at any instruction: weights, packing, tapes, optimizer and dropout keys agree afterwards."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import interrupts
import numpy as np
import pytest
from interrupts import OPERATIONS, World, at, instructions, outcome
from runs import write_book

import fusedrnn as fr
from fusedrnn.nn import GRU, Linear, Sequential


@pytest.mark.parametrize("steps", [0, 2], ids=["first", "later"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_what_is_interrupted_is_whole(operation: Callable[[World], None], steps: int) -> None:
    """Behind every native call of the operation, and at some of its other instructions."""
    count, behind = instructions(operation, steps)
    some = np.random.default_rng(len(operation.__name__)).integers(1, count + 1, 12)
    found = Counter(outcome(operation, at(int(k)), steps) for k in {*behind, *some, *range(count - 8, count)})
    assert found["none"]
    assert found["whole"]


def test_a_forward_call_that_ends_half_way_leaves_no_tape_of_two_calls() -> None:
    model = Sequential(GRU(2, 3, seed=0), Linear(3, 2, seed=1))
    x = np.ones((2, 1, 2), np.float32)
    dy = model(x) * 2
    model[1].forward = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        model(3 * x)
    del model[1].forward
    with pytest.raises(RuntimeError, match="raised half-way"):
        model.backward(dy)
    model(x)
    model.backward(dy)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_input_of_the_notes() -> None:
    """A long step, an alarm within it: it is counted, and evaluation sees the weights it has made."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        model = Sequential(fr.nn.LSTM(16, 64, seed=0), Linear(64, 2, seed=1))
        optimizer = fr.optim.Adam(model.parameters(), lr=0.01)
        x, y = np.ones((200, 32, 16), np.float32), np.ones((200, 32, 2), np.float32)
        for _ in range(2):
            model.train_step(x, y, "mse", optimizer)
        model.eval()
        model(x[:1])
        model.train()
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        with pytest.raises(KeyboardInterrupt):
            model.train_step(x, y, "mse", optimizer)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert optimizer.param_groups[0]["step"] == 3
    fresh = Sequential(fr.nn.LSTM(16, 64), Linear(64, 2))
    fresh.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model.eval()(x[:1]), fresh.eval()(x[:1]))


# Python itself drops what is raised within a weak reference's callback, and the alarm may ring there.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_that_is_interrupted_has_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    """An alarm that raises anywhere in `fusedrnn train`: what it has saved goes on to the same bits."""
    assert interrupts.command(tmp_path, write_book(tmp_path), 0.7) in ("early", "resumed", "late")
