"""What the tests of all losses share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from parity import assert_parity, cast

from fusedrnn import reference

Array = NDArray[Any]
REDUCTIONS = ("mean", "sum", "none")
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 5, 16, 17, 40]), min_size=1, max_size=3).map(tuple)


def assert_loss(
    name: str, ours: tuple[Any, Array], pred: Array, target: Array, options: dict[str, Any]
) -> None:
    """Holds (loss, dpred) to the reference under the tolerance rule; a scalar in pred's dtype."""

    def compute(dtype: Any, _: Any) -> dict[str, Array]:
        loss, dpred = getattr(reference, name)(*cast((pred, target), dtype), **cast(options, dtype))
        return {"loss": np.asarray(loss), "dpred": dpred}

    loss, dpred = ours
    if options["reduction"] != "none":
        assert type(loss) is float
        loss = np.asarray(loss, pred.dtype)
    assert_parity({"loss": loss, "dpred": dpred}, compute, pred.dtype.type)


def torch_loss(
    function: Callable[..., torch.Tensor], pred: Array, target: Array, **options: Any
) -> tuple[Array, Array]:
    """Loss and gradient of (the sum of) a torch loss."""
    leaf = torch.from_numpy(pred).requires_grad_()
    tensors = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    loss = function(leaf, torch.from_numpy(target), **tensors)
    loss.sum().backward()
    assert leaf.grad is not None
    return loss.detach().numpy(), leaf.grad.numpy()


def assert_close(ours: tuple[Any, Array], theirs: tuple[Any, Array]) -> None:
    """Within 1e-12 of the largest value."""
    for a, b in zip(ours, theirs, strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.abs(a - b).max() <= 1e-12 * np.abs(b).max()
