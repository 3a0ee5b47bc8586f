"""Whole training steps on a GPU: `train_step` against PyTorch, eager and as one CUDA graph.

  python bench/bench_step.py --list
  python bench/bench_step.py --resume --budget 420    in parts; exit status 75: some remain
  python bench/bench_step.py --rehearse               without a GPU: that the script works, no more

A step is forward, loss, backward, clipping by global norm and Adam, on data that is on the GPU. Its calls
must not wait for the GPU: the profiler's list of CUDA calls is kept with the row, one that waits is an error.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cuda_peers
import numpy as np
import torch
from cuda_limits import CudaLimits, CudaStack, stack_limit
from cuda_rows import BLOCK_SECONDS, REST_SECONDS, Table, gpu_table, queued, synchronize
from harness import Case, device_of, main
from measure import OURS, Contender, compare
from numpy.typing import NDArray
from report import Row, make_row

import fusedrnn as fr

Array = NDArray[Any]
LEARNING_RATE, CLIP_NORM = 1e-4, 1.0
# Calls of CUDA's runtime or driver that return when the GPU has done something.
WAITS = re.compile(r"^cu(da)?\w*Synchronize$|^cuda?Memcpy(?!\w*Async)\w*$|^cudaMalloc$|^cudaFree$")
LAUNCHES = re.compile(r"^cu(da)?(LaunchKernel|GraphLaunch|LaunchCooperative)\w*$")


@dataclass(frozen=True)
class Model:
    """A model: characters where it has an alphabet, else one number from a sequence of vectors.

    Attributes:
        T, B, I, H, L: steps, batch, inputs of the first LSTM, hidden units, LSTMs.
        alphabet: of an embedding and a classification of every step; 0 for neither.
    """

    T: int
    B: int
    I: int
    H: int
    L: int
    alphabet: int = 0


MODELS = {
    "two-layer example": Model(10, 10, 1, 50, 2),
    "characters": Model(64, 32, 64, 512, 1, alphabet=96),
    "characters, two layers": Model(128, 64, 64, 256, 2, alphabet=96),
    "long sequences": Model(512, 16, 32, 128, 1),
}
TINY_MODELS = {
    "two-layer example": Model(3, 2, 1, 5, 2),
    "characters": Model(3, 2, 4, 5, 1, alphabet=7),
}


class Peer(torch.nn.Module):
    """The same model of PyTorch's parts."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.embedding = torch.nn.Embedding(model.alphabet, model.I) if model.alphabet else None
        self.lstm = torch.nn.LSTM(model.I, model.H, model.L)
        self.head = torch.nn.Linear(model.H, model.alphabet or 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predictions, of every step or of the last."""
        y = self.lstm(x if self.embedding is None else self.embedding(x))[0]
        predicted: torch.Tensor = self.head(y if self.model.alphabet else y[-1])
        return predicted

    def load(self, weights: dict[str, Array]) -> None:
        """Weights of our Sequential: Embedding or nothing, LSTMs of one layer, Last or nothing, Linear."""
        first = 1 if self.model.alphabet else 0
        head = first + self.model.L + (0 if self.model.alphabet else 1)
        names = {}
        for name, value in weights.items():
            index, _, rest = name.partition(".")
            if int(index) < first:
                names[f"embedding.{rest}"] = value
            elif int(index) == head:
                names[f"head.{rest}"] = value
            else:
                names[f"lstm.{rest.removesuffix('l0')}l{int(index) - first}"] = value
        self.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in names.items()})


def data(model: Model) -> tuple[Array, Array]:
    """x and target, the same at every call."""
    rng = np.random.default_rng(0)
    if model.alphabet:
        x, target = (rng.integers(model.alphabet, size=(model.T, model.B)) for _ in range(2))
        return x, target
    x = rng.standard_normal((model.T, model.B, model.I), np.float32)
    return x, rng.standard_normal((model.B, 1), np.float32)


def our_model(model: Model, device: str) -> Any:
    """The Sequential."""
    nn = fr.nn
    layers: list[Any] = []
    if model.alphabet:
        layers.append(nn.Embedding(model.alphabet, model.I, seed=0, device=device))
    for i in range(model.L):
        layers.append(nn.LSTM(model.H if i else model.I, model.H, seed=i + 1, device=device))
    if not model.alphabet:
        layers.append(nn.Last())
    return nn.Sequential(*layers, nn.Linear(model.H, model.alphabet or 1, seed=9, device=device))


def our_step(model: Model, sequential: Any) -> Callable[[], Any]:
    """One call of train_step; the loss stays on the device."""
    x, target = (fr.asarray(array, "cuda") for array in data(model))
    loss = fr.losses.cross_entropy if model.alphabet else fr.losses.mse
    optimizer = fr.optim.Adam(sequential.parameters(), lr=LEARNING_RATE)
    return lambda: sequential.train_step(x, target, loss, optimizer, clip_norm=CLIP_NORM)[0]


def their_step(model: Model, weights: dict[str, Array], device: torch.device) -> Callable[[], Any]:
    """PyTorch's step with its fused optimizer, which a graph can hold; the loss stays on the device."""
    peer = Peer(model)
    peer.load(weights)
    peer.to(device)
    peer.lstm.flatten_parameters()
    x, target = (torch.from_numpy(array).to(device) for array in data(model))
    on_gpu = device.type == "cuda"
    optimizer = torch.optim.Adam(peer.parameters(), lr=LEARNING_RATE, fused=True, capturable=on_gpu)

    def call() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        predicted = peer(x)
        if model.alphabet:
            loss = torch.nn.functional.cross_entropy(predicted.flatten(0, 1), target.flatten())
        else:
            loss = torch.nn.functional.mse_loss(predicted, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), CLIP_NORM, foreach=True)
        optimizer.step()
        return loss

    return call


