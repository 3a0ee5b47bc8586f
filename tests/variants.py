"""Every cell as a user asks for it: the module's class and the options that choose the cell."""

from __future__ import annotations

from typing import Any, NamedTuple

from fusedrnn._core.cells import CELLS


class Variant(NamedTuple):
    """A class by its name in `fusedrnn.nn` and `fusedrnn.torch`, and options; P is the units of h, of H."""

    kind: str
    options: dict[str, Any]

    def units(self, hidden: int) -> int:
        return int(self.options.get("proj_size", hidden))


VARIANTS = {
    "lstm": Variant("LSTM", {}),
    "lstm_peephole": Variant("LSTM", {"peephole": True}),
    "lstm_projected": Variant("LSTM", {"proj_size": 4}),
    "lstm_layer_norm": Variant("LSTM", {"layer_norm": True}),
    "gru": Variant("GRU", {}),
    "gru_reset_before": Variant("GRU", {"reset_after": False}),
    "rnn_tanh": Variant("RNN", {}),
    "rnn_relu": Variant("RNN", {"nonlinearity": "relu"}),
}
assert VARIANTS.keys() == CELLS.keys()
# Those that torch.nn has not.
BEYOND_TORCH = ("lstm_peephole", "lstm_layer_norm", "gru_reset_before")
