"""Fits with sparse columns are those with the same columns as arrays."""

import numpy as np
import pytest
from scipy import sparse

import bayes_moe as bm
from bayes_moe.core.errors import SpecError
from bayes_moe.em import objective as objectives
from bayes_moe.em.curvature_products import CurvatureProducts, truncated_step
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.model.spec import with_levels

N, WIDTH = 300, 5


def table(response):
    rng = np.random.default_rng(3)
    x = sparse.random(N, WIDTH, density=0.3, rng=rng, format="csr")
    dense, a = x.toarray(), rng.normal(size=N)
    first = rng.random(N) < 1 / (1 + np.exp(-(4 * dense[:, 0] - 1 + 2 * a)))
    slopes = rng.normal(size=(2, WIDTH))
    eta = np.where(first, 4 * dense @ slopes[0] + 1, 4 * dense @ slopes[1] - 1)
    drawn = {
        "normal": eta + 0.3 * rng.normal(size=N),
        "bernoulli": (rng.random(N) < 1 / (1 + np.exp(-3 * eta))).astype(int),
        "poisson": rng.poisson(np.exp(0.5 * eta)),
        "categorical": np.array(["a", "b", "c"])[rng.integers(3, size=N)],
    }
    more = {"w": rng.integers(3, size=N), "id": np.arange(N) // 2, "e": rng.normal(size=N)}
    return {"x": x, "a": a, "y": drawn[response]} | more


def as_arrays(data):
    return data | {"x": data["x"].toarray()}


def of_terms(variable, like):
    """A variable with terms in the order of another's."""
    dims = [d for d in variable.dims if str(d).endswith("term")]
    return variable.sel({d: like[d] for d in dims}).transpose(*like.dims)


MODELS = {
    "one expert": ("normal", {"experts": 1}),
    "normal": ("normal", {"gate": "~ x + a"}),
    "scales": ("normal", {"gate": "~ 1", "sigma": "~ x"}),
    "classes": ("categorical", {"gate": "~ a"}),
    "weights": ("bernoulli", {"gate": "~ x", "weights": "w"}),
    "offset": ("poisson", {"formula": "y ~ x + offset(e)", "gate": "~ a"}),
    "held": ("normal", {"gate": "~ x", "fixed": {"sigma": 0.4}}),
    "shared": ("normal", {"gate": "~ x", "shared": "sigma"}),
    "no constant": ("normal", {"formula": "y ~ 0 + x", "gate": "~ 0 + x + a"}),
    "shapes": ("normal", {"family": "skewnormal", "gate": "~ a"}),
    "truncated": ("normal", {"formula": "truncated(y, lower=-3) ~ x + a", "gate": "~ 1"}),
}


def made(name, **more):
    family, settings = MODELS[name]
    data = table(family)
    settings = {"family": family, "experts": 2} | settings | more
    if name == "truncated":
        keep = data["y"] > -3
        data = {n: v[keep] for n, v in data.items()}
    return bm.mixture_of_experts(settings.pop("formula", "y ~ x + a"), **settings), data


@pytest.mark.parametrize("name", MODELS)
def test_slopes_and_products_are_those_of_arrays(name):
    spec, data = made(name)
    designs = [spec.design(d) for d in (data, as_arrays(data))]
    spec = with_levels(spec, designs[0].levels)
    vectors = [parameter_vector(spec, design) for design in designs]
    own, other = (Objective(v) for v in vectors)
    rng = np.random.default_rng(0)
    values = vectors[0].variables(0.3 * rng.normal(size=(2, own.size)))
    coords = [spec.structure.coords(v.design) for v in vectors]
    dims = spec.structure.dims
    reordered = {}
    for n, v in values.items():
        for axis, dim in enumerate(dims[n], start=1):
            if dim.endswith("term"):
                place = {t: j for j, t in enumerate(coords[0][dim])}
                v = np.take(v, [place[t] for t in coords[1][dim]], axis=axis)
        reordered[n] = v
    points = [v.points(x) for v, x in zip(vectors, (values, reordered), strict=True)]
    np.testing.assert_allclose(own.value(points[0]), other.value(points[1]), rtol=1e-12)
    for o, p in ((own, points[0]), (other, points[1])):
        slope, full = o.slope(p), o.evaluate(p, Curvature.OBSERVED)
        size = np.abs(full.gradient).max()
        np.testing.assert_allclose(slope.value, full.value, rtol=1e-13)
        np.testing.assert_allclose(slope.gradient, full.gradient, atol=1e-11 * size)
        for rule in Curvature:
            products = CurvatureProducts(o, p[0], rule)
            step = rng.normal(size=len(products.gradient))
            matrix = o.evaluate(p[:1], rule).curvature[0]
            if o.vector.constraint is not None:
                matrix = o.vector.constraint.curvature(matrix[None])[0]
            expected = matrix @ step
            size = np.abs(expected).max()
            np.testing.assert_allclose(products.times(step), expected, atol=1e-11 * size)
    norms = [np.linalg.norm(o.slope(p).gradient) for o, p in ((own, points[0]), (other, points[1]))]
    assert norms[0] == pytest.approx(norms[1], rel=1e-10)


@pytest.mark.parametrize("name", ["one expert", "normal", "weights", "held", "shapes"])
def test_a_fit_is_that_of_arrays(name):
    spec, data = made(name)
    own, other = (bm.fit(spec, d, "em", random_seed=1) for d in (data, as_arrays(data)))
    best = [float(f.idata["fit"]["objective"]) for f in (own, other)]
    assert best[0] == pytest.approx(best[1], abs=1e-8)
    assert own.idata["fit"]["converged"]
    for group, atol in (("posterior", 1e-6), ("standard_error", 1e-6)):
        for v, found in own.idata[group].data_vars.items():
            expected = of_terms(other.idata[group][v], found)
            np.testing.assert_allclose(found, expected, atol=atol, err_msg=v)
    new = {n: v[:20] for n, v in data.items()}
    for function in (bm.log_density, bm.responsibilities):
        np.testing.assert_allclose(
            function(own, new), function(other, as_arrays(new)), rtol=1e-7, atol=1e-8
        )


@pytest.fixture(scope="module")
def fit():
    spec, data = made("normal")
    return bm.fit(spec, data, "em", random_seed=1)


def test_predictions_at_the_same_parameters(fit):
    """The parameters of the fit, read by a model of arrays."""
    spec, data = made("normal")
    dense = bm.fit(spec, as_arrays(data), "em", random_seed=1, restarts=1, moves=0)
    same = {n: of_terms(fit.idata.posterior[n], v) for n, v in dense.idata.posterior.items()}
    dense.idata["posterior"] = dense.idata["posterior"].to_dataset().assign(same)
    new = {n: v[:20] for n, v in data.items()}
    for quantity in ("mean", "sd", "quantile"):
        own, other = (
            getattr(bm.predict(f, d), quantity)(*([0.3] if quantity == "quantile" else []))
            for f, d in ((fit, new), (dense, as_arrays(new)))
        )
        np.testing.assert_allclose(own, other, atol=1e-10)
    np.testing.assert_allclose(
        bm.log_density(fit, new), bm.log_density(dense, as_arrays(new)), atol=1e-10
    )


def test_map_is_em(fit):
    spec, data = made("normal")
    other = bm.fit(spec, data, "map", random_seed=1)
    np.testing.assert_allclose(other.idata["fit"]["objective"], fit.idata["fit"]["objective"])
    assert other.idata["fit"].attrs["optimizer"] == "lbfgs"


def test_a_saved_fit_and_another(fit, tmp_path):
    _, data = made("normal")
    again = bm.load(bm.save(fit, tmp_path / "fit.nc"))
    new = {name: data[name][:6] for name in ("x", "a")}
    np.testing.assert_array_equal(bm.predict(again, new).mean(), bm.predict(fit, new).mean())
    other = bm.refit(again, {name: values[:200] for name, values in data.items()}, random_seed=1)
    assert other.design.rows.size == 200
    assert bm.summary(fit).shape[0] == sum(v.size for v in fit.idata.posterior.values())


def test_laplace_is_that_of_arrays():
    spec, data = made("one expert")
    sds = [
        bm.fit(spec, d, "laplace", random_seed=1, draws=4000, chains=1).idata.posterior["mu_coef"]
        for d in (data, as_arrays(data))
    ]
    found = sds[0].std(("chain", "draw"))
    np.testing.assert_allclose(found, of_terms(sds[1].std(("chain", "draw")), found), rtol=0.06)


def test_rows_of_a_group_share_an_expert():
    spec, data = made("normal", gate="~ 1", group="id")
    own, other = (
        bm.fit(spec, d, "em", random_seed=1).idata["fit"] for d in (data, as_arrays(data))
    )
    assert float(own["objective"]) == pytest.approx(float(other["objective"]), abs=1e-5)
    with pytest.raises(bm.DataError, match=r"The gate's feature 'x\[.\]' differs within"):
        made("normal", gate="~ x", group="id")[0].design(data)


def test_many_coefficients_have_no_errors(monkeypatch):
    monkeypatch.setattr(objectives, "LARGEST_INFORMATION", 3)
    spec, data = made("one expert")
    found = bm.fit(spec, data, "em", random_seed=1)
    assert found.idata["fit"]["converged"]
    assert all(np.isnan(v).all() for v in found.idata["standard_error"].values())
    with pytest.raises(SpecError, match="no normal approximation"):
        bm.fit(spec, data, "laplace", random_seed=1)


def test_one_expert_is_penalised_logistic_regression():
    """More columns than rows, against scikit-learn's estimate."""
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(5)
    x = sparse.random(150, 400, density=0.05, rng=rng, format="csr")
    y = (rng.random(150) < 1 / (1 + np.exp(-(x @ rng.normal(size=400))))).astype(int)
    sd = np.r_[1e4, np.full(400, 2.0)]
    spec = bm.mixture_of_experts(
        "y ~ x",
        experts=1,
        family="bernoulli",
        priors={"p_coef": bm.Prior("Normal", mu=0, sigma=sd)},
    )
    fit = bm.fit(spec, {"x": x, "y": y}, "em", random_seed=1)
    model = linear.LogisticRegression(C=4.0, tol=1e-10, max_iter=10_000).fit(x, y)
    found = fit.idata.posterior["p_coef"].values.ravel()
    np.testing.assert_allclose(found[1:], model.coef_[0], atol=1e-5)
    assert found[0] == pytest.approx(model.intercept_[0], abs=1e-5)


@pytest.mark.parametrize("method", ["nuts", "advi", "pathfinder", "ensemble"])
def test_other_methods_take_arrays(method):
    spec, data = made("normal")
    with pytest.raises(SpecError, match=rf"method='{method}' takes no sparse matrix.*x\.toarray"):
        bm.fit(spec, data, method)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictor": "horseshoe"}, "Horseshoe.* of 'mu' takes no sparse matrix"),
        ({"predictor": bm.predictors.MLP((3,))}, "MLP.* of 'mu' takes no sparse matrix"),
        ({"gate": bm.gates.Gaussian("~ a")}, "whose gate models its features, takes no sparse"),
        ({"family": "laplace"}, "density of Laplace.. has a kink"),
        ({"formula": "y ~ x + (1 | id)"}, "takes no sparse matrix"),
        ({"priors": {"mu_coef": bm.Prior("Laplace", mu=0, b=1)}}, "A Laplace prior has a kink"),
    ],
)
def test_other_models_take_arrays(change, message):
    formula = {"formula": "y ~ x"} | change
    spec = bm.mixture_of_experts(formula.pop("formula"), **({"experts": 2} | formula))
    with pytest.raises(SpecError, match=message):
        bm.fit(spec, table("normal"), "em")


