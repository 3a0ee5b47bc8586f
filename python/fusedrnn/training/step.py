"""A training step of a Sequential: separate calls, or one native call where an earlier one was like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.arrays import asarray
from fusedrnn._native import LossSpec
from fusedrnn.nn.embedding import Embedding
from fusedrnn.nn.sequential import Sequential, defined_here, flat_states, nested_states, require_flow
from fusedrnn.optim.optimizer import Optimizer
from fusedrnn.optim.segment_table import storage_key
from fusedrnn.training.compiled import CompiledStep
from fusedrnn.training.loss import Loss, evaluate, resolved, with_options
from fusedrnn.training.structure import Inputs, structure_of

Array = NDArray[Any]
Clip = tuple[float | None, float | None]  # by the norm, by value
_MOST_STEPS = 4  # optimizers for which a model keeps buffers


def train_step(
    model: Sequential,
    x: Array,
    y: Array,
    loss: Loss | str | LossSpec,
    optimizer: Optimizer,
    clip_norm: float | None = None,
    *,
    clip_value: float | None = None,
    skip_nonfinite: bool = False,
    lengths: Array | None = None,
    resets: Array | None = None,
    mask: Array | None = None,
    ignore_index: int | None = None,
    state: Sequence[Any] | None = None,
    return_state: bool = False,
    flow: bool = False,
    **loss_options: Any,
) -> Any:
    """What `fusedrnn.nn.Sequential.train_step` does, and says."""
    checks.flag("skip_nonfinite", skip_nonfinite)
    checks.flag("return_state", return_state)
    if checks.flag("flow", flow):
        require_flow(model)
    with model.__dict__.get("_turn") or model.__dict__.setdefault("_turn", _native.Turn()):
        x = _settled(x) if _takes_ids(model) else x
        if loss_options:
            loss, ignore_index = with_options(loss, ignore_index, loss_options), None
        whole = resolved(loss, ignore_index)
        given = Inputs(x, _settled(y), mask, _settled(lengths), resets, whole, state)
        clip = (clip_norm, clip_value)
        return _train_step(model, given, optimizer, clip, skip_nonfinite, return_state, flow)


def _train_step(
    model: Sequential,
    given: Inputs,
    optimizer: Optimizer,
    clip: Clip,
    skip_nonfinite: bool,
    return_state: bool,
    flow: bool,
) -> Any:
    if not model.training:
        raise RuntimeError("train_step needs training mode: use train()")
    native = isinstance(given.loss, LossSpec)
    compiled = compiled_steps(model).get(id(optimizer)) if native else None
    if compiled is not None:
        done = _run(compiled, model, given, clip, skip_nonfinite, return_state, flow)
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
    value, norm, final = separate_calls(model, apart, optimizer, clip, skip_nonfinite, flow)
    if native:
        _compile(model, given, optimizer)
    return (value, norm, final) if return_state else (value, norm)


@contextmanager
def _whole_or_nothing(model: Sequential) -> Iterator[None]:
    """Takes the dropout keys back where what is done within ends before weights were written to."""
    drawn = model.random_state()
    version = _version(model)
    try:
        yield
    except BaseException:
        if _version(model) == version:
            model.load_random_state(drawn)
        raise


def _version(model: Sequential) -> int:
    return sum(module._version() for module in model.modules())


def separate_calls(
    model: Sequential,
    given: Inputs,
    optimizer: Optimizer,
    clip: Clip,
    skip_nonfinite: bool,
    flow: bool = False,
) -> tuple[Any, float | None, list[Any]]:
    """The step as the calls that it promises to be the same as; returns loss, norm and final states."""
    with _whole_or_nothing(model):
        prediction, final = model.forward(
            given.x, given.lengths, given.resets, state=given.state, return_state=True
        )
        value, gradient = evaluate(given.loss, prediction, given.y, given.mask)
        model.zero_grad()
        options: dict[str, Any] = {}
        if defined_here(model, "backward"):
            options = {"of": model._calls.newest, "flow": flow}
        model.backward(gradient, **options, need_dx=False)
        by_value: dict[str, Any] = (
            {} if clip[1] is None else {"clip_value": clip[1]}
        )  # which a step of a user's may lack
        norm = optimizer.step(clip_norm=clip[0], skip_nonfinite=skip_nonfinite, **by_value)
    return value, norm, final


def compiled_steps(model: Sequential) -> dict[int, CompiledStep]:
    """The model's native steps by optimizer, which they keep alive."""
    steps: dict[int, CompiledStep] = model.__dict__.setdefault("_compiled", {})
    return steps


def _run(
    compiled: CompiledStep,
    model: Sequential,
    given: Inputs,
    clip: Clip,
    skip_nonfinite: bool,
    return_state: bool,
    flow: bool,
) -> Any:
    """What train_step returns, None where the native step is not made for the call."""
    if not compiled.fits(model):
        return None
    done = compiled.run(
        _flattened(model, given), *clip, skip_nonfinite, return_state, model if flow else None
    )
    if done is None or not return_state:
        return done and done[:2]
    return *done[:2], nested_states(model, iter(done[2] or ()))


def _compile(model: Sequential, given: Inputs, optimizer: Optimizer) -> None:
    """Has later calls like this one, which succeeded, made by a native step."""
    steps, key = compiled_steps(model), id(optimizer)
    compiled = steps.pop(key, None)
    if compiled is None or not compiled.fits(model):
        structure = structure_of(model)
        if structure is None or not optimizer._plain() or not any(optimizer._prepared()):
            return
        compiled = CompiledStep(model, structure, optimizer)
    if compiled.takes(given.x):
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


def _settled(array: Any) -> Any:
    """Integers, of any type and strides, as a native step takes them; all else as it is."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        return array
    if array.dtype == np.int64 and array.flags.c_contiguous and array.flags.aligned:
        return array
    return _native.integers("ids, classes or lengths", array)


def _takes_ids(model: Sequential) -> bool:
    first = model[0]
    return _takes_ids(first) if isinstance(first, Sequential) else isinstance(first, Embedding)


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
