"""metrics.csv: one line per update, kept across interruptions."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from fusedrnn.cli.errors import CommandError, file_errors
from fusedrnn.cli.files import open_regular, write_atomically

FILE_NAME = "metrics.csv"
LONGEST_LINE = 1000  # of which 8 numbers need less than 200 characters


@dataclass(frozen=True)
class Row:
    """One update.

    Attributes:
        step: updates done, this one included.
        epoch: passes over the training text done.
        learning_rate: of this update.
        bits_per_char: training loss of this window, before the update.
        grad_norm: global gradient norm before clipping.
        validation_bits_per_char: on the held-out tail; None where it was not measured.
        chars_per_second: training speed since the row before.
        seconds: time spent training since the very beginning.
    """

    step: int
    epoch: float
    learning_rate: float
    bits_per_char: float
    grad_norm: float
    validation_bits_per_char: float | None
    chars_per_second: float
    seconds: float


HEADER = ",".join(f.name for f in fields(Row))


class MetricsLog:
    """The rows so far, in memory and in a CSV file that grows with them.

    Args:
        path: the file.
        step: updates that have been done; later rows of an interrupted run are dropped from the file.

    Raises:
        CommandError: the file cannot be read or written, or is none of ours, and is left as it is.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows = list(_read(path, step))
        with file_errors(f"cannot write {path}"):
            write_atomically(path, lambda file: file.write(self._text().encode()))
            self._file = self._open()
        self._writer = csv.writer(self._file)

    def _open(self) -> TextIO:
        return self.path.open("a", newline="", encoding="utf-8")

    def add(self, row: Row) -> None:
        """Appends a row; it may reach the file only with `flush`."""
        self.rows.append(row)
        with file_errors(f"cannot write {self.path}"):
            self._writer.writerow(_cells(row))

    def flush(self) -> None:
        """Writes out what is still held in memory."""
        with file_errors(f"cannot write {self.path}"):
            self._file.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        with file_errors(f"cannot write {self.path}"):
            self._file.close()

    def _text(self) -> str:
        lines = [HEADER]
        lines += [",".join(map(str, _cells(row))) for row in self.rows]
        return "".join(line + "\r\n" for line in lines)


def _cells(row: Row) -> list[str]:
    return [_cell(value) for value in asdict(row).values()]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.8g}"


def _read(path: Path, step: int) -> Iterator[Row]:
    """Rows of an earlier file up to a step; a crash may have cut its last line off.

    Raises:
        CommandError: its header or another line is none of ours: this may be another program's file.
    """
    with file_errors(f"cannot read {path}"):
        if not os.path.lexists(path):
            return
        last = 0
        with open_regular(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                row = None if number == 1 else _parse(text.split(","))
                good = text == HEADER if number == 1 else row is not None and row.step > last
                if not good and not (number > 1 and not file.peek(1)):
                    raise CommandError(f"{path}, line {number} is no line of metrics: move the file away")
                if row is not None and last < row.step <= step:
                    last = row.step
                    yield row


def _parse(cells: list[str]) -> Row | None:
    """A row, or None where these cells are none."""
    try:
        values = dict(zip(HEADER.split(","), cells, strict=True))
        held_out = values.pop("validation_bits_per_char")
        step = int(values.pop("step"))
        numbers = {name: float(text) for name, text in values.items()}
        return Row(step=step, validation_bits_per_char=float(held_out) if held_out else None, **numbers)
    except ValueError:
        return None
