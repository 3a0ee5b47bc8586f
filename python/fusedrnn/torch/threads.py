"""Threads: as many as PyTorch uses, unless the user chose a number for this package."""

from __future__ import annotations

import os

import torch

from fusedrnn import _native

_CHOSEN_BEFORE = bool(os.environ.get("FUSEDRNN_NUM_THREADS"))
_seen = 0  # PyTorch's number when it was last looked at
_taken_over = 0  # the number that this module has set last; 0: none


def follow() -> None:
    """Takes over ``torch.get_num_threads()``, when it has changed.

    Not where `FUSEDRNN_NUM_THREADS` is set or the user has called `fusedrnn.set_num_threads`.
    """
    global _seen, _taken_over
    n = torch.get_num_threads()
    if n == _seen or _CHOSEN_BEFORE:
        return
    _seen = n
    own = _native.get_num_threads()
    chosen = _native.cpu_info()["threads_from"] == "set_num_threads" and own != _taken_over
    if not chosen and own != n:
        _native.set_num_threads(n)
        _taken_over = n
