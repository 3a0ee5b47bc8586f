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
BASES = {"Loss", "Optimizer", "Module", "Recurrent", "KeyDifference", "Batch", "Batches", "Chunk"}
BASES |= {"FormatError", "UnsupportedError", "to_keras"}  # which Keras is for


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


@pytest.mark.parametrize("module", ["functional", "nn", "optim", "losses", "data", "io", "plot"])
def test_everything_public_is_called(module: str) -> None:
    part: Any = getattr(fr, module)
    public = {
        n for n in part.__all__ if inspect.isclass(getattr(part, n)) or inspect.isfunction(getattr(part, n))
    }
    called = {name.split(".")[1].removesuffix("()") for name in fuzz_calls.CASES if name.startswith(module)}
    if module == "losses":  # the functions are those of functional
        public -= set(fr.functional.__all__)
    assert public - called - BASES == set()


# What is an array, or is looked at elsewhere: in another case, or by a module that a case makes.
ELSEWHERE = {
    "io.to_onnx": {"path"}, "functional.rmsprop_": {"momentum_buffer", "grad_avg", "grad_var"},
    "functional.adam_": {"max_exp_avg_sq"}, "functional.sgd_": {"momentum_buffer", "nesterov"},
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in fuzz_calls.CASES if n.count(".") == 1 and n[-1] != ")"])
def test_every_option_is_called(name: str) -> None:
    """So that one that is new is, too."""
    part, attribute = name.split(".")
    function = getattr(getattr(fr, part, None), attribute, None)
    if function is None:
        pytest.skip("a case of its own")
    given = set(fuzz_calls.CASES[name](np.random.default_rng(0)).arguments)
    parameters = inspect.signature(function).parameters.values()
    options = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.default is not p.empty}
    assert options - given - ELSEWHERE.get(name, set()) - {"closure"} == set()


@pytest.mark.parametrize("name", fuzz_calls.CASES)
def test_right_arguments_are_right(name: str) -> None:
    call = fuzz_calls.CASES[name](np.random.default_rng(0))
    call.function(**call.arguments)
