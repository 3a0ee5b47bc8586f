"""metrics.csv: one line per update, kept across interruptions."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from fusedrnn.cli.errors import file_errors
from fusedrnn.cli.files import write_atomically

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
        self.rows = [row for row in _read(path) if row.step <= step] if step else []
        with file_errors(f"cannot write {path}"):
            write_atomically(path, lambda file: file.write(self._text().encode()))
            self._file: TextIO = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)

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
    """Rows of an earlier file; none where there is no file, or none that can be understood."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_parse(line) for line in csv.DictReader(file)]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _parse(line: dict[str, str]) -> Row:
    values = {f.name: float(line[f.name]) if line[f.name] else None for f in fields(Row)}
    step = values.pop("step")
    if step is None or None in (values[n] for n in values if n != "validation_bits_per_char"):
        raise ValueError("a cell is empty")
    return Row(step=int(step), **values)  # type: ignore[arg-type]
