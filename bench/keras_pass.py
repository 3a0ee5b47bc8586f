"""Training passes of Keras's own LSTM with recurrent dropout, on its PyTorch and its JAX backend.

Each setting runs in a process of its own, as in `keras_peer.py`; `environment` makes one that has both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras_peer import Array, KerasChild, own_output, serve_calls

KERAS = "Keras"
# torch runs operation by operation, jax is compiled whole. (Unrolled, 128 steps take JAX minutes to compile.)
SETTINGS = ("torch", "jax")


def environment() -> str:
    """The interpreter of an environment with Keras and JAX beside these packages, made where none is."""
    folder = Path(tempfile.gettempdir()) / "fusedrnn-keras"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        (place,) = folder.glob("lib/python*/site-packages")
        (place / "beside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        subprocess.run([str(python), "-m", "pip", "install", "-q", "keras>=3", "jax"], check=True)
        (folder / "made").touch()
    return str(python)


class KerasPass(KerasChild):
    """Forward and backward of an LSTM.

    Args:
        setting: of `SETTINGS`.
        threads: processors that it may use.
        x, dy: (T, B, I) and (T, B, H).
        weights: of our LSTM.
        dropout: of the state on its way into R h.
    """

    def __init__(
        self, setting: str, threads: int, x: Array, dy: Array, weights: Mapping[str, Array], dropout: float
    ) -> None:
        arrays = {"x": x, "dy": dy, "dropout": dropout, **weights}
        super().__init__(KERAS, setting, threads, __file__, setting.split()[0], arrays)


def serve(setting: str, threads: int, data: str) -> None:
    """The child; its first answer is the sum of |dx| of a pass without dropout."""
    answers = own_output()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # JAX has no number of threads
    with np.load(data) as file:
        arrays = dict(file)
    make = torch_pass if setting == "torch" else jax_pass
    first = float(np.abs(make(arrays, 0.0)()).sum())
    serve_calls(make(arrays, float(arrays["dropout"])), first, answers)


def layer_of(arrays: Mapping[str, Array], dropout: float) -> tuple[Any, Array, Array]:
    """Keras's layer with our weights, x and dy, batch first."""
    import keras

    x, dy = (np.ascontiguousarray(arrays[name].swapaxes(0, 1)) for name in ("x", "dy"))
    layer = keras.layers.LSTM(dy.shape[2], return_sequences=True, recurrent_dropout=dropout)
    layer.build(x.shape)
    bias = arrays["bias_ih_l0"] + arrays["bias_hh_l0"]
    layer.set_weights([arrays["weight_ih_l0"].T, arrays["weight_hh_l0"].T, bias])
    return layer, x, dy


def torch_pass(arrays: Mapping[str, Array], dropout: float) -> Callable[[], Array]:
    """On the PyTorch backend, whose steps are a loop of Python in any case."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    layer, x, dy = layer_of(arrays, dropout)
    inputs, upstream = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def call() -> Array:
        inputs.grad = None
        layer.zero_grad()
        layer(inputs, training=True).backward(upstream)
        assert inputs.grad is not None
        return inputs.grad.numpy()

    return call


def jax_pass(arrays: Mapping[str, Array], dropout: float) -> Callable[[], Array]:
    """On the JAX backend, compiled whole; the state of masks goes from call to call."""
    import jax

    layer, x, dy = layer_of(arrays, dropout)
    trained = [v.value for v in layer.trainable_variables]
    state = [v.value for v in layer.non_trainable_variables]

    def loss(weights: Any, inputs: Any, state: Any) -> Any:
        y, state = layer.stateless_call(weights, state, inputs, training=True)
        return (y * dy).sum(), state

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))

    def call() -> Array:
        nonlocal state
        found, state = jax.block_until_ready(gradients(trained, x, state))
        return np.asarray(found[1])

    return call


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
