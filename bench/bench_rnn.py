"""fusedrnn against PyTorch, ONNX Runtime and Keras on recurrent stacks: inference, training, small steps.

  python bench/bench_rnn.py --list                          what rows there are: cell, what, T B I H layers
  python bench/bench_rnn.py --quick --only 'lstm train'     a first look at some
  python bench/bench_rnn.py --fresh                         every row, from nothing; stores results/
  python bench/bench_rnn.py --threads 1                     adds the table of one thread to the results

On a shared machine, in parts of a minute until all rows are there (exit status 75: some remain):

  python bench/bench_rnn.py --threads 2 1 --resume --budget 40

On a GPU: --device cuda, which has rows and a help of its own.

Keras is measured by $FUSEDRNN_KERAS_PYTHON, an interpreter that has TensorFlow (default: this one); where it
has none, the rows of the two-layer example go without.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import keras_peer
import numpy as np
import onnx_peer
import peers
from harness import Case, device_of, main
from limits import Stack, stack_limit
from measure import OURS, Contender, Timed, compare
from numpy.typing import NDArray
from report import Row, make_row
from roofline import Limits

import fusedrnn as fr

Array = NDArray[Any]
STACKS = {"lstm": fr.nn.LSTM, "gru": fr.nn.GRU, "rnn": fr.nn.RNN}
COMMON = ((100, 1, 256, 256, 1), (128, 32, 128, 256, 1), (64, 64, 512, 512, 1), (64, 32, 1024, 1024, 1))
SHAPES = {  # T B I H L
    "lstm": (
        (100, 1, 64, 64, 1),
        (100, 1, 256, 256, 1),
        (128, 16, 64, 128, 1),
        (128, 32, 128, 256, 1),
        (35, 20, 200, 200, 2),
        (35, 20, 650, 650, 2),
        (64, 64, 512, 512, 1),
        (512, 64, 128, 256, 1),
        (64, 32, 1024, 1024, 1),
    ),
    "gru": COMMON,
    "rnn": COMMON,
}
RAGGED = (128, 32, 128, 256, 1)
EXAMPLE = Stack("lstm", 10, 10, 1, 50, 2, train=True)
LEARNING_RATE = 1e-4


def stack_row(stack: Stack, limits: Limits, seconds: float) -> Row:
    """One comparison of a stack; "train" is forward and backward, with weights that change every time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((stack.T, stack.B, stack.I), np.float32)
    dy = rng.standard_normal((stack.T, stack.B, stack.H), np.float32)
    module = STACKS[stack.cell](stack.I, stack.H, stack.L, seed=0)
    weights = module.state_dict()
    peer = peers.stack(stack.cell, weights)
    threads = limits.all.threads
    if stack.train:
        ours, theirs = our_training(module, x, dy), peers.training(peer, x, dy)
    else:
        ours, theirs = our_inference(module, x), peers.inference(peer, x)
    contenders = [Contender(OURS, ours), *peers.with_threads("", theirs, threads)]
    if not stack.train:
        contenders += [
            Contender(
                peers.named(onnx_peer.ONNX, "", n),
                onnx_peer.inference(stack.cell, weights, x, n),
                library=onnx_peer.ONNX,
            )
            for n in peers.thread_counts(threads)
        ]
    check_equal_work(contenders)
    return result(stack_name(stack), group(stack), stack, contenders, limits, seconds)


