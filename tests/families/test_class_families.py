"""Families of classes: closed forms, derivatives, kernels, draws, and fits held to statsmodels."""

from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.kernels.families import has_kernel, kernel_of
from bayes_moe.model.internal_values import internal_values
from bayes_moe.model.spec import with_levels
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.permuting import permute
from tests.support import contracts
from tests.support.examples import CLASSES

ROWS = 60
CDF = {"orderedlogistic": stats.logistic.cdf, "orderedprobit": stats.norm.cdf}
REACH = {"class": 4.0, "odds": 3.0, "gap": 2.0}
with localcontext(prec=60):
    ROOT_TWO_PI = (2 * Decimal("3.14159265358979323846264338327950288419716939937510582")).sqrt()
unconverged = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


@pytest.fixture(params=CLASSES)
def family(request):
    return families.by_name(request.param, **CLASSES[request.param])


def predictors(family, rng, rows=ROWS, reach=1.0):
    """Predictors (slot, 1, obs)."""
    return [
        reach * REACH[slot.parameter.role] * rng.standard_normal((1, rows)) for slot in family.slots
    ]


def probabilities(family, etas):
    """Probabilities (class, obs) by their definition."""
    flat = np.stack([eta[0] for eta in etas])
    if family.kind == "categorical":
        return special.softmax(flat, axis=0)
    cuts = np.concatenate([np.zeros((1, flat.shape[1])), np.cumsum(np.exp(flat[1:]), axis=0)])
    cdf = CDF[family.kind](cuts - flat[0])
    return np.diff(np.concatenate([0 * cdf[:1], cdf, 0 * cdf[:1] + 1]), axis=0)


def test_log_density_is_the_definition(family):
    etas = predictors(family, np.random.default_rng(0))
    expected = probabilities(family, etas)
    params = family.named(etas, {}, NUMERIC)
    for code, p in enumerate(expected):
        found = np.exp(family.log_density(np.full(ROWS, float(code)), params, NUMERIC)[0])
        np.testing.assert_allclose(found, p, atol=1e-13)
        below = expected[: code + 1].sum(axis=0)
        np.testing.assert_allclose(family.cdf(np.array(code), params)[0], below, atol=1e-12)
        np.testing.assert_allclose(family.sf(np.array(code), params)[0], 1 - below, atol=1e-12)
    np.testing.assert_allclose(family.probabilities(params)[:, 0], expected, atol=1e-12)
    for outside in (-1.0, 0.5, len(expected), np.inf):
        assert (family.log_density(np.full(ROWS, outside), params, NUMERIC) == -np.inf).all()


def test_constants_are_tables_of_all_rows(family):
    """What is looked up is what is computed row by row."""
    rng = np.random.default_rng(2)
    etas = [eta[None, :, :1] + np.zeros((2, 3, 1)) for eta in predictors(family, rng)]
    etas = [eta + rng.standard_normal((2, 3, 1)) for eta in etas]
    constant = family.named(etas, {}, NUMERIC)
    by_row = family.named([np.repeat(eta, ROWS, axis=-1) for eta in etas], {}, NUMERIC)
    y = rng.integers(0, family.count, ROWS).astype(float)
    inside = np.concatenate([y[:-4], [-1.0, 0.5, np.inf, -np.inf]])
    for name, at in (("cdf", inside), ("sf", inside)):
        found, expected = getattr(family, name)(at, constant), getattr(family, name)(at, by_row)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    found, expected = (family.log_density(y, p, NUMERIC) for p in (constant, by_row))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    size = (2, 3, ROWS)
    draws = [family.random(p, np.random.default_rng(3), size) for p in (constant, by_row)]
    np.testing.assert_array_equal(*draws)
    one, other = (family.derivatives(y, p) for p in (constant, by_row))
    for a in range(len(family.slots)):
        np.testing.assert_allclose(one.score[a] + np.zeros(size), other.score[a], atol=1e-12)
        own = one.second[a][0] + np.zeros(size)
        np.testing.assert_allclose(own, other.second[a][0], atol=1e-12)


