"""ONNX graphs in and out, held to onnxruntime and to its published test vectors."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_models import B, H, I, T, assert_agrees, draw_input, forward, in_dtype, masked, outputs, zoo
from test_oracles import How, array, assert_printed, cases

import fusedrnn as fr
from fusedrnn.reference.arithmetic import Arithmetic

onnx: Any = pytest.importorskip("onnx", reason="onnx, of the extra io, is what these tests are about")
onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is what these tests compare with")
pytestmark = pytest.mark.peer
MODELS = list(zoo())
LENGTHS = np.array([T, 2, 0, 3])


def session(proto: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options)


def recurrent(model: fr.nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, fr.nn.Recurrent)]


def draw_states(model: fr.nn.Module, batch: int = B) -> list[Any]:
    """An initial state for each recurrent layer."""
    rng, states = np.random.default_rng(7), []
    for m in recurrent(model):
        shape = (m.num_layers * (2 if m.bidirectional else 1), batch, m.hidden_size)
        pair = [rng.normal(size=shape).astype(np.float32) for _ in range(2)]
        states.append(tuple(pair) if isinstance(m, fr.nn.LSTM) else pair[0])
    return states


def flat(states: list[Any]) -> list[Any]:
    return [array for s in states for array in (s if isinstance(s, tuple) else (s,))]


def run_ours(model: fr.nn.Module, x: Any, states: list[Any], lengths: Any = None) -> tuple[Any, list[Any]]:
    """y and the final states."""
    if isinstance(model, fr.nn.Sequential):
        return model(x, lengths=lengths, state=states, return_state=True)  # type: ignore[no-any-return]
    y, final = model(x, states[0], lengths=lengths)
    return y, [final]


@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("name", MODELS)
def test_out_and_back(name: str, batch_first: bool, tmp_path: Path) -> None:
    model = zoo(batch_first)[name]
    path = tmp_path / "model.onnx"
    proto = fr.io.to_onnx(model, path)
    onnx.checker.check_model(proto, full_check=True)
    x, states = draw_input(model), draw_states(model)
    running = session(onnx.load(path))
    theirs = running.run(
        None, dict(zip([i.name for i in running.get_inputs()], [x, *flat(states)], strict=True))
    )
    y, final = run_ours(model, x, states)
    assert len(theirs) == 1 + len(flat(final))
    assert_agrees(model, x, [y, *flat(final)], theirs, states=states)
    back = fr.io.from_onnx(path)
    assert isinstance(back, fr.nn.Sequential)
    assert not back.training
    assert (run_ours(back, x, states)[0] == y).all()
    kinds = [type(m) for m in model.modules() if not isinstance(m, (fr.nn.Sequential, fr.nn.Dropout))]
    assert [type(m) for m in back.modules() if not isinstance(m, fr.nn.Sequential)] == kinds
    assert [m.num_layers for m in recurrent(back)] == [m.num_layers for m in recurrent(model)]


def test_inputs_and_outputs_are_as_they_are_said_to_be() -> None:
    lstm = fr.io.to_onnx(zoo()["LSTM, 2 layers, both ways"], lengths=True).graph
    assert [i.name for i in lstm.input] == ["x", "h0", "c0", "lengths"]
    assert [o.name for o in lstm.output] == ["y", "hn", "cn"]
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*lstm.input, *lstm.output)
    }
    assert shapes["x"] == ["time", "batch", I]
    assert shapes["h0"] == shapes["cn"] == [4, "batch", H]
    assert shapes["y"] == ["time", "batch", 2 * H]
    two = fr.io.to_onnx(zoo()["forecaster"]).graph
    assert [i.name for i in two.input] == ["x", "h0_0", "c0_0", "h0_1", "c0_1"]
    assert [o.name for o in two.output] == ["y", "hn_0", "cn_0", "hn_1", "cn_1"]
    fixed = fr.io.to_onnx(zoo(True)["GRU, 2 layers"], states=False, batch=2, time=7).graph
    assert [i.name for i in fixed.input] == ["x"]
    assert [d.dim_value for d in fixed.input[0].type.tensor_type.shape.dim] == [2, 7, I]


@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("name", MODELS)
def test_lengths(name: str, batch_first: bool) -> None:
    model = zoo(batch_first)[name]
    proto = fr.io.to_onnx(model, lengths=True)
    onnx.checker.check_model(proto, full_check=True)
    x, states = draw_input(model), draw_states(model)
    running = session(proto)
    fed = dict(zip([i.name for i in running.get_inputs()], [x, *flat(states), LENGTHS], strict=True))
    theirs = running.run(None, fed)
    y, final = run_ours(model, x, states, LENGTHS)
    assert_agrees(model, x, [y, *flat(final)], theirs, lengths=LENGTHS, states=states)
    assert (run_ours(fr.io.from_onnx(proto), x, states, LENGTHS)[0] == y).all()


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (9, 2)])
def test_time_and_batch_are_dynamic(steps: int, batch: int) -> None:
    model = zoo()["LSTM, 2 layers, both ways"]
    running = session(fr.io.to_onnx(model))
    x = np.random.default_rng(0).normal(size=(steps, batch, I)).astype(np.float32)
    states = draw_states(model, batch)
    theirs = running.run(None, dict(zip(["x", "h0", "c0"], [x, *flat(states)], strict=True)))
    assert_agrees(model, x, theirs[0], states=states)


def test_float64_is_written_as_such() -> None:
    model = fr.nn.LSTM(I, H, dtype=np.float64, seed=0).eval()
    proto = fr.io.to_onnx(model)
    onnx.checker.check_model(proto, full_check=True)
    back = fr.io.from_onnx(proto)
    x = np.random.default_rng(0).normal(size=(T, B, I))
    assert (back(x) == model(x)[0]).all()


@pytest.mark.parametrize(
    "case", cases("onnxruntime_lstm.json", "onnxruntime_gru.json", "onnxruntime_rnn.json")
)
def test_published_vectors(case: dict[str, Any]) -> None:
    """onnxruntime's own test vectors, as graphs."""
    kind, direction = case["operator"], case["direction"]
    W, R = array(case["W"]), array(case["R"])
    constants = {"W": W, "R": R} | ({"B": array(case["B"])} if "B" in case else {})
    symbols = ("initial_h", "initial_c")[: 2 if kind == "LSTM" else 1]
    states = [s for s in symbols if s in case]
    lengths = "lengths" if "sequence_lens" in case else ""
    names = ["x", "W", "R", "B" if "B" in case else "", lengths]
    names += [s if s in case else "" for s in symbols]
    options: dict[str, Any] = {"hidden_size": R.shape[2], "direction": direction}
    if kind == "GRU":
        options["linear_before_reset"] = 1
    proto = graph(kind, names, constants, options, ["x", *states, *([lengths] if lengths else [])], x_rank=3)
    if direction == "reverse":
        with pytest.raises(fr.io.UnsupportedError, match="direction='reverse'"):
            fr.io.from_onnx(proto)
        return
    model = fr.io.from_onnx(proto)
    given = [array(case[s]) if s in case else None for s in symbols]
    state = [tuple(given) if kind == "LSTM" else given[0]]
    valid = np.array(case["sequence_lens"]) if lengths else None
    y, final = model(array(case["X"]), lengths=valid, state=state, return_state=True)

    def compute(how: How, arithmetic: Arithmetic) -> dict[str, Any]:
        x = in_dtype(array(case["X"]), how.dtype)
        finals: list[Any] = []
        right = forward(model, x, arithmetic, valid, iter(state), finals)
        found = dict(
            zip(("Y", "Y_h", "Y_c"), [y, *flat(final)] if how.kernels else [right, *finals], strict=False)
        )
        found["Y"] = np.stack(np.split(found["Y"], len(W), axis=2), axis=1)  # (T, D, B, H)
        return {name: a for name, a in found.items() if name in case}

    assert_printed(compute, How(True, np.float32), case)


