"""What modules and cells share: packed weights that are forgotten when weights may have changed."""

from __future__ import annotations

from typing import Any

from torch import nn

from fusedrnn.torch.flow import Flow
from fusedrnn.torch.masks import NONE, Masks
from fusedrnn.torch.packing import Packing
from fusedrnn.torch.stack import Call


class KeepsPacking(nn.Module):
    """Base beside the one of torch.nn that holds the weights."""

    precision: str | None = None
    _packing: Packing | None = None
    _plain_call: tuple[Any, Call] | None = None

    def beyond_torch(self) -> dict[str, Any]:
        """The options that torch.nn's module has not and that do something."""
        return {}

    def _masks(self) -> Masks:
        """The next call's options of masks."""
        return NONE

    def _steps_between(self) -> int:
        """Steps of the pieces that the next call's backward computes again, -1: the root of T, 0: none."""
        return 0

    def _flow_place(self) -> Flow | None:
        """Where the next call's backward puts the norms of states' gradients."""
        return None

    def repack(self) -> None:
        """Forgets packed weights: to be called after a write that PyTorch does not note.

        Such are writes through ``.data`` or NumPy when gradients are off: ``m.weight_hh_l0.data.mul_(2)``.
        Writes under `torch.no_grad`, by optimizers and by `load_state_dict` are seen.
        """
        self.__dict__.pop("_packing", None)

    def train(self, mode: bool = True) -> Any:
        """As torch.nn's; packed weights are made anew."""
        self.repack()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self.repack()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.repack()
        super()._load_from_state_dict(*args, **options)

    def __getstate__(self) -> dict[str, Any]:
        parent = getattr(super(), "__getstate__", None)
        state: dict[str, Any] = dict(self.__dict__ if parent is None else parent())
        for name in ("_packing", "_plain_call", "_flow"):
            state.pop(name, None)
        return state
