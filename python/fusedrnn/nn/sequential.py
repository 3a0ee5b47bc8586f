"""A chain of modules, and its states: a list with an entry for each stateful layer, nested as models are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fusedrnn._core import provided
from fusedrnn._core.calls import Call, unshared
from fusedrnn._core.cells import CELLS
from fusedrnn.functional.recurrent import pair, single
from fusedrnn.nn.module import Module
from fusedrnn.nn.recurrent import Recurrent

if TYPE_CHECKING:
    from fusedrnn.optim import Optimizer

Array = NDArray[Any]
Loss = Callable[..., tuple[Any, Array]]


class Sequential(Module):
    """Modules one after the other, each reading what the one before returns.

        model = fr.nn.Sequential(fr.nn.LSTM(1, 50), fr.nn.LSTM(50, 50), fr.nn.Last(), fr.nn.Linear(50, 1))
        y = model(x, lengths=None, resets=None)
        dx = model.backward(dy)
        loss, norm = model.train_step(x, target, fr.losses.mse, optimizer, clip_norm=1.0)

    Of a recurrent module the next one reads y; its final state is dropped unless `return_state` asks for it.
    `lengths` and `resets` go to every module whose `sequence_arguments` name them: recurrent modules take
    both, `Last` takes lengths. A module of the user's own takes part in the same way, as long as its
    forward takes one array and returns one (or a tuple that starts with it) and its backward takes and
    returns its gradient.

    Parts are named "0", "1", ...; ``len``, indexing and iteration work.

    Raises:
        TypeError: a layer is not a Module.
        ValueError: there is no layer, or layers differ in batch_first.
    """

    def __init__(self, *layers: Module) -> None:
        if not layers:
            raise ValueError("layers must be at least one module, there is none")
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise TypeError(f"layers[{i}] must be a Module, it is {type(layer).__name__}")
            setattr(self, str(i), layer)
        firsts = {i: layer.batch_first for i, layer in enumerate(layers) if hasattr(layer, "batch_first")}
        if len(set(firsts.values())) > 1:
            text = ", ".join(f"layer {i} ({type(layers[i]).__name__}) {first}" for i, first in firsts.items())
            raise ValueError(f"batch_first must be equal in all layers, it is: {text}")

    @property
    def sequence_arguments(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of "lengths" and "resets" that any of the layers takes."""
        return tuple(n for n in ("lengths", "resets") if any(n in layer.sequence_arguments for layer in self))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int) -> Module:
        return list(self._modules.values())[index]

    # ------------------------------------------------------------------------------------------ computation
    def forward(
        self,
        x: Array,
        lengths: Array | None = None,
        resets: Array | None = None,
        *,
        state: Sequence[Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """What the last layer returns, for the input x of the first.

        Args:
            x: input of the first layer.
            lengths: int (B,), valid steps of each row; see `Recurrent`.
            resets: bool (T, B), or (B, T) with batch_first; see `Recurrent`.
            state: initial states, one entry for each recurrent layer (and each Sequential within that holds
                any) in their order; an entry may be None for zeros.
            return_state: return ``(y, final states)``, the latter a list that `state` takes.

        Raises:
            ValueError: lengths or resets are given and no layer takes them, or `state` has not one entry
                for each recurrent layer; and what the layers raise.
        """
        given = {n: a for n, a in (("lengths", lengths), ("resets", resets)) if a is not None}
        for name in given:
            if name not in self.sequence_arguments:
                raise ValueError(f"{name} must be None: no layer of this model takes it")
        if state is not None:
            check_states(self, state)
        if self.training:
            self._calls.make_room()
        inputs = [x, *flat_states(self, state)] if self.training else []
        states = None if state is None else iter(state)
        final: list[Any] = []
        steps: list[tuple[Module, Call | None]] = []
        try:
            for layer in self._modules.values():
                options = (
                    {n: a for n, a in given.items() if n in layer.sequence_arguments} if given else given
                )
                before = x
                if isinstance(layer, Recurrent):
                    x, last = layer(x, None if states is None else next(states), **options)
                    final.append(last)
                elif isinstance(layer, Sequential) and layer._stateful():
                    entry = None if states is None else next(states)
                    x, last = layer(x, state=entry, return_state=True, **options)
                    final.append(last)
                else:
                    result = layer(x, **options)
                    x = result[0] if isinstance(result, tuple) else result
                steps.append((layer, layer._calls.newest))
                if x is not before:  # what a layer of this package has made, no one else knows of
                    unshared.array = x if defined_here(layer, "forward") else None
        finally:
            unshared.array = None
        if self.training:
            parts = tuple(call for _, call in steps if call is not None)
            results = () if x is inputs[0] else (x, *_flattened(final))
            self._calls.record(0, steps, inputs, results, parts)
        return (x, final) if return_state else x

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True) -> Any:
        """dx of the first layer from dy of the last; adds into the parameters' gradients.

        The final states are taken to have no influence on the loss, as in truncated back-propagation. With
        need_dx False the first layer may skip dx, and None is returned.

        Args:
            dy: gradient of y.
            of: a result of the call that is meant, where several wait; see `Module`. Layers are told which of
                their calls belongs to it, so that one may come several times in the model.
            need_dx: False returns None.

        Raises:
            RuntimeError: a layer has no tape, or its weights were written to since it was made, or several
                calls wait and `of` does not say which is meant; and what else the layers raise.
        """
        call = self._calls.select(of)
        # Without a call of its own its layers were called one by one: each knows what it did last.
        steps = [(layer, None) for layer in self] if call is None else call.tape
        gradient: Any = dy
        for i, (layer, part) in reversed(list(enumerate(steps))):
            options: dict[str, Any] = {}
            if defined_here(layer, "backward"):
                options = {"of": part} if part is not None else {}
                if i == 0 and not need_dx:
                    options["need_dx"] = False
            gradient = layer.backward(gradient, **options)
            if isinstance(gradient, tuple):
                gradient = gradient[0]
        if call is not None:
            self._calls.took(call)
        return gradient if need_dx else None

    def train_step(
        self,
        x: Array,
        y: Array,
        loss: Loss | str,
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
        """One step of training, with the very bits of the separate calls:

            pred = model(x, lengths, resets)
            value, dpred = loss(pred, y, mask=mask, ignore_index=ignore_index)
            model.zero_grad()
            model.backward(dpred)
            norm = optimizer.step(clip_norm=clip_norm, skip_nonfinite=skip_nonfinite)

        The first call of a shape makes them; later ones are a single native call in buffers kept for it,
        which allocates nothing but results and leaves the layers without a tape. Models with modules, and
        losses, of the user's own always go the first way.

        Args:
            x: input of the first layer.
            y: target of the loss.
            loss: a function like those of `fusedrnn.losses`, or the name of one, "mse" say; it returns the
                loss and its gradient. It gets mask and ignore_index only where they are not None. Or one of
                the objects there, which have more options: ``fr.losses.CrossEntropy(label_smoothing=0.1)``.
            optimizer: of this model's parameters.
            clip_norm: gradients are scaled down to this global norm if theirs is larger.
            skip_nonfinite: leave everything as it is, but for gradients, if the norm is not finite.
            lengths, resets, state, return_state: as `forward`; with return_state the result is
                ``(loss, norm, final states)``, and passing those on as the next call's `state` carries a
                text or a signal over (truncated back-propagation through time).

        On a CUDA device arrays are there, but for lengths and resets, which may be NumPy arrays. A call that
        is like an earlier one waits for nothing, and from the third on is a graph that the device runs as a
        whole. Ids, classes and lengths are looked at on the device then: one that is wrong makes the loss
        NaN, nothing is updated, and ``float(loss)`` raises the ValueError.

        A call may be captured into a CUDA graph of the caller's, after one like it was made outside (on the
        same stream, or with that one waited for). Replays read the arrays that the captured call was given,
        write those it returned, and take the learning rate as it is set by then (``optimizer.lr = ...``).
        Dropout keys they count up by themselves: `random_state` does not know of them.

        Returns:
            The loss, and the gradient's norm before clipping (None without clip_norm): floats, or on a CUDA
            device DeviceArrays without axes. The parameters' gradients are left as this step's alone.

        Raises:
            RuntimeError: the model is in eval mode, or a call that is unlike all before it is being captured;
                ValueError: the loss has no such name; and what the parts raise.
        """
        return provided.train_step(
            self,
            x,
            y,
            loss,
            optimizer,
            clip_norm,
            skip_nonfinite=skip_nonfinite,
            lengths=lengths,
            resets=resets,
            mask=mask,
            ignore_index=ignore_index,
            state=state,
            return_state=return_state,
        )

    def _stateful(self) -> list[Module]:
        """The layers that have an entry in `state`."""
        return [a for a in self if isinstance(a, Recurrent) or (isinstance(a, Sequential) and a._stateful())]


def check_states(model: Sequential, state: Any) -> None:
    """Raises TypeError or ValueError unless `state` is a list with an entry for each layer that has one."""
    expected = f"state must be a list of {len(model._stateful())}, one for each recurrent layer"
    if not isinstance(state, (list, tuple)):
        raise TypeError(f"{expected}, it is a {type(state).__name__}")
    if len(state) != len(model._stateful()):
        raise ValueError(f"{expected}, it has {len(state)}")


def flat_states(model: Sequential, state: Any) -> list[Any]:
    """h0 and c0 (None for a cell without) of every recurrent layer, one after the other."""
    if state is not None:
        check_states(model, state)
    layers = model._stateful()
    flat: list[Any] = []
    for layer, entry in zip(layers, [None] * len(layers) if state is None else state, strict=True):
        if not isinstance(layer, Recurrent):
            flat += flat_states(layer, entry)  # type: ignore[arg-type]
        elif entry is None:
            flat += (None, None)
        elif CELLS[layer._cell].cell_state:
            flat += pair("state", "h0, c0", entry)
        else:
            flat += (single("state", "h0", entry), None)
    return flat


def nested_states(model: Sequential, flat: Iterator[Any]) -> list[Any]:
    """Final states as `Sequential.forward` returns them, of every layer's hn (and cn, if it has one)."""
    states: list[Any] = []
    for layer in model._stateful():
        if not isinstance(layer, Recurrent):
            states.append(nested_states(layer, flat))  # type: ignore[arg-type]
        elif CELLS[layer._cell].cell_state:
            states.append((next(flat), next(flat)))
        else:
            states.append(next(flat))
    return states


def defined_here(layer: Module, name: str) -> bool:
    """Whether a method of the layer is this package's, not one that a user has put in its place."""
    method = getattr(type(layer), name)
    return name not in layer.__dict__ and method.__module__.startswith("fusedrnn.")


def _flattened(states: Any) -> list[Any]:
    """The arrays in nested final states."""
    if isinstance(states, (list, tuple)):
        return [array for entry in states for array in _flattened(entry)]
    return [states]
