"""A training step of a Sequential as one native call.

The separate calls come first: they know what is wrong with arguments that do not fit. A call that succeeded
is described to the native step; later ones whose arrays have the same types, shapes and strides run there,
with the same bits and in buffers that are used again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from fusedrnn import _native, losses
from fusedrnn._core import checks
from fusedrnn._core.parameter import Parameter
from fusedrnn.nn.dropout import Dropout
from fusedrnn.nn.embedding import Embedding
from fusedrnn.nn.gru import GRU
from fusedrnn.nn.last import Last
from fusedrnn.nn.layer_norm import LayerNorm
from fusedrnn.nn.linear import Linear
from fusedrnn.nn.lstm import LSTM
from fusedrnn.nn.module import Module, Stage
from fusedrnn.nn.recurrent import Recurrent
from fusedrnn.nn.rnn import RNN

if TYPE_CHECKING:
    from fusedrnn.nn.sequential import Sequential
    from fusedrnn.optim import Optimizer

Array = NDArray[Any]
_LAYERS = frozenset({RNN, GRU, LSTM, Linear, Embedding, LayerNorm, Dropout, Last})
_COMPUTATION = ("__call__", "forward", "backward", "zero_grad")
_LOSSES = (losses.mse, losses.cross_entropy, losses.binary_cross_entropy)
_NAMES = {id(function): function.__name__ for function in _LOSSES}


class Inputs(NamedTuple):
    """What a step is given, but for options."""

    x: Array
    y: Array
    mask: Array | None
    lengths: Array | None
    resets: Array | None
    ignore_index: int | None
    state: Sequence[Any] | None


class Structure(NamedTuple):
    """What of a model the native step depends on; equal as long as it need not be made anew."""

    layers: list[Module]
    stages: list[Stage]
    parameters: list[Parameter]


def loss_name(function: Any) -> str | None:
    """The name of a loss that the native step knows, None of any other."""
    return _NAMES.get(id(function))


def structure_of(model: Sequential) -> Structure | None:
    """The model's structure, or None where only the separate calls will do.

    That is with modules, or methods, of the user's own; with a layer that comes twice, is in eval mode or on
    another device than the rest.
    """
    layers = _flat(model)
    if layers is None or len({id(layer) for layer in layers}) < len(layers):
        return None
    if not all(module.training for module in model.modules()):
        return None
    stages = [layer._stage() for layer in layers]
    kinds = [kind for kind, options, _ in stages if options.get("p") != 0]
    if "embedding" in kinds[1:] or not any(parameters for _, _, parameters in stages):
        return None
    parameters = list(model.parameters())
    if len({p.device for p in parameters}) > 1:
        return None
    return Structure(layers, stages, parameters)


def _flat(model: Sequential) -> list[Module] | None:
    """The layers with those of nested models in their place, None if any is not as this package made it."""
    from fusedrnn.nn.sequential import Sequential  # which imports this file

    if any(getattr(type(model), name) is not getattr(Sequential, name) for name in _COMPUTATION):
        return None
    layers: list[Module] = []
    for layer in model:
        if not layer.__dict__.keys().isdisjoint(_COMPUTATION):
            return None
        if isinstance(layer, Sequential):
            inner = _flat(layer)
            if inner is None:
                return None
            layers += inner
        elif type(layer) in _LAYERS:
            layers.append(layer)
        else:
            return None
    return layers


class FusedStep:
    """The native step of one model, loss and optimizer.

    Args:
        model: what to train; it is not kept, so that model and step do not hold each other.
        structure: what `structure_of` says of it.
        loss: name of a loss.
        optimizer: one whose step has been made at least once.
    """

    def __init__(self, model: Sequential, structure: Structure, loss: str, optimizer: Optimizer) -> None:
        self._structure = structure
        self._parts = [module for module in model.modules() if module is not model]
        self._edits = self._count_edits(model)
        self._layers = [layer.__dict__ for layer in structure.layers]
        self._recurrent = [layer for layer in structure.layers if isinstance(layer, Recurrent)]
        drawing = [layer for layer in structure.layers if isinstance(layer, (Recurrent, Dropout))]
        self._keyed = [a.__dict__ for a in drawing if (a.p if isinstance(a, Dropout) else a.dropout)]
        self._idle = [a.__dict__ for a in drawing if isinstance(a, Dropout) and a.p == 0]
        self._optimizer = optimizer
        self._tables = optimizer._prepared()
        self._group_of = [g for g, tables in enumerate(self._tables) for _ in tables]  # of each table
        self._buffers = [b for tables in self._tables for table in tables for b in table._buffers]
        self._options: list[Any] = []
        self._named = list(optimizer.defaults)
        self._native: Any = self._make(
            [_native_layer(stage) for stage in structure.stages if stage[1].get("p") != 0],
            loss,
            [table.segments for tables in self._tables for table in tables],
            [grad for module in model.modules() for grad in module._grads],
            next(p.dtype for _, _, parameters in structure.stages for p in parameters if p is not None),
        )

    def _make(self, layers: Any, loss: str, tables: Any, gradients: Any, dtype: Any) -> Any:
        return _native.TrainStep(layers, loss, tables, gradients, dtype)

    def fits(self, model: Sequential) -> bool:
        """Whether model and optimizer are still what this was made for; takes new options over."""
        edits = self._count_edits(model)
        if edits != self._edits:
            if structure_of(model) != self._structure:
                return False
            self._edits = edits
        optimizer = self._optimizer
        if not optimizer._plain():
            return False
        options = [[group[name] for name in self._named] for group in optimizer.param_groups]
        if options != self._options or optimizer._tables is not self._tables:
            return self._take(options)
        return True

    @property
    def backend(self) -> str:
        """The one it was made for; with another one `run` knows no call."""
        backend: str = self._native.backend
        return backend

    def _count_edits(self, model: Sequential) -> list[int]:
        counts = [part._edits for part in self._parts]
        counts.append(model._edits)
        return counts

    def _take(self, options: list[Any]) -> bool:
        """Hands the optimizer's options on; False if they will not do or its tables are others now."""
        optimizer = self._optimizer
        groups = optimizer.param_groups
        try:
            for group in groups:
                optimizer._check(group)
        except (TypeError, ValueError):  # which its step will raise again
            return False
        if optimizer._prepared() is not self._tables:
            return False
        for i, g in enumerate(self._group_of):
            self._native.set_options(i, optimizer._scalars(groups[g]))
        # A list may be changed in place: as a tuple it never equals what is read next time.
        self._options = [[tuple(v) if isinstance(v, list) else v for v in values] for values in options]
        return True

    def admit(self, given: Inputs, states: list[Array | None]) -> None:
        """Tells the native step that a call with such arrays has just succeeded; `states` as in `run`."""
        self._forget_tapes()  # first, so that what they hold makes room
        x, y, mask, lengths, resets, ignore_index, _ = given
        self._native.admit(x, y, mask, lengths, resets, states, ignore_index)

    def run(
        self,
        given: Inputs,
        states: list[Array | None],
        clip_norm: float | None,
        skip_nonfinite: bool,
        return_state: bool,
    ) -> tuple[Any, Any, list[Array] | None] | None:
        """Loss, norm and final states; None if no call with such arrays was admitted, or a value is wrong.

        States are flat (`flat_states`), an empty list where no initial ones are given.
        """
        x, y, mask, lengths, resets, ignore_index, _ = given
        if not self._clips(clip_norm):
            return None
        groups = self._optimizer.param_groups
        result = self._native.run(
            x, y, mask, lengths, resets,
            states,
            ignore_index,
            [layer["_dropout_key"] for layer in self._keyed],
            [groups[g]["step"] + 1 for g in self._group_of],
            clip_norm, skip_nonfinite, return_state,
        )  # fmt: skip
        if result is None:
            return None
        loss, norm, updated, final = result
        self._count_keys()
        self._forget_tapes()
        if updated:
            for group in groups:
                group["step"] += 1
            for buffer in self._buffers:
                buffer.version += 1
        return loss, norm, final

    def _clips(self, clip_norm: float | None) -> bool:
        try:
            self._optimizer._check_clip(clip_norm)
        except (TypeError, ValueError):  # which the optimizer's step will raise again
            return False
        return True

    def _count_keys(self) -> None:
        for layer in self._keyed:
            layer["_dropout_key"] = checks.next_key(layer["_dropout_key"])
        for layer in self._idle:
            layer["_dropout_key"] = checks.next_key(layer["_dropout_key"])

    def _forget_tapes(self) -> None:
        for layer in self._layers:
            layer["_tape"] = None


def _native_layer(stage: Stage) -> tuple[str, dict[str, Any], list[tuple[Array, Array] | None]]:
    kind, options, parameters = stage
    return kind, options, [None if p is None else (p.data, p.grad) for p in parameters]
