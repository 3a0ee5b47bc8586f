"""The mathematics of fusedrnn in NumPy: every function of `fusedrnn.functional`, same name, same arguments.

It is what the kernels are tested against, so it is written for clarity, takes any float or complex dtype,
and needs nothing built.
"""

from fusedrnn.reference.activations import (
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
from fusedrnn.reference.gru import gru_backward, gru_forward
from fusedrnn.reference.layers import (
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
from fusedrnn.reference.losses import (
    binary_cross_entropy,
    cross_entropy,
    huber,
    l1,
    mse,
    nll,
    smooth_l1,
)
from fusedrnn.reference.lstm import lstm_backward, lstm_forward
from fusedrnn.reference.optim import (
    adagrad_,
    adam_,
    clip_by_global_norm_,
    clip_by_value_,
    global_norm,
    rmsprop_,
    sgd_,
)
from fusedrnn.reference.packing import pack_weights
from fusedrnn.reference.rnn import rnn_backward, rnn_forward

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
