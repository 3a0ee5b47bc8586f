"""fusedrnn.data: every sequence once an epoch, padded truly, like lengths together, repeatable by seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedrnn as fr

PAD = -7.0


def sequences_of(lengths: list[int]) -> list[Any]:
    """Sequence i has the values i + step / 1000 in two features."""
    return [
        np.repeat(i + np.arange(n)[:, None] / 1000, 2, axis=1).astype(np.float32)
        for i, n in enumerate(lengths)
    ]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    batch_size=st.integers(1, 9),
    bucket=st.integers(1, 4),
    shuffle=st.booleans(),
    batch_first=st.booleans(),
)
def test_an_epoch_has_every_sequence_once(
    lengths: list[int], batch_size: int, bucket: int, shuffle: bool, batch_first: bool
) -> None:
    sequences = sequences_of(lengths)
    steps = [np.arange(n) + 100 * i for i, n in enumerate(lengths)]
    options = {"bucket": bucket, "shuffle": shuffle, "batch_first": batch_first, "pad": PAD, "seed": 0}
    epochs = fr.data.batches(sequences, steps, batch_size, **options)
    for _ in range(2):
        seen: list[int] = []
        found = list(epochs)
        assert len(found) == len(epochs) == -(-len(lengths) // batch_size)
        for batch in found:
            x, y, mask = (np.swapaxes(a, 0, 1) if batch_first else a for a in (batch.x, batch.y, batch.mask))
            assert x.shape == (max(batch.lengths), len(batch.rows), 2)
            assert batch.x.flags.c_contiguous
            for b, row in enumerate(batch.rows):
                n = lengths[row]
                assert batch.lengths[b] == n
                np.testing.assert_array_equal(x[:n, b], sequences[row])
                np.testing.assert_array_equal(y[:n, b], steps[row])
                assert (x[n:, b] == PAD).all()
                assert not y[n:, b].any()
                np.testing.assert_array_equal(mask[:, b], np.arange(len(mask)) < n)
            seen += batch.rows.tolist()
        assert sorted(seen) == list(range(len(lengths)))


def test_a_target_for_a_sequence_goes_with_it() -> None:
    sequences = sequences_of([3, 1, 2, 5, 4])
    labels = np.arange(5) * 10
    for batch in fr.data.batches(sequences, labels, 2, seed=3):
        np.testing.assert_array_equal(batch.y, batch.rows * 10)


def test_like_lengths_come_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 256).tolist()
    sequences = sequences_of(lengths)

    def padding(bucket: int) -> float:
        return float(
            np.mean([1 - b.mask.mean() for b in fr.data.batches(sequences, None, 16, bucket=bucket, seed=0)])
        )

    assert padding(16) < 0.12 < 0.4 < padding(1)


def test_order_repeats_by_seed_and_changes_by_epoch() -> None:
    def epochs(seed: int) -> list[list[int]]:
        made = fr.data.batches(sequences_of([4] * 50), None, 8, seed=seed)
        return [[row for batch in made for row in batch.rows.tolist()] for _ in range(2)]

    first, second = epochs(1)
    assert first != second
    assert epochs(1) == [first, second]
    assert epochs(2) != [first, second]


def test_batches_do_not_come_by_length() -> None:
    longest = [
        max(b.lengths) for b in fr.data.batches(sequences_of([*range(1, 101)]), None, 4, bucket=25, seed=0)
    ]
    assert sorted(longest) != longest
    assert sorted(longest) == [*range(4, 101, 4)]


def test_order_is_kept_without_shuffle_and_sorting() -> None:
    kept = fr.data.batches(sequences_of([5, 1, 3, 2]), None, 3, shuffle=False, bucket=1)
    assert [b.rows.tolist() for b in kept] == [[0, 1, 2], [3]]


def test_drop_last() -> None:
    made = fr.data.batches(sequences_of([2] * 10), None, 4, drop_last=True, seed=0)
    assert [len(b.rows) for b in made] == [4, 4]
    assert len(made) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), ValueError, "sequences must be at least one array, there is none"),
        (
            ([np.ones((2, 3)), np.ones((2, 4))],),
            ValueError,
            r"sequences\[1\] must have the axes \(steps, 3\)",
        ),
        (([np.ones(2), np.ones(2, np.float32)],), TypeError, r"sequences\[1\] must be float64 like"),
        (([np.ones((0, 3))],), ValueError, r"sequences\[0\] must have at least one step"),
        (([[1, 2]],), TypeError, r"sequences\[0\] must be an array of steps, it is list"),
        (
            ([np.ones(2)], [np.ones(3)]),
            ValueError,
            r"targets\[0\] must have 2 steps like sequences\[0\], it has 3",
        ),
        (([np.ones(2)], np.ones(3)), ValueError, "targets must be as many as sequences, 1; there are 3"),
        (([np.ones(2)], None, 0), ValueError, "batch_size must be at least 1, it is 0"),
        (([np.ones(2)], None, 2.0), TypeError, "batch_size must be an int"),
    ],
)
def test_errors(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fr.data.batches(*arguments)


def test_what_is_dropped_is_drawn_anew() -> None:
    """Not the longest sequences of every epoch, which come last in the order by length."""
    epochs = fr.data.batches(sequences_of([*range(1, 101)]), None, 32, drop_last=True, seed=0)
    seen = {row for _ in range(50) for batch in epochs for row in batch.rows.tolist()}
    assert seen == set(range(100))


@pytest.mark.parametrize(
    ("dtype", "pad"), [(np.int64, 0.5), (np.int64, np.nan), (np.uint8, -1), (np.uint8, 300), (bool, 2)]
)
def test_a_pad_that_the_dtype_has_not(dtype: Any, pad: float) -> None:
    with pytest.raises(ValueError, match="pad must be a number of the sequences' dtype"):
        fr.data.batches([np.ones(3, dtype)], pad=pad)


def test_pads_that_the_dtype_has() -> None:
    for dtype, pad in ((np.float32, np.nan), (np.int64, -1), (np.float32, 0.5), (np.uint8, 255)):
        next(iter(fr.data.batches([np.ones(3, dtype)], pad=pad)))
