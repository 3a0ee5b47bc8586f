"""Swapping a model's recurrent modules for this package's, in place, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from fusedrnn.torch import beyond, cells, modules
from fusedrnn.torch.keeps_packing import KeepsPacking
from fusedrnn.torch.precision import PRECISIONS

_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LSTM: modules.LSTM,
    nn.GRU: modules.GRU,
    nn.RNN: modules.RNN,
    nn.LSTMCell: cells.LSTMCell,
    nn.GRUCell: cells.GRUCell,
    nn.RNNCell: cells.RNNCell,
}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_RECURRENT = (nn.RNNBase, nn.modules.rnn.RNNCellBase)
_DTYPES = (torch.float32, torch.float64)


class Report(NamedTuple):
    """What `replace` did.

    Attributes:
        replaced: names of modules that are this package's now, "" for the model itself.
        kept: names of recurrent modules that stay as they were, with the reason.
        difference: with ``verify``, the largest difference of any output to that before, as a part of the
            largest output; else None.
    """

    replaced: tuple[str, ...]
    kept: dict[str, str]
    difference: float | None = None

    def __str__(self) -> str:
        lines = [f"replaced: {', '.join(name or 'the model itself' for name in self.replaced) or 'nothing'}"]
        lines += [f"kept {name or 'the model itself'}: {reason}" for name, reason in self.kept.items()]
        if self.difference is not None:
            lines.append(f"largest difference of outputs: {self.difference:.1e} of the largest output")
        return "\n".join(lines)


def _require_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, it is {type(model).__name__}")


def replace(
    model: nn.Module,
    filter: Callable[[str, nn.Module], bool] | None = None,
    unsupported: str = "raise",
    precision: str | None = None,
    verify: Any = None,
) -> Report:
    """Makes every nn.LSTM, nn.GRU, nn.RNN and cell of a model one of this package's, in place.

    Only a module's class changes: parameters are the same objects, and names, hooks, optimizers, wrappers and
    state dicts stay. ``isinstance(m, nn.LSTM)`` is False from then on. An attribute by the name of an option,
    ``m.recompute`` say, is that option from then on.

        model = nn.Sequential(nn.LSTM(8, 16))
        print(ft.replace(model))

    Args:
        model: a module, which may itself be recurrent.
        filter: called with the name and the module; False keeps it.
        unsupported: what to do about recurrent modules that cannot be replaced: "raise", before anything is
            changed, or "keep" and report them.
        precision: of the replaced modules, see `Recurrent`; None for the default.
        verify: an input of the model, a tuple of positional or a dict of named ones: the model runs before
            and after, in eval mode, and the outputs are compared.

    Returns:
        What was replaced and what was kept, with reasons.

    Raises:
        NotImplementedError: a module cannot be replaced, and unsupported is "raise".
        TypeError: model is no module, or filter is nothing that can be called.
        ValueError: unsupported or precision is unknown.
        RuntimeError: verify found a difference beyond rounding; the model is as it was before.
    """
    _require_module(model)
    if filter is not None and not callable(filter):
        raise TypeError(f"filter must be None or a function, it is {type(filter).__name__}")
    if unsupported not in ("raise", "keep"):
        raise ValueError(f"unsupported must be 'raise' or 'keep', it is {unsupported!r}")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(
            f"precision must be None or one that this machine's kernels have, it is {precision!r}"
        )
    chosen: dict[str, nn.Module] = {}
    kept: dict[str, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, KeepsPacking) or not _recurrent(module):
            continue
        if filter is not None and not filter(name, module):
            kept[name] = "the filter keeps it"
            continue
        reason = _obstacle(module)
        if reason is None:
            chosen[name] = module
        elif unsupported == "raise":
            raise NotImplementedError(
                f"{name or 'the model'} cannot be replaced: {reason}. With unsupported='keep' it stays as it "
                "is and is reported; nothing was changed"
            )
        else:
            kept[name] = reason
    before = None if verify is None else _outputs(model, verify)
    own: list[dict[str, Any]] = []
    for module in chosen.values():
        own.append({name: module.__dict__[name] for name in beyond.SETTABLE if name in module.__dict__})
        ours = _OURS[type(module)]
        module.__dict__.update(_options(module, ours))
        module.__class__ = ours
        module.precision = precision
    if before is None:
        return Report(tuple(chosen), kept)
    try:
        difference = _difference(before, _outputs(model, verify), model)
    except BaseException:
        _restore(chosen.values())
        for module, attributes in zip(chosen.values(), own, strict=True):
            module.__dict__.update(attributes)
        raise
    return Report(tuple(chosen), kept, difference)


def restore(model: nn.Module) -> tuple[str, ...]:
    """Makes a model's modules torch.nn's again, in place; returns their names.

    ft.restore(model)

    Raises:
        RuntimeError: a module has parametrizations, or an option that torch.nn has not; its name is in the
            message.
    """
    _require_module(model)
    ours = {name: module for name, module in model.named_modules() if type(module) in _THEIRS}
    for name, module in model.named_modules():
        if isinstance(module, KeepsPacking) and is_parametrized(module):
            raise RuntimeError(
                f"{name or 'the model'} has parametrizations, and with them a class of its own: remove them "
                "first (torch.nn.utils.parametrize.remove_parametrizations), and register them anew after"
            )
    for name, module in ours.items():
        for option, value in module.beyond_torch().items():
            fix = (
                f"set it to {beyond.SETTABLE[option]!r} first"
                if option in beyond.SETTABLE
                else "no module of torch.nn computes that"
            )
            raise RuntimeError(
                f"{name or 'the model'} has {option}={value!r}, which torch.nn's module has not: {fix}. "
                "Nothing was restored"
            )
    _restore(ours.values())
    return tuple(ours)


def _restore(ours: Any) -> None:
    for module in ours:
        variants = getattr(module, "_variants", ())
        for name in ("_packing", "_plain_call", "_flow", "precision", *beyond.SETTABLE, *variants):
            module.__dict__.pop(name, None)
        module.__class__ = _THEIRS[type(module)]
        if isinstance(module, nn.RNNBase):
            module._init_flat_weights()


@contextmanager
def patched() -> Iterator[None]:
    """Within it torch.nn's names of recurrent modules are this package's, for code that builds models.

        with ft.patched():
            model = build()

    It holds for all threads of the process. What these modules refuse raises where it is built.

    Raises:
        NotImplementedError, ValueError: by ``build``, as `LSTM`, `GRU` and `RNN` do.
    """
    names = {theirs.__name__: ours for theirs, ours in _OURS.items()}
    places = (nn, nn.modules, nn.modules.rnn)
    before = [{name: getattr(place, name) for name in names} for place in places]
    try:
        for place in places:
            for name, ours in names.items():
                setattr(place, name, ours)
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            for name, theirs in old.items():
                setattr(place, name, theirs)


def _recurrent(module: nn.Module) -> bool:
    return isinstance(module, _RECURRENT) or _kind(module) is not None


def _kind(module: nn.Module) -> str | None:
    """What a module is that has the place of a recurrent one but not its class."""
    own = type(module)
    name = getattr(module, "original_name", own.__name__)
    if name not in {theirs.__name__ for theirs in _OURS}:
        return None
    if isinstance(module, torch.jit.ScriptModule):
        return "a scripted module"
    return "a quantized module" if own.__module__.startswith("torch.ao.") else None


def _obstacle(module: nn.Module) -> str | None:
    """Why a recurrent module cannot be replaced, None where it can."""
    kind = _kind(module)
    if kind is not None:
        return f"it is {kind}, whose weights are not parameters: replace before that"
    parametrized = nn.utils.parametrize.is_parametrized(module)
    own = type(module).__bases__[0] if parametrized else type(module)
    if own not in _OURS:
        return (
            f"it is of the class {own.__module__}.{own.__qualname__}, whose own methods would be lost: "
            "derive it from fusedrnn.torch's module"
        )
    if parametrized:
        return (
            "its parametrizations live in a class of its own: build it as fusedrnn.torch's module, and "
            "parametrize that"
        )
    for name, weight in module.named_parameters():
        if weight.dtype not in _DTYPES:
            return f"its {name} is {weight.dtype}: use module.float()"
    return _misnomer(module, _OURS[own])


def _misnomer(module: nn.Module, ours: Any) -> str | None:
    """Why an attribute of a module by the name of an option is none that `ours` could have."""
    for name, default in getattr(ours, "_variants", {}).items():
        if getattr(module, name, default) is not default:
            return (
                f"its attribute {name} is not {default}, which only another cell has: make it as "
                f"fusedrnn.torch.{ours.__name__}({name}={not default}), or give the attribute another name"
            )
    try:
        _options(module, ours)
    except (AttributeError, TypeError, ValueError) as error:
        return f"its attribute {error}"
    return None


def _options(module: nn.Module, ours: Any) -> dict[str, Any]:
    """Options of `ours` that are set on a module of torch.nn's, as the module keeps them.

    Raises:
        AttributeError, TypeError, ValueError: one cannot be of `ours`; the message begins with its name.
    """
    found = {name: getattr(module, name) for name in beyond.SETTABLE if hasattr(module, name)}
    for name, value in found.items():
        if issubclass(ours, cells.Cell):
            raise AttributeError(beyond.not_of_a_cell(name, ours.__name__))
        found[name] = beyond.checked(name, value, ours._pair, module.bidirectional)
    return found


def _outputs(model: nn.Module, given: Any) -> list[torch.Tensor]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            if isinstance(given, dict):
                result = model(**given)
            elif isinstance(given, tuple) and not isinstance(given, PackedSequence):
                result = model(*given)
            else:
                result = model(given)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return list(_tensors(result))


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, PackedSequence):
        yield result.data
    elif isinstance(result, dict):
        for value in result.values():
            yield from _tensors(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from _tensors(value)


def _difference(before: list[torch.Tensor], after: list[torch.Tensor], model: nn.Module) -> float:
    largest = 0.0
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape:
            raise RuntimeError(f"verify: an output was {tuple(old.shape)} and is {tuple(new.shape)}")
        if old.is_floating_point() and old.numel():
            scale = float(old.nan_to_num(nan=0, posinf=0, neginf=0).abs().max()) or 1.0
            unequal = (old != new) & ~(old.isnan() & new.isnan())  # infinities that agree have no difference
            difference = torch.where(unequal, (old - new).abs(), torch.zeros_like(old))
            largest = max(largest, float(difference.nan_to_num(nan=math.inf).max()) / scale)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    allowed = torch.finfo(dtype).eps ** 0.5
    if not largest <= allowed:
        raise RuntimeError(
            f"verify: outputs differ by {largest:.1e} of the largest, more than the {allowed:.1e} that "
            "rounding may do; nothing was replaced"
        )
    return largest
