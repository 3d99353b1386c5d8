"""Data from known parameters and from the prior."""

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm

SPEC = bm.mixture_of_experts("`my y` ~ x", gate="~ x", experts=2)
PARAMETERS = {
    "gate_coef": [[0.0, 1.0], [0.0, -1.0]],
    "mu_coef": [[5.0, 1.0], [-5.0, 0.0]],
    "sigma": [0.5, 0.1],
}


def test_experts_and_responses_follow_the_parameters():
    rows = pd.DataFrame({"x": np.tile([-1.0, 0.0, 1.0], 20_000)}, index=np.zeros(60_000, dtype=int))
    before = rows.copy()
    table = bm.simulate(SPEC, rows, PARAMETERS, random_seed=1, expert_column="who")
    pd.testing.assert_frame_equal(rows, before)
    for x in (-1.0, 0.0, 1.0):
        part = table[table["x"] == x]
        share = (part["who"] == 0).mean()
        assert share == pytest.approx(1 / (1 + np.exp(-2 * x)), abs=0.015)
        first, second = (part.loc[part["who"] == k, "my y"] for k in (0, 1))
        assert first.mean() == pytest.approx(5 + x, abs=0.05)
        assert second.mean() == pytest.approx(-5, abs=0.01)
        assert first.std() == pytest.approx(0.5, rel=0.05)
        assert second.std() == pytest.approx(0.1, rel=0.05)
    assert table.attrs["parameters"]["sigma"] == [0.5, 0.1]


def test_same_seed_same_table():
    rows = {"x": np.linspace(0, 1, 50)}
    a, b, c = (bm.simulate(SPEC, rows, PARAMETERS, random_seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(a, b)
    assert not a.equals(c)


def test_parameters_from_the_prior():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=40), "my y": rng.normal(size=40)})
    table = bm.simulate(SPEC, rows, random_seed=3)
    found = {name: np.shape(v) for name, v in table.attrs["parameters"].items()}
    assert found == {"gate_coef": (2, 2), "mu_coef": (2, 2), "sigma": (2,)}
    assert not np.array_equal(table["my y"], rows["my y"])
    np.testing.assert_allclose(np.sum(table.attrs["parameters"]["gate_coef"], axis=0), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": [1.0]}, r"'sigma' must have shape \(2,\)"),
        ({"sigmas": [1.0, 1.0]}, "Did you mean 'sigma'"),
        ({"sigma": None}, "lacks 'sigma'"),
    ],
)
def test_wrong_parameters_are_named(change, message):
    parameters = {k: v for k, v in (PARAMETERS | change).items() if v is not None}
    with pytest.raises(bm.SpecError, match=message):
        bm.simulate(SPEC, {"x": [0.0, 1.0, 2.0]}, parameters)


def test_default_priors_need_a_response():
    with pytest.raises(bm.DataError, match="give rows with a column"):
        bm.simulate(SPEC, {"x": [0.0, 1.0, 2.0]})
