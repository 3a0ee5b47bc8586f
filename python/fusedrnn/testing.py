"""Checks of gradients, for modules and losses of the user's own.

    fr.testing.gradcheck(model, x)

raises AssertionError where `backward` does not return the derivative of `forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core import checks
from fusedrnn.nn.module import Module

__all__ = ["gradcheck"]

Array = NDArray[Any]
_COMPLEX_STEP = 1e-100  # nothing is subtracted, so it may be as small as it likes


def gradcheck(
    subject: Module | Callable[..., tuple[Any, Any]],
    inputs: Array | Sequence[Array],
    *,
    rtol: float | None = None,
    atol: float | None = None,
    samples: int = 200,
    seed: int = 0,
) -> bool:
    """Compares gradients with what the values themselves say.

        >>> import numpy as np, fusedrnn as fr
        >>> fr.testing.gradcheck(fr.nn.GRU(3, 4, dtype=np.float64, seed=0), np.ones((5, 2, 3)))
        True
        >>> fr.testing.gradcheck(lambda x: (float((x * x).sum().real), 2 * x), np.ones(3))
        True

    Args:
        subject: a module, whose ``forward(*inputs)`` returns an array, or a tuple that starts with it, and
            whose ``backward(dy)`` returns the gradient of the first input, or a tuple that starts with it, or
            None; the gradients of its parameters, but for frozen ones, are checked as well. Or a function
            like those of `fusedrnn.losses`: it returns a value, number or array, and the gradient of the sum
            of that with respect to its first input, or a tuple of the gradients of several.
        inputs: an array or several. The first is differentiated, for a function as many as it returns
            gradients; of other dtypes than float32 and float64 none is. Best in float64: central differences
            in float32 are right to some 1e-3 only.
        rtol, atol: how far a derivative may be from the gradient: atol + rtol times the largest gradient of
            the array; by default 1e-6 and 1e-8 for float64, 2e-2 and 1e-3 for float32.
        samples: of larger arrays, so many elements drawn at random are checked.
        seed: for those, and for dy.

    Functions that take complex numbers are differentiated by a complex step (Squire & Trapp 1998), exact to
    rounding; others, and modules, by central differences. A module is left as it was, but for its tapes:
    dropout has the same mask in each call, and parameters and their gradients are put back.

    Returns:
        True.

    Raises:
        AssertionError: a gradient is wrong; the message says which, where, and by how much.
        TypeError, ValueError: there is nothing to differentiate.
    """
    if not callable(subject):
        raise TypeError(f"subject must be a module or a function, it is a {type(subject).__name__}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and not checks.real(name, value) >= 0:
            raise ValueError(f"{name} must be None or at least 0, it is {value}")
    checks.positive_int("samples", samples)
    given = [np.array(x) for x in (inputs if isinstance(inputs, (list, tuple)) else (inputs,))]
    floats = bool(given) and given[0].dtype in (np.float32, np.float64)
    if not floats and not isinstance(subject, Module):
        raise TypeError("inputs must start with an array of float32 or float64")
    tolerance = rtol, atol
    rng = checks.generator(seed)
    if isinstance(subject, Module):
        _check_module(subject, given, tolerance, samples, rng)
    else:
        _check_function(subject, given, tolerance, samples, rng)
    return True


def _check_module(
    module: Module, inputs: list[Array], tolerance: tuple[Any, Any], samples: int, rng: np.random.Generator
) -> None:
    parameters = dict(module.named_parameters())
    saved = {name: (p.numpy(), np.array(p.grad)) for name, p in parameters.items()}
    keys, training = module.random_state(), module.training

    def forward() -> Array:
        module.load_random_state(keys)
        result = module(*(x.copy() for x in inputs))
        y: Array = result[0] if isinstance(result, tuple) else result
        return y

    module.train()
    try:
        dy = rng.standard_normal(forward().shape)
        module.zero_grad()
        y = forward()
        result = module.backward(dy.astype(y.dtype))
        dx = result[0] if isinstance(result, tuple) else result
        gradients = {name: np.array(p.grad) for name, p in parameters.items()}

        def objective() -> float:
            return float((forward().astype(np.float64) * dy).sum())

        if dx is not None and inputs[0].dtype in (np.float32, np.float64):
            _compare("the first input", inputs[0], dx, objective, lambda: None, tolerance, samples, rng)
        for name, p in parameters.items():
            if not p.requires_grad:
                continue
            values = saved[name][0].copy()
            write = lambda p=p, values=values: setattr(p, "data", values)  # noqa: E731
            _compare(name, values, gradients[name], objective, write, tolerance, samples, rng)
    finally:
        for name, p in parameters.items():
            p.data, p.grad = saved[name]
        module.load_random_state(keys)
        module.train(training)


def _check_function(
    function: Callable[..., tuple[Any, Any]],
    inputs: list[Array],
    tolerance: tuple[Any, Any],
    samples: int,
    rng: np.random.Generator,
) -> None:
    gradients = function(*inputs)[1]
    several = gradients if isinstance(gradients, (list, tuple)) else (gradients,)
    for i, (x, gradient) in enumerate(zip(inputs, several, strict=False)):
        if gradient is None or x.dtype not in (np.float32, np.float64):
            continue
        exact = _complex_step(function, inputs, i)

        def objective() -> float:
            return float(np.sum(np.real(function(*inputs)[0])))

        name = f"input {i}"
        _compare(name, x, np.asarray(gradient), objective, lambda: None, tolerance, samples, rng, exact)


def _complex_step(
    function: Callable[..., tuple[Any, Any]], inputs: list[Array], i: int
) -> Callable[[Any], float] | None:
    """The derivative at an element by a complex step, None where the function takes no complex numbers."""
    if inputs[i].dtype != np.float64:
        return None

    def derivative(where: Any) -> float:
        moved = [x.astype(np.complex128) if k == i else x for k, x in enumerate(inputs)]
        moved[i][where] += 1j * _COMPLEX_STEP
        return float(np.sum(function(*moved)[0]).imag / _COMPLEX_STEP)

    try:
        probe = [x.astype(np.complex128) if k == i else x for k, x in enumerate(inputs)]
        complex_ = np.iscomplexobj(function(*probe)[0])
    except (TypeError, ValueError):
        return None
    return derivative if complex_ else None


def _compare(
    name: str,
    x: Array,
    gradient: Array,
    objective: Callable[[], float],
    write: Callable[[], None],
    tolerance: tuple[Any, Any],
    samples: int,
    rng: np.random.Generator,
    exact: Callable[[Any], float] | None = None,
) -> None:
    if gradient.shape != x.shape:
        raise AssertionError(f"the gradient of {name} has shape {gradient.shape}, it must have {x.shape}")
    wide = x.dtype == np.float64
    rtol = tolerance[0] if tolerance[0] is not None else 1e-6 if wide else 2e-2
    atol = tolerance[1] if tolerance[1] is not None else 1e-8 if wide else 1e-3
    allowed = atol + rtol * float(np.abs(gradient).max(initial=0))
    chosen = np.arange(x.size) if x.size <= samples else rng.choice(x.size, samples, replace=False)
    for flat in chosen:
        where = np.unravel_index(flat, x.shape)
        found = exact(where) if exact is not None else _difference(x, where, objective, write)
        if not abs(found - float(gradient[where])) <= allowed:
            place = tuple(int(k) for k in where)
            raise AssertionError(
                f"the gradient of {name} at {place} is {float(gradient[where]):.9g}, the derivative is "
                f"{found:.9g}: they differ by more than {allowed:.2g}"
            )
    write()


def _difference(x: Array, where: Any, objective: Callable[[], float], write: Callable[[], None]) -> float:
    """The derivative by a central difference; x is as it was afterwards."""
    before = x[where]
    step = float(np.finfo(x.dtype).eps) ** (1 / 3) * max(1.0, abs(float(before)))
    values, places = [], []
    for sign in (1, -1):
        x[where] = before + sign * step
        places.append(float(x[where]))
        write()
        values.append(objective())
    x[where] = before
    return (values[0] - values[1]) / (places[0] - places[1])
