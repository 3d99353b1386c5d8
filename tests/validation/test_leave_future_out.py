"""Leave-future-out scores beside exact ones: of a conjugate model, and of refits one by one."""

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayes_moe as bm

N, FIRST = 40, 25


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame({"t": np.arange(N), "y": 1.0 + rng.normal(size=N)})


def known_sigma() -> bm.MixtureOfExperts:
    """A normal mean with a normal prior, and a known standard deviation."""
    prior = bm.Prior("Normal", mu=0.0, sigma=2.0)
    return bm.mixture_of_experts(
        "y ~ 1",
        gate="~ 1",
        experts=1,
        time="t",
        priors={"mu_coef": prior},
        fixed={"sigma": 1.0},
    )


def conjugate(y: np.ndarray) -> np.ndarray:
    """Log densities of rows from ``FIRST`` on, each given those before."""
    found = []
    for t in range(FIRST, N):
        precision = t / 1.0 + 1 / 4.0
        mean = y[:t].sum() / precision
        found.append(stats.norm.logpdf(y[t], mean, np.sqrt(1 + 1 / precision)))
    return np.array(found)


def test_weighted_draws_find_the_conjugate_answer(data):
    found = bm.lfo(known_sigma(), data, first=FIRST, draws=4000, random_seed=1)
    np.testing.assert_allclose(found.table["log_score"], conjugate(data["y"].to_numpy()), atol=0.02)
    assert found.elpd == pytest.approx(conjugate(data["y"].to_numpy()).sum(), abs=0.1)
    assert found.n_fits == 1
    assert found.table["k"].isna().sum() == 1
    assert "1 fits" in repr(found)
    scores = found.table["log_score"]
    assert found.se == pytest.approx(np.sqrt(len(scores)) * scores.std())


def test_without_threshold_each_row_has_a_fit(data):
    spec = bm.mixture_of_experts("y ~ lag(y, 1)", gate="~ 1", experts=1, time="t")
    found = bm.lfo(spec, data, first=38, threshold=None, draws=500, random_seed=1)
    assert found.n_fits == 2
    for t in range(38, N):
        fit = bm.fit(spec, data.iloc[:t], "laplace", draws=1000, random_seed=t)
        density = bm.log_density(fit, data.iloc[[t]]).values.ravel()
        expected = special.logsumexp(density) - np.log(density.size)
        assert found.table["log_score"].loc[t] == pytest.approx(expected, abs=0.05)


def test_uneven_weights_make_a_refit(data):
    moved = data.assign(y=data["y"] + 3.0 * (data["t"] >= 30))
    few = bm.lfo(known_sigma(), moved, first=FIRST, draws=1000, random_seed=1)
    assert few.n_fits > 1
    assert few.table.loc[30, "k"] == pytest.approx(few.table.loc[30, "k"])
    exact = conjugate(moved["y"].to_numpy()).sum()
    assert few.elpd == pytest.approx(exact, abs=0.3)


def test_several_series_are_scored_at_the_same_time(data):
    both = pd.concat([data.assign(id="a"), data.assign(id="b", y=data["y"] + 1)], ignore_index=True)
    spec = bm.mixture_of_experts("y ~ 1", gate="~ 1", experts=1, time="t", series="id")
    found = bm.lfo(spec, both, first=38, draws=300, random_seed=1)
    assert found.table["moment"].tolist() == [0, 0, 1, 1]
    assert found.table["id"].tolist() == ["a", "b", "a", "b"]
    late = both.drop(index=range(40, 79))
    with pytest.raises(bm.DataError, match="Series 'b' begins at row 40"):
        bm.lfo(spec, late, first=38, random_seed=1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "em"}, "single mode"),
        ({"first": 0}, "first"),
        ({"first": N}, "first"),
        ({"threshold": -1.0}, "threshold"),
    ],
)
def test_wrong_arguments_are_named(data, settings, words):
    with pytest.raises(bm.SpecError, match=words):
        bm.lfo(known_sigma(), data, random_seed=1, **settings)
