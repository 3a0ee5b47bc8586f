"""What regularises a recurrent module: probabilities of the masks that its calls draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fusedrnn._core import probabilities

#: Options beyond torch.nn's, and the values that do nothing.
DEFAULTS: dict[str, Any] = {
    "dropout_mode": "step", "recurrent_dropout": 0.0, "zoneout": 0.0, "weight_dropout": 0.0,
}  # fmt: skip


class Masks(NamedTuple):
    """A call's options of masks; the types are those of an op's arguments.

    Attributes:
        dropout: of a layer's input, but the first's.
        per_sequence: whether dropout has one mask for all steps.
        recurrent: of h on its way into R h.
        zoneout_c, zoneout_h: of keeping a state; without training of its expectation.
        weight: of elements of R.
    """

    dropout: float = 0.0
    per_sequence: bool = False
    recurrent: float = 0.0
    zoneout_c: float = 0.0
    zoneout_h: float = 0.0
    weight: float = 0.0


NONE = Masks()


def checked(name: str, value: Any, pair: bool) -> Any:
    """One of the options as a module's attribute keeps it; `pair` says whether the module's state is (h, c).

    Raises:
        TypeError, ValueError: it is of a wrong type or out of range.
    """
    if name == "dropout_mode":
        probabilities.dropout_mode(value)
        return value
    if name != "zoneout":
        return probabilities.probability(name, value)
    c, h = probabilities.zoneout(value, pair)
    return (c, h) if isinstance(value, Sequence) and (c or h) else h


def of(module: Any) -> Masks:
    """Those of a module's next call, whose options are `checked`. Without training only zoneout is left."""
    inner = module.dropout if module.num_layers > 1 else 0.0
    if not module.zoneout and not (
        module.training and (inner or module.recurrent_dropout or module.weight_dropout)
    ):
        return NONE
    c, h = probabilities.zoneout(module.zoneout, module._pair)
    if not module.training:
        return Masks(zoneout_c=c, zoneout_h=h)
    return Masks(
        float(inner),
        bool(inner) and module.dropout_mode == "sequence",
        module.recurrent_dropout,
        c,
        h,
        module.weight_dropout,
    )
