"""fusedrnn train: a run from its options to its last checkpoint."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from fusedrnn.cli import checkpoint as checkpoints
from fusedrnn.cli import metrics
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.contents import check_training
from fusedrnn.cli.directory import RUN_FILES, claim_existing, claim_new, claim_next
from fusedrnn.cli.errors import CommandError, Interrupted, UsageError, need
from fusedrnn.cli.invocation import program, quoted
from fusedrnn.cli.loop import Run, loop
from fusedrnn.cli.options import RunOptions, resumed_config
from fusedrnn.cli.printable import printable
from fusedrnn.cli.report import description
from fusedrnn.cli.signals import stop_requests
from fusedrnn.cli.streams import Streams
from fusedrnn.cli.text import Text, default_text, read_files
from fusedrnn.cli.training import Training, check_text


def train(options: RunOptions, streams: Streams) -> None:
    """Trains until the last epoch, the time limit or Ctrl-C, and leaves a checkpoint in every case.

    Raises:
        CommandError: something went wrong; an earlier checkpoint is then as it was.
        Interrupted: stopped by a signal, after saving.
    """
    for package in ("safetensors", "tqdm", "matplotlib"):  # now, not after minutes of training
        need(package)
    with ExitStack() as stack:
        run = (_resume if options.resume is not None else _start)(options, streams, stack)
        stop = stack.enter_context(stop_requests())
        streams.hurry(lambda: stop.signum is not None)
        streams.out.write(description(run.training, run.directory.path))
        loop(run, options, stop, streams)
    if stop.signum is not None:
        where = f"stopped by {stop.name}, saved at update {run.training.step_count}"
        raise Interrupted(f"{where}; to continue: {run.resume_command}", stop.signum)
    streams.out.write(
        f"done: {run.training.step_count} updates in {run.seconds / 60:.1f} minutes; "
        f"in {printable(str(run.directory.path))}: {', '.join(RUN_FILES)}\n"
    )
    if not run.training.finished:
        streams.out.write(f"to continue: {run.resume_command}\n")
    streams.out.write(f"to let it write: {program()} sample {quoted(run.directory.path)}\n")


def _training(config: TrainConfig, text: Text, options: RunOptions) -> Training:
    training = Training(config, text, options.device)
    if options.flow and training.device != "cpu":
        raise UsageError("--flow: gradient flow is not on CUDA yet: leave it out, or use --device cpu")
    return training


def _start(options: RunOptions, streams: Streams, stack: ExitStack) -> Run:
    text = read_files(options.files) if options.files else default_text()
    training = _training(options.config, text, options)

    def notify(message: str) -> None:
        streams.note("train", message)

    if options.output is not None:
        directory = stack.enter_context(claim_new(Path(options.output), notify))
    else:
        directory = stack.enter_context(claim_next(Path("runs"), notify))
    log = stack.enter_context(closing(metrics.MetricsLog(directory.path / metrics.FILE_NAME, 0)))
    return Run(training, directory, log, 0.0)


def _resume(options: RunOptions, streams: Streams, stack: ExitStack) -> Run:
    path = checkpoints.checkpoint_path(options.resume or ".")

    def notify(message: str) -> None:
        streams.note("train", message)

    # Before the run's own file is read, for another process could be about to replace it.
    own = options.output is None or _is_same(Path(options.output), path.parent)
    checkpoints.look_at(path)
    directory = stack.enter_context(claim_existing(path, notify)) if own else None
    saved = checkpoints.load(path)
    if not saved.checked:
        notify(f"{path} has no checksum, as older versions wrote it; the next one that is saved has")
    config = resumed_config(saved.config, options)
    try:
        check_training(saved)
    except CommandError as error:
        raise CommandError(f"{path} is damaged: {error}") from None
    text = _text_of(saved, options)
    try:
        check_text(saved, text)
        training = _training(config, text, options)
        training.restore(saved)
    except UsageError:
        raise
    except CommandError as error:
        raise CommandError(f"{path} cannot be resumed: {error}") from None
    if training.finished:
        raise UsageError(
            f"{path} is at update {training.step_count} of {training.total_steps}, its last: "
            "more --epochs would continue it"
        )
    if directory is None:
        directory = stack.enter_context(claim_new(Path(options.output or "."), notify))
    log_path = directory.path / metrics.FILE_NAME
    log = stack.enter_context(closing(metrics.MetricsLog(log_path, training.step_count)))
    saved_step = training.step_count if own else None
    return Run(training, directory, log, float(saved.progress["seconds"]), saved_step)


def _text_of(saved: checkpoints.Checkpoint, options: RunOptions) -> Text:
    files = options.files or tuple(saved.text["sources"])
    return read_files(files, saved.text["length"]) if files else default_text()


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False
