"""Layer normalisation: values, statistics and gradients, rows of any stride, bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from parity import assert_parity, cast

from fusedrnn import _native, functional, reference

pytestmark = pytest.mark.parity

Array = NDArray[Any]


@given(
    dtype=st.sampled_from([np.float32, np.float64]),
    leading=st.lists(st.integers(0, 5), max_size=2),
    width=st.sampled_from([1, 2, 3, 15, 16, 17, 40, 100]),
    affine=st.booleans(),
    offset=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
@example(dtype=np.float32, leading=[70], width=33, affine=True, offset=0.0, seed=0)
@example(dtype=np.float32, leading=[3, 100], width=9, affine=True, offset=0.0, seed=0)
@example(dtype=np.float64, leading=[], width=100, affine=False, offset=0.0, seed=2**32 - 1)
@settings(max_examples=80)
def test_against_reference(
    dtype: Any, leading: list[int], width: int, affine: bool, offset: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(*leading, width)) + offset).astype(dtype)
    dy = rng.normal(size=(*leading, width)).astype(dtype)
    weight = rng.normal(size=width).astype(dtype) if affine else None
    bias = rng.normal(size=width).astype(dtype) if affine else None
    y, mean, rstd = functional.layer_norm_forward(x, weight, bias, 1e-3)

    def forward(d: Any, _: Any) -> dict[str, Array]:
        # each time with its sums in another order: what the rule asks how far rounding moves a result
        order = rng.permutation(width)
        w, b = (None if a is None else a[order] for a in (weight, bias))
        y_there, *statistics = reference.layer_norm_forward(*cast((x[..., order], w, b), d), 1e-3)
        results = (y_there[..., np.argsort(order)], *statistics)
        return dict(zip(("y", "mean", "rstd"), results, strict=True))

    def backward(d: Any, _: Any) -> dict[str, Array]:
        # statistics as backward gets them: rstd rounded to the kernel's dtype
        dy_, x_, weight_, rstd_ = cast((dy, x, weight, rstd), d)
        results = reference.layer_norm_backward(dy_, x_, weight_, mean, rstd_)
        return dict(zip(("dx", "dweight", "dbias"), results, strict=True))

    assert mean.dtype == np.float64
    assert_parity({"y": y, "mean": mean.astype(dtype), "rstd": rstd}, forward, dtype)
    dx, dweight, dbias = functional.layer_norm_backward(dy, x, weight, mean, rstd)
    assert_parity({"dx": dx, "dweight": dweight, "dbias": dbias}, backward, dtype)


def test_against_torch() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias, dy = (rng.normal(size=s) for s in ((5, 4, 37), (37,), (37,), (5, 4, 37)))
    leaves = [torch.from_numpy(a).requires_grad_() for a in (x, weight, bias)]
    y = torch.nn.functional.layer_norm(leaves[0], (37,), leaves[1], leaves[2], 1e-5)
    y.backward(torch.from_numpy(dy))
    ours, mean, rstd = functional.layer_norm_forward(x, weight, bias)
    np.testing.assert_allclose(ours, y.detach(), rtol=1e-12, atol=1e-12)
    for gradient, leaf in zip(functional.layer_norm_backward(dy, x, weight, mean, rstd), leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad, rtol=1e-12, atol=1e-12)


def test_large_mean_keeps_the_digits() -> None:
    """float32 sums of x and x^2 would lose all of the variance here."""
    x = (1e4 + np.random.default_rng(1).normal(size=(3, 500))).astype(np.float32)
    y, _, _ = functional.layer_norm_forward(x, eps=0.0)
    truth, _, _ = reference.layer_norm_forward(x.astype(np.float64), eps=0.0)
    np.testing.assert_allclose(y, truth, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("module", [functional, reference])
def test_the_gradients_of_shifted_data_keep_the_digits(module: Any) -> None:
    """Air pressure in pascal: a mean rounded to float32 is off by a thousandth of the deviation."""
    rng = np.random.default_rng(5)
    x = (101325 + rng.normal(size=(40, 16))).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)
    y, mean, rstd = module.layer_norm_forward(x)
    there, *statistics = reference.layer_norm_forward(x.astype(np.float64))
    gradients = module.layer_norm_backward(dy, x, None, mean, rstd)
    truth = reference.layer_norm_backward(dy.astype(np.float64), x.astype(np.float64), None, *statistics)
    for ours, right in zip((y, *gradients), (there, *truth), strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - right).max() <= 4e-7 * np.abs(right).max()


def test_gradients_add_up_and_may_be_left_out() -> None:
    rng = np.random.default_rng(2)
    x, dy = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    _, mean, rstd = functional.layer_norm_forward(x)
    dx, dweight, dbias = functional.layer_norm_backward(dy, x, None, mean, rstd)
    more = np.ones(6)
    assert (_native.layer_norm_backward(dy, x, None, mean, rstd, more, None) == dx).all()
    np.testing.assert_allclose(more, 1 + dweight, rtol=1e-14)
    assert (_native.layer_norm_backward(dy, x, None, mean, rstd, None, None) == dx).all()
    np.testing.assert_allclose(dbias, dy.sum(axis=0), rtol=1e-14)


def test_strided_rows() -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.normal(size=(6, 5, 12)).swapaxes(0, 1)[::2, 1:, 2:9], rng.normal(size=(3, 5, 9))[..., :7]
    plain, same = np.ascontiguousarray(x), np.ascontiguousarray(dy)
    results = functional.layer_norm_forward(x)
    for a, b in zip(results, functional.layer_norm_forward(plain), strict=True):
        assert a.tobytes() == b.tobytes()
    back = functional.layer_norm_backward(dy, x, None, *results[1:])
    for a, b in zip(back, functional.layer_norm_backward(same, plain, None, *results[1:]), strict=True):
        assert a.tobytes() == b.tobytes()


def test_errors() -> None:
    with pytest.raises(ValueError, match="eps must be a number >= 0"):
        functional.layer_norm_forward(np.zeros((2, 3)), eps=-1.0)
    with pytest.raises(ValueError, match="x must be of at least one element a row"):
        functional.layer_norm_forward(np.zeros((2, 0)))


@pytest.mark.parametrize("width", [40, 5000])
def test_same_bits(width: int) -> None:
    rng = np.random.default_rng(4)
    x, dy = (rng.normal(size=(80000 // width, width)).astype(np.float32) for _ in range(2))
    weight, bias = rng.normal(size=(2, width)).astype(np.float32)

    def run() -> Any:
        y, mean, rstd = functional.layer_norm_forward(x, weight, bias)
        return y, mean, rstd, functional.layer_norm_backward(dy, x, weight, mean, rstd)

    assert_same_bits(run)
