"""Whether training goes as well in bf16, bf16x3 and bf16x6 as in float32: curves of four tasks over seeds.

  python bench/quality.py                 all tasks and precisions; writes results/quality.{json,md,png}
  python bench/quality.py --tasks sunspots digits --seeds 2 --output /tmp/quality

A run is the same in all precisions but for what products are rounded to: initial weights and batches come
from its seed. A precision is right where it stays within what seeds differ by in float32. Beside the loss
the gradient norm of each update is kept. "masters" is the digits' task once more, at a learning rate whose
updates are smaller than the spacing of bfloat16 at their weights: with float32 parameters, as the package
keeps them in every precision, and with parameters that are rounded to bfloat16 after every update.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine
from numpy.typing import NDArray
from tqdm import tqdm

import fusedrnn as fr
from fusedrnn._core.cells import PRECISIONS_OF
from fusedrnn.cli.config import TrainConfig
from fusedrnn.cli.text import default_text
from fusedrnn.cli.training import Training
from fusedrnn.examples import digits, forecast
from fusedrnn.examples._shared import Place, batches
from fusedrnn.reference.rounding import round_operand

Array = NDArray[Any]
Run = dict[str, Any]  # losses, norms: a number for each point of the curve; end: the measure to compare
POINTS = 60  # of a stored curve
CHARACTERS = {"hidden": 128, "epochs": 0.5}
WORDS = {
    "level": "word",
    "layers": 2,
    "hidden": 200,
    "embedding": 200,
    "seq_len": 35,
    "batch": 20,
    "epochs": 0.25,
}
MASTERS_RATE, MASTERS_EPOCHS = 2e-5, 30
COLORS = {"ieee": "black", "bf16": "tab:red", "bf16x3": "tab:blue", "bf16x6": "tab:green"}


def text_run(options: dict[str, Any], precision: str, seed: int) -> Run:
    """`fusedrnn train` on Python's own documentation: bits per character, at the end of the held-out tail."""
    config = TrainConfig(precision=precision, seed=seed, **options).resolved()
    training = Training(config, default_text())
    losses, norms = [], []
    while not training.finished:
        update = training.step()
        losses.append(update.bits_per_char)
        norms.append(update.grad_norm)
    return {"losses": thinned(losses), "norms": thinned(norms), "end": training.validation_bits()}


def sunspots_run(precision: str, seed: int) -> Run:
    """The example `forecast`: the error of the years that are held out."""
    result = forecast.train(seed=seed, place=Place(precision=precision))
    return {"losses": thinned(result.losses), "norms": thinned(result.norms), "end": result.error}


def digits_run(precision: str, seed: int) -> Run:
    """The example `digits`: the share of the images held out that it gets wrong, in percent."""
    result = digits.train(seed=seed, place=Place(precision=precision))
    wrong = 100 * (1 - result.accuracies[-1])
    return {"losses": thinned(result.losses), "norms": thinned(result.norms), "end": wrong}


def masters_run(kind: str, seed: int) -> Run:
    """Digits at a small learning rate; the last epoch's loss. kind: a precision, or "bf16 parameters"."""
    rng = np.random.default_rng(seed)
    x, odd, _, _ = digits.load(rng)
    precision = "bf16" if kind == "bf16 parameters" else kind
    model = fr.nn.Sequential(
        fr.nn.RNN(8, 64, precision=precision, seed=rng),
        fr.nn.Last(),
        fr.nn.Linear(64, 1, precision=precision, seed=rng),
    )
    optimizer = fr.optim.Adam(model.parameters(), lr=MASTERS_RATE)
    losses, norms = [], []
    for _ in range(MASTERS_EPOCHS):
        of_epoch = []
        for rows in batches(len(odd), digits.BATCH, rng):
            loss, norm = model.train_step(
                np.ascontiguousarray(x[:, rows]), odd[rows], "binary_cross_entropy", optimizer, math.inf
            )
            if kind == "bf16 parameters":
                for parameter in model.parameters():
                    parameter.data = round_operand(np.asarray(parameter.data), "bf16")
            of_epoch.append((float(loss), float(norm)))
        loss, norm = np.mean(of_epoch, axis=0)
        losses.append(float(loss))
        norms.append(float(norm))
    return {"losses": losses, "norms": norms, "end": losses[-1]}


TASKS: dict[str, tuple[str, Callable[[str, int], Run]]] = {  # and what `end` is
    "words": ("bits per character held out", lambda p, s: text_run(WORDS, p, s)),
    "characters": ("bits per character held out", lambda p, s: text_run(CHARACTERS, p, s)),
    "sunspots": ("error of years held out", sunspots_run),
    "digits": ("% of digits held out wrong", digits_run),
    "masters": ("loss of the last epoch", masters_run),
}


def thinned(values: Sequence[float]) -> list[float]:
    """Means of at most `POINTS` stretches of a curve."""
    pieces = np.array_split(np.asarray(values, np.float64), min(POINTS, len(values)))
    return [round(float(piece.mean()), 6) for piece in pieces]


def kinds(task: str) -> list[str]:
    """What a task is run in."""
    return ["ieee", "bf16", "bf16 parameters"] if task == "masters" else list(PRECISIONS_OF["cpu"])


def spread(runs: dict[str, list[Run]], what: str = "ieee") -> tuple[float, float]:
    """The least and the most of what runs with different seeds end with."""
    ends = [run["end"] for run in runs[what]]
    return min(ends), max(ends)


