"""Parameter groups on a CUDA device, which counts updates itself, so that the host need not wait for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn.functional.rules import check_count

Array = NDArray[Any]  # here DeviceArrays


class Counters:
    """The learning rate and the number of updates in device memory, as backend.hpp's UpdateGroup has them.

    Args:
        step: updates so far.
    """

    def __init__(self, step: int) -> None:
        self._lr_there = math.nan
        self._lr: Any = _native.device_zeros((1,), np.dtype(np.float64))
        self._steps: Any = _native.device_zeros((2,), np.dtype(np.int64))
        self._known: int | None = 0
        self._replayed = False
        if step != 0:
            self.step = step

    @property
    def step(self) -> int:
        """Updates so far; waits for the device after one that it may have skipped."""
        if self._known is None or self._replayed:
            self._known = int(self._steps.numpy()[1])
        return self._known

    @step.setter
    def step(self, value: int) -> None:
        value = check_count(value)
        self._steps._assign(np.array([value, value], np.int64))
        self._known = value

    def arrays(self, lr: float) -> tuple[Array, Array]:
        """What the next update reads: lr (1,), which is made `lr`, and steps (2,)."""
        if lr != self._lr_there:
            self._lr._assign(np.array([lr]))
            self._lr_there = lr
        return self._lr, self._steps

    def update(self) -> int | None:
        """Before an update is enqueued: returns the updates so far where the host knows them.

        From now on it does not, so that nothing is wrong if the next instruction is never reached.
        """
        known, self._known = self._known, None
        if _native.capturing():  # updates are made from now on whenever a caller's graph is launched
            self._replayed = True
        return known

    def updated(self, known: int | None) -> None:
        """An update was enqueued after so many, None where the device may skip it or more are unknown."""
        self._known = None if known is None else known + 1


class DeviceGroup(dict[str, Any]):
    """A parameter group whose "step" is what the device has counted whenever it is read.

    Args:
        group: its contents.
    """

    def __init__(self, group: dict[str, Any]) -> None:
        super().__init__(group)
        self.counters = Counters(group["step"])

    def settle(self) -> None:
        """Brings "step" up to date."""
        super().__setitem__("step", self.counters.step)

    def __getitem__(self, name: str) -> Any:
        if name == "step":
            self.settle()
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "step":
            self.counters.step = value
        super().__setitem__(name, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As of any dict."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def _settled(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def settled(self: DeviceGroup, *args: Any) -> Any:
        self.settle()
        return method(self, *args)

    settled.__name__ = name
    return settled


# What else reads all of a dict. That __iter__ is among them has dict() and ** read item by item.
for _name in ("__eq__", "__iter__", "__or__", "__repr__", "__ror__", "copy", "get", "items", "values"):
    setattr(DeviceGroup, _name, _settled(_name))
