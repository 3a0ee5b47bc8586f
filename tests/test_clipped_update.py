"""A whole optimizer step by one call: norm, clipping, skipping and updates, decided by the backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from bits import assert_same_bits
from numpy.typing import NDArray
from parity import assert_parity

from fusedrnn import _native, functional, optim
from fusedrnn._core.parameter import Parameter
from fusedrnn.reference.arithmetic import Arithmetic

pytestmark = pytest.mark.parity

Array = NDArray[Any]
ADAM = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.01}
ADAM |= {"bias_correction": 1.0, "amsgrad": 0.0}
SHAPES = ((5,), (4100,), (0,), (3, 7))


class Group:
    """Arrays of one dtype and their segment table."""

    def __init__(self, dtype: Any, seed: int, shapes: Any = SHAPES) -> None:
        rng = np.random.default_rng(seed)
        self.pieces = [tuple(np.abs(rng.normal(size=s)).astype(dtype) for _ in range(4)) for s in shapes]
        self.grads = [p[1] for p in self.pieces]
        self.table = _native.Segments("adam", [(p, g, [m, v, None]) for p, g, m, v in self.pieces])

    def changed(self) -> list[Array]:
        return [a for p, _, m, v in self.pieces for a in (p, m, v)]

    def bytes(self) -> bytes:
        return b"".join(a.tobytes() for a in self.changed())


@pytest.mark.parametrize("dtypes", [(np.float32,), (np.float64,), (np.float32, np.float64, np.float32)])
@pytest.mark.parametrize("shapes", [SHAPES, [(1 + i % 3,) for i in range(150)]], ids=["long", "many"])
def test_norm_is_that_of_all_gradients(dtypes: tuple[Any, ...], shapes: Any) -> None:
    groups = [Group(dtype, seed, shapes) for seed, dtype in enumerate(dtypes, 2)]
    norm = _native.clipped_update([(g.table, ADAM, 1, None) for g in groups], 0.5, False)
    grads = np.concatenate([g.ravel().astype(np.float64) for group in groups for g in group.grads])

    def reference(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        g = grads.astype(dtype)
        return {"norm": np.sqrt(arithmetic.add_product(dtype(0), g[None], g[:, None]))}

    assert_parity({"norm": np.full((1, 1), norm)}, reference, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e9, math.inf])
def test_is_the_norm_and_then_the_update(dtype: Any, max_norm: float) -> None:
    ours, theirs = Group(dtype, 1), Group(dtype, 1)
    norm = _native.clipped_update([(ours.table, ADAM, 3, None)], max_norm, False)
    assert norm == functional.global_norm(theirs.grads)
    _native.optimizer_step(theirs.table, ADAM, 3, min(1.0, max_norm / (norm + 1e-6)))
    assert ours.bytes() == theirs.bytes()


def test_groups_share_the_norm_and_nothing_else() -> None:
    """Dtypes, rules' options and steps are each group's own."""
    ours, theirs = (
        [Group(d, s) for d, s in ((np.float32, 2), (np.float64, 3), (np.float32, 4))] for _ in "ab"
    )
    given = [({**ADAM, "lr": 0.1 * (i + 1)}, 4 - i) for i in range(3)]
    norm = _native.clipped_update([(g.table, *s, None) for g, s in zip(ours, given, strict=True)], 0.5, True)
    for ours_, theirs_, s in zip(ours, theirs, given, strict=True):
        _native.optimizer_step(theirs_.table, *s, min(1.0, 0.5 / (norm + 1e-6)))
        assert ours_.bytes() == theirs_.bytes()


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_norm_that_is_not_finite(bad: float) -> None:
    """Skipped if asked for, in all groups; else the factor is 0 or NaN, as PyTorch's."""
    groups = [Group(np.float32, 5), Group(np.float64, 6)]
    groups[1].grads[1][4097] = bad
    before = [g.bytes() for g in groups]
    updates = [(g.table, ADAM, 1, None) for g in groups]
    assert not math.isfinite(_native.clipped_update(updates, 1.0, True))
    assert [g.bytes() for g in groups] == before
    assert not math.isfinite(_native.clipped_update(updates, 1.0, False))
    assert np.isnan(groups[1].pieces[1][0][4097])
    assert np.isnan(groups[0].pieces[0][0]).all() == math.isnan(bad)


