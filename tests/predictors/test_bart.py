"""Regression trees as predictors of experts: their arrays, their steps, and fits with them."""

from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd
import pytest

pymc_bart = pytest.importorskip("pymc_bart")

import pymc as pm  # noqa: E402
from bartrs.bartrs import PosteriorSampler, PyBartSettings, PySampler  # noqa: E402
from numba import carray, cfunc, types  # noqa: E402

import bayes_moe as bm  # noqa: E402
from bayes_moe.core import names, registry  # noqa: E402
from bayes_moe.core.errors import ConvergenceWarning  # noqa: E402
from bayes_moe.model.evaluation import evaluate  # noqa: E402
from bayes_moe.predictors import BART, Site  # noqa: E402
from bayes_moe.predictors.bart_trees import (  # noqa: E402
    LEAF,
    NONE,
    History,
    Nodes,
    cuts,
    forest_eta,
    packed,
)
from bayes_moe.results.draws import stacked_draws  # noqa: E402

EXPERTS = Site("mu", "location", names.EXPERT, 2, each=True)
SHORT = {"draws": 40, "tune": 40, "chains": 2, "cores": 2, "progressbar": False}
few_draws = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


# --- arrays ---------------------------------------------------------------------------------------


def twin(split, cut, features):
    """Sum of trees at rows, one node after another: split and cut (node,)."""
    total, place = np.zeros(len(features)), 0

    def subtree(rows):
        nonlocal place
        j, place = place, place + 1
        if split[j] == LEAF:
            total[rows] += cut[j]
            return
        left = features[:, split[j]] <= cut[j]
        subtree(rows & left)
        subtree(rows & ~left)

    while place < len(split) and split[place] != NONE:
        subtree(np.ones(len(features), dtype=bool))
    return total


def random_tree(rng, columns, depth=0):
    if rng.random() > 0.9 / (1 + depth):
        return [LEAF], [rng.standard_normal()]
    left, right = (random_tree(rng, columns, depth + 1) for _ in range(2))
    return (
        [int(rng.integers(columns)), *left[0], *right[0]],
        [rng.standard_normal(), *left[1], *right[1]],
    )


def nodes(tree):
    return Nodes(np.array(tree[0], dtype=np.int16), np.array(tree[1]))


def test_sums_of_trees_are_those_of_a_walk():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 3))
    histories = [
        [
            History(
                tuple(nodes(random_tree(rng, 3)) for _ in range(4)),
                tuple(
                    (place, tuple(nodes(random_tree(rng, 3)) for _ in range(2)))
                    for place in (0, 2, 3)
                ),
            )
            for _ in range(2)
        ]
        for _ in range(3)
    ]
    split, cut = packed(histories, 3)
    assert split.shape[:3] == cut.shape[:3] == (3, 3, 2)
    found = forest_eta(split, cut, features)
    for at in np.ndindex(split.shape[:3]):
        np.testing.assert_allclose(found[at], twin(split[at], cut[at], features), atol=1e-12)
    flat = forest_eta(split.reshape(9, 2, -1).astype(float), cut.reshape(9, 2, -1), features)
    np.testing.assert_array_equal(flat, found.reshape(9, 2, -1))


def test_trees_are_replaced_one_place_after_another_and_around():
    trees = [Nodes(np.array([LEAF], dtype=np.int16), np.array([float(j)])) for j in range(9)]
    history = History(tuple(trees[:3]), ((0, (trees[3],)), (2, (trees[4], trees[5]))))
    values = [list(forest.cut) for forest in history.forests()]
    assert values == [[3, 1, 2], [5, 1, 4]]


def test_draws_without_trees_are_missing():
    one = Nodes(np.array([LEAF], dtype=np.int16), np.array([1.0]))
    split, cut = packed([[History((one,), ((0, (one,)),))], [History((), ())]], 2)
    assert np.isfinite(cut[0, 0]).all()
    assert np.isnan(cut[0, 1]).all()
    assert np.isnan(cut[1]).all()
    assert (split[1] == NONE).all()


# --- pymc-bart ------------------------------------------------------------------------------------


def a_sampler(columns, y, seed=1):
    @cfunc(types.float64(types.CPointer(types.float64), types.intc))
    def density(values, count):
        eta = carray(values, (count,))
        total = 0.0
        for i in range(count):
            total -= 0.5 * ((y[i] - eta[i]) / 0.3) ** 2
        return total

    settings = PyBartSettings(
        n_trees=12,
        n_particles=10,
        max_depth=8,
        alpha=0.95,
        beta=2.0,
        sigma=0.3,
        n_outputs=1,
        split_prior=np.arange(1.0, len(columns.levels) + 1).tolist(),
        split_rules=columns.rules,
        response_rule="constant",
        resampling_rule="systematic",
        batch_tune=0.25,
        batch_post=0.25,
        seed=seed,
        n_draws=0,
    )
    features = np.asfortranarray(columns.values)
    return density, PySampler.init(x=features, y=y, model=density.address, settings=settings)