def test_graphs_take_arrays(fit):
    spec, data = made("normal")
    for make in (lambda: bm.build(spec, data), lambda: bm.build(fit)):
        with pytest.raises(SpecError, match="PyMC's graph of a model takes no sparse matrix"):
            make()


def test_steps_end_at_the_radius_and_beyond_concavity():
    """Steihaug's step: Newton's inside the radius, else on the sphere and a gain of the model."""
    spec, data = made("normal")
    objective = Objective(parameter_vector(spec, spec.design(data)))
    theta = 0.5 * np.random.default_rng(0).normal(size=objective.size)
    matrix = objective.evaluate(theta[None], Curvature.OBSERVED).curvature[0]
    products = CurvatureProducts(objective, theta, Curvature.OBSERVED)
    assert np.linalg.eigvalsh(matrix).min() < 0
    found = truncated_step(products, 1e-8, 500, radius=100.0)
    assert not found.concave
    assert found.bounded
    assert found.norm == pytest.approx(100.0)
    gain = found.step @ products.gradient - 0.5 * found.step @ matrix @ found.step
    assert found.gain == pytest.approx(gain, rel=1e-9)
    assert gain > 0
    complete = CurvatureProducts(objective, theta, Curvature.COMPLETE)
    matrix = objective.evaluate(theta[None], Curvature.COMPLETE).curvature[0]
    newton = truncated_step(complete, 1e-12, 500)
    np.testing.assert_allclose(newton.step, np.linalg.solve(matrix, complete.gradient), rtol=1e-6)
