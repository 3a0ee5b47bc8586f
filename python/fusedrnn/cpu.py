"""What this machine's CPU offers and which of it is used."""

from __future__ import annotations

from fusedrnn import _native


def isa() -> str:
    """The instruction set in use: "scalar", "avx2", "avx512" or "neon".

    The best available one, unless the environment variable ``FUSEDRNN_ISA`` names another. All give the same
    bits.
    """
    return _native.backend()


def available_isas() -> tuple[str, ...]:
    """The instruction sets that this build has kernels for and this CPU can run, slowest first."""
    return tuple(_native.available_backends())
