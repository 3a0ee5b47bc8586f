"""Initial values of parameters, drawn from a `numpy.random.Generator`.

Numbers are drawn in float64 and rounded to the parameter's type, so a float32 and a float64 module of one
seed start from the same weights up to rounding.
"""

from __future__ import annotations

import numpy as np

from fusedrnn._core.parameter import Parameter


def uniform_(parameter: Parameter, bound: float, rng: np.random.Generator) -> None:
    """Fills with the uniform distribution over [-bound, bound]."""
    parameter.data = rng.uniform(-bound, bound, parameter.shape).astype(parameter.dtype)


def normal_(parameter: Parameter, deviation: float, rng: np.random.Generator) -> None:
    """Fills with the normal distribution of mean 0 and the given standard deviation."""
    parameter.data = rng.normal(0.0, deviation, parameter.shape).astype(parameter.dtype)


def constant_(parameter: Parameter, value: float) -> None:
    """Fills with one value."""
    parameter.data = np.full(parameter.shape, value, parameter.dtype)