def test_learning_rate_and_steps_in_memory() -> None:
    """The same numbers as those handed over; a skipped step does not count, the one after it goes on."""
    ours, theirs = Group(np.float32, 7), Group(np.float32, 7)
    lr, steps = np.array([0.0]), np.array([-1, 2])
    updates = [(ours.table, {**ADAM, "lr": math.nan}, 0, (lr, steps))]
    for step, rate, finite in ((3, 0.1, True), (4, 0.03, False), (4, 0.02, True), (5, 0.5, True)):
        lr[0] = rate
        ours.grads[0][0] = theirs.grads[0][0] = 1.0 if finite else math.inf
        _native.clipped_update(updates, 2.0, True)
        _native.clipped_update([(theirs.table, {**ADAM, "lr": rate}, step, None)], 2.0, True)
        assert steps[1] == step - (not finite)
        assert ours.bytes() == theirs.bytes()


@pytest.mark.parametrize("counted", [False, True])
def test_without_a_norm_gradients_are_not_measured(counted: bool) -> None:
    """What is not finite spoils its own element alone, and the step counts."""
    ours, theirs = Group(np.float32, 11), Group(np.float32, 11)
    lr, steps = np.array([0.2]), np.array([-1, 2])
    for group in (ours, theirs):
        group.grads[1][7] = math.inf
    scalars = {**ADAM, "lr": 0.2}
    told = ({**ADAM, "lr": math.nan}, 0, (lr, steps)) if counted else (scalars, 3, None)
    assert _native.clipped_update([(ours.table, *told)], None, False) is None
    _native.optimizer_step(theirs.table, scalars, 3, None)
    assert ours.bytes() == theirs.bytes()
    assert np.isnan(ours.pieces[1][0]).sum() == 1
    assert steps[1] == (3 if counted else 2)


def test_more_segments_than_a_kernel_takes_at_once() -> None:
    shapes = [(1 + i % 3,) for i in range(150)]
    ours, theirs = Group(np.float32, 8, shapes), Group(np.float32, 8, shapes)
    norm = _native.clipped_update([(ours.table, ADAM, 1, None)], 0.5, False)
    for param, grad, m, v in theirs.pieces:
        functional.adam_(
            param, grad, m, v, lr=0.1, step=1, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.01,
            clip_factor=0.5 / (norm + 1e-6),
        )  # fmt: skip
    assert ours.bytes() == theirs.bytes()


def test_nothing_to_update() -> None:
    empty = Group(np.float32, 9, [(0,)])
    assert _native.clipped_update([(empty.table, ADAM, 1, None)], 1.0, True) == 0.0


def test_errors() -> None:
    group = Group(np.float32, 10)
    for lr, steps, message in (
        (np.zeros(2), np.zeros(2, int), r"lr must be of shape \(1,\)|lr must be"),
        (np.zeros(1), np.zeros(1, int), "steps must be"),
    ):
        with pytest.raises(ValueError, match=message):
            _native.clipped_update([(group.table, ADAM, 1, (lr, steps))], 1.0, True)


def test_a_skipped_step_of_an_optimizer_is_not_counted() -> None:
    p = Parameter(np.ones(3))
    adam = optim.Adam([p])
    p.grad = np.array([1.0, math.inf, 0.0])
    assert adam.step(clip_norm=math.inf, skip_nonfinite=True) == math.inf
    assert adam.step(skip_nonfinite=True) is None
    assert adam.param_groups[0]["step"] == 0
    assert (p.data == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits(dtype: Any) -> None:
    def run() -> Any:
        groups = [Group(dtype, s, ((120001,), (17,))) for s in (11, 12)]
        norm = _native.clipped_update([(g.table, ADAM, 2, None) for g in groups], 3.0, True)
        return norm, [a for g in groups for a in g.changed()]

    assert_same_bits(run)
