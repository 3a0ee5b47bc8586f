"""What a run says on the way, on stdout and in samples.txt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fusedrnn as fr
from fusedrnn import _native
from fusedrnn.cli.errors import file_errors
from fusedrnn.cli.generate import default_prompt, generate
from fusedrnn.cli.printable import printable, printable_lines
from fusedrnn.cli.training import Training

SAMPLE_TEMPERATURE = 0.7


def description(training: Training, directory: Path) -> str:
    """Text, model and machine of a run that begins."""
    config = training.config
    size = sum(p.size for p in training.model.parameters())
    steps = "until stopped" if training.total_steps is None else f"{training.total_steps} updates"
    pieces = "" if config.level == "char" else " words and characters"
    resumed = f"resumed at update {training.step_count}\n" if training.step_count else ""
    return (
        f"text    {training.text.title}: {len(training.text.characters):,} characters, "
        f"{len(training.vocabulary):,} different{pieces}, the last {config.validation:.0%} held out\n"
        f"model   {config.stack_text}, {size:,} parameters\n"
        f"run     {steps} of {config.batch} x {config.seq_len} {training.unit}, "
        f"{config.optimizer} {config.lr}, {_machine(training.device)}\n"
        f"output  {printable(str(directory))}\n"
        f"{resumed}"
    )


def report(training: Training, bits: float, length: int, path: Path) -> str:
    """The held-out loss and a sample of `length` characters, which is appended to the file `path`, too.

    Raises:
        CommandError: the file cannot be written.
    """
    text = sample_text(training, length)
    where = f"update {training.step_count}, epoch {training.epoch:.2f}"
    heading = f"{where}: held out {bits:.3f} bits per character"
    with file_errors(f"cannot write {path}"), path.open("a", encoding="utf-8") as file:
        file.write(f"==== {heading}\n{text}\n\n")
    shown = "".join(f"  | {line}\n" for line in text.splitlines())
    return f"{heading}\n{shown}"


def sample_text(training: Training, length: int) -> str:
    """What the model writes now; random numbers of its own, so that training does not depend on it."""
    rng = np.random.default_rng([training.config.seed, training.step_count])
    prompt = default_prompt(training.vocabulary)
    written = generate(training.model, training.vocabulary, prompt, length, SAMPLE_TEMPERATURE, rng)
    return printable_lines(prompt + "".join(written))


def _machine(device: str) -> str:
    if device == "cpu":
        return f"{fr.get_num_threads()} threads, {fr.cpu.isa()}"
    return _native.cuda_device()
