"""PyTorch modules that `to_torch` needs beside PyTorch's own. Importing this imports torch."""

from __future__ import annotations

from typing import Any

from fusedrnn.io.errors import need

torch: Any = need("torch")


class Sequential(torch.nn.Sequential):  # type: ignore[misc]
    """A chain whose next module reads y of a recurrent one; parameters are named as in `fr.nn.Sequential`."""

    def forward(self, x: Any) -> Any:
        """What the last module returns, of a recurrent one y."""
        for module in self:
            x = module(x)
            if isinstance(x, tuple):
                x = x[0]
        return x


class Last(torch.nn.Module):  # type: ignore[misc]
    """The last step: (T, B, F) or, with batch_first, (B, T, F) to (B, F)."""

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.batch_first = batch_first

    def forward(self, x: Any) -> Any:
        """y (B, F) of x."""
        return x[:, -1] if self.batch_first else x[-1]


class Ends(Last):
    """The final states of both directions side by side, from what a bidirectional module returns."""

    def forward(self, x: Any) -> Any:
        """y (B, 2 H) of x."""
        rows = x if self.batch_first else x.transpose(0, 1)
        half = x.shape[2] // 2
        return torch.cat((rows[:, -1, :half], rows[:, 0, half:]), 1)
