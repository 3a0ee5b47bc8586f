"""Recurrent stacks as JAX users write them: a scan over steps, compiled whole. Optional: `pip install jax`.

The products of all steps with the input are one product before the scan. In bfloat16 operands of products are
bfloat16 and sums float32, as ours. JAX has no number of threads: it takes all cores of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from measure import Contender
from numpy.typing import NDArray

Array = NDArray[Any]
JAX = "JAX"


def available() -> bool:
    """Whether JAX is installed."""
    return find_spec("jax") is not None


def contenders(cell: str, weights: Mapping[str, Array], x: Array, dy: Array | None) -> list[Contender]:
    """A stack in float32 and bfloat16: outputs, or where there is a dy all gradients, of which that of x."""
    return [
        Contender(f"{JAX} {name}", call_of(cell, weights, x, dy, narrow), library=f"{JAX} {name}")
        for name, narrow in (("float32", False), ("bfloat16", True))
    ]


def call_of(
    cell: str, weights: Mapping[str, Array], x: Array, dy: Array | None, narrow: bool
) -> Callable[[], Array]:
    """One call, compiled before."""
    import jax
    import jax.numpy as jnp

    layers = sum(name.startswith("weight_hh") for name in weights)

    def dot(a: Any, b: Any) -> Any:
        operands = (a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)) if narrow else (a, b)
        return jnp.dot(*operands, preferred_element_type=jnp.float32)

    def lstm(carry: Any, from_x: Any, r: Any, b: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(from_x + dot(h, r.T) + b, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(carry: Any, from_x: Any, r: Any, b: Any) -> Any:
        (h,) = carry
        xr, xz, xn = jnp.split(from_x, 3, axis=-1)
        hr, hz, hn = jnp.split(dot(h, r.T) + b, 3, axis=-1)
        n = jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
        h = n + jax.nn.sigmoid(xz + hz) * (h - n)
        return (h,), h

    def rnn(carry: Any, from_x: Any, r: Any, b: Any) -> Any:
        h = jnp.tanh(from_x + dot(carry[0], r.T) + b)
        return (h,), h

    step, states = {"lstm": (lstm, 2), "gru": (gru, 1), "rnn": (rnn, 1)}[cell]

    def run(w: Mapping[str, Any], y: Any) -> Any:
        for layer in range(layers):
            wx, wh, bx, bh = (
                w[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            start = (jnp.zeros((y.shape[1], wh.shape[1]), jnp.float32),) * states
            _, y = jax.lax.scan(lambda carry, at, r=wh, b=bh: step(carry, at, r, b), start, dot(y, wx.T) + bx)
        return y

    def gradients(w: Mapping[str, Any], y: Any, upstream: Any) -> Any:
        return jax.vjp(run, w, y)[1](upstream)

    on_device = {name: jnp.asarray(value) for name, value in weights.items()}
    inputs = jnp.asarray(x)
    if dy is None:
        forward = jax.jit(run)
        return lambda: np.asarray(jax.block_until_ready(forward(on_device, inputs)))
    upstream, train = jnp.asarray(dy), jax.jit(gradients)
    return lambda: np.asarray(jax.block_until_ready(train(on_device, inputs, upstream))[1])
