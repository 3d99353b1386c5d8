"""Zero inflation and hurdles: closed forms, derivatives, kernels, draws, and what peers found."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC, symbolic
from bayes_moe.core.errors import DataError, SpecError
from tests.support import contracts, examples
from tests.support.one_expert import CASES, table_of

PEERS = [case for case in CASES if case["family"].split()[0] in ("zeroinflated", "hurdle")]
ETAS = np.array([-7.0, -1.3, 0.0, 2.0, 6.0])[:, None]
LOG_ODDS = np.array([-30.0, -2.0, 0.0, 1.0, 30.0])[:, None, None]
SECOND = np.array([0.3, 1.0, 40.0])[:, None, None, None]
COUNTS = np.array([0.0, 1.0, 2.0, 7.0, 30.0])
TRIALS = np.array([3.0, 3.0, 2.0, 9.0, 40.0])


@pytest.fixture(params=examples.FAMILIES_WITH_ZEROS)
def family(request):
    return families.by_name(request.param)


def grid(family):
    """Responses, parameters and predictors over a wide range."""
    inner = family.family
    etas = [*[ETAS, SECOND][: len(inner.parameters)], LOG_ODDS]
    etas = [np.log(e) if e is SECOND else e for e in etas]
    known = {k: TRIALS for k in inner.known_counts}
    y = COUNTS if family.discrete else np.array([0.0, 1e-6, 0.2, 0.9, 0.999])
    return y, etas, known


def definition(family, y, params):
    """Log density by SciPy's distribution of the inner family."""
    own = {k: v for k, v in params.items() if k != "psi"}
    law = examples.FAMILIES[family.family.kind].law(**own)
    log_psi, log_extra = -np.logaddexp(0, -LOG_ODDS), -np.logaddexp(0, LOG_ODDS)
    if not family.discrete:
        return np.where(y > 0, log_psi + law.logpdf(np.where(y > 0, y, 0.5)), log_extra)
    if family.kind == "zeroinflated":
        inner = log_psi + law.logpmf(y)
        return np.where(y > 0, inner, np.logaddexp(log_extra, inner))
    return np.where(y > 0, log_psi + law.logpmf(y) - np.log(law.sf(0)), log_extra)


def test_log_density_is_the_definition(family):
    y, etas, known = grid(family)
    params = family.named(etas, known, NUMERIC)
    with np.errstate(all="ignore"):
        expected = definition(family, y, params)
        found = family.log_density_at(family.data(y, known, NUMERIC), etas, NUMERIC)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    tensor = family.log_density_at(family.data(y, known, symbolic()), etas, symbolic())
    np.testing.assert_allclose(tensor.eval(mode="FAST_COMPILE"), found, rtol=1e-9, atol=1e-12)
    outside = family.data(np.full(1, -1.0), {k: np.ones(1) for k in known}, NUMERIC)
    with np.errstate(all="ignore"):
        assert (family.log_density_at(outside, etas, NUMERIC) == -np.inf).all()
        assert all(np.isfinite(s).all() for s in family.derivatives_at(outside, etas).score)


def test_far_probabilities_keep_their_digits():
    """Predictors of ``psi`` beyond those whose probabilities are one as a double."""
    for name in ("zero_inflated_poisson", "hurdle_poisson"):
        family = families.by_name(name)
        data = family.data(np.array([0.0, 3.0]), {}, NUMERIC)
        far = [np.full((1, 1), 5.0), np.full((1, 1), 80.0)]
        at_zero = family.log_density_at(data, far, NUMERIC)[0, 0]
        extra = -80.0 if family.kind == "hurdle" else np.logaddexp(-80.0, -np.exp(5.0))
        assert at_zero == pytest.approx(extra, rel=1e-12)
    far[0][:] = -300.0  # a rate whose square underflows: all positive counts are one
    at_three = family.log_density_at(data, far, NUMERIC)[0, 1]
    assert at_three == pytest.approx(-600.0 - np.log(6.0), rel=1e-9)


APART = (
    contracts.log_density_is_pymcs,
    contracts.cdf_mean_and_variance_are_integrals_of_the_density,
    contracts.guesses_are_finite_and_grow_with_the_response,
)
SHARED = [check for check in contracts.FAMILY if check not in APART]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # both branches of a choice are evaluated
@pytest.mark.parametrize("check", SHARED, ids=lambda check: check.__name__)
def test_a_family_holds_the_contract(family, check):
    check(family)


