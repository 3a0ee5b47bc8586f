"""One time step of each cell, forward and backward, for N rows: the mathematics of csrc/cells in NumPy.

``x`` and ``h`` are the input's and the recurrent state's part of the pre-activations, biases included, each
(N, G * H) in PyTorch's gate order; ``state`` and ``carry`` are the previous h and what travels beside it (c
for an LSTM). A tape holds the gates after their activation. ``backward`` returns the gradients of x and h, of
the carry, and what reaches the previous h on a direct path, past the recurrent weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.weight_names import WeightSpec
from fusedrnn.reference.arithmetic import Arithmetic, relu, relu_grad

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

    units has (N, blocks * H), of the values that units have of their own; None where they have none.
    """

    x: Array
    h: Array
    carry: Array
    direct: Array
    units: Array | None = None


def gate_weights(gates: int) -> tuple[WeightSpec, ...]:
    """W and b_ih, R and b_hh, of so many gates."""
    return (
        WeightSpec("weight_ih", "input", gates),
        WeightSpec("weight_hh", "recurrent", gates),
        WeightSpec("bias_ih", "input_bias", gates),
        WeightSpec("bias_hh", "recurrent_bias", gates),
    )


class Cell(Protocol):
    """What the time loop asks of a cell.

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

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        """From a step and the gradients of its results."""
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
        return StepGradients(x=da, h=da, carry=dc * f, direct=np.zeros_like(dh))


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
        )


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


class Elman:
    """h' = tanh or relu of x + h."""

    family = "rnn"
    weights = gate_weights(1)
    tape_blocks = 0
    has_carry = False
    activation: Callable[[Array], Array]
    activation_grad: Callable[[Array], Array]

    def forward(
        self, x: Array, h: Array, units: Array, state: Array, carry: Array
    ) -> tuple[Array, Array, Array]:
        return self.activation(x + h), carry, np.empty((len(x), 0), x.dtype)

    def backward(self, step: Step, units: Array, dh: Array, dcarry: Array) -> StepGradients:
        da = dh * self.activation_grad(step.new_state)
        return StepGradients(x=da, h=da, carry=dcarry, direct=np.zeros_like(dh))


class ElmanTanh(Elman):
    """With tanh."""

    def __init__(self, m: Arithmetic) -> None:
        self.activation, self.activation_grad = m.tanh, m.tanh_grad


class ElmanRelu(Elman):
    """With relu, which no arithmetic has another of."""

    def __init__(self, m: Arithmetic) -> None:
        self.activation, self.activation_grad = relu, relu_grad


# By their names in the native module.
CELLS: dict[str, type[Lstm | PeepholeLstm | Gru | ElmanTanh | ElmanRelu]] = {
    "lstm": Lstm,
    "gru": Gru,
    "rnn_tanh": ElmanTanh,
    "rnn_relu": ElmanRelu,
    "lstm_peephole": PeepholeLstm,
}
