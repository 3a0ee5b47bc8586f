"""Numbers that other projects published, kept in oracles/*.json with where they come from.

They were computed in float32 and printed to some digits, so a number agrees when it is within half a unit of
its tensor's last printed place, plus what the tolerance rule of parity.py grants float32 for that tensor.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parity import RUNS, cast

from fusedrnn import reference
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


def assert_printed(
    name: str, truth: Array, runs: list[Array], printed: Any, decimals: int | None = None
) -> None:
    """The reference in float64 and its runs in float32 against a printed tensor."""
    expected = array(printed, np.float64)
    assert truth.shape == expected.shape, f"{name}: shape {truth.shape}, published {expected.shape}"
    error = max(np.abs(run - truth).max() for run in runs)
    half = last_place(printed) if decimals is None else 0.5 * 10.0**-decimals
    allowed = half + 2 * error + 4 * EPS32 * np.abs(truth).max()
    off = np.nanmax(np.abs(truth - expected))  # NaN: left out, the file says why
    assert off <= allowed, f"{name}: off by {off:.2e}, allowed {allowed:.2e}\n{truth}\n{expected}"


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
    cell: str, x: Array, states: list[Array | None], weights: dict[str, Array], **options: Any
) -> dict[str, Array]:
    """y, hn and, of an LSTM, cn."""
    if cell == "LSTM":
        y, (hn, cn), _ = reference.lstm_forward(x, (states[0], states[1]), weights, **options)
        return {"y": y, "hn": hn, "cn": cn}
    forward = reference.gru_forward if cell == "GRU" else reference.rnn_forward
    y, hn, _ = forward(x, states[0], weights, **options)
    return {"y": y, "hn": hn}


def both(compute: Any) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """A computation in float64, and in float32 as the tolerance rule asks."""
    return compute(np.float64, NUMPY), [compute(np.float32, sequential(seed)) for seed in range(RUNS)]


@pytest.mark.parametrize(
    "case", cases("onnxruntime_lstm.json", "onnxruntime_gru.json", "onnxruntime_rnn.json")
)
def test_onnxruntime(case: dict[str, Any]) -> None:
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

    def compute(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        x, h, w = cast((array(case["X"]), states, weights), dtype)
        out = run_cell(cell, x, h, w, lengths=lengths, arithmetic=arithmetic)
        y = np.stack(np.split(out.pop("y"), len(directions), axis=2), axis=1)  # (T, D, B, H)
        return {
            "Y": y[:, picked],
            "Y_h": out["hn"][picked],
            **({"Y_c": out["cn"][picked]} if "cn" in out else {}),
        }

    truth, runs = both(compute)
    assert case.keys() & truth.keys()
    for name in case.keys() & truth.keys():
        assert_printed(name, truth[name], [r[name] for r in runs], case[name])


@pytest.mark.parametrize("case", cases("keras_layers.json"))
def test_keras_layers(case: dict[str, Any]) -> None:
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
        kept = np.zeros((B, max(map(len, case["steps"])), I), np.float32)
        for b, steps in enumerate(case["steps"]):
            kept[b, : len(steps)] = x[b, steps]
        x, lengths = kept, np.array([len(steps) for steps in case["steps"]])
    x = np.concatenate([x] * case.get("passes", 1), axis=1)
    state = np.tile(np.arange(B * H, dtype=np.float32).reshape(1, B, H), (len(directions), 1, 1))
    states = [state, state] if case.get("initial_state") else [None, None]

    def compute(dtype: Any, arithmetic: Arithmetic) -> dict[str, Array]:
        sequence, h, w = cast((x, states, weights), dtype)
        out = run_cell(cell, sequence, h, w, lengths=lengths, batch_first=True, arithmetic=arithmetic)
        return {"output": out["y"] if case.get("return_sequences") else out["hn"][-1]}

    truth, runs = both(compute)
    output = truth["output"]
    if case.get("return_sequences"):  # the published sequences are as long as the masked ones
        pad = ((0, 0), (0, T - output.shape[1]), (0, 0))
        output = np.pad(output, pad)
        runs = [{"output": np.pad(r["output"], pad)} for r in runs]
    assert_printed("output", output, [r["output"] for r in runs], case["output"])


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
    kernel, recurrent = weights["weight_ih_l0"], weights["weight_hh_l0"]
    assert np.allclose(kernel, kernel[:, :1], rtol=1e-6, atol=0)  # inputs are alike
    back = np.argsort(gates)
    return {"kernel": kernel[back, 0], "recurrent_kernel": recurrent[back, 0], "dense_kernel": dense[0]}


@pytest.mark.parametrize("case", cases("tfjs_bptt.json"))
def test_tfjs_bptt(case: dict[str, Any]) -> None:
    hard = {f: getattr(HARD_SIGMOID, f) for f in ("sigmoid", "sigmoid_grad")}
    truth = train_twice(case, np.float64, HARD_SIGMOID)
    runs = [train_twice(case, np.float32, sequential(seed)._replace(**hard)) for seed in range(RUNS)]
    for name, value in truth.items():
        assert_printed(name, value, [r[name] for r in runs], case[name])
    soft = train_twice(case, np.float64, NUMPY)  # and the policy matters, where there are gates
    assert (case["layer"] == "SimpleRNN") == np.array_equal(soft["kernel"], truth["kernel"])


# ---------------------------------------------------------------- optimizers and clipping
@pytest.mark.parametrize("case", cases("onnx_optimizers.json"))
def test_onnx_optimizers(case: dict[str, Any]) -> None:
    attributes = {k: float(v) for k, v in case["attributes"].items()}
    lr, decay = float(load("onnx_optimizers.json")["provenance"]["lr"]), attributes["norm_coefficient"]

    def compute(dtype: Any) -> dict[str, Array]:
        x, g, v, h = (array(case[k], np.float32).astype(dtype) if k in case else None for k in "XGVH")
        if case["operator"] == "Adam":
            reference.adam_(
                x, g, v, h, lr=lr, step=1, betas=(attributes["alpha"], attributes["beta"]),
                eps=attributes["epsilon"], weight_decay=decay, bias_correction=False,
            )  # fmt: skip
        elif case["operator"] == "Adagrad":
            reference.adagrad_(
                x, g, h, lr=lr, step=1, lr_decay=attributes["decay_factor"], weight_decay=decay,
                eps=attributes["epsilon"],
            )  # fmt: skip
        else:
            nesterov = case["operator"] == "Nesterov"
            reference.sgd_(
                x, g, v, lr=lr, momentum=attributes["alpha"], nesterov=nesterov, weight_decay=decay
            )  # fmt: skip
        results = {"X_new": x, "V_new": v, "H_new": h}
        return {k: a for k, a in results.items() if a is not None}

    truth, run = compute(np.float64), compute(np.float32)
    assert truth.keys() == case.keys() & {"X_new", "V_new", "H_new"}
    for name, value in truth.items():
        assert_printed(name, value, [run[name]], case[name])


@pytest.mark.parametrize("case", cases("keras_optimizers.json"))
def test_keras_optimizers(case: dict[str, Any]) -> None:
    decimals = load("keras_optimizers.json")["provenance"]["decimals"]
    options = {k: v if isinstance(v, bool) else float(v) for k, v in case["options"].items()}
    lr, eps = options.pop("lr"), options.pop("eps", 0.0)
    start = options.pop("initial_accumulator_value", 0.0)
    decay = options.get("weight_decay", 0.0)

    def compute(dtype: Any) -> list[Array]:
        p, path = array(case["start"], dtype), []
        first, second, third = np.full_like(p, start), np.zeros_like(p), np.zeros_like(p)
        for step, gradient in enumerate(case["gradients"], start=1):
            g = array(gradient, dtype)
            if case["rule"] in ("Adam", "AdamW"):
                before_correction = eps / (1 - 0.999**step) ** 0.5
                decoupled = case["rule"] == "AdamW"
                reference.adam_(
                    p, g, second, third, lr=lr, step=step, eps=before_correction, weight_decay=decay,
                    decoupled=decoupled,
                )  # fmt: skip
            elif case["rule"] == "RMSprop":
                grad_avg, alpha = third if options.get("centered") else None, options["alpha"]
                variance = alpha * second + (1 - alpha) * g * g
                if grad_avg is not None:
                    variance -= (alpha * third + (1 - alpha) * g) ** 2
                outside = np.mean(np.sqrt(variance + eps) - np.sqrt(variance))  # what eps under the root adds
                reference.rmsprop_(p, g, second, None, grad_avg, lr=lr, alpha=alpha, eps=outside)
            elif case["rule"] == "Adagrad":
                reference.adagrad_(p, g, first, lr=lr, step=step, eps=eps)
            else:
                reference.sgd_(p, g, lr=lr)
            path.append(p.copy())
        return path

    truth, run = compute(np.float64), compute(np.float32)
    assert len(truth) == len(case["parameters"])
    for step, (value, float32, printed) in enumerate(zip(truth, run, case["parameters"], strict=True)):
        assert_printed(f"step {step}", value, [float32], printed, decimals)


@pytest.mark.parametrize("case", cases("tensorflow_clip.json"))
def test_tensorflow_clip(case: dict[str, Any]) -> None:
    arrays, limit = [array(a, np.float64) for a in case["arrays"]], float(case["limit"])
    published = [array(a, np.float64) for a in case["clipped"]]
    if case["function"] == "value":
        reference.clip_by_value_(arrays, limit)
        rtol = 0.0
    else:
        with np.errstate(invalid="ignore"):
            norm = reference.clip_by_global_norm_(arrays, limit)
        if "norm" in case:
            assert norm == float(case["norm"])
        rtol = 1e-6 / norm if 0 < norm < np.inf else 0.0  # what the 1e-6 of max_norm / (norm + 1e-6) makes
    if "difference" in case:
        for ours, theirs, documented in zip(arrays, published, case["ours"], strict=True):
            assert not np.array_equal(ours, theirs, equal_nan=True)
            np.testing.assert_array_equal(ours, array(documented, np.float64))
        return
    for ours, theirs in zip(arrays, published, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol + 1e-15)
