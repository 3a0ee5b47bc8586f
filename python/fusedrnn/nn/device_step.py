"""A training step of a Sequential on a CUDA device as one native call that waits for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.arrays import as_device_array, asarray
from fusedrnn.nn.fused_step import FusedStep, Inputs
from fusedrnn.optim.device_group import Counters, DeviceGroup

if TYPE_CHECKING:
    from fusedrnn.optim import Optimizer

Array = NDArray[Any]  # here DeviceArrays, too


def on_device(given: Inputs) -> Inputs:
    """The arrays of other libraries as DeviceArrays of the same memory; all else as it is."""
    return given._replace(
        x=as_device_array(given.x),
        y=as_device_array(given.y),
        mask=as_device_array(given.mask),
        lengths=as_device_array(given.lengths),
        resets=as_device_array(given.resets),
    )


def uploaded(given: Inputs) -> Inputs:
    """The same with lengths and resets on the device: the separate calls take them from there alone."""
    return given._replace(lengths=_there(given.lengths), resets=_there(given.resets))


def _there(array: Any) -> Any:
    return asarray(array) if isinstance(array, np.ndarray) else array


def _counters(optimizer: Optimizer) -> list[Counters]:
    return [group.counters for group in optimizer.param_groups if isinstance(group, DeviceGroup)]


class DeviceStep(FusedStep):
    """The native step of one model, loss and optimizer on a device.

    From the second call of a form on it is a graph that the device runs as a whole. What is different at
    every step the device counts itself (dropout keys, the optimizer's steps); the host tells it what it did
    not expect.
    """

    def _make(self, layers: Any, loss: str, tables: Any, gradients: Any, dtype: Any) -> Any:
        self._named.remove("lr")  # read by the device
        self._counters = _counters(self._optimizer)
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        counters = [self._counters[g].arrays(rates[g]) for g in self._group_of]
        return _native.DeviceTrainStep(layers, loss, tables, counters, gradients, dtype)

    def fits(self, model: Any) -> bool:
        """As of `FusedStep`; no more once a caller's graph has captured it."""
        known = not self._native.captured and _counters(self._optimizer) == self._counters
        return known and super().fits(model)

    @property
    def backend(self) -> str:
        """Whichever is running: that is the CPU's."""
        return _native.backend()

    def admit(self, given: Inputs, states: list[Array | None]) -> None:
        """As of `FusedStep`."""
        super().admit(on_device(given), [as_device_array(state) for state in states])

    def run(
        self,
        given: Inputs,
        states: list[Array | None],
        clip_norm: float | None,
        skip_nonfinite: bool,
        return_state: bool,
    ) -> tuple[Any, Any, list[Array] | None] | None:
        """As of `FusedStep`; loss and norm are DeviceArrays without axes."""
        if not self._clips(clip_norm):
            return None
        x, y, mask, lengths, resets, ignore_index, _ = on_device(given)
        groups = self._optimizer.param_groups
        for group, counters in zip(groups, self._counters, strict=True):
            counters.arrays(float(group["lr"]))
        result = self._native.run(
            x, y, mask, lengths, resets,
            [as_device_array(state) for state in states],
            ignore_index,
            [layer["_dropout_key"] for layer in self._keyed],
            clip_norm, skip_nonfinite, return_state,
        )  # fmt: skip
        if result is None:
            return None
        loss, norm, may_skip, final = result
        if self._native.captured:  # nothing has been done yet, and will be at any time
            for counters in self._counters:
                counters.mark_captured()
            for buffer in self._buffers:
                buffer.replayed = True
            return loss, norm, final
        self._count_keys()
        self._forget_tapes()
        for counters in self._counters:
            counters.updated(may_skip)
        for buffer in self._buffers:
            buffer.version += 1
        return loss, norm, final