def test_cdf_and_moments_are_sums_of_the_density(family):
    params = contracts.random_params(family, np.random.default_rng(1), ())
    if family.discrete:
        contracts.log_density_is_pymcs(family)
        contracts.guesses_are_finite_and_grow_with_the_response(family)
        contracts.cdf_mean_and_variance_are_integrals_of_the_density(family)
        y = np.arange(-1.0, 30.0)
        np.testing.assert_allclose(family.sf(y, params), 1 - family.cdf(y, params), atol=1e-12)
        return

    def integral(f, high=family.upper):
        ends = [0.0, *(e for e in (0.1, 1.0, 10.0) if e < high), high]
        parts = [integrate.quad(f, *ab, limit=200)[0] for ab in pairwise(ends)]
        return sum(parts)

    def density(y):
        return float(np.squeeze(np.exp(family.log_density(np.array([y]), params, NUMERIC))))

    zero = density(0.0)
    assert zero + integral(density) == pytest.approx(1, abs=1e-8)
    for y in (0.05, 0.7):
        level = zero + integral(density, y)
        assert family.cdf(y, params) == pytest.approx(level, abs=1e-8)
        assert family.sf(y, params) == pytest.approx(1 - level, abs=1e-8)
    assert family.cdf(-1e-9, params) == 0
    assert family.sf(-1e-9, params) == 1
    assert family.cdf(0.0, params) == pytest.approx(zero)
    mean = integral(lambda y: y * density(y))
    assert family.mean(params) == pytest.approx(mean, rel=1e-6)
    if np.isfinite(family.variance(params)):
        square = integral(lambda y: y * y * density(y))
        assert family.variance(params) == pytest.approx(square - mean**2, rel=1e-4)


def test_draws_of_counts_have_their_probabilities(family):
    if not family.discrete:
        return
    rng = np.random.default_rng(3)
    params = contracts.random_params(family, rng, ())
    params |= {family.parameters[0].name: np.array(-1.5)}  # many zeros of the inner family
    drawn = family.random(params, rng, (20_000,)).astype(int)
    most = 1 + int(np.quantile(drawn, 0.999))
    expected = np.exp(family.log_density(np.arange(float(most)), params, NUMERIC))
    expected = np.append(expected, 1 - expected.sum())
    counts = np.bincount(np.minimum(drawn, most), minlength=most + 1)
    kept = expected > 1e-4
    rest = [counts[~kept].sum()], [expected[~kept].sum()]
    counts, expected = (
        np.append(x[kept], r) for x, r in zip((counts, expected), rest, strict=True)
    )
    used = expected > 1e-6
    share = expected[used] / expected[used].sum()
    assert stats.chisquare(counts[used], counts[used].sum() * share).pvalue > 1e-3


def test_a_hurdle_of_a_tiny_rate_is_one():
    family = families.by_name("hurdle_poisson")
    params = {"mu": np.array(-40.0), "psi": np.array(0.5)}
    drawn = family.random(params, np.random.default_rng(0), (1000,))
    assert set(drawn) == {0, 1}
    assert family.mean(params) == pytest.approx(0.5)
    assert family.variance(params) == pytest.approx(0.25)
    import pymc as pm

    drawn = pm.draw(family.dist(params), 200, random_seed=1, mode="FAST_COMPILE")
    assert set(drawn) == {0, 1}


@pytest.mark.parametrize("case", PEERS, ids=lambda case: case["case"])
def test_one_expert_is_the_peer_s(case):
    psi = case.get("inflation", case.get("hurdle"))
    own = {} if psi == "~ 1" else {"psi": psi}
    family = case["family"].replace(" ", "_")
    spec = bm.mixture_of_experts(case["formula"], experts=1, family=family, **own)
    fit = bm.fit(spec, table_of(case), "em", objective="likelihood", progressbar=False)
    assert bm.information(fit)["log_likelihood"] == pytest.approx(case["loglik"], abs=1e-6)
    posterior = fit.idata["posterior"].to_dataset().squeeze()
    theirs = case["params"]
    sign = -1 if "inflation_logit" in theirs else 1
    odds = theirs.get("inflation_logit", theirs.get("positive_logit"))
    for name, expected in (("mu", theirs["mu"]), ("psi", {k: sign * v for k, v in odds.items()})):
        if f"{name}_coef" in posterior:
            found = posterior[f"{name}_coef"].sel({f"{name}_term": list(expected)}).values
        else:
            found = special.logit(posterior[name].values)
        np.testing.assert_allclose(found, np.squeeze(list(expected.values())), atol=1e-5)
    if "alpha" in theirs:
        assert float(posterior["alpha"]) == pytest.approx(theirs["alpha"], rel=1e-5)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    x, z = rng.uniform(-2, 2, (2, 150))
    count = np.where(rng.random(150) < 0.3, 0, rng.poisson(np.exp(0.6 * z + (x > 0))))
    amount = np.where(rng.random(150) < 0.3, 0, np.exp(z - 1 + 0.4 * rng.standard_normal(150)))
    n = rng.integers(3, 12, 150)
    return pd.DataFrame(
        {"x": x, "z": z, "count": count, "few": np.minimum(count, n), "n": n}
        | {"amount": amount, "share": amount / (1 + amount)}
    )


