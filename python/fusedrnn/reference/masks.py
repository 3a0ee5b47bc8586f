"""Masks over hidden units: recurrent dropout, zoneout and weight dropout, and dropout of whole sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn.reference.philox import drop, kept_rows

Array = NDArray[Any]

# What a stream of a key is for; the lower 24 bits are the layer, for `INPUT`, or layer * D + direction.
INPUT, RECURRENT, ZONEOUT_H, ZONEOUT_C, WEIGHT = (use << 24 for use in range(5))


def drop_weight(weight: Array, p: float, key: int, index: int) -> Array:
    """weight_hh (G * H, P) of layer and direction `index` after dropout, or its gradient."""
    return drop(weight, p, key, WEIGHT | index) if p else weight


def zoned(keep: Array | None, new: Array, old: Array) -> Array:
    """The state of which `keep` is new."""
    return new if keep is None else keep * new + (1 - keep) * old


def shared(keep: Array | None, gradient: Array) -> tuple[Array, Array | int]:
    """The parts of a state's gradient that reach the new and the old one of `zoned`."""
    return (gradient, 0) if keep is None else (keep * gradient, (1 - keep) * gradient)


@dataclass
class Masks:
    """What of masks a call has. Rows are numbered from first_row on."""

    key: int
    train: bool
    dropout: float
    per_sequence: bool
    recurrent: float
    zoneout_c: float
    zoneout_h: float
    first_row: int

    def drop_input(self, layer: int, array: Array) -> Array:
        """Dropout of a layer's input (T, B, D * H), or of its gradient; layer 0 has none."""
        if layer == 0 or self.dropout == 0 or not self.train:
            return array
        if not self.per_sequence:
            return drop(array, self.dropout, self.key, INPUT | layer)
        kept = self._kept(np.arange(array.shape[1]), array.shape[2], self.dropout, INPUT | layer)
        dropped: Array = np.where(kept, array * self._scale(self.dropout, array.dtype), array.dtype.type(0))
        return dropped

    def factors(self, index: int, rows: Array, width: int, dtype: Any) -> Array | None:
        """What h (rows, P) is multiplied by before the product with R; None: by nothing."""
        if self.recurrent == 0 or not self.train:
            return None
        kept = self._kept(rows, width, self.recurrent, RECURRENT | index)
        factors: Array = kept * self._scale(self.recurrent, dtype)
        return factors

    def keep(
        self, index: int, t: int, rows: Array, widths: tuple[int, int], dtype: Any
    ) -> tuple[Array | None, Array | None]:
        """How much of the new c and h step t takes, and of the old the rest; None: all. Of such widths."""

        def of(p: float, stream: int, width: int) -> Array | None:
            if p == 0:
                return None
            if not self.train:
                return np.full((len(rows), width), 1 - p, dtype)
            return self._kept(rows, width, p, stream | index, t).astype(dtype)

        return of(self.zoneout_c, ZONEOUT_C, widths[0]), of(self.zoneout_h, ZONEOUT_H, widths[1])

    def _kept(self, rows: Array, width: int, p: float, stream: int, step: int = 0) -> Array:
        return kept_rows(rows + self.first_row, width, p, self.key, stream, step)

    @staticmethod
    def _scale(p: float, dtype: Any) -> Any:
        return np.dtype(dtype).type(1.0 / (1.0 - p) if p < 1.0 else 0.0)
