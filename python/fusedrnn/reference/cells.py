"""One time step of each cell, forward and backward, for N rows: the mathematics of csrc/cells in NumPy.

``x`` and ``h`` are the input's and the recurrent state's part of the pre-activations, biases included, each
(N, G * H) in PyTorch's gate order; ``state`` and ``carry`` are the previous h and what travels beside it (c
for an LSTM). A tape holds the gates after their activation. ``backward`` returns the gradients of x and h, of
the carry, and what reaches the previous h on a direct path, past the recurrent weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.weight_names import WeightSpec
from fusedrnn.reference.arithmetic import Arithmetic, relu, relu_backward

Array = NDArray[Any]


class Step(NamedTuple):
    """What a step saw, what it made of it, and its tape: (N, H), the last (N, tape_blocks * H)."""

    state: Array
    carry: Array
    new_state: Array
    new_carry: Array
    tape: Array


class StepGradients(NamedTuple):
    """Gradients of one step, (N, G * H) for the first two and (N, H) for the others.

    units has (N, blocks * H), of the values that units have of their own, biases behind them where the cell
    normalises; None where they have none. whole is
    all of the gradient of the new carry, what comes through the new state too; None where there is no carry.
    """

    x: Array
    h: Array
    carry: Array
    direct: Array
    units: Array | None = None
    whole: Array | None = None


def gate_weights(gates: int) -> tuple[WeightSpec, ...]:
    """W and b_ih, R and b_hh, of so many gates."""
    return (
        WeightSpec("weight_ih", "input", gates),
        WeightSpec("weight_hh", "recurrent", gates),
        WeightSpec("bias_ih", "input_bias", gates),
        WeightSpec("bias_hh", "recurrent_bias", gates),
    )


class AnyCell(Protocol):
    """What the time loop asks of any cell.

    units (blocks, H) are the weights of the role "per_unit", one behind the other; most cells have none. A
    cell that normalises adds biases itself, behind that: then x and h come without them, and the last blocks
    of units are b_ih + b_hh.
    """

    family: str  # of cells that share functions
    weights: tuple[WeightSpec, ...]
    tape_blocks: int  # values kept per unit and step
    has_carry: bool  # a second state travels beside h
    normalises: bool  # rows of units

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        """New h, new carry, tape (N, tape_blocks * H)."""
        ...


class Cell(AnyCell, Protocol):
    """What it asks of one all whose gates read the state itself."""

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        """From a step and the gradients of its results."""
        ...


@runtime_checkable
class GatedCell(AnyCell, Protocol):
    """What it asks of one whose last gate reads a gated state: the loop multiplies what `gate` lets through.

    Its `forward` finds the product in the last block of h. In place of `backward` it has two halves, between
    which the loop carries the gradient through that product.
    """

    def gate(self, x: Array, h: Array) -> Array:
        """What the state is multiplied by, (N, H), from x and from h without its last block."""
        ...

    def backward_new(self, step: Step, dh: Array) -> Array:
        """The gradient of the last gate's pre-activation, (N, H)."""
        ...

    def backward_rest(
        self, step: Step, seen: Array, dh: Array, dcarry: Array, dnew: Array, dgated: Array
    ) -> tuple[StepGradients, Array]:
        """All gradients, and that of `seen`, h as products see it, by way of the gate.

        dnew is what `backward_new` returned, dgated the gradient of the gated state.
        """
        ...


class Lstm:
    """i f g o = sigma sigma tanh sigma; c' = f c + i g; h' = o tanh(c')."""

    family = "lstm"
    weights = gate_weights(4)
    tape_blocks = 4
    has_carry = True
    normalises = False

    def __init__(self, m: Arithmetic) -> None:
        self.m = m

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        i, f, g, o = np.split(x + h, 4, axis=1)
        i, f, g, o = self.m.sigmoid(i), self.m.sigmoid(f), self.m.tanh(g), self.m.sigmoid(o)
        c = f * carry + i * g
        return o * self.m.tanh(c), c, np.concatenate([i, f, g, o], axis=1)

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        i, f, g, o = np.split(step.tape, 4, axis=1)
        tanh_c = self.m.tanh(step.new_carry)
        dc = dcarry + dh * o * self.m.tanh_grad(tanh_c)
        da = np.concatenate(
            [
                dc * g * self.m.sigmoid_grad(i),
                dc * step.carry * self.m.sigmoid_grad(f),
                dc * i * self.m.tanh_grad(g),
                dh * tanh_c * self.m.sigmoid_grad(o),
            ],
            axis=1,
        )
        return StepGradients(x=da, h=da, carry=dc * f, direct=np.zeros_like(dh), whole=dc)


