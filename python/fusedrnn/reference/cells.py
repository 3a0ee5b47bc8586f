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

    units has (N, blocks * H), of the values that units have of their own; None where they have none. whole is
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

    units (blocks, H) are the weights of the role "per_unit", one behind the other; most cells have none.
    """

    family: str  # of cells that share functions
    weights: tuple[WeightSpec, ...]
    tape_blocks: int  # values kept per unit and step
    has_carry: bool  # a second state travels beside h

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


class Gru:
    """r z = sigma sigma; n = tanh(x_n + r q), q = h_n; h' = (1 - z) n + z h."""

    family = "gru"
    weights = gate_weights(3)
    tape_blocks = 4
    has_carry = False

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
CELLS: dict[str, type[Lstm | PeepholeLstm | Gru | GruResetBefore | ElmanTanh | ElmanRelu]] = {
    "lstm": Lstm,
    "gru": Gru,
    "rnn_tanh": ElmanTanh,
    "rnn_relu": ElmanRelu,
    "lstm_peephole": PeepholeLstm,
    "gru_reset_before": GruResetBefore,
    "lstm_projected": ProjectedLstm,
}
