"""The step that all optimizers share: clipping and updates of all parameters in one native call."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from fusedrnn import _native
from fusedrnn._core import checks
from fusedrnn.functional.rules import RULES
from fusedrnn.torch import packing, threads

Group = dict[str, Any]


class Table(NamedTuple):
    """Parameters of one dtype that have made equally many steps.

    Attributes:
        places: of the parameters among those of the group that have gradients.
        segments: where they and their states lie.
        steps: their counts (n,), which the states' "step" are elements of; None where a rule keeps none.
        made: "steps", what the native call counts, and "written", what `steps` last held.
            Of a rule that keeps no counts "steps" is 0 where states were made for a first step to come.
    """

    places: tuple[int, ...]
    segments: _native.Segments
    steps: Tensor | None
    made: dict[str, int]

    def write_counts(self) -> None:
        """Writes what native calls have counted to `steps`, unless something else has written to it since."""
        if self.steps is not None and self.made["steps"] != self.made["written"]:
            if int(self.steps[0]) == self.made["written"]:
                self.steps.fill_(self.made["steps"])
            self.made["written"] = self.made["steps"]

    def next_step(self) -> int:
        """The number of the update to come; of a rule that keeps no counts 1 only if it is the first."""
        if self.steps is None:
            return self.made["steps"] + 1
        self.made["steps"] = self.made["written"] = int(self.steps[0])
        return self.made["steps"] + 1


class Tables(NamedTuple):
    """The tables of a group: for these parameters, with these states."""

    params: list[Tensor]
    states: tuple[str | None, ...]
    tables: list[Table]
    entries: list[dict[str, Any]]  # the optimizer's state of each parameter, and what was in it
    held: list[Any]

    def fit(
        self, params: list[Tensor], grads: list[Tensor], states: tuple[str | None, ...], state: Any
    ) -> bool:
        """Whether they are for those parameters and states as they are; gradients are then taken over."""
        if states != self.states or not _same(params, self.params):
            return False
        if not _same(list(map(state.get, params)), self.entries) or not _same(
            _values(self.entries), self.held
        ):
            return False
        return all(
            table.segments.refresh([params[i] for i in table.places], [grads[i] for i in table.places])
            for table in self.tables
        )


class Fused(Optimizer):
    """Mixed into an optimizer of torch.optim: takes over its step, leaves its options and states.

    Args:
        clip_norm: scale gradients by min(1, clip_norm / (norm + 1e-6)) on their way into the update, norm
            being that of all gradients together; None does not clip. ``p.grad`` stays as it is.
        skip_nonfinite: where the norm is infinite or NaN change nothing and do not count the step.

    Attributes:
        grad_norm: the norm of the last step before clipping, a float; None without clip_norm.

    Parameters are float32 or float64 on the CPU and contiguous. Others, sparse gradients, ``maximize`` and
    ``differentiable`` are refused by name.
    """

    clip_norm: float | None = None
    skip_nonfinite: bool = False
    grad_norm: float | None = None
    _tables: dict[int, Tables]

    def _clipping(self, clip_norm: float | None, skip_nonfinite: bool) -> None:
        self.clip_norm = clip_norm
        self.skip_nonfinite = skip_nonfinite
        self._check_clipping()
        for group in self.param_groups:
            self._check(group)

    def _check_clipping(self) -> None:
        if self.clip_norm is not None and not checks.real("clip_norm", self.clip_norm) >= 0:
            raise ValueError(f"clip_norm must be None or at least 0, it is {self.clip_norm}")
        checks.flag("skip_nonfinite", self.skip_nonfinite)

    # ------------------------------------------------------------------------- what differs between rules
    def _rule(self, group: Group) -> str:
        """The name of the group's native rule."""
        raise NotImplementedError

    def _options(self, group: Group) -> Group:
        """The group with the rule's scalars by their names."""
        return group

    def _check(self, group: Group) -> None:
        """Raises NotImplementedError where an option has no kernel."""
        for name in ("maximize", "differentiable"):
            if group.get(name):
                raise NotImplementedError(
                    f"{name}=True is not supported by fusedrnn.torch.optim: use torch.optim.{self._name}"
                )

    @property
    def _name(self) -> str:
        return type(self).__name__

    # ---------------------------------------------------------------------------------------------- step
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient; returns what closure returns.

        Raises:
            NotImplementedError: a gradient is sparse, or an option has no kernel.
            TypeError, ValueError: a parameter is of another dtype, device or layout than kernels take.
        """
        self._check_clipping()
        self._write_counts()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        updates: list[Any] = []
        tables: list[Table] = []
        moved: list[Tensor] = []
        for index, group in enumerate(self.param_groups):
            self._check(group)
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            moved += params
            scalars = self._scalars(group)
            for table in self._tables_of(index, group, params, scalars):
                updates.append((table.segments, scalars, table.next_step(), None))
                tables.append(table)
        if not updates:
            self.grad_norm = None if self.clip_norm is None else 0.0
            return loss
        threads.follow()
        limit = self.clip_norm if self.clip_norm is not None else math.inf if self.skip_nonfinite else None
        # An interruption (Ctrl-C) can come behind the native call, not within: what must be known of a write
        # is noted before it, or by the call itself.
        torch.autograd.graph.increment_version(moved)
        counted = [packing.WRITTEN, *((table.made, "steps") for table in tables)]
        try:
            norm = _native.clipped_update(updates, limit, self.skip_nonfinite, counted)
        finally:
            self._write_counts()
        self.grad_norm = None if self.clip_norm is None else norm
        return loss

    def _write_counts(self) -> None:
        """Has the states say how many updates they are of, where an interrupted step has not."""
        for known in self._tables.values():
            for table in known.tables:
                table.write_counts()
                if (
                    table.steps is None and table.made["steps"] == 0
                ):  # a first step that was not made leaves none
                    for place in table.places:
                        for name in known.states:
                            self.state[known.params[place]].pop(name, None)

    def _scalars(self, group: Group) -> dict[str, float]:
        options = self._options(group)
        return {name: float(options[name]) for name in RULES[self._rule(group)].scalars}

    def _tables_of(
        self, index: int, group: Group, params: list[Tensor], scalars: dict[str, float]
    ) -> list[Table]:
        """The group's tables, those of the step before where parameters and states are where they were."""
        states = RULES[self._rule(group)].kept(scalars)
        grads = [_gradient(p) for p in params]
        known = self._tables.get(index)
        if known is None or not known.fit(params, grads, states, self.state):
            tables = self._new_tables(group, params, grads, states)
            entries = [self.state[p] for p in params]
            known = Tables(params, states, tables, entries, _values(entries))
            self._tables[index] = known
        return known.tables

    def _new_tables(
        self, group: Group, params: list[Tensor], grads: list[Tensor], states: tuple[str | None, ...]
    ) -> list[Table]:
        sorts: dict[Any, list[int]] = {}
        entries = []  # states to be, each set as a whole: an interruption leaves no half of one
        for i, p in enumerate(params):
            _require_takeable(p)
            entry = dict(self.state[p])
            first = False
            for name in states:
                if name is not None and entry.get(name) is None:
                    entry[name] = self._initial(p, name, entry)
                    first = True
                elif name is not None:  # torch.optim makes some with the strides of the first gradient
                    entry[name] = entry[name].contiguous()
            entries.append(entry)
            count = float(entry.get("step", 0.0)) if self._counted else 0.0
            sorts.setdefault((p.dtype, count, first), []).append(i)
        tables = []
        for (_, count, first), places in sorts.items():
            steps = torch.full((len(places),), count) if self._counted else None
            pieces = []
            for at, i in enumerate(places):
                entry = entries[i]
                if steps is not None:
                    entry["step"] = steps[at]
                self.state[params[i]].update(entry)
                pieces.append(
                    (params[i], grads[i], [None if name is None else entry[name] for name in states])
                )
            segments = _native.Segments(self._rule(group), pieces, True)
            known = int(count) if self._counted else int(not first)
            made = {"steps": known, "written": known}
            tables.append(Table(tuple(places), segments, steps, made))
        return tables

    def _initial(self, p: Tensor, name: str, entry: dict[str, Any]) -> Tensor:
        """What a state of a parameter begins with, beside those that are there."""
        return torch.zeros_like(p, memory_format=torch.preserve_format)

    _counted = True  # whether states have "step"

    # ------------------------------------------------------------------------------- saving and loading
    def state_dict(self) -> Any:
        """As torch.optim's."""
        self._write_counts()
        return super().state_dict()

    def load_state_dict(self, state_dict: Any) -> None:
        """As torch.optim's; takes state dicts of torch.optim's optimizer of the same name."""
        super().load_state_dict(state_dict)
        self._forget()

    def add_param_group(self, param_group: Group) -> None:
        """As torch.optim's."""
        super().add_param_group(param_group)
        if "_tables" in self.__dict__:
            self._write_counts()
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        self._write_counts()
        state: dict[str, Any] = dict(super().__getstate__())
        for name in ("clip_norm", "skip_nonfinite", "grad_norm"):
            state[name] = getattr(self, name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        self.__dict__["_tables"] = {}


def _same(some: list[Any], others: list[Any]) -> bool:
    """Whether the lists hold the same objects: one call for hundreds of parameters, at every step."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _values(entries: list[dict[str, Any]]) -> list[Any]:
    """What is in all of them."""
    return list(chain.from_iterable(map(dict.values, entries)))


def _gradient(p: Tensor) -> Tensor:
    grad = p.grad
    assert grad is not None
    if grad.is_sparse:
        raise NotImplementedError(
            "sparse gradients are not supported by fusedrnn.torch.optim: use sparse=False of the Embedding, "
            "or torch.optim.SparseAdam for its parameters"
        )
    return grad.resolve_neg().contiguous()  # both return itself where there is nothing to do


def _require_takeable(p: Tensor) -> None:
    if p.device.type != "cpu":
        raise ValueError(
            f"fusedrnn.torch.optim updates parameters on the CPU, one is on {p.device}: use torch.optim"
        )
    if p.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"fusedrnn.torch.optim takes parameters of torch.float32 and torch.float64, one is {p.dtype}: "
            "use module.float(), or torch.optim"
        )
    if not p.is_contiguous():
        raise ValueError(
            "fusedrnn.torch.optim takes contiguous parameters, one is not: use nn.Parameter(p.contiguous())"
        )
