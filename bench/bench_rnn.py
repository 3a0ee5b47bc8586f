"""fusedrnn against PyTorch and ONNX Runtime on recurrent stacks: inference, training, a whole small step.

python bench/bench_rnn.py --quick        a first look, a minute or two
python bench/bench_rnn.py                every row; stores results/
python bench/bench_rnn.py --cells lstm --rows 6 7 --modes train
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_peer
import peers
from measure import SIDE_SECONDS, Contender, best, compare, machine
from numpy.typing import NDArray
from report import Row, print_heading, print_row, save
from roofline import Limits, measure_limits

import fusedrnn as fr

Array = NDArray[Any]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
STACKS = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}
OURS = "fusedrnn"


class Shape(NamedTuple):
    """A stack and its input."""

    T: int
    B: int
    I: int
    H: int
    L: int

    def gflop(self, gates: int) -> float:
        """Multiply-adds of the matrix products of one forward pass, two operations each."""
        per_step = sum(
            gates * self.H * ((self.I if layer == 0 else self.H) + self.H) for layer in range(self.L)
        )
        return 2e-9 * self.T * self.B * per_step


SHAPES = (
    Shape(100, 1, 256, 256, 1),
    Shape(128, 16, 64, 128, 1),
    Shape(128, 32, 128, 256, 1),
    Shape(35, 20, 200, 200, 2),
    Shape(35, 20, 650, 650, 2),
    Shape(64, 64, 512, 512, 1),
    Shape(512, 64, 128, 256, 1),
    Shape(64, 32, 1024, 1024, 1),
)


def stack_row(cell: str, shape: Shape, mode: str, limits: Limits, seconds: float) -> Row:
    """One comparison of a stack; "train" is forward and backward, with weights that change every time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape.T, shape.B, shape.I), np.float32)
    dy = rng.standard_normal((shape.T, shape.B, shape.H), np.float32)
    module = STACKS[cell](shape.I, shape.H, shape.L, seed=0)
    weights = module.state_dict()
    peer = peers.stack(cell, weights)
    gflop = shape.gflop(GATES[cell])
    if mode == "infer":
        ours, theirs = our_inference(module, x), peers.inference(peer, x)
    else:
        ours, theirs = our_training(module, x, dy), peers.training(peer, x, dy)
        gflop *= 3
    contenders = [Contender(OURS, ours), *peers.with_threads("torch", theirs, limits.threads)]
    if mode == "infer":
        contenders += [
            Contender(f"onnxruntime, {n} threads", onnx_peer.inference(cell, weights, x, n))
            for n in peers.thread_counts(limits.threads)
        ]
    check_equal_work(contenders)
    return result(f"{cell} {mode} {' '.join(map(str, shape))}", contenders, gflop, limits, seconds)


def check_equal_work(contenders: list[Contender]) -> None:
    """Raises AssertionError unless all contenders return the same numbers, up to rounding."""
    wanted = contenders[0].call()
    for contender in contenders[1:]:
        np.testing.assert_allclose(
            contender.call(), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max(), err_msg=contender.name
        )


def our_inference(module: Any, x: Array) -> Callable[[], Array]:
    """One forward pass that keeps nothing."""
    module.eval()
    return lambda: module(x)[0]


def our_training(module: Any, x: Array, dy: Array) -> Callable[[], Array]:
    """Gradients from zero, for weights that changed since the call before, as in every real step."""
    module.train()
    buffer = next(module.parameters())._buffer

    def call() -> Array:
        buffer.touch()
        module.zero_grad()
        module(x)
        dx: Array = module.backward(dy)[0]
        return dx

    return call


def two_layer_row(limits: Limits, seconds: float) -> Row:
    """LSTM(50) -> LSTM(50) -> last step -> Linear(1), ten steps, batch 10: a step of training with Adam."""
    rng = np.random.default_rng(0)
    shape = Shape(10, 10, 1, 50, 2)
    x = rng.standard_normal((shape.T, shape.B, shape.I), np.float32)
    target = rng.standard_normal((shape.B, 1), np.float32)
    model = fr.nn.Sequential(
        fr.nn.LSTM(1, 50, seed=0), fr.nn.LSTM(50, 50, seed=1), fr.nn.Last(), fr.nn.Linear(50, 1, seed=2)
    )
    optimizer = fr.optim.Adam(model.parameters(), lr=1e-4)
    ours = Contender(OURS, lambda: model.train_step(x, target, fr.losses.mse, optimizer, clip_norm=1.0))
    theirs = [
        contender
        for name, call in peers.two_layer_steps(x, target, shape.H, 1e-4).items()
        for contender in peers.with_threads(name, call, limits.threads)
    ]
    return result("two-layer example, whole step", [ours, *theirs], 3 * shape.gflop(4), limits, seconds)


def result(name: str, contenders: list[Contender], gflop: float, limits: Limits, seconds: float) -> Row:
    """Times the contenders against each other."""
    timings = compare(contenders, seconds)
    ours = timings.pop(OURS)
    fastest = best(timings)
    rate = gflop / ours.median
    fractions = {"sgemm": rate / limits.sgemm_gflops, "FMA": rate / limits.fma_gflops}
    return Row(name, ours, timings[fastest], fastest, gflop, "GFLOP/s", fractions)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shapes = "; ".join(f"{i}: {' '.join(map(str, shape))}" for i, shape in enumerate(SHAPES))
    parser.add_argument(
        "--rows", type=int, nargs="+", choices=range(len(SHAPES)), default=list(range(len(SHAPES))),
        metavar="ROW", help=f"shapes T B I H L by number ({shapes}); default: all",
    )  # fmt: skip
    parser.add_argument("--cells", nargs="+", choices=tuple(GATES), default=list(GATES), help="default: all")
    parser.add_argument(
        "--modes", nargs="+", choices=("infer", "train"), default=["infer", "train"], help="default: both"
    )
    parser.add_argument(
        "--threads", type=int, default=fr.get_num_threads(),
        help="of fusedrnn; PyTorch gets as many or fewer, what is best for it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="0.2 s instead of 1 s a side; not for publishing"
    )
    parser.add_argument("--output", type=Path, help="stem of the files to write (default: results/bench_rnn)")
    return parser.parse_args()


def main() -> None:
    """Runs the chosen rows, prints them as they come, stores them."""
    chosen = arguments()
    fr.set_num_threads(chosen.threads)
    seconds = 0.2 if chosen.quick else SIDE_SECONDS
    limits = measure_limits(chosen.threads)
    print(f"{limits}\nrows: cell mode T B I H L")
    print_heading()
    rows = []
    for cell in chosen.cells:
        for mode in chosen.modes:
            for index in chosen.rows:
                rows.append(stack_row(cell, SHAPES[index], mode, limits, seconds))
                print_row(rows[-1])
    if "lstm" in chosen.cells and "train" in chosen.modes:
        rows.append(two_layer_row(limits, seconds))
        print_row(rows[-1])
    if chosen.output or not chosen.quick:
        stem = chosen.output or Path(__file__).parent / "results" / "bench_rnn"
        title = "Recurrent stacks, float32 (T B I H L)"
        for path in save(stem, title, rows, [limits], machine()):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