@pytest.mark.parametrize("reach", [3.0, 30.0])
def test_far_out_log_densities_are_finite_and_of_small_error(family, reach):
    """Held to decimals: probabilities underflow, their logs do not."""
    etas = predictors(family, np.random.default_rng(1), 20, reach)
    etas = [np.clip(eta, -300, 300 if j == 0 else 6) for j, eta in enumerate(etas)]
    params = family.named(etas, {}, NUMERIC)
    for code in range(family.count):
        found = family.log_density(np.full(20, float(code)), params, NUMERIC)[0]
        for i in range(20):
            exact = in_decimals(family, [Decimal(float(eta[0, i])) for eta in etas], code)
            assert found[i] == pytest.approx(float(exact), rel=1e-9, abs=1e-9)


def in_decimals(family, eta, code):
    """Log probability of a class, with so many digits that differences keep some."""
    with localcontext(prec=400, Emax=10**9, Emin=-(10**9)):
        if family.kind == "categorical":
            return eta[code] - sum(x.exp() for x in eta).ln()
        cuts = [-eta[0]]
        for log_gap in eta[1:]:
            cuts.append(cuts[-1] + min(log_gap, Decimal(12)).exp())

        cdf = logistic if family.kind == "orderedlogistic" else normal
        if code == 0:
            return cdf(cuts[0]).ln()
        if code == len(cuts):
            return cdf(-cuts[-1]).ln()
        low, high = cuts[code - 1], cuts[code]
        if low > 0:
            low, high = -high, -low
        return (cdf(high) - cdf(low)).ln()


def logistic(z):
    return 1 / (1 + (-z).exp())


def normal(z):
    """Normal probability up to a decimal, by series about zero and infinity."""
    if abs(z) > 10:
        terms, term = [], Decimal(1)
        for k in range(1, 40):
            terms.append(term)
            term *= -(2 * k - 1) / (z * z)
        tail = (-z * z / 2).exp() / ROOT_TWO_PI / abs(z) * sum(terms)
        return tail if z < 0 else 1 - tail
    total = term = z
    for k in range(1, 6000):
        term *= z * z / (2 * k + 1)
        total += term
        if abs(term) < Decimal(10) ** -390:
            break
    return Decimal("0.5") + (-z * z / 2).exp() / ROOT_TWO_PI * total


def test_derivatives_are_those_of_differences(family):
    rng = np.random.default_rng(2)
    etas = predictors(family, rng)
    data = family.data(rng.integers(family.count, size=ROWS).astype(float), {}, NUMERIC)

    def moved(a, step):
        return [eta + step * (j == a) for j, eta in enumerate(etas)]

    def central(f, a, step=2e-3):
        near, far = (f(moved(a, s * step)) - f(moved(a, -s * step)) for s in (1, 2))
        return (8 * near - far) / (12 * step)

    with np.errstate(all="ignore"):  # both branches of a choice are evaluated
        found = family.derivatives_at(data, etas)
    for a in range(len(etas)):
        slope = central(lambda e: family.log_density_at(data, e, NUMERIC), a)
        np.testing.assert_allclose(np.broadcast_to(found.score[a], slope.shape), slope, atol=1e-8)
        assert (found.expected_information[a] >= 0).all()
        for b in range(len(etas)):
            with np.errstate(all="ignore"):
                bend = central(lambda e, b=b: family.derivatives_at(data, e).score[b] + 0 * e[0], a)
            second = np.broadcast_to(found.second[a][b], bend.shape)
            np.testing.assert_allclose(second, bend, rtol=1e-6, atol=1e-8)


def test_draws_have_the_probabilities(family):
    rng = np.random.default_rng(3)
    params = family.named(predictors(family, rng, 1, 0.5), {}, NUMERIC)
    expected = family.probabilities(params)[:, 0, 0]
    drawn = family.random(params, rng, (1, 10_000)).ravel()
    counts = np.bincount(drawn, minlength=family.count)
    assert stats.chisquare(counts, 10_000 * expected).pvalue > 1e-3
    codes = np.arange(family.count)
    assert family.mean(params) == pytest.approx(codes @ expected)
    assert family.variance(params) == pytest.approx(codes**2 @ expected - (codes @ expected) ** 2)