def graph(
    kind: str,
    names: list[str],
    constants: dict[str, Any],
    options: dict[str, Any],
    inputs: list[str],
    *,
    x_rank: int = 3,
    after: Callable[[Any], list[Any]] | None = None,
) -> Any:
    """A graph of one recurrent operator, its directions joined."""
    helper = onnx.helper
    while not names[-1]:
        names = names[:-1]
    size = constants["R"].shape[0] * constants["R"].shape[2]
    nodes = [
        helper.make_node(kind, names, ["Y"], "cell", **options),
        helper.make_node("Transpose", ["Y"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "shape"], ["y"]),
    ]
    types = {"lengths": onnx.TensorProto.INT32}
    values = [
        helper.make_tensor_value_info(n, types.get(n, onnx.TensorProto.FLOAT),
                                      ["a", "b", "c"][:x_rank] if n == "x" else None)
        for n in inputs
    ]  # fmt: skip
    held = {**constants, "shape": np.array([0, 0, size], np.int64)}
    made = helper.make_graph(
        nodes, "one", values, [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(a, n) for n, a in held.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def plain(
    kind: str, more: list[str] | None = None, extra: dict[str, Any] | None = None, **options: Any
) -> Any:
    """A graph of one operator with an option that a test is about."""
    rng, rows = np.random.default_rng(0), GATES[kind] * H
    constants = {
        "W": rng.normal(size=(1, rows, I)).astype(np.float32),
        "R": rng.normal(size=(1, rows, H)).astype(np.float32),
    }
    if kind == "GRU":
        options = {"linear_before_reset": 1} | options
    return graph(kind, ["x", "W", "R", *(more or [])], constants | (extra or {}), options, ["x"])


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plain("GRU", linear_before_reset=0), "linear_before_reset=0, the reset before the product"),
        (lambda: plain("LSTM", clip=3.0), r"clip=3\.0 has no cell"),
        (lambda: plain("LSTM", input_forget=1), "input_forget=1"),
        (lambda: plain("LSTM", layout=1), "layout=1"),
        (lambda: plain("LSTM", direction="reverse"), "direction='reverse'"),
        (lambda: plain("RNN", activations=["Affine"]), r"activations \['affine'\]"),
        (lambda: plain("LSTM", activations=["HardSigmoid", "Tanh", "Tanh"]), "activations"),
        (lambda: plain("LSTM", ["", "", "h"], {"h": zeros(1, 2, H) + 1}), "constant other than zeros"),
        (
            lambda: plain("LSTM", ["", "n"], {"n": np.array([1, 2], np.int32)}),
            "sequence_lens 'n' must be an input",
        ),
        (lambda: fr.io.to_onnx(masked()["masked ids"]), "Masked has no equal in ONNX"),
    ],
)
def test_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(fr.io.UnsupportedError, match=message):
        fr.io.from_onnx(make())


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
def test_peepholes(options: dict[str, Any], lengths: Any) -> None:
    model = fr.nn.LSTM(I, H, peephole=True, seed=0, **options).eval()
    proto = fr.io.to_onnx(model, lengths=lengths is not None)
    onnx.checker.check_model(proto, full_check=True)
    x, states = draw_input(model), draw_states(model)
    fed = [x, *flat(states), *([] if lengths is None else [lengths])]
    running = session(proto)
    theirs = running.run(None, dict(zip([i.name for i in running.get_inputs()], fed, strict=True)))
    y, final = run_ours(model, x, states, lengths)
    for ours, right in zip([y, *flat(final)], theirs, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-6)
    assert (run_ours(fr.io.from_onnx(proto), x, states, lengths)[0] == y).all()
    alone = fr.io.from_onnx(fr.io.to_onnx(model, states=False))
    assert (run_ours(alone, x, [None] * len(recurrent(alone)))[0] == model(x)[0]).all()


