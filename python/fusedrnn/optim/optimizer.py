"""What all optimizers share: parameter groups, the step with clipping folded in, saving and loading."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusedrnn import _native
from fusedrnn._core.parameter import Parameter, host_copy, on_host, storages, store, zeros_for
from fusedrnn.functional.rules import RULES, check_count, check_scalars
from fusedrnn.optim.device_group import DeviceGroup
from fusedrnn.optim.segment_table import (
    Table,
    build_tables,
    require_no_module,
    require_one_device,
    storage_key,
    unique_parameters,
)

Array = NDArray[Any]
Group = dict[str, Any]


class Optimizer:
    """Base of the optimizers: `Adam`, `AdamW`, `RMSprop`, `Adagrad`, `SGD`.

    Args:
        params: parameters, or dicts with the parameters of a group under "params" and its own options
            beside them, as in ``[{"params": a}, {"params": b, "lr": 1e-4}]``. A parameter given twice in a
            group counts once.
        defaults: options of the groups that have none of their own.

    Attributes:
        param_groups: list of dicts: "params", "step" (updates so far) and the options, which may be changed
            at any time.
        state: by parameter, a dict of arrays by PyTorch's names, made at the first step, where it is.

    All parameters are on one device. On a CUDA device a step is two kernels for all parameters of a group (of
    one dtype and up to 512), and waits for nothing: learning rate and step are read in its memory, and there
    it is decided whether a step is skipped. Reading "step" of a group waits where a step may have been.

    Raises:
        TypeError: a parameter is no `Parameter`; ValueError: there is none, one is in two groups, they are on
            different devices, or an option is out of its range.
    """

    kind: ClassVar[str]  # of functional.rules.RULES
    _added: ClassVar[Mapping[str, Any]] = {}  # options that old files lack, and what those then mean

    def __init__(
        self, params: Iterable[Parameter] | Iterable[Mapping[str, Any]], defaults: dict[str, Any]
    ) -> None:
        if isinstance(params, (Parameter, Mapping)):
            raise TypeError(
                f"params must be an iterable of parameters or dicts, it is a {type(params).__name__}: "
                "put it in a list"
            )
        require_no_module(params)
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Array]] = {}
        self._tables: list[list[Table]] | None = None
        given: list[Any] = list(params)
        if not given:
            raise ValueError("params must be at least one parameter, there is none")
        if not any(isinstance(g, Mapping) for g in given):
            given = [{"params": given}]
        for group in given:
            self.add_param_group(group)

    # ----------------------------------------------------------------------------------- what a rule is told
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
        """What the rule's scalars are, as the next update is told."""
        options = self._options(group)
        return {name: float(options[name]) for name in RULES[self.kind].scalars}

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
        unique = unique_parameters(group["params"])
        taken = {storage_key(p) for other in self.param_groups for p in other["params"]}
        for p in unique:
            if storage_key(p) in taken:
                raise ValueError(f"a parameter may be in one group only, {p.name!r} is in two")
        complete: Group = {**self.defaults, **group, "params": unique, "step": 0}
        self._check(complete)
        require_one_device([p for other in (*self.param_groups, complete) for p in other["params"][:1]])
        self.param_groups.append(_placed(complete))
        self._tables = None

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
    def zero_grad(self) -> None:
        """Sets the gradients of all parameters to zero."""
        for grad in storages(p for group in self.param_groups for p in group["params"])[1]:
            grad.fill(0)

    def step(self, clip_norm: float | None = None, skip_nonfinite: bool = False) -> Any:
        """Updates every parameter from its gradient, in one pass; the gradients stay as they are.

        Args:
            clip_norm: scale gradients by min(1, clip_norm / (norm + 1e-6)) on their way into the update,
                norm being that of all gradients together (Pascanu et al. 2013).
            skip_nonfinite: if the norm is infinite or NaN, change nothing and do not count the step.

        Returns:
            The norm before clipping, None without clip_norm. `math.inf` has it measured and clips nothing.
            A float, or of parameters on a CUDA device a `DeviceArray` without axes: ``float(norm)`` waits.

        Raises:
            ValueError: clip_norm is negative or NaN, or an option of a group is out of its range; nothing
                is changed then.
        """
        self._check_clip(clip_norm)
        for group in self.param_groups:
            self._check(group)
        tables = self._prepared()
        updates = [
            (table.segments, *self._update_args(group))
            for group, group_tables in zip(self.param_groups, tables, strict=True)
            for table in group_tables
        ]
        norm = None
        on_device = any(isinstance(group, DeviceGroup) for group in self.param_groups)
        if clip_norm is not None or skip_nonfinite or on_device:
            unclipped = math.inf if skip_nonfinite else None
            norm = _native.clipped_update(
                updates, unclipped if clip_norm is None else float(clip_norm), skip_nonfinite
            )
            if skip_nonfinite and not on_device and not math.isfinite(norm):
                return None if clip_norm is None else norm
        else:
            for segments, scalars, step, _ in updates:
                _native.optimizer_step(segments, scalars, step, None)
        self._count_step(tables, may_skip=skip_nonfinite)
        return None if clip_norm is None else norm

    def _count_step(self, tables: list[list[Table]], may_skip: bool) -> None:
        """Counts an update of all groups, which a device skips, if it may, where gradients are not finite."""
        for group, group_tables in zip(self.param_groups, tables, strict=True):
            if isinstance(group, DeviceGroup):
                if _native.capturing():
                    group.counters.mark_captured()
                else:
                    group.counters.updated(may_skip)
            else:
                group["step"] += 1
            for table in group_tables:
                table.touch()

    def _update_args(self, group: Group) -> tuple[dict[str, float], int, tuple[Array, Array] | None]:
        """What the next update of a group is told: scalars, its number and, on a device, where that is."""
        if isinstance(group, DeviceGroup):
            return self._scalars(group), 1, group.counters.arrays(float(group["lr"]))
        return self._scalars(group), check_count(group["step"]) + 1, None

    def _plain(self) -> bool:
        """Whether `step` is the one above, so that a training step may make its native calls itself."""
        return type(self).step is Optimizer.step and "step" not in self.__dict__

    @staticmethod
    def _check_clip(clip_norm: Any) -> None:
        if clip_norm is not None and not isinstance(clip_norm, numbers.Real):
            raise TypeError(f"clip_norm must be None or a number, it is of type {type(clip_norm).__name__}")
        if clip_norm is not None and not float(clip_norm) >= 0:
            raise ValueError(f"clip_norm must be None or at least 0, it is {clip_norm}")

    def _prepared(self) -> list[list[Table]]:
        """The groups' segment tables, built again where parameters have moved or a rule's states changed."""
        names = [self._states(group) for group in self.param_groups]
        if self._tables is None or any(
            not table.fits(wanted)
            for wanted, tables in zip(names, self._tables, strict=True)
            for table in tables
        ):
            self._tables = [
                build_tables(self.kind, group["params"], wanted, self._state)
                for group, wanted in zip(self.param_groups, names, strict=True)
            ]
        return self._tables

    def _state(self, p: Parameter, name: str) -> Array:
        """State `name` of a parameter, made of zeros if there is none yet."""
        state = self.state.setdefault(p, {})
        if name not in state:
            state[name] = zeros_for(p)
        return state[name]

    # -------------------------------------------------------------------------------- saving and loading
    def state_dict(self) -> dict[str, Any]:
        """A copy of all states and options, structured as PyTorch's, arrays being NumPy's.

        ``{"state": {index: {"step": n, name: array}}, "param_groups": [{"params": [index], option: value}]}``
        with parameters numbered through all groups.
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
            groups.append({"params": list(range(first, index)), **options})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned, from an optimizer of the same rule and like parameters.

        Keys of "state" may be numbers or their decimal text (as JSON makes them). Arrays are copied.

        Raises:
            ValueError, TypeError: groups, options, names, shapes or dtypes do not fit; the message names
                what. Nothing is changed then.
        """
        saved = state_dict.get("param_groups"), state_dict.get("state")
        if not isinstance(saved[0], (list, tuple)) or not isinstance(saved[1], Mapping):
            raise ValueError("state_dict must have the list 'param_groups' and the dict 'state'")
        if len(saved[0]) != len(self.param_groups):
            raise ValueError(
                f"state_dict must have {len(self.param_groups)} parameter groups, it has {len(saved[0])}"
            )
        states = {int(key): value for key, value in saved[1].items()}
        groups: list[Group] = []
        loaded: dict[Parameter, dict[str, Array]] = {}
        for i, (group, new) in enumerate(zip(self.param_groups, saved[0], strict=True)):
            options = self._loaded_options(group, new, f"state_dict['param_groups'][{i}]")
            steps = set()
            for p, key in zip(group["params"], new["params"], strict=True):
                entry = dict(states.pop(int(key), {}))
                step = int(entry.pop("step", 0))
                steps.add(step)
                names = self._states(options) if step > 0 else ()
                loaded[p] = _loaded_arrays(p, entry, names, f"state_dict['state'][{key}]")
            if len(steps) > 1 or min(steps, default=0) < 0:
                raise ValueError(f"step must be one number >= 0 in all of group {i}, it is {sorted(steps)}")
            groups.append({**options, "step": steps.pop() if steps else 0})
        if states:
            raise ValueError(
                f"state_dict['state'] must have parameters 0..{len(loaded) - 1}, has {set(states)}"
            )
        for group, new in zip(self.param_groups, groups, strict=True):
            group.update(new)
        self.state = {p: arrays for p, arrays in loaded.items() if arrays}
        self._tables = None

    def _loaded_options(self, group: Group, new: Mapping[str, Any], label: str) -> Group:
        """The group with the options of `new`, checked."""
        new = {**self._added, **new}
        if set(new) != {*self.defaults, "params"}:
            raise ValueError(
                f"{label} must have the options {sorted(self.defaults)} and 'params', it has {sorted(new)}"
            )
        if len(new["params"]) != len(group["params"]):
            raise ValueError(
                f"{label} must have {len(group['params'])} parameters, it has {len(new['params'])}"
            )
        options = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in new.items()
            if name != "params"
        }
        checked = {**group, **options}
        self._check(checked)
        return checked

    def __getstate__(self) -> dict[str, Any]:
        """Arrays in host memory; parameters know where to bring them back to."""
        state = {p: {name: on_host(a) for name, a in own.items()} for p, own in self.state.items()}
        return {**self.__dict__, "_tables": None, "state": state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
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


def _loaded_arrays(
    p: Parameter, entry: dict[str, Any], names: tuple[str | None, ...], label: str
) -> dict[str, Array]:
    """Copies of a parameter's saved states, which must be those that `names` says."""
    expected = {name for name in names if name is not None}
    if set(entry) != expected:
        raise ValueError(f"{label} must have {sorted(expected)}, it has {sorted(entry)}")
    arrays = {}
    for name, value in entry.items():
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