def test_the_kernel_is_the_formula(family):
    """By the kernel's function as Python runs it: its loop is that of all families."""
    assert has_kernel(family)
    assert kernel_of(family).parameters == len(family.slots)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(4)
    x, z = rng.uniform(-2, 2, (2, 150))
    latent = np.where(x > 0, 1.5 * z, -1.5 * z) + rng.logistic(size=150)
    grades = ["low", "middle", "high", "top"]
    grade = pd.Categorical.from_codes(np.digitize(latent, [-2, 0, 2]), grades, ordered=True)
    kind = np.array(["a", "b", "c"])[(np.digitize(latent, [-1, 1]) + (z > 1)) % 3]
    return pd.DataFrame(
        {"x": x, "z": z, "categorical": kind, "orderedlogistic": grade, "orderedprobit": grade}
    )


def described(family, table, **settings):
    spec = bm.mixture_of_experts(f"{family.kind} ~ z", family=family.kind, **settings)
    return spec, spec.design(table)


def test_parts_of_the_derivatives_are_those_of_all(family):
    rng = np.random.default_rng(4)
    data = family.data(rng.integers(0, family.count, ROWS).astype(float), {}, NUMERIC)
    contracts.check_parts_of_derivatives(family, data, predictors(family, rng))


@pytest.mark.parametrize("experts", [1, 3])
def test_objective_is_the_graphs(family, table, experts):
    spec, design = described(family, table, gate="~ x", experts=experts)
    contracts.objective_is_the_graphs_log_density(with_levels(spec, design.levels), design)


def test_the_compiled_density_is_the_graphs(family, table):
    from bayes_moe.em.vector_layout import parameter_vector
    from bayes_moe.sampling.compiled_density import LinearTable
    from tests.support.graphs import internal_graph
    from tests.support.linear_models import points

    spec, design = described(family, table, gate="~ x", experts=2)
    spec = with_levels(spec, design.levels)
    vector = parameter_vector(spec, design, jacobian=True)
    compiled, graph = LinearTable(vector).density(), internal_graph(spec, design)
    logp = graph.model.compile_logp(mode="FAST_COMPILE")
    theta = points(vector)
    values = vector.variables(theta)
    for j, point in enumerate(theta):
        expected = float(logp(graph.unconstrained({name: v[j] for name, v in values.items()})))
        value, gradient = compiled(point)
        assert value == pytest.approx(expected, rel=1e-9)
        step = 1e-6
        for c in range(len(point)):
            there = point + step * np.eye(len(point))[c]
            back = point - step * np.eye(len(point))[c]
            slope = (compiled(there)[0] - compiled(back)[0]) / (2 * step)
            assert gradient[c] == pytest.approx(slope, rel=1e-4, abs=1e-4)


@unconverged
@pytest.mark.parametrize("method", ["laplace", pytest.param("map", marks=pytest.mark.slow)])
def test_methods_agree_and_fits_round_trip(family, table, tmp_path, method):
    spec, _ = described(family, table, gate="~ x", experts=2)
    fit = bm.fit(spec, table, method, random_seed=1, progressbar=False)
    mode = bm.fit(spec, table, "em", random_seed=1, progressbar=False)
    density = bm.log_density(mode).mean()
    assert float(bm.log_density(fit).mean()) == pytest.approx(float(density), abs=0.06)
    found = bm.predict(fit, table.head(7)).probabilities()
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    np.testing.assert_array_equal(bm.predict(again, table.head(7)).probabilities(), found)
    assert list(found["class"].values) == list(fit.design.levels)
    np.testing.assert_allclose(found.sum("class"), 1, atol=1e-12)


def test_one_categorical_expert_is_multinomial_regression(table):
    import statsmodels.api as sm

    spec = bm.mixture_of_experts("categorical ~ z + x", experts=1, family="categorical")
    fit = bm.fit(spec, table, "em", objective="likelihood", progressbar=False)
    code = pd.Categorical(table["categorical"]).codes
    peer = sm.MNLogit(code, sm.add_constant(table[["z", "x"]])).fit(disp=0, maxiter=200)
    coef = fit.idata["posterior"]["p_coef"].values.reshape(3, 3)
    np.testing.assert_allclose((coef[1:] - coef[0]).T, peer.params, atol=1e-5)
    np.testing.assert_allclose(coef.sum(axis=0), 0, atol=1e-10)
    assert float(bm.log_density(fit).sum()) == pytest.approx(peer.llf, abs=1e-6)
    assert int(fit.idata["fit"]["n_parameters"]) == peer.params.size


