"""Recurrent cells are PyTorch's in value and gradient, and differences agree, by every compiler."""

import json
from pathlib import Path

import numpy as np
import pytest

from bayes_moe.data.sequences import Sequences
from bayes_moe.kernels.recurrent import GATES, slopes_of, states_of

TORCH = json.loads((Path(__file__).parents[1] / "data" / "recurrent.json").read_text())


def from_torch(cell, weights):
    """Weights (copy, ...) of the kernel from PyTorch's, or its gradients from these."""
    gates = GATES[cell]
    w, u, b, c = (
        np.array(weights[f"{n}_l0"]) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    units = len(b) // gates
    return w, u, b, c, units


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_states_and_gradients_are_those_of_pytorch(cell):
    case = TORCH[cell]
    w, u, b, c, units = from_torch(cell, case)
    gates = GATES[cell]
    apart = 2 * units if cell == "gru" else len(b)  # constants of the candidate are two
    level = b + np.where(np.arange(len(b)) < apart, c, 0.0)
    inputs = np.column_stack([level, w]).reshape(1, gates, units, -1)
    recurrent = u.reshape(1, gates, units, units)
    rest = (recurrent, c[None, apart:]) if cell == "gru" else (recurrent,)
    x = np.array(case["x"])
    z = np.column_stack([np.ones(len(x)), x])
    # Rows of the two series in turn: the order of the table need not be that of the series.
    code = np.repeat([0, 1], case["lengths"])
    mixed = np.argsort([*range(0, 2 * case["lengths"][0], 2), *range(1, 2 * case["lengths"][1], 2)])
    previous = positions_before(code[mixed])
    states, kept = states_of(cell, z[mixed], previous, inputs, *rest)
    np.testing.assert_allclose(states[0], np.array(case["states"])[mixed], rtol=1e-9, atol=1e-12)
    slopes = np.array(case["slopes"])[mixed][None]
    found = slopes_of(cell, (z[mixed], previous), recurrent, states, kept, slopes)
    gw, gu, gb, gc, _ = from_torch(cell, case["gradients"])
    by_inputs = found[0].reshape(gates * units, -1)
    np.testing.assert_allclose(by_inputs[:, 1:], gw, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(by_inputs[:, 0], gb, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[1].reshape(gu.shape), gu, rtol=1e-9, atol=1e-12)
    if cell == "gru":
        np.testing.assert_allclose(found[2][0], gc[apart:], rtol=1e-9, atol=1e-12)


def positions_before(code):
    sequences = Sequences.of(code, len(code))
    order = np.arange(len(code)) if sequences.order is None else sequences.order
    return np.array(
        [max((s for s in range(t) if code[s] == code[t]), default=-1) for t in range(len(order))]
    )


def drawn(cell, rng, copies=2, rows=30, terms=3, units=4):
    """Features, positions, weights and derivatives by the states, of two series."""
    gates = GATES[cell]
    z = np.column_stack([np.ones(rows), rng.normal(size=(rows, terms - 1))])
    previous = positions_before(np.arange(rows) % 7 // 4)
    weights = [rng.normal(size=(copies, gates, units, k)) for k in (terms, units)]
    weights += [rng.normal(size=(copies, units))] if cell == "gru" else []
    return z, previous, weights, rng.normal(size=(copies, rows, units))


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_gradients_are_differences(cell):
    rng = np.random.default_rng(1)
    z, previous, weights, slopes = drawn(cell, rng)
    states, kept = states_of(cell, z, previous, *weights)
    found = slopes_of(cell, (z, previous), weights[1], states, kept, slopes)
    for position, weight in enumerate(weights):
        for _ in range(5):
            step = rng.normal(size=weight.shape)
            ends = [
                (states_of(cell, z, previous, *moved)[0] * slopes).sum()
                for h in (1e-5, -1e-5)
                for moved in [[*weights[:position], weight + h * step, *weights[position + 1 :]]]
            ]
            expected = (ends[0] - ends[1]) / 2e-5
            assert (found[position] * step).sum() == pytest.approx(expected, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_large_sums_saturate(cell):
    z, previous, weights, slopes = drawn(cell, np.random.default_rng(2))
    weights = [1e4 * w for w in weights]
    states, kept = states_of(cell, z, previous, *weights)
    assert np.abs(states).max() <= 1.0
    found = slopes_of(cell, (z, previous), weights[1], states, kept, slopes)
    assert all(np.isfinite(f).all() for f in found)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_numba_and_numpy_compute_the_same_in_graphs(cell):
    import pytensor
    import pytensor.tensor as pt

    from bayes_moe.predictors.recurrent_op import States

    z, previous, weights, slopes = drawn(cell, np.random.default_rng(3), rows=11, units=2)
    inputs = [pt.tensor(dtype="float64", shape=(None,) * w.ndim) for w in weights]
    features = np.column_stack([z, previous])
    states = States(cell)(pt.as_tensor(features), *inputs)[0]
    outputs = [states, *pt.grad((states * slopes).sum(), inputs)]
    expected = states_of(cell, z, previous, *weights)
    expected = [expected[0], *slopes_of(cell, (z, previous), weights[1], *expected, slopes)]
    for mode in ("NUMBA", "FAST_COMPILE"):
        found = pytensor.function(inputs, outputs, mode=mode)(*weights)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
