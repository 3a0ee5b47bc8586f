"""Kind 3: what crashed, hung, or took memory or time without a limit."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from command import PACKAGE, altered, here, in_one_line
from fault import Found, fault, refusal

import fusedrnn as fr
from fusedrnn import _native


@fault("3.1", "two threads in train_step of one module, for 2 s", "RuntimeError: in use by another thread")
def _() -> Found:
    model = fr.nn.Sequential(fr.nn.LSTM(8, 32, seed=0), fr.nn.Linear(32, 2, seed=1))
    optimizer = fr.optim.Adam(model.parameters())
    stop, errors, steps = time.monotonic() + 2, [], []

    def train(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while time.monotonic() < stop:
            length = int(rng.integers(30, 37))
            optimizer.lr = float(rng.random() * 1e-3)
            try:
                model.train_step(
                    np.ones((length, 8, 8), np.float32), np.ones((length, 8, 2), np.float32), "mse", optimizer
                )
                steps.append(1)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=train, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = bool(errors) and bool(steps) and all("in use by another thread" in text for text in errors)
    return Found(f"{len(set(errors))} kinds of error, first: {errors[0] if errors else 'none'}", good)


def python(code: str, seconds: float = 15) -> tuple[int, str]:
    """Status and last line of stderr of a Python of its own."""
    environment = {**os.environ, "PYTHONPATH": PACKAGE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds, env=environment
    )
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1:][
        0
    ] if done.stdout + done.stderr else ""


@fault("3.2", "six daemon threads within calls at exit", "status 0")
def _() -> Found:
    status, line = python(
        """
import threading, time
import numpy as np, fusedrnn as fr
x = np.ones((50, 8, 16), np.float32)
def work(seed):
    gru = fr.nn.GRU(16, 32, seed=seed).eval()
    while True:
        gru(x)
for seed in range(6):
    threading.Thread(target=work, args=(seed,), daemon=True).start()
time.sleep(0.3)
"""
    )
    return Found(f"status {status} {line}", status == 0)


def uses(cls: Any) -> list[str]:
    """What can be done with an object: its attributes, and methods without arguments."""
    special = (
        "__repr__",
        "__len__",
        "__dlpack__",
        "__dlpack_device__",
        "__reduce__",
        "__copy__",
        "__getstate__",
    )
    return [name for name in dir(cls) if not name.startswith("__") or name in special]


def crashes(cls: Any, name: str) -> bool:
    """Whether that use of an object made by `__new__` ends the process."""
    child = os.fork()
    if not child:
        try:
            value = getattr(cls.__new__(cls), name)
            value() if callable(value) else None
        except Exception:
            pass
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@fault("3.3", "each class of _native made by __new__, each attribute used", "TypeError by __new__")
def _() -> Found:
    classes = [v for v in vars(_native).values() if isinstance(v, type) and not issubclass(v, BaseException)]
    ended, made = 0, 0
    for cls in classes:
        try:
            cls.__new__(cls)
        except TypeError:
            continue
        made += 1
        ended += sum(crashes(cls, name) for name in uses(cls))
    return Found(f"{made} of {len(classes)} classes made, {ended} uses of them crash", not made)


@fault("3.3", "fr.DeviceArray.__new__(fr.DeviceArray).nbytes", "TypeError")
def _() -> Found:
    return refusal(lambda: fr.DeviceArray.__new__(fr.DeviceArray).nbytes)


@fault(
    "3.4",
    "ids that another thread writes 2**40 to, for 2 s",
    "an error that names them, or rows of the table",
)
def _() -> Found:
    table = fr.nn.Embedding(4, 64, seed=0)
    table.weight.data = np.ones((4, 64), np.float32)
    table.eval()
    ids, done, odd = np.zeros((64, 64), np.int64), threading.Event(), 0

    def write() -> None:
        while not done.is_set():
            ids.fill(1 << 20)
            ids.fill(0)

    writer = threading.Thread(target=write)
    writer.start()
    stop = time.monotonic() + 2
    while time.monotonic() < stop:
        try:
            odd += bool((table(ids) != 1).any())
        except ValueError:
            continue
    done.set()
    writer.join()
    return Found(f"{odd} results with numbers from outside the table", not odd)


@fault("3.5", "import in a subinterpreter", "ImportError that says so", seconds=20)
def _() -> Found:
    try:
        status, line = python(
            """
