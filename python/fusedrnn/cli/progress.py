"""The live progress bar of a training run."""

from __future__ import annotations

from types import TracebackType

from fusedrnn.cli.errors import CommandError, need
from fusedrnn.cli.streams import Streams
from fusedrnn.cli.training import Update

SMOOTHING = 0.98  # of the running mean of bits per character that is shown


class Progress:
    """A bar over characters, with their rate, bits per character and the gradient norm.

    Only drawn where stderr is a terminal, so that logs stay readable; reports are printed in any case.

    Args:
        total_steps: updates of the whole run, or None without an end.
        step: updates already done.
        characters: characters of one update.
        streams: the bar is drawn on stderr, reports go to stdout.

    Raises:
        CommandError: tqdm's own settings, in the environment, make no sense.
    """

    def __init__(self, total_steps: int | None, step: int, characters: int, streams: Streams) -> None:
        self._streams = streams
        self._characters = characters
        self._bits: float | None = None
        self._validation = ""
        try:
            self._bar = need("tqdm").tqdm(
                total=None if total_steps is None else total_steps * characters,
                initial=step * characters,
                unit="char",
                unit_scale=True,
                dynamic_ncols=True,
                smoothing=0.05,
                disable=None,
                file=streams.err,
            )
        except (LookupError, TypeError, ValueError) as error:
            raise CommandError(f"tqdm cannot draw: {error}: look at the variables TQDM_*") from None

    def update(self, update: Update, validation_bits: float | None) -> None:
        """Shows one more update."""
        old = update.bits_per_char if self._bits is None else self._bits
        self._bits = SMOOTHING * old + (1 - SMOOTHING) * update.bits_per_char
        if validation_bits is not None:
            self._validation = f" held out {validation_bits:.3f}"
        self._bar.set_postfix_str(
            f"bits/char {self._bits:.3f}{self._validation} grad norm {update.grad_norm:.2f}", refresh=False
        )
        self._bar.update(self._characters)

    def report(self, text: str) -> None:
        """Prints above the bar."""
        self._bar.clear()
        self._streams.out.write(f"{text}\n")
        self._bar.refresh()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