class PeepholeLstm:
    """i and f see p c, o sees p c'; else as Lstm. weight_peephole has p_i, p_f, p_o."""

    family = "lstm"
    weights = (*gate_weights(4), WeightSpec("weight_peephole", "per_unit", 3))
    tape_blocks = 4
    has_carry = True
    normalises = False

    def __init__(self, m: Arithmetic) -> None:
        self.m = m

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        a_i, a_f, a_g, a_o = np.split(x + h, 4, axis=1)
        p_i, p_f, p_o = units
        i, f = self.m.sigmoid(a_i + p_i * carry), self.m.sigmoid(a_f + p_f * carry)
        g = self.m.tanh(a_g)
        c = f * carry + i * g
        o = self.m.sigmoid(a_o + p_o * c)
        return o * self.m.tanh(c), c, np.concatenate([i, f, g, o], axis=1)

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        i, f, g, o = np.split(step.tape, 4, axis=1)
        p_i, p_f, p_o = units
        tanh_c = self.m.tanh(step.new_carry)
        d_o = dh * tanh_c * self.m.sigmoid_grad(o)
        dc = dcarry + dh * o * self.m.tanh_grad(tanh_c) + d_o * p_o
        d_i = dc * g * self.m.sigmoid_grad(i)
        d_f = dc * step.carry * self.m.sigmoid_grad(f)
        da = np.concatenate([d_i, d_f, dc * i * self.m.tanh_grad(g), d_o], axis=1)
        return StepGradients(
            x=da,
            h=da,
            carry=dc * f + d_i * p_i + d_f * p_f,
            direct=np.zeros_like(dh),
            units=np.concatenate([d_i * step.carry, d_f * step.carry, d_o * step.new_carry], axis=1),
            whole=dc,
        )


class ProjectedLstm(Lstm):
    """The time loop makes h = W_hr (o tanh(c')) of what `Lstm` calls h', and hands in its gradient."""

    weights = (*gate_weights(4), WeightSpec("weight_hr", "projection", 1))


class LayerNorm:
    """alpha (z - mu) / sigma + beta, sigma^2 the mean of (z - mu)^2 plus eps, row by row (Ba et al. 2016)."""

    eps = 1e-5

    def __init__(self, m: Arithmetic, z: Array, alpha: Array, beta: Array) -> None:
        self.m, self.alpha = m, alpha
        self.centred = z - self.mean(z)
        self.sigma = np.sqrt(self.mean(self.centred * self.centred) + z.dtype.type(self.eps))
        self.normal = self.centred / self.sigma
        self.value = alpha * self.normal + beta

    def mean(self, a: Array) -> Array:
        """Of each row, as a column."""
        mean: Array = self.total(a) / a.dtype.type(a.shape[1])
        return mean

    def total(self, a: Array) -> Array:
        """The sum of each row, as a column."""
        return self.m.add_product(a.dtype.type(0), a, np.ones((a.shape[1], 1), a.dtype))

    def backward(self, dvalue: Array) -> tuple[Array, Array]:
        """Gradients of z and, row by row, of alpha; that of beta is dvalue."""
        dnormal = dvalue * self.alpha
        dsigma = -self.total(dnormal * self.centred) / (self.sigma * self.sigma)
        dcentred = dnormal / self.sigma + dsigma * self.centred / (self.sigma * dvalue.shape[1])
        return dcentred - self.mean(dcentred), dvalue * self.normal


class LayerNormLstm(Lstm):
    """(i f g o) = LN(W x) + LN(R h) + b; c' = f c + i g; h' = o tanh(LN(c')): Ba et al. 2016, (20) to (22).

    The tape has the gates after their activation, W x and R h.
    """

    weights = (
        *gate_weights(4),
        WeightSpec("weight_ln_ih", "per_unit", 4),
        WeightSpec("bias_ln_ih", "per_unit", 4),
        WeightSpec("weight_ln_hh", "per_unit", 4),
        WeightSpec("bias_ln_hh", "per_unit", 4),
        WeightSpec("weight_ln_c", "per_unit", 1),
        WeightSpec("bias_ln_c", "per_unit", 1),
    )
    tape_blocks = 12
    normalises = True

    def of_gates(self, x: Array, h: Array, units: Array) -> tuple[LayerNorm, LayerNorm]:
        """Those of W x and R h."""
        alpha_x, beta_x, alpha_h, beta_h = (a.ravel() for a in np.split(units[:16], 4))
        return LayerNorm(self.m, x, alpha_x, beta_x), LayerNorm(self.m, h, alpha_h, beta_h)

    def of_carry(self, c: Array, units: Array) -> LayerNorm:
        """That of c'."""
        return LayerNorm(self.m, c, units[16], units[17])

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        norm_x, norm_h = self.of_gates(x, h, units)
        i, f, g, o = np.split(norm_x.value + norm_h.value + units[18:].ravel(), 4, axis=1)
        i, f, g, o = self.m.sigmoid(i), self.m.sigmoid(f), self.m.tanh(g), self.m.sigmoid(o)
        c = f * carry + i * g
        return o * self.m.tanh(self.of_carry(c, units).value), c, np.concatenate([i, f, g, o, x, h], axis=1)

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        gates, x, h = np.split(step.tape, 3, axis=1)
        i, f, g, o = np.split(gates, 4, axis=1)
        norm_x, norm_h = self.of_gates(x, h, units)
        norm_c = self.of_carry(step.new_carry, units)
        tanh_c = self.m.tanh(norm_c.value)
        dseen = dh * o * self.m.tanh_grad(tanh_c)
        through, dalpha_c = norm_c.backward(dseen)
        dc = dcarry + through
        da = np.concatenate(
            [
                dc * g * self.m.sigmoid_grad(i),
                dc * step.carry * self.m.sigmoid_grad(f),
                dc * i * self.m.tanh_grad(g),
                dh * tanh_c * self.m.sigmoid_grad(o),
            ],
            axis=1,
        )
        (dx, dalpha_x), (d_h, dalpha_h) = norm_x.backward(da), norm_h.backward(da)
        return StepGradients(
            x=dx,
            h=d_h,
            carry=dc * f,
            direct=np.zeros_like(dh),
            units=np.concatenate([dalpha_x, da, dalpha_h, da, dalpha_c, dseen, da], axis=1),
            whole=dc,
        )


