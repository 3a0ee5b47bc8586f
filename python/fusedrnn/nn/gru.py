"""The GRU module."""

from __future__ import annotations

from fusedrnn.nn.recurrent import SingleState


class GRU(SingleState):
    """Gated recurrent unit (Cho et al. 2014) in its reset-after form, that of PyTorch, cuDNN and Keras.

    r, z = sigmoid(W x + b_ih + R h + b_hh), n = tanh(W x + b_ih + r (R h + b_hh)), h' = (1 - z) n + z h.

        gru = fr.nn.GRU(input_size, hidden_size, num_layers=1, ...)
        y, hn = gru(x, h0, lengths=None, resets=None)
        dx, dh0 = gru.backward(dy, dhn)

    Arguments, initial weights, lengths, resets and errors: see `Recurrent`. Gates lie in the order r z n.
    """

    _cell = "gru"
