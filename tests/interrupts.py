"""Ctrl-C at any instruction: what it leaves of a training must be whole, before the call or after it.

    python tests/interrupts.py --moments 500

raises KeyboardInterrupt at so many moments of every operation below by an alarm, as Jupyter and timeouts do
it, and counts what it found. `tests/test_interrupts.py` raises it between chosen instructions of Python, and
so needs no luck.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from runs import SMALL, write_book

import fusedrnn as fr
from fusedrnn import cli
from fusedrnn.cli import checkpoint as checkpoints
from fusedrnn.nn import GRU, LSTM, Dropout, Linear, Sequential

T, B, I = 5, 3, 4
EPOCHS = 3  # of 29 updates, saved every 40
PACKAGE = str(Path(fr.__file__).parent)


class World:
    """A model with its optimizer, a call whose gradient has not been taken, and all that a call may change.

    Args:
        steps: training steps made before: from the second of a shape on they are native calls.
    """

    def __init__(self, steps: int = 2) -> None:
        self.model = Sequential(
            LSTM(I, 6, num_layers=2, dropout=0.3, seed=0),
            Dropout(0.2, seed=1),
            GRU(6, 5, seed=2),
            Linear(5, 2, seed=3),
        )
        self.optimizer = fr.optim.Adam(
            [
                {"params": self.model[0].parameters()},
                {"params": [*self.model[2].parameters(), *self.model[3].parameters()]},
            ],
            lr=0.05,
        )
        rng = np.random.default_rng(4)
        self.x = rng.standard_normal((T, B, I)).astype(np.float32)
        self.y = rng.standard_normal((T, B, 2)).astype(np.float32)
        for _ in range(steps):
            self.train_step()
        self.evaluate()  # weights are packed now
        self.model.train()
        self.pending = self.model(self.x)
        self.drawn = self.model.random_state()

    def train_step(self) -> Any:
        return self.model.train_step(self.x, self.y, "mse", self.optimizer, 1.0)

    def evaluate(self) -> Any:
        """What the model says to x with its present weights, without a tape being touched."""
        for module in self.model.modules():
            module.training = False
        try:
            return self.model(self.x)
        finally:
            for module in self.model.modules():
                module.training = True

    def state(self) -> dict[str, Any]:
        state = copy.deepcopy(self.optimizer.state_dict())
        return {"weights": self.model.state_dict(), "optimizer": state, "keys": self.model.random_state()}


# What is interrupted; its name says what of the state may only change as a whole.
def train_step(world: World) -> None:
    world.train_step()


def optimizer_step(world: World) -> None:
    world.optimizer.step()


def clipped_step(world: World) -> None:
    world.optimizer.step(clip_norm=1.0, skip_nonfinite=True)


def separate_calls(world: World) -> None:
    y = world.model(world.x)
    _, dy = fr.losses.mse(y, world.y)
    world.model.zero_grad()
    world.model.backward(dy, of=y)
    world.optimizer.step(clip_norm=1.0)


def load_state_dict(world: World) -> None:
    world.model.load_state_dict({name: array + 1 for name, array in world.model.state_dict().items()})


def load_optimizer(world: World) -> None:
    saved = world.optimizer.state_dict()
    saved["param_groups"][1]["lr"] = 0.5
    for entry in saved["state"].values():
        entry["step"] += 5
        entry["exp_avg"] += 1
    world.optimizer.load_state_dict(saved)


def write_data(world: World) -> None:
    weight = world.model[3].weight
    weight.data = weight.data + 1


def write_within(world: World) -> None:
    with world.model[3].weight.writable() as weight:
        weight += 1


OPERATIONS: tuple[Callable[[World], None], ...] = (
    train_step,
    optimizer_step,
    clipped_step,
    separate_calls,
    load_state_dict,
    load_optimizer,
    write_data,
    write_within,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.array_equal(one, other))


def check(world: World, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Whether an interrupted operation left the state of before, or that of after: "none" or "whole".

    AssertionError where it left neither, or where something does not know of its weights.
    """
    found = world.state()
    parts = ("weights", "optimizer", "keys")
    left = [
        name
        for name, state in (("none", before), ("whole", after))
        if all(same(found[p], state[p]) for p in parts)
    ]
    if not left and all(same(found[p], before[p]) for p in parts[:2]):
        left = [
            "none"
        ]  # of separate calls, which draw masks and are no step: a key that was drawn is not drawn again
        assert all(found["keys"][name] in (key, after["keys"][name]) for name, key in before["keys"].items())
    others = [name for name in parts if not same(found[name], after[name])]
    assert left, f"neither before nor after: {others} are not those of after"

    fresh = World(0)
    fresh.model.load_state_dict(found["weights"])
    np.testing.assert_array_equal(world.evaluate(), fresh.evaluate(), "evaluation uses weights packed before")

    moved = not same(found["weights"], before["weights"])
    stepped = not same(found["optimizer"], before["optimizer"])  # by gradients of 0, say
    try:
        world.model.zero_grad()
        world.model.backward(np.ones_like(world.pending), of=world.pending)
    except (RuntimeError, ValueError):
        assert moved or stepped or world.model._calls.newest is None, (
            "the tape of the weights as they are was refused"
        )
    else:
        assert not moved, "backward took a tape of other weights"

    twin = World(0)  # goes on from here as one that nothing has happened to
    twin.model.load_state_dict(found["weights"])
    twin.optimizer.load_state_dict(found["optimizer"])
    twin.model.load_random_state(found["keys"])
    for _ in range(2):
        assert world.train_step() == twin.train_step(), "the next step is another"
    assert same(world.state(), twin.state()), "the next step is another"
    return left[0]


