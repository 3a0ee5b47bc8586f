"""Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), and dropout by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counter: Array, key: Array) -> Array:
    """Ten rounds of Philox4x32 for every counter.

    Args:
        counter: (..., 4), 32-bit words in uint64.
        key: (2,), 32-bit words in uint64.

    Returns:
        (..., 4), 32-bit words in uint64.
    """
    c0, c1, c2, c3 = np.moveaxis(counter, -1, 0)
    k0, k1 = key
    for _ in range(10):
        a, b = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return np.stack([c0, c1, c2, c3], axis=-1)


def random_words(count: int, key: int, stream: int, first: int = 0, step: int = 0) -> Array:
    """The 32-bit random word of each element first..first+count-1, as uint64 (count,).

    Element i takes word i mod 4 of the block whose counter is (low and high half of i div 4, stream, step).
    first is a multiple of 4.
    """
    block = np.arange((count + 3) // 4, dtype=np.uint64) + np.uint64(first // 4)
    counter = np.stack(
        [block & _LOW, block >> _32, np.full_like(block, stream), np.full_like(block, step)], axis=-1
    )
    words = philox(counter, np.array([key & 0xFFFFFFFF, key >> 32], np.uint64))
    return words.reshape(-1)[:count]


def drop(x: Array, p: float, key: int, stream: int) -> Array:
    """x / (1 - p) where an element is kept, else exactly 0; linear, so its own backward.

    Element i, in C order, is kept where its random word is at least floor(p 2^32). The factor is computed in
    double and rounded to x's dtype.

    Raises:
        ValueError: p is outside [0, 1], or key or stream outside their 64 and 32 bits.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p must be in [0, 1], it is {p}")
    if not 0 <= key < 2**64:
        raise ValueError(f"key must be an unsigned 64-bit integer, it is {key}")
    if not 0 <= stream < 2**32:
        raise ValueError(f"stream must be an unsigned 32-bit integer, it is {stream}")
    keep = random_words(x.size, key, stream).reshape(x.shape) >= np.uint64(int(p * 2.0**32))
    scale = x.dtype.type(1.0 / (1.0 - p) if p < 1.0 else 0.0)
    y: Array = np.where(keep, x * scale, x.dtype.type(0))
    return y


def kept_rows(rows: Array, width: int, p: float, key: int, stream: int, step: int = 0) -> Array:
    """Which elements (len(rows), width) of masks by row are kept: element k of row b is 2^34 b + k.

    So the mask of a row does not depend on how many there are, nor on how long they are.
    """
    threshold = np.uint64(int(p * 2.0**32))
    kept = np.empty((len(rows), width), bool)
    for i, b in enumerate(rows):
        kept[i] = random_words(width, key, stream, int(b) << 34, step) >= threshold
    return kept
