"""Segment tables: what an optimizer hands to the backend, built once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn._core.parameter import FlatBuffer, Parameter

Array = NDArray[Any]


def storage_key(p: Parameter) -> tuple[int, int, int]:
    """Equal for parameters that are the same piece of memory."""
    return id(p._buffer), p._offset, p.size


def unique_parameters(params: Iterable[Parameter] | Parameter) -> list[Parameter]:
    """The parameters in their order, each once.

    Raises:
        TypeError: one is no `Parameter`; ValueError: they are on different devices.
    """
    require_no_module(params)
    require_order(params)
    given = [params] if isinstance(params, Parameter) else checks.several("params", params, "parameters")
    for p in given:
        if not isinstance(p, Parameter):
            raise TypeError(f"params must be fusedrnn.nn parameters, one is of type {type(p).__name__}")
    require_one_device(given)
    return list({storage_key(p): p for p in given}.values())


def require_no_module(params: Any) -> None:
    """TypeError where a whole module was given: its parameters are meant."""
    if hasattr(params, "parameters"):
        name = type(params).__name__
        raise TypeError(f"params must be an iterable of parameters, it is a {name}: use its parameters()")


def require_order(params: Any) -> None:
    """TypeError for a set, whose order differs from process to process, and with it a state's."""
    if isinstance(params, (set, frozenset)):
        raise TypeError("params must have an order, and a set has none: use a list")


def require_one_device(params: Sequence[Parameter]) -> None:
    """ValueError unless all parameters are on the device of the first."""
    for p in params:
        if p.device != params[0].device:
            raise ValueError(
                f"params must be on one device, {params[0].name!r} is on {params[0].device} and {p.name!r} "
                f"on {p.device}: build all layers with one device=, or use an optimizer for each"
            )


class Table:
    """The parameters of a group that share a dtype, one segment each, with gradients and states."""

    def __init__(
        self,
        kind: str,
        params: Sequence[Parameter],
        names: tuple[str | None, ...],
        state: Callable[[Parameter, str], Array],
    ) -> None:
        self._names = names
        self.params = list(params)
        self._storages = [p._buffer for p in params]
        self._buffers: list[FlatBuffer] = list({id(storage): storage for storage in self._storages}.values())
        self.segments = _native.Segments(
            kind,
            [
                (
                    p._writable(),
                    p.grad,
                    [None if name is None else state(p, name) for name in names],
                )
                for p in params
            ],
        )

    def fits(self, names: tuple[str | None, ...]) -> bool:
        """Whether the table still describes its parameters, for a rule that keeps the states `names`."""
        return names == self._names and [p._buffer for p in self.params] == self._storages

    def counted(self) -> list[tuple[dict[str, Any], str]]:
        """What a native call that is about to write to the parameters counts with it."""
        return [buffer.counted() for buffer in self._buffers]


def build_tables(
    kind: str,
    params: Sequence[Parameter],
    names: tuple[str | None, ...],
    state: Callable[[Parameter, str], Array],
) -> list[Table]:
    """A table for each dtype among the parameters."""
    dtypes = {p.dtype: None for p in params}
    return [Table(kind, [p for p in params if p.dtype == dtype], names, state) for dtype in dtypes]
