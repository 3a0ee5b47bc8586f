"""Recurrent layers of PyTorch on this package's kernels: change one line, keep the model.

    import fusedrnn.torch as ft

    report = ft.replace(model)   # every nn.LSTM, nn.GRU, nn.RNN in it, in place; ft.restore(model) undoes it
    ft.LSTM, ft.GRU, ft.RNN      # or such a layer by itself, and ft.LSTMCell, ft.GRUCell, ft.RNNCell
    ft.optim                     # Adam, AdamW, RMSprop, Adagrad, SGD of torch.optim with clipping folded in

Parameters, hooks, optimizers and state dicts stay what they are.
"""

from __future__ import annotations

from fusedrnn.torch import optim
from fusedrnn.torch.cells import GRUCell, LSTMCell, RNNCell
from fusedrnn.torch.modules import GRU, LSTM, RNN, Recurrent
from fusedrnn.torch.swap import Report, patched, replace, restore

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "Report",
    "optim",
    "patched",
    "replace",
    "restore",
]