def test_peepholes_of_another_size_are_refused() -> None:
    with pytest.raises(fr.io.FormatError, match=r"P must have shape \(1, 15\), it has \(1, 16\)"):
        fr.io.from_onnx(plain("LSTM", ["", "", "", "", "P"], {"P": zeros(1, 16)}))


def test_zero_states_of_constants_are_none() -> None:
    model = fr.io.from_onnx(plain("LSTM", ["", "", "h", "h"], {"h": zeros(1, 2, H)}))
    assert isinstance(model[0], fr.nn.LSTM)


def test_graphs_that_are_no_chain_are_refused() -> None:
    proto = fr.io.to_onnx(fr.nn.Sequential(fr.nn.Linear(I, I), fr.io.Activation("relu"), fr.nn.Linear(I, 2)))
    added = onnx.helper.make_node("Add", ["x", proto.graph.node[-1].input[0]], ["sum"])
    proto.graph.node[-1].input[0] = "sum"
    proto.graph.node.insert(len(proto.graph.node) - 1, added)
    with pytest.raises(fr.io.UnsupportedError, match="is read by 2 nodes on the way"):
        fr.io.from_onnx(proto)
    proto = fr.io.to_onnx(fr.nn.Linear(I, 2))
    proto.graph.node[0].op_type = "Conv"
    with pytest.raises(fr.io.UnsupportedError, match=r"node 'MatMul_0' \(Conv\) has no equal"):
        fr.io.from_onnx(proto)


