"""Ctrl-C at any instruction of a step of ft.optim: weights, states, counts, packing and graphs agree."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
from interrupts import at, instructions
from torch_models import ft, torch

pytestmark = pytest.mark.peer


class World:
    """A model in training, packed for evaluation, with a graph that holds its weights.

    Args:
        steps: training steps made before.
    """

    def __init__(self, steps: int) -> None:
        torch.manual_seed(0)
        self.rnn, self.head = ft.GRU(3, 4), torch.nn.Linear(4, 1)
        groups = [
            {"params": list(self.rnn.parameters())},
            {"params": list(self.head.parameters()), "lr": 0.1},
        ]
        self.optimizer = ft.optim.Adam(groups, lr=0.05, clip_norm=1.0)
        self.x = torch.randn(5, 2, 3)
        for _ in range(steps):
            self.loss().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.evaluate()
        self.pending = self.loss()
        self.pending.backward(retain_graph=True)

    def loss(self) -> Any:
        return self.head(self.rnn(self.x)[0]).pow(2).mean()

    def evaluate(self) -> Any:
        with torch.no_grad():
            return self.loss()

    def train_step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def state(self) -> Any:
        weights = [p.detach().clone() for p in (*self.rnn.parameters(), *self.head.parameters())]
        return weights, copy.deepcopy(self.optimizer.state_dict())

    def load(self, state: Any) -> None:
        with torch.no_grad():
            for p, value in zip((*self.rnn.parameters(), *self.head.parameters()), state[0], strict=True):
                p.copy_(value)
        self.optimizer.load_state_dict(state[1])


def same(one: Any, other: Any) -> bool:
    """States of no step are as good as none."""
    states = [
        {i: entry for i, entry in state[1]["state"].items() if entry.get("step", 0) > 0}
        for state in (one, other)
    ]
    if not all(map(torch.equal, one[0], other[0])) or states[0].keys() != states[1].keys():
        return False
    return all(
        torch.equal(value, states[1][i][name])
        for i, entry in states[0].items()
        for name, value in entry.items()
    )


def step(world: World) -> None:
    world.optimizer.step()


@pytest.mark.parametrize("steps", [0, 2], ids=["first", "later"])
def test_a_step_that_is_interrupted_is_whole(steps: int) -> None:
    """Behind every native call, at the last instructions, and at some others."""
    count, behind = instructions(step, steps, World)
    some = np.random.default_rng(steps).integers(1, count + 1, 12)
    found = Counter(left_by(int(k), steps) for k in {*behind, *some, *range(count - 40, count)})
    assert found["none"]
    assert found["whole"]


def left_by(instruction: int, steps: int) -> str:
    world, done = World(steps), World(steps)
    before = world.state()
    step(done)
    at(instruction)(lambda: step(world))
    found = world.state()
    left = "none" if same(found, before) else "whole"
    assert left == "none" or same(found, done.state()), "neither before nor after"

    fresh = World(0)
    fresh.load(found)
    assert torch.equal(world.evaluate(), fresh.evaluate()), "evaluation uses weights packed before"
    if left == "whole":
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            world.pending.backward()
    for _ in range(2):
        assert world.train_step() == fresh.train_step(), "the next step is another"
    assert same(world.state(), fresh.state())
    return left
