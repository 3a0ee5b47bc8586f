"""What of a model, and of a call, a native training step depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fusedrnn._core.parameter import Parameter
from fusedrnn._native import LossSpec
from fusedrnn.nn.module import LayerSpec, Module
from fusedrnn.nn.sequential import Sequential
from fusedrnn.training.loss import Loss

Array = NDArray[Any]
_COMPUTATION = ("__call__", "forward", "backward", "zero_grad")


class Inputs(NamedTuple):
    """What a step is given, but for options of the optimizer. The native step takes it as it is."""

    x: Array
    y: Array
    mask: Array | None
    lengths: Array | None
    resets: Array | None
    loss: Loss | LossSpec
    state: Sequence[Any] | None


class Structure(NamedTuple):
    """The parts of a model; equal as long as a step made of them need not be made anew."""

    layers: list[Module]
    specs: list[LayerSpec]
    parameters: list[Parameter]


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
    specs = [layer._layer_spec() for layer in layers]
    kinds = [kind for kind, options, _ in specs if options.get("p") != 0]
    if "embedding" in kinds[1:] or not any(parameters for _, _, parameters in specs):
        return None
    parameters = list(model.parameters())
    if len({p.device for p in parameters}) > 1:
        return None
    return Structure(layers, specs, parameters)


def _flat(model: Sequential) -> list[Module] | None:
    """The layers with those of nested models in their place, None if any is not as this package made it."""
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
        elif _is_ours(type(layer)):
            layers.append(layer)
        else:
            return None
    return layers


def _is_ours(kind: type[Module]) -> bool:
    """Whether it is a layer of this package itself, which describes itself to the native step."""
    return kind.__module__.startswith("fusedrnn.nn.") and kind._layer_spec is not Module._layer_spec
