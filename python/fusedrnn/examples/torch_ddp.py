"""Data-parallel training with PyTorch's engine and this package's layers.

    torchrun --nproc-per-node 2 -m fusedrnn.examples.torch_ddp

Each process takes its part of every batch; DistributedDataParallel averages the gradients over gloo. The
task: the running sum of a noisy sequence, by a GRU. Threads of one process already share a machine's cores,
so processes pay off across machines or sockets; here each computes with one thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

STEPS, ROWS, HIDDEN = 20, 64, 32


def main(argv: Sequence[str] | None = None) -> int:
    """The command line, of one of the processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100, help="training steps (default: 100)")
    options = parser.parse_args(argv)

    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        train(options.steps)
    finally:  # once `train` has let go of the model, whose end would wait for gloo's thread for ever
        dist.destroy_process_group()
    return 0


def train(steps: int) -> None:
    """What each process does once it knows the others."""
    import torch
    import torch.distributed as dist

    import fusedrnn.torch as ft

    rank, size = dist.get_rank(), dist.get_world_size()
    if rank == 0:
        print(f"{size} processes")
    torch.manual_seed(0)  # the same weights everywhere

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(1, HIDDEN)
            self.out = torch.nn.Linear(HIDDEN, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.gru(x)[0])

    model = Model()
    ft.replace(model)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = ft.optim.Adam(parallel.parameters(), lr=1e-2, clip_norm=1.0)
    batches = torch.Generator().manual_seed(1)  # the same batches everywhere, of which each takes its part
    for step in range(steps):
        x = torch.randn(STEPS, ROWS, 1, generator=batches)[:, rank::size]
        loss = torch.nn.functional.mse_loss(parallel(x), x.cumsum(0) / 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach() / size
        dist.all_reduce(mean)
        if rank == 0 and (step % 10 == 0 or step == steps - 1):
            print(f"step {step:4d}  loss {float(mean):.4f}")


if __name__ == "__main__":
    sys.exit(main())
