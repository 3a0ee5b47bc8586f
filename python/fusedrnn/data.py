"""Batches of sequences of unequal length, for training loops.

    for batch in fr.data.batches(sequences, targets, batch_size=32, seed=0):
        loss, norm = model.train_step(
            batch.x, batch.y, "cross_entropy", optimizer, lengths=batch.lengths, mask=batch.mask
        )

`batches` puts sequences of like length together, pads and shuffles them. `tbptt` cuts ones that are too long
for one step of training into chunks of steps, between which the state is carried over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core import checks, torch_hints

Array = NDArray[Any]
__all__ = ["Batch", "Batches", "Chunk", "batches", "tbptt"]


class Batch(NamedTuple):
    """Some sequences side by side, padded to the longest of them.

    Attributes:
        x: (T, B, ...), or (B, T, ...) with batch_first.
        lengths: (B,), int64: the steps of each row; what lies past them is padding.
        y: targets: (B, ...) of one for a sequence; of one for a step as x; None where there are none.
        mask: bool, (T, B) or (B, T): True where a step is no padding, for losses of all steps.
        rows: (B,), int64: the sequences' places in what `batches` was given.
    """

    x: Array
    lengths: NDArray[np.int64]
    y: Array | None
    mask: NDArray[np.bool_]
    rows: NDArray[np.int64]


class Chunk(NamedTuple):
    """Some steps of all rows: views of what `tbptt` was given, but for lengths.

    Attributes:
        x: (steps, B, ...), or (B, steps, ...) with batch_first.
        y: targets of these steps, alike; None where there are none.
        lengths: (B,), int64: valid steps of each row in this chunk, 0 where it has ended; None without any.
        mask: bool, (steps, B) or (B, steps), True where a step counts; None without mask and lengths.
        resets: alike; None where there are none.
        start: of its first step in the whole sequence.
    """

    x: Array
    y: Array | None
    lengths: NDArray[np.int64] | None
    mask: NDArray[np.bool_] | None
    resets: NDArray[np.bool_] | None
    start: int


class Batches:
    """What `batches` returns: each iteration over it is an epoch; ``len`` is the batches of one.

    An iteration gives `Batch` after `Batch`, whose x has shape (T, B, ...), T the longest of its rows.

    Raises:
        TypeError, ValueError: as `batches`.
    """

    def __init__(
        self,
        sequences: Sequence[Array],
        targets: Sequence[Array] | Array | None,
        batch_size: int,
        *,
        shuffle: bool,
        bucket: int,
        batch_first: bool,
        drop_last: bool,
        pad: float,
        seed: checks.Seed,
    ) -> None:
        self._sequences = _arrays("sequences", sequences)
        self._lengths = np.array([len(s) for s in self._sequences], np.int64)
        self._targets, self._by_step = self._checked_targets(targets)
        self._batch_size = batch_size
        self._shuffle, self._bucket = shuffle, bucket
        self._batch_first, self._drop_last, self._pad = batch_first, drop_last, pad
        dtype = self._sequences[0].dtype
        with np.errstate(all="ignore"):
            fits = np.array_equal(np.asarray(pad).astype(dtype), pad, equal_nan=dtype.kind == "f")
        if not fits:
            raise ValueError(f"pad must be a number of the sequences' dtype, {dtype}, it is {pad}")
        self._rng = checks.generator(seed)

    def _checked_targets(self, targets: Any) -> tuple[list[Array] | None, bool]:
        """One array for each sequence; do they have a value for each step?"""
        if targets is None:
            return None, False
        count = len(self._sequences)
        if not hasattr(targets, "__len__") or (isinstance(targets, np.ndarray) and targets.ndim == 0):
            raise TypeError(f"targets must be a list or an array, it is a {type(targets).__name__}")
        if len(targets) != count:
            raise ValueError(f"targets must be as many as sequences, {count}; there are {len(targets)}")
        if isinstance(targets, np.ndarray) and targets.dtype != object:
            return list(targets), False
        arrays = _arrays("targets", targets)
        for i, (target, length) in enumerate(zip(arrays, self._lengths, strict=True)):
            if len(target) != length:
                raise ValueError(
                    f"targets[{i}] must have {length} steps like sequences[{i}], it has {len(target)}: "
                    "give one target for a whole sequence as an array (N, ...)"
                )
        return arrays, True

    def __len__(self) -> int:
        whole, rest = divmod(len(self._sequences), self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(len(self._sequences))
        if self._shuffle:
            self._rng.shuffle(order)
            if self._drop_last:  # which sequences it leaves out is drawn: not always the longest
                order = order[: len(self) * self._batch_size]
        if self._bucket > 1:  # among neighbours of a shuffled order, like lengths come together
            pool = self._bucket * self._batch_size
            pools = (order[i : i + pool] for i in range(0, len(order), pool))
            order = np.concatenate([p[np.argsort(self._lengths[p], kind="stable")] for p in pools])
        starts = np.arange(len(self)) * self._batch_size
        if self._shuffle:
            self._rng.shuffle(starts)
        for start in starts:
            yield self._batch(order[start : start + self._batch_size])

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        lengths = self._lengths[rows]
        mask = np.arange(lengths.max(initial=0))[:, None] < lengths
        y: Array | None = None
        if self._targets is not None:
            chosen = [self._targets[i] for i in rows]
            y = self._padded(chosen, 0) if self._by_step else np.stack(chosen)
        x = self._padded([self._sequences[i] for i in rows], self._pad)
        return Batch(x, lengths, y, np.ascontiguousarray(mask.T) if self._batch_first else mask, rows)

    def _padded(self, arrays: list[Array], value: float) -> Array:
        longest, count = max(map(len, arrays)), len(arrays)
        shape = (count, longest) if self._batch_first else (longest, count)
        out = np.full((*shape, *arrays[0].shape[1:]), value, arrays[0].dtype)
        for b, array in enumerate(arrays):
            (out[b] if self._batch_first else out[:, b])[: len(array)] = array
        return out


def batches(
    sequences: Sequence[Array],
    targets: Sequence[Array] | Array | None = None,
    batch_size: int = 32,
    *,
    shuffle: bool = True,
    bucket: int = 16,
    batch_first: bool = False,
    drop_last: bool = False,
    pad: float = 0,
    seed: checks.Seed = None,
) -> Batches:
    """Padded batches of sequences; every iteration over the result is an epoch, each in another order.

        rng = np.random.default_rng(0)
        sequences = [rng.standard_normal((n, 3), dtype=np.float32) for n in rng.integers(5, 50, 100)]
        for batch in fr.data.batches(sequences, np.arange(100) % 2, batch_size=8, seed=0):
            logits = model(batch.x, lengths=batch.lengths)

    Args:
        sequences: arrays (steps, ...) of one dtype and equal further axes, or ids (steps,). None is empty.
        targets: an array (N, ...) with one entry for each sequence, or a list of arrays (steps, ...).
        batch_size: sequences in a batch; the last batch of an epoch may have fewer.
        shuffle: whether epochs come in random orders. Without it and with bucket=1 the order is kept.
        bucket: so many batches are filled at a time from a piece of the epoch that is sorted by length: the
            larger, the less padding and the less random. 1 does not sort.
        batch_first: whether arrays are (B, T, ...), for models with batch_first.
        drop_last: leave out a last batch that would be smaller.
        pad: what stands past a sequence's end in x; in targets it is 0. Layers never read it.
        seed: int or `numpy.random.Generator`.

    Raises:
        TypeError, ValueError: sequences or targets differ in dtype or further axes, are empty, or do not fit
            each other; batch_size or bucket is less than 1; an option is of another type.
    """
    return Batches(
        sequences,
        targets,
        checks.positive_int("batch_size", batch_size, 2**62),
        shuffle=checks.flag("shuffle", shuffle),
        bucket=checks.positive_int("bucket", bucket, 2**30),
        batch_first=checks.flag("batch_first", batch_first),
        drop_last=checks.flag("drop_last", drop_last),
        pad=checks.real("pad", pad),
        seed=seed,
    )


def tbptt(
    x: Array,
    y: Array | None = None,
    *,
    steps: int,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    batch_first: bool = False,
) -> Iterator[Chunk]:
    """Chunks of steps, in order, for truncated back-propagation through time (Williams & Peng 1990).

        state = None
        for chunk in fr.data.tbptt(x, y, steps=64, lengths=lengths):
            loss, norm, state = model.train_step(
                chunk.x, chunk.y, "mse", optimizer, lengths=chunk.lengths, mask=chunk.mask, state=state,
                return_state=True,
            )

    Outputs and states are, to the bit, those of the whole sequence in one call, as long as the weights stay
    the same and nothing draws masks. Gradients end where a chunk begins: where a reset cuts the whole
    sequence there as well, those of all chunks add up to the whole one's (of a loss that is a sum). A row
    that ended in an earlier chunk hands its state on. A second direction would begin anew in every chunk:
    models of both directions take sequences as a whole.

    Args:
        x: (T, B, ...) or with batch_first (B, T, ...).
        y: targets of every step, with x's first two axes.
        steps: of a chunk; the last one may have fewer.
        lengths: int (B,), valid steps of each row, 0 to T. Chunks behind the longest row are left out.
        mask: bool, x's first two axes, True where a step counts in the loss.
        resets: likewise, True where a step forgets what was before; see `fusedrnn.nn.Recurrent`.
        batch_first: whether arrays are (B, T, ...).

    Raises:
        TypeError, ValueError: steps is less than 1, an array does not have x's first two axes, lengths are
            out of range, or an option is of another type.
    """
    steps = checks.positive_int("steps", steps)
    time = int(checks.flag("batch_first", batch_first))
    arrays = {"x": x, "y": y, "mask": mask, "resets": resets}
    for name, array in arrays.items():
        if array is None and name != "x":
            continue
        if not isinstance(array, np.ndarray) or array.ndim < 2:
            raise TypeError(f"{name} must be an array of steps and rows, it is {type(array).__name__}")
        if array.shape[:2] != x.shape[:2]:
            raise ValueError(f"{name} must have x's first two axes {x.shape[:2]}, it has {array.shape[:2]}")
    left = _left(lengths, x.shape[time], x.shape[1 - time])
    return _chunks(arrays, left, steps, time)


def _left(lengths: Array | None, T: int, B: int) -> NDArray[np.int64] | None:
    """Lengths as int64, checked."""
    if lengths is None:
        return None
    left = np.asarray(lengths)
    if left.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, they are {left.dtype}")
    if left.shape != (B,):
        raise ValueError(f"lengths must have shape {(B,)}, they have {left.shape}")
    if ((left < 0) | (left > T)).any():
        raise ValueError(f"lengths must be in [0, {T}], they are {left}")
    return left.astype(np.int64)


def _chunks(
    arrays: dict[str, Array | None], left: NDArray[np.int64] | None, steps: int, time: int
) -> Iterator[Chunk]:
    x = arrays["x"]
    assert x is not None
    end = x.shape[time] if left is None else int(left.max(initial=0))
    for start in range(0, end, steps):
        count = min(steps, x.shape[time] - start)
        part = (slice(None),) * time + (slice(start, start + count),)
        own = {name: None if a is None else a[part] for name, a in arrays.items()}
        lengths, mask = None, own["mask"]
        if left is not None:
            lengths = np.clip(left - start, 0, count)
            valid = np.arange(count)[:, None] < lengths
            valid = valid.T if time else valid
            mask = np.ascontiguousarray(valid if mask is None else mask & valid)
        here = own["x"]
        assert here is not None
        yield Chunk(here, own["y"], lengths, mask, own["resets"], start)


def _arrays(name: str, arrays: Any) -> list[Array]:
    """As a list; all of one dtype, of equal axes after the first, and none empty."""
    whole = isinstance(arrays, np.ndarray) and arrays.ndim > 0
    found = list(arrays) if whole else checks.several(name, arrays, "a list of arrays")
    if not found:
        raise ValueError(f"{name} must be at least one array, there is none")
    for i, array in enumerate(found):
        if not isinstance(array, np.ndarray) or array.ndim < 1:
            raise TypeError(f"{name}[{i}] must be an array of steps, it is {type(array).__name__}")
        if len(array) == 0:
            raise ValueError(f"{name}[{i}] must have at least one step, it has none")
        if array.dtype != found[0].dtype:
            raise TypeError(f"{name}[{i}] must be {found[0].dtype} like {name}[0], it is {array.dtype}")
        if array.shape[1:] != found[0].shape[1:]:
            raise ValueError(
                f"{name}[{i}] must have the axes (steps, {', '.join(map(str, found[0].shape[1:]))}) of "
                f"{name}[0], it is {array.shape}"
            )
    return found


if not TYPE_CHECKING:  # a type checker knows what there is

    def __getattr__(name: str) -> Any:
        torch_hints.missing("module 'fusedrnn.data'", name, torch_hints.DATA)
