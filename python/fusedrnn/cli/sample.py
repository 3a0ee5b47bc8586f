"""fusedrnn sample: let a trained model write."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from fusedrnn.cli.checkpoint import checkpoint_path, load
from fusedrnn.cli.errors import CommandError
from fusedrnn.cli.generate import default_prompt, generate
from fusedrnn.cli.model import build_model
from fusedrnn.cli.text import Vocabulary


def sample(arguments: argparse.Namespace) -> None:
    """Writes the prompt and its continuation to stdout, and the seed to stderr where none was given.

    Raises:
        CommandError: no usable checkpoint, a prompt the model cannot read, or a device that cannot be used.
    """
    path = checkpoint_path(arguments.checkpoint)
    checkpoint = load(path)
    vocabulary = Vocabulary(checkpoint.vocabulary)
    prompt = default_prompt(vocabulary) if arguments.prompt is None else arguments.prompt
    if not prompt:
        raise CommandError("--prompt is empty: give the model at least one character to start from")
    vocabulary.encode(prompt)  # before anything is printed
    model = build_model(len(vocabulary), checkpoint.config, arguments.device)
    try:
        model.load_state_dict(checkpoint.trees["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise CommandError(f"{path} is damaged: {error}") from None
    seed = arguments.seed
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
        print(f"seed {seed}", file=sys.stderr)
    rng = np.random.default_rng(seed)
    sys.stdout.write(prompt)
    for character in generate(model, vocabulary, prompt, arguments.length, arguments.temperature, rng):
        sys.stdout.write(character)
        sys.stdout.flush()
    sys.stdout.write("\n")