def row(name: str, model: Model, limits: CudaLimits, seconds: float) -> Row:
    """One comparison; the first losses must be equal."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sequential = our_model(model, "cuda")
    weights = {key: np.asarray(value) for key, value in sequential.state_dict().items()}
    ours = our_step(model, sequential)
    wanted = float(ours())
    contenders = [Contender(OURS, ours, finish=synchronize)]
    # A graph's warm-up trains, so each contender gets a model of its own.
    eager = their_step(model, weights, device)
    np.testing.assert_allclose(eager().item(), wanted, rtol=1e-4, err_msg=name)
    contenders.append(
        Contender(f"{cuda_peers.TORCH} eager", eager, library=cuda_peers.TORCH, finish=synchronize)
    )
    if device.type == "cuda":
        graph = cuda_peers.captured(their_step(model, weights, device))
        if graph is not None:
            contenders.append(
                Contender(f"{cuda_peers.TORCH} graph", graph, library=cuda_peers.TORCH, finish=synchronize)
            )
    contenders = [queued(contender) for contender in contenders]
    timings = compare(contenders, seconds, BLOCK_SECONDS, REST_SECONDS)
    notes: dict[str, Any] = {}
    if device.type == "cuda":
        calls = cuda_calls(ours)
        notes = {
            "CUDA calls": calls,
            "waits": waits_in(calls),
            "ours kernels": cuda_peers.kernels_of(contenders[0]),
        }
        if notes["waits"] not in ("none", "not visible"):
            raise AssertionError(f"{name}: train_step waits for the GPU: {notes['waits']}")
    stack = CudaStack("lstm", model.T, model.B, model.I, model.H, model.L, train=True)
    limit = stack_limit(stack, limits)
    return make_row(
        name, "train_step", 0, contenders, timings, work=stack.gflop, unit="GFLOP/s", limit=limit.seconds,
        bound=limit.bound, shares={}, notes=notes,
    )  # fmt: skip


def cuda_calls(call: Callable[[], Any], times: int = 5) -> dict[str, float]:
    """Calls of CUDA's runtime and driver that one call makes, by name, without the wait behind the last."""
    from torch.profiler import ProfilerActivity, profile

    for _ in range(3):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        for _ in range(times):
            call()
        torch.cuda.synchronize()
    found = Counter(event.name for event in seen.events() if re.match(r"cu(da)?[A-Z]", event.name))
    found["cudaDeviceSynchronize"] -= 1  # ours, above; the profiler adds one of its own when it stops
    return {name: count / times for name, count in found.items() if count > 0}


def waits_in(calls: dict[str, float]) -> str:
    """Those of the calls that wait, as text; fewer than one in a call are the profiler's own."""
    if not any(LAUNCHES.match(name) for name in calls):
        return "not visible"
    waits = {name: count for name, count in calls.items() if WAITS.match(name) and count >= 1}
    return ", ".join(f"{count:g} {name}" for name, count in waits.items()) or "none"


def table(rehearse: bool) -> Table:
    """All rows."""
    models = TINY_MODELS if rehearse else MODELS
    cases = [Case(name, partial(row, name, model)) for name, model in models.items()]
    return gpu_table("bench_step_cuda", "Training steps on a GPU, float32", cases, rehearse)


if __name__ == "__main__":
    sys.exit(main(__doc__, *table(device_of(sys.argv[1:]).rehearse)))
