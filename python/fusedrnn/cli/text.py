"""Text to train on: where it comes from, and how its numbers are cut into batches."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.files import open_regular
from fusedrnn.cli import memory
from fusedrnn.cli.errors import CommandError, file_errors
from fusedrnn.cli.printable import printable

Ids = NDArray[np.int64]
DEFAULT_SOURCE = "pydoc_data.topics"
BYTES_PER_BYTE = 20  # of a text in memory at once: file, characters, code points, ids, ids as streams
TITLE_LENGTH = 80


@dataclass(frozen=True)
class Text:
    """A text and where it came from.

    Attributes:
        characters: the text itself.
        sources: absolute paths of the files it was read from, in order; empty for the default text.
    """

    characters: str
    sources: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of the text in UTF-8, hexadecimal."""
        return hashlib.sha256(self.characters.encode()).hexdigest()

    @property
    def title(self) -> str:
        """Where it came from, for people, as one line of a length that fits a picture."""
        if not self.sources:
            return f"{DEFAULT_SOURCE} (carried by Python itself)"
        names = ", ".join(printable(Path(s).name) for s in self.sources[:20])
        whole = len(names) <= TITLE_LENGTH and len(self.sources) <= 20
        count = f" ({len(self.sources)} files)" if len(self.sources) > 1 else ""
        return names if whole else f"{names[: TITLE_LENGTH - 3]}...{count}"


def default_text() -> Text:
    """The English of Python's own help topics, in sorted order of their names.

    Raises:
        CommandError: this Python comes without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise CommandError(
            "this Python has no pydoc_data.topics, the default text: name a text file to train on"
        ) from None
    return Text("".join(topics[name] for name in sorted(topics)), ())


def read_files(paths: Sequence[str], length: int | None = None) -> Text:
    """The files' contents one after the other, exactly as they are.

    Args:
        paths: regular files: a run that is resumed reads them again.
        length: characters there must be, to read no more than those can take; None for any number.

    Raises:
        CommandError: a file cannot be read, is no regular file, is empty or is not UTF-8, or all are longer
            than they can be; the message names it.
    """
    pieces = []
    total = 0
    for path in paths:
        with file_errors(f"cannot read {path}"), open_regular(path) as file:
            size = file.seek(0, 2)
            total += size
            if length is not None and total > 4 * length:  # UTF-8 has at most 4 bytes to a character
                raise CommandError(
                    f"the text is not the one this run was trained on: {path} is longer than that"
                )
            memory.require(BYTES_PER_BYTE * total, f"a text of {total} bytes", "train on less text")
            file.seek(0)
            raw = file.read(size)
        if not raw:
            raise CommandError(f"{path} is empty")
        try:
            pieces.append(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise CommandError(
                f"{path} is not UTF-8 text: byte {error.start} is 0x{raw[error.start]:02x} ({error.reason})"
            ) from None
    with file_errors("cannot find the current directory"):
        return Text("".join(pieces), tuple(os.path.realpath(path) for path in paths))


class Streams:
    """A text cut into `batch` equally long streams that are read side by side, `length` numbers at a time.

    Window k of row b continues where its window k - 1 ended, so a recurrent state can be carried from one
    window to the next (truncated back-propagation through time). The target of a number is its successor.

    Args:
        ids: the text as numbers.
        batch: number of streams.
        length: numbers per window.
    """

    def __init__(self, ids: Ids, batch: int, length: int) -> None:
        per_stream = (len(ids) - 1) // batch
        self.windows = max(0, per_stream // length)
        self.batch = batch
        self.length = length
        if self.windows == 0:
            return  # and no list of as many streams as were asked for
        used = self.windows * length
        starts = [row * per_stream for row in range(batch)]
        self._ids: Ids = np.stack([ids[start : start + used + 1] for start in starts], axis=1)

    def window(self, index: int) -> tuple[Ids, Ids]:
        """Numbers and their successors, each (length, batch); `index` counts windows from the start."""
        start = index * self.length
        return self._ids[start : start + self.length], self._ids[start + 1 : start + 1 + self.length]


def split(
    ids: Ids, validation: float, batch: int, length: int, unit: str = "characters"
) -> tuple[Streams, Streams]:
    """Streams to train on, and streams of the held-out tail that is never trained on.

    The tail is the last `validation` of the text (0 < validation < 1), cut into as many streams of at least
    eight windows as it gives, at most `batch`.

    Args:
        ids: the text as numbers.
        validation: share of the tail.
        batch, length: of `Streams`.
        unit: what the numbers stand for, in the error.

    Raises:
        CommandError: the text is too short for a single window of either.
    """
    held = int(len(ids) * validation)
    train = Streams(ids[: len(ids) - held], batch, length)
    tail_batch = min(batch, max(1, (held - 1) // (8 * length)))
    tail = Streams(ids[len(ids) - held :], tail_batch, length)
    if train.windows and tail.windows:
        return train, tail
    needed = max(_shortest(batch * length, 1 - validation), _shortest(length, validation))
    raise CommandError(
        f"the text is too short: it has {len(ids)} {unit}, --batch {batch}, --seq-len {length} and "
        f"--validation {validation} need about {needed}: train on more text, or lower --batch or --seq-len"
    )


def _shortest(predictions: int, share: float) -> int:
    """Length of a text of which a `share` holds that many numbers with a successor."""
    return math.ceil(Fraction(predictions + 2) / Fraction(share))