@pytest.mark.parametrize(
    ("name", "distr"), [("orderedlogistic", "logit"), ("orderedprobit", "probit")]
)
def test_one_ordered_expert_is_the_cumulative_model(table, name, distr):
    from statsmodels.miscmodels.ordinal_model import OrderedModel

    spec = bm.mixture_of_experts(f"{name} ~ z + x", experts=1, family=name)
    fit = bm.fit(spec, table, "em", objective="likelihood", progressbar=False)
    model = OrderedModel(table[name], table[["z", "x"]], distr=distr)
    peer = model.fit(method="bfgs", disp=0, gtol=1e-10, warn_convergence=False)
    posterior = fit.idata["posterior"]
    found = posterior["mu_coef"].values.ravel()
    np.testing.assert_allclose(found[1:], peer.params.values[:2], atol=1e-5)
    assert -found[0] == pytest.approx(peer.params.values[2], abs=1e-5)
    np.testing.assert_allclose(posterior["gap"].values.ravel(), np.exp(peer.params[3:]), atol=1e-5)
    assert float(bm.log_density(fit).sum()) == pytest.approx(peer.llf, abs=1e-6)


@unconverged
def test_map_finds_the_mode_of_em(table):
    spec = bm.mixture_of_experts("categorical ~ z", gate="~ x", experts=2, family="categorical")
    one, other = (
        bm.fit(spec, table, method, random_seed=1, progressbar=False, **settings)
        for method, settings in (("em", {}), ("map", {"restarts": 3}))
    )
    difference = bm.log_density(one) - bm.log_density(other)
    assert float(abs(difference).max()) < 1e-4


@pytest.mark.parametrize("predictor", ["spline", "horseshoe"])
def test_other_predictors_than_linear_ones(family, table, predictor):
    spec, _ = described(family, table, gate="~ x", experts=2, predictor=predictor)
    fit = bm.fit(spec, table, "em", random_seed=1, progressbar=False, restarts=2)
    assert np.isfinite(bm.log_density(fit)).all()


def test_a_tree_of_classifiers(table):
    spec = bm.hierarchical_mixture("categorical ~ z", gate="~ x", family="categorical")
    fit = bm.fit(spec, table, "em", random_seed=1, progressbar=False)
    one = bm.fit(
        bm.mixture_of_experts("categorical ~ z + x", experts=1, family="categorical"), table, "em"
    )
    assert float(bm.log_density(fit).sum()) > float(bm.log_density(one).sum())


@unconverged
@pytest.mark.parametrize("experts", [2, 3])
def test_labels_of_experts_change_in_every_variable(family, table, experts):
    """A draw under other labels is the same mixture, and the sampler's variables go along."""
    spec, _ = described(family, table, gate="~ x", experts=experts)
    fit = bm.fit(spec, table, "laplace", random_seed=1, progressbar=False, draws=20)
    rng = np.random.default_rng(5)
    sizes = fit.idata["posterior"].sizes
    lead = sizes["chain"], sizes["draw"]
    orders = np.array([rng.permutation(experts) for _ in range(lead[0] * lead[1])])
    orders = orders.reshape(*lead, experts)
    moved = permuted(fit, orders)
    expected = bm.predict(fit, table).probabilities(draws=True)
    found = bm.predict(moved, table).probabilities(draws=True)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-12)
    spec, design = fit.spec, fit.design
    values = stacked_draws(spec, moved.idata["posterior"].to_dataset())
    internal = internal_values(spec, design, spec.resolve_priors(design), values)
    raw = moved.idata["unconstrained_posterior"]
    for name in set(internal) & set(raw.data_vars):
        found = np.reshape(raw[name].values, internal[name].shape)
        np.testing.assert_allclose(found, internal[name], atol=1e-9)


def permuted(fit, orders):
    """A fit whose draws have the experts in other orders (chain, draw, expert)."""
    tree = fit.idata.copy()
    for group in ("posterior", "unconstrained_posterior"):
        data = tree[group].to_dataset()
        left = []
        tree[group].dataset = permute(data, fit.spec, orders, left=left)
        assert not left
    return replace(fit, idata=tree)
