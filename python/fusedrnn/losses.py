"""Losses with their gradients: what `Module.backward` starts from.

    loss, dpred = fr.losses.cross_entropy(model(x), target)
    model.backward(dpred)

The functions are those of `fusedrnn.functional`, whose documentation has shapes, masks and reductions. A loss
with options of its own is an object, for `Sequential.train_step` above all:

    loss = fr.losses.CrossEntropy(weight=[1.0, 5.0], label_smoothing=0.1)
    model.train_step(x, target, loss, optimizer)
    value, dpred = loss(model(x), target, mask=mask)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from fusedrnn._core import torch_hints
from fusedrnn.functional.losses import LossSpec, as_weights, binary_cross_entropy, cross_entropy, mse
from fusedrnn.functional.losses import evaluate as evaluate  # for training steps

__all__ = [
    "MSE",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Loss",
    "binary_cross_entropy",
    "cross_entropy",
    "mse",
]

Array = NDArray[Any]


class Loss:
    """A loss with its options: the base of `MSE`, `CrossEntropy` and `BinaryCrossEntropy`.

    Called with ``(pred, target, mask=None)`` it returns the loss and its gradient, as the functions do, and
    `train_step` takes it for a loss. Two of them are equal where all options are. Options do not change, and
    weights are copied.

    Attributes:
        spec: the options as native calls take them.
    """

    _function: ClassVar[str]

    def __init__(self) -> None:
        raise TypeError(
            "Loss is what all losses have in common: make one of them, as MSE() or CrossEntropy()"
        )

    def _set(self, **options: Any) -> None:
        self._options = options
        self.spec = LossSpec(self._function, **options)

    def __call__(self, pred: Array, target: Array, mask: Array | None = None) -> tuple[Any, Array]:
        """The loss and its gradient; see `fusedrnn.functional` for shapes and errors."""
        return evaluate(self.spec, pred, target, mask)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loss) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __getstate__(self) -> dict[str, Any]:
        return self._options

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(**state)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options.items())
        return f"{type(self).__name__}({options})"


class MSE(Loss):
    """Mean squared error, as `mse`.

    Args:
        ignore_index: entries whose target equals it do not count.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> fr.losses.MSE()(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
        (2.0, array([[0., 2.]]))
    """

    _function = "mse"

    def __init__(self, *, ignore_index: int | None = None, reduction: str = "mean") -> None:
        self._set(ignore_index=ignore_index, reduction=reduction)


class CrossEntropy(Loss):
    """Softmax cross-entropy of logits, as `cross_entropy`; PyTorch's ``CrossEntropyLoss``.

    Args:
        weight: a number >= 0 for each class, or None.
        label_smoothing: the share of the target, in [0, 1], that goes to all classes alike.
        ignore_index: rows of this class do not count.
        reduction: "mean", "sum" or "none". A mean over classes divides by the sum of the targets' weights;
            where that is 0 loss and gradient are 0, not NaN as PyTorch's.

    Raises:
        ValueError: an option is out of its range; TypeError: it is no number.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> loss = fr.losses.CrossEntropy(weight=[1.0, 3.0])
        >>> value, dpred = loss(np.zeros((2, 2)), np.array([0, 1]))
        >>> round(value, 4), dpred
        (0.6931, array([[-0.125,  0.125],
               [ 0.375, -0.375]]))
    """

    _function = "cross_entropy"

    def __init__(
        self,
        weight: Any = None,
        *,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        reduction: str = "mean",
    ) -> None:
        self._set(
            weight=as_weights("weight", weight),
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            reduction=reduction,
        )


class BinaryCrossEntropy(Loss):
    """Binary cross-entropy of logits, as `binary_cross_entropy`; PyTorch's ``BCEWithLogitsLoss``.

    Args:
        pos_weight: what the loss of a positive target is multiplied by: a number >= 0, one for each place of
            the last axis, or None.
        ignore_index: entries whose target equals it do not count.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: an option is out of its range; TypeError: it is no number.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> fr.losses.BinaryCrossEntropy(pos_weight=3.0)(np.zeros((1, 2)), np.array([[0.0, 1.0]]))[1]
        array([[ 0.25, -0.75]])
    """

    _function = "binary_cross_entropy"

    def __init__(
        self, pos_weight: Any = None, *, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        self._set(weight=as_weights("pos_weight", pos_weight), ignore_index=ignore_index, reduction=reduction)


if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.losses'", name, torch_hints.LOSSES)
