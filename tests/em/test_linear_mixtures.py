"""Quick mixtures of linear regressions against their formulas and against EM."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em import linear_mixtures
from bayes_moe.em.linear_mixtures import LinearMixtures
from bayes_moe.em.partitions import initial_partitions


def problem(experts=3, gate="~ x + z", n=200):
    rng = np.random.default_rng(3)
    x, z = rng.uniform(-2, 2, n), rng.normal(size=n)
    y = rng.normal(np.select([x < -0.5, x < 0.8], [2 * x + z, -x], 3 - z), 0.2)
    spec = bm.mixture_of_experts("y ~ x + z", gate=gate, experts=experts)
    return spec, spec.design(pd.DataFrame({"x": x, "z": z, "y": y})).rows


@pytest.mark.parametrize("experts", [2, 3, 5])
@pytest.mark.parametrize("gate", ["~ x + z", "~ 1"])
def test_responsibilities_and_densities_follow_their_formula(experts, gate):
    """In double precision, expert by expert, at parameters of a step."""
    spec, rows = problem(experts, gate)
    mixtures = LinearMixtures(spec, rows)
    shares = initial_partitions(spec, rows, 4, np.random.default_rng(0)).astype(np.float32)
    zero = np.zeros((4, experts - 1, mixtures.gate.columns.shape[1]))
    parameters = mixtures._step(shares, zero, mixtures._weights(zero)[0])
    got, density = mixtures._expectation(parameters, mixtures._weights(parameters.gate)[1])
    x, g, y = (
        a.astype(float)
        for a in (mixtures.experts.columns, mixtures.gate.columns, mixtures.response)
    )
    for m in range(4):
        scores = np.column_stack([*(g @ b for b in parameters.gate[m]), np.zeros(len(y))])
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        sd = np.sqrt(parameters.variance[m])
        joint = weights * np.exp(-0.5 * ((y[:, None] - x @ parameters.coef[m].T) / sd) ** 2) / sd
        np.testing.assert_allclose(density[m], np.log(joint.sum(axis=1)), atol=2e-3)
        np.testing.assert_allclose(got[m].T, joint / joint.sum(axis=1, keepdims=True), atol=2e-3)


def test_a_step_is_weighted_least_squares_and_newton(monkeypatch):
    """One expert at a time, and the gate's derivatives by finite differences."""
    spec, rows = problem()
    mixtures = LinearMixtures(spec, rows)
    shares = initial_partitions(spec, rows, 3, np.random.default_rng(0)).astype(np.float32)
    gate = np.random.default_rng(1).normal(0, 0.3, (3, 2, 3))
    monkeypatch.setattr(linear_mixtures, "LARGEST_STEP", np.inf)
    found = mixtures._step(shares, gate, mixtures._weights(gate)[0])
    x, g, y = (
        a.astype(float)
        for a in (mixtures.experts.columns, mixtures.gate.columns, mixtures.response)
    )

    def penalised(b, share):
        scores = np.column_stack([g @ b.reshape(2, 3).T, np.zeros(len(y))])
        log_weight = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return (share.T * log_weight).sum() - linear_mixtures.GATE_PRECISION / 2 * (b**2).sum()

    for m, share in enumerate(shares.astype(float)):
        for k in range(3):
            a = (x.T * share[k]) @ x + linear_mixtures.COEF_PRECISION * np.eye(3)
            coef = np.linalg.solve(a, (x.T * share[k]) @ y)
            np.testing.assert_allclose(found.coef[m, k], coef, atol=1e-4)
            square = (share[k] * (y - x @ coef) ** 2).sum() + 2 * linear_mixtures.PRIOR_VARIANCE
            np.testing.assert_allclose(
                found.variance[m, k], square / (share[k].sum() + 2), rtol=1e-2
            )
        b, e, h = gate[m].ravel(), np.eye(6), 1e-3
        slope = [(penalised(b + h * u, share) - penalised(b - h * u, share)) / (2 * h) for u in e]
        bend = [
            [
                (
                    penalised(b + h * (u + v), share)
                    - penalised(b + h * (u - v), share)
                    - penalised(b - h * (u - v), share)
                    + penalised(b - h * (u + v), share)
                )
                / (4 * h * h)
                for u in e
            ]
            for v in e
        ]
        step = np.linalg.solve(-np.array(bend), slope)
        np.testing.assert_allclose((found.gate - gate)[m].ravel(), step, rtol=1e-2, atol=1e-3)


def test_parts_that_are_fitted_together_change_little(monkeypatch):
    """Single precision is all that the number of mixtures in a product can change."""
    spec, rows = problem()
    mixtures = LinearMixtures(spec, rows)
    shares = initial_partitions(spec, rows, 6, np.random.default_rng(0))
    whole = mixtures.fitted(shares, 5)
    monkeypatch.setattr(linear_mixtures, "ELEMENTS", 1)
    np.testing.assert_allclose(mixtures.fitted(shares, 5).value, whole.value, rtol=1e-3)
    assert (whole.value > mixtures.fitted(shares, 0).value).all()


def test_the_best_partition_is_that_of_the_planes():
    spec, rows = problem()
    shares = initial_partitions(spec, rows, 30, np.random.default_rng(0))
    found = LinearMixtures(spec, rows).fitted(shares, 40)
    best = found.shares[found.value.argmax()].argmax(axis=0)
    x = rows.columns["x"].to_numpy()
    true = np.select([x < -0.5, x < 0.8], [0, 1], 2)
    common = np.array([[(best[true == k] == j).mean() for j in range(3)] for k in range(3)])
    assert common.max(axis=1).min() > 0.9
    assert sorted(common.argmax(axis=1)) == [0, 1, 2]