def described(family, **settings):
    upper = family.upper == 1
    response = ("few" if family.known_counts else "count") if family.discrete else "amount"
    known = {k: "n" for k in family.known_counts}
    formula = f"{'share' if upper else response} ~ z"
    return bm.mixture_of_experts(formula, family=family, **known, **settings)


QUICK = {
    ("zero_inflated_poisson", None),
    ("zero_inflated_binomial", "~ z"),
    ("hurdle_negativebinomial", "~ z"),
    ("hurdle_gamma", "~ z"),
}


@pytest.mark.parametrize(
    ("name", "psi"),
    [
        pytest.param(name, psi, marks=[] if (name, psi) in QUICK else [pytest.mark.slow])
        for name in examples.FAMILIES_WITH_ZEROS
        for psi in (None, "~ z")
    ],
)
def test_objective_and_compiled_density_are_the_graphs(name, table, psi):
    from bayes_moe.em.objective import Objective
    from bayes_moe.em.vector_layout import parameter_vector
    from bayes_moe.sampling.compiled_density import LinearTable
    from tests.support.linear_models import points

    own = {} if psi is None else {"psi": psi}
    spec = described(families.by_name(name), gate="~ x", experts=2, **own)
    design = spec.design(table)
    contracts.objective_is_the_graphs_log_density(spec, design)
    vector = parameter_vector(spec, design, jacobian=True)
    density = LinearTable(vector).density()
    theta = points(vector)
    for point, expected in zip(theta, Objective(vector).value(theta), strict=True):
        value, gradient = density(point)
        assert value == pytest.approx(expected, rel=1e-9)
        steps = 1e-6 * np.eye(len(point))
        slopes = [(density(point + e)[0] - density(point - e)[0]) / 2e-6 for e in steps]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["zero_inflated_poisson", "hurdle_poisson", "hurdle_gamma"])
def test_a_fit_predicts_and_round_trips(name, table, tmp_path):
    family = families.by_name(name)
    spec = described(family, experts=1, psi="~ x")
    assert bm.MixtureOfExperts.from_json(spec.to_json()) == spec
    fit = bm.fit(spec, table, "laplace", random_seed=1, progressbar=False, draws=50)
    new = table.head(5)
    contracts.saved_fit_predicts_the_same(fit, new, tmp_path)
    prediction = bm.predict(fit, new)
    zero = np.exp(prediction.logpdf(0.0)).values.ravel()
    np.testing.assert_allclose(zero, prediction.cdf(0.0).values.ravel(), rtol=1e-9)
    low, high = prediction.quantile([0.5 * zero.min(), 0.95]).values.T
    assert (low == 0).all()
    assert (high > 0).all()
    mode = bm.fit(spec, table, "em", random_seed=1, progressbar=False)
    contracts.path_never_falls(mode)


def test_names_and_settings():
    inner = families.by_name("negativebinomial")
    for name in ("zero_inflated_negativebinomial", "zeroinflated_negative_binomial"):
        assert families.by_name(name) == families.ZeroInflated(inner)
    hurdle = families.by_name("hurdle_gamma", link="identity")
    assert hurdle == families.Hurdle(families.by_name("gamma", link="identity"))
    assert families.made(hurdle.to_dict()) == hurdle
    assert families.by_name("hurdle", family="poisson") == families.Hurdle()
    assert families.by_name("hurdle_poisson") is families.by_name("hurdle_poisson")
    with pytest.raises(SpecError, match="hurdle"):
        families.by_name("zero_inflated_gamma")
    with pytest.raises(SpecError, match="counts or of positive"):
        families.by_name("hurdle_normal")
    with pytest.raises(SpecError, match="poisson"):
        families.by_name("hurdle_poison")
    with pytest.raises(SpecError, match="such as Poisson"):
        families.Hurdle("poisson")
    with pytest.raises(SpecError, match="for families of counts"):
        families.by_name("zero_inflated_bernoulli")


def test_responses_are_checked():
    hurdle = families.by_name("hurdle_gamma")
    hurdle.check_response(np.array([0.0, 1.0, 2.5]), "y")
    with pytest.raises(DataError, match="-1 at row 7"):
        hurdle.check_response(np.array([0.0, -1.0, 2.5]), "y", {}, np.array([3, 7, 9]))
    with pytest.raises(DataError, match="whole numbers"):
        families.by_name("hurdle_poisson").check_response(np.array([0.0, 0.5]), "y")