def row_of(runs: dict[str, list[Run]], kind: str) -> dict[str, float]:
    """How a kind of runs compares with float32's.

    mean: of what runs end with; from_ieee: of |end - end in ieee|, seed by seed; loss, norm: how far the
    curves, means over seeds, are from ieee's, as a share of it.
    """
    ends, of_ieee = (np.array([run["end"] for run in runs[name]]) for name in (kind, "ieee"))

    def apart(curve: str) -> float:
        ours, theirs = (np.mean([run[curve] for run in runs[name]], axis=0) for name in (kind, "ieee"))
        return float(np.mean(np.abs(ours - theirs)) / np.mean(theirs))

    return {
        "mean": float(ends.mean()),
        "from_ieee": float(np.abs(ends - of_ieee).mean()),
        "loss": apart("losses"),
        "norm": apart("norms"),
    }


def table(found: dict[str, dict[str, list[Run]]], facts: dict[str, Any], commands: Sequence[str]) -> str:
    """The results as Markdown."""
    lines = ["# Training in every precision of the CPU", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += [*(f"- command: `{command}`" for command in commands), ""]
    lines += [
        "Each row is the mean of a task over its seeds; a run ends with the number beside the task's name.",
        "`seeds` is the least and the most that runs end with, `from ieee` how far a run ends from the same",
        "seed in ieee, `loss` and `gradient norm` how far the mean curves are apart, as a share of ieee's.",
        "`between seeds` is the same of ieee's own runs, each pair of seeds: what chance does.",
        "",
        "| task | in | end | seeds | from ieee | loss | gradient norm |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, runs in found.items():
        for kind in runs:
            row, (low, high) = row_of(runs, kind), spread(runs, kind)
            name = f"{task}: {TASKS[task][0]}" if kind == "ieee" else ""
            away = "" if kind == "ieee" else f"{row['from_ieee']:.4f} | {row['loss']:.1%} | {row['norm']:.1%}"
            lines.append(
                f"| {name} | {kind} | {row['mean']:.4f} | {low:.4f} to {high:.4f} | {away or '| |'} |"
            )
        pairs = list(between_seeds(runs["ieee"]))
        if pairs:
            away, loss, norm = np.mean(pairs, axis=0)
            lines.append(f"| | between seeds | | | {away:.4f} | {loss:.1%} | {norm:.1%} |")
    return "\n".join(lines) + "\n"


def between_seeds(runs: Sequence[Run]) -> list[tuple[float, float, float]]:
    """How far each pair of runs is apart, in end, loss and norm, as `row_of` has them."""

    def apart(a: Run, b: Run, curve: str) -> float:
        x, y = np.array(a[curve]), np.array(b[curve])
        return float(np.mean(np.abs(x - y)) / np.mean(y))

    return [
        (abs(a["end"] - b["end"]), apart(a, b, "losses"), apart(a, b, "norms"))
        for i, a in enumerate(runs)
        for b in runs[:i]
    ]


def draw(found: dict[str, dict[str, list[Run]]], path: Path) -> None:
    """Loss above, gradient norm below: a line for each kind, its mean over seeds; a band of ieee's seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(found), 6), layout="constrained", dpi=110)
    axes = np.atleast_2d(figure.subplots(2, len(found), squeeze=False))
    for column, (task, runs) in enumerate(found.items()):
        for axis, curve, label in zip(
            axes[:, column], ("losses", "norms"), ("loss", "gradient norm"), strict=True
        ):
            bands = np.array([run[curve] for run in runs["ieee"]])
            at = np.linspace(0, 1, bands.shape[1])
            axis.fill_between(at, bands.min(0), bands.max(0), color="lightgray", label="ieee, all seeds")
            for kind, of_kind in runs.items():
                mean = np.mean([run[curve] for run in of_kind], axis=0)
                color = COLORS.get(kind, "tab:orange")
                axis.plot(
                    at, mean, color=color, linewidth=1, linestyle="-" if kind == "ieee" else "--", label=kind
                )
            axis.set_yscale("log")
            axis.set_ylabel(label, fontsize=9)
            axis.tick_params(labelsize=8, which="both")
            axis.grid(alpha=0.3)
        axes[0, column].set_title(task, fontsize=10)
        axes[1, column].set_xlabel("share of the training", fontsize=9)
        axes[0, column].legend(fontsize=7)
    figure.savefig(path)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "quality")
    chosen = parser.parse_args()
    path = chosen.output.with_suffix(".json")
    stored = json.loads(path.read_text()) if path.exists() else {"runs": {}, "commands": {}}
    todo = [
        (task, kind, seed) for task in chosen.tasks for kind in kinds(task) for seed in range(chosen.seeds)
    ]
    made: dict[str, dict[str, list[Run]]] = {}
    for task, kind, seed in tqdm(todo, disable=None):
        made.setdefault(task, {}).setdefault(kind, []).append(TASKS[task][1](kind, seed))
    command = shlex.join(["python", "bench/quality.py", *sys.argv[1:]])
    runs = stored["runs"] | made
    commands = stored["commands"] | dict.fromkeys(made, command)
    write(path, {task: runs[task] for task in TASKS if task in runs}, machine(), commands)
    print(path.with_suffix(".md").read_text())
    return 0


def write(
    path: Path, found: dict[str, dict[str, list[Run]]], facts: dict[str, Any], commands: dict[str, str]
) -> None:
    """All files of the results; `commands` that made them by task."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {"machine": facts, "commands": commands, "runs": found}
    path.write_text(json.dumps(contents, separators=(",", ":")) + "\n")
    path.with_suffix(".md").write_text(table(found, facts, list(dict.fromkeys(commands.values()))))
    draw(found, path.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())
