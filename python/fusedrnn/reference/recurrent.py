"""Recurrent stacks in NumPy: the same functions as `fusedrnn.functional.recurrent`, written to be read.

One loop over layers and directions, one over time steps, whole batches inside. Any float or complex dtype.
Rows past their length take no part in a step, so what x and dy hold there is never read. Each function takes
one argument its native twin has not: ``arithmetic``, see `fusedrnn.reference.arithmetic`.

Weights packed in a precision other than "ieee" make matrix products read operands rounded to its format: x,
weights, dropout's results, states and gradients of pre-activations, which biases' gradients sum up. All else
(sums, gates, c, the path of h past the products) keeps the dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.reference.cells import CELLS, GatedCell, Step, StepGradients
from fusedrnn.reference.masks import shared, zoned
from fusedrnn.reference.packing import PackedWeights
from fusedrnn.reference.rounding import round_operand
from fusedrnn.reference.stack_call import Options, StackCall, Tape

Array = NDArray[Any]


def _check(name: str, array: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype} like x, it is {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, it has {array.shape}")
    return array


def _state(name: str, array: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A state or the gradient of one, checked; zeros for None."""
    return np.zeros(shape, dtype) if array is None else _check(name, array, shape, dtype)


def forward(
    kind: str,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    weights: Mapping[str, Array] | PackedWeights,
    options: Options,
) -> tuple[Array, Array, Array, Tape | None]:
    if not isinstance(weights, PackedWeights):
        drops = options.weight_dropout if options.train else 0.0
        packed = PackedWeights(weights, cell=kind, weight_dropout=drops, dropout_key=options.dropout_key)
    elif options.weight_dropout and options.train:
        raise ValueError(
            f"weight_dropout must be 0 with packed weights, it is {options.weight_dropout}: "
            "give it to pack_weights"
        )
    else:
        packed = weights
    lengths, resets, batch_first = options.lengths, options.resets, options.batch_first
    if x.ndim != 3:
        raise ValueError(f"x must have 3 axes, it has {x.ndim}")
    if lengths is not None and not np.issubdtype(lengths.dtype, np.integer):
        raise TypeError(f"lengths must be integers, it is {lengths.dtype}")
    if resets is not None:
        _check("resets", resets, x.shape[:2], np.dtype(bool))
        resets = resets.swapaxes(0, 1) if batch_first else resets
    x = x.swapaxes(0, 1) if batch_first else x
    T, B, width = x.shape
    lengths = np.full(B, T) if lengths is None else _check("lengths", lengths, (B,), lengths.dtype)
    if ((lengths < 0) | (lengths > T)).any():
        raise ValueError(f"lengths must be in [0, {T}], they are {lengths}")

    cell = CELLS[kind](options.arithmetic)
    state = packed.arrays["weight_hh_l0"].shape[-1]
    hidden = packed.arrays["weight_hr_l0"].shape[-1] if "weight_hr_l0" in packed.arrays else state
    if "weight_hr_l0" in packed.arrays and not 1 <= state < hidden:
        raise ValueError(
            f"proj_size must be at least 1 and less than hidden_size, {hidden}, it is {state}: "
            "it is the columns of weight_hh_l0"
        )
    L, D, _ = packed.shape
    for name, shape in packed.shape.shapes(cell.weights, width, hidden, state).items():
        _check(name, packed.arrays[name], shape, x.dtype)

    call = StackCall(
        cell=cell,
        weights=packed,
        x=x,
        lengths=lengths,
        resets=np.zeros((T, B), bool) if resets is None else resets,
        batch_first=batch_first,
        masks=options.masks(cell.has_carry),
        hidden=hidden,
        state=state,
        arithmetic=options.arithmetic,
    )
    tape = Tape(call)
    hn = _state("h0", h0, (L * D, B, state), x.dtype).copy()
    cn = _state("c0", c0, (L * D, B, hidden), x.dtype).copy()

    y = x
    for layer in range(L):
        if layer == 0:
            tape.inputs.append(round_operand(x, packed.precision))
        else:
            below = call.operand(y)
            dropped = call.masks.drop_input(layer, below)
            tape.inputs.append(below if dropped is below else call.operand(dropped))
        y = np.zeros((T, B, D * state), x.dtype)
        for d in range(D):
            index = layer * D + d
            _forward_layer(tape, layer, d, hn[index], cn[index])
            y[:, :, d * state : (d + 1) * state] = tape.new_states[index]
    y = np.ascontiguousarray(y.swapaxes(0, 1)) if batch_first else y
    return y, hn, cn, tape if options.train else None


