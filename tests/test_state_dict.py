"""state_dict and load_state_dict: PyTorch's names, everything checked before anything is written."""

from __future__ import annotations

import numpy as np
import pytest

import fusedrnn as fr


def build(seed: int = 0) -> fr.nn.Sequential:
    return fr.nn.Sequential(
        fr.nn.Embedding(7, 4, seed=seed),
        fr.nn.LSTM(4, 3, seed=seed),
        fr.nn.LayerNorm(3),
        fr.nn.Linear(3, 2, seed=seed),
    )


def test_a_round_trip_keeps_every_bit() -> None:
    model, other = build(0), build(1)
    state = model.state_dict()
    assert list(state) == [name for name, _ in model.named_parameters()]
    result = other.load_state_dict(state)
    assert result == ([], [])
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert np.array_equal(a.data, b.data), name
    ids = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(model(ids), other(ids))


def test_a_state_dict_is_a_copy() -> None:
    model = build()
    state = model.state_dict()
    before = model[3].bias.data.copy()
    state["3.bias"][...] = 9
    assert np.array_equal(model[3].bias.data, before)
    model.load_state_dict(state)
    state["3.bias"][...] = 0
    assert np.all(model[3].bias.data == 9)


def test_misfits_are_listed_together_and_nothing_is_written() -> None:
    model = build()
    before = model.state_dict()
    versions = [p.version for p in model.parameters()]
    state = {name: array + 1 for name, array in before.items()}
    del state["1.bias_hh_l0"], state["3.weight"]
    state["4.weight"] = np.zeros(1, np.float32)
    state["2.weight"] = np.zeros(4, np.float32)
    state["3.bias"] = np.zeros(2)
    with pytest.raises(ValueError, match="state_dict does not fit this Sequential") as caught:
        model.load_state_dict(state)
    for part in (
        "missing: 1.bias_hh_l0, 3.weight",
        "unexpected: 4.weight",
        "2.weight must have shape (3,), it has (4,)",
        "3.bias must be float32, it is float64: use .astype(np.float32)",
    ):
        assert part in str(caught.value)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]), name
    assert [p.version for p in model.parameters()] == versions


def test_not_strict_passes_names_over_but_not_shapes() -> None:
    model = build()
    before = model.state_dict()
    result = model.load_state_dict({"3.bias": np.ones(2, np.float32), "head.bias": np.ones(2)}, strict=False)
    assert result.unexpected_keys == ["head.bias"]
    assert result.missing_keys == [name for name in before if name != "3.bias"]
    assert np.all(model[3].bias.data == 1)
    assert np.array_equal(model[3].weight.data, before["3.weight"])
    state = {"3.bias": np.zeros(2, np.float32), "3.weight": np.zeros((3, 2), np.float32)}
    with pytest.raises(ValueError, match=r"3.weight must have shape \(2, 3\), it has \(3, 2\)"):
        model.load_state_dict(state, strict=False)
    assert np.all(model[3].bias.data == 1)


def test_parameters_may_be_exchanged_through_views_of_each_other() -> None:
    model = fr.nn.Sequential(fr.nn.Linear(3, 3, bias=False, seed=0), fr.nn.Linear(3, 3, bias=False, seed=1))
    first, second = (layer.weight.data.copy() for layer in model)
    model.load_state_dict({"0.weight": model[1].weight.data, "1.weight": model[0].weight.data})
    assert np.array_equal(model[0].weight.data, second)
    assert np.array_equal(model[1].weight.data, first)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("exported", [False, True], ids=["tensors", "arrays"])
def test_pytorch_state_dicts_load_and_compute_the_same(kind: str, exported: bool) -> None:
    import torch

    options = {"num_layers": 2, "bidirectional": True}
    theirs = torch.nn.Sequential(
        torch.nn.Embedding(7, 4),
        getattr(torch.nn, kind)(4, 3, **options),
        torch.nn.LayerNorm(6),
        torch.nn.Linear(6, 2),
    ).double()
    ours = fr.nn.Sequential(
        fr.nn.Embedding(7, 4, dtype=np.float64),
        getattr(fr.nn, kind)(4, 3, **options, dtype=np.float64),
        fr.nn.LayerNorm(6, dtype=np.float64),
        fr.nn.Linear(6, 2, dtype=np.float64),
    )
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict({name: t.numpy() for name, t in state.items()} if exported else state)
    ids = np.arange(10).reshape(5, 2) % 7
    with torch.no_grad():
        y = theirs[3](theirs[2](theirs[1](theirs[0](torch.from_numpy(ids)))[0]))
    np.testing.assert_allclose(ours(ids), y.numpy(), rtol=1e-10, atol=1e-12)
    back = {name: torch.from_numpy(array) for name, array in ours.state_dict().items()}
    theirs.load_state_dict(back)
