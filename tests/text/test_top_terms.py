"""Terms that move each part of a model most."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.text import coefficient_sds
from tests.support.texts import reviews

WORDS = [f"w{j}" for j in range(12)]


def table_of(seed=0, n=300):
    rng = np.random.default_rng(seed)
    x = sparse.random_array((n, 12), density=0.3, rng=rng, format="csr")
    z = rng.normal(size=(n, 3))
    signs = np.where(z[:, 0] + 0.3 * rng.normal(size=n) > 0, 1, -1)
    eta = signs * (x @ np.linspace(-6, 6, 12))
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    topic = np.array(["a", "b", "c"])[(y + (z[:, 1] > 0.5)).clip(0, 2)]
    return {"y": y, "topic": topic, "x": x} | {f"z[{j}]": z[:, j] for j in range(3)}


def binary(method="em", **settings):
    priors = {"p_coef": bm.Prior("Normal", mu=0, sigma=3)}
    spec = bm.mixture_of_experts("y ~ x", gate="~ z", family="bernoulli", priors=priors)
    settings = {"restarts": 2, "progressbar": False, **settings}
    return bm.fit(spec, table_of(), method, random_seed=1, **settings)


@pytest.fixture(scope="module")
def fit():
    return binary()


def test_terms_by_effect_with_standard_errors(fit):
    found = bm.text.top_terms(fit, 4, names={"x": WORDS}, prob=0.8)
    assert list(found.columns) == [
        "variable", "expert", "term", "mean", "sd", "lower", "upper", "effect",
    ]  # fmt: skip
    one = found[(found.variable == "p_coef") & (found.expert == 1)]
    coef = fit.idata.posterior["p_coef"].values[0, 0, 1, 1:]
    errors = fit.idata["standard_error"]["p_coef"].values[1, 1:]
    effect = coef * np.sqrt(np.asarray(table_of()["x"].toarray()).var(axis=0))
    best = np.argsort(-np.abs(effect))[:4]
    assert list(one.term) == [WORDS[j] for j in best]
    np.testing.assert_allclose(one["mean"], coef[best])
    np.testing.assert_allclose(one.sd, errors[best], rtol=1e-6)
    np.testing.assert_allclose(one.upper, coef[best] + norm.ppf(0.9) * errors[best], rtol=1e-6)
    np.testing.assert_allclose(one.effect, effect[best], rtol=1e-6)
    gate = found[found.variable == "gate_coef"]
    assert set(gate.term) == {"z[0]", "z[1]", "z[2]"}
    assert gate.term.iloc[0] == "z[0]"


def test_other_order_and_variables(fit):
    found = bm.text.top_terms(fit, 2, by="coefficient", variables="p_coef")
    assert set(found.variable) == {"p_coef"}
    assert len(found) == 4
    coef = fit.idata.posterior["p_coef"].values[0, 0, 0, 1:]
    assert found.term.iloc[0] == f"x[{np.abs(coef).argmax()}]"


def test_components_are_mapped_back_to_words(fit, monkeypatch):
    back = np.random.default_rng(2).normal(size=(12, 3))
    given = {"variables": "gate_coef", "components": {"z": (back, WORDS)}}
    found = bm.text.top_terms(fit, 12, **given)
    first = found[found.expert == 0].set_index("term").loc[WORDS]
    coef = fit.idata.posterior["gate_coef"].values[0, 0, 0, 1:]
    np.testing.assert_allclose(first["mean"], back @ coef)
    assert found.effect.isna().all()
    monkeypatch.setattr(coefficient_sds, "LARGEST_INFORMATION", 5)  # by systems of equations
    other = bm.text.top_terms(fit, 12, **given)
    np.testing.assert_allclose(other.sd, found.sd, rtol=1e-6)
    sparse_back = {"z": (sparse.csr_array(back), WORDS)}
    same = bm.text.top_terms(fit, 12, variables="gate_coef", components=sparse_back)
    np.testing.assert_allclose(same["mean"], other["mean"])


def test_text_terms_have_words():
    """Of sparse terms by their names, of components through those that the design has."""
    priors = {"p_coef": bm.Prior("Normal", mu=0, sigma=2)}
    formula, gate = "y ~ text(review)", "~ text(review, components=3)"
    spec = bm.mixture_of_experts(formula, gate=gate, family="bernoulli", priors=priors)
    fit = bm.fit(spec, reviews(), "em", random_seed=1, restarts=1, progressbar=False)
    found = bm.text.top_terms(fit, 4)
    vectors = fit.design.texts.vectors["text(review, components=3)"]
    one = found[(found.variable == "gate_coef") & (found.expert == 0)].iloc[0]
    coef = fit.idata.posterior["gate_coef"].values[0, 0, 0, 1:]
    expected = vectors.components.T @ coef
    assert one["mean"] == pytest.approx(expected[np.argmax(np.abs(expected))])
    assert one["term"] == vectors.terms[np.argmax(np.abs(expected))]
    assert set(found[found.variable == "p_coef"].term) <= {
        f"text(review)[{w}]" for w in vectors.terms
    }


def test_draws_have_their_own_intervals():
    spec = bm.mixture_of_experts("y ~ z", experts=1, family="bernoulli")
    settings = {"draws": 50, "chains": 2, "progressbar": False}
    fit = bm.fit(spec, table_of(), "laplace", random_seed=1, **settings)
    found = bm.text.top_terms(fit, 1)
    j = 1 + int(found.term.iloc[0][2:-1])
    draws = fit.idata.posterior["p_coef"].values.reshape(100, -1)[:, j]
    assert found.sd.iloc[0] == pytest.approx(draws.std())
    assert found.lower.iloc[0] == pytest.approx(np.quantile(draws, 0.05))


def test_terms_of_classes():
    table = table_of()
    spec = bm.mixture_of_experts("topic ~ x", gate="~ z", family="categorical")
    fit = bm.fit(spec, table, "em", random_seed=1, restarts=1, progressbar=False)
    found = bm.text.top_terms(fit, 2, variables="p_coef")
    assert len(found) == 12
    assert set(found["class"]) == {"a", "b", "c"}
    coef = fit.idata.posterior["p_coef"][0, 0]
    for expert, term, mean, label in found[["expert", "term", "mean", "class"]].to_numpy():
        expected = coef.sel({"class": label, "expert": expert, "p_term": term})
        assert mean == pytest.approx(float(expected))
    sd = fit.idata["standard_error"]["p_coef"].sel({"class": "b", "expert": 1, "p_term": "x[3]"})
    all_ = bm.text.top_terms(fit, 12, variables="p_coef")
    one = all_[(all_["class"] == "b") & (all_.expert == 1) & (all_.term == "x[3]")]
    assert one.sd.iloc[0] == pytest.approx(float(sd), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "`n`"),
        ({"prob": 1}, "`prob`"),
        ({"by": "size"}, "`by`"),
        ({"variables": "mu_coef"}, "mu_coef.*gate_coef.*p_coef"),
        ({"names": {"words": WORDS}}, "`names` names 'words'.*'x'"),
        ({"names": {"x": WORDS[:3]}}, r"3 names of 'x', which has a term 'x\[3\]'"),
        ({"components": {"z": (np.ones((12, 2)), WORDS)}}, r"\(12, 3\)"),
        ({"components": {"z": np.ones((12, 3))}}, "is a pair"),
    ],
)
def test_bad_input(fit, given, message):
    with pytest.raises(SpecError, match=message):
        bm.text.top_terms(fit, **given)


def test_a_model_without_features():
    spec = bm.mixture_of_experts("y ~ 1", experts=1, family="bernoulli")
    fit = bm.fit(spec, {"y": [0, 1, 1]}, "em", random_seed=0, progressbar=False)
    with pytest.raises(SpecError, match="this model has none"):
        bm.text.top_terms(fit)


@pytest.mark.slow
def test_intervals_of_top_terms_cover():
    """Coefficients of 2500 words from the prior: intervals of those chosen hold the true ones.

    Of much larger coefficients the mode is nearer zero than the mean: see docs/sentiment.md.
    """
    inside = total = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n, words = 3000, 2500
        x = sparse.random_array((n, words), density=0.01, rng=rng, format="csr")
        x.data[:] = 1.0
        beta = rng.normal(0, 0.25, words)
        y = (rng.random(n) < 1 / (1 + np.exp(-(x @ beta)))).astype(int)
        priors = {"p_coef": bm.Prior("Normal", mu=0, sigma=0.25)}
        spec = bm.mixture_of_experts("y ~ x", experts=1, family="bernoulli", priors=priors)
        fit = bm.fit(spec, {"y": y, "x": x}, "em", random_seed=0, progressbar=False)
        assert np.isnan(fit.idata["standard_error"]["p_coef"]).all()
        found = bm.text.top_terms(fit, 30, prob=0.9)
        true = beta[[int(term[2:-1]) for term in found.term]]
        inside += ((found.lower < true) & (true < found.upper)).sum()
        total += len(true)
    assert 0.86 < inside / total < 0.94


@pytest.mark.slow
def test_intervals_of_two_experts_cover():
    inside = total = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        n, words = 2500, 1050
        x = sparse.random_array((n, words), density=0.01, rng=rng, format="csr")
        x.data[:] = 1.0
        z, beta = rng.normal(size=n), rng.normal(0, 0.3, (2, words))
        mine = rng.random(n) < 1 / (1 + np.exp(-6 * z))
        eta = np.where(mine, 1.5 + x @ beta[1], -1.5 + x @ beta[0])
        table = {"y": rng.binomial(20, 1 / (1 + np.exp(-eta))), "x": x, "z": z}
        priors = {"p_coef": bm.Prior("Normal", mu=0, sigma=[3.0] + [0.3] * words)}
        family = bm.families.Binomial()
        spec = bm.mixture_of_experts(
            "y ~ x", gate="~ z", experts=2, family=family, priors=priors, trials=20
        )
        start = np.column_stack([~mine, mine]).astype(float)
        fit = bm.fit(spec, table, "em", random_seed=0, start=start, progressbar=False)
        found = bm.text.top_terms(fit, 30, variables="p_coef")
        at = [int(term[2:-1]) for term in found.term]
        true = beta[found.expert.to_numpy().astype(int), at]
        inside += ((found.lower < true) & (true < found.upper)).sum()
        total += len(true)
    assert 0.84 < inside / total < 0.95
