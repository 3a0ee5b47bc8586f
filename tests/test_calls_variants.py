"""Several calls before backward, and inputs overwritten: every variant of a cell, every regulariser."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr

T, B, H = 7, 3, 4
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "peephole": ("LSTM", {"peephole": True}),
    "layer_norm": ("LSTM", {"layer_norm": True}),
    "proj_size": ("LSTM", {"proj_size": 2}),
    "reset_before": ("GRU", {"reset_after": False}),
    "recompute": ("LSTM", {"recompute": 3, "layer_norm": True}),
    "recompute, masks": ("GRU", {"recompute": 2, "weight_dropout": 0.3, "recurrent_dropout": 0.2}),
    "zoneout": ("LSTM", {"zoneout": (0.2, 0.3)}),
    "recurrent_dropout": ("GRU", {"recurrent_dropout": 0.4}),
    "weight_dropout": ("RNN", {"weight_dropout": 0.4, "nonlinearity": "relu"}),
    "dropout by sequence": ("GRU", {"dropout": 0.4, "num_layers": 2, "dropout_mode": "sequence"}),
    "frozen": ("GRU", {}),
}


def made(name: str) -> Any:
    kind, options = VARIANTS[name]
    module = getattr(fr.nn, kind)(H, H, **options, dtype=np.float64, seed=0)
    if name == "frozen":
        module.weight_hh_l0.requires_grad = False
    return module


def calls_of(module: Any, count: int) -> list[Any]:
    """Modules of the same weights, each with the masks of one of so many calls of this one."""
    copies = [copy.deepcopy(module) for _ in range(count)]
    if hasattr(module, "_dropout_key"):
        for i, each in enumerate(copies):
            each._dropout_key = module._dropout_key + i
    return copies


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def units(module: Any) -> int:
    return int(module.proj_size or H)


def assert_sums(module: Any, parts: list[Any]) -> None:
    """The module's gradients are those of the parts together, up to the order of addition."""
    for p, *others in zip(module.parameters(), *(part.parameters() for part in parts), strict=True):
        total = sum(other.grad for other in others)
        assert np.abs(p.grad - total).max() <= 1e-12 * np.abs(total).max()


@pytest.mark.parametrize("name", VARIANTS)
def test_each_call_has_its_own_tape_and_masks(name: str) -> None:
    module = made(name)
    alone, inputs = calls_of(module, 2), [data(T, B, H, seed=s) for s in (1, 2)]
    results = [module(x)[0] for x in inputs]
    dy = data(T, B, units(module), seed=3)
    with pytest.raises(RuntimeError, match="2 training calls wait"):
        module.backward(dy)
    for y, x, each in zip(results, inputs, alone, strict=True):
        np.testing.assert_array_equal(each(x)[0], y)
        np.testing.assert_array_equal(module.backward(dy, of=y)[0], each.backward(dy)[0])
    assert_sums(module, alone)
    assert (module.weight_hh_l0.grad.any()) == (name != "frozen")


@pytest.mark.parametrize("name", VARIANTS)
def test_twice_in_a_model_and_in_its_steps(name: str) -> None:
    module = made(name)
    between = fr.nn.Linear(units(module), H, dtype=np.float64, seed=5)
    first, second = calls_of(module, 2)
    model, apart = fr.nn.Sequential(module, between, module), copy.deepcopy(between)
    x, dy = data(T, B, H), data(T, B, units(module), seed=3)
    y = model(x)
    np.testing.assert_array_equal(y, second(apart(first(x)[0]))[0])
    dx = model.backward(dy)
    right = first.backward(apart.backward(second.backward(dy)[0]))[0]
    assert np.abs(dx - right).max() <= 1e-12 * np.abs(right).max()
    assert_sums(module, [first, second])
    twin = copy.deepcopy(model)
    optimizers = [fr.optim.Adam(m.parameters(), lr=0.01) for m in (model, twin)]
    for seed in range(4):
        x, target = data(T, B, H, seed=seed), data(T, B, units(module), seed=seed + 50)
        loss, dy = fr.losses.mse(twin(x), target)
        twin.zero_grad()
        twin.backward(dy)
        assert model.train_step(x, target, "mse", optimizers[0], 1.0) == (
            loss,
            optimizers[1].step(clip_norm=1.0),
        )
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_overwritten_before_backward(name: str) -> None:
    module = made(name)
    (twin,) = calls_of(module, 1)
    x, dy = data(T, B, H), data(T, B, units(module), seed=3)
    _, state = copy.deepcopy(module)(x)
    results = []
    for each, spoil in ((twin, False), (module, True)):
        given = copy.deepcopy((x, state))
        y, final = each(*given)
        if spoil:
            for array in _arrays(given, y, final):
                array[...] = 7
        dx, dstate = each.backward(dy)
        results.append([dx, *_arrays(dstate), *(p.grad for p in each.parameters())])
    for found, right in zip(*results, strict=True):
        np.testing.assert_array_equal(found, right)


def _arrays(*tree: Any) -> list[np.ndarray]:
    return [a for part in tree for a in ([part] if isinstance(part, np.ndarray) else _arrays(*part))]
