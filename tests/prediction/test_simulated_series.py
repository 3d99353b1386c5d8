"""Series simulated row by row: closed forms, a loop by hand, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import solve

import bayes_moe as bm
from bayes_moe.prediction.predict import log_density
from tests.support.given_draws import fit_with
from tests.support.series import log_steady

SECOND = bm.mixture_of_experts("y ~ lag(y, 1) + lag(y, 2)", experts=1, time="t")
AR2 = {"mu_coef": [[0.5, 0.6, -0.3]], "sigma": [0.7]}
REGIMES = {
    "gate_coef": [[0.5], [-0.5], [-1.0], [1.0]],
    "mu_coef": [[0.0, 0.5], [3.0, 0.2]],
    "sigma": [1.0, 0.5],
}


def started(rows, *first, **columns):
    """A table whose first rows have responses."""
    y = np.full(rows, np.nan)
    y[: len(first)] = first
    return pd.DataFrame({"t": np.arange(rows), "y": y, **columns})


def test_without_noise_it_is_the_recursion():
    table = started(9, 3.0, -1.0)
    found = bm.simulate(SECOND, table, AR2 | {"sigma": [1e-12]}, random_seed=1)
    expected = [3.0, -1.0]
    for _ in range(7):
        expected.append(0.5 + 0.6 * expected[-1] - 0.3 * expected[-2])
    np.testing.assert_allclose(found["y"], expected, atol=1e-10)
    assert table["y"].isna().sum() == 7
    pd.testing.assert_frame_equal(
        bm.simulate(SECOND, table.assign(y=table["y"].fillna(9.0)), AR2, random_seed=1),
        bm.simulate(SECOND, table, AR2, random_seed=1),
    )


def test_a_second_order_autoregression_has_its_autocovariance():
    # Many short series at once, after their start is forgotten.
    many, last = 500, 20
    id = np.repeat(np.arange(many), last)
    table = pd.DataFrame({"t": np.tile(np.arange(last), many), "id": id, "y": np.nan})
    table.loc[table["t"] < 2, "y"] = 1.0
    spec = bm.mixture_of_experts("y ~ lag(y, 1) + lag(y, 2)", experts=1, time="t", series="id")
    found = bm.simulate(spec, table, AR2, random_seed=2)["y"].to_numpy().reshape(many, last)
    a, b = 0.6, -0.3  # Yule and Walker's equations
    gamma = solve([[1, -a, -b], [-a, 1 - b, 0], [-b, -a, 1]], [0.49, 0, 0])
    mean = 0.5 / (1 - a - b)
    end = found[:, -3:] - mean
    for k in range(3):
        products = end[:, -1] * end[:, -1 - k]
        assert products.mean() == pytest.approx(gamma[k], abs=4 * products.std() / np.sqrt(many))
    assert found[:, -1].mean() == pytest.approx(mean, abs=4 * np.sqrt(gamma[0] / many))


def test_regimes_are_those_of_a_loop_by_hand():
    gate = bm.gates.Markov("~ 1", sticky=0.5)
    spec = bm.mixture_of_experts("y ~ lag(y, 1)", experts=2, gate=gate, time="t", series="id")
    many, last = 800, 5
    id = np.repeat(np.arange(many), last)
    table = pd.DataFrame({"t": np.tile(np.arange(last), many), "id": id, "y": np.nan})
    table.loc[table["t"] == 0, "y"] = 1.0
    found = bm.simulate(spec, table, REGIMES, random_seed=3, expert_column="who")
    assert found["who"].isna().sum() == many  # of rows that are given
    rng = np.random.default_rng(4)
    logits = np.array(REGIMES["gate_coef"]).reshape(2, 2) + 0.5 * np.eye(2)
    moves = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    steady = np.exp(log_steady(np.log(moves)))
    y, state = np.ones((many, last)), np.zeros((many, last), dtype=int)
    for t in range(1, last):
        chance = np.full(many, steady[1]) if t == 1 else moves[state[:, t - 1], 1]
        state[:, t] = rng.random(many) < chance
        coef = np.array(REGIMES["mu_coef"])[state[:, t]]
        noise = np.array(REGIMES["sigma"])[state[:, t]] * rng.standard_normal(many)
        y[:, t] = coef[:, 0] + coef[:, 1] * y[:, t - 1] + noise
    ours = found["y"].to_numpy().reshape(many, last)
    who = found["who"].astype(float).to_numpy().reshape(many, last)
    for mine, theirs in (
        (ours[:, 1:], y[:, 1:]),
        (ours[:, 2:] * ours[:, 1:-1], y[:, 2:] * y[:, 1:-1]),
        (who[:, 1:], state[:, 1:]),
        (who[:, 2:] * who[:, 1:-1], state[:, 2:] * state[:, 1:-1]),
    ):
        error = np.sqrt((mine.var(axis=0) + theirs.var(axis=0)) / many)
        assert (np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) < 4.5 * error).all()


def test_series_of_different_lengths_are_in_their_rows():
    spec = bm.mixture_of_experts(
        "y ~ lag(y, 1) + I(lag(x, 1) * 2) + id", experts=1, time="t", series="id"
    )
    a, b = started(4, 1.0, id="a", x=1.0), started(7, 2.0, id="b", x=0.5)
    table = pd.concat([a, b]).sort_values(["t", "id"], kind="stable").reset_index(drop=True)
    coef = {"mu_coef": [[1.0, 5.0, 0.5, 1.0]], "sigma": [1e-12]}
    varied = table.assign(y=np.sin(table.index), x=np.cos(table.index))
    names = spec.design(varied).rows.matrices["mu"].terms
    found = bm.simulate(spec, table, coef, random_seed=1)
    by_name = dict(zip(names, coef["mu_coef"][0], strict=True))
    for name, x, other in (("a", 1.0, 0.0), ("b", 0.5, 1.0)):
        y = found.loc[found["id"] == name, "y"].to_numpy()
        level = by_name["Intercept"] + next(v for n, v in by_name.items() if "id" in n) * other
        slope = by_name["lag(y, 1)"]
        lagged = next(v for n, v in by_name.items() if "x" in n)
        np.testing.assert_allclose(y[1:], level + slope * y[:-1] + lagged * 2 * x, atol=1e-10)


def test_a_count_is_fitted_from_the_given_rows():
    spec = bm.mixture_of_experts("y ~ lag(log(y + 1), 1)", experts=1, family="poisson", time="t")
    draws = {"rate_coef": [[0.7, 0.5]]}
    name = next(iter(spec.variables))
    found = bm.simulate(spec, started(60, 3.0), {name: draws["rate_coef"]}, random_seed=1)
    assert found["y"].dtype == np.int64
    assert found["y"].iloc[0] == 3
    fit = fit_with(spec, found, **{name: [draws["rate_coef"]]})
    assert fit.design.rows.size == 59
    assert np.isfinite(log_density(fit)).all()


def test_two_responses_look_back_at_each_other():
    spec = bm.mixture_of_experts(
        "cbind(y, z) ~ lag(y, 1) + lag(z, 1)", experts=1, family="mvnormal", time="t"
    )
    table = started(6, 1.0, z=[2.0] + [np.nan] * 5)
    coef = {"mu_y_coef": [[0.0, 0.5, 1.0]], "mu_z_coef": [[1.0, 0.0, -0.5]]}
    others = {"rho_y_z": [0.0], "sigma_y": [1e-9], "sigma_z": [1e-9]}
    found = bm.simulate(spec, table, coef | others, random_seed=1)
    y, z = found["y"].to_numpy(), found["z"].to_numpy()
    np.testing.assert_allclose(y[1:], 0.5 * y[:-1] + z[:-1], atol=1e-6)
    np.testing.assert_allclose(z[1:], 1.0 - 0.5 * z[:-1], atol=1e-6)


def test_what_cannot_be_simulated_is_named():
    with pytest.raises(
        bm.DataError, match=r"'y' in the 1 row\(s\) before row 2.*row\(s\) 1\. Give"
    ):
        bm.simulate(SECOND, started(9, 3.0), AR2)
    with pytest.raises(bm.DataError, match="give the table a column 'y'"):
        bm.simulate(SECOND, {"t": [0, 1, 2, 3]}, AR2)
    curved = bm.mixture_of_experts("y ~ bs(lag(y, 1), df=4)", experts=1, time="t")
    coef = {"mu_coef": [[0.5, 0.1, 0.2, 0.3, 0.4]], "sigma": [0.5]}
    with pytest.raises(bm.SpecError, match=r"depend on all responses that 'lag\(y, 1\)' reads"):
        bm.simulate(curved, started(40, 3.0), coef)
    reference = started(40).assign(y=np.sin(np.arange(40.0)))
    knots = "y ~ bs(lag(y, 1), df=4, extrapolation='clip')"
    within = bm.mixture_of_experts(knots, experts=1, time="t")
    assert bm.simulate(within, reference, coef, random_seed=1)["y"].notna().all()
    grouped = bm.mixture_of_experts(
        "y ~ lag(y, 1)", experts=2, time="t", series="id", group="id", gate="~ 1"
    )
    values = {"gate_coef": [[0.0], [0.0]], "mu_coef": REGIMES["mu_coef"], "sigma": [1, 1]}
    with pytest.raises(bm.SpecError, match="rows share an expert by 'id'"):
        bm.simulate(grouped, started(9, 3.0, id="a"), values)
    memory = bm.mixture_of_experts(
        "y ~ lag(y, 1)", experts=2, gate=bm.gates.Recurrent("~ t", units=2), time="t"
    )
    reference = started(30).assign(y=np.sin(np.arange(30.0)))
    with pytest.raises(bm.SpecError, match="remembers all rows before"):
        bm.simulate(memory, reference, random_seed=1)


def test_parameters_from_the_prior_make_series():
    reference = started(40).assign(y=np.sin(np.arange(40.0)))
    found = bm.simulate(SECOND, reference, random_seed=1)
    np.testing.assert_array_equal(found["y"][:2], reference["y"][:2])
    assert not np.array_equal(found["y"][2:], reference["y"][2:])
