"""EM of one or two experts without priors against statsmodels and others, family by family."""

import numpy as np
import pytest

import bayes_moe as bm
from tests.support.one_expert import CASES, MIXTURES, plain_cases, table_of

FAMILIES = ("normal", "studentt", "gamma", "poisson", "bernoulli", "binomial")
FAMILIES += ("skewnormal",)


def test_every_case_is_a_maximum_that_its_table_has():
    assert len({case["case"] for case in CASES}) == len(CASES)
    for case in CASES:
        assert len(table_of(case)), case["case"]
        assert np.isfinite(case["loglik"])


@pytest.mark.parametrize("case", plain_cases(FAMILIES), ids=lambda case: case["case"])
def test_one_expert_is_what_peers_found(case):
    table = table_of(case)
    known = {"trials": "trials"} if "trials" in table else {}
    formula = case["formula"]
    if case["family"] == "bernoulli":
        table = table.assign(limited=(table["limited"] == "yes").astype(int))
    spec = bm.mixture_of_experts(formula, experts=1, family=case["family"], **known)
    fit = bm.fit(spec, table, "em", objective="likelihood", random_seed=1)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(case["loglik"], abs=1e-5)
    posterior = fit.idata["posterior"].to_dataset().isel(chain=0, draw=0, expert=0)
    for name, theirs in case["params"].items():
        if name == "mean":  # follows from the others
            continue
        if isinstance(theirs, dict):
            ours = posterior[f"{name}_coef"].sel({f"{name}_term": list(theirs)}).values
            np.testing.assert_allclose(ours, list(theirs.values()), rtol=1e-5, atol=1e-8)
        else:
            assert float(posterior[name]) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    "case",
    [case for case in MIXTURES if case["family"] in FAMILIES],
    ids=lambda case: case["case"],
)
def test_two_experts_are_what_peers_found(case):
    table = table_of(case)
    known = {"trials": "trials"} if "trials" in table else {}
    spec = bm.mixture_of_experts(
        case["formula"], gate=case["gate"], experts=2, family=case["family"], **known
    )
    fit = bm.fit(spec, table, "em", objective="likelihood", random_seed=1)
    figures = bm.information(fit)
    assert figures["log_likelihood"] == pytest.approx(case["loglik"], abs=1e-4)
    assert figures["converged"]
    weights = np.sort(bm.predict(fit, table).weights().mean("obs_id").values)
    np.testing.assert_allclose(weights, np.sort(case["params"]["mean_weights"]), rtol=1e-3)
