"""What all optimizers share: parameter groups, the step with clipping folded in, saving and loading."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core import checks, keywords, torch_hints
from fusedrnn._core.parameter import Parameter, host_copy, on_host, storages, store, zeros_for
from fusedrnn.functional.optim import clip_by_value_
from fusedrnn.functional.rules import RULES, check_count, check_scalars
from fusedrnn.optim.device_group import Counters, DeviceGroup
from fusedrnn.optim.segment_table import (
    Table,
    build_tables,
    require_no_module,
    require_one_device,
    require_order,
    storage_key,
    unique_parameters,
)

Array = NDArray[Any]
Group = dict[str, Any]
# Types of options that cannot change in place.
_FIXED = frozenset({float, int, bool, np.float32, np.float64})


class Optimizer:
    """Base of the optimizers: `Adam`, `AdamW`, `RMSprop`, `Adagrad`, `SGD`.

    Args:
        params: parameters, or pairs of a name and a parameter (``model.named_parameters()``), or dicts with
            either of a group under "params" and its own options beside them, as in ``[{"params": a},
            {"params": b, "lr": 1e-4}]``. A parameter given twice in a group counts once.
        defaults: options of the groups that have none of their own.

    Attributes:
        param_groups: list of dicts: "params", "step" (updates so far) and the options, which may be changed
            at any time.
        state: by parameter, a dict of arrays by PyTorch's names, made at the first step, where it is.

    A gradient of zeros is a gradient: momentum, averages and weight decay act on a parameter that no backward
    reached, where PyTorch passes over a gradient of None. What is written to ``p.grad`` always counts, unless
    the parameter is frozen (``requires_grad`` is False): then nothing acts on it. A group's "step" counts the
    updates of those that are not; a group of frozen ones makes none.

    All parameters are on one device. On a CUDA device a step is two kernels for all parameters of a group (of
    one dtype and up to 512), and waits for nothing: learning rate and step are read in its memory, and there
    it is decided whether a step is skipped. Reading "step" of a group waits where a step may have been.

    Raises:
        TypeError: a parameter is no `Parameter`; ValueError: there is none, one is in two groups, they are on
            different devices, or an option is out of its range.
    """

    kind: ClassVar[str]  # of functional.rules.RULES
    _derived: ClassVar[frozenset[str]] = frozenset()  # states that `_initial` makes of others
    _added: ClassVar[Mapping[str, Any]] = {}  # options that old files lack, and what those then mean

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        keywords.refuse(cls, kwargs, torch_hints.OPTIMIZER_OPTIONS, Optimizer)
        return super().__new__(cls)

    def __init__(
        self, params: Iterable[Parameter] | Iterable[Mapping[str, Any]], defaults: dict[str, Any]
    ) -> None:
        if isinstance(params, (Parameter, Mapping)):
            raise TypeError(
                f"params must be an iterable of parameters or dicts, it is a {type(params).__name__}: "
                "put it in a list"
            )
        require_no_module(params)
        require_order(params)
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Array]] = {}
        self._names: dict[Parameter, str] = {}  # those given with parameters
        self._tables: list[list[Table]] | None = None  # of the parameters that are trained
        self._flips, self._trained = -1, ()  # what `_ready` has seen
        self._seen: dict[int, tuple[list[Any], dict[str, float]]] = {}  # by `_checked_scalars`
        self._taken: tuple[list[Group], int, set[Any]] | None = None  # by `_taken_by`
        given = checks.several("params", params, "parameters, or dicts with them")
        if not given:
            raise ValueError("params must be at least one parameter, there is none")
        if not any(isinstance(g, Mapping) for g in given):
            given = [{"params": given}]
        for group in given:
            self.add_param_group(group)

    # ------------------------------------------------------------------------------------ a rule's arguments
    def _options(self, group: Group) -> dict[str, Any]:
        """The group with the rule's scalars by their names."""
        return group

    def _check(self, group: Group) -> None:
        """Raises ValueError, or TypeError, where an option of the group is not what it must be."""
        check_scalars(self.kind, self._options(group))

    def _states(self, group: Group) -> tuple[str | None, ...]:
        """Names of the states in the kernels' order, None where the group keeps none."""
        return RULES[self.kind].kept(self._options(group))

    def _scalars(self, group: Group) -> dict[str, float]:
        """The rule's scalars of the next update."""
        options = self._options(group)
        return {name: float(options[name]) for name in RULES[self.kind].scalars}

    def _checked_scalars(self, group: Group) -> dict[str, float]:
        """`_scalars` after `_check`; both again only where an option is another object than the last time."""
        options = [group[name] for name in self.defaults]
        seen = self._seen.get(id(group))
        if seen is not None and all(map(operator.is_, options, seen[0])):
            return seen[1]
        self._check(group)
        scalars = self._scalars(group)
        if len(self._seen) > 2 * len(self.param_groups):  # of groups that were taken out
            self._seen.clear()
        if all(_is_fixed(option) for option in options):
            self._seen[id(group)] = options, scalars
        return scalars

    # --------------------------------------------------------------------------------------------- groups
    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds a group like those the constructor takes."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(
                f"params must be all parameters or all dicts with 'params', one is {type(group).__name__}"
            )
        unknown = set(group) - set(self.defaults) - {"params"}
        if unknown:
            raise ValueError(
                f"a parameter group may have the options {sorted(self.defaults)}, it has {sorted(unknown)}"
            )
        unique = self._named(group["params"])
        own = {storage_key(p): p for p in unique}
        taken = self._taken_by(self.param_groups)
        if own.keys() & taken:  # unless a group was exchanged by hand
            taken = _storage_of(self.param_groups)
        for key in own.keys() & taken:
            raise ValueError(f"a parameter may be in one group only, {own[key].name!r} is in two")
        complete: Group = {**self.defaults, **group, "params": unique, "step": 0}
        self._check(complete)
        others: list[Parameter] = next(
            (other["params"] for other in self.param_groups if other["params"]), []
        )
        require_one_device([*others[:1], *unique[:1]])
        self.param_groups.append(_placed(complete))
        taken |= own.keys()
        self._taken = self.param_groups, len(self.param_groups), taken
        self._tables = None

    def _taken_by(self, groups: list[Group]) -> set[Any]:
        """`_storage_of` the groups, found anew where the caller has made the list longer or shorter."""
        if self._taken is not None and self._taken[0] is groups and self._taken[1] == len(groups):
            return self._taken[2]
        return _storage_of(groups)

    def _named(self, params: Any) -> list[Parameter]:
        """The parameters, each once, and their names remembered where pairs are given."""
        require_no_module(params)
        require_order(params)
        given = [params] if isinstance(params, Parameter) else checks.several("params", params, "parameters")
        for i, pair in enumerate(given):
            if isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str):
                given[i] = pair[1]
                if isinstance(pair[1], Parameter):
                    self._names[pair[1]] = pair[0]
        return unique_parameters(given)

    @property
    def lr(self) -> float:
        """Learning rate. Setting it sets that of every group.

        Raises:
            ValueError: on reading, groups have different ones; on setting, it is negative or not finite.
        """
        rates = {float(group["lr"]) for group in self.param_groups}
        if len(rates) > 1:
            raise ValueError(f"lr differs between groups ({sorted(rates)}): read param_groups[i]['lr']")
        return rates.pop()

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            options = {name: group[name] for name in self.defaults}  # reading "step" may wait for the device
            self._check({**options, "lr": value})
        for group in self.param_groups:
            group["lr"] = float(value)
            if isinstance(group, DeviceGroup):
                group.counters.arrays(float(value))  # for graphs that are launched without a call of ours

    # ----------------------------------------------------------------------------------------------- step
    def zero_grad(self, set_to_none: None = None) -> None:
        """Sets the gradients of all parameters to zero. There is no `set_to_none`: they are arrays."""
        keywords.refuse_option("zero_grad", "set_to_none", set_to_none, torch_hints.ZERO_GRAD)
        for grad in storages(p for group in self.param_groups for p in group["params"])[1]:
            grad.fill(0)

    def step(
        self,
        clip_norm: float | None = None,
        skip_nonfinite: bool = False,
        *,
        clip_value: float | None = None,
        closure: None = None,
    ) -> Any:
        """Updates every parameter from its gradient, in one pass; the gradients stay as they are.

        Args:
            clip_norm: scale gradients by min(1, clip_norm / (norm + 1e-6)) on their way into the update,
                norm being that of all gradients together (Pascanu et al. 2013).
            skip_nonfinite: if the norm is infinite or NaN, change nothing and do not count the step.
            clip_value: clamp every element of the gradients to [-clip_value, clip_value] first, in place, as
                `clip_grad_value_` does: infinite ones become finite, NaN stays. Not with clip_norm.

        Returns:
            The norm before clipping, None without clip_norm. `math.inf` has it measured and clips nothing.
            A float, or of parameters on a CUDA device a `DeviceArray` without axes: ``float(norm)`` waits.

        Raises:
            ValueError: clip_norm or clip_value is negative or NaN, both are given, or an option of a group is
                out of its range; nothing is changed then.
        """
        keywords.refuse_option("step", "closure", closure, torch_hints.CLOSURE)
        if callable(clip_norm):  # PyTorch's step has the closure first
            raise TypeError(
                f"clip_norm must be None or a number, it is of type {type(clip_norm).__name__}: "
                f"there is no closure, {torch_hints.CLOSURE}"
            )
        self._check_clip(clip_norm, clip_value)
        checks.flag("skip_nonfinite", skip_nonfinite)
        for group in self.param_groups:
            self._require_known(group)
        scalars = [self._checked_scalars(group) for group in self.param_groups]
        tables = self._prepared()
        updates = [
            (table.segments, values, *self._update_args(group))
            for group, values, group_tables in zip(self.param_groups, scalars, tables, strict=True)
            for table in group_tables
        ]
        unclipped = math.inf if skip_nonfinite else None
        max_norm = unclipped if clip_norm is None else float(clip_norm)
        if clip_value is not None:
            trained = (p for own in tables for table in own for p in table.params)
            clip_by_value_([p.grad for p in trained], clip_value)
        if not updates:  # all are frozen
            return None if clip_norm is None else 0.0
        counted, device_steps = self._counted(tables), self._device_steps(tables)
        norm = _native.clipped_update(updates, max_norm, skip_nonfinite, counted)
        self._device_updated(device_steps, may_skip=skip_nonfinite)
        return None if clip_norm is None else norm

    def _counted(self, tables: list[list[Table]]) -> list[tuple[dict[str, Any], str]]:
        """What the native call that updates all groups counts: updates on the host, and writes to buffers."""
        counters: list[tuple[dict[str, Any], str]] = [
            (group, "step")
            for group, own in zip(self.param_groups, tables, strict=True)
            if own and not isinstance(group, DeviceGroup)
        ]
        for group_tables in tables:
            for table in group_tables:
                counters += table.counted()
        return counters

    def _device_steps(self, tables: list[list[Table]]) -> list[tuple[Counters, int | None]]:
        """The counters of groups on a device, with the updates so far, before another; `Counters.update`."""
        return [
            (group.counters, group.counters.update())
            for group, own in zip(self.param_groups, tables, strict=True)
            if own and isinstance(group, DeviceGroup)
        ]

    @staticmethod
    def _device_updated(steps: list[tuple[Counters, int | None]], may_skip: bool) -> None:
        """Counts an update after `_device_steps`, which a device may skip."""
        for counters, known in steps:
            counters.updated(None if may_skip else known)

    def _update_args(self, group: Group) -> tuple[int, tuple[Array, Array] | None]:
        """Arguments of the next update of a group: its number and, on a device, where that is."""
        if isinstance(group, DeviceGroup):
            return 1, group.counters.arrays(float(group["lr"]))
        return check_count(group["step"]) + 1, None

    def _require_known(self, group: Group) -> None:
        """Raises ValueError where a group has an option that no rule reads."""
        if len(group) > len(self.defaults) + 2:
            unknown = sorted(set(group) - {*self.defaults, "params", "step"})
            raise ValueError(
                f"a parameter group may have the options {sorted(self.defaults)}, it has {unknown}"
            )

    def _plain(self) -> bool:
        """Whether `step` is the one above, so that a training step may make its native calls itself."""
        return type(self).step is Optimizer.step and "step" not in self.__dict__

    @staticmethod
    def _check_clip(clip_norm: Any, clip_value: Any) -> None:
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, numbers.Real)):
                raise TypeError(f"{name} must be None or a number, it is of type {type(limit).__name__}")
            if limit is not None and not checks.real(name, limit) >= 0:
                raise ValueError(f"{name} must be None or at least 0, it is {limit}")
        if clip_norm is not None and clip_value is not None:
            raise ValueError(
                f"clip_value must be None with clip_norm, it is {clip_value}: for both, call "
                "clip_grad_value_ before the step"
            )

    def _prepared(self) -> list[list[Table]]:
        """The groups' segment tables, built again where parameters have moved or a rule's states changed."""
        names = [self._states(group) for group in self.param_groups]
        known = self._ready()
        if known is None or any(
            not table.fits(wanted) for wanted, tables in zip(names, known, strict=True) for table in tables
        ):
            self._tables = known = [
                build_tables(self.kind, [p for p in group["params"] if p.requires_grad], wanted, self._state)
                for group, wanted in zip(self.param_groups, names, strict=True)
            ]
        return known

    def _ready(self) -> list[list[Table]] | None:
        """The tables, None where there are none yet or other parameters are frozen now."""
        if self._flips != Parameter._flips:
            trained = tuple(p.requires_grad for group in self.param_groups for p in group["params"])
            if trained != self._trained:
                self._tables = None
            self._flips, self._trained = Parameter._flips, trained
        return self._tables

    def _state(self, p: Parameter, name: str) -> Array:
        """State `name` of a parameter, made if there is none yet."""
        state = self.state.setdefault(p, {})
        if name not in state:
            state[name] = self._initial(p, name)
        return state[name]

    def _initial(self, p: Parameter, name: str) -> Array:
        """What a state begins as, on the parameter's device."""
        zeros: Array = zeros_for(p)
        return zeros

    # -------------------------------------------------------------------------------- saving and loading
    def state_dict(self) -> dict[str, Any]:
        """A copy of all states and options, structured as PyTorch's, arrays being NumPy's.

        ``{"state": {index: {"step": n, name: array}}, "param_groups": [{"params": [index], option: value}]}``
        with parameters numbered through all groups. A group's "param_names", those that its parameters were
        given with, else their own, are compared when it is loaded.
        """
        state: dict[int, dict[str, Any]] = {}
        groups = []
        index = 0
        for group in self.param_groups:
            first = index
            for p in group["params"]:
                if group["step"] > 0:
                    names = [name for name in self._states(group) if name is not None]
                    arrays = {name: host_copy(self._state(p, name)) for name in names}
                    state[index] = {"step": group["step"], **arrays}
                index += 1
            options = {name: value for name, value in group.items() if name not in ("params", "step")}
            names = [self._names.get(p, p.name) for p in group["params"]]
            groups.append({"params": list(range(first, index)), **options, "param_names": names})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned, from an optimizer of the same rule and like parameters.

        Keys of "state" may be numbers or their decimal text (as JSON makes them). Arrays are copied.

        Raises:
            ValueError, TypeError: groups, options, names, shapes or dtypes do not fit; the message names
                what. Nothing is changed then.
        """
        checks.mapping("state_dict", state_dict, "what state_dict returned")
        saved = state_dict.get("param_groups"), state_dict.get("state")
        if not isinstance(saved[0], (list, tuple)) or not isinstance(saved[1], Mapping):
            raise ValueError("state_dict must have the list 'param_groups' and the dict 'state'")
        if len(saved[0]) != len(self.param_groups):
            raise ValueError(
                f"state_dict must have {len(self.param_groups)} parameter groups, it has {len(saved[0])}"
            )
        states = {_number(key): value for key, value in saved[1].items()}
        groups: list[Group] = []
        loaded: dict[Parameter, dict[str, Array]] = {}
        for i, (group, new) in enumerate(zip(self.param_groups, saved[0], strict=True)):
            options = self._loaded_options(group, new, f"state_dict['param_groups'][{i}]")
            steps = set()
            for p, key in zip(group["params"], new["params"], strict=True):
                label = f"state_dict['state'][{key!r}]"
                entry = dict(checks.mapping(label, states.pop(_number(key), {}), "a dict of arrays by name"))
                step = checks.integer(f"{label}['step']", entry.pop("step", 0), -(2**63))
                steps.add(step)
                names = self._states(options) if step > 0 else ()
                loaded[p] = _loaded_arrays(p, entry, names, self._derived, label)
            if len(steps) > 1 or min(steps, default=0) < 0:
                raise ValueError(f"step must be one number >= 0 in all of group {i}, it is {sorted(steps)}")
            groups.append({**options, "step": steps.pop() if steps else 0})
        if states:
            raise ValueError(
                f"state_dict['state'] must have parameters 0..{len(loaded) - 1}, has {set(states)}"
            )
        # At once, so that Ctrl-C leaves all of the old or has all of the new.
        self.__dict__.update(
            param_groups=[_placed(dict(group)) for group in groups],
            state={p: arrays for p, arrays in loaded.items() if arrays},
            _tables=None,
        )

    def _loaded_options(self, group: Group, new: Mapping[str, Any], label: str) -> Group:
        """The group with the options of `new`, checked."""
        checks.mapping(label, new, "a dict of options")
        new = {**self._added, **new}
        if set(new) - {"param_names"} != {*self.defaults, "params"}:
            raise ValueError(
                f"{label} must have the options {sorted(self.defaults)} and 'params', it has {sorted(new)}"
            )
        numbers = checks.several(f"{label}['params']", new["params"], "numbers of parameters")
        if len(numbers) != len(group["params"]):
            raise ValueError(
                f"{label} must have {len(group['params'])} parameters, it has {len(new['params'])}"
            )
        own = [self._names.get(p, p.name) for p in group["params"]]
        names = list(new.get("param_names", own))
        if names != own:
            raise ValueError(
                f"{label}['param_names'] must be {own}, they are {names}: parameters are in another order"
            )
        options = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in new.items()
            if name not in ("params", "param_names")
        }
        checked = {**group, **options}
        self._check(checked)
        return checked

    def __getstate__(self) -> dict[str, Any]:
        """Arrays in host memory; parameters know where to bring them back to."""
        state = {p: {name: on_host(a) for name, a in own.items()} for p, own in self.state.items()}
        derived: dict[str, Any] = {"_tables": None, "_flips": -1, "_seen": {}, "_taken": None}
        return {**self.__dict__, **derived, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fresh = {"_names": {}, "_flips": -1, "_trained": (), "_seen": {}, "_taken": None}
        self.__dict__.update({**fresh, **state})
        self.defaults = {**self._added, **self.defaults}
        self.param_groups = [_placed({**self._added, **group}) for group in self.param_groups]
        for p, own in self.state.items():
            if p.device != "cpu":
                own.update({name: _beside(p, array) for name, array in own.items()})

    def __repr__(self) -> str:
        groups = [
            ", ".join(f"{name}={value}" for name, value in group.items() if name not in ("params", "step"))
            for group in self.param_groups
        ]
        return f"{type(self).__name__}({'; '.join(groups)})"


def _storage_of(groups: list[Group]) -> set[Any]:
    """The storage of all parameters in the groups."""
    return {storage_key(p) for group in groups for p in group["params"]}


def _number(key: Any) -> int:
    """The number of a parameter in a state dict, or its decimal text."""
    if isinstance(key, str) and key.isascii() and key.isdigit():
        return int(key)
    return checks.integer("a key of state_dict['state']", key)


def _loaded_arrays(
    p: Parameter,
    entry: dict[str, Any],
    names: tuple[str | None, ...],
    derived: frozenset[str],
    label: str,
) -> dict[str, Array]:
    """Copies of a parameter's saved states: those that `names` says, of which `derived` may be missing."""
    expected = {name for name in names if name is not None}
    if not expected - derived <= set(entry) <= expected:
        raise ValueError(f"{label} must have {sorted(expected)}, it has {sorted(entry)}")
    arrays = {}
    for name, value in entry.items():
        checks.require_no_mask(f"{label}['{name}']", value)
        if not isinstance(value, np.ndarray):
            raise TypeError(f"{label}['{name}'] must be a NumPy array, it is a {type(value).__name__}")
        if value.dtype != p.dtype:
            raise TypeError(f"{label}['{name}'] must be {p.dtype}, it is {value.dtype}")
        if value.shape != p.shape:
            raise ValueError(f"{label}['{name}'] must have shape {p.shape}, it has {value.shape}")
        arrays[name] = _beside(p, value)
    return arrays


def _beside(p: Parameter, array: Array) -> Array:
    """A copy of a NumPy array where the parameter is."""
    copy: Array = zeros_for(p)
    store(copy, array)
    return copy


def _placed(group: Group) -> Group:
    """The group, such that a device counts its updates if its parameters are there."""
    on_device = any(p.device != "cpu" for p in group["params"])
    return DeviceGroup(group) if on_device and not isinstance(group, DeviceGroup) else group


def _is_fixed(option: Any) -> bool:
    """Whether an option that is the same object has the same value."""
    return type(option) in _FIXED or (type(option) is tuple and all(type(part) in _FIXED for part in option))
