"""Linear layer: values and gradients, strided rows, gradients that add up, bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parity import assert_parity, cast

from fusedrnn import _native, functional
from fusedrnn.reference import linear_backward, linear_forward
from fusedrnn.reference.arithmetic import Arithmetic
from fusedrnn.reference.rounding import round_operand

pytestmark = pytest.mark.parity

Array = NDArray[Any]
SIZES = st.sampled_from([1, 2, 3, 5, 8, 16, 17, 31, 33, 70])


def reference(x: Array, weight: Array, bias: Array | None, dy: Array, precision: str = "ieee") -> Any:
    """The layer with the sums of an arithmetic; the truth takes operands as they are rounded."""

    def compute(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        if precision != "ieee":
            return in_precision(dtype, arithmetic)
        X, W, b, D = cast((x.reshape(-1, x.shape[-1]), weight, bias, dy.reshape(-1, dy.shape[-1])), dtype)
        add, zero = arithmetic.add_product, dtype(0)
        y = add(zero if b is None else b, X, W.T)
        results = {
            "y": y.reshape(dy.shape),
            "dweight": add(zero, D.T, X),
            "dx": add(zero, D, W).reshape(x.shape),
        }
        if b is not None:
            results["dbias"] = add(zero, np.ones((1, len(D)), dtype), D)[0]
        return results

    def in_precision(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        X, W, D = cast(tuple(round_operand(a, precision) for a in (x, weight, dy)), dtype)
        rounds = {"precision": precision if dtype == np.float32 else "ieee", "arithmetic": arithmetic}
        y = linear_forward(X, W, None, **rounds)
        dx, dweight, _ = linear_backward(D, X, W, bias=False, **rounds)
        zero = np.zeros(D.shape[-1], dtype)
        rows = cast(dy, dtype).reshape(-1, D.shape[-1])
        dbias = arithmetic.add_product(zero, np.ones((1, len(rows)), dtype), rows)[0]
        assert dx is not None
        return {
            "y": y if bias is None else y + cast(bias, dtype),
            "dx": dx,
            "dweight": dweight,
            "dbias": dbias,
        }

    return compute


@pytest.mark.parametrize("precision", _native.cpu_precisions()[1:])
@pytest.mark.parametrize("sizes", [(7, 5, 3), (70, 33, 40), (300, 40, 17), (1, 64, 100)])
def test_against_reference_in_narrow_precisions(
    sizes: tuple[int, int, int], precision: str, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--backend") in ("cuda", "simt"):
        pytest.skip("Linear on CUDA computes in ieee precision only")
    rng = np.random.default_rng(sizes)
    rows, I, N = sizes
    x, weight, b, dy = (rng.normal(size=s).astype(np.float32) for s in ((rows, I), (N, I), N, (rows, N)))
    dx, dweight, dbias = functional.linear_backward(dy, x, weight, precision=precision)
    assert dx is not None
    assert dbias is not None
    ours = {
        "y": functional.linear_forward(x, weight, b, precision=precision),
        "dx": dx,
        "dweight": dweight,
        "dbias": dbias,
    }
    assert_parity(ours, reference(x, weight, b, dy, precision), np.float32)


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    leading=st.lists(st.integers(1, 6), max_size=3),
    sizes=st.tuples(SIZES, SIZES),
    bias=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_against_reference(
    dtype: Any, leading: list[int], sizes: tuple[int, int], bias: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    (I, N), shape = sizes, tuple(leading)
    x = rng.normal(size=(*shape, I)).astype(dtype)
    dy = rng.normal(size=(*shape, N)).astype(dtype)
    weight = rng.normal(size=(N, I)).astype(dtype)
    b = rng.normal(size=N).astype(dtype) if bias else None
    y = functional.linear_forward(x, weight, b)
    dx, dweight, dbias = functional.linear_backward(dy, x, weight, bias=bias)
    assert dx is not None
    ours = {"y": y, "dx": dx, "dweight": dweight}
    if bias:
        assert dbias is not None
        ours["dbias"] = dbias
    else:
        assert dbias is None
    assert_parity(ours, reference(x, weight, b, dy), dtype)


def test_against_torch() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (rng.normal(size=s) for s in ((260, 3, 40), (23, 40), (23,), (260, 3, 23)))
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    y = torch.nn.functional.linear(*leaves)
    y.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(functional.linear_forward(x, weight, bias), y.detach(), rtol=1e-12, atol=1e-12)
    for ours, leaf in zip(functional.linear_backward(dy, x, weight), leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:, :, :7],
        lambda a: a[1:4, 2:5, 3:10],
        lambda a: a[::2, ::2, :7],
        lambda a: a.swapaxes(0, 1)[:, :, :7],
        lambda a: a[:, 1, :7],
        lambda a: a.reshape(2, 3, 8, 12)[:, ::2, ::3, 2:9],
    ],
    ids=["narrow", "inner", "every other", "swapped", "one column", "four axes"],
)
def test_strided_rows_need_no_copy(view: Any) -> None:
    rng = np.random.default_rng(1)
    base, weight = rng.normal(size=(6, 8, 12)), rng.normal(size=(5, 7))
    x = view(base)
    dy = rng.normal(size=(*x.shape[:-1], 9))[..., :5]
    plain = np.ascontiguousarray(x)
    y = functional.linear_forward(x, weight)
    assert y.tobytes() == functional.linear_forward(plain, weight).tobytes()
    strided = functional.linear_backward(dy, x, weight)
    for a, b in zip(
        strided, functional.linear_backward(np.ascontiguousarray(dy), plain, weight), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4), (2, 0)])
def test_sizes_of_zero(shape: tuple[int, ...]) -> None:
    weight, bias = np.ones((3, shape[-1])), np.arange(3.0)
    y = functional.linear_forward(np.zeros(shape), weight, bias)
    assert y.shape == (*shape[:-1], 3)
    assert (y == bias).all()
    dx, dweight, dbias = functional.linear_backward(np.ones_like(y), np.zeros(shape), weight)
    assert dx is not None
    assert dbias is not None
    assert dx.shape == shape
    assert not dweight.any()
    assert (dbias == y.size // 3).all()


def test_gradients_add_up_and_dx_may_be_skipped() -> None:
    rng = np.random.default_rng(2)
    x, weight, dy = rng.normal(size=(4, 6)), rng.normal(size=(3, 6)), rng.normal(size=(4, 3))
    dweight, dbias = rng.normal(size=(3, 6)), rng.normal(size=3)
    before = dweight.copy(), dbias.copy()
    assert _native.linear_backward(dy, x, weight, dweight, dbias, False) is None
    np.testing.assert_allclose(dweight, before[0] + dy.T @ x, rtol=1e-13)
    np.testing.assert_allclose(dbias, before[1] + dy.sum(axis=0), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x, weight, bias, dy = (
        rng.normal(size=s).astype(dtype) for s in ((9, 37, 70), (45, 70), (45,), (9, 37, 45))
    )
    assert_same_bits(
        lambda: (functional.linear_forward(x, weight, bias), functional.linear_backward(dy, x, weight))
    )
