"""What this machine's CPU offers and which of it is used."""

from __future__ import annotations

from fusedrnn import _native


def isa() -> str:
    """The instruction set in use: "scalar", "avx2", "avx512", "amx" or "neon".

    The best available one, unless the environment variable ``FUSEDRNN_ISA`` names another. All give the same
    bits.
    """
    return _native.backend()


def available_isas() -> tuple[str, ...]:
    """The instruction sets that this build has kernels for and this CPU can run, slowest first."""
    return tuple(_native.available_backends())


def engine(precision: str = "ieee") -> str:
    """What multiplies matrices in a precision, on the instruction set in use.

    "fma-scalar", "fma-avx2", "fma-avx512" and "fma-neon" are fused multiply-adds of that set; "amx" is the
    unit that multiplies tiles of bfloat16, in all precisions of the CPU but "ieee". All give the same bits.

    Raises:
        ValueError: precision is unknown, or not one of the CPU's.

    >>> import fusedrnn as fr
    >>> fr.cpu.engine("ieee").startswith("fma-")
    True
    """
    offered = _native.cpu_precisions()
    if not isinstance(precision, str) or precision not in offered:
        raise ValueError(f"precision must be one of {', '.join(map(repr, offered))}, it is {precision!r}")
    if isa() != "amx":
        return f"fma-{isa()}"
    return "fma-avx512" if precision == "ieee" else "amx"