try:
    import _interpreters as interpreters
    run = lambda i, code: interpreters.exec(i, code)
except ImportError:
    import _xxsubinterpreters as interpreters
    run = lambda i, code: interpreters.run_string(i, code)
import sys
code = '''
import sys
sys.path[:] = %r
try:
    import fusedrnn
except ImportError as error:
    print(error)
''' % sys.path
found = run(interpreters.create(), code)
print(found or "", end="")
""",
            8,
        )
    except subprocess.TimeoutExpired:
        return Found("hangs", False)
    return Found(f"status {status}, {line}", status == 0 and "subinterpreter" in line)


def checkpoint(run: Path, change: Any, *words: str, command: str = "sample") -> Found:
    """What a command makes of a checkpoint, and how much memory it takes for it."""
    to = altered(run, run.parent / "altered", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = here(
        ["sample", str(to), "--length", "3"] if command == "sample" else ["train", "--resume", str(to)]
    )
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = in_one_line(ended, *words)
    return Found(f"{found.gives} ({grown:.0f} MiB)", found.right and grown < 100)


def set_hidden(tree: Any) -> None:
    tree["config"]["hidden"] = 20000


def set_source(path: str) -> Any:
    def change(tree: Any) -> None:
        tree["text"]["sources"] = [path]

    return change


for command in ("sample", "train --resume"):
    fault(
        "3.6",
        f"{command} of a checkpoint with hidden: 20000",
        "damaged, in a line, before memory is asked for",
        needs=True,
    )(lambda run, command=command: checkpoint(run, set_hidden, "weight_ih_l0", command=command))
fault("3.6", 'text.sources: ["/dev/zero"]', "refused in a line, nothing read", needs=True, seconds=15)(
    lambda run: checkpoint(run, set_source("/dev/zero"), "/dev/zero", command="train")
)


@fault("3.6", "text.sources: a FIFO", "refused in a line", needs=True, seconds=5)
def _(run: Path) -> Found:
    os.mkfifo(run.parent / "fifo")
    return checkpoint(run, set_source(str(run.parent / "fifo")), "fifo", command="train")


@fault("3.6", "a checkpoint that is a FIFO", "refused in a line", seconds=5, needs=True)
def _(run: Path) -> Found:
    os.mkfifo(run.parent / "checkpoint.safetensors")
    return in_one_line(here(["sample", str(run.parent)]), "cannot read")


@fault("3.7", "fr.nn.LSTM(2, 2, 800), beside 200 layers", "about four times as long", seconds=60)
def _() -> Found:
    def seconds(layers: int) -> float:
        start = time.thread_time()
        fr.nn.LSTM(2, 2, layers, seed=0)
        return time.thread_time() - start

    seconds(50)
    few, many = min(seconds(200) for _ in range(2)), seconds(800)
    return Found(f"{many:.2f} s, {many / few:.1f} times as long", many < 8 * few)


@fault("3.8", "Linear of the identity and 1e-39, denormals flushed by the option", "0, and 1e-39 without it")
def _() -> Found:
    linear = fr.nn.Linear(7, 7, bias=False, seed=0)
    linear.weight.data = np.eye(7, dtype=np.float32)
    x, found = np.full((3, 7), 1e-39, np.float32), []
    for flush in (False, True):
        if not hasattr(fr, "set_flush_denormal"):
            return Found("there is no option", False)
        fr.set_flush_denormal(flush)
        found.append(float(linear(x)[0, 0]))
    return Found(f"{found[1]:.3g}, and {found[0]:.3g} without it", found == [float(x[0, 0]), 0])
