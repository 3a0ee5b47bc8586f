"""Mutation check: break the kernels one line at a time and see the suite notice.

    python tests/mutations.py                 all of them
    python tests/mutations.py --list          what they are
    python tests/mutations.py lstm clip       those whose name contains one of the words

Works on a copy of the checkout in a temporary folder. Each mutation replaces one piece of text that must
occur exactly once in its file, rebuilds the native module for one instruction set and runs the kernels'
tests until the first failure. A mutation that builds and passes is a hole in the suite: it is listed at
the end and the exit status is 1. Takes about a minute a mutation on 2 cores. Needs what building and
testing needs: cmake, ninja, pybind11, pytest, torch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPIED = ["python", "csrc", "cuda", "tests", "CMakeLists.txt", "pyproject.toml", "README.md"]


class Mutation(NamedTuple):
    """`new` in place of `old` in a file under csrc/; `tests` are those meant to notice, run first."""

    name: str
    file: str
    old: str
    new: str
    tests: str


SEQUENCES = "test_lstm.py test_gru.py test_rnn.py test_batch_split.py"

MUTATIONS = [
    Mutation(
        "lstm: backward drops the path through tanh(c)",
        "cells/lstm.hpp",
        "M::fma(dh * o, M::tanh_slope(t), dseen)",
        "M::fma(dh * o, t, dseen)",
        SEQUENCES,
    ),
    Mutation(
        "lstm: gates f and i swapped in the cell state",
        "cells/lstm.hpp",
        "M::fma(tape[1], carry_prev, tape[0] * tape[2])",
        "M::fma(tape[0], carry_prev, tape[1] * tape[2])",
        SEQUENCES,
    ),
    Mutation(
        "lstm: dc leaves through the input gate",
        "cells/lstm.hpp",
        "return dc * f;",
        "return dc * i;",
        SEQUENCES,
    ),
    Mutation(
        "gru: reset gate forgotten in the recurrent part of dn",
        "cells/gru.hpp",
        "da[3] = dn * r;",
        "da[3] = dn;",
        SEQUENCES,
    ),
    Mutation(
        "gru: wrong sign in the update gate's gradient",
        "cells/gru.hpp",
        "d * (carry_prev - n)",
        "d * (n - carry_prev)",
        SEQUENCES,
    ),
    Mutation(
        "gru: direct path to h dropped",
        "cells/gru.hpp",
        "const V d = dh + dcarry;",
        "const V d = dh;",
        SEQUENCES,
    ),
    Mutation(
        "elman: recurrent part forgotten",
        "cells/rnn.hpp",
        "value(x[0] + h[0])",
        "value(x[0])",
        SEQUENCES,
    ),
    Mutation(
        "sequence: reverse direction starts at the longest row's last step",
        "sequence/rows.hpp",
        "order.length[r] - 1 - s : s; }",
        "order.length[0] - 1 - s : s; }",
        SEQUENCES,
    ),
    Mutation(
        "sequence: a reset cuts one step late",
        "sequence/rows.hpp",
        "const int64_t t = reverse ? time(s - 1, r) : s;",
        "const int64_t t = reverse ? time(s, r) : s;",
        SEQUENCES,
    ),
    Mutation(
        "sequence: final state taken one step early",
        "sequence/rows.hpp",
        "return s == order.length[r] - 1; }",
        "return s == order.length[r] - 1 - (order.length[r] > 1); }",
        SEQUENCES,
    ),
    Mutation(
        "sequence: gradient of the final state forgotten",
        "sequence/backward_step.hpp",
        "rows[i].start ? load_units(rows[i].start, v * N, H) : L::zero()",
        "L::zero()",
        SEQUENCES,
    ),
    Mutation(
        "sequence: dy forgotten where a row goes on",
        "sequence/backward_step.hpp",
        "if (!projects && row.dy) dh = load_units(row.dy, unit, H) + dh;",
        "if (!projects && row.dy && row.start) dh = load_units(row.dy, unit, H) + dh;",
        SEQUENCES,
    ),
    Mutation(
        "sequence: second direction overwrites dx",
        "sequence/backward.hpp",
        "pass.direction > 0 && f_.plan_.direction_groups == 1);",
        "false);",
        SEQUENCES,
    ),
    Mutation(
        "sequence: dX of a direction that ran beside the other forgotten",
        "sequence/backward.hpp",
        "for (int64_t k = 0; k < f_.size_.inputs(l); ++k) to[k] = to[k] + from[k];",
        "for (int64_t k = 0; k < 0; ++k) to[k] = to[k] + from[k];",
        "test_plan.py",
    ),
    Mutation(
        "sequence: dropout forgotten in backward",
        "sequence/backward.hpp",
        "if (desc.dropout > 0) mask_rows(",
        "if (desc.dropout > 1) mask_rows(",
        SEQUENCES,
    ),
    Mutation(
        "masks: gradients of masked states pass whole",
        "sequence/masks.hpp",
        "if (row.recurrent) dh = dh * load(row.recurrent, unit, count);",
        "",
        "test_regularisers.py",
    ),
    Mutation(
        "masks: weight gradients from states that are not masked",
        "sequence/backward.hpp",
        "before[k] = drops_states(f_.desc_) ? masked(s, r)",
        "before[k] = false ? masked(s, r)",
        "test_regularisers.py",
    ),
    Mutation(
        "masks: what zoneout keeps loses its gradient",
        "sequence/masks.hpp",
        "if (row.past_after) dh = dh + load(row.past_after, unit, count);",
        "",
        "test_regularisers.py",
    ),
    Mutation(
        "masks: zoneout keeps the same units at all steps",
        "sequence/masks.hpp",
        "mask.step = static_cast<uint32_t>(desc_.first_step + t);",
        "mask.step = 0;",
        "test_regularisers.py",
    ),
    Mutation(
        "masks: gradient of R under weight dropout not masked",
        "sequence/masks.hpp",
        "if (kept) grad[begin + k]",
        "grad[begin + k]",
        "test_regularisers.py",
    ),
    Mutation(
        "flow: the direct path to h forgotten",
        "sequence/backward_step.hpp",
        "Cell::carry_gradient && !Cell::separate_carry ? dh + from : dh);",
        "dh);",
        "test_flow.py",
    ),
    Mutation(
        "flow: what zoneout keeps of c forgotten",
        "sequence/backward_step.hpp",
        "Masked ? whole + past : whole);",
        "whole);",
        "test_flow.py",
    ),
    Mutation(
        "flow: rows past their length counted",
        "sequence/flow.hpp",
        "if (!args_.lengths || t < args_.lengths[b]) sum",
        "sum",
        "test_flow.py",
    ),
    Mutation(
        "recompute: dropout counts steps from the piece",
        "sequence/masks.hpp",
        "((desc.first_step + t) * desc.B + b) * width",
        "(t * desc.B + b) * width",
        "test_recompute.py",
    ),
    Mutation(
        "recompute: pieces that are no whole chunks",
        "sequence/recompute.hpp",
        "if (rest > 0) k += plan.chunk_steps - rest;",
        "",
        "test_recompute.py",
    ),
    Mutation(
        "recompute: rows in the order of a piece",
        "sequence/recompute.hpp",
        "a.order = order_.batch;",
        "a.order = nullptr;",
        "test_recompute.py",
    ),
    Mutation(
        "recompute: the direct path added before dy",
        "sequence/recompute.hpp",
        "if (cell_.carry_gradient) a.dc0",
        "if (cell_.has_cell_state) a.dc0",
        "test_recompute.py",
    ),
    Mutation(
        "sequence: padding of y not cleared",
        "sequence/forward.hpp",
        "if (f_.args_.lengths && !f_.args_.steps) clear_padding();",
        "if (false) clear_padding();",
        "test_guard_pages.py " + SEQUENCES,
    ),
    Mutation(
        "sequence: initial gradient taken from the last chunk",
        "sequence/backward.hpp",
        "if (c == 0) initial_state(pass);",
        "if (c == chunks - 1) initial_state(pass);",
        SEQUENCES,
    ),
    Mutation(
        "gemm: later chunks of k replace the earlier",
        "gemm/microkernel_fma.hpp",
        "k == 0 ? sum[r][v] : L::load(to) + sum[r][v]",
        "sum[r][v]",
        SEQUENCES,
    ),
    Mutation(
        "gemm: outer product loses all but the last block of rows",
        "gemm/gemm.hpp",
        "const bool replace = !g.accumulate && k == 0;",
        "const bool replace = !g.accumulate;",
        "test_linear.py " + SEQUENCES,
    ),
    Mutation(
        "peephole LSTM: o sees the cell state of the step before",
        "cells/lstm_peephole.hpp",
        "M::fma(units[2], carry, x[3] + h[3])",
        "M::fma(units[2], carry_prev, x[3] + h[3])",
        "test_lstm_peephole.py test_variants.py",
    ),
    Mutation(
        "peephole LSTM: c gets no gradient from o",
        "cells/lstm_peephole.hpp",
        "M::fma(da[3], units[2], dcarry)",
        "dcarry",
        "test_lstm_peephole.py test_variants.py",
    ),
    Mutation(
        "GRU, reset before: no gradient to h through r h",
        "cells/gru_reset_before.hpp",
        "return dgated * r;",
        "return M::constant(0.0) * r;",
        "test_gru_reset_before.py test_variants.py",
    ),
    Mutation(
        "GRU, reset before: r gates h as it is before recurrent dropout",
        "sequence/gated_step.hpp",
        "open(part.row[row + r], part.operand[row + r],",
        "open(part.row[row + r], part.row[row + r].carry_prev,",
        "test_gru_reset_before.py test_variants.py",
    ),
    Mutation(
        "GRU, reset before: weight gradients of n read h in place of r h",
        "sequence/gradients.hpp",
        "if (gated) part(gated, H_,",
        "if (gated) part(before, H_,",
        "test_gru_reset_before.py test_variants.py",
    ),
    Mutation(
        "cross-entropy in the place of its scores reads the class's own one when it is overwritten",
        "losses/cross_entropy.hpp",
        "(static_cast<double>(most) - logit)",
        "(static_cast<double>(most) - static_cast<double>(p[target]))",
        "test_train_step.py",
    ),
    Mutation(
        "gates stored past the caches a vector too early",
        "sequence/forward_step.hpp",
        "stream(to + unit, v)",
        "stream(to + unit - (unit > 0 ? N : 0), v)",
        "test_streaming.py",
    ),
    Mutation(
        "GRU, reset before: both halves of a step without a barrier between them",
        "sequence/forward.hpp",
        "          if (f_.kernels_.finish) {\n            barriers_.row_group();\n",
        "          if (f_.kernels_.finish) {\n",
        "test_gru_reset_before.py test_variants.py",
    ),
    Mutation(
        "projection: the gradient of h misses that of y",
        "sequence/projection.hpp",
        "if (row.dy) dh = load_units(row.dy, unit, P) + dh;",
        "",
        "test_lstm_projected.py test_variants.py",
    ),
    Mutation(
        "projection: dW_hr from chunks' dgates in place of dh",
        "sequence/backward.hpp",
        "before[k] = dh(s, r);",
        "before[k] = dgates(s, r);",
        "test_lstm_projected.py test_variants.py",
    ),
    Mutation(
        "projection: final states of h are not written",
        "sequence/projection.hpp",
        "if (row.hn) store_units(row.hn, unit, P, h);",
        "",
        "test_lstm_projected.py test_variants.py",
    ),
    Mutation(
        "layer norm LSTM: h sees c as it is",
        "sequence/normalised_forward.hpp",
        "Cell::output(tape, seen(of_c.normal(carry), own, unit, H))",
        "Cell::output(tape, carry)",
        "test_lstm_layer_norm.py test_variants.py",
    ),
    Mutation(
        "layer norm LSTM: the gradient through the variance is lost",
        "sequence/normalised_backward.hpp",
        "rstd * L::fma(-n, across, g - along)",
        "rstd * (g - along)",
        "test_lstm_layer_norm.py test_variants.py",
    ),
    Mutation(
        "layer norm LSTM: the row group's threads all take the first row's share",
        "sequence/normalised_backward.hpp",
        "for (int64_t i = part.unit_group; i < active; i += part.unit_groups)",
        "for (int64_t i = 0; i < active; i += part.unit_groups)",
        "test_lstm_layer_norm.py test_variants.py test_regularisers.py",
    ),
    Mutation(
        "adam: bias correction lags a step",
        "optim/adam.hpp",
        "1 - power(a.scalar[S::beta2], a.step)",
        "1 - power(a.scalar[S::beta2], a.step + 1)",
        "test_adam.py",
    ),
    Mutation(
        "rmsprop: the variance by the difference of the means",
        "optim/rmsprop.hpp",
        "M::sqrt(centered ? state[3] : state[0])",
        "M::sqrt(centered ? M::max(M::constant(0), state[0] - state[2] * state[2]) : state[0])",
        "test_rmsprop.py",
    ),
    Mutation(
        "adam: AMSGrad forgets the largest square",
        "optim/adam.hpp",
        "square = state[2] = M::max(state[2], square)",
        "square = M::max(state[2], square)",
        "test_adam.py",
    ),
    Mutation(
        "running mean: always from the old end",
        "optim/rule.hpp",
        "from_new(keep <= 0.5)",
        "from_new(false)",
        "test_adam.py",
    ),
    Mutation(
        "cross-entropy: a mean over weighted classes divides by their number",
        "losses/entries.hpp",
        "if (counts[i]) found += a.weight[target[i]];",
        "found += counts[i];",
        "test_cross_entropy.py",
    ),
    Mutation(
        "cross-entropy: label smoothing leaves the target whole",
        "losses/cross_entropy.hpp",
        "(1 - smoothing) * weight, a.classes",
        "weight, a.classes",
        "test_cross_entropy.py",
    ),
    Mutation(
        "binary cross-entropy: weights by the entry of the block",
        "losses/elementwise.hpp",
        "a.weight[(first + i) % a.weights]",
        "a.weight[i % a.weights]",
        "test_binary_cross_entropy.py",
    ),
    Mutation(
        "binary cross-entropy: zero times infinity",
        "losses/binary_cross_entropy.hpp",
        "L::select(L::eq(against, L::zero()), L::zero(), far) + Math<T>",
        "far + Math<T>",
        "test_binary_cross_entropy.py",
    ),
    Mutation(
        "sgd: Nesterov looks at the old momentum",
        "optim/sgd.hpp",
        "nesterov ? g + momentum * state[0] : state[0]",
        "nesterov ? state[0] : g + momentum * state[0]",
        "test_sgd.py",
    ),
    Mutation(
        "sgd: the first step is dampened",
        "optim/sgd.hpp",
        "a.scalar[S::dampening] != 0 && a.step > 1",
        "a.scalar[S::dampening] != 0",
        "test_sgd.py",
    ),
    Mutation(
        "huber: the whole error is squared",
        "losses/huber.hpp",
        "L::min(delta, far)",
        "far",
        "test_regression_losses.py",
    ),
    Mutation(
        "l1: the sign of no error",
        "losses/l1.hpp",
        "L::select(L::eq(e, L::zero()), L::zero(), L::copysign(L::set(T(1)), e))",
        "L::copysign(L::set(T(1)), e)",
        "test_regression_losses.py",
    ),
    Mutation(
        "nll: the gradient without its weight",
        "losses/nll.hpp",
        "static_cast<T>(-weight * scale)",
        "static_cast<T>(-scale)",
        "test_regression_losses.py",
    ),
    Mutation(
        "embedding: the row of padding gets a gradient",
        "training/embedding.hpp",
        "status == Status::ok ? copy_row(backend, a, row, kept, stream) : status",
        "status",
        "test_embedding.py test_train_step.py",
    ),
    Mutation(
        "adagrad: sum of absolute values",
        "optim/adagrad.hpp",
        "state[0] + g * g",
        "state[0] + g",
        "test_adagrad.py",
    ),
    Mutation(
        "clip: factor missing in the update",
        "optim/update.hpp",
        "a.clip_factor ? static_cast<T>(*a.clip_factor) : T(1)",
        "T(1)",
        "test_clip.py test_adam.py",
    ),
    Mutation(
        "norm: last chunk of every array missing",
        "optim/global_norm.hpp",
        "return (s.count + kReduceChunk - 1) / kReduceChunk; }",
        "return s.count > kReduceChunk ? s.count / kReduceChunk : 1; }",
        "test_global_norm.py test_clip.py",
    ),
    Mutation(
        "cross entropy: gradient of the target class not lowered",
        "losses/cross_entropy.hpp",
        "static_cast<double>(dp[target]) - sum;",
        "static_cast<double>(dp[target]);",
        "test_cross_entropy.py",
    ),
    Mutation(
        "losses: masked entries keep their gradient",
        "losses/elementwise.hpp",
        "dpred[i] = counts[i] ? dpred[i] : T(0);",
        "dpred[i] = dpred[i];",
        "test_mse.py test_binary_cross_entropy.py",
    ),
]


def run(
    command: list[str], cwd: Path, timeout: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=timeout
    )


class Checkout:
    """A copy of the project, built for the fastest instruction set of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "_native*.so", ".*")
                shutil.copytree(source, root / name, ignore=ignored)
            elif source.exists():
                shutil.copy(source, root / name)
        self.build_folder = root / "build"
        configured = run(
            ["cmake", "-S", ".", "-B", "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
             "-DFUSEDRNN_ISAS=avx2", f"-DPython_EXECUTABLE={sys.executable}"], root, 120
        )  # fmt: skip
        if configured.returncode != 0:
            raise SystemExit(f"cmake failed:\n{configured.stdout}{configured.stderr}")

    def build(self) -> str | None:
        """What the compiler said, when it failed."""
        built = run(["cmake", "--build", "build"], self.root, 900)
        if built.returncode != 0:
            return built.stdout[-2000:] + built.stderr[-2000:]
        for module in self.build_folder.glob("_native*.so"):
            shutil.copy(module, self.root / "python" / "fusedrnn" / module.name)
        return None

    def first_failure(self, tests: str) -> str | None:
        """The first failing test, None when all pass."""
        files = [f"tests/{name}" for name in tests.split()]
        done = run(
            [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *files],
            self.root, 1800, PYTHONPATH=str(self.root / "python"),
        )  # fmt: skip
        if done.returncode == 0:
            return None
        lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return lines[0] if lines else f"exit {done.returncode}: {(done.stdout + done.stderr)[-300:]}"


