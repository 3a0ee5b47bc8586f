"""fusedrnn sample: let a trained model write."""

from __future__ import annotations

import argparse
from itertools import chain

import numpy as np

from fusedrnn.cli import memory
from fusedrnn.cli.checkpoint import checkpoint_path, load
from fusedrnn.cli.contents import check_model
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.generate import default_prompt, generate
from fusedrnn.cli.model import build_model, parameter_bytes
from fusedrnn.cli.printable import printable_stream
from fusedrnn.cli.streams import Streams


def sample(arguments: argparse.Namespace, streams: Streams) -> None:
    """Writes the prompt and its continuation to stdout, and the seed to stderr where none was given.

    Raises:
        CommandError: no usable checkpoint, a prompt the model cannot read, or a device that cannot be used.
    """
    path = checkpoint_path(arguments.checkpoint)
    checkpoint = load(path)
    if not checkpoint.checked:
        streams.note("sample", f"{path} has no checksum, as older versions wrote it")
    try:
        check_model(checkpoint)
    except CommandError as error:
        raise CommandError(f"{path} is damaged: {error}") from None
    vocabulary = checkpoint.vocabulary
    prompt = default_prompt(vocabulary) if arguments.prompt is None else arguments.prompt
    if not prompt:
        raise CommandError("--prompt is empty: give the model at least one character to start from")
    vocabulary.encode(prompt)  # before anything is printed
    size = 3 * parameter_bytes(len(vocabulary), checkpoint.config)
    memory.require(size, "this model", "use a machine with more memory")
    model = build_model(len(vocabulary), checkpoint.config, arguments.device)
    model.load_state_dict(checkpoint.trees["model"])
    seed = arguments.seed
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
        streams.err.write(f"seed {seed}\n")
    rng = np.random.default_rng(seed)
    written = generate(model, vocabulary, prompt, arguments.length, arguments.temperature, rng)
    for text in printable_stream(chain(prompt, written)):
        streams.out.write(text)
        if streams.out.error is not None or streams.out.absent:
            return
    streams.out.write("\n")