class Gru:
    """r z = sigma sigma; n = tanh(x_n + r q), q = h_n; h' = (1 - z) n + z h."""

    family = "gru"
    weights = gate_weights(3)
    tape_blocks = 4
    has_carry = False
    normalises = False

    def __init__(self, m: Arithmetic) -> None:
        self.m = m

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        x_r, x_z, x_n = np.split(x, 3, axis=1)
        h_r, h_z, q = np.split(h, 3, axis=1)
        r, z = self.m.sigmoid(x_r + h_r), self.m.sigmoid(x_z + h_z)
        n = self.m.tanh(x_n + r * q)
        return (1 - z) * n + z * state, carry, np.concatenate([r, z, n, q], axis=1)

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        r, z, n, q = np.split(step.tape, 4, axis=1)
        dn = dh * (1 - z) * self.m.tanh_grad(n)
        dz = dh * (step.state - n) * self.m.sigmoid_grad(z)
        dr = dn * q * self.m.sigmoid_grad(r)
        return StepGradients(
            x=np.concatenate([dr, dz, dn], axis=1),
            h=np.concatenate([dr, dz, dn * r], axis=1),
            carry=dcarry,
            direct=dh * z,
        )


class GruResetBefore:
    """r z = sigma sigma; n = tanh(x_n + h_n), h_n = R_n (r h) + b_hn; h' = (1 - z) n + z h."""

    family = "gru"
    weights = gate_weights(3)
    tape_blocks = 3
    has_carry = False
    normalises = False

    def __init__(self, m: Arithmetic) -> None:
        self.m = m

    def gate(self, x: Array, h: Array) -> Array:
        H = h.shape[1] // 2
        r: Array = self.m.sigmoid(x[:, :H] + h[:, :H])
        return r

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        a_r, a_z, a_n = np.split(x + h, 3, axis=1)
        r, z, n = self.m.sigmoid(a_r), self.m.sigmoid(a_z), self.m.tanh(a_n)
        return (1 - z) * n + z * state, carry, np.concatenate([r, z, n], axis=1)

    def backward_new(self, step: Step, dh: Array) -> Array:
        _, z, n = np.split(step.tape, 3, axis=1)
        dn: Array = dh * (1 - z) * self.m.tanh_grad(n)
        return dn

    def backward_rest(
        self, step: Step, seen: Array, dh: Array, dcarry: Array, dnew: Array, dgated: Array
    ) -> tuple[StepGradients, Array]:
        r, z, n = np.split(step.tape, 3, axis=1)
        dr = dgated * seen * self.m.sigmoid_grad(r)
        dz = dh * (step.state - n) * self.m.sigmoid_grad(z)
        da = np.concatenate([dr, dz, dnew], axis=1)
        return StepGradients(x=da, h=da, carry=dcarry, direct=dh * z), dgated * r


class Elman:
    """h' = tanh or relu of x + h."""

    family = "rnn"
    weights = gate_weights(1)
    tape_blocks = 0
    has_carry = False
    normalises = False
    activation: Callable[[Array], Array]
    activation_backward: Callable[[Array, Array], Array]  # from the activation's value and its gradient

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        return self.activation(x + h), carry, np.empty((len(x), 0), x.dtype)

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        da = self.activation_backward(step.new_state, dh)
        return StepGradients(x=da, h=da, carry=dcarry, direct=np.zeros_like(dh))


class ElmanTanh(Elman):
    """With tanh."""

    def __init__(self, m: Arithmetic) -> None:
        self.activation = m.tanh
        self.activation_backward = lambda y, dy: dy * m.tanh_grad(y)


class ElmanRelu(Elman):
    """With relu, which no arithmetic has another of."""

    def __init__(self, m: Arithmetic) -> None:
        self.activation, self.activation_backward = relu, relu_backward


# By their names in the native module.
CELLS: dict[str, type[Lstm | PeepholeLstm | LayerNormLstm | Gru | GruResetBefore | ElmanTanh | ElmanRelu]] = {
    "lstm": Lstm,
    "gru": Gru,
    "rnn_tanh": ElmanTanh,
    "rnn_relu": ElmanRelu,
    "lstm_peephole": PeepholeLstm,
    "gru_reset_before": GruResetBefore,
    "lstm_projected": ProjectedLstm,
    "lstm_layer_norm": LayerNormLstm,
}
