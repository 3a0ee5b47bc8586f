"""Every operation as a plain function of arrays. `fusedrnn.reference` mirrors this module name by name."""

from fusedrnn.functional.sequence import (
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    pack_weights,
    rnn_backward,
    rnn_forward,
)

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "pack_weights",
    "rnn_backward",
    "rnn_forward",
]