@pytest.mark.parametrize(("kind", "other"), [("Sub", "Add"), ("Greater", "Less"), ("Sub", "ints_0")])
def test_other_uses_of_lengths_are_refused(kind: str, other: str) -> None:
    """Another operator, or another number, where to_onnx has this one."""
    proto = fr.io.to_onnx(zoo()["forecaster"], lengths=True)
    for item in proto.graph.node:
        if item.op_type == kind and other in ("Add", "Less"):
            item.op_type = other
        elif item.op_type == kind:
            item.input[1] = other
    with pytest.raises(fr.io.UnsupportedError, match=r"GatherND|Where|output 'hn_0'"):
        fr.io.from_onnx(proto)


def test_weights_in_other_files_are_not_followed(tmp_path: Path) -> None:
    proto = fr.io.to_onnx(fr.nn.Linear(40, 40))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0)
    with pytest.raises(fr.io.UnsupportedError, match="lies in another file"):
        fr.io.from_onnx(tmp_path / "m.onnx")


def test_constants_that_lie_about_their_size_are_refused() -> None:
    proto = fr.io.to_onnx(fr.nn.Linear(I, 2))
    proto.graph.initializer[0].dims[0] = 1 << 50
    with pytest.raises(fr.io.FormatError, match=r"holds 6 numbers for \(1125899906842624, 2\)"):
        fr.io.from_onnx(proto)


def test_lengths_that_no_layer_takes() -> None:
    with pytest.raises(ValueError, match="lengths must be False"):
        fr.io.to_onnx(fr.nn.Linear(I, 2), lengths=True)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("pick", ["y", "last", "state"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_from_torch_onnx_export(kind: str, pick: str, batch_first: bool) -> None:
    torch: Any = pytest.importorskip("torch", reason="torch writes the graphs of this test")

    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            both = pick == "y"
            self.cell = getattr(torch.nn, kind)(I, H, 2, batch_first=batch_first, bidirectional=both)
            self.head = torch.nn.Linear(H * (1 + both), 2)

        def forward(self, x: Any) -> Any:
            y, state = self.cell(x)
            if pick == "state":
                return self.head((state[0] if kind == "LSTM" else state)[-1])
            return self.head(y if pick == "y" else y[:, -1] if batch_first else y[-1])

    torch.manual_seed(0)
    net, file = Net().eval(), io.BytesIO()
    x = torch.randn(B, T, I)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        torch.onnx.export(
            net, (x,), file, dynamo=False, dynamic_axes={"x": {0: "p", 1: "q"}}, input_names=["x"]
        )
    model = fr.io.from_onnx(onnx.load_from_string(file.getvalue()))
    with torch.no_grad():
        assert_agrees(model, x.numpy(), outputs(model, x.numpy()), net(x).numpy())
