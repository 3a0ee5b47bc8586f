"""The bits of a build: digests of what random models compute, to be compared with another build's.

  python tests/build_bits.py --stacks 60 >bits.txt         of the fusedrnn that this Python imports
  OTHER/python tests/build_bits.py --stacks 60 | diff bits.txt -

A line for each instruction set and model. Two builds of the same sources print the same, whatever compiled
them. Needs NumPy alone.
"""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn import _native

OPTIMIZERS = (fr.optim.Adam, fr.optim.AdamW, fr.optim.RMSprop, fr.optim.Adagrad, fr.optim.SGD)
STACKS = (fr.nn.LSTM, fr.nn.GRU, fr.nn.RNN)


def digest(*arrays: Any) -> str:
    """Of the bytes of arrays and numbers, in order."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


def sizes(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """T, B, I and H: odd against tiles, and now and then large."""
    return (*rng.integers(1, 9, 2).tolist(), *rng.integers(1, 70, 2).tolist())


def stack(rng: np.random.Generator, index: int) -> tuple[str, str]:
    """A recurrent module forward and backward, separate calls: what it was, and its digest."""
    T, B, I, H = sizes(rng)
    cell, dtype = STACKS[index % 3], (np.float32, np.float64)[index // 3 % 2]
    options: dict[str, Any] = {
        "num_layers": 1 + index % 2,
        "bidirectional": index % 5 < 2,
        "dropout": 0.3 * (index % 4 == 3),
    }
    if dtype == np.float32:
        options["precision"] = _native.cpu_precisions()[index % len(_native.cpu_precisions())]
    module = cell(I, H, **options, dtype=dtype, seed=index)
    x = rng.standard_normal((T, B, I)).astype(dtype)
    dy = rng.standard_normal((T, B, H * (1 + options["bidirectional"]))).astype(dtype)
    y, _ = module(x, lengths=rng.integers(1, T, B, endpoint=True), resets=rng.random((T, B)) < 0.2)
    dx, _ = module.backward(dy)
    name = f"{cell.__name__} {np.dtype(dtype).name} {T} {B} {I} {H} {options}"
    return name, digest(y, dx, *(p.grad for p in module.parameters()))


def step(rng: np.random.Generator, index: int) -> tuple[str, str]:
    """Whole training steps of a chain with a loss, clipping and an optimizer."""
    T, B, I, H = sizes(rng)
    optimizer, loss = (
        OPTIMIZERS[index % len(OPTIMIZERS)],
        ("mse", "cross_entropy", "binary_cross_entropy")[index % 3],
    )
    cell = STACKS[index % 3]
    model = fr.nn.Sequential(
        cell(I, H, seed=index),
        fr.nn.LayerNorm(H),
        fr.nn.Dropout(0.2, seed=index),
        fr.nn.Linear(H, 5, seed=index),
    )
    update = optimizer(model.parameters(), lr=0.01)
    x = rng.standard_normal((T, B, I), dtype=np.float32)
    target: Any = rng.random((T, B, 5), dtype=np.float32)
    if loss == "cross_entropy":
        target = rng.integers(0, 5, (T, B))
    values = [model.train_step(x, target, loss, update, clip_norm=0.5) for _ in range(3)]
    name = f"{cell.__name__} {optimizer.__name__} {loss} {T} {B} {I} {H}"
    return name, digest(values, *(p.data for p in model.parameters()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stacks", type=int, default=60, metavar="N", help="models of each kind (default: 60)"
    )
    options = parser.parse_args()
    for isa in _native.available_backends():
        _native.set_backend(isa)
        for kind in (stack, step):
            for index in range(options.stacks):
                name, bits = kind(np.random.default_rng(index), index)
                print(f"{bits}  {isa:8} {name}")


if __name__ == "__main__":
    main()