def test_trees_are_pymc_barts_on_fitted_and_new_rows():
    """Columns of different values, of rounded ones, of two values, and of large ones with ties."""
    rng = np.random.default_rng(0)
    features = np.column_stack(
        [
            rng.uniform(-2, 2, 80),
            rng.uniform(-2, 2, 80).round(1),
            rng.integers(0, 2, 80) - 0.5,
            1e6 + rng.integers(0, 9, 80) / 7,
        ]
    )
    y = np.sin(2 * features[:, 0]) + features[:, 2] + 0.2 * rng.standard_normal(80)
    columns = cuts(features)
    assert columns.rules == ["ContinuousSplit", *3 * ["OneHotSplit"]]
    density, sampler = a_sampler(columns, y)
    for _ in range(20):
        sampler.step(True)
    drawn = np.array([np.asarray(sampler.step(False)[0]).ravel() for _ in range(200)])

    def own(tree):
        return columns.nodes(tree.split_var, tree.split_val, tree.leaf_val)

    first = tuple(map(own, sampler.baseline_forest))
    history = History(first, tuple((j, tuple(map(own, new))) for j, new in sampler.all_batches))
    split, cut = packed([[history]], 200)
    assert set(np.unique(split)) == {NONE, LEAF, 0, 1, 2, 3}
    np.testing.assert_allclose(forest_eta(split, cut, features)[0, :, 0], drawn, atol=1e-8)
    new = features.copy()
    new[:, 0] = rng.uniform(-3, 3, 80)
    codes = columns.values.copy()
    codes[:, 0] = new[:, 0]
    args = (sampler.all_batches, sampler.baseline_forest, 12, 1)
    theirs = PosteriorSampler.from_history(*args).sample_posterior(codes, list(range(200)), None)
    np.testing.assert_allclose(forest_eta(split, cut, new)[0, :, 0], theirs[:, 0], atol=1e-8)
    assert density.address


# --- fits -----------------------------------------------------------------------------------------


def curves(rows, seed=0):
    """Two experts: a bend, and a wave with a step between categories."""
    rng = np.random.default_rng(seed)
    x, group = rng.uniform(-2, 2, rows), rng.choice(["a", "b"], rows)
    upper = rng.random(rows) < 1 / (1 + np.exp(-3 * x))
    bend, wave = -3 - np.abs(x), np.sin(3 * x) + 2 * (group == "a")
    y = np.where(upper, wave, bend) + 0.3 * rng.standard_normal(rows)
    table = pd.DataFrame({"x": x, "group": group, "y": y})
    return table, np.stack([bend, wave]), upper


def two(trees=10, features="x + group"):
    expert = bm.Expert(f"y ~ {features}", predictor=BART(trees=trees))
    return bm.MixtureOfExperts(bm.gates.Softmax("~ x"), [expert, expert])


def eta_of(fit):
    """Values at the fitted rows: those of the trees, and those that were drawn."""
    posterior = fit.idata[names.POSTERIOR].to_dataset()
    mixture = evaluate(fit.spec, stacked_draws(fit.spec, posterior), fit.design.rows)
    internal = fit.idata[names.UNCONSTRAINED]
    drawn = internal["mu_raw"].transpose("chain", "draw", "expert", "obs_id").values
    return mixture.params[0]["mu"].reshape(drawn.shape), drawn


@pytest.fixture(scope="module")
def fitted():
    with catch_warnings():
        simplefilter("ignore", ConvergenceWarning)
        return bm.fit(two(), curves(100)[0], random_seed=1, **SHORT)


def test_trees_are_those_of_each_chain_and_draw(fitted):
    found, drawn = eta_of(fitted)
    np.testing.assert_allclose(found, drawn, atol=1e-8)
    assert len(np.unique(drawn[:, :, :, 0])) > 40
    assert not np.isclose(drawn[0], drawn[1]).all(axis=-1).any()  # chains have their own trees
    assert "trees" not in fitted.idata["sample_stats"]


@few_draws
def test_chains_one_after_another_are_independent_and_repeatable():
    """Of a column with ties, pymc-bart chooses values in no fixed order: this table has none."""
    table, *_ = curves(60)
    given = SHORT | {"cores": 1, "draws": 15, "tune": 15}
    one, same, other = (bm.fit(two(5, "x"), table, random_seed=s, **given) for s in (1, 1, 2))
    found, drawn = eta_of(one)
    np.testing.assert_allclose(found, drawn, atol=1e-8)
    assert not np.isclose(drawn[0], drawn[1]).all(axis=-1).any()
    np.testing.assert_array_equal(drawn, eta_of(same)[1])
    assert not np.isclose(drawn, eta_of(other)[1]).all(axis=-1).any()


