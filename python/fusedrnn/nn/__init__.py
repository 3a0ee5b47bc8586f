"""Layers and models: modules with parameters, gradients and a tape of their own."""

from typing import TYPE_CHECKING, Any

from fusedrnn._core import torch_hints
from fusedrnn._core.parameter import FlatBuffer, Parameter
from fusedrnn.nn import init
from fusedrnn.nn.activations import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from fusedrnn.nn.dropout import Dropout
from fusedrnn.nn.embedding import Embedding
from fusedrnn.nn.final_state import FinalState
from fusedrnn.nn.gru import GRU
from fusedrnn.nn.last import Last
from fusedrnn.nn.layer_norm import LayerNorm
from fusedrnn.nn.linear import Linear
from fusedrnn.nn.lstm import LSTM
from fusedrnn.nn.module import KeyDifference, Module
from fusedrnn.nn.recurrent import Recurrent
from fusedrnn.nn.rnn import RNN
from fusedrnn.nn.sequential import Sequential

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Dropout",
    "Embedding",
    "FinalState",
    "FlatBuffer",
    "KeyDifference",
    "Last",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "Module",
    "Parameter",
    "ReLU",
    "Recurrent",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "init",
]

#: The recurrent modules by the family of their cells, which is their name in lower case.
RECURRENT: dict[str, type[Recurrent]] = {
    part.__name__.lower(): part
    for part in map(globals().get, __all__)
    if isinstance(part, type) and issubclass(part, Recurrent) and part is not Recurrent
}

if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.nn'", name, torch_hints.NN)
