"""What the tests of all update rules share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from bits import assert_same_bits
from numpy.typing import NDArray
from parity import assert_parity, cast

from fusedrnn import functional, reference
from fusedrnn._core.parameter import Parameter
from fusedrnn.optim import Optimizer

Array = NDArray[Any]
STEPS = 50
SHAPES = ((3, 5), (17,), (40, 30), (1,))


def gradients(seed: int, shapes: Sequence[tuple[int, ...]] = SHAPES, steps: int = STEPS) -> list[list[Array]]:
    """Random gradients of very different sizes for every step and shape, some of them zero."""
    rng = np.random.default_rng(seed)
    sizes = [10.0 ** rng.integers(-4, 3, s) * (rng.random(s) < 0.95) for s in shapes]
    return [[rng.normal(size=s) * size for s, size in zip(shapes, sizes, strict=True)] for _ in range(steps)]


def assert_like_torch(
    ours: Callable[[list[Parameter]], Optimizer],
    theirs: Callable[[list[torch.Tensor]], torch.optim.Optimizer],
    states: Mapping[str, str],
    clip_norm: float | None = None,
    own_states: Set[str] = frozenset(),
) -> None:
    """50 steps in float64 from equal parameters: after each, parameters and states within 1e-12 of torch's.

    That is relative to the largest magnitude an element has had so far, since running means cross zero.

    Args:
        ours: makes our optimizer from parameters.
        theirs: makes torch's from tensors.
        states: torch's names of states by ours.
        clip_norm: of every step.
        own_states: those that torch has not.
    """
    rng = np.random.default_rng(0)
    parameters = [Parameter(rng.normal(size=s)) for s in SHAPES]
    tensors = [torch.from_numpy(p.data.copy()).requires_grad_() for p in parameters]
    our_rule, their_rule = ours(parameters), theirs(tensors)
    peaks: dict[tuple[int, str], Array] = {}
    for step in gradients(1):
        for p, tensor, g in zip(parameters, tensors, step, strict=True):
            p.grad = g
            tensor.grad = torch.from_numpy(g.copy())
        norm = our_rule.step(clip_norm=clip_norm)
        if clip_norm is None:
            assert norm is None
        else:
            expected = torch.nn.utils.clip_grad_norm_(tensors, clip_norm)
            np.testing.assert_allclose(norm, expected, rtol=1e-14)
        their_rule.step()
        for i, (p, tensor, g) in enumerate(zip(parameters, tensors, step, strict=True)):
            assert (p.grad == g).all()
            assert set(our_rule.state.get(p, {})) == set(states) | own_states
            pairs = {"param": (p.data, tensor.detach())}
            pairs |= {a: (our_rule.state[p][a], their_rule.state[tensor][b]) for a, b in states.items()}
            for name, (our_values, their_values) in pairs.items():
                values = their_values.numpy()
                peaks[i, name] = np.maximum(np.abs(values), peaks.get((i, name), 0.0))
                assert (np.abs(our_values - values) <= 1e-12 * peaks[i, name]).all(), name


def counts(name: str) -> bool:
    """Whether a functional update takes the number of its step."""
    return "step" in inspect.signature(getattr(functional, name)).parameters


def assert_rule(
    name: str, dtype: Any, count: int, states: Sequence[str], seed: int, steps: int = 3, **options: Any
) -> None:
    """A few steps of a functional update are the reference's, under the tolerance rule.

    No sum is involved: the reference's error e is that of rounding each operation once.
    """
    rng = np.random.default_rng(seed)
    start = {"param": rng.normal(size=count).astype(dtype)}
    start |= {s: np.abs(rng.normal(size=count)).astype(dtype) for s in states}
    grads = rng.normal(size=(steps, count)).astype(dtype)

    def run(module: Any, d: Any) -> dict[str, Array]:
        arrays = {k: cast(a, d).copy() for k, a in start.items()}
        for step, grad in enumerate(cast(grads, d), start=3):
            counted = {"step": step} if counts(name) else {}
            kept = {k: a for k, a in arrays.items() if k != "param"}
            getattr(module, name)(arrays["param"], grad, **kept, **counted, **options)
        return arrays

    assert_parity(run(functional, dtype), lambda d, _: run(reference, d), dtype)


def assert_rule_has_same_bits(name: str, states: Sequence[str], **options: Any) -> None:
    rng = np.random.default_rng(5)
    start = [np.abs(rng.normal(size=280003)).astype(np.float32) for _ in range(1 + len(states))]
    grad = rng.normal(size=280003).astype(np.float32)
    counted = {"step": 3} if counts(name) else {}

    def run() -> list[Array]:
        arrays = [a.copy() for a in start]
        kept = dict(zip(states, arrays[1:], strict=True))
        getattr(functional, name)(arrays[0], grad, **kept, **counted, **options)
        return arrays

    assert_same_bits(run)
