"""Keras on TensorFlow doing the two-layer example, each setting in a process of its own.

TensorFlow is optional, does not always go with PyTorch in one process, and fixes its number of threads when
it starts. So a child process (this file as a program) builds the model and runs a block of calls whenever the
parent asks; it times them itself, by the same method. In between it sleeps, waiting for its standard input.

The child's interpreter is $FUSEDRNN_KERAS_PYTHON, or the parent's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measure import timed_block
from numpy.typing import NDArray

Array = NDArray[Any]
# Keras' own training call, and a step written out and compiled whole: each counts at its best settings.
LIBRARIES = {"train_on_batch": "Keras", "tf.function": "Keras in tf.function"}
SETTINGS = (
    "train_on_batch",
    "train_on_batch XLA",
    "train_on_batch unrolled XLA",
    "tf.function unrolled XLA",
)


class KerasError(RuntimeError):
    """The child could not be started; the message says why."""


class KerasChild:
    """A contender (see `measure.Timed`) in a child process, which starts at once; `close` ends it.

    Args:
        library: what counts at its best settings.
        setting: of those the child knows.
        threads: of what it computes with.
        program: a file, which `serve_calls` in the end.
        backend: of Keras.
        arrays: what the child is given, as a file of NumPy's.
    """

    def __init__(
        self, library: str, setting: str, threads: int, program: str, backend: str, arrays: dict[str, Any]
    ) -> None:
        self.library = library
        self.name = f"Keras {setting}, {threads} thread{'s' if threads > 1 else ''}"
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
            "KERAS_BACKEND": backend,
            "OMP_NUM_THREADS": str(threads),
        }
        self._folder = tempfile.TemporaryDirectory()
        self._errors = Path(self._folder.name) / "errors"
        data = Path(self._folder.name) / "data.npz"
        np.savez(data, **arrays)
        python = os.environ.get("FUSEDRNN_KERAS_PYTHON", sys.executable)
        with self._errors.open("w") as log:
            self._child = subprocess.Popen(
                [python, program, setting, str(threads), str(data)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
            )  # fmt: skip

    def first(self) -> float:
        """Waits until the child is ready; what it made of its first call.

        Raises:
            KerasError: it could not start, say because TensorFlow is not installed.
        """
        assert self._child.stdout is not None
        answer = self._child.stdout.readline()
        if not answer:
            self._child.wait()
            said = self._errors.read_text().strip().splitlines() or ["it said nothing"]
            raise KerasError(f"{self._child.args[0]} ended with {self._child.returncode}: {said[-1]}")  # type: ignore[index]
        return float(answer)

    def block(self, seconds: float) -> list[float]:
        """See `measure.Timed`."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        print(seconds, file=self._child.stdin, flush=True)
        times: list[float] = json.loads(self._child.stdout.readline())
        return times

    def close(self) -> None:
        """Ends the child."""
        self._child.communicate()
        self._folder.cleanup()


class KerasStep(KerasChild):
    """Training steps of the two-layer example.

    Args:
        setting: of `SETTINGS`.
        threads: of TensorFlow, within and between operations.
        x, target: (T, B, I) and (B, 1).
        weights: of our Sequential of two LSTMs, Last and Linear.
        lr: of Adam.
    """

    def __init__(
        self, setting: str, threads: int, x: Array, target: Array, weights: Mapping[str, Array], lr: float
    ) -> None:
        named = {f"weights/{name}": w for name, w in weights.items()}
        library = LIBRARIES[setting.split()[0]]
        arrays = {"x": x, "target": target, "lr": lr, **named}
        super().__init__(library, setting, threads, __file__, "tensorflow", arrays)


def own_output() -> Any:
    """Standard output of a child for its answers; whatever libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def serve_calls(call: Callable[[], Any], first: float, answers: Any) -> None:
    """The child: answers every line of standard input, a number of seconds, with a list of times."""
    print(first, file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(timed_block(call, float(line))), file=answers, flush=True)


def serve(setting: str, threads: int, data: str) -> None:
    """The child that makes training steps."""
    answers = own_output()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    with np.load(data) as file:
        arrays = dict(file)
    x = np.ascontiguousarray(arrays["x"].swapaxes(0, 1))  # Keras has the batch first
    call = step(setting, x, arrays["target"], arrays, float(arrays["lr"]))
    serve_calls(call, call(), answers)


def step(
    setting: str, x: Array, target: Array, weights: Mapping[str, Array], lr: float
) -> Callable[[], float]:
    """One training step of the model with Adam and clipping by global norm; the call returns the loss."""
    import keras
    import tensorflow as tf

    xla, unroll = "XLA" in setting, "unrolled" in setting
    hidden = weights["weights/0.weight_hh_l0"].shape[1]
    layers = [keras.layers.LSTM(hidden, return_sequences=not last, unroll=unroll) for last in (False, True)]
    model = keras.Sequential(
        [keras.Input(x.shape[1:], batch_size=x.shape[0]), *layers, keras.layers.Dense(1)]
    )
    for i, layer in enumerate(layers):
        ih, hh, b_ih, b_hh = (
            weights[f"weights/{i}.{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        layer.set_weights([ih.T, hh.T, b_ih + b_hh])
    model.layers[-1].set_weights([weights["weights/3.weight"].T, weights["weights/3.bias"]])
    optimizer = keras.optimizers.Adam(lr, epsilon=1e-8, global_clipnorm=1.0)
    if setting.startswith("train_on_batch"):
        model.compile(optimizer, "mse", jit_compile=xla)
        return lambda: float(model.train_on_batch(x, target))
    inputs, wanted = tf.constant(x), tf.constant(target)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=xla)
    def compiled() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(inputs, training=True) - wanted))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return lambda: float(compiled().numpy())


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
