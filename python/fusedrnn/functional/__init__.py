"""Every operation as a plain function of arrays. `fusedrnn.reference` mirrors this module name by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusedrnn._core import torch_hints
from fusedrnn.functional.activations import (
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fusedrnn.functional.gru import gru_backward, gru_forward
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
    huber,
    l1,
    mse,
    nll,
    smooth_l1,
)
from fusedrnn.functional.lstm import lstm_backward, lstm_forward
from fusedrnn.functional.optim import (
    adagrad_,
    adam_,
    clip_by_global_norm_,
    clip_by_value_,
    global_norm,
    rmsprop_,
    sgd_,
)
from fusedrnn.functional.packing import pack_weights
from fusedrnn.functional.rnn import rnn_backward, rnn_forward

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
    "huber",
    "l1",
    "last_backward",
    "last_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_forward",
    "log_softmax",
    "log_softmax_backward",
    "lstm_backward",
    "lstm_forward",
    "mse",
    "nll",
    "pack_weights",
    "relu",
    "relu_backward",
    "rmsprop_",
    "rnn_backward",
    "rnn_forward",
    "sgd_",
    "sigmoid",
    "sigmoid_backward",
    "smooth_l1",
    "softmax",
    "softmax_backward",
    "tanh",
    "tanh_backward",
]

if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.functional'", name, torch_hints.FUNCTIONAL)