def test_experts_are_told_apart_and_their_curves_found(fitted):
    _, curve, upper = curves(100)
    mu = eta_of(fitted)[1].mean(axis=(0, 1))
    for k, own in enumerate((~upper, upper)):
        assert np.sqrt(np.mean((mu[k] - curve[k])[own] ** 2)) < 0.4
    shares = bm.responsibilities(fitted, curves(100)[0]).mean(("chain", "draw"))
    assert (shares.sel(expert=1).values.ravel() > 0.5).astype(bool).tolist() == upper.tolist()


def test_new_rows_are_predicted_from_the_draws(fitted):
    new = curves(30, seed=5)[0]
    predicted = bm.predict(fitted, new)
    assert predicted.mean().shape == (30,)
    posterior = fitted.idata[names.POSTERIOR].to_dataset()
    split, cut = (posterior[f"mu_{n}"].values.reshape(80, 2, -1) for n in ("split", "cut"))
    features = np.column_stack([new["x"], new["group"] == "b"])
    gate = posterior["gate_coef"].values.reshape(80, 2, 2)
    logits = gate @ np.column_stack([np.ones(30), new["x"]]).T
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = (weights * forest_eta(split, cut, features)).sum(axis=1).mean(axis=0)
    np.testing.assert_allclose(predicted.mean(), expected, atol=1e-10)


def test_a_fit_is_saved_and_comes_back(fitted, tmp_path):
    bm.save(fitted, tmp_path / "trees.nc")
    again = bm.load(tmp_path / "trees.nc")
    assert again.spec == fitted.spec
    assert again.idata["posterior"]["mu_split"].dtype == np.int16
    new = curves(10, seed=3)[0]
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(fitted, new).mean())


def test_trees_trade_places_with_their_experts(fitted):
    found, drawn = eta_of(fitted)
    undone = bm.relabel(fitted, method="none")
    order = fitted.idata["relabelling"]["permutation"].values
    back = np.take_along_axis(eta_of(undone)[1], order[..., None], axis=2)
    np.testing.assert_array_equal(back, drawn)
    np.testing.assert_allclose(*eta_of(undone), atol=1e-8)
    by_parameters = bm.relabel(fitted, method="parameters")
    np.testing.assert_allclose(*eta_of(by_parameters), atol=1e-8)
    assert found.mean(axis=(0, 1, 3))[0] < found.mean(axis=(0, 1, 3))[1]


def test_summaries_leave_trees_out(fitted):
    assert fitted.spec.variables == ("gate_coef", "mu_split", "mu_cut", "sigma")
    assert fitted.spec.structure.quantities == ("gate_coef", "sigma")
    table = bm.summary(fitted)
    assert {name.split("[")[0] for name in table.index} == {"gate_coef", "sigma"}
    assert np.isfinite(bm.diagnose(fitted).table.loc["worst R-hat", "value"])
    assert "mu_cut" in repr(fitted)
    assert len(bm.modes(fitted)) >= 1
    assert fitted.idata["log_likelihood"]["y"].shape == (2, 40, 100)


@few_draws
def test_trees_beside_linear_experts_and_for_other_parameters():
    table, *_ = curves(80)
    rng = np.random.default_rng(1)
    table["y"] = rng.poisson(np.exp(1 + np.abs(table["x"])))
    trees = bm.Expert("y ~ x", "poisson", "trees", predictor="bart")
    line = bm.Expert("y ~ x", "poisson", "line")
    spec = bm.MixtureOfExperts(bm.gates.Softmax("~ 1"), [line, trees])
    fit = bm.fit(spec, table, random_seed=1, **SHORT | {"cores": 1, "draws": 20, "tune": 20})
    assert spec.variables == ("gate_coef", "line_mu_coef", "trees_mu_split", "trees_mu_cut")
    assert (bm.predict(fit, table.iloc[:5]).mean() > 0).all()


@few_draws
def test_trees_alone():
    """Nothing is left for NUTS, and no variable is named in tables."""
    table, *_ = curves(80)
    table["y"] = (table["x"] > 0).astype(int)
    spec = bm.mixture_of_experts("y ~ x", experts=1, family="bernoulli", predictor="bart")
    fit = bm.fit(spec, table, random_seed=1, **SHORT | {"cores": 1, "draws": 20, "tune": 20})
    p = bm.predict(fit).mean().values
    assert p[table["y"] == 1].mean() > p[table["y"] == 0].mean() + 0.2
    assert "R-hat" in str(bm.diagnose(fit))
    with pytest.raises(bm.SpecError, match="Name those to show"):
        bm.summary(fit)