def check(checkout: Checkout, mutation: Mutation) -> bool:
    """True when the suite notices."""
    file = checkout.root / "csrc" / mutation.file
    sound = file.read_text()
    if sound.count(mutation.old) != 1:
        print(
            f"  does not apply: {mutation.old!r} occurs {sound.count(mutation.old)} times in {mutation.file}"
        )
        return False
    start = time.monotonic()
    file.write_text(sound.replace(mutation.old, mutation.new))
    try:
        complaint = checkout.build()
        if complaint is not None:
            print(f"  does not build, which proves nothing:\n{complaint}")
            return False
        failure = checkout.first_failure(mutation.tests)
    finally:
        file.write_text(sound)
    print(f"  {failure or 'SURVIVED'}  ({time.monotonic() - start:.0f} s)", flush=True)
    return failure is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutations whose name contains one of these words")
    parser.add_argument("--list", action="store_true", help="print the mutations and stop")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if not arguments.words or any(w in m.name for w in arguments.words)]
    if arguments.list:
        print("\n".join(f"{m.file}: {m.name}" for m in chosen))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder))
        complaint = checkout.build()
        if complaint is not None:
            raise SystemExit(f"the sound checkout does not build:\n{complaint}")
        every_test = " ".join(dict.fromkeys(name for m in chosen for name in m.tests.split()))
        failure = checkout.first_failure(every_test)
        if failure is not None:
            raise SystemExit(f"the sound checkout fails: {failure}")
        missed = []
        for i, mutation in enumerate(chosen, 1):
            print(f"[{i}/{len(chosen)}] {mutation.file}: {mutation.name}", flush=True)
            if not check(checkout, mutation):
                missed.append(mutation)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutations noticed")
    for mutation in missed:
        print(f"not noticed: {mutation.file}: {mutation.name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
