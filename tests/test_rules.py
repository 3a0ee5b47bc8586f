"""The list of update rules, csrc/optim/list.hpp, is what Python's classes and functions say, too."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusedrnn import _native, functional, optim, reference
from fusedrnn._core.parameter import Parameter
from fusedrnn.cli.config import LEARNING_RATES
from fusedrnn.functional.rules import RULES


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """Names of a function's parameters and their defaults, betas as two."""
    found = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    if isinstance(betas := found.pop("betas", None), tuple):
        found |= {"beta1": betas[0], "beta2": betas[1]}
    return found


@pytest.mark.parametrize("kind", RULES)
def test_classes_take_the_scalars_with_their_defaults(kind: str) -> None:
    rule = optim.BY_KIND[kind]
    assert rule.kind == kind
    assert rule.__name__ in optim.__all__
    expected = {name: scalar.default for name, scalar in RULES[kind].scalars.items()}
    assert options(rule) == {"params": inspect.Parameter.empty, **expected}


def test_there_is_no_class_without_a_rule() -> None:
    assert optim.BY_KIND.keys() == RULES.keys()
    assert LEARNING_RATES.keys() == RULES.keys()


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("module", [functional, reference])
def test_functions_take_states_and_scalars(kind: str, module: Any) -> None:
    """States in the list's order, None by default where a rule may not keep them; scalars but for flags."""
    found = options(getattr(module, f"{'adam' if kind == 'adamw' else kind}_"))
    states = RULES[kind].states
    assert list(found)[: 2 + len(states)] == ["param", "grad", *states]
    for name, kept_by in states.items():
        assert found[name] is (inspect.Parameter.empty if kept_by is None else None)
    for name, (default, range_) in RULES[kind].scalars.items():
        if range_ == "True or False" and name in states.values():
            assert name not in found  # the state itself says so
        elif name == "lr":
            assert found[name] is inspect.Parameter.empty
        elif kind != "adamw":
            assert found[name] == default


@pytest.mark.parametrize("kind", RULES)
def test_a_rule_keeps_the_states_that_its_scalars_ask_for(kind: str) -> None:
    switches = {
        by: True if RULES[kind].scalars[by].range == "True or False" else 0.5
        for by in RULES[kind].states.values()
        if by is not None
    }
    for on in ({}, *({name: value} for name, value in switches.items()), switches):
        rule = optim.BY_KIND[kind]([p := Parameter(np.ones(3))], lr=0.1, **on)
        p.grad = np.ones(3)
        rule.step()
        assert set(rule.state.get(p, {})) == {
            name for name, by in RULES[kind].states.items() if by is None or by in on
        }


def test_a_count_of_updates_that_is_none_changes_nothing() -> None:
    for step, error in ((-5, ValueError), (2**63 - 1, ValueError), (1.5, TypeError), (math.nan, TypeError)):
        parameters = [Parameter(np.ones(3)), Parameter(np.ones(3))]
        adam = optim.Adam([{"params": [p]} for p in parameters])
        adam.param_groups[1]["step"] = step
        with pytest.raises(error, match=r"step must be an integer in 0\.\.2\*\*63 - 2, it is"):
            adam.step()
        assert all((p.data == 1).all() for p in parameters)


def test_the_native_rules_take_their_scalars_and_no_others() -> None:
    table = _native.Segments("sgd", [(np.ones(3), np.ones(3), [None])])
    with pytest.raises(
        ValueError,
        match="scalars must be 'lr', 'momentum', 'weight_decay', 'nesterov' and 'dampening', it is",
    ):
        _native.optimizer_step(table, {"lr": 0.1, "alpha": 0.5}, 1, None)
    with pytest.raises(
        ValueError, match="kind must be 'sgd', 'adagrad', 'rmsprop', 'adam' or 'adamw', it is 'adm'"
    ):
        _native.Segments("adm", [])