@pytest.mark.slow
@few_draws
def test_trees_of_a_scale():
    table, *_ = curves(300)
    rng = np.random.default_rng(2)
    table["y"] = rng.standard_normal(300) * np.where(table["x"] > 0, 2.0, 0.3)
    expert = bm.Expert("y ~ x", sigma="~ x", predictor={"sigma": BART(trees=10)})
    spec = bm.MixtureOfExperts(bm.gates.Softmax("~ 1"), [expert])
    fit = bm.fit(spec, table, random_seed=1, **SHORT | {"draws": 300, "tune": 300})
    sd = bm.predict(fit, pd.DataFrame({"x": [-1.0, 1.0], "group": "a"})).sd()
    np.testing.assert_allclose(sd, [0.3, 2.0], rtol=0.25)


@pytest.mark.slow
@few_draws
def test_curves_and_noise_are_recovered():
    table, curve, upper = curves(400)
    spec = two(20)
    fit = bm.fit(spec, table, random_seed=1, draws=500, tune=500, chains=2, progressbar=False)
    drawn = eta_of(fit)[1]
    low, high = np.quantile(drawn, [0.05, 0.95], axis=(0, 1))
    for k, own in enumerate((~upper, upper)):
        inside = ((low[k] < curve[k]) & (curve[k] < high[k]))[own]
        assert inside.mean() > 0.75
    sigma = fit.idata["posterior"]["sigma"].mean(("chain", "draw"))
    np.testing.assert_allclose(sigma, 0.3, atol=0.06)
    new = curves(500, seed=9)[0]
    linear = bm.fit(
        bm.mixture_of_experts("y ~ x + group", gate="~ x", experts=2), table, "em", random_seed=1
    )
    better = bm.log_density(fit, new).mean() - bm.log_density(linear, new).mean()
    assert better > 0.2


# --- graphs and refusals --------------------------------------------------------------------------


def test_the_graph_is_a_plain_model():
    table, *_ = curves(40)
    graph = bm.build(two(5), table)
    assert graph.model.named_vars_to_dims["mu_raw"] == ("expert", "obs_id")
    assert set(graph.priors) == {"gate_coef", "sigma"}
    drawn = pm.draw(graph.model["mu_raw"], random_seed=1, mode="FAST_COMPILE")
    np.testing.assert_allclose(drawn, table["y"].mean())
    logp = graph.model.compile_logp(mode="FAST_COMPILE")
    assert np.isfinite(logp(graph.model.initial_point()))


@pytest.mark.parametrize("method", sorted({*registry.TABLE["method"]} - {"nuts"}))
def test_methods_that_need_a_gradient_say_so(method):
    with pytest.raises(bm.SpecError, match=f"method='{method}' needs a gradient, and BART"):
        bm.fit(two(), curves(40)[0], method)


@pytest.mark.parametrize("sampler", ["nutpie", "numpyro", "blackjax"])
def test_samplers_that_need_a_gradient_say_so(sampler):
    with pytest.raises(bm.SpecError, match=r"of 'mu' has none: .* nuts_sampler='pymc'"):
        bm.fit(two(), curves(40)[0], nuts_sampler=sampler)


def test_impossible_places_are_refused():
    table, gate = curves(40)[0], bm.gates.Softmax("~ x")
    with pytest.raises(bm.SpecError, match="cannot be used in a gate"):
        bm.MixtureOfExperts(bm.gates.Softmax("~ x", predictor="bart"), [bm.Expert("y ~ x")] * 2)
    with pytest.raises(bm.SpecError, match=r"'mu' needs features to split by"):
        bm.build(bm.MixtureOfExperts(gate, [bm.Expert("y ~ 1", predictor="bart")] * 2), table)
    with pytest.raises(bm.SpecError, match="Unknown prior 'mu_coef'"):
        bm.MixtureOfExperts(gate, two().experts, {"mu_coef": bm.Prior("Normal", mu=0, sigma=1)})
    with pytest.raises(bm.SpecError, match="Trees cannot be given as parameters"):
        bm.simulate(two(), table, {"sigma": [1.0, 1.0]})
    with pytest.raises(bm.SpecError, match="no data can be drawn from the prior"):
        bm.simulate(two(), table)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trees": 0}, "`trees` must be a whole number >= 1"),
        ({"particles": 1}, "`particles` must be a whole number >= 2"),
        ({"alpha": 1.0}, "`alpha` must be a number between 0 and 1"),
        ({"beta": 0}, "`beta` must be a positive number"),
        ({"batch": 1.5}, "`batch` must be a share of the trees"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(bm.SpecError, match=message):
        BART(**settings)
    assert BART(batch=1.0).to_dict()["batch"] == 1.0
