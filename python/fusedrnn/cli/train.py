"""fusedrnn train: a run from its options to its last checkpoint."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn.cli import checkpoint as checkpoints
from fusedrnn.cli import metrics, plot
from fusedrnn.cli.errors import Interrupted, UsageError, file_errors, need
from fusedrnn.cli.generate import default_prompt, generate
from fusedrnn.cli.invocation import program
from fusedrnn.cli.options import RunOptions, resumed_config
from fusedrnn.cli.progress import Progress
from fusedrnn.cli.text import default_text, read_files
from fusedrnn.cli.training import Training, Update

SAMPLES_FILE = "samples.txt"
SAMPLE_LENGTH = 240  # characters shown along the way
FINAL_SAMPLE_LENGTH = 600
SAMPLE_TEMPERATURE = 0.7
EVERY = (100, 1000)  # updates between validations: a pass over the text, within these limits


def train(options: RunOptions) -> None:
    """Trains until the last epoch, the time limit or Ctrl-C, and leaves a checkpoint in every case.

    Raises:
        CommandError: something went wrong; an earlier checkpoint is then as it was.
        Interrupted: stopped by a signal, after saving.
    """
    for package in ("safetensors", "tqdm", "matplotlib"):  # now, not after minutes of training
        need(package)
    run = _resume(options) if options.resume else _start(options)
    with closing(run.log), _stop_requests() as stop:
        _describe(run)
        _loop(run, options, stop)
    if stop.signum is not None:
        name = "Ctrl-C" if stop.signum == signal.SIGINT else signal.Signals(stop.signum).name
        where = f"stopped by {name}, saved at update {run.training.step_count}"
        raise Interrupted(f"{where}; to continue: {run.resume_command}", stop.signum)
    print(
        f"done: {run.training.step_count} updates in {run.seconds / 60:.1f} minutes; in {run.directory}: "
        + ", ".join((checkpoints.FILE_NAME, metrics.FILE_NAME, plot.FILE_NAME, SAMPLES_FILE))
    )
    if not run.training.finished:
        print(f"to continue: {run.resume_command}")
    print(f"to let it write: {program()} sample {shlex.quote(str(run.directory))}")


@dataclass
class Run:
    """A training, and the directory it writes to."""

    training: Training
    directory: Path
    log: metrics.MetricsLog
    seconds: float  # spent training, all sessions together
    saved_step: int = -1

    @property
    def resume_command(self) -> str:
        """What the user types to continue."""
        return f"{program()} train --resume {shlex.quote(str(self.directory))}"


def _start(options: RunOptions) -> Run:
    text = read_files(options.files) if options.files else default_text()
    training = Training(options.config, text, options.device)
    directory = Path(options.output) if options.output else _next_directory(Path("runs"))
    if (directory / checkpoints.FILE_NAME).exists():
        raise UsageError(
            f"{directory} already holds a run: continue it with --resume {shlex.quote(str(directory))}, "
            "or choose another --output"
        )
    with file_errors(f"cannot create {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
    return Run(training, directory, metrics.MetricsLog(directory / metrics.FILE_NAME, 0), 0.0)


def _resume(options: RunOptions) -> Run:
    path = checkpoints.checkpoint_path(options.resume or "")
    saved = checkpoints.load(path)
    files = options.files or tuple(saved.text["sources"])
    text = read_files(files) if files else default_text()
    training = Training(resumed_config(saved.config, options), text, options.device)
    training.restore(saved)
    if training.finished:
        raise UsageError(
            f"{path} is at update {training.step_count} of {training.total_steps}, its last: "
            "more --epochs would continue it"
        )
    directory = Path(options.output) if options.output else path.parent
    with file_errors(f"cannot create {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
    log = metrics.MetricsLog(directory / metrics.FILE_NAME, training.step_count)
    return Run(training, directory, log, float(saved.progress["seconds"]))


def _next_directory(parent: Path) -> Path:
    taken = [int(p.name) for p in parent.glob("[0-9]*") if p.name.isdigit()]
    return parent / f"{max(taken, default=0) + 1:03d}"


def _describe(run: Run) -> None:
    training, config = run.training, run.training.config
    size = sum(p.size for p in training.model.parameters())
    steps = "until stopped" if training.total_steps is None else f"{training.total_steps} updates"
    print(
        f"text    {training.text.title}: {len(training.text.characters):,} characters, "
        f"{len(training.vocabulary)} different, the last {config.validation:.0%} held out\n"
        f"model   {config.layers} x {config.cell}({config.hidden}), {size:,} parameters\n"
        f"run     {steps} of {config.batch} x {config.seq_len} characters, {config.optimizer} {config.lr}, "
        f"{_machine(training.device)}\n"
        f"output  {run.directory}"
    )
    if training.step_count:
        print(f"resumed at update {training.step_count}")
    sys.stdout.flush()


def _machine(device: str) -> str:
    if device == "cpu":
        return f"{fr.get_num_threads()} threads, {fr.cpu.isa()}"
    return _native.cuda_device()


def _loop(run: Run, options: RunOptions, stop: _Stop) -> None:
    training = run.training
    every = options.every or min(max(training.streams.windows, EVERY[0]), EVERY[1])
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    last = False
    with Progress(training.total_steps, training.step_count, training.characters_per_step) as progress:
        while not last and stop.signum is None:
            start = time.perf_counter()
            update = training.step()
            spent = time.perf_counter() - start
            run.seconds += spent
            last = training.finished or time.monotonic() >= deadline
            bits = training.validation_bits() if last or training.step_count % every == 0 else None
            run.log.add(_row(run, update, bits, spent))
            progress.update(update, bits)
            if bits is not None:
                _save(run)
                progress.report(_report(run, bits, FINAL_SAMPLE_LENGTH if last else SAMPLE_LENGTH))
    if run.saved_step != training.step_count:
        _save(run)


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


def _report(run: Run, bits: float, length: int) -> str:
    training = run.training
    text = _sample(training, length)
    where = f"update {training.step_count}, epoch {training.epoch:.2f}"
    heading = f"{where}: held out {bits:.3f} bits per character"
    path = run.directory / SAMPLES_FILE
    with file_errors(f"cannot write {path}"), path.open("a", encoding="utf-8") as file:
        file.write(f"==== {heading}\n{text}\n\n")
    shown = "".join(f"  | {line}\n" for line in text.splitlines())
    return f"{heading}\n{shown}"


def _sample(training: Training, length: int) -> str:
    """What the model writes now; random numbers of its own, so that training does not depend on it."""
    rng = np.random.default_rng([training.config.seed, training.step_count])
    prompt = default_prompt(training.vocabulary)
    written = generate(training.model, training.vocabulary, prompt, length, SAMPLE_TEMPERATURE, rng)
    return prompt + "".join(written)


def _save(run: Run) -> None:
    run.log.flush()
    checkpoints.save(run.directory / checkpoints.FILE_NAME, run.training.checkpoint(run.seconds))
    config = run.training.config
    title = f"{config.layers} x {config.cell}({config.hidden}) on {run.training.text.title}"
    run.saved_step = run.training.step_count
    plot.plot_training(run.directory / plot.FILE_NAME, run.log.rows, title, config.clip_norm)


class _Stop:
    """Whether a signal asked the run to end."""

    signum: int | None = None


@contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """SIGINT and SIGTERM set `signum`; a second one ends the program at once."""
    stop = _Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(signum: int, _: FrameType | None) -> None:
        stop.signum = signum
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
