"""Every operation as a plain function of arrays. `fusedrnn.reference` mirrors this module name by name."""

from __future__ import annotations

from fusedrnn.functional.layers import (
    dropout,
    embedding_backward,
    embedding_forward,
    last_backward,
    last_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
)
from fusedrnn.functional.losses import (
    binary_cross_entropy,
    cross_entropy,
    mse,
)
from fusedrnn.functional.optim import (
    adagrad_,
    adam_,
    clip_by_global_norm_,
    clip_by_value_,
    global_norm,
    rmsprop_,
    sgd_,
)
from fusedrnn.functional.recurrent import (
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    pack_weights,
    rnn_backward,
    rnn_forward,
)

__all__ = [
    "adagrad_",
    "adam_",
    "binary_cross_entropy",
    "clip_by_global_norm_",
    "clip_by_value_",
    "cross_entropy",
    "dropout",
    "embedding_backward",
    "embedding_forward",
    "global_norm",
    "gru_backward",
    "gru_forward",
    "last_backward",
    "last_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_forward",
    "lstm_backward",
    "lstm_forward",
    "mse",
    "pack_weights",
    "rmsprop_",
    "rnn_backward",
    "rnn_forward",
    "sgd_",
]
