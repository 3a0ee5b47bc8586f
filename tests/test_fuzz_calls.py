"""Everything public, called with right and wrong arguments, says what is wrong; see fuzz_calls.py."""

from __future__ import annotations

import inspect
from typing import Any

import fuzz_calls
import numpy as np
import pytest

import fusedrnn as fr

CALLS, PARTS = 6000, 6
# What has no arguments to speak of, or is the base of others that are called.
BASES = {"Loss", "Optimizer", "Module", "Recurrent", "KeyDifference"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(PARTS))
def test_calls_return_or_say_what_is_wrong(part: int) -> None:
    failures = []
    for seed in range(part * CALLS // PARTS, (part + 1) * CALLS // PARTS):
        try:
            fuzz_calls.one_call(seed)
        except fuzz_calls.Failure as failure:
            failures.append(f"seed {seed}: {failure}")
    assert not failures, "\n".join(failures[:5])


@pytest.mark.parametrize("module", ["functional", "nn", "optim", "losses"])
def test_everything_public_is_called(module: str) -> None:
    part: Any = getattr(fr, module)
    public = {
        n for n in part.__all__ if inspect.isclass(getattr(part, n)) or inspect.isfunction(getattr(part, n))
    }
    called = {name.split(".")[1].removesuffix("()") for name in fuzz_calls.CASES if name.startswith(module)}
    if module == "losses":  # the functions are those of functional
        public -= set(fr.functional.__all__)
    assert public - called - BASES == set()


@pytest.mark.parametrize("name", fuzz_calls.CASES)
def test_right_arguments_are_right(name: str) -> None:
    call = fuzz_calls.CASES[name](np.random.default_rng(0))
    call.function(**call.arguments)
