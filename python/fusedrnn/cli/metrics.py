"""metrics.csv: one line per update, kept across interruptions."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from fusedrnn._core.files import write_atomically
from fusedrnn.cli.errors import CommandError, file_errors

FILE_NAME = "metrics.csv"


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


class MetricsLog:
    """The rows so far, in memory and in a CSV file that grows with them.

    Args:
        path: the file.
        step: updates that have been done; later rows of an interrupted run are dropped from the file.

    Raises:
        CommandError: the file cannot be read or written.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows = [row for row in _read(path) if row.step <= step]
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
        lines = [",".join(f.name for f in fields(Row))]
        lines += [",".join(map(str, _cells(row))) for row in self.rows]
        return "".join(line + "\r\n" for line in lines)


def _cells(row: Row) -> list[str]:
    return ["" if value is None else f"{value:.8g}" for value in asdict(row).values()]


def _read(path: Path) -> list[Row]:
    """Rows of an earlier file; a crash may have cut its last line off.

    Raises:
        CommandError: another line cannot be understood, so that this may be somebody else's file.
    """
    with file_errors(f"cannot read {path}"):
        if not path.exists():
            return []
        lines = list(csv.reader(path.read_text(encoding="utf-8", errors="replace").splitlines()))
    rows = []
    for number, cells in enumerate(lines[1:], 2):
        try:
            rows.append(_parse(cells))
        except (ValueError, TypeError):
            if number < len(lines):
                raise CommandError(
                    f"{path}, line {number} is no line of metrics: move the file away"
                ) from None
    return rows


def _parse(cells: list[str]) -> Row:
    names = [f.name for f in fields(Row)]
    values = dict(zip(names, cells, strict=True))
    held_out = values["validation_bits_per_char"]
    numbers = {name: float(text) for name, text in values.items() if name != "validation_bits_per_char"}
    numbers.pop("step")
    return Row(
        step=int(values["step"]), validation_bits_per_char=float(held_out) if held_out else None, **numbers
    )
