"""Labels of another fit: found as by trying all permutations, and kept by everything stored."""

import warnings
from functools import cache
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayes_moe as bm
from bayes_moe.core import names
from bayes_moe.gates import Gaussian, Softmax, StickBreaking, Tree
from bayes_moe.model import expert_order
from bayes_moe.results import label_reference
from tests.support.fits import fake_fit, parallel_lines

pytestmark = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")

GATES = {
    "softmax": (Softmax("~ x"), (2, 0, 3, 1)),
    "tree": (Tree(branching=(2, 2), formula="~ x"), (3, 2, 0, 1)),
    "sticks": (StickBreaking("~ x"), (0, 1, 2, 3)),
    "gaussian": (Gaussian("~ x"), (1, 2, 3, 0)),
}
"""Gates, and a permutation of four experts that leaves a model with that gate as it is."""
METHODS = {
    "em": {"restarts": 4},
    "map": {"restarts": 2},
    "laplace": {"restarts": 4, "draws": 30},
    "draws": {},
}


def four_lines(seed=0, n=160):
    """Four lines in a row along x."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, n)
    part = np.clip(np.floor(x + 2).astype(int), 0, 3)
    y = np.array([0.0, 4.0, 1.0, 7.0])[part] + 0.5 * x + 0.3 * rng.standard_normal(n)
    return pd.DataFrame({"x": x, "y": y})


@cache
def fitted(gate, method, seed=0):
    """Fit of four lines; ``"draws"`` are random about the mode, each under labels of its own."""
    spec = bm.MixtureOfExperts(GATES[gate][0], [bm.Expert("y ~ x")] * 4)
    if method != "draws":
        settings = {"random_seed": 1, "progressbar": False, **METHODS[method]}
        return bm.fit(spec, four_lines(seed), method, **settings)
    mode = fitted(gate, "em", seed).idata["posterior"]
    values = {n: mode[n].values[0, 0] for n in spec.variables}
    fit = fake_fit(spec, four_lines(seed), values, chains=2, draws=15, spread=0.02)
    rng = np.random.default_rng(5)
    allowed = admissible(fit)
    orders = np.array(allowed)[rng.integers(len(allowed), size=30)]
    return with_posterior(fit, permuted(fit, orders))


def permuted(fit, orders):
    """Posterior whose expert ``orders[sample, k]`` is ``k``, variable by variable."""
    posterior = fit.idata["posterior"].to_dataset()
    values = {n: posterior[n].values for n in fit.spec.variables}
    flat = {n: v.reshape(-1, *v.shape[2:]) for n, v in values.items()}
    moved = expert_order.permute(fit.spec, flat, np.asarray(orders))
    return posterior.assign(
        {n: posterior[n].copy(data=v.reshape(values[n].shape)) for n, v in moved.items()}
    )


def with_posterior(fit, posterior):
    tree = fit.idata.copy()
    tree["posterior"] = type(tree)(posterior)
    return bm.Fit(fit.spec, fit.design, tree)


def reordered(fit, order):
    """The fit with the same order of experts in every draw."""
    sizes = fit.idata["posterior"].sizes
    return with_posterior(fit, permuted(fit, [order] * (sizes["chain"] * sizes["draw"])))


def admissible(fit):
    """Permutations that leave the log density of all rows as it is, by trying all."""
    if fit.spec.gate.kind == "stickbreaking":  # the prior gives earlier experts more weight
        return [tuple(range(fit.spec.n_experts))]
    sizes = fit.idata["posterior"].sizes
    expected = bm.log_density(fit).values
    found = []
    for order in permutations(range(fit.spec.n_experts)):
        with np.errstate(all="ignore"):
            orders = [order] * (sizes["chain"] * sizes["draw"])
            density = bm.log_density(with_posterior(fit, permuted(fit, orders))).values
        if np.allclose(density, expected, rtol=1e-9):
            found.append(order)
    return found


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("method", METHODS)
def test_experts_get_the_labels_of_another_fit(gate, method):
    order = GATES[gate][1]
    fit, like = fitted(gate, method), reordered(fitted(gate, "em"), order)
    assert order in admissible(fitted(gate, "em"))
    got = bm.relabel(fit, like=like)
    mode, expected = (f.idata["posterior"]["mu_coef"].values for f in (got, like))
    assert np.abs(mode - expected).max() < (1e-3 if method in ("em", "map") else 2.0)
    np.testing.assert_allclose(bm.log_density(got), bm.log_density(fit), rtol=1e-9)
    if gate == "sticks":  # no two experts may be exchanged
        assert got.idata["posterior"].identical(fit.idata["posterior"])
        return
    found = got.idata["relabelling"]
    assert found["certainty"].min() > 0.95
    if method != "draws":
        np.testing.assert_array_equal(
            found["permutation"], np.broadcast_to(order, found["permutation"].shape)
        )


@pytest.mark.parametrize("by", ["responsibilities", "parameters"])
@pytest.mark.parametrize("gate", ["softmax", "tree", "gaussian"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_permutation_is_the_best_of_all(gate, by, seed):
    """To a fit of other rows, whose modes may differ; the cost is written out here."""
    fit, like = fitted(gate, "em", seed), reordered(fitted(gate, "em"), GATES[gate][1])
    own = bm.responsibilities(fit, four_lines(0)).values[0, 0]  # (obs, expert)
    its = bm.responsibilities(like).values[0, 0]
    mu, other = (f.idata["posterior"] for f in (fit, like))

    def cost(order):
        if by == "responsibilities":
            return -(own[:, order] * np.log(np.maximum(its, 1e-10))).sum()
        total = 0.0
        for name in ("mu_coef", "sigma", "gate_coef", "gate_x_mu_coef", "gate_x_sigma"):
            if name in mu and mu[name].dims[2] == "expert":
                a, b = (np.atleast_2d(v[name].values[0, 0].T).T for v in (mu, other))
                a, b = (np.log(v) if name.endswith("sigma") else v for v in (a, b))
                total += (((a[list(order)] - b) / np.concatenate([a, b]).std(0)) ** 2).sum()
        return total

    best = min(admissible(fit), key=cost)
    found = bm.relabel(fit, by, like=like).idata["relabelling"]["permutation"].values[0, 0]
    if by == "parameters" and gate == "gaussian":  # densities of the features count once
        assert cost(tuple(found)) <= 1.5 * cost(best)
    else:
        assert tuple(found) == best


@pytest.mark.parametrize("gate", ["softmax", "tree", "gaussian"])
@pytest.mark.parametrize("method", ["em", "map", "laplace"])
def test_everything_stored_follows_the_labels(gate, method):
    order = list(GATES[gate][1])
    fit = fitted(gate, method)
    got = bm.relabel(fit, like=reordered(fitted(gate, "em"), order))
    for group in ("posterior", "standard_error"):
        for name in ("mu_coef", "sigma"):
            own = fit.idata[group][name].isel(expert=order).values
            np.testing.assert_array_equal(got.idata[group][name].values, own)
    np.testing.assert_allclose(bm.usage(got), bm.usage(fit).values[..., order], rtol=1e-9)
    table, its = bm.summary(fit, "mu_coef"), bm.summary(got, "mu_coef")
    moved = [f"mu_coef[{k}, {t}]" for k in order for t in ("Intercept", "x")]
    np.testing.assert_array_equal(its.values, table.loc[moved].values)
    modes = got.idata["modes"].to_dataset()
    best = modes.attrs["best"]
    share = bm.modes(fit)[[f"share[{k}]" for k in order]].values[best]
    np.testing.assert_array_equal(
        bm.modes(got)[[f"share[{k}]" for k in range(4)]].values[best], share
    )
    for name in got.spec.variables:
        if method != "laplace":  # the estimate is the best mode, under the same labels
            np.testing.assert_array_equal(
                modes[name].values[best], got.idata["posterior"][name].values[0, 0]
            )
    back = bm.relabel(got, "none")
    assert "relabelling" not in back.idata.children
    for group in ("posterior", "standard_error", "modes"):
        xr.testing.assert_allclose(back.idata[group].to_dataset(), fit.idata[group].to_dataset())


def test_internal_coefficients_follow_the_labels():
    fit = fitted("tree", "em")
    got = bm.relabel(fit, like=reordered(fit, GATES["tree"][1]))
    rows = fit.design.rows
    priors = fit.spec.resolve_priors(fit.design)
    values = {n: got.idata["posterior"][n].values[0] for n in fit.spec.variables}
    raw = fit.spec.structure.gate.to_raw(rows.matrices, fit.design.response, priors, values)
    for name, expected in raw.items():
        np.testing.assert_allclose(
            got.idata["unconstrained_posterior"][name].values[0], expected, atol=1e-9
        )


def test_draws_that_change_labels_follow_a_mode_and_draws_follow_draws():
    spec, table, parameters = parallel_lines(3)
    order = [2, 0, 1]
    like = fake_fit(spec, table, {n: v[order] for n, v in parameters.items()}, seed=4)
    fit = fake_fit(spec, table, parameters, chains=2, draws=40, spread=0.03)
    rng = np.random.default_rng(1)
    mixed = with_posterior(fit, permuted(fit, rng.permuted(np.tile([0, 1, 2], (80, 1)), axis=1)))
    for method in ("responsibilities", "parameters"):
        got = bm.relabel(mixed, method, like=like)
        np.testing.assert_array_equal(
            got.idata["posterior"]["mu_coef"], fit.idata["posterior"]["mu_coef"][:, :, order]
        )


def test_uncertain_labels_are_reported():
    """Experts half way between those of the other fit have no certain label."""
    spec, table, parameters = parallel_lines(2)
    like = fake_fit(spec, table, parameters)
    same = {n: np.repeat(v.mean(axis=0, keepdims=True), 2, axis=0) for n, v in parameters.items()}
    got = bm.relabel(fake_fit(spec, table, same, spread=0.02), like=like)
    certainty = got.idata["relabelling"]["certainty"].values
    assert 0.5 <= certainty.mean() < 0.7


def test_a_fit_whose_sample_lacks_a_category_is_compared_on_its_own_rows():
    rng = np.random.default_rng(0)
    table = four_lines(3).assign(g=rng.choice(["a", "b", "c"], 160))
    spec = bm.mixture_of_experts("y ~ x + g", experts=2)
    settings = {"random_seed": 1, "progressbar": False, "restarts": 4}
    fit = bm.fit(spec, table, "em", **settings)
    part = bm.refit(fit, table[table.g != "c"], random_seed=2)
    assert "relabelling" in part.idata.children
    with pytest.raises(bm.SpecError, match=r"gives the terms .* Use method='responsibilities'"):
        bm.relabel(part, "parameters", like=fit)
    other = bm.fit(spec, table.replace({"g": {"c": "d"}}), "em", **settings)
    with pytest.raises(bm.SpecError, match=r"neither fit can read the other's rows. .*'c'|'d'"):
        bm.relabel(other, like=fit)
    renamed = table.replace({"g": {"c": "d"}})
    with pytest.warns(UserWarning, match="keep labels of their own; like=None"):
        again = bm.refit(fit, renamed, random_seed=1)
    assert "relabelling" not in again.idata.children
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bm.refit(fit, renamed, random_seed=1, like=None)


CHANGES = {
    "2 experts": lambda: bm.mixture_of_experts("y ~ x", gate="~ x", experts=2),
    r"the gate of one is .*~ 1": lambda: bm.mixture_of_experts("y ~ x", gate="~ 1", experts=4),
    "expert 0 of one .*studentt": lambda: bm.mixture_of_experts(
        "y ~ x", gate="~ x", experts=4, family="studentt"
    ),
    "expert 0 of one .*y ~ 1": lambda: bm.mixture_of_experts("y ~ 1", gate="~ x", experts=4),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_model_is_refused_by_the_part_that_differs(what):
    other = bm.fit(
        CHANGES[what](), four_lines(), "em", random_seed=1, restarts=1, progressbar=False
    )
    with pytest.raises(bm.SpecError, match=what):
        bm.relabel(other, like=fitted("softmax", "em"))


def test_arguments_are_checked():
    fit = fitted("softmax", "em")
    with pytest.raises(bm.SpecError, match=r"bm.relabel\(fit, like=other\)"):
        bm.relabel(fit)
    with pytest.raises(bm.SpecError, match=r"takes no `like`"):
        bm.relabel(fit, "none", like=fit)
    with pytest.raises(bm.SpecError, match=r"`like` must be a fit.*it is 3"):
        bm.relabel(fit, like=3)
    with pytest.raises(bm.SpecError, match=r"Did you mean 'parameters'"):
        bm.relabel(fit, "parameter", like=fit)


# --- refit ---------------------------------------------------------------------------------------


def crossing_lines(n=160):
    """Two crossing lines of equal level: their order by location is a coin toss."""
    rng = np.random.default_rng(0)
    x = np.linspace(-2, 2, n)
    slope = np.where(rng.random(n) < 0.5, 1.5, -1.5)
    return pd.DataFrame({"x": x, "y": slope * x + 0.3 * rng.standard_normal(n)})


@pytest.mark.parametrize("start", [False, True])
def test_bootstrap_samples_have_the_labels_of_the_fit(start):
    table = crossing_lines()
    spec = bm.mixture_of_experts("y ~ x", gate="~ 1", experts=2)
    settings = {"random_seed": 1, "progressbar": False, "restarts": 4}
    fit = bm.fit(spec, table, "em", **settings)
    if start:
        values = {n: fit.idata["posterior"][n].values[0, 0] for n in spec.variables}
        settings = {"start": values}
    slopes, alone = [], []
    for b in range(20):
        sample = table.sample(len(table), replace=True, random_state=b)
        changes = {"start": settings["start"]} if start else {}
        again = bm.refit(fit, sample, random_seed=b, **changes)
        slopes.append(again.idata["posterior"]["mu_coef"].values[0, 0, 0, 1])
        if b < 6:  # what labels of their own would have given
            own = bm.refit(fit, sample, random_seed=b, like=None, **changes)
            alone.append(own.idata["posterior"]["mu_coef"].values[0, 0, 0, 1])
        assert again.idata["relabelling"]["certainty"].min() > 0.95
    assert np.std(slopes) < 0.1
    assert len({*np.sign(slopes)}) == 1
    assert len({*np.sign(alone)}) == 2


def test_folds_have_the_labels_of_the_fit_in_draws_of_laplace():
    table = crossing_lines()
    spec = bm.mixture_of_experts("y ~ x", gate="~ 1", experts=2)
    fit = bm.fit(spec, table, "laplace", random_seed=1, restarts=4, draws=50, progressbar=False)
    first = float(fit.idata["posterior"]["mu_coef"][..., 0, 1].mean())
    for fold in range(4):
        part = bm.refit(fit, table[np.arange(len(table)) % 4 != fold], random_seed=fold)
        assert abs(float(part.idata["posterior"]["mu_coef"][..., 0, 1].mean()) - first) < 0.2


def test_refit_takes_the_labels_of_another_fit(tone_spec, tone):
    settings = {"random_seed": 1, "progressbar": False, "restarts": 3}
    fit = bm.fit(tone_spec, tone, "em", **settings)
    like = reordered(fit, [1, 0])
    again = bm.refit(fit, tone, random_seed=1, like=like)
    np.testing.assert_allclose(
        again.idata["posterior"]["mu_coef"], like.idata["posterior"]["mu_coef"], rtol=1e-9
    )
    with pytest.raises(bm.SpecError, match=r"`like` must be a fit.*it is 'fits'"):
        bm.refit(fit, tone, like="fits")
    with pytest.raises(bm.SpecError, match=r"same gate and experts only"):
        bm.refit(fit, tone, like=fitted("softmax", "em"))


def test_draws_of_a_sampler_follow_a_mode(tone_fit, tone_spec, tone):
    mode = bm.fit(tone_spec, tone, "em", random_seed=1, restarts=3, progressbar=False)
    got = bm.relabel(tone_fit, like=reordered(mode, [1, 0]))
    own = tone_fit.idata["posterior"]["mu_coef"].values
    np.testing.assert_array_equal(got.idata["posterior"]["mu_coef"].values, own[:, :, ::-1])
    before, after = (f.idata["modes"].to_dataset() for f in (tone_fit, got))
    best = before.attrs["best"]
    np.testing.assert_array_equal(
        after["mu_coef"].values[best], before["mu_coef"].values[best][::-1]
    )
    assert got.idata["relabelling"].attrs == {names.METHOD: "responsibilities", names.LIKE: 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bm.relabel(got)


# --- orders that labels cannot follow -------------------------------------------------------------


def told_apart(gate, order=(0, 1, 2, 3), level=4.0):
    """Fit of four lines whose gate is flat, so that only the experts say whose a row is."""
    spec = bm.MixtureOfExperts(gate, [bm.Expert("y ~ 1")] * 4)
    table = pd.DataFrame({"x": np.linspace(-1, 1, 40), "y": level * np.repeat([0, 1, 2, 3], 10)})
    levels = level * np.asarray(order, dtype=float)
    sizes = {dim: len(labels) for dim, labels in spec.structure.coords(spec.design(table)).items()}
    dims = spec.structure.dims
    values = {n: np.zeros([sizes[d] for d in dims[n]]) for n in spec.variables}
    values["mu_coef"][:, 0] = levels
    values["sigma"][:] = 1.0
    return fake_fit(spec, table, values, chains=1, draws=3, spread=1e-3)


@pytest.mark.parametrize("order", [*permutations(range(4))][::4])
@pytest.mark.parametrize("gate", ["softmax", "tree", "sticks"])
def test_an_order_that_cannot_be_exchanged_is_found(gate, order):
    other, fit = told_apart(GATES[gate][0]), told_apart(GATES[gate][0], order)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        aligned = bm.relabel(fit, like=other)
    found = label_reference.other_order(aligned, other)
    assert len([w for w in caught if "in another order" in str(w.message)]) == (found is not None)
    if gate == "softmax" or order == (0, 1, 2, 3):
        assert found is None
    elif gate == "sticks":
        assert found == tuple(np.argsort(order))
    else:
        together = {frozenset(order[:2]), frozenset(order[2:])}
        assert (found is None) == (together == {frozenset((0, 1)), frozenset((2, 3))})


def test_experts_that_hardly_differ_are_in_no_order():
    """However they are permuted, the allocations are nearly the same."""
    gate = GATES["sticks"][0]
    other, fit = told_apart(gate, level=0.3), told_apart(gate, (3, 2, 1, 0), level=0.3)
    assert label_reference.other_order(fit, other) is None


def test_refits_that_are_in_another_order_are_told():
    tone = bm.load_dataset("tone")
    gate = StickBreaking("~ stretchratio")
    spec = bm.mixture_of_experts("tuned ~ stretchratio", gate=gate, experts=2)
    fit = bm.fit(spec, tone, "em", restarts=4, random_seed=1)
    own = fit.idata["posterior"]["mu_coef"].values[0, 0]
    start = {v: fit.idata["posterior"][v].mean(["chain", "draw"]).values for v in spec.variables}
    told = []
    for b in range(8):
        rows = tone.sample(len(tone), replace=True, random_state=b)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = bm.refit(fit, rows, random_seed=b)
        slopes = again.idata["posterior"]["mu_coef"].values[0, 0]
        swapped = np.abs(slopes - own).sum() > np.abs(slopes[::-1] - own).sum()
        messages = [w for w in caught if "in another order" in str(w.message)]
        assert len(messages) == swapped
        told.append(swapped)
        if swapped:
            assert "1 here is 0 there, 0 here is 1 there" in str(messages[0].message)
            assert messages[0].filename == __file__
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                same = bm.refit(fit, rows, random_seed=b, start=start)
                bm.refit(fit, rows, random_seed=b, like=None)
            np.testing.assert_allclose(
                same.idata["posterior"]["mu_coef"].values[0, 0], own, atol=0.5
            )
    assert 0 < sum(told) < 8
