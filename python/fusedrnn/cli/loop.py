"""The loop of a run: update, log, and from time to time validate, save, draw and report."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from fusedrnn.cli import checkpoint as checkpoints
from fusedrnn.cli import metrics, plot
from fusedrnn.cli.directory import SAMPLES_FILE, RunDirectory
from fusedrnn.cli.errors import ExplodedError
from fusedrnn.cli.invocation import program, quoted
from fusedrnn.cli.options import RunOptions
from fusedrnn.cli.progress import Progress
from fusedrnn.cli.report import report
from fusedrnn.cli.signals import Stop
from fusedrnn.cli.streams import Streams
from fusedrnn.cli.training import Training, Update

SAMPLE_LENGTH = 240  # characters shown along the way
FINAL_SAMPLE_LENGTH = 600
EVERY = (100, 1000)  # updates between validations: a pass over the text, within these limits


@dataclass
class Run:
    """A training, and the directory it writes to."""

    training: Training
    directory: RunDirectory
    log: metrics.MetricsLog
    seconds: float  # spent training, all sessions together
    saved_step: int | None = None  # of the checkpoint in the directory, if there is one

    @property
    def resume_command(self) -> str:
        """What the user types to continue."""
        return f"{program()} train --resume {quoted(self.directory.path)}"


def loop(run: Run, options: RunOptions, stop: Stop, streams: Streams) -> None:
    """Trains until the last epoch, the time limit or a signal, and saves.

    Raises:
        ExplodedError: training has left all reason; the last checkpoint is one of before.
        CommandError: a file cannot be written; an earlier checkpoint is then as it was.
    """
    training = run.training
    every = options.every or min(max(training.streams.windows, EVERY[0]), EVERY[1])
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    last = False
    measures = options.flow is not False and training.device == "cpu"
    with Progress(
        training.total_steps, training.step_count, training.characters_per_step, streams
    ) as progress:
        while not last and stop.signum is None:
            start = time.perf_counter()
            try:
                update = training.step(flow=measures and _is_shown(training, every))
                spent = time.perf_counter() - start
                run.seconds += spent
                last = training.finished or time.monotonic() >= deadline
                bits = training.validation_bits() if last or training.step_count % every == 0 else None
            except ExplodedError as error:
                kept = "nothing was saved" if run.saved_step is None else f"update {run.saved_step} is saved"
                raise ExplodedError(f"{error}; {kept}") from None
            run.log.add(_row(run, update, bits, spent))
            progress.update(update, bits)
            if bits is not None:
                _save(run, streams)
                length = FINAL_SAMPLE_LENGTH if last else SAMPLE_LENGTH
                progress.report(report(training, bits, length, run.directory.path / SAMPLES_FILE))
    if run.saved_step != training.step_count:
        _save(run, streams)


def _is_shown(training: Training, every: int) -> bool:
    """Whether a picture is known to be drawn behind the next update."""
    number = training.step_count + 1
    return number % every == 0 or number == training.total_steps


def _row(run: Run, update: Update, validation_bits: float | None, spent: float) -> metrics.Row:
    training = run.training
    return metrics.Row(
        step=training.step_count,
        epoch=training.epoch,
        learning_rate=update.learning_rate,
        bits_per_char=update.bits_per_char,
        grad_norm=update.grad_norm,
        validation_bits_per_char=validation_bits,
        chars_per_second=training.characters_per_step / spent,
        seconds=run.seconds,
    )


def _save(run: Run, streams: Streams) -> None:
    run.log.flush()
    directory = run.directory.path
    checkpoints.save(directory / checkpoints.FILE_NAME, run.training.checkpoint(run.seconds))
    run.saved_step = run.training.step_count
    config = run.training.config
    title = f"{config.stack_text} on {run.training.text.title}"
    picture, flow = directory / plot.FILE_NAME, run.training.flow
    problem = plot.plot_training(picture, run.log.rows, title, config.clip_norm, flow)
    if problem is not None:
        streams.note("train", problem)
