"""Numbers that other projects published, kept in oracles/*.json with where they come from.

They were computed in float32 and printed to some digits, so a number agrees when it is within half a unit of
its tensor's last printed place, plus what the tolerance rule of parity.py grants float32 for that tensor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from parity import RUNS, cast

from fusedrnn import functional, reference
from fusedrnn.reference.arithmetic import HARD_SIGMOID, NUMPY, Arithmetic, sequential

Array = NDArray[Any]
ORACLES = Path(__file__).parent / "oracles"
FILES = sorted(p.name for p in ORACLES.glob("*.json"))
EPS32 = np.finfo(np.float32).eps


def load(name: str) -> dict[str, Any]:
    """An oracle file; its numbers with a fraction as Decimal, which remembers the digits printed."""
    content: dict[str, Any] = json.loads((ORACLES / name).read_text(), parse_float=Decimal)
    return content


def cases(*names: str) -> list[Any]:
    return [pytest.param(c, id=f"{n[:-5]}: {c['name']}") for n in names for c in load(n)["cases"]]


def array(values: Any, dtype: Any = np.float32) -> Array:
    return np.array(values, dtype=object).astype(dtype)


def last_place(values: Any) -> float:
    """Half a unit of the last place printed anywhere in a tensor."""
    decimals = [v for v in np.array(values, dtype=object).ravel() if isinstance(v, Decimal) and v.is_finite()]
    return 0.5 * 10.0 ** min((int(v.as_tuple().exponent) for v in decimals), default=0)


class How(NamedTuple):
    """Who computes, in which dtype."""

    kernels: bool
    dtype: Any

    @property
    def functions(self) -> Any:
        return functional if self.kernels else reference

    def options(self, arithmetic: Arithmetic) -> dict[str, Any]:
        """The keyword that only the reference has."""
        return {} if self.kernels else {"arithmetic": arithmetic}


HOW = pytest.mark.parametrize(
    "how",
    [How(False, np.float64), How(True, np.float64), How(True, np.float32)],
    ids=["reference", "kernels-float64", "kernels-float32"],
)


def assert_printed(
    compute: Callable[[How, Arithmetic], dict[str, Array]],
    how: How,
    printed: Mapping[str, Any],
    decimals: int | None = None,
) -> None:
    """Results against printed tensors, which were rounded in float32; so may ours have been."""
    truth = compute(How(False, np.float64), NUMPY)
    runs = [compute(How(False, np.float32), sequential(seed)) for seed in range(RUNS)]
    ours = compute(how, NUMPY)
    for name, right in truth.items():
        expected = array(printed[name], np.float64)
        assert ours[name].shape == expected.shape, f"{name}: {ours[name].shape}, published {expected.shape}"
        error = max(np.abs(run[name] - right).max() for run in runs)
        rounding = 2 * error + 4 * EPS32 * np.abs(right).max()
        half = last_place(printed[name]) if decimals is None else 0.5 * 10.0**-decimals
        allowed = half + rounding * (2 if how.dtype == np.float32 else 1)
        off = np.nanmax(np.abs(ours[name] - expected))  # NaN: left out, the file says why
        assert off <= allowed, f"{name}: off by {off:.2e}, allowed {allowed:.2e}\n{ours[name]}\n{expected}"


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_where_it_comes_from(name: str) -> None:
    content = load(name)
    provenance = content["provenance"]
    assert {"project", "file", "licence", "transcribed"} <= provenance.keys()
    assert "commit" in provenance or "version" in provenance
    assert content["cases"]
    assert len({c["name"] for c in content["cases"]}) == len(content["cases"])


# ---------------------------------------------------------------- recurrent layers, forward
ONNX_GATES = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}  # from i o f c, z r h
KERAS_GATES = {"LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2], "SimpleRNN": [0]}  # from i f c o, z r h


def reorder(a: Array, gates: list[int]) -> Array:
    """Gate blocks of the first axis in another order."""
    return np.concatenate([np.split(a, len(gates))[g] for g in gates])


def run_cell(
    how: How, cell: str, x: Array, states: list[Array | None], weights: dict[str, Array], **options: Any
) -> dict[str, Array]:
    """y, hn and, of an LSTM, cn."""
    if cell == "LSTM":
        y, (hn, cn), _ = how.functions.lstm_forward(x, (states[0], states[1]), weights, **options)
        return {"y": y, "hn": hn, "cn": cn}
    forward = how.functions.gru_forward if cell == "GRU" else how.functions.rnn_forward
    y, hn, _ = forward(x, states[0], weights, **options)
    return {"y": y, "hn": hn}


@HOW
@pytest.mark.parametrize(
    "case", cases("onnxruntime_lstm.json", "onnxruntime_gru.json", "onnxruntime_rnn.json")
)
def test_onnxruntime(case: dict[str, Any], how: How) -> None:
    cell, gates = case["operator"], ONNX_GATES[case["operator"]]
    # a lone reverse direction runs as the second of two
    directions = {"forward": [0], "bidirectional": [0, 1], "reverse": [0, 0]}[case["direction"]]
    picked = [1] if case["direction"] == "reverse" else directions
    weights = {}
    for d, suffix in zip(directions, ("l0", "l0_reverse"), strict=False):
        weights[f"weight_ih_{suffix}"] = reorder(array(case["W"][d]), gates)
        weights[f"weight_hh_{suffix}"] = reorder(array(case["R"][d]), gates)
        if "B" in case:
            for kind, bias in zip(("ih", "hh"), np.split(array(case["B"][d]), 2), strict=True):
                weights[f"bias_{kind}_{suffix}"] = reorder(bias, gates)
    states = [array(case[s])[directions] if s in case else None for s in ("initial_h", "initial_c")]
    lengths = np.array(case["sequence_lens"]) if "sequence_lens" in case else None

    def compute(how: How, arithmetic: Arithmetic) -> dict[str, Array]:
        x, h, w = cast((array(case["X"]), states, weights), how.dtype)
        out = run_cell(how, cell, x, h, w, lengths=lengths, **how.options(arithmetic))
        y = np.stack(np.split(out["y"], len(directions), axis=2), axis=1)  # (T, D, B, H)
        results = {"Y": y[:, picked], "Y_h": out["hn"][picked]}
        if "cn" in out:
            results["Y_c"] = out["cn"][picked]
        return {name: a for name, a in results.items() if name in case}

    assert_printed(compute, how, case)


@HOW
@pytest.mark.parametrize("case", cases("keras_layers.json"))
def test_keras_layers(case: dict[str, Any], how: How) -> None:
    cell, H = case["layer"], case["units"]
    (B, T, I), gates = case["sequence_shape"], KERAS_GATES[case["layer"]]
    provenance, rows = load("keras_layers.json")["provenance"], len(gates) * H
    directions = ("l0", "l0_reverse") if case.get("go_backwards") else ("l0",)
    weights = {}
    for suffix in directions:
        weights[f"weight_ih_{suffix}"] = np.full((rows, I), array(provenance["kernel"]))
        weights[f"weight_hh_{suffix}"] = np.full((rows, H), array(provenance["recurrent_kernel"]))
        if case["bias"] is not None:
            bias = reorder(np.repeat(array(case["bias"]), H), gates)
            weights[f"bias_ih_{suffix}"] = bias
            weights[f"bias_hh_{suffix}"] = bias if cell == "GRU" else np.zeros_like(bias)
    x = np.arange(B * T * I, dtype=np.float32).reshape(B, T, I)
    lengths = None
    if "steps" in case:
        kept = np.zeros((B, T, I), np.float32)
        for b, steps in enumerate(case["steps"]):
            kept[b, : len(steps)] = x[b, steps]
        x, lengths = kept, np.array([len(steps) for steps in case["steps"]])
    x = np.concatenate([x] * case.get("passes", 1), axis=1)
    state = np.tile(np.arange(B * H, dtype=np.float32).reshape(1, B, H), (len(directions), 1, 1))
    states = [state, state] if case.get("initial_state") else [None, None]

    def compute(how: How, arithmetic: Arithmetic) -> dict[str, Array]:
        sequence, h, w = cast((x, states, weights), how.dtype)
        options = {"lengths": lengths, "batch_first": True, **how.options(arithmetic)}
        out = run_cell(how, cell, sequence, h, w, **options)
        return {"output": out["y"] if case.get("return_sequences") else out["hn"][-1]}

    assert_printed(compute, how, case)


# ---------------------------------------------------------------- recurrent layers, backward
def train_twice(case: dict[str, Any], dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
    """Two steps of gradient descent of one recurrent and one dense unit on ones, as the case says."""
    gates = KERAS_GATES[case["layer"]]
    start = np.full((len(gates), 1), array(case["initial_weights"], dtype))
    weights = {"weight_ih_l0": np.tile(start, (1, 4)), "weight_hh_l0": start.copy()}
    dense = np.full((1, 1), array(case["dense"], dtype))
    x, target = np.ones((3, 5, 4), dtype), np.full((5, 1), array(case["target"], dtype))
    for _ in range(2):
        if case["layer"] == "LSTM":
            _, (h, _), tape = reference.lstm_forward(x, None, weights, arithmetic=arithmetic)
        elif case["layer"] == "GRU":
            _, h, tape = reference.gru_forward(x, None, weights, arithmetic=arithmetic)
        else:
            _, h, tape = reference.rnn_forward(x, None, weights, arithmetic=arithmetic)
        assert tape is not None
        _, dpred = reference.mse(reference.linear_forward(h[0], dense), target)
        dh, ddense, _ = reference.linear_backward(dpred, h[0], dense, bias=False)
        assert dh is not None
        if case["layer"] == "LSTM":
            _, _, dweights = reference.lstm_backward(tape, None, (dh[None], None))
        elif case["layer"] == "GRU":
            _, _, dweights = reference.gru_backward(tape, None, dh[None])
        else:
            _, _, dweights = reference.rnn_backward(tape, None, dh[None])
        for name, weight in weights.items():
            reference.sgd_(weight, dweights[name], lr=float(case["lr"]))
        reference.sgd_(dense, ddense, lr=float(case["lr"]))
    back = np.argsort(gates)
    kernel, recurrent = weights["weight_ih_l0"][back], weights["weight_hh_l0"][back]
    return {"kernel": kernel.mean(axis=1), "recurrent_kernel": recurrent[:, 0], "dense_kernel": dense[0]}


@pytest.mark.parametrize("case", cases("tfjs_bptt.json"))
def test_tfjs_bptt(case: dict[str, Any]) -> None:
    """Reference only: the kernels have no hard sigmoid."""

    def compute(how: How, arithmetic: Arithmetic) -> dict[str, Array]:
        hard = {f: getattr(HARD_SIGMOID, f) for f in ("sigmoid", "sigmoid_grad")}
        return train_twice(case, how.dtype, arithmetic._replace(**hard))

    assert_printed(compute, How(False, np.float64), case)
    soft, hard = (train_twice(case, np.float64, a)["kernel"] for a in (NUMPY, HARD_SIGMOID))
    assert (case["layer"] == "SimpleRNN") == np.array_equal(soft, hard)  # the policy matters where gates are


# ---------------------------------------------------------------- optimizers and clipping
@HOW
@pytest.mark.parametrize("case", cases("onnx_optimizers.json"))
def test_onnx_optimizers(case: dict[str, Any], how: How) -> None:
    attributes = {k: float(v) for k, v in case["attributes"].items()}
    common = {
        "lr": float(load("onnx_optimizers.json")["provenance"]["lr"]),
        "weight_decay": attributes["norm_coefficient"],
    }

    def compute(how: How, _: Arithmetic) -> dict[str, Array]:
        x, g, v, h = (array(case[k]).astype(how.dtype) if k in case else None for k in "XGVH")
        eps = attributes.get("epsilon")
        if case["operator"] == "Adam":
            betas = (attributes["alpha"], attributes["beta"])
            how.functions.adam_(x, g, v, h, step=1, betas=betas, eps=eps, bias_correction=False, **common)
        elif case["operator"] == "Adagrad":
            how.functions.adagrad_(x, g, h, step=1, lr_decay=attributes["decay_factor"], eps=eps, **common)
        else:
            nesterov = case["operator"] == "Nesterov"
            how.functions.sgd_(x, g, v, momentum=attributes["alpha"], nesterov=nesterov, **common)
        return {k: a for k, a in (("X_new", x), ("V_new", v), ("H_new", h)) if a is not None}

    assert compute(how, NUMPY).keys() == case.keys() & {"X_new", "V_new", "H_new"}
    assert_printed(compute, how, case)


@HOW
@pytest.mark.parametrize("case", cases("keras_optimizers.json"))
def test_keras_optimizers(case: dict[str, Any], how: How) -> None:
    """Keras adds eps in other places; what that comes to is worked out and handed over as eps."""
    decimals = load("keras_optimizers.json")["provenance"]["decimals"]
    options = {k: v if isinstance(v, bool) else float(v) for k, v in case["options"].items()}
    lr, eps, alpha = options["lr"], options.get("eps", 0.0), options.get("alpha", 0.0)
    decay, centered = options.get("weight_decay", 0.0), options.get("centered", False)

    def compute(how: How, _: Arithmetic) -> dict[str, Array]:
        p, path = array(case["start"], how.dtype), []
        sums = np.full_like(p, options.get("initial_accumulator_value", 0.0))
        first, second = np.zeros_like(p), np.zeros_like(p)
        for step, gradient in enumerate(case["gradients"], start=1):
            g = array(gradient, how.dtype)
            if case["rule"] in ("Adam", "AdamW"):
                before_correction = eps / (1 - 0.999**step) ** 0.5
                how.functions.adam_(
                    p, g, first, second, lr=lr, step=step, eps=before_correction, weight_decay=decay,
                    decoupled=case["rule"] == "AdamW",
                )  # fmt: skip
            elif case["rule"] == "RMSprop":
                variance = alpha * second + (1 - alpha) * g * g
                if centered:
                    variance = variance - (alpha * first + (1 - alpha) * g) ** 2
                under_root = float(np.mean(np.sqrt(variance + eps) - np.sqrt(variance)))
                grad_avg = first if centered else None
                how.functions.rmsprop_(p, g, second, None, grad_avg, lr=lr, alpha=alpha, eps=under_root)
            elif case["rule"] == "Adagrad":
                how.functions.adagrad_(p, g, sums, lr=lr, step=step, eps=eps)
            else:
                how.functions.sgd_(p, g, lr=lr)
            path.append(p.copy())
        return {"parameters": np.stack(path)}

    assert_printed(compute, how, case, decimals)


@HOW
@pytest.mark.parametrize("case", cases("tensorflow_clip.json"))
def test_tensorflow_clip(case: dict[str, Any], how: How) -> None:
    arrays, limit = [array(a, how.dtype) for a in case["arrays"]], float(case["limit"])
    published = [array(a, how.dtype) for a in case["clipped"]]
    rounding = np.finfo(how.dtype).eps
    if case["function"] == "value":
        how.functions.clip_by_value_(arrays, limit)
    else:
        with np.errstate(invalid="ignore"):
            norm = how.functions.clip_by_global_norm_(arrays, limit)
        if "norm" in case:
            assert norm == float(case["norm"])
        if 0 < norm < np.inf:
            rounding += 1e-6 / norm  # what the 1e-6 of max_norm / (norm + 1e-6) makes
    if "difference" in case:
        for ours, theirs, documented in zip(arrays, published, case["ours"], strict=True):
            assert not np.array_equal(ours, theirs, equal_nan=True)
            np.testing.assert_array_equal(ours, array(documented, how.dtype))
        return
    for ours, theirs in zip(arrays, published, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2 * rounding)