def _forward_layer(tape: Tape, layer: int, direction: int, h: Array, c: Array) -> None:
    """One layer and direction over all steps; h (B, P), c (B, H), initial states, become the final ones."""
    call = tape.call
    weight_ih, weight_hh, bias_ih, bias_hh, units, projection, _ = call.layer_weights(layer, direction)
    index = layer * call.weights.shape.num_directions + direction
    product, zero, open_rows = call.product, h.dtype.type(0), call.open_rows
    for t in call.steps(direction):
        rows = call.rows(t)
        cut = call.cut(direction, t, rows)
        state, carry = np.where(cut, zero, h[rows]), np.where(cut, zero, c[rows])
        keep_c, keep_h = call.masks.keep(index, t, rows, (call.hidden, call.state), h.dtype)
        x_part = product(zero, tape.inputs[layer][t, rows], weight_ih.T) + bias_ih
        seen = call.dropped(index, rows, state)
        operand = call.operand(seen)
        h_part = product(zero, operand, weight_hh[:open_rows].T) + bias_hh[:open_rows]
        if isinstance(call.cell, GatedCell):
            gated = call.operand(call.cell.gate(x_part, h_part) * seen)
            last = product(zero, gated, weight_hh[open_rows:].T) + bias_hh[open_rows:]
            h_part = np.concatenate([h_part, last], axis=1)
            tape.gated_operands[index, t, rows] = gated
        made, new_c, tape.tapes[index, t, rows] = call.cell.forward(x_part, h_part, units, state, carry)
        new_h = made if projection is None else product(zero, call.operand(made), projection.T)
        h[rows], c[rows] = zoned(keep_h, new_h, state), zoned(keep_c, new_c, carry)
        tape.states[index, t, rows], tape.carries[index, t, rows] = state, carry
        tape.operands[index, t, rows] = operand
        tape.new_states[index, t, rows], tape.new_carries[index, t, rows] = h[rows], c[rows]
        tape.made_states[index, t, rows], tape.made_carries[index, t, rows] = made, new_c


def backward(
    tape: Tape,
    dy: Array | None,
    dhn: Array | None,
    dcn: Array | None,
    dweights: Mapping[str, Array] | None,
    need_dx: bool,
) -> tuple[Array | None, Array, Array, dict[str, Array], dict[str, Array]]:
    call = tape.call
    (T, B, _), H, P, dtype = call.x.shape, call.hidden, call.state, call.x.dtype
    L, D, _ = call.weights.shape
    dh0 = _state("dhn", dhn, (L * D, B, P), dtype).copy()
    dc0 = _state("dcn", dcn, (L * D, B, H), dtype).copy()
    if dy is not None:
        _check("dy", dy, (B, T, D * P) if call.batch_first else (T, B, D * P), dtype)
        dy = dy.swapaxes(0, 1) if call.batch_first else dy
    else:
        dy = np.zeros((T, B, D * P), dtype)
    if dweights is None:
        dweights = {name: np.zeros_like(a) for name, a in call.weights.arrays.items()}
    for name, array in call.weights.arrays.items():
        _check(f"dweights[{name!r}]", dweights[name], array.shape, dtype)

    squares = np.zeros((2, L, D, T), np.promote_types(dy.real.dtype, np.float64))
    for layer in reversed(range(L)):
        dx = np.zeros(tape.inputs[layer].shape, dtype)
        for d in range(D):
            index = layer * D + d
            own = dy[:, :, d * P : (d + 1) * P]
            _backward_layer(tape, layer, d, own, dh0[index], dc0[index], dx, dweights, squares[:, layer, d])
        dy = call.masks.drop_input(layer, dx)
    flow = dict(zip("hc" if call.cell.has_carry else "h", np.sqrt(squares), strict=False))
    if not need_dx:
        return None, dh0, dc0, dict(dweights), flow
    dx = np.ascontiguousarray(dy.swapaxes(0, 1)) if call.batch_first else dy
    return dx, dh0, dc0, dict(dweights), flow