def outcome(
    operation: Callable[[World], None], interrupted: Callable[[Callable[[], None]], bool], steps: int = 2
) -> str:
    """Interrupts an operation by `interrupted`, which says whether it did, and checks what is left.

    Returns:
        "none" or "whole", as `check` says, and "late" where the operation ended first.
    """
    world, done = World(steps), World(steps)
    before = world.state()
    operation(done)
    stopped = interrupted(lambda: operation(world))
    left = check(world, before, done.state())
    return left if stopped else "late"


@contextmanager
def stopping_at(instruction: int) -> Iterator[list[int]]:
    """Raises KeyboardInterrupt before that instruction of this package; counts them in the list."""
    count = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count[0] += 1
            if count[0] == instruction:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def instructions(
    operation: Callable[[Any], None], steps: int, make: Callable[[int], Any] = World
) -> tuple[int, list[int]]:
    """How many an operation has, and those of them that follow a call of the native module."""
    world = make(steps)
    behind = []

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_return" and getattr(function, "__module__", None) == "fusedrnn._native":
            behind.append(count[0] + 1)

    with stopping_at(0) as count:
        sys.setprofile(profile)
        operation(world)
        sys.setprofile(None)
    return count[0], behind


def at(instruction: int) -> Callable[[Callable[[], None]], bool]:
    """Interrupts before an instruction."""

    def run(operation: Callable[[], None]) -> bool:
        try:
            with stopping_at(instruction):
                operation()
        except KeyboardInterrupt:
            return True
        return False

    return run


def after(seconds: float) -> Callable[[Callable[[], None]], bool]:
    """Interrupts by an alarm."""

    def run(operation: Callable[[], None]) -> bool:
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                operation()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            return True
        finally:
            signal.signal(signal.SIGALRM, before)
        return False

    return run


def command(directory: Path, book: Path, share: float) -> str:
    """Interrupts `fusedrnn train` after a share of its time, resumes it, and compares with a run left alone.

    Returns:
        "resumed", "early" where nothing had been saved yet, "late" where the run had ended.
    """
    options = [str(book), "--epochs", str(EPOCHS), "--layers", "2", "--dropout", "0.1", *SMALL]
    whole, cut = directory / "whole", directory / "cut"
    start = time.perf_counter()
    if not whole.exists():
        assert run_command(["train", "--output", str(whole), *options]) == 0
        (directory / "seconds").write_text(str(time.perf_counter() - start))
    seconds = share * float((directory / "seconds").read_text())
    shutil.rmtree(cut, ignore_errors=True)
    after(seconds)(lambda: run_command(["train", "--output", str(cut), *options]))
    if not (cut / checkpoints.FILE_NAME).exists():
        return "early"
    late = checkpoints.load(cut / checkpoints.FILE_NAME).progress["step"] == EPOCHS * 29
    if not late:
        assert run_command(["train", "--resume", str(cut)]) == 0
    ends = [checkpoints.load(path / checkpoints.FILE_NAME) for path in (whole, cut)]
    assert ends[0].progress["step"] == ends[1].progress["step"]
    assert same(ends[0].trees, ends[1].trees)
    return "late" if late else "resumed"


def run_command(words: list[str]) -> int:
    """The command's status; 128 + SIGINT where it was interrupted."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return cli.main(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    for operation in OPERATIONS:
        for steps in (0, 2):
            world = World(steps)
            start = time.perf_counter()
            operation(world)
            most = 1.2 * (time.perf_counter() - start)
            found: dict[str, int] = {"none": 0, "whole": 0, "late": 0}
            for _ in range(given.moments):
                found[outcome(operation, after(max(1e-6, rng.uniform(0, most))), steps)] += 1
            print(f"{operation.__name__:16} after {steps} steps: {found}", flush=True)
    ends = Counter()
    with tempfile.TemporaryDirectory() as folder:
        book = write_book(Path(folder))
        for _ in range(given.moments):
            ends[command(Path(folder), book, rng.uniform(0, 1.1))] += 1
    print(f"the command line: {dict(ends)}")


if __name__ == "__main__":
    main()
