"""How the reference computes: its activations and its sums, as a policy the cells are written over.

The kernels have one arithmetic. The reference needs three: NumPy's (the default), strictly sequential sums
in a drawn order (the tolerance rule asks how far rounding alone may move a result), and hard sigmoids (a
public set of numbers was made with them). Everything here is analytic where it matters, so complex numbers
go through: comparisons look at the real part only, and nothing takes an absolute value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusedrnn.reference.rounding import round_operand, spacing

Array = NDArray[Any]


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)); a large -x overflows to infinity and gives the right 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def sigmoid_grad(y: Array) -> Array:
    """Derivative of `sigmoid`, from its value y."""
    dx: Array = y * (1 - y)
    return dx


def tanh_grad(y: Array) -> Array:
    """Derivative of tanh, from its value y."""
    return 1 - y * y


def relu(x: Array) -> Array:
    """x where its real part is positive (or NaN), else 0."""
    return np.where(x.real <= 0, x.dtype.type(0), x)


def relu_backward(y: Array, dy: Array) -> Array:
    """Gradient of `relu`, from its value y: 0 where y is 0, whatever dy is there."""
    dx: Array = np.where(y.real <= 0, dy.dtype.type(0), dy)
    return dx


def hard_sigmoid(x: Array) -> Array:
    """0.2 x + 0.5, clamped to [0, 1] (the form of Keras 2 and TensorFlow.js)."""
    y: Array = np.clip(x * x.dtype.type(0.2) + x.dtype.type(0.5), 0, 1)
    return y


def hard_sigmoid_grad(y: Array) -> Array:
    """Derivative of `hard_sigmoid`, from its value y."""
    dx: Array = np.where((y.real > 0) & (y.real < 1), y.dtype.type(0.2), y.dtype.type(0))
    return dx


def add_product(base: Array, a: Array, b: Array) -> Array:
    """base + a b, in whatever order NumPy's product takes."""
    total: Array = base + a @ b
    return total


class SequentialSums:
    """`add_product` as a strictly sequential sum: one term after the other, in an order drawn anew each time.

    Permuting the hidden units and the rows of a batch changes a network's results in no other way than this.
    """

    _BLOCK = 1 << 18  # values of one np.add.accumulate, so that it stays in cache

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, base: Array, a: Array, b: Array) -> Array:
        total = np.broadcast_to(base, (a.shape[0], b.shape[1]))
        order = self._random.permutation(a.shape[1])
        step = max(1, self._BLOCK // max(1, total.size))
        for start in range(0, len(order), step):
            k = order[start : start + step]
            terms = a[:, k].T[:, :, None] * b[k][:, None, :]
            # accumulate, not reduce: only the former promises an order
            total = np.add.accumulate(np.concatenate([total[None], terms]), axis=0)[-1]
        return total


class Arithmetic(NamedTuple):
    """Activations with their derivatives from the value, base + a b for a (N, K), b (K, M), and roundings.

    ``operand`` rounds what a step computed (a state, a gradient of pre-activations) to a precision's format,
    before a product reads it.
    """

    sigmoid: Callable[[Array], Array] = sigmoid
    sigmoid_grad: Callable[[Array], Array] = sigmoid_grad
    tanh: Callable[[Array], Array] = np.tanh
    tanh_grad: Callable[[Array], Array] = tanh_grad
    add_product: Callable[[Array, Array, Array], Array] = add_product
    operand: Callable[[Array, str], Array] = round_operand


NUMPY = Arithmetic()
HARD_SIGMOID = Arithmetic(sigmoid=hard_sigmoid, sigmoid_grad=hard_sigmoid_grad)


class Nudge:
    """Moves every value by up to one rounding error of its dtype, at random."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, x: Array) -> Array:
        errors = self._random.uniform(-1, 1, x.shape) * np.finfo(x.dtype).eps
        y: Array = x * (1 + errors).astype(x.dtype)
        return y

    def operand(self, x: Array, precision: str) -> Array:
        """`round_operand` after a move by up to the distance of the format's numbers."""
        if precision == "ieee":
            return x
        errors = self._random.uniform(-1, 1, x.shape).astype(x.dtype) * spacing(x, precision)
        return round_operand(np.where(x == 0, x, x + errors), precision)


def sequential(seed: int) -> Arithmetic:
    """Strictly sequential sums in orders drawn from seed, and one more rounding error per sum and activation.

    A sum of one or two terms has no other order, and no two libraries round exp alike: without the nudges,
    runs with different seeds would all make the same error where arrays are small, and tell little of it.
    So would operands rounded to a narrow format: they too are a rounding error off.
    """
    sums, nudge = SequentialSums(seed), Nudge(seed)
    return Arithmetic(
        sigmoid=lambda x: nudge(sigmoid(x)),
        tanh=lambda x: nudge(np.tanh(x)),
        add_product=lambda base, a, b: nudge(sums(base, a, b)),
        operand=nudge.operand,
    )
