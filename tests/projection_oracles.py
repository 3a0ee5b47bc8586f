"""Writes oracles/torch_lstm_projected.json: what PyTorch's LSTM with proj_size makes of drawn sequences.

    python tests/projection_oracles.py

Needs torch. Run it again only to add cases: the file is the record.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "oracles" / "torch_lstm_projected.json"
T, B, I, H, P = 5, 3, 3, 4, 2
CASES: dict[str, dict[str, Any]] = {
    "one layer": {},
    "without bias": {"bias": False},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True},
    "lengths": {"num_layers": 2, "bidirectional": True, "lengths": [5, 2, 3]},
}


def drawn(name: str, lengths: list[int] | None = None, **options: Any) -> dict[str, Any]:
    """Inputs, results and the gradients of sum(y dy) + sum(hn dhn) + sum(cn dcn)."""
    import torch

    lstm = torch.nn.LSTM(I, H, proj_size=P, dtype=torch.float64, **options)
    stacks, width = lstm.num_layers * (1 + lstm.bidirectional), P * (1 + lstm.bidirectional)
    sizes = {"x": (T, B, I), "h0": (stacks, B, P), "c0": (stacks, B, H)}
    leaves = {k: torch.randn(size, dtype=torch.float64, requires_grad=True) for k, size in sizes.items()}
    x, h0, c0 = leaves.values()
    if lengths is None:
        y, (hn, cn) = lstm(x, (h0, c0))
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        y, (hn, cn) = lstm(packed, (h0, c0))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    assert y.shape == (T, B, width)
    results = {"y": y, "hn": hn, "cn": cn}
    into = {f"d{k}": torch.randn_like(a) for k, a in results.items()}
    sum((a * into[f"d{k}"]).sum() for k, a in results.items()).backward()
    weights = dict(lstm.named_parameters())
    arrays = leaves | results | into | weights
    gradients = {f"grad {k}": a.grad for k, a in (leaves | weights).items()}
    listed = {k: a.detach().tolist() for k, a in (arrays | gradients).items()}
    return {"name": name, "lengths": lengths, "weights": list(weights), **listed}


def main() -> None:
    """Writes the file."""
    import torch

    torch.manual_seed(2026)
    provenance = {
        "project": "pytorch/pytorch",
        "file": "tests/projection_oracles.py",
        "version": {"torch": version("torch")},
        "licence": "BSD-3-Clause",
        "transcribed": "Computed by torch.nn.LSTM(proj_size=2) in float64 on a CPU, with drawn weights; "
        "gradients by its autograd. Lengths by pack_padded_sequence.",
    }
    lines = ",\n    ".join(json.dumps(drawn(name, **options)) for name, options in CASES.items())
    head = json.dumps({"provenance": provenance}, indent=2)[:-2]
    FILE.write_text(f'{head},\n  "cases": [\n    {lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
