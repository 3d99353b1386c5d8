"""Objectives of rows that share an expert by group, or have a known one, against brute force."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.em import objective as module
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from tests.support.groups import NAMES, brute_force, group_table, grouped
from tests.support.linear_models import points

COLUMNS = {
    "groups": {"group": "g"},
    "labels": {"expert": "label"},
    "both": {"group": "g", "expert": "label"},
}


def setting(name, columns):
    spec = grouped(name, **columns)
    data = group_table(labels=spec.n_experts)
    return spec, data, spec.design(data)


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("name", NAMES)
def test_the_likelihood_is_a_sum_over_groups(name, columns):
    spec, data, design = setting(name, columns)
    vector = parameter_vector(spec, design, likelihood=True)
    theta = points(vector)
    values = vector.variables(theta)
    for j, value in enumerate(Objective(vector).value(theta)):
        own = {name: v[j] for name, v in values.items()}
        density, _ = brute_force(spec, own, design, data)
        assert value == pytest.approx(sum(density.values()), rel=1e-11)


def differences(function, theta, step):
    """Slopes (point, ..., coordinate) by differences of fourth order."""
    found = []
    for e in np.eye(theta.shape[1]) * step:
        near, far = (
            function(theta + e) - function(theta - e),
            function(theta + 2 * e) - function(theta - 2 * e),
        )
        found.append((8 * near - far) / (12 * step))
    return np.stack(found, axis=-1)


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_those_of_differences(name, columns):
    spec, _, design = setting(name, columns)
    vector = parameter_vector(spec, design)
    objective, theta = Objective(vector), points(vector, 2)
    found = objective.evaluate(theta, Curvature.OBSERVED)
    np.testing.assert_allclose(found.value, objective.value(theta), rtol=1e-12)
    scale = np.abs(found.gradient).max()
    slopes = differences(objective.value, theta, 1e-3)
    np.testing.assert_allclose(found.gradient, slopes, rtol=1e-6, atol=1e-6 * scale)

    def gradient(at):
        return objective.evaluate(at, Curvature.COMPLETE).gradient

    bend = -differences(gradient, theta, 1e-4)
    scale = np.abs(bend).max()
    np.testing.assert_allclose(found.curvature, bend, rtol=1e-6, atol=1e-7 * scale)
    complete = objective.evaluate(theta, Curvature.COMPLETE)
    for matrix in complete.curvature:
        assert np.linalg.eigvalsh(matrix).min() > -1e-8 * np.abs(matrix).max()


@pytest.mark.parametrize("name", ["normal-2", "binary tree"])
def test_chunks_never_cut_a_group(name, monkeypatch):
    spec, _, design = setting(name, COLUMNS["both"])
    vector = parameter_vector(spec, design)
    theta = points(vector)
    whole = Objective(vector).evaluate(theta, Curvature.OBSERVED)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1)
    parts = Objective(vector)
    assert len([*parts._slices(1, 1)]) > 2
    for field in ("value", "gradient", "curvature", "rows", "units"):
        found = getattr(parts.evaluate(theta, Curvature.OBSERVED), field)
        np.testing.assert_allclose(found, getattr(whole, field), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("columns", [{"group": "g"}, {"expert": "label"}])
def test_a_group_of_weight_w_counts_as_w_groups(columns):
    data = group_table(labels=2)
    weight = {g: 1 + j % 3 for j, g in enumerate(data["g"].unique())}
    data["w"] = [weight[g] for g in data["g"]]
    again = data.loc[data.index.repeat(data["w"])]
    copy = again.groupby(level=0).cumcount()
    again = again.assign(g=again["g"] + "-" + copy.astype(str)).reset_index(drop=True)
    one, other = grouped("normal-2", weights="w", **columns), grouped("normal-2", **columns)
    vector = parameter_vector(one, one.design(data))
    of_rows = parameter_vector(other, other.design(again))
    theta = points(vector)
    found = Objective(vector).evaluate(theta, Curvature.OBSERVED)
    expected = Objective(of_rows).evaluate(theta, Curvature.OBSERVED)
    for field in ("value", "gradient", "curvature", "rows", "units"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), rtol=1e-9, atol=1e-7
        )


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
def test_censored_rows_share_an_expert(columns):
    """A group's value is the product of densities and probabilities of its rows."""
    data = group_table(labels=2)
    data["status"] = np.where(np.arange(len(data)) % 3, "none", "right")
    spec = bm.mixture_of_experts("censored(normal, status) ~ x", experts=2, gate="~ z", **columns)
    design = spec.design(data)
    vector = parameter_vector(spec, design)
    objective, theta = Objective(vector), points(vector, 2)
    values = vector.variables(theta)
    mean = np.einsum("bkt,nt->bkn", values["mu_coef"], np.column_stack([np.ones(60), data["x"]]))
    of_gate = np.column_stack([np.ones(60), data["z"]])
    logits = np.einsum("bkt,nt->bkn", values["gate_coef"], of_gate)
    law = stats.norm(mean, values["sigma"][..., None])
    y, limit = data["normal"].to_numpy(), (data["status"] == "right").to_numpy()
    rows = np.where(limit, law.logsf(y), law.logpdf(y))
    known = data["label"].to_numpy() if "expert" in columns else np.full(60, np.nan)
    rows = np.where((known != np.arange(2)[:, None]) & ~np.isnan(known), -np.inf, rows)
    group = data["g"] if "group" in columns else pd.Series(range(60))
    weights = special.log_softmax(logits, axis=1)
    total = 0.0
    for of_group in group.groupby(group).indices.values():
        joint = weights[..., of_group[0]] + rows[..., of_group].sum(axis=-1)
        total = total + special.logsumexp(joint, axis=1)
    found = objective.value(theta) - vector.log_prior(theta)[0]
    np.testing.assert_allclose(found, total, rtol=1e-10)
