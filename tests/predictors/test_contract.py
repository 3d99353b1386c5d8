"""What every predictor of the registry must hold, so that a new one is tested at once."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytest

import bayes_moe as bm
from bayes_moe import predictors
from bayes_moe.core import names, registry
from bayes_moe.data.matrix import Matrix
from bayes_moe.data.path_matrix import PathMatrix
from bayes_moe.predictors import (
    HSGP,
    MLP,
    Fourier,
    Linear,
    Spline,
)
from bayes_moe.predictors.base import Target
from bayes_moe.predictors.scaling import scaling_of
from bayes_moe.predictors.site import each_draw
from tests.support.examples import EXPERTS, GATE, OUTPUTS, RESPONSE, in_turn, matrix_of
from tests.support.examples import PREDICTORS as EXAMPLES


@pytest.fixture(
    scope="module",
    params=[(name, place) for name in EXAMPLES for place in (GATE, EXPERTS)],
    ids=lambda given: f"{given[0]} of {given[1].stem}",
)
def case(request):
    """A predictor in its place, rows, a graph of it, and draws from its prior."""
    name, place = request.param
    predictor, columns = EXAMPLES[name]
    matrix = matrix_of(columns)
    coords = {"expert": range(OUTPUTS), names.OBS: range(len(matrix.values))}
    b = place.bind(matrix, RESPONSE)
    with pm.Model(coords=coords | predictor.coords(b)) as model:
        prior = predictor.default_prior(b)
        eta = predictor.build(b, prior)
    wanted = list(predictor.variables(place).dims)
    raw = [v.name for v in model.free_RVs]
    drawn = pm.draw(
        [eta, *(model[n] for n in (*wanted, *raw))], 3, random_seed=1, mode="FAST_COMPILE"
    )
    values = dict(zip([*wanted, *raw], drawn[1:], strict=True))
    return SimpleNamespace(
        predictor=predictor,
        site=place,
        binding=b,
        matrix=matrix,
        model=model,
        eta=drawn[0],
        values=values,
        raw=raw,
    )


def test_graph_and_prediction_are_one(case):
    found = case.predictor.evaluate(case.binding, case.values)
    np.testing.assert_allclose(found, case.eta, atol=1e-10)


def test_paths_of_each_draw_are_seen_as_rows(case):
    """Each of three draws has four paths of its own."""
    if case.predictor.has_memory:
        pytest.skip("its states are of whole series: forecasts refuse it beside lags ahead")
    of_paths = case.matrix.at(case.matrix.values[:4])
    paths = PathMatrix.of(of_paths, case.matrix.values[:12], 3)
    found = case.site.bind(paths).evaluated(case.predictor, case.values)
    expected = np.stack([case.eta[j, :, 4 * j : 4 * j + 4] for j in range(3)])
    np.testing.assert_allclose(found, expected, atol=1e-10)
    slow = each_draw(case.predictor, case.site.bind(paths), case.values)
    np.testing.assert_allclose(slow, expected, atol=1e-10)


def test_shapes_and_dims_are_those_of_the_graph(case):
    shapes = case.predictor.shapes(case.binding)
    assert set(shapes) == set(case.predictor.variables(case.site).dims)
    for name, shape in shapes.items():
        assert case.values[name].shape[1:] == shape
    dims = case.predictor.variables(case.site).dims
    dims |= case.predictor.internal_dims(case.site)
    for name in {*shapes, *case.raw}:
        assert case.model.named_vars_to_dims[name] == dims[name]


def test_the_sampler_s_variables_come_back(case):
    found = case.predictor.to_raw(case.binding, case.values)
    assert set(found) == set(case.raw)
    for name in case.raw:
        np.testing.assert_allclose(found[name], case.values[name], rtol=1e-7, atol=1e-9)


def test_new_rows_are_seen_as_the_fitted_ones(case):
    first = 0 if case.predictor.has_memory else 5  # these need the rows before
    some = in_turn(case.matrix.at(case.matrix.values[first:9]))
    found = case.predictor.evaluate(case.site.bind(some), case.values)
    np.testing.assert_allclose(found, case.eta[..., first:9], atol=1e-10)
    far = case.matrix.values[:2] + np.array([0.0] + [1e4] * (len(case.matrix.terms) - 1))
    far = in_turn(case.matrix.at(far))
    assert np.isfinite(case.predictor.evaluate(case.site.bind(far), case.values)).all()


def test_projection_comes_back_to_its_own_curves(case):
    """A curve of the predictor at some parameters of its own is found again, these known."""
    rng = np.random.default_rng(2)
    target = rng.standard_normal((OUTPUTS, len(case.matrix.values)))
    first = case.predictor.project(case.binding, Target(target, np.random.default_rng(0)))
    curve = case.predictor.evaluate(case.binding, {n: v[None] for n, v in first.items()})[0]
    known = {v.name: first[v.name] for v in case.predictor.variables(case.site).hyperparameters}
    second = case.predictor.project(
        case.binding, Target(curve, np.random.default_rng(0), known=known)
    )
    again = case.predictor.evaluate(case.binding, {n: v[None] for n, v in second.items()})[0]
    np.testing.assert_allclose(again, curve, atol=1e-3)
    ridged = case.predictor.project(
        case.binding, Target(target, np.random.default_rng(0), ridge=1e6)
    )
    level = case.predictor.evaluate(case.binding, {n: v[None] for n, v in ridged.items()})
    centre = 0.0 if case.site is GATE else RESPONSE.mean
    assert np.abs(level - centre).max() < 0.01


def test_descriptions_round_trip(case):
    record = case.predictor.to_dict()
    assert predictors.made(record) == case.predictor
    assert hash(predictors.made(record)) == hash(case.predictor)
    assert record["kind"] in registry.TABLE["predictor"]


# --- limits ---------------------------------------------------------------------------------------


def projected(predictor, matrix, target):
    b = replace(GATE, outputs=len(target)).bind(matrix, RESPONSE)
    found = predictor.project(b, Target(target, np.random.default_rng(0)))
    return predictor.evaluate(b, {n: v[None] for n, v in found.items()})[0]


def test_a_spline_holds_lines_exactly():
    matrix = matrix_of(1)
    line = np.stack([3.0 - 2.0 * matrix.values[:, 1], matrix.values[:, 1]])
    np.testing.assert_allclose(projected(Spline(), matrix, line), line, atol=1e-6)
    values = {"gate_coef": np.zeros((1, 1, 12)), "gate_smoothing": np.ones((1, 1))}
    values["gate_coef"][..., 1] = 2.0
    far = matrix.at(matrix.values * 30)
    found = Spline().evaluate(GATE.bind(far), values)[0, 0]
    np.testing.assert_allclose(found, 2.0 * far.standardised[:, 1], rtol=1e-12)


def test_bends_of_a_spline_are_no_lines_and_have_unit_variance():
    z = np.linspace(-3, 3, 201)
    matrix = Matrix(("Intercept", "x"), np.column_stack([np.ones(201), z]), np.zeros(2), np.ones(2))
    bends = Spline().features(matrix)[:, 1:]
    np.testing.assert_allclose(bends.T @ z, 0, atol=1e-10)
    np.testing.assert_allclose(bends.sum(axis=0), 0, atol=1e-10)
    assert (bends**2).sum(axis=1).mean() == pytest.approx(1)


@pytest.mark.parametrize("predictor", [HSGP(m=20), HSGP(m=25, kernel="matern52"), Spline(df=20)])
def test_smooth_curves_are_found(predictor):
    matrix = matrix_of(1, n=300)
    x = matrix.standardised[:, 1]
    curve = np.stack([np.sin(2 * x), np.exp(-(x**2))])
    np.testing.assert_allclose(projected(predictor, matrix, curve), curve, atol=0.01)


@pytest.mark.parametrize("kernel", ["expquad", "matern12", "matern32", "matern52"])
def test_hsgp_has_the_covariance_of_its_kernel(kernel):
    m = 1000 if kernel == "matern12" else 60  # rough curves have many waves
    predictor = HSGP(m=m, c=3.0, kernel=kernel)
    z = np.linspace(-1.5, 1.5, 20)
    matrix = Matrix(("Intercept", "x"), np.column_stack([np.ones(20), z]), np.zeros(2), np.ones(2))
    scale, amplitude = 0.8, 1.7
    own = {"gate_lengthscale": np.full((1, 1), scale), "gate_amplitude": np.full((1, 1), amplitude)}
    coef = np.eye(m + 1)[None]
    values = {"gate_coef": coef, **own}
    raw = predictor.to_raw(replace(GATE, outputs=m + 1).bind(matrix, RESPONSE), values)
    raw = raw["gate_raw"][0]
    waves = predictor.features(matrix) / np.diag(raw)[1:]
    kernels = {
        "expquad": pm.gp.cov.ExpQuad,
        "matern12": pm.gp.cov.Matern12,
        "matern32": pm.gp.cov.Matern32,
        "matern52": pm.gp.cov.Matern52,
    }
    exact = kernels[kernel](1, ls=scale)(z[:, None])
    expected = amplitude**2 * exact.eval(mode="FAST_COMPILE")
    np.testing.assert_allclose(waves @ waves.T, expected, atol=5e-3 * amplitude**2)


def test_a_network_without_hidden_layers_is_linear():
    """Its density is a linear gate's; they differ in units of the sampler's variables alone."""
    data = {"x": np.linspace(0, 3, 20), "z": np.cos(np.arange(20.0)), "y": np.arange(20.0) ** 0.5}
    specs = [
        bm.mixture_of_experts("y ~ x", gate=bm.gates.Softmax("~ x + z", predictor=p), experts=3)
        for p in (None, MLP(hidden=()))
    ]
    graphs = [bm.build(spec, data) for spec in specs]
    logps = [g.model.compile_logp(mode="FAST_COMPILE") for g in graphs]
    scaling = scaling_of(Linear(), GATE.bind(graphs[0].design.rows.matrices["gate"], RESPONSE))
    gaps = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        coef = rng.normal(0, 1, (3, 3))
        coef -= coef.mean(axis=0)
        own = {"mu_coef": rng.normal(0, 1, (3, 2)), "sigma": rng.uniform(0.5, 2, 3)}
        both = ({"gate_coef": scaling.to_user(coef), **own}, {"gate_coef": coef, **own})
        values = [f(g.unconstrained(v)) for f, g, v in zip(logps, graphs, both, strict=True)]
        gaps.append(values[1] - values[0])
    np.testing.assert_allclose(gaps, 2 * np.log(1.5 * 2.5 * 2.5), rtol=1e-10)


@pytest.mark.parametrize(
    ("predictor", "formula", "message"),
    [
        (Fourier(), "~ x + z", "one numeric column"),
        (Spline(), "~ 0 + x", "with an intercept"),
        (HSGP(), "~ g", "is none"),
        (HSGP(), "~ 1", "numeric column"),
        (HSGP(m=50), "~ x + z", "2500 basis functions"),
    ],
)
def test_formulas_that_do_not_serve(predictor, formula, message):
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=30), "z": rng.normal(size=30), "g": list("abc") * 10}
    data["y"] = data["x"] + 1.0
    gate = bm.gates.Softmax(formula, predictor=predictor)
    spec = bm.mixture_of_experts("y ~ 1", gate=gate, experts=2)
    with pytest.raises(bm.SpecError, match=message):
        bm.build(spec, data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spline(df=4), "`df`"),
        (lambda: Spline(degree=0), "`degree`"),
        (lambda: Fourier(period=0), "`period`"),
        (lambda: MLP(scale="none"), "scale"),
        (lambda: MLP(trunk="1a"), "`trunk`"),
        (lambda: MLP(hidden=(), trunk="t"), "hidden layers"),
        (lambda: HSGP(m=0), "`m`"),
        (lambda: HSGP(c=0.5), "`c`"),
        (lambda: HSGP(kernel="matern"), "Did you mean"),
        (lambda: MLP(hidden=3), "`hidden`"),
        (lambda: MLP(hidden=(0,)), "`hidden`"),
        (lambda: MLP(activation="tan"), "Did you mean 'tanh'"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(bm.SpecError, match=message):
        make()
