"""The Gaussian gate: a joint normal mixture of features and response, by an EM without steps."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

import bayes_moe as bm
from bayes_moe.em.m_step import sweep_step
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.partitions import initial_partitions
from bayes_moe.em.starting_points import initial_points
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Gaussian


def table(n=600, seed=3):
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 3, n)
    root = np.array([[1, 0.5], [0, 0.8]])
    x = np.array([[0, 0], [3, 1], [-1, 4]])[z] + rng.standard_normal((n, 2)) @ root
    y = np.array([1.0, -1, 2])[z] * x[:, 0] + np.array([0.0, 2, -2])[z] * x[:, 1]
    y += np.array([0.3, 0.5, 1.0])[z] * rng.standard_normal(n)
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y})


@pytest.fixture(scope="module")
def spec():
    return bm.mixture_of_experts("y ~ a + b", gate=Gaussian("~ a + b"), experts=3)


@pytest.fixture(scope="module")
def fit(spec):
    return bm.fit(spec, table(), "em", objective="likelihood", random_seed=1)


@pytest.fixture(scope="module")
def joint():
    """An independent mixture of normal distributions of features and response."""
    model = GaussianMixture(3, tol=1e-14, max_iter=100_000, reg_covar=0, n_init=3, random_state=0)
    return model.fit(table().to_numpy())


def regression(joint, x):
    """Weights (obs, expert), means and variances of the response given features."""
    logs, means, variances = [], [], []
    for weight, mean, cov in zip(joint.weights_, joint.means_, joint.covariances_, strict=True):
        logs.append(np.log(weight) + stats.multivariate_normal(mean[:2], cov[:2, :2]).logpdf(x))
        slope = np.linalg.solve(cov[:2, :2], cov[:2, 2])
        means.append(mean[2] + (x - mean[:2]) @ slope)
        variances.append(cov[2, 2] - cov[:2, 2] @ slope)
    logs = np.array(logs).T
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True), np.array(means).T, np.array(variances)


def test_the_model_is_a_joint_normal_mixture_regression(fit, joint):
    n = len(table())
    log_likelihood = float(fit.idata["fit"]["log_likelihood"])
    assert log_likelihood == pytest.approx(n * joint.score(table().to_numpy()), abs=1e-6)
    new = table(50, seed=8)
    weights, means, variances = regression(joint, new[["a", "b"]].to_numpy())
    mean = (weights * means).sum(axis=1)
    np.testing.assert_allclose(bm.predict(fit, new).mean(), mean, atol=1e-6)
    second = (weights * (variances + means**2)).sum(axis=1)
    np.testing.assert_allclose(bm.predict(fit, new).sd() ** 2, second - mean**2, atol=1e-5)


def test_means_and_covariances_of_the_gate_are_reported(fit, joint):
    found = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0)
    order = [
        int(np.abs(joint.means_[:, :2] - m).sum(axis=1).argmin()) for m in found["gate_mean"].values
    ]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(found["gate_weight"], joint.weights_[order], atol=1e-6)
    np.testing.assert_allclose(found["gate_mean"], joint.means_[order, :2], atol=1e-6)
    np.testing.assert_allclose(found["gate_cov"], joint.covariances_[order, :2, :2], atol=1e-5)
    assert found["gate_mean"].dims == ("expert", "gate_feature")
    assert found["gate_feature"].values.tolist() == ["a", "b"]


@pytest.mark.parametrize("likelihood", [False, True])
def test_sweeps_rise_with_full_steps(spec, likelihood):
    """No step of EM needs to be shortened, and no curvature is asked."""
    design = spec.design(table())
    objective = Objective(parameter_vector(spec, design, likelihood=likelihood))
    split = initial_partitions(spec, design.rows, 6, np.random.default_rng(0))
    theta = initial_points(objective, split)
    value = objective.value(theta)
    for _ in range(60):
        found = objective.evaluate(theta, Curvature.COMPLETE)
        theta = theta + sweep_step(objective, theta, found)
        risen = objective.value(theta)
        assert (risen >= value - 1e-9 * np.abs(value)).all()
        value = risen


def test_a_constant_softmax_has_its_optimum_in_a_sweep():
    spec = bm.mixture_of_experts("y ~ a", gate="~ 1", experts=3)
    design = spec.design(table())
    for likelihood in (False, True):
        objective = Objective(parameter_vector(spec, design, likelihood=likelihood))
        split = initial_partitions(spec, design.rows, 2, np.random.default_rng(0))
        theta = initial_points(objective, split, 1)
        gate = objective.vector.blocks[0].where
        again = objective.evaluate(theta, Curvature.COMPLETE, split)
        np.testing.assert_allclose(again.gradient[:, gate], 0, atol=1e-7)


def test_diagonal_covariances_are_normal_densities_side_by_side():
    spec = bm.mixture_of_experts("y ~ a", gate=Gaussian("~ a + b", covariance="diag"), experts=2)
    fit = bm.fit(spec, table(), "em", random_seed=1)
    cov = fit.idata["posterior"]["gate_cov"].values[0, 0]
    np.testing.assert_array_equal(cov[:, 0, 1], 0)
    np.testing.assert_allclose(cov[:, 0, 0], fit.idata["posterior"]["gate_a_sigma"][0, 0] ** 2)


@pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")
def test_derived_quantities_follow_relabelling(spec):
    fit = bm.fit(
        spec,
        table(200),
        random_seed=1,
        draws=50,
        tune=200,
        chains=2,
        progressbar=False,
        relabel="none",
    )
    aligned = bm.relabel(fit)
    for one in (fit, aligned):
        posterior = one.idata["posterior"].to_dataset()
        flat = {
            n: posterior[n].values.reshape(-1, *posterior[n].shape[2:]) for n in one.spec.variables
        }
        for name, expected in one.spec.gate.structure(3).features.derived(flat).items():
            shape = posterior[name].shape
            np.testing.assert_allclose(posterior[name], expected.reshape(shape), atol=1e-12)


def test_bad_gaussian_gates():
    with pytest.raises(bm.SpecError, match="needs a formula"):
        Gaussian(None)
    with pytest.raises(bm.SpecError, match="covariance"):
        Gaussian("~ a", covariance="round")
    with pytest.raises(bm.SpecError, match="has none"):
        Gaussian("~ 1")
    data = table(50).assign(g=["u", "v"] * 25, c=1.0)
    with pytest.raises(bm.DataError, match="columns of numbers"):
        bm.mixture_of_experts("y ~ a", gate=Gaussian("~ a + g"), experts=2).design(data)
    with pytest.raises(bm.DataError, match=r"same in every row|constant"):
        bm.mixture_of_experts("y ~ a", gate=Gaussian("~ c"), experts=2).design(data)
