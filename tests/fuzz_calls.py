"""Calls everything public with right and wrong arguments, seeded: it returns, or says what is wrong.

    python tests/fuzz_calls.py --calls 50000 --seed 0

A call may raise ValueError, TypeError or RuntimeError, with a text that names an argument, or MemoryError.
Texts of pybind11's and NumPy's insides, other exceptions and crashes are failures: they are printed with the
seed of the call, and the status is 1. Prints how many calls returned and how many raised what.
"""

from __future__ import annotations

import argparse
import faulthandler
import re
import resource
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from fuzz_features import CASES

import fusedrnn as fr

MOST_MEMORY = 16 << 30  # bytes of address space: what asks for more raises MemoryError
ALLOWED = (ValueError, TypeError, RuntimeError, MemoryError)
# Of texts that others have written, for which a caller would have to know what is within.
FOREIGN = re.compile(
    r"incompatible function arguments|Unable to cast|unsupported operand|is not (iterable|subscriptable)"
    r"|has no attribute|could not convert|ufunc|not supported between|invalid literal|truth value|has no len"
    r"|cannot unpack|not enough values|too many values|unhashable|out of bounds|must be real number"
    r"|argument must be a string or|only integer scalar|data type .* not understood|setting an array element"
)
F32, F64 = np.float32, np.float64


# ------------------------------------------------------------------------------------------- wrong arguments
class Thing:
    """Nothing that any function takes."""


WRONG: tuple[Callable[[np.random.Generator], Any], ...] = (
    *(lambda r, v=v: v for v in (
        "text", "", b"bytes", None, 3, 0, -1, 2.5, float("nan"), float("inf"), -1e308, True, False, 1j, 2**63,
        -(2**70), 10**400, (1, 2), (), Thing, len, Ellipsis, NotImplemented, range(3), np.float32, slice(1),
    )),
    *(lambda r, f=f: f() for f in (list, dict, set, Thing, object, bytearray)),
    lambda r: ["a", "b"],
    lambda r: [None],
    lambda r: [3],
    lambda r: [[1.0], [2.0, 3.0]],
    lambda r: {"a": 1},
    lambda r: {1: np.zeros(2)},
    lambda r: {"params": 3},
    lambda r: {"param_groups": 3, "state": {}},
    lambda r: {"param_groups": [3], "state": {"x": 1}},
    lambda r: ("h", "c"),
    lambda r: (np.zeros(2), None),
    lambda r: (x for x in (1, 2)),
    lambda r: np.array("text"),
    lambda r: np.array(["a", "b"]),
    lambda r: np.array([None, 1]),
    lambda r: np.array(3.0),
    lambda r: np.array(np.nan, F32),
    lambda r: np.float64(0.5),
    lambda r: np.int8(-3),
    lambda r: np.bool_(True),
    lambda r: np.zeros(0, F32),
    lambda r: np.zeros((0, 3), F32),
    lambda r: np.zeros((4, 2, 3), F64),
    lambda r: np.zeros((4, 2, 3), np.float16),
    lambda r: np.zeros((4, 2, 3), np.int32),
    lambda r: np.zeros((4, 2, 3), complex),
    lambda r: np.zeros((4, 2, 3), ">f4"),
    lambda r: np.zeros((3, 2, 4), F32).T,
    lambda r: np.zeros((4, 2, 6), F32)[..., ::2],
    lambda r: np.zeros((4, 2, 3), F32)[::-1],
    lambda r: np.broadcast_to(np.zeros(3, F32), (4, 2, 3)),
    lambda r: np.ma.masked_array(np.zeros((4, 2, 3), F32), True),
    lambda r: np.zeros((1,) * 20, F32),
    lambda r: np.array([10**18, -5]),
    lambda r: np.zeros(2, "datetime64[s]"),
    lambda r: np.zeros(2, [("a", "f4")]),
    lambda r: np.frombuffer(b"\0" * 13, F32, 3, 1),
    lambda r: fr.nn.Linear(2, 2, seed=0),
    lambda r: fr.nn.Parameter(np.zeros(2)),
    lambda r: fr.losses.MSE(),
    lambda r: fr.losses.MSE,
    lambda r: fr.functional.pack_weights({"weight_ih_l0": np.ones((3, 3)), "weight_hh_l0": np.ones((3, 1))}),
    lambda r: memoryview(b"abcd"),
)  # fmt: skip


class Failure(Exception):
    """A call went otherwise than it may."""


def one_call(seed: int, names: Iterable[str] | None = None) -> tuple[str, str]:
    """Makes the call of that seed; returns its name and how it ended.

    Raises:
        Failure: it ended as it must not.
    """
    rng = np.random.default_rng(seed)
    known = sorted(CASES if names is None else names)
    name = known[int(rng.integers(len(known)))]
    call = CASES[name](rng)
    arguments = dict(call.arguments)
    wrong = int(rng.integers(0, 3)) if arguments else 0
    changed = {}
    for argument in rng.choice(sorted(arguments), min(wrong, len(arguments)), replace=False).tolist():
        changed[argument] = arguments[argument] = WRONG[int(rng.integers(len(WRONG)))](rng)
    try:
        call.function(**arguments)
    except ALLOWED as error:
        text = f"{error}"
        words = (*arguments, *call.also)
        if FOREIGN.search(text):
            raise Failure(
                f"{name}({changed!r}): a text of others': {type(error).__name__}: {text}"
            ) from error
        if not isinstance(error, MemoryError) and not any(
            re.search(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])", text) for word in words
        ):
            raise Failure(
                f"{name}({changed!r}) names none of {words}: {type(error).__name__}: {text}"
            ) from error
        if not changed:
            raise Failure(f"{name} refuses right arguments: {type(error).__name__}: {text}") from error
        return name, type(error).__name__
    except Exception as error:
        raise Failure(f"{name}({changed!r}) raises {type(error).__name__}: {error}") from error
    return name, "returned"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=50000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="the cases whose name has this in it")
    given = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    names = [name for name in CASES if given.only is None or given.only in name]
    seeds: Iterable[int] = range(given.seed, given.seed + given.calls)
    try:
        from tqdm import tqdm

        seeds = tqdm(seeds, unit="call", disable=not sys.stderr.isatty())
    except ImportError:
        pass
    ends: Counter[str] = Counter()
    failures: dict[str, tuple[int, str]] = {}
    for seed in seeds:
        try:
            _, end = one_call(seed, names)
            ends[end] += 1
        except Failure as failure:
            ends["failed"] += 1
            text = re.sub(r"\(\{.*?\}\)(?= raises| names|: a text)", "(..)", f"{failure}", flags=re.DOTALL)
            failures.setdefault(text[:160], (seed, f"{failure}"))
    for seed, text in failures.values():
        print(f"seed {seed}: {text[:600]}\n")
    print(", ".join(f"{count} {end}" for end, count in ends.most_common()), f"; {len(names)} functions")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
