"""Initial values of parameters, drawn from a `numpy.random.Generator`.

Numbers are drawn in float64 and rounded to the parameter's type, so a float32 and a float64 module of one
seed start from the same weights up to rounding.

A wrong type raises TypeError, a wrong value or shape ValueError; the message names the argument.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core import checks, torch_hints
from fusedrnn._core.parameter import Parameter


def uniform_(parameter: Parameter, bound: float, rng: np.random.Generator) -> None:
    """Fills with the uniform distribution over [-bound, bound]."""
    _require(parameter, rng)
    bound = _finite("bound", bound, 0.0)
    parameter.data = rng.uniform(-bound, bound, parameter.shape).astype(parameter.dtype)


def normal_(parameter: Parameter, deviation: float, rng: np.random.Generator) -> None:
    """Fills with the normal distribution of mean 0 and the given standard deviation."""
    _require(parameter, rng)
    deviation = _finite("deviation", deviation, 0.0)
    parameter.data = rng.normal(0.0, deviation, parameter.shape).astype(parameter.dtype)


def constant_(parameter: Parameter, value: float) -> None:
    """Fills with one value."""
    _require(parameter)
    parameter.data = np.full(parameter.shape, checks.real("value", value), parameter.dtype)


def glorot_uniform_(parameter: Parameter, rng: np.random.Generator, blocks: int = 1) -> None:
    """Fills each of `blocks` equal pieces of rows uniformly over +-sqrt(6 / (rows + columns)) of the piece.

    Glorot & Bengio 2010. One piece is what Keras does with the gates of a kernel, a piece a gate treats every
    gate as a layer of its own.
    """
    rows, columns = _piece(parameter, rng, blocks)
    uniform_(parameter, float(np.sqrt(6 / (rows + columns))), rng)


def orthogonal_(parameter: Parameter, rng: np.random.Generator, blocks: int = 1) -> None:
    """Fills each of `blocks` equal pieces of rows with a random matrix of orthonormal rows or columns.

    Columns where a piece is taller than wide, else rows. Saxe et al. 2014; uniform over all such matrices.
    """
    rows, columns = _piece(parameter, rng, blocks)
    pieces = [_orthonormal(rows, columns, rng) for _ in range(blocks)]
    parameter.data = np.concatenate(pieces).astype(parameter.dtype)


def identity_(parameter: Parameter) -> None:
    """Fills with the identity, which a square matrix has (Le et al. 2015)."""
    _require(parameter, axes=2)
    parameter.data = np.eye(*parameter.shape, dtype=parameter.dtype)


def _require(parameter: Any, *rng: Any, axes: int | None = None) -> None:
    if not isinstance(parameter, Parameter):
        raise TypeError(f"parameter must be an fr.nn.Parameter, it is {type(parameter).__name__}")
    if rng and not isinstance(rng[0], np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, it is {type(rng[0]).__name__}")
    if axes is not None and parameter.ndim != axes:
        raise ValueError(f"parameter must have {axes} axes, its shape is {parameter.shape}")


def _finite(name: str, value: Any, least: float) -> float:
    number = checks.real(name, value)
    if not (math.isfinite(number) and number >= least):
        raise ValueError(f"{name} must be finite and at least {least}, it is {number}")
    return number


def _piece(parameter: Parameter, rng: Any, blocks: int) -> tuple[int, int]:
    """Rows and columns of one of so many equal pieces."""
    _require(parameter, rng, axes=2)
    rows, columns = parameter.shape
    if checks.integer("blocks", blocks, 1) > rows or rows % blocks:
        raise ValueError(f"blocks must divide the {rows} rows of parameter, it is {blocks}")
    return rows // blocks, columns


def _orthonormal(rows: int, columns: int, rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # else QR prefers some matrices
    return q if rows >= columns else q.T


if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.nn.init'", name, torch_hints.INIT)
