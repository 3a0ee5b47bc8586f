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

from fusedrnn._core import checks, keywords, torch_hints
from fusedrnn.functional.losses import (
    LOSSES,
    LossSpec,
    as_weights,
    binary_cross_entropy,
    cross_entropy,
    huber,
    l1,
    mse,
    nll,
    smooth_l1,
    smooth_l1_spec,
)
from fusedrnn.functional.losses import evaluate as evaluate  # for training steps

__all__ = [
    "L1",
    "MSE",
    "NLL",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Huber",
    "Loss",
    "SmoothL1",
    "binary_cross_entropy",
    "cross_entropy",
    "huber",
    "l1",
    "mse",
    "nll",
    "smooth_l1",
]

Array = NDArray[Any]


class Loss:
    """A loss with its options: the base of `MSE`, `CrossEntropy` and all others here.

    Called with ``(pred, target, mask=None)`` it returns the loss and its gradient, as the functions do, and
    `train_step` takes it for a loss. Two of them are equal where all options are. Options do not change, and
    weights are copied. pred has any leading axes; `fusedrnn.functional` says which shape target and mask
    have.

    Attributes:
        spec: the options as native calls take them.

    Raises:
        TypeError, ValueError: an option is wrong where a loss is made; a dtype, shape, stride or class where
            it is called. The message names the argument.
    """

    _function: ClassVar[str]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        keywords.refuse(cls, kwargs, torch_hints.LOSS_OPTIONS, Loss)
        return super().__new__(cls)

    def __init__(self) -> None:
        raise TypeError(
            "Loss is what all losses have in common: make one of them, as MSE() or CrossEntropy()"
        )

    def _set(self, **options: Any) -> None:
        self._options = options
        self.spec = self._made(options)

    def _made(self, options: dict[str, Any]) -> LossSpec:
        return LossSpec(self._function, **options)

    def __call__(self, pred: Array, target: Array, mask: Array | None = None) -> tuple[Any, Array]:
        """The loss, and its gradient like pred.

        Raises:
            TypeError: a dtype is wrong; ValueError: a shape, stride or class is. The message names the
                argument.
        """
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
        names = LOSSES[self._function]
        called = {"weight": names.weights, "threshold": names.threshold}
        options = ", ".join(f"{called.get(name) or name}={value!r}" for name, value in self._options.items())
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


class L1(Loss):
    """Mean absolute error, as `l1`; PyTorch's ``L1Loss``.

    Args:
        ignore_index: entries whose target equals it do not count.
        reduction: "mean", "sum" or "none".

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> fr.losses.L1()(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]]))
        (1.0, array([[0. , 0.5]]))
    """

    _function = "l1"

    def __init__(self, *, ignore_index: int | None = None, reduction: str = "mean") -> None:
        self._set(ignore_index=ignore_index, reduction=reduction)


class Huber(Loss):
    """Huber's loss (1964), as `huber`; PyTorch's ``HuberLoss``.

    Args:
        delta: the error, finite and greater than 0, from which on the loss is a line.
        ignore_index: entries whose target equals it do not count.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: an option is out of its range; TypeError: it is no number.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> fr.losses.Huber(delta=2.0, reduction="sum")(np.array([[1.0, 3.0]]), np.zeros((1, 2)))
        (4.5, array([[1., 2.]]))
    """

    _function = "huber"

    def __init__(
        self, delta: float = 1.0, *, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        self._set(threshold=checks.positive("delta", delta), ignore_index=ignore_index, reduction=reduction)


class SmoothL1(Loss):
    """Smooth absolute error (Girshick 2015), as `smooth_l1`; PyTorch's ``SmoothL1Loss``.

    Args:
        beta: the error, finite and >= 0, from which on the loss is a line; with 0 it is `L1`.
        ignore_index: entries whose target equals it do not count.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: an option is out of its range; TypeError: it is no number.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> fr.losses.SmoothL1(beta=2.0, reduction="sum")(np.array([[1.0, 3.0]]), np.zeros((1, 2)))
        (2.25, array([[0.5, 1. ]]))
    """

    _function = "smooth_l1"

    def __init__(
        self, beta: float = 1.0, *, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        self._set(threshold=checks.real("beta", beta), ignore_index=ignore_index, reduction=reduction)

    def _made(self, options: dict[str, Any]) -> LossSpec:
        return smooth_l1_spec(options["threshold"], options["reduction"], options["ignore_index"])


class NLL(Loss):
    """Negative log-likelihood of log-probabilities, as `nll`; PyTorch's ``NLLLoss``.

    Args:
        weight: a number >= 0 for each class, or None.
        ignore_index: rows of this class do not count.
        reduction: "mean", "sum" or "none". A mean divides by the sum of the targets' weights.

    Raises:
        ValueError: an option is out of its range; TypeError: it is no number.

    Example:
        >>> import numpy as np, fusedrnn as fr
        >>> loss, dpred = fr.losses.NLL()(np.log([[0.5, 0.5]]), np.array([1]))
        >>> round(loss, 4), dpred
        (0.6931, array([[ 0., -1.]]))
    """

    _function = "nll"

    def __init__(
        self, weight: Any = None, *, ignore_index: int | None = None, reduction: str = "mean"
    ) -> None:
        self._set(weight=as_weights("weight", weight), ignore_index=ignore_index, reduction=reduction)


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
