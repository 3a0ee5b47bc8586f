"""A training step of a Sequential as one native call.

The separate calls come first: they know what is wrong with arguments that do not fit. The shape of a call
that succeeded is registered with the native step; later calls whose arrays have the same types, shapes and
strides run there, with the same bits and in buffers that are used again and again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import as_device_array
from fusedrnn._core.parameter import Parameter
from fusedrnn.nn.dropout import Dropout
from fusedrnn.nn.embedding import Embedding
from fusedrnn.nn.last import Last
from fusedrnn.nn.module import LayerSpec
from fusedrnn.nn.recurrent import Recurrent
from fusedrnn.nn.sequential import Sequential, keep_flow
from fusedrnn.optim.device_group import Counters, DeviceGroup
from fusedrnn.optim.optimizer import Optimizer
from fusedrnn.training.structure import Inputs, Structure, structure_of

Array = NDArray[Any]  # of a model on a device DeviceArrays


class _HostPolicy:
    """Arrays in host memory: the host counts the updates, and tells a step their numbers."""

    def __init__(self, optimizer: Optimizer, group_of: list[int]) -> None:
        self._groups = optimizer.param_groups
        self._group_of = group_of
        self.options = list(optimizer.defaults)  # given to the native step where one changes
        self.counters: list[tuple[Array, Array]] | None = None

    def fits(self) -> bool:
        return True

    def arguments(self, given: Inputs) -> Inputs:
        return given

    def step_numbers(self) -> list[int]:
        return [self._groups[g]["step"] + 1 for g in self._group_of]


class _DevicePolicy:
    """A model on a device, which counts the updates itself and reads the learning rate in its memory."""

    def __init__(self, optimizer: Optimizer, group_of: list[int]) -> None:
        self._optimizer = optimizer
        self._counters = _counters(optimizer)
        self.options = [name for name in optimizer.defaults if name != "lr"]
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.counters: list[tuple[Array, Array]] | None = [
            self._counters[g].arrays(rates[g]) for g in group_of
        ]

    def fits(self) -> bool:
        return _counters(self._optimizer) == self._counters

    def arguments(self, given: Inputs) -> Inputs:
        """The arrays of other libraries as DeviceArrays of the same memory."""
        x, y, mask, lengths, resets = map(as_device_array, given[:5])
        states = None if given.state is None else [as_device_array(h) for h in given.state]
        return Inputs(x, y, mask, lengths, resets, given.loss, states)

    def step_numbers(self) -> list[int]:
        for group, counters in zip(self._optimizer.param_groups, self._counters, strict=True):
            counters.arrays(float(group["lr"]))
        return []


def _counters(optimizer: Optimizer) -> list[Counters]:
    return [group.counters for group in optimizer.param_groups if isinstance(group, DeviceGroup)]


class CompiledStep:
    """The native step of one model and optimizer, for any loss of this package.

    On a device it is a graph from the second call of a shape on, which the device runs as a whole. What is
    different at every step the device counts itself (dropout keys, the optimizer's steps); the host tells it
    what it did not expect.

    Args:
        model: what to train; it is not kept, so that model and step do not hold each other.
        structure: what `structure_of` says of it.
        optimizer: one whose step has been made at least once.
    """

    def __init__(self, model: Sequential, structure: Structure, optimizer: Optimizer) -> None:
        self._structure = structure
        self._parts = [module for module in model.modules() if module is not model]
        self._edits = self._count_edits(model)
        self._calls = [module._calls for module in model.modules()]
        drawing = [layer for layer in structure.layers if isinstance(layer, (Recurrent, Dropout))]
        self._keyed = [_key(a) for a in drawing if (a.p if isinstance(a, Dropout) else a._draws())]
        self._idle = [_key(a) for a in drawing if isinstance(a, Dropout) and a.p == 0]
        self._flips, self._trained = Parameter._flips, self._flags()
        self._optimizer = optimizer
        self._tables = optimizer._prepared()
        self._group_of = [g for g, tables in enumerate(self._tables) for _ in tables]  # of each table
        on_device = structure.parameters[0].device != "cpu"
        self._policy = (_DevicePolicy if on_device else _HostPolicy)(optimizer, self._group_of)
        self._options: list[Any] = []
        self._native = _native.TrainStep(
            [_native_layer(spec) for spec in structure.specs if spec[1].get("p") != 0],
            [table.segments for tables in self._tables for table in tables],
            [grad for module in model.modules() for grad in module._grads],
            next(p.dtype for _, _, parameters in structure.specs for p in parameters if p is not None),
            self._policy.counters,
        )

    def fits(self, model: Sequential) -> bool:
        """Whether model, optimizer and backend are still those it was made for; takes new options over.

        A step that was captured into a caller's graph is that graph's alone.
        """
        if not self._native.usable or not self._policy.fits():
            return False
        edits = self._count_edits(model)
        if edits != self._edits:
            if structure_of(model) != self._structure:
                return False
            self._edits = edits
        if self._flips != Parameter._flips:
            if self._flags() != self._trained:
                return False
            self._flips = Parameter._flips
        optimizer = self._optimizer
        if not optimizer._plain():
            return False
        if any(len(group) != len(optimizer.defaults) + 2 for group in optimizer.param_groups):
            return False  # which the separate calls name
        options = [[group[name] for name in self._policy.options] for group in optimizer.param_groups]
        if options != self._options or optimizer._ready() is not self._tables:
            return self._set_options(options)
        return True

    def _flags(self) -> list[bool]:
        """Which parameters are trained."""
        return [p.requires_grad for p in self._structure.parameters]

    def _count_edits(self, model: Sequential) -> list[int]:
        counts = [part._edits for part in self._parts]
        counts.append(model._edits)
        return counts

    def _set_options(self, options: list[Any]) -> bool:
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

    def takes(self, x: Array) -> bool:
        """Whether calls with such an input can be registered: not where it lacks a batch axis."""
        layers = self._structure.layers
        axes = np.ndim(x) + isinstance(layers[0], Embedding)
        return axes > 2 or not any(isinstance(layer, (Recurrent, Last)) for layer in layers)

    def register(self, given: Inputs) -> None:
        """Tells the native step that a call with such arrays has just succeeded; the state as in `run`."""
        self._forget_tapes()  # first, so that what they hold makes room
        self._native.register_shape(self._policy.arguments(given))

    def run(
        self,
        given: Inputs,
        clip_norm: float | None,
        clip_value: float | None,
        skip_nonfinite: bool,
        return_state: bool,
        flow: Sequential | None,
    ) -> tuple[Any, Any, list[Array] | None] | None:
        """Loss, norm and final states; None if no call of this shape is registered, or a value is wrong.

        The states given and returned are flat (`flat_states`). On a device loss and norm are DeviceArrays
        without axes. flow: the model, where it and its layers shall keep the gradient flow.
        """
        if not self._clips(clip_norm, clip_value):
            return None
        optimizer = self._optimizer
        counted, device_steps = optimizer._counted(self._tables), optimizer._device_steps(self._tables)
        result = self._native.run(
            self._policy.arguments(given),
            self._keyed,
            self._idle,
            self._policy.step_numbers(),
            counted,
            clip_norm,
            clip_value,
            skip_nonfinite,
            return_state,
            flow is not None,
        )
        if result is None:
            return None
        loss, norm, updated, final, norms = result
        if flow is not None:
            keep_flow(flow, reversed(norms or []))
        if not self._native.captured:  # else nothing was computed: the graph will, whenever it is launched
            self._forget_tapes()
        optimizer._device_updated(device_steps, may_skip=updated is None)
        return loss, norm, final

    def _clips(self, clip_norm: float | None, clip_value: float | None) -> bool:
        try:
            self._optimizer._check_clip(clip_norm, clip_value)
        except (TypeError, ValueError):  # which the optimizer's step will raise again
            return False
        return True

    def _forget_tapes(self) -> None:
        for calls in self._calls:
            calls.clear()


def _key(layer: Recurrent | Dropout) -> tuple[dict[str, Any], str]:
    """Where a layer's next dropout key is."""
    return layer.__dict__, "_dropout_key"


def _native_layer(spec: LayerSpec) -> tuple[str, dict[str, Any], list[tuple[Array, Array] | None]]:
    kind, options, parameters = spec
    return kind, options, [None if p is None else (p.data, p._added_to()) for p in parameters]
