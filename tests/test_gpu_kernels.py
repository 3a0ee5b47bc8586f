"""What a GPU's kernels for layers, losses and optimizers promise beyond parity, at sizes around their blocks.

Operations that add nothing up, or add in the order that backend.hpp gives, have the CPU's bits.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bits import pattern
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn import _native, cpu, functional
from fusedrnn.functional.rules import RULES

pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(cpu.isa() not in ("cuda", "simt"), reason="about the kernels of a GPU"),
]

Array = NDArray[Any]
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def assert_bits_of_the_cpu(run: Callable[[], list[Array]]) -> None:
    """run() allocates what it returns, and returns the same bytes on the device and on the CPU."""
    device, ours = _native.backend(), run()
    _native.set_backend(_native.available_backends()[-1])
    try:
        theirs = run()
    finally:
        _native.set_backend(device)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.dtype == b.dtype
        assert pattern(a) == pattern(b), f"result {i}"


@DTYPES
@pytest.mark.parametrize("count", [3, 1023, 1024, 1029])
def test_dropout(dtype: Any, count: int) -> None:
    x = np.random.default_rng(0).normal(size=count + 1).astype(dtype)
    strided = np.random.default_rng(1).normal(size=(5, count, 3)).astype(dtype)[:, ::2]
    assert_bits_of_the_cpu(
        lambda: [functional.dropout(a, 0.3, key=2**63 + 1, stream=7) for a in (x[:count], x[1:], strided)]
    )


@DTYPES
@pytest.mark.parametrize(
    ("count", "rows", "width"),
    [(3000, 1, 130), (1025, 5, 3), (2500, 2300, 131), (4000, 1057, 1), (9001, 70, 3)],
)
def test_gradient_of_an_embedding(dtype: Any, count: int, rows: int, width: int) -> None:
    """Each sum is one chain over the ids in order, whatever a block has to look for and to list."""
    rng = np.random.default_rng(count)
    ids = rng.integers(0, rows, (5, count // 5 + 3))[:, 3:]
    dy = (rng.normal(size=(*ids.shape, width + 2)) * 10.0 ** rng.integers(-3, 4, (*ids.shape, 1))).astype(
        dtype
    )
    start = rng.normal(size=(rows, width)).astype(dtype)

    def run() -> list[Array]:
        dweight = start.copy()
        _native.embedding_backward(dy[..., :width], ids, dweight)
        return [dweight]

    assert_bits_of_the_cpu(run)


@pytest.mark.parametrize(
    "wrong",
    [{9000: -1}, {4096: -5, 4095: 70, 8999: 71}, {8192: 2**62, 5000: -(2**63)}, {0: 70, 256 * 4096: 71}],
    ids=str,
)
def test_the_first_of_several_wrong_ids_is_told(wrong: dict[int, int]) -> None:
    """Whichever blocks and threads find them, in chunks of 4096."""
    ids = np.arange(max(9000, *wrong) + 1) % 70
    for place, value in wrong.items():
        ids[place] = value
    first = min(wrong)
    with pytest.raises(ValueError, match=f"it is {wrong[first]} at flat index {first}$"):
        functional.embedding_forward(fr.asarray(ids), fr.asarray(np.zeros((70, 2), np.float32)))


@DTYPES
@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize(
    ("together", "argument"),
    [(False, ""), (False, "4096"), (True, "")],
    ids=["apart", "apart, with short arguments", "side by side"],
)
def test_updates(
    dtype: Any, kind: str, together: bool, argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments apart, by a launch or by several; or pieces of flat buffers, which are walked as one."""
    if argument:
        monkeypatch.setenv("FUSEDRNN_SIMT_ARGUMENT", argument)
    counts = [4096, 1, 5000, 0, *range(1, 70)]
    rng = np.random.default_rng(1)
    flat = np.abs(rng.normal(size=(2 + len(RULES[kind].states), sum(counts)))).astype(dtype)
    some = {"lr": 0.1, "weight_decay": 0.01, "eps": 1e-6, "beta1": 0.9, "beta2": 0.99, "lr_decay": 0.1}
    some |= {"momentum": 0.5, "nesterov": 1.0, "centered": 1.0, "amsgrad": 1.0}
    scalars = {name: some.get(name, facts.default) for name, facts in RULES[kind].scalars.items()}

    def run() -> list[Array]:
        arrays = flat.copy()
        pieces = np.split(arrays, np.cumsum(counts)[:-1], axis=1)
        if not together:
            pieces = [a.copy() for a in pieces]
        table = _native.Segments(kind, [(a[0], a[1], list(a[2:])) for a in pieces])
        _native.optimizer_step(table, scalars, 7, 0.7)
        return pieces

    assert_bits_of_the_cpu(run)


def launches() -> int:
    """How many the emulator has seen."""
    return int(ctypes.CDLL(os.environ["FUSEDRNN_CUDA_PLUGIN"]).fusedrnn_simt_launches())


@pytest.mark.skipif(cpu.isa() != "simt", reason="the emulator counts launches")
@DTYPES
@pytest.mark.parametrize(
    ("tensors", "argument", "expected"),
    [(4, "", 2), (200, "", 2), (512, "", 2), (513, "", 4), (200, "4096", 8)],
)
def test_launches_of_a_step_with_clipping(
    dtype: Any, tensors: int, argument: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if argument:
        monkeypatch.setenv("FUSEDRNN_SIMT_ARGUMENT", argument)
    rng = np.random.default_rng(tensors)
    pieces = [np.abs(rng.normal(size=(4, 1 + i % 9))).astype(dtype) for i in range(tensors)]
    table = _native.Segments(
        "adam", [(a[0].copy(), a[1].copy(), [a[2].copy(), a[3].copy(), None]) for a in pieces]
    )
    scalars = {name: facts.default for name, facts in RULES["adam"].scalars.items()}
    before = launches()
    norm = _native.clipped_update([(table, scalars, 7, None)], 1.0, True)
    assert launches() - before == expected
    np.testing.assert_allclose(norm, np.linalg.norm(np.concatenate([a[1] for a in pieces])), rtol=1e-6)


@DTYPES
def test_clipping_in_place(dtype: Any) -> None:
    rng = np.random.default_rng(2)  # whole numbers: the norm is exact
    start = [rng.integers(-99, 99, size=n).astype(dtype) for n in (4097, 1, 0, 300)]
    start[0][5], start[3][7] = np.nan, np.inf

    def run() -> list[Array]:
        grads = [g.copy() for g in start]
        functional.clip_by_value_(grads, 60)
        clamped = [g.copy() for g in grads]
        grads[0][5] = 1
        functional.clip_by_global_norm_(grads, 7)
        return clamped + grads

    assert_bits_of_the_cpu(run)


@DTYPES
@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy", "l1", "huber", "smooth_l1"])
def test_gradients_of_elementwise_losses(dtype: Any, name: str) -> None:
    rng = np.random.default_rng(3)
    pred, target = (rng.random(size=(3, 37, 71)).astype(dtype) for _ in range(2))
    mask = rng.random((3, 37)) < 0.7
    function = getattr(functional, name)
    assert_bits_of_the_cpu(
        lambda: [
            function(pred, target)[1],
            function(pred[:, 1:, :64], target[:, 1:, :64], mask=mask[:, 1:])[1],
            *function(pred, target, "none", mask),
        ]
    )
