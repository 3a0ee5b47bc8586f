"""What the examples share beside their subject: the command line, the progress bar, batches, pictures."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusedrnn._core.arrays import check_precision, linear_precision, resolve_device
from fusedrnn._core.cells import PRECISIONS

Array = NDArray[Any]
EXTRA = "pip install 'fusedrnn[examples]'"


class MissingPackageError(Exception):
    """A package of the `examples` extra is not installed."""


class DeviceError(Exception):
    """The device that was asked for cannot be used, or has not the precision."""


def device(name: str) -> str:
    """What --device amounts to: "cpu" or "cuda".

    Raises:
        DeviceError: it cannot be used.
    """
    try:
        return resolve_device(name)
    except RuntimeError as error:
        raise DeviceError(str(error)) from None


class Place(NamedTuple):
    """Where an example computes, and what operands of products are rounded to."""

    device: str = "cpu"
    precision: str = "ieee"

    @property
    def recurrent(self) -> dict[str, Any]:
        """Arguments of recurrent layers."""
        return self._asdict()

    @property
    def linear(self) -> dict[str, Any]:
        """Arguments of linear ones."""
        return {"device": self.device, "precision": linear_precision(self.precision, self.device)}


CPU = Place()


def place(options: argparse.Namespace) -> Place:
    """What --device and --precision amount to.

    Raises:
        DeviceError: the device cannot be used, or has not the precision.
    """
    on = device(options.device)
    try:
        return Place(on, check_precision(options.precision, on))
    except ValueError as error:
        raise DeviceError(str(error)) from None


def need(module: str) -> Any:
    """Imports a module of the `examples` extra.

    Raises:
        MissingPackageError: its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingPackageError(f"this example needs {package}, which is not installed: {EXTRA}") from None


def parser(
    text: str, *, epochs: int, what: str = "passes over the data", precision: bool = True
) -> argparse.ArgumentParser:
    """Command line of an example: its text and the options of all, --precision where there is one."""
    result = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--epochs", type=_number(1), default=epochs, help=f"{what} (default: {epochs})")
    result.add_argument("--seed", type=_number(0), default=0, help="seed of all random numbers (default: 0)")
    result.add_argument(
        "--device", choices=("cpu", "cuda", "auto"), default="cpu", help="where to compute (default: cpu)"
    )
    if precision:
        result.add_argument(
            "--precision",
            choices=PRECISIONS,
            default="ieee",
            help="what operands of products are rounded to (default: ieee)",
        )
    result.add_argument(
        "--plot", type=_picture, metavar="PNG", help="picture to write (default: the example's name)"
    )
    return result


def run(main: Callable[[], object]) -> None:
    """Runs an example as a program; a missing package or device ends it with one line and status 1."""
    try:
        main()
    except MissingPackageError as error:
        sys.exit(f"error: {error}")
    except DeviceError as error:
        sys.exit(f"error: --device: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


def progress(epochs: int, show: bool) -> Any:
    """A bar over epochs with figures behind it (`set_postfix`); silent without `show`."""
    return need("tqdm").tqdm(range(epochs), unit="epoch", disable=not show)


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Indices 0..count-1 once each in random order, `size` at a time; the last batch may be smaller."""
    order = rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def mean(values: Sequence[tuple[Any, int]]) -> float:
    """Mean of batches' losses, given with the batches' sizes. For a device's losses it waits."""
    return sum(float(value) * size for value, size in values) / sum(size for _, size in values)


def accuracy(predicted: Array, wanted: Array) -> float:
    """Share of equal entries."""
    return float(np.mean(predicted == wanted))


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure and its axes, drawn without a display."""
    result = need("matplotlib.figure").Figure(figsize=(width, height), layout="constrained", dpi=120)
    return result, result.subplots(rows, columns)


def curve(axes: Any, values: Sequence[float], label: str, **style: Any) -> None:
    """Values over epochs, counted from 1."""
    axes.plot(range(1, len(values) + 1), values, label=label, **style)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)


def _number(least: int) -> Callable[[str], int]:
    """An argparse type for whole numbers from `least` on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, it is {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, it is {value}")
        return value

    return parse


def _picture(text: str) -> Path:
    """An argparse type for a file to write, whose directory must be there before minutes of training."""
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write {path}: there is no directory {path.parent}")
    return path