def ragged_row(cell: str, limits: Limits, seconds: float) -> Row:
    """Training of a batch whose rows have lengths drawn uniformly from [T/4, T], in no order."""
    T, B, I, H, L = RAGGED
    rng = np.random.default_rng(0)
    lengths = rng.integers(T // 4, T, B, endpoint=True)
    lengths[rng.integers(B)] = T
    stack = Stack(cell, *RAGGED, train=True, rows=int(lengths.sum()))
    x = rng.standard_normal((T, B, I), np.float32)
    valid = np.arange(T)[:, None] < lengths
    dy = rng.standard_normal((T, B, H), np.float32) * valid[..., None]
    module = STACKS[cell](I, H, L, seed=0)
    peer = peers.stack(cell, module.state_dict())
    contenders = [Contender(OURS, our_training(module, x, dy, lengths))]
    for setting, (call, view) in peers.ragged_training(peer, x, dy, lengths).items():
        contenders += peers.with_threads(setting, call, limits.all.threads, view)
    check_equal_work(contenders)
    return result(ragged_name(cell), "ragged", stack, contenders, limits, seconds)


def check_equal_work(contenders: Sequence[Contender]) -> None:
    """Raises AssertionError unless all contenders return the same numbers, up to rounding."""
    wanted = contenders[0].view(contenders[0].call())
    for contender in contenders[1:]:
        np.testing.assert_allclose(
            contender.view(contender.call()), wanted,
            rtol=1e-3, atol=1e-4 * np.abs(wanted).max(), err_msg=contender.name,
        )  # fmt: skip


def our_inference(module: Any, x: Array) -> Callable[[], Array]:
    """One forward pass that keeps nothing."""
    module.eval()
    return lambda: module(x)[0]


def our_training(module: Any, x: Array, dy: Array, lengths: Array | None = None) -> Callable[[], Array]:
    """Gradients from zero, for weights that changed since the call before, as in every real step."""
    module.train()
    buffer = next(module.parameters())._buffer

    def call() -> Array:
        buffer.touch()
        module.zero_grad()
        module(x, lengths=lengths)
        dx: Array = module.backward(dy)[0]
        return dx

    return call


def example_row(way: str, limits: Limits, seconds: float) -> Row:
    """LSTM(50) -> LSTM(50) -> last step -> Linear(1), ten steps, batch 10: a step of training with Adam."""
    model, x, target = example()
    weights = model.state_dict()
    threads = limits.all.threads
    ours = (separate_calls if way == "separate calls" else train_step)(model, x, target)
    wanted = ours()
    contenders: list[Timed] = [Contender(OURS, ours)]
    for setting, call in peers.two_layer_steps(x, target, weights, LEARNING_RATE).items():
        np.testing.assert_allclose(call(), wanted, rtol=1e-4, err_msg=setting)
        contenders += peers.with_threads(setting, call, threads)
    contenders += keras_steps(threads)
    return result(example_name(way), "two-layer example", EXAMPLE, contenders, limits, seconds)


def example() -> tuple[Any, Array, Array]:
    """The model of the two-layer example, x and target: the same at every call."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((EXAMPLE.T, EXAMPLE.B, EXAMPLE.I), np.float32)
    target = rng.standard_normal((EXAMPLE.B, 1), np.float32)
    H = EXAMPLE.H
    lstms = fr.nn.LSTM(EXAMPLE.I, H, seed=0), fr.nn.LSTM(H, H, seed=1)
    return fr.nn.Sequential(*lstms, fr.nn.Last(), fr.nn.Linear(H, 1, seed=2)), x, target


def separate_calls(model: Any, x: Array, target: Array) -> Callable[[], float]:
    """The training step as a user writes it out; the call returns the loss."""
    optimizer = fr.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def call() -> float:
        loss, dprediction = fr.losses.mse(model(x), target)
        model.zero_grad()
        model.backward(dprediction, need_dx=False)
        optimizer.step(clip_norm=1.0)
        return float(loss)

    return call


def train_step(model: Any, x: Array, target: Array) -> Callable[[], float]:
    """The training step in one call, which returns the loss."""
    optimizer = fr.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return lambda: float(model.train_step(x, target, fr.losses.mse, optimizer, clip_norm=1.0)[0])


@cache
def keras_steps(threads: int) -> list[keras_peer.KerasStep]:
    """Keras in every setting, or none where TensorFlow is missing. Started once: it takes a while."""
    model, x, target = example()
    weights = model.state_dict()
    wanted = separate_calls(model, x, target)()
    children = [
        keras_peer.KerasStep(setting, n, x, target, weights, LEARNING_RATE)
        for setting in keras_peer.SETTINGS
        for n in peers.thread_counts(threads)
    ]
    for child in children:
        atexit.register(child.close)
    try:
        for child in children:
            np.testing.assert_allclose(child.first(), wanted, rtol=1e-4, err_msg=child.name)
    except keras_peer.KerasError as error:
        print(f"without Keras: {error}", file=sys.stderr)
        return []
    return children


def result(
    name: str, group: str, stack: Stack, contenders: Sequence[Timed], limits: Limits, seconds: float
) -> Row:
    """Times the contenders against each other."""
    timings = compare(contenders, seconds)
    rate = stack.gflop / timings[OURS].median
    limit = stack_limit(stack, limits)
    return make_row(
        name, group, limits.all.threads, contenders, timings,
        work=stack.gflop, unit="GFLOP/s", limit=limit.seconds, bound=limit.bound,
        shares={"FMA": rate / limits.fma_gflops, "sgemm": rate / limits.sgemm_gflops},
    )  # fmt: skip


def group(stack: Stack) -> str:
    """What a mean is taken over."""
    return f"{stack.cell} {'train' if stack.train else 'infer'}"


def stack_name(stack: Stack) -> str:
    """The row's name."""
    return f"{group(stack)} {stack.T} {stack.B} {stack.I} {stack.H} {stack.L}"


def ragged_name(cell: str) -> str:
    """The row's name."""
    return f"{cell} train ragged {' '.join(map(str, RAGGED))}"


def example_name(way: str) -> str:
    """The row's name."""
    return f"two-layer example, {way}"


def cases() -> list[Case]:
    """All rows."""
    found = []
    for cell, shapes in SHAPES.items():
        for train in (False, True):
            for shape in shapes:
                stack = Stack(cell, *shape, train=train)
                found.append(Case(stack_name(stack), partial(stack_row, stack)))
    found += [Case(ragged_name(cell), partial(ragged_row, cell)) for cell in ("lstm", "gru")]
    ways = ("separate calls", "train_step")
    return found + [Case(example_name(way), partial(example_row, way)) for way in ways]


def on_gpu(rehearse: bool) -> int:
    """The table of a GPU."""
    import cuda_rows

    return main(str(cuda_rows.__doc__), *cuda_rows.table(rehearse))


if __name__ == "__main__":
    device = device_of(sys.argv[1:])
    if device.device == "cuda":
        sys.exit(on_gpu(device.rehearse))
    sys.exit(main(__doc__, "bench_rnn", "Recurrent stacks, float32 (T B I H layers)", cases()))
