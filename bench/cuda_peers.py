"""PyTorch on a GPU doing the same work, at its best settings, and what kernels a call runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import peers
import torch
from cuda_limits import CudaStack
from measure import Contender
from numpy.typing import NDArray
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

Array = NDArray[Any]
TORCH = peers.TORCH
# Near float32 in accuracy, tf32x3 is compared with float32.
TYPES = {
    "ieee": torch.float32,
    "tf32": torch.float32,
    "tf32x3": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
UNSORTED = " unsorted"
SETTINGS = {"cuDNN": False, "cuDNN benchmark": True}


def settings(precision: str, benchmark: bool) -> None:
    """What PyTorch has of switches; tf32 is on where the row says so and nowhere else."""
    tf32 = precision == "tf32"
    torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark = True, benchmark
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


def contenders(
    stack: CudaStack, weights: Mapping[str, Array], x: Array, dy: Array, lengths: Array | None,
    finish: Callable[[], None],
) -> list[Contender]:  # fmt: skip
    """Each setting, and a CUDA graph where there is a GPU and the call can be captured."""
    on_gpu = torch.cuda.is_available()
    device, dtype = torch.device("cuda" if on_gpu else "cpu"), TYPES[stack.precision]
    module = peers.stack(stack.cell, weights).to(device, dtype)
    if isinstance(module, torch.nn.RNNBase):
        module.flatten_parameters()
    module.train(stack.train)
    inputs = torch.from_numpy(x).to(device, dtype)
    upstream = torch.from_numpy(dy).to(device, dtype)
    ways: dict[str, tuple[Callable[[], Any], Callable[[Any], Array]]]
    if lengths is None:
        ways = {"": (_call(module, inputs, upstream, stack.train), _on_host)}
    else:
        ways = _packed(module, inputs, upstream, lengths, stack.train)
    found = []
    for setting, benchmark in SETTINGS.items():

        def prepare(benchmark: bool = benchmark) -> None:
            settings(stack.precision, benchmark)

        for way, (call, view) in ways.items():
            name = f"{TORCH} {setting}{way}"
            found.append(Contender(name, call, prepare, TORCH, view, finish))
            prepare()
            # What packs in the call reads lengths on the host: no graph can hold that.
            graph = captured(call) if on_gpu and benchmark and way != UNSORTED else None
            if graph is not None:
                found.append(Contender(f"{name} graph", graph, prepare, TORCH, view, finish))
    return found


def captured(call: Callable[[], Any]) -> Callable[[], Any] | None:
    """The call as a CUDA graph, which returns what the capture did; None where it cannot be captured."""
    side = torch.cuda.Stream()
    try:
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            result = call()
        torch.cuda.synchronize()
    except RuntimeError:
        torch.cuda.synchronize()
        return None

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def _on_host(result: torch.Tensor) -> Array:
    values: Array = result.detach().float().cpu().numpy()
    return values


def _call(
    module: torch.nn.Module, inputs: torch.Tensor, upstream: torch.Tensor, train: bool
) -> Callable[[], Any]:
    def infer() -> torch.Tensor:
        with torch.inference_mode():
            y: torch.Tensor = module(inputs)[0]
            return y

    wanted = inputs.clone().requires_grad_()

    def step() -> torch.Tensor:
        module.zero_grad(set_to_none=True)
        wanted.grad = None
        module(wanted)[0].backward(upstream)
        assert wanted.grad is not None
        return wanted.grad

    return step if train else infer


def _packed(
    module: torch.nn.Module, inputs: torch.Tensor, upstream: torch.Tensor, lengths: Array, train: bool
) -> dict[str, tuple[Callable[[], Any], Callable[[Any], Array]]]:
    """As PackedSequence: an unsorted batch packed in the call, and data that a loader sorted and packed."""
    total = inputs.shape[0]
    counts = torch.from_numpy(lengths)
    order = torch.from_numpy(np.argsort(-lengths, kind="stable"))
    back = torch.argsort(order).to(inputs.device)
    there = order.to(inputs.device)
    ready = pack_padded_sequence(inputs[:, there], counts[order])
    ready_upstream = pack_padded_sequence(upstream[:, there], counts[order]).data

    def unsorted() -> torch.Tensor:
        with torch.inference_mode(not train):
            wanted = inputs.clone().requires_grad_(train) if train else inputs
            y = module(pack_padded_sequence(wanted, counts, enforce_sorted=False))[0]
            padded: torch.Tensor = pad_packed_sequence(y, total_length=total)[0]
            if not train:
                return padded
            module.zero_grad(set_to_none=True)
            padded.backward(upstream)
            assert wanted.grad is not None
            return wanted.grad

    def packed() -> torch.Tensor:
        with torch.inference_mode(not train):
            wanted = ready.data.clone().requires_grad_(train) if train else ready.data
            y: torch.Tensor = module(PackedSequence(wanted, ready.batch_sizes))[0].data
            if not train:
                return y
            module.zero_grad(set_to_none=True)
            y.backward(ready_upstream)
            assert wanted.grad is not None
            return wanted.grad

    def unpacked(result: torch.Tensor) -> Array:
        sequence = PackedSequence(result, ready.batch_sizes)
        return _on_host(pad_packed_sequence(sequence, total_length=total)[0][:, back])

    return {UNSORTED: (unsorted, _on_host), " packed": (packed, unpacked)}


def kernels_of(contender: Contender, calls: int = 3) -> list[dict[str, Any]]:
    """Kernels of one call by the profiler (CUPTI): name, launches, microseconds; longest first.

    Nothing where there is no GPU.
    """
    if not torch.cuda.is_available():
        return []
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    contender.call()
    contender.finish()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        for _ in range(calls):
            contender.call()
        contender.finish()
    found: dict[str, list[float]] = {}
    for event in seen.events():
        if event.device_type == DeviceType.CUDA:
            entry = found.setdefault(event.name, [0.0, 0.0])
            entry[0] += 1 / calls
            entry[1] += event.time_range.elapsed_us() / calls
    ordered = sorted(found.items(), key=lambda item: -item[1][1])
    return [{"name": name, "launches": launches, "us": us} for name, (launches, us) in ordered]


def in_recurrence(kernel: Mapping[str, Any], T: int) -> bool:
    """Whether a kernel is part of the recurrence: launched for steps, or one that takes many of them.

    What remains are products over whole sequences, packing, zeroing.
    """
    name = kernel["name"].lower()
    many = any(word in name for word in ("cluster_", "grid_", "persist", "rnn_", "lstm_", "gru_"))
    return bool(many or kernel["launches"] >= T / 4)
