"""The mathematics of fusedrnn in NumPy: every function of `fusedrnn.functional`, same name, same arguments.

It is what the kernels are tested against, so it is written for clarity, takes any float or complex dtype, and needs
nothing built.
"""

from fusedrnn.reference.sequence import (
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
