"""PyTorch doing the same work, at its best settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from measure import Contender
from numpy.typing import NDArray

Array = NDArray[Any]
TORCH = "PyTorch"
STACKS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
# PyTorch's own choice among its implementations depends on version and size: all that exist compete.
OPTIMIZERS: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}, ("fused", "foreach")),
    "adagrad": (torch.optim.Adagrad, {}, ("fused", "foreach")),
    "rmsprop": (torch.optim.RMSprop, {}, ("foreach",)),
    "adam": (torch.optim.Adam, {}, ("fused", "foreach")),
    "adamw": (torch.optim.AdamW, {}, ("fused", "foreach")),
}


def thread_counts(most: int) -> list[int]:
    """Thread counts that compete: 1, and powers of two up to the cores there are."""
    return sorted({1, most} | {2**k for k in range(1, most.bit_length()) if 2**k <= most})


def named(library: str, setting: str, threads: int) -> str:
    """The name of a contender."""
    return f"{library} {setting}".strip() + f", {threads} thread{'s' if threads > 1 else ''}"


def with_threads(
    setting: str, call: Callable[[], Any], most: int, view: Callable[[Any], Any] = lambda result: result
) -> list[Contender]:
    """The same work once for every thread count; PyTorch is then taken at its best."""
    return [
        Contender(named(TORCH, setting, n), call, lambda n=n: torch.set_num_threads(n), TORCH, view)  # type: ignore[misc]
        for n in thread_counts(most)
    ]


def stack(cell: str, weights: Mapping[str, Array]) -> torch.nn.Module:
    """A float32 recurrent stack with the given weights."""
    directions = 2 if "weight_hh_l0_reverse" in weights else 1
    layers = sum(name.startswith("weight_hh") for name in weights) // directions
    inputs, hidden = weights["weight_ih_l0"].shape[1], weights["weight_hh_l0"].shape[1]
    module: torch.nn.Module = STACKS[cell](inputs, hidden, layers, bidirectional=directions == 2)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return module


def inference(module: torch.nn.Module, x: Array) -> Callable[[], Array]:
    """One forward pass without anything kept for a backward."""
    module.eval()
    inputs = torch.from_numpy(x)

    def call() -> Array:
        with torch.inference_mode():
            y: Array = module(inputs)[0].numpy()
            return y

    return call


def training(module: torch.nn.Module, x: Array, dy: Array) -> Callable[[], Array]:
    """Forward, then gradients of the input (returned) and all weights from a gradient of the output."""
    module.train()
    inputs = torch.from_numpy(x).requires_grad_()
    upstream = torch.from_numpy(dy)

    def call() -> Array:
        module.zero_grad(set_to_none=True)
        inputs.grad = None
        y, _ = module(inputs)
        y.backward(upstream)
        assert inputs.grad is not None
        return inputs.grad.numpy()

    return call


Ragged = dict[str, tuple[Callable[[], Any], Callable[[Any], Array]]]


def ragged_training(module: torch.nn.Module, x: Array, dy: Array, lengths: Array) -> Ragged:
    """`training` of a padded batch as PackedSequence, in three ways; with each, what makes its dx an array.

    "unsorted" packs and pads what the user has; "sorted" has rows in order of length, as a data loader may
    provide them; "packed" has a data loader that packs as well, and a loss that works on packed output.
    """
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

    module.train()
    order = np.argsort(-lengths, kind="stable")
    back = np.argsort(order)

    def padded(x: Array, dy: Array, lengths: Array, is_sorted: bool) -> Callable[[], Array]:
        inputs = torch.from_numpy(x).requires_grad_()
        upstream, counts = torch.from_numpy(dy), torch.from_numpy(lengths)

        def call() -> Array:
            module.zero_grad(set_to_none=True)
            inputs.grad = None
            y, _ = module(pack_padded_sequence(inputs, counts, enforce_sorted=is_sorted))
            pad_packed_sequence(y, total_length=x.shape[0])[0].backward(upstream)
            assert inputs.grad is not None
            return inputs.grad.numpy()

        return call

    counts = torch.from_numpy(lengths[order])
    packed = pack_padded_sequence(torch.from_numpy(np.ascontiguousarray(x[:, order])), counts)
    upstream = pack_padded_sequence(torch.from_numpy(np.ascontiguousarray(dy[:, order])), counts).data
    inputs = packed.data.clone().requires_grad_()

    def on_packed() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        inputs.grad = None
        y, _ = module(PackedSequence(inputs, packed.batch_sizes))
        y.data.backward(upstream)
        assert inputs.grad is not None
        return inputs.grad

    def unpacked(dx: torch.Tensor) -> Array:
        sequence = PackedSequence(dx, packed.batch_sizes)
        return pad_packed_sequence(sequence, total_length=x.shape[0])[0].numpy()[:, back]

    ordered = padded(
        np.ascontiguousarray(x[:, order]), np.ascontiguousarray(dy[:, order]), lengths[order], True
    )
    return {
        "unsorted": (padded(x, dy, lengths, False), lambda dx: dx),
        "sorted": (ordered, lambda dx: dx[:, back]),
        "packed": (on_packed, unpacked),
    }


class TwoLayers(torch.nn.Module):
    """LSTM(50) -> LSTM(50), last step -> Linear(1)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(inputs, hidden, 2)
        self.head = torch.nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.lstm(x)[0][-1])
        return y


def two_layer_steps(
    x: Array, target: Array, weights: Mapping[str, Array], lr: float
) -> dict[str, Callable[[], Any]]:
    """A whole training step of the two-layer example: loss (returned), gradients, clipping, Adam."""
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(target)
    calls = {}
    for kind in ("fused", "foreach"):
        model = TwoLayers(x.shape[2], weights["0.weight_hh_l0"].shape[1])
        model.load_state_dict(
            {_two_layer_name(name): torch.from_numpy(value) for name, value in weights.items()}
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, **{kind: True})

        def call(model: TwoLayers = model, optimizer: torch.optim.Adam = optimizer) -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.mse_loss(model(inputs), wanted)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss.item()

        calls[kind] = call
    return calls


def _two_layer_name(name: str) -> str:
    """PyTorch's name of a parameter of our Sequential of two one-layer LSTMs, Last and Linear."""
    index, _, rest = name.partition(".")
    return f"head.{rest}" if index == "3" else f"lstm.{rest.removesuffix('l0')}l{index}"


def optimizer_steps(
    kind: str,
    sizes: Sequence[int],
    rng: np.random.Generator,
    clip_norm: float | None,
    device: str = "cpu",
    capturable: bool = False,
) -> dict[str, Callable[[], Any]]:
    """One step over parameters of the given sizes with random gradients, for every implementation.

    On the CPU the norm is a number afterwards; on a GPU it stays there. A capturable step can become a graph.
    """
    make, options, implementations = OPTIMIZERS[kind]
    options = {**options, "capturable": True} if capturable else options
    calls = {}
    for implementation in implementations:
        parameters = [
            torch.from_numpy(rng.standard_normal(n, np.float32)).to(device).requires_grad_() for n in sizes
        ]
        for parameter in parameters:
            drawn = rng.standard_normal(parameter.numel(), np.float32)
            parameter.grad = torch.from_numpy(drawn).to(device)
        optimizer = make(parameters, lr=1e-4, **options, **{implementation: True})

        def call(optimizer: Any = optimizer, parameters: list[torch.Tensor] = parameters) -> object:
            norm = None
            if clip_norm is not None:
                norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm, foreach=True)
                norm = norm.item() if norm.device.type == "cpu" else norm
            optimizer.step()
            return norm

        calls[implementation] = call
    return calls