def _backward_layer(
    tape: Tape,
    layer: int,
    direction: int,
    dy: Array,
    dh: Array,
    dc: Array,
    dx: Array,
    dweights: Mapping[str, Array],
    squares: Array,
) -> None:
    """One layer and direction backwards; dh (B, P), dc (B, H) become the initial states', dx is added to.

    squares (2, T) become sums of squares of the whole gradients of h and c.
    """
    call = tape.call
    weight_ih, weight_hh, _, _, units, projection, own = call.layer_weights(layer, direction)
    suffix = f"l{layer}" + ("_reverse" if direction else "")
    index = layer * call.weights.shape.num_directions + direction
    product, column_sum, zero = call.product, call.arithmetic.add_product, dh.dtype.type(0)
    d_ih, d_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
    open_rows = call.open_rows
    db_ih, db_hh = (np.zeros((1, len(weight_ih)), dh.dtype) for _ in range(2))
    d_units = np.zeros((1, units.size), dh.dtype)
    d_hr = np.zeros_like(weight_hh[:0] if projection is None else projection)
    for t in call.steps(1 - direction):
        rows = call.rows(t)
        at = index, t, rows
        step = Step(
            tape.states[at], tape.carries[at], tape.made_states[at], tape.made_carries[at], tape.tapes[at]
        )
        keep_c, keep_h = call.masks.keep(index, t, rows, (call.hidden, call.state), dh.dtype)
        whole = dh[rows] + dy[t, rows]
        dh_made, dh_kept = shared(keep_h, whole)
        dc_made, dc_kept = shared(keep_c, dc[rows])
        if projection is not None:
            projected = call.operand(dh_made)
            d_hr = product(d_hr, projected.T, call.operand(step.new_state))
            dh_made = product(zero, projected, projection)
        grads, through_gate = _cell_backward(call, step, index, rows, weight_hh, units, dh_made, dc_made)
        direct = grads.direct if projection is None else zero  # a cell with a projection has no such path
        squares[0, t] = _square_sum(whole)
        if grads.whole is not None:
            squares[1, t] = _square_sum(grads.whole + dc_kept)
        x_grad, h_grad = call.operand(grads.x), call.operand(grads.h)
        dx[t, rows] += product(zero, x_grad, weight_ih)
        cut = call.cut(direction, t, rows)
        through_product = product(zero, h_grad[:, :open_rows], weight_hh[:open_rows])
        through = call.dropped(index, rows, through_product + through_gate)
        dh[rows] = np.where(cut, zero, through + direct + dh_kept)
        dc[rows] = np.where(cut, zero, grads.carry + dc_kept)
        ones = np.ones((1, len(rows)), dh.dtype)
        d_ih = product(d_ih, x_grad.T, tape.inputs[layer][t, rows])
        d_hh[:open_rows] = product(d_hh[:open_rows], h_grad[:, :open_rows].T, tape.operands[at])
        if open_rows < len(d_hh):
            gated = tape.gated_operands[at]
            d_hh[open_rows:] = product(d_hh[open_rows:], h_grad[:, open_rows:].T, gated)
        db_ih = column_sum(db_ih, ones, x_grad)
        db_hh = column_sum(db_hh, ones, h_grad)
        if grads.units is not None:
            d_units = column_sum(d_units, ones, grads.units)
    if call.cell.normalises:
        db_ih = db_hh = d_units[:, -len(weight_ih) :]
    dweights[f"weight_ih_{suffix}"] += d_ih
    dweights[f"weight_hh_{suffix}"] += call.weights.drop(index, d_hh)
    if projection is not None:
        dweights[f"weight_hr_{suffix}"] += d_hr
    if call.weights.shape.bias:
        dweights[f"bias_ih_{suffix}"] += db_ih[0]
        dweights[f"bias_hh_{suffix}"] += db_hh[0]
    at_unit = 0
    for name in own:
        dweights[name] += d_units[0, at_unit : at_unit + dweights[name].size]
        at_unit += dweights[name].size


def _cell_backward(
    call: StackCall,
    step: Step,
    index: int,
    rows: Array,
    weight_hh: Array,
    units: Array,
    dh: Array,
    dcarry: Array,
) -> tuple[StepGradients, Array]:
    """Gradients of a step, and that of h as products see it by way of a gate, zeros where there is none."""
    if not isinstance(call.cell, GatedCell):
        return call.cell.backward(step, units, dh, dcarry), np.zeros_like(step.state)
    dnew = call.cell.backward_new(step, dh)
    dgated = call.product(dh.dtype.type(0), call.operand(dnew), weight_hh[call.open_rows :])
    seen = call.dropped(index, rows, step.state)
    return call.cell.backward_rest(step, seen, dh, dcarry, dnew, dgated)


def _square_sum(a: Array) -> Any:
    return np.sum(np.square(np.abs(a).astype(np.promote_types(a.real.dtype, np.float64))))
