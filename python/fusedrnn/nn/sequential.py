"""A chain of modules, and a whole training step of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fusedrnn import _native, losses
from fusedrnn.nn.device_step import DeviceStep, uploaded
from fusedrnn.nn.fused_step import FusedStep, Inputs, loss_name, structure_of
from fusedrnn.nn.module import Module
from fusedrnn.nn.recurrent import Recurrent
from fusedrnn.nn.states import check_states, flat_states, nested_states

if TYPE_CHECKING:
    from fusedrnn.optim import Optimizer

Array = NDArray[Any]
Loss = Callable[..., tuple[Any, Array]]
_MOST_STEPS = 4  # pairs of loss and optimizer whose buffers a model keeps


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
    def _fused(self) -> dict[tuple[str, int], FusedStep]:
        """Native steps by loss and optimizer, which they keep alive."""
        steps: dict[tuple[str, int], FusedStep] = self.__dict__.setdefault("_fused_steps", {})
        return steps

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
        states = None if state is None else iter(state)
        final: list[Any] = []
        for layer in self._modules.values():
            options = {n: a for n, a in given.items() if n in layer.sequence_arguments} if given else given
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
        return (x, final) if return_state else x

    def backward(self, dy: Array, *, need_dx: bool = True) -> Any:
        """dx of the first layer from dy of the last; adds into the parameters' gradients.

        The final states are taken to have no influence on the loss, as in truncated back-propagation. With
        need_dx False the first layer may skip dx, and None is returned.

        Raises:
            RuntimeError: a layer has no tape, or its weights were written to since it was made; and what
                else the layers raise.
        """
        gradient: Any = dy
        layers = list(self._modules.values())
        for layer in reversed(layers[1:]):
            gradient = layer.backward(gradient)
            if isinstance(gradient, tuple):
                gradient = gradient[0]
        first = layers[0]
        if need_dx or not type(first).__module__.startswith("fusedrnn."):
            gradient = first.backward(gradient)
        else:
            gradient = first.backward(gradient, need_dx=False)
        if isinstance(gradient, tuple):
            gradient = gradient[0]
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
                loss and its gradient. It gets mask and ignore_index only where they are not None.
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
        if not self.training:
            raise RuntimeError("train_step needs training mode: use train()")
        function = _loss_function(loss)
        given = Inputs(x, y, mask, lengths, resets, ignore_index, state)
        name = loss_name(function)
        fused = None if name is None else self._fused.get((name, id(optimizer)))
        if fused is not None:
            done = self._run_fused(fused, given, clip_norm, skip_nonfinite, return_state)
            if done is not None:
                return done
        self._require_own(optimizer)
        apart = uploaded(given) if self._on_device() else given
        if apart is not given and _native.capturing():
            raise RuntimeError(
                "train_step: the stream is being captured into a graph, and this call is like none before: "
                "make one step of this kind before the capture"
            )
        value, norm, final = self._separate_calls(apart, function, optimizer, clip_norm, skip_nonfinite)
        if name is not None:
            self._fuse(given, name, optimizer)
        return (value, norm, final) if return_state else (value, norm)

    def _separate_calls(
        self,
        given: Inputs,
        function: Loss,
        optimizer: Optimizer,
        clip_norm: float | None,
        skip_nonfinite: bool,
    ) -> tuple[Any, float | None, list[Any]]:
        named = {"mask": given.mask, "ignore_index": given.ignore_index}
        options = {name: value for name, value in named.items() if value is not None}
        prediction, final = self.forward(
            given.x, given.lengths, given.resets, state=given.state, return_state=True
        )
        value, gradient = function(prediction, given.y, **options)
        self.zero_grad()
        self.backward(gradient, need_dx=False)
        norm = optimizer.step(clip_norm=clip_norm, skip_nonfinite=skip_nonfinite)
        return value, norm, final

    def _run_fused(
        self,
        fused: FusedStep,
        given: Inputs,
        clip_norm: float | None,
        skip_nonfinite: bool,
        return_state: bool,
    ) -> Any:
        """What train_step returns, None where the native step is not made for the call."""
        if not fused.fits(self):
            return None
        states = [] if given.state is None else flat_states(self, given.state)
        done = fused.run(given, states, clip_norm, skip_nonfinite, return_state)
        if done is None or not return_state:
            return done and done[:2]
        return *done[:2], nested_states(self, iter(done[2] or ()))

    def _fuse(self, given: Inputs, name: str, optimizer: Optimizer) -> None:
        """Has later calls like this one, which succeeded, made by a native step."""
        on_device = self._on_device()
        if not on_device and _native.backend() not in _native.available_backends():
            return  # a device behind host memory: its calls carry arrays there and back
        key = (name, id(optimizer))
        fused = self._fused.pop(key, None)
        if fused is None or fused.backend != _native.backend() or not fused.fits(self):
            structure = structure_of(self)
            if structure is None or not optimizer._plain():
                return
            fused = (DeviceStep if on_device else FusedStep)(self, structure, name, optimizer)
        fused.admit(given, [] if given.state is None else flat_states(self, given.state))
        self._fused[key] = fused
        if len(self._fused) > _MOST_STEPS:
            del self._fused[next(iter(self._fused))]

    def _require_own(self, optimizer: Any) -> None:
        """Raises TypeError or ValueError unless `optimizer` is one, of some of this model's parameters."""
        from fusedrnn.optim import Optimizer  # which imports this package
        from fusedrnn.optim.segment_table import storage_key

        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of fusedrnn.optim, it is of type {type(optimizer)}")
        own = {storage_key(p) for p in self.parameters()}
        if not any(storage_key(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                "optimizer must have parameters of this model, it has none of them: "
                "make it of model.parameters(), again where the model is a copy"
            )

    def _on_device(self) -> bool:
        return any(p.device != "cpu" for p in self.parameters())

    def _stateful(self) -> list[Module]:
        """The layers that have an entry in `state`."""
        return [a for a in self if isinstance(a, Recurrent) or (isinstance(a, Sequential) and a._stateful())]

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state.pop("_fused_steps", None)
        return state


def _loss_function(loss: Loss | str) -> Loss:
    if not isinstance(loss, str):
        return loss
    names = ("mse", "cross_entropy", "binary_cross_entropy")
    if loss not in names:
        raise ValueError(f"loss must be a function or one of {', '.join(map(repr, names))}, it is {loss!r}")
    function: Loss = getattr(losses, loss)
    return function
