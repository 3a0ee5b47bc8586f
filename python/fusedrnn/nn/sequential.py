"""A chain of modules, and its states: a list with an entry for each stateful layer, nested as models are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fusedrnn._core import checks, provided
from fusedrnn._core.cells import CELLS
from fusedrnn._core.inputs import unshared
from fusedrnn._native import Call
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

    Attributes:
        flow: how the gradient flowed in the newest backward or train_step with ``flow=True``: a list with an
            entry for each layer that has one in `state`, see `Recurrent`; None before.

    Raises:
        TypeError: a layer is not a Module.
        ValueError: there is no layer, or layers differ in batch_first.
    """

    flow: Any = None

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
        checks.flag("return_state", return_state)
        given = {n: a for n, a in (("lengths", lengths), ("resets", resets)) if a is not None}
        for name in given:
            if name not in self.sequence_arguments:
                raise ValueError(f"{name} must be None: no layer of this model takes it")
        if state is not None:
            check_states(self, state)
        if self.training:
            self._calls.make_room()
        inputs = (x,) if state is None or not self.training else (x, *flat_states(self, state))
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
                if x is not before:
                    unshared.array = x if _makes_its_own(layer) else None
        finally:
            unshared.array = None
        if self.training:
            parts = tuple(call for _, call in steps if call is not None)
            results = () if x is inputs[0] else (x, *_flattened(final)) if return_state else (x,)
            self._calls.record(0, steps, inputs, results, parts)
        return (x, final) if return_state else x

    def backward(self, dy: Array, *, of: Any = None, need_dx: bool = True, flow: bool = False) -> Any:
        """dx of the first layer from dy of the last; adds into the parameters' gradients.

        The final states are taken to have no influence on the loss, as in truncated back-propagation. With
        need_dx False None is returned, and the first layer may skip dx: the first one, that is, with a
        parameter that is not frozen, where backward ends then.

        Args:
            dy: gradient of y.
            of: a result of the call that is meant, where several wait; see `Module`. Each layer gets the call
                of its own that belongs to it, so that one may come several times in the model.
            need_dx: False returns None.
            flow: have recurrent layers measure how the gradient flows; `flow` is then theirs, of each layer
                that has an entry in `state`, None of those that backward does not come to.

        Raises:
            RuntimeError: a layer has no tape, or its weights were written to since it was made, or several
                calls wait and `of` does not say which is meant; and what else the layers raise.
            ValueError: flow, and no layer of this Sequential is recurrent, or one has a backward of its own.
        """
        checks.flag("need_dx", need_dx)
        if checks.flag("flow", flow):
            require_flow(self)
        call = self._calls.select(of)
        if call is None and self._calls.unfinished:
            raise RuntimeError(
                f"{type(self).__name__}.backward: the last forward call raised half-way, so the tapes of its "
                "layers are of different calls: call forward again"
            )
        # Without a call of its own its layers were called one by one: each knows what it did last.
        steps = [(layer, None) for layer in self] if call is None else call.tape
        gradient: Any = dy
        measured: list[Any] = []
        first = 0 if need_dx or call is None else _first_to_train(layer for layer, _ in steps)
        for i, (layer, part) in reversed(list(enumerate(steps))):
            if i < first:
                if part is not None:
                    layer._calls.took(part)
                if flow and _is_stateful(layer):
                    measured.append(keep_flow(layer, repeat(None)))
                continue
            options: dict[str, Any] = {}
            if defined_here(layer, "backward"):
                options = {"of": part} if part is not None else {}
                if i == first and not need_dx:
                    options["need_dx"] = False
                if flow and _is_stateful(layer):
                    options["flow"] = True
            gradient = layer.backward(gradient, **options)
            if isinstance(gradient, tuple):
                gradient = gradient[0]
            if "flow" in options:
                measured.append(layer.flow)
        if flow:
            self.__dict__["flow"] = measured[::-1]
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
            loss_options: further options of a loss that is a function or a name: ``label_smoothing=0.1``.
                TypeError where it takes none of that name, or the name is nearly that of an argument here.
            optimizer: of this model's parameters.
            clip_norm: gradients are scaled down to this global norm if theirs is larger.
            clip_value: gradients are clamped to [-clip_value, clip_value]; not with clip_norm.
            skip_nonfinite: leave everything as it is, but for gradients, if the norm is not finite.
            lengths, resets, state, return_state: as `forward`; with return_state the result is
                ``(loss, norm, final states)``, and passing those on as the next call's `state` carries a
                text or a signal over (truncated back-propagation through time).
            flow: also measure `flow`, on the CPU.

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
                ValueError: the loss has no such name, or flow on a CUDA device or without a recurrent layer;
                and what the parts raise.
        """
        return provided.train_step(
            self,
            x,
            y,
            loss,
            optimizer,
            clip_norm,
            clip_value=clip_value,
            skip_nonfinite=skip_nonfinite,
            lengths=lengths,
            resets=resets,
            mask=mask,
            ignore_index=ignore_index,
            state=state,
            return_state=return_state,
            flow=flow,
            **loss_options,
        )

    def _stateful(self) -> list[Module]:
        """The layers that have an entry in `state`."""
        return [layer for layer in self if _is_stateful(layer)]


def require_flow(model: Sequential) -> None:
    """Raises ValueError unless a layer has a gradient flow, and it can be measured."""
    if not model._stateful():
        raise ValueError("flow must be False, it is True: no layer of this Sequential itself is recurrent")
    for part in (model, *model._stateful()):
        if not defined_here(part, "backward"):
            raise ValueError(
                f"flow must be False with a {type(part).__name__}, it is True: its backward is of its own"
            )
        if part is not model and isinstance(part, Sequential):
            require_flow(part)
    if any(p.device != "cpu" for p in model.parameters()):
        raise ValueError(
            "flow must be False on a CUDA device, it is True: it is not on CUDA yet, use device='cpu'"
        )


def _is_stateful(layer: Module) -> bool:
    """Whether it is recurrent, or a Sequential that holds a recurrent layer."""
    return isinstance(layer, Recurrent) or (isinstance(layer, Sequential) and bool(layer._stateful()))


def keep_flow(layer: Module, norms: Iterator[Any]) -> Any:
    """Has a layer keep its gradient flow, and those within theirs; returns it.

    Args:
        layer: recurrent, or a Sequential.
        norms: of each recurrent layer within, None where nothing was measured, in the order of backward.
    """
    if isinstance(layer, Recurrent):
        layer._keep_flow(next(norms))
        return layer.flow
    parts = layer._stateful()  # type: ignore[attr-defined]
    layer.__dict__["flow"] = [keep_flow(part, norms) for part in reversed(parts)][::-1]
    return layer.__dict__["flow"]


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


def _first_to_train(layers: Iterable[Module]) -> int:
    """The place of the first layer whose backward has anything to add: a user's own may do as it likes."""
    place = -1
    for layer in layers:
        place += 1
        own = all(defined_here(part, "backward") for part in layer.modules())
        if not own or any(p.requires_grad for p in layer.parameters()):
            break
    return place


def _makes_its_own(layer: Module) -> bool:
    """Whether a layer makes what it returns and lets go of it, or the last one within that does something.

    A layer of the user's own may keep its result, and write to it when it is called again.
    """
    if not defined_here(layer, "forward"):
        return False
    return not isinstance(layer, Sequential) or all(_makes_its_own(part) for part in layer)


def _flattened(states: Any) -> list[Any]:
    """The arrays in nested final states."""
    if isinstance(states, (list, tuple)):
        return [array for entry in states for array in _flattened(entry)]
    return [states]
