"""What the processes of test_torch_parallel.py run: ``torch_workers.py HOW RANK SIZE FILE``."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist

import fusedrnn.torch as ft

ROWS, STEPS, FEATURES, HIDDEN = 8, 5, 4, 6


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(FEATURES, HIDDEN, 2)
        self.gru = torch.nn.GRU(HIDDEN, HIDDEN)
        self.out = torch.nn.Linear(HIDDEN, 3)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        y, _ = self.gru(y)
        return self.out(y)


def model() -> Any:
    torch.manual_seed(0)
    made = Model()
    ft.replace(made)
    return made


def batch() -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, ROWS, FEATURES, generator=generator)
    return x, torch.randn(STEPS, ROWS, 3, generator=generator)


def gradients(parallel: Any, part: slice) -> None:
    """Two steps, so that buckets and shards that the first has left behind are used again."""
    x, target = batch()
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(parallel(x[:, part]), target[:, part]).backward()
        optimizer.step()


def whole(t: Any) -> Any:
    """A sharded tensor's all."""
    return t.full_tensor() if hasattr(t, "full_tensor") else t


def main(how: str, rank: int, size: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=size)
    try:
        compare(how, rank, size)
    finally:  # once `compare` has let go of the model, whose end could wait for gloo's thread for ever
        dist.destroy_process_group()


def compare(how: str, rank: int, size: int) -> None:
    part = slice(rank * ROWS // size, (rank + 1) * ROWS // size)
    made = model()
    if how == "ddp":
        parallel: Any = torch.nn.parallel.DistributedDataParallel(made)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (size,))
        for child in (made.lstm, made.gru):
            fully_shard(child, mesh=mesh)
        parallel = fully_shard(made, mesh=mesh)
    gradients(parallel, part)
    alone = model()
    gradients(alone, slice(None))
    for (name, p), expected in zip(parallel.named_parameters(), alone.parameters(), strict=True):
        for mine, other in ((p.grad, expected.grad), (p.detach(), expected.detach())):
            torch.testing.assert_close(
                whole(mine), other, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
            )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
