"""Training steps of two equal models, one by `train_step`, one by the separate calls it stands for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sequences import on_device, on_host

import fusedrnn as fr
from fusedrnn.nn import GRU, LSTM, Dropout, Embedding, Last, LayerNorm, Linear, Sequential
from fusedrnn.training import step as training_step
from fusedrnn.training.loss import resolved
from fusedrnn.training.structure import Inputs

separate_calls = training_step.separate_calls
T, B, I, V = 6, 4, 3, 7


def data(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def twins(model: Sequential, optimizer: Callable[[Any], fr.optim.Optimizer]) -> list[Any]:
    """The model and a copy, each with an optimizer of its own."""
    return [(m, optimizer(m.parameters())) for m in (model, copy.deepcopy(model))]


def adam(parameters: Any) -> fr.optim.Optimizer:
    return fr.optim.Adam(parameters, lr=0.05)


def separate(
    model: Sequential, optimizer: Any, loss: Any, x: Any, y: Any, clip: Any = None, **options: Any
) -> Any:
    """What train_step promises to be the same as."""
    mask, lengths, resets, state = (options.get(n) for n in ("mask", "lengths", "resets", "state"))
    whole = resolved(loss, options.get("ignore_index"))
    given = Inputs(x, y, mask, lengths, resets, whole, state)
    skip = options.get("skip_nonfinite", False)
    clips = clip, options.get("clip_value")
    value, norm, final = separate_calls(model, given, optimizer, clips, skip, options.get("flow", False))
    return (value, norm, final) if options.get("return_state") else (value, norm)


def run(
    pair: list[Any], loss: Any, steps: list[dict[str, Any]], shapes: int = 1, native: bool = True
) -> None:
    """Makes the steps with one model and the separate calls with the other; all must agree at every step.

    Of the steps, whose calls have so many shapes, at most one of each may not be a native call; all without
    `native`. Models on a CUDA device get their arrays there, but for lengths and resets, which train_step
    takes from anywhere.
    """
    (model, optimizer), (twin, other) = pair
    there = any(p.device != "cpu" for p in model.parameters())
    made = []

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return separate_calls(*arguments)

    for step, options in enumerate(steps):
        given = {
            n: a if n in ("lengths", "resets") or not there else on_device(a) for n, a in options.items()
        }
        x, y, clip = given.pop("x"), given.pop("y"), given.pop("clip", None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training_step, "separate_calls", counted)
            found = model.train_step(x, y, loss, optimizer, clip, **given)
        expected = separate(twin, other, loss, x, y, clip, **(on_device(given) if there else given))
        assert_tree(on_host(found), on_host(expected))
        assert_agree(pair, f"step {step}")
    assert len(made) <= shapes if native else len(made) == len(steps)


def assert_agree(pair: list[Any], after: str) -> None:
    """Both models and optimizers are in the same state."""
    (model, optimizer), (twin, other) = pair
    assert_tree(optimizer.state_dict(), other.state_dict())
    assert model.random_state() == twin.random_state()
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy(), f"{name} after {after}")
        np.testing.assert_array_equal(on_host(p.grad), on_host(q.grad), f"gradient of {name} after {after}")
        assert p.version == q.version


def assert_tree(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_tree(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_tree(one, other)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected or (found != found and expected != expected)


def sequences(n: int = 3, **more: Any) -> list[dict[str, Any]]:
    """Steps over (T, B, I) with a target (B, 2)."""
    return [{"x": data(T, B, I, seed=s), "y": data(B, 2, seed=s + 50), **more} for s in range(n)]


def labels(n: int = 3, **more: Any) -> list[dict[str, Any]]:
    """Steps over ids (T, B) with classes (T, B)."""
    rng = np.random.default_rng(3)
    return [{"x": rng.integers(0, V, (T, B)), "y": rng.integers(0, V, (T, B)), **more} for _ in range(n)]


def regressor(cell: Any = LSTM, **options: Any) -> Sequential:
    first = options.get("batch_first", False)
    width = 5 * (2 if options.get("bidirectional") else 1)
    shared = {name: options[name] for name in ("dtype", "device") if name in options}
    return Sequential(cell(I, 5, seed=1, **options), Last(first), Linear(width, 2, seed=2, **shared))


def tagger(device: str = "cpu", **options: Any) -> Sequential:
    return Sequential(
        Embedding(V, 4, seed=1, device=device),
        GRU(4, 5, seed=2, device=device, **options),
        Dropout(0.3, seed=3),
        LayerNorm(5, device=device),
        Linear(5, V, seed=4, device=device),
    )
