"""A training step of a Sequential: separate calls, or one native call where an earlier one was like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import asarray
from fusedrnn._native import LossSpec
from fusedrnn.nn.sequential import Sequential, defined_here, flat_states, nested_states
from fusedrnn.optim.optimizer import Optimizer
from fusedrnn.optim.segment_table import storage_key
from fusedrnn.training.compiled import CompiledStep
from fusedrnn.training.loss import Loss, evaluate, resolved
from fusedrnn.training.structure import Inputs, structure_of

Array = NDArray[Any]
_MOST_STEPS = 4  # optimizers for which a model keeps buffers


def train_step(
    model: Sequential,
    x: Array,
    y: Array,
    loss: Loss | str | LossSpec,
    optimizer: Optimizer,
    clip_norm: float | None = None,
    *,
    skip_nonfinite: bool = False,
    lengths: Array | None = None,
    resets: Array | None = None,
    mask: Array | None = None,
    ignore_index: int | None = None,
    state: Sequence[Any] | None = None,
    return_state: bool = False,
) -> Any:
    """What `fusedrnn.nn.Sequential.train_step` does, and says."""
    if not model.training:
        raise RuntimeError("train_step needs training mode: use train()")
    given = Inputs(x, y, mask, lengths, resets, resolved(loss, ignore_index), state)
    native = isinstance(given.loss, LossSpec)
    compiled = compiled_steps(model).get(id(optimizer)) if native else None
    if compiled is not None:
        done = _run(compiled, model, given, clip_norm, skip_nonfinite, return_state)
        if done is not None:
            return done
    _require_own(model, optimizer)
    apart = given
    if any(p.device != "cpu" for p in model.parameters()):
        apart = _uploaded(given)
        if _native.capturing():
            raise RuntimeError(
                "train_step: the stream is being captured into a graph, and this call is like none before: "
                "make one step of this kind before the capture"
            )
    value, norm, final = separate_calls(model, apart, optimizer, clip_norm, skip_nonfinite)
    if native:
        _compile(model, given, optimizer)
    return (value, norm, final) if return_state else (value, norm)


def separate_calls(
    model: Sequential,
    given: Inputs,
    optimizer: Optimizer,
    clip_norm: float | None,
    skip_nonfinite: bool,
) -> tuple[Any, float | None, list[Any]]:
    """The step as the calls that it promises to be the same as; returns loss, norm and final states."""
    prediction, final = model.forward(
        given.x, given.lengths, given.resets, state=given.state, return_state=True
    )
    value, gradient = evaluate(given.loss, prediction, given.y, given.mask)
    model.zero_grad()
    told = {"of": model._calls.newest} if defined_here(model, "backward") else {}
    model.backward(gradient, **told, need_dx=False)
    norm = optimizer.step(clip_norm=clip_norm, skip_nonfinite=skip_nonfinite)
    return value, norm, final


def compiled_steps(model: Sequential) -> dict[int, CompiledStep]:
    """The model's native steps by optimizer, which they keep alive."""
    steps: dict[int, CompiledStep] = model.__dict__.setdefault("_compiled", {})
    return steps


def _run(
    compiled: CompiledStep,
    model: Sequential,
    given: Inputs,
    clip_norm: float | None,
    skip_nonfinite: bool,
    return_state: bool,
) -> Any:
    """What train_step returns, None where the native step is not made for the call."""
    if not compiled.fits(model):
        return None
    done = compiled.run(_flattened(model, given), clip_norm, skip_nonfinite, return_state)
    if done is None or not return_state:
        return done and done[:2]
    return *done[:2], nested_states(model, iter(done[2] or ()))


def _compile(model: Sequential, given: Inputs, optimizer: Optimizer) -> None:
    """Has later calls like this one, which succeeded, made by a native step."""
    steps, key = compiled_steps(model), id(optimizer)
    compiled = steps.pop(key, None)
    if compiled is None or not compiled.fits(model):
        structure = structure_of(model)
        if structure is None or not optimizer._plain():
            return
        compiled = CompiledStep(model, structure, optimizer)
    compiled.register(_flattened(model, given))
    steps[key] = compiled
    if len(steps) > _MOST_STEPS:
        del steps[next(iter(steps))]


def _flattened(model: Sequential, given: Inputs) -> Inputs:
    """The same with a flat list of states."""
    if given.state is None:
        return given
    x, y, mask, lengths, resets, loss, state = given  # _replace would leave a tuple to be collected
    return Inputs(x, y, mask, lengths, resets, loss, flat_states(model, state))


def _require_own(model: Sequential, optimizer: Any) -> None:
    """Raises TypeError or ValueError unless `optimizer` is one, of some of the model's parameters."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be one of fusedrnn.optim, it is of type {type(optimizer)}")
    own = {storage_key(p) for p in model.parameters()}
    if not any(storage_key(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "optimizer must have parameters of this model, it has none of them: "
            "make it of model.parameters(), again where the model is a copy"
        )


def _uploaded(given: Inputs) -> Inputs:
    """The same with lengths and resets on the device: the separate calls take them from there alone."""
    lengths, resets = (asarray(a) if isinstance(a, np.ndarray) else a for a in (given.lengths, given.resets))
    return given._replace(lengths=lengths, resets=resets)
