"""Clipping by norm and by value, on arrays, on parameters and on the way into an update."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from bits import assert_same_bits
from numpy.typing import NDArray

from fusedrnn import functional, optim, reference
from fusedrnn._core.parameter import Parameter

pytestmark = pytest.mark.parity

Array = NDArray[Any]


def arrays(dtype: Any = np.float64, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(dtype) for s in ((3, 5), (5000,), (1,), (0, 4))]


def parameters(grads: list[Array]) -> list[Parameter]:
    made = [Parameter(np.zeros_like(g)) for g in grads]
    for p, g in zip(made, grads, strict=True):
        p.grad = g
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e9, math.inf])
def test_by_norm_against_reference(dtype: Any, max_norm: float) -> None:
    ours, theirs = arrays(dtype), arrays(dtype)
    norm = functional.clip_by_global_norm_(ours, max_norm)
    np.testing.assert_allclose(norm, reference.clip_by_global_norm_(theirs, max_norm), rtol=1e-14)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=4 * np.finfo(dtype).eps)
    if max_norm >= 1e9:
        assert all(np.array_equal(a, b) for a, b in zip(ours, arrays(dtype), strict=True))


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e9])
def test_clip_grad_norm_like_torch(max_norm: float) -> None:
    params = parameters(arrays())
    tensors = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in params]
    for tensor, p in zip(tensors, params, strict=True):
        tensor.grad = torch.from_numpy(p.grad.copy())
    norm = optim.clip_grad_norm_([*params, params[0]], max_norm)
    np.testing.assert_allclose(norm, torch.nn.utils.clip_grad_norm_(tensors, max_norm), rtol=1e-14)
    for p, tensor in zip(params, tensors, strict=True):
        np.testing.assert_allclose(p.grad, tensor.grad, rtol=1e-14)


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e9])
def test_clip_grad_value_like_torch(limit: float) -> None:
    params = parameters(arrays())
    params[1].grad[7] = math.nan
    params[1].grad[8] = -math.inf
    tensors = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in params]
    for tensor, p in zip(tensors, params, strict=True):
        tensor.grad = torch.from_numpy(p.grad.copy())
    optim.clip_grad_value_(params, limit)
    torch.nn.utils.clip_grad_value_(tensors, limit)
    for p, tensor in zip(params, tensors, strict=True):
        np.testing.assert_array_equal(p.grad, tensor.grad)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_norm_that_is_not_finite(bad: float) -> None:
    grads = [np.array([1.0, bad]), np.array([2.0])]
    params = parameters(grads)
    with pytest.raises(RuntimeError, match=r"norm is (inf|nan): nothing was clipped"):
        optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert params[0].grad[0] == 1.0
    norm = optim.clip_grad_norm_(params, 1.0)
    assert not math.isfinite(norm)
    # as in PyTorch: max_norm / inf is 0, and 0 times infinity NaN; a NaN norm makes all NaN
    expected = [[0.0, math.nan], [0.0]] if math.isinf(bad) else [[math.nan, math.nan], [math.nan]]
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_array_equal(p.grad, e)


@pytest.mark.parametrize("dtypes", [[np.float64] * 4, [np.float64, np.float32] * 2], ids=["one", "mixed"])
def test_clipping_in_the_step_is_clipping_before_it(dtypes: list[Any]) -> None:
    """The same bits of norm and parameters, in whatever order parameters of both types come."""
    for seed in range(30):
        grads = [g.astype(dtype) for g, dtype in zip(arrays(seed=seed), dtypes, strict=True)]
        a, b = parameters(grads), parameters(grads)
        inside, before = optim.SGD(a, lr=1.0), optim.SGD(b, lr=1.0)
        norm = inside.step(clip_norm=2.0)
        assert norm == optim.clip_grad_norm_(b, 2.0)
        before.step()
        for p, q, g in zip(a, b, grads, strict=True):
            assert p.data.tobytes() == q.data.tobytes()
            assert p.grad.tobytes() == g.tobytes()
        moved = functional.global_norm([p.data for p in a])
        np.testing.assert_allclose(moved, 2.0, rtol=1e-6)


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_errors(bad: float) -> None:
    params = parameters(arrays())
    with pytest.raises(ValueError, match="max_norm must be a number >= 0"):
        optim.clip_grad_norm_(params, bad)
    with pytest.raises(ValueError, match="clip_value must be a number >= 0"):
        optim.clip_grad_value_(params, bad)
    with pytest.raises(ValueError, match="limit must be a number >= 0"):
        functional.clip_by_value_(arrays(), bad)
    fixed = np.ones(3)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match=r"arrays\[0\] must be writable"):
        functional.clip_by_global_norm_([fixed], 1.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits(dtype: Any) -> None:
    def run() -> list[Array]:
        rng = np.random.default_rng(0)
        ours = [rng.normal(size=n).astype(dtype) for n in (17, 4097, 270001)]
        functional.clip_by_global_norm_(ours, 3.0)
        functional.clip_by_value_(ours, 0.01)
        return ours

    assert_same_bits(run)
