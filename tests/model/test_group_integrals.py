"""Densities of groups with their effects integrated out, against brute force."""

import numpy as np
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.model.allocation import observed_log_density, observed_responsibilities
from bayes_moe.model.evaluation import evaluate
from tests.support.growth import growth_table, normal_joint, values_at_random

moe = bm.mixture_of_experts


def at(values, s):
    return {n: v[s] for n, v in values.items()}


@pytest.mark.parametrize("effects", ["1", "t"])
def test_a_group_of_normal_rows_has_a_multivariate_normal_mixture(effects):
    table = growth_table(5)
    spec = moe(f"y ~ t + ({effects} | id)", "~ a", 2, group="id")
    design, values = spec.design(table), values_at_random(spec, table, 100)
    mixture = evaluate(spec, values, design.rows)
    density = observed_log_density(mixture, design.rows)
    shares = observed_responsibilities(mixture, design.rows)
    for s in range(100):
        for _, rows in table.groupby("id"):
            coef = values["gate_coef"][s]
            weights = special.log_softmax(coef[:, 0] + coef[:, 1] * rows.a.iloc[0])
            joint = normal_joint(at(values, s), rows, weights)
            of_group = density[s, rows.index]
            assert of_group[0] == pytest.approx(special.logsumexp(joint), rel=1e-10)
            np.testing.assert_array_equal(of_group[1:], 0.0)
            for i in rows.index:
                np.testing.assert_allclose(shares[s, :, i], special.softmax(joint), atol=1e-10)


def test_groups_within_groups_are_integrated_out_together():
    table = growth_table(4)
    spec = moe("y ~ t + (1 | id/visit)", "~ 1", 2, group="id")
    design, values = spec.design(table), values_at_random(spec, table, 5)
    density = observed_log_density(evaluate(spec, values, design.rows), design.rows)
    for s in range(5):
        for _, rows in table.groupby("id"):
            x = np.column_stack([np.ones(len(rows)), rows.t])
            same = np.equal.outer(rows.visit.to_numpy(), rows.visit.to_numpy())
            joint = special.log_softmax(values["gate_coef"][s, :, 0])
            for k in (0, 1):
                own, inner = values["mu_id_sd"][s, k, 0], values["mu_id:visit_sd"][s, k, 0]
                covariance = (
                    own**2 + inner**2 * same + np.eye(len(rows)) * values["sigma"][s, k] ** 2
                )
                mean = x @ values["mu_coef"][s, k]
                joint[k] += stats.multivariate_normal(mean, covariance).logpdf(rows.y)
            found = density[s, rows.index[0]]
            assert found == pytest.approx(special.logsumexp(joint), rel=1e-10)


def test_other_families_are_near_quadrature():
    table = growth_table(6)
    spec = moe("c ~ t + (1 | id)", "~ 1", 2, family="poisson", group="id")
    design, values = spec.design(table), values_at_random(spec, table, 3)
    values["mu_coef"] *= 0.3
    values["mu_coef"][..., 0] += 1.0
    values["mu_id_sd"] = 0.5 * values["mu_id_sd"]
    density = observed_log_density(evaluate(spec, values, design.rows), design.rows)
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    for s in range(3):
        for _, rows in table.groupby("id"):
            joint = special.log_softmax(values["gate_coef"][s, :, 0])
            for k in (0, 1):
                coef, sd = values["mu_coef"][s, k], values["mu_id_sd"][s, k, 0]
                eta = (coef[0] + coef[1] * rows.t.to_numpy())[:, None] + sd * nodes
                logs = stats.poisson.logpmf(rows.c.to_numpy()[:, None], np.exp(eta)).sum(axis=0)
                joint[k] += special.logsumexp(logs, b=weights / np.sqrt(2 * np.pi))
            found = density[s, rows.index[0]]
            assert found == pytest.approx(special.logsumexp(joint), abs=0.02)


def test_a_known_expert_is_that_of_its_group():
    table = growth_table(6)
    label = table.fast.astype(float).where(table.index % 4 == 0)
    spec = moe("y ~ t + (1 | id)", "~ a", 2, group="id", expert="label")
    table["label"] = label
    design, values = spec.design(table), values_at_random(spec, table, 3)
    shares = observed_responsibilities(evaluate(spec, values, design.rows), design.rows)
    known = table.groupby("id").label.max()
    for name, k in known.dropna().items():
        rows = table.index[table.id == name]
        np.testing.assert_array_equal(shares[:, int(k), rows], 1.0)


def test_effects_of_experts_of_one_kind_only():
    table = growth_table(5)
    experts = [
        bm.Expert("y ~ t + (1 | id)", name="own"),
        bm.Expert("y ~ t", "studentt", name="same"),
    ]
    spec = bm.MixtureOfExperts(bm.gates.Softmax("~ 1"), experts, group="id")
    design, values = spec.design(table), values_at_random(spec, table, 2)
    mixture = evaluate(spec, values, design.rows)
    density = observed_log_density(mixture, design.rows)
    plain = mixture.log_components(design.rows.observed)
    for s in range(2):
        for _, rows in table.groupby("id"):
            own = {n.removeprefix("own_"): v[s] for n, v in values.items() if n.startswith("own_")}
            joint = special.log_softmax(values["gate_coef"][s, :, 0])
            joint[:1] = normal_joint(own, rows, joint[:1])
            joint[1] += plain[s, 1, rows.index].sum()
            found = density[s, rows.index[0]]
            assert found == pytest.approx(special.logsumexp(joint), rel=1e-10)
