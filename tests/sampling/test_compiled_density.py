"""The compiled density of a model is the objective's and PyMC's, with its gradient."""

import ctypes
import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import bayes_moe as bm
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.gates import Softmax, StickBreaking, Tree
from bayes_moe.gates.splits import SplitTree
from bayes_moe.kernels import families as kernels
from bayes_moe.kernels import linear_model as linear
from bayes_moe.kernels.families import has_kernel
from bayes_moe.predictors import Linear
from bayes_moe.priors.prior import DISTRIBUTIONS
from bayes_moe.sampling.compiled_density import LinearTable, supports
from tests.support.examples import FAMILIES, POSITIVE, REAL
from tests.support.linear_models import MODELS, plain, points, table
from tests.support.problems import problem

P = bm.Prior
COMPILED = {
    name: spec
    for name, spec in MODELS.items()
    if all(has_kernel(expert.family) for expert in spec.experts)
}
CASES = COMPILED | {
    "one expert, own formulas": plain("studentt", experts=1, sigma="~ x", nu="~ z"),
    "one parameter with a formula": plain("studentt", sigma="~ x"),
    "the last with a formula": plain("studentt", nu="~ x"),
    "a constant feature": plain("normal", experts=3, formula="normal ~ 0 + I(-3 + 0 * x)"),
    "a constant gate of six": plain("normal", experts=6, gate="~ 1"),
    "no feature at all": plain("normal", experts=3, gate="~ 1", formula="normal ~ 1"),
    "a gate without intercept": plain("poisson", experts=3, gate="~ 0 + z"),
    "one table for all": plain("studentt", experts=3, gate="~ x", sigma="~ x", nu="~ x"),
    "many terms": plain("normal", experts=5, formula="normal ~ x * z + I(x**2) + I(z**3) + n"),
    "eight leaves": plain("normal", experts=8, gate=Tree(branching=(2, 2, 2), formula="~ z")),
    "wide": plain("poisson", experts=10, gate=Tree([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])),
    "unbalanced, leaves in no order": plain(
        "bernoulli", experts=6, gate=Tree([3, [[5, 0, 2], 1], 4], formula="~ x * z")
    ),
    "children before parents": plain(
        "normal",
        experts=5,
        gate=Tree(
            [[0, [1, 2]], [3, 4]],
            formula="~ x",
            formulas={"0": "~ z", "root": "~ z", "1": "~ 1", "0.1": "~ 0 + x"},
        ),
    ),
    "a constant tree": plain("normal", experts=6, gate=Tree(branching=(3, 2), formula="~ 1")),
    "two sticks": plain("normal", experts=2, gate=StickBreaking("~ z")),
    "constant sticks": plain("studentt", experts=4, gate=StickBreaking("~ 1")),
    "counts of outcomes": plain(
        "multinomial", formula="cbind(binomial, I(n - binomial)) ~ x", trials="n"
    ),
    "offsets of outcomes": plain(
        "multinomial",
        formula="cbind(binomial, I(n - binomial)) ~ x + offset(0.1 * x, z)",
        trials="n",
    ),
    "offset of a root": plain(
        bm.families.Poisson(link="sqrt"), formula="poisson ~ x + offset(0.1 * z)"
    ),
    "trials by number": plain("binomial", experts=3, trials=40),
    "trials by expression": plain("binomial", trials="I(n + 3)"),
    "families side by side": bm.MixtureOfExperts(
        bm.gates.Softmax("~ z"),
        [
            bm.Expert("binomial ~ x", "binomial", name="few", trials="n"),
            bm.Expert("binomial ~ 1", "poisson", name="many"),
            bm.Expert("binomial ~ x", "binomial", name="few", trials="n"),
            bm.Expert("binomial ~ x + z", "binomial", name="most", trials=60),
        ],
    ),
}


def free(spec, design):
    """Coordinates with the Jacobian and no floor: the density that a sampler sees."""
    moving = parameter_vector(spec, design, jacobian=True)
    return replace(moving, blocks=tuple(replace(s, floor=-np.inf) for s in moving.blocks))


@pytest.fixture
def unbounded(monkeypatch):
    """The objective without the largest log scale of an optimiser, which a sampler has not."""
    monkeypatch.setattr("bayes_moe.em.row_mixture.LARGEST_LOG", 1e4)


def status(native, theta):
    """What the C function returns at a point, its value and its gradient."""
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)
    theta = np.ascontiguousarray(theta, dtype=float)
    gradient, value = np.full(theta.size, np.nan), np.full(1, np.nan)
    arrays = (a.ctypes.data for a in (theta, gradient, value, native.table))
    code = prototype(linear.log_density().address)(theta.size, *arrays)
    return code, value[0], gradient


def same(moving, theta):
    """Hold the compiled density to the objective at points (point, coordinate)."""
    native = LinearTable(moving).density()
    assert native.size == moving.size == theta.shape[1]
    with np.errstate(all="ignore"):
        expected = Objective(moving).evaluate(theta, Curvature.COMPLETE)
    for point, value, gradient in zip(theta, expected.value, expected.gradient, strict=True):
        code, *found = status(native, point)
        finite = np.isfinite(value) and np.isfinite(gradient).all()
        assert code == (0 if finite else linear.INVALID)
        np.testing.assert_array_equal(native(point)[0], found[0])
        np.testing.assert_array_equal(native(point)[1], found[1])
        if finite:
            assert found[0] == pytest.approx(value, rel=1e-9, abs=1e-9)
            np.testing.assert_allclose(found[1], gradient, rtol=1e-9, atol=1e-9)


def scattered(size, seed=0, scales=(0.1, 1.0, 5.0, 30.0)):
    draws = np.random.default_rng(seed).standard_normal((len(scales), size))
    return draws * np.array(scales)[:, None]


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.usefixtures("unbounded")
def test_the_compiled_density_is_the_objective(name):
    moving = free(CASES[name], CASES[name].design(table()))
    same(moving, points(moving))
    # A residual to the power of twenty leaves little but rounding of the others.
    scales = (0.1, 1.0) if name.startswith("generalised") else (0.1, 1.0, 5.0, 30.0)
    same(moving, scattered(moving.size, scales=scales))


@pytest.mark.parametrize("name", ["eight leaves", "wide", "children before parents", "sticks"])
@pytest.mark.usefixtures("unbounded")
def test_the_compiled_density_is_the_objective_far_out(name):
    """Weights of a gate that is 0 or 1 to the last bit, and points without a density."""
    moving = free(CASES[name], CASES[name].design(table()))
    gate = slice(0, max(s.where.stop for s in moving.blocks if s.factor is None))
    for scale in (1e2, 1e4, 1e6):
        theta = points(moving)
        theta[:, gate] *= scale
        same(moving, theta)
    same(moving, scattered(moving.size, scales=(300.0, 1e4, 1e8, 1e200)))


@pytest.mark.parametrize("first", range(0, 100, 20))
@pytest.mark.usefixtures("unbounded")
def test_the_compiled_density_is_the_objective_of_random_problems(first):
    for number in range(first, first + 20):
        spec, data = problem(number)
        moving = free(spec, spec.design(data))
        same(moving, scattered(moving.size, number))


def long_table(rows):
    rng = np.random.default_rng(rows)
    x, z = rng.normal(2, 3, rows), rng.uniform(-1, 1, rows)
    n = rng.integers(2, 30, rows)
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "n": n,
            "normal": 3 + x + rng.normal(0, 2, rows),
            "binomial": np.minimum(np.arange(rows) % 7, n),
            "amount": np.where(np.arange(rows) % 3, np.exp(z), 0.0),
        }
    )


KINDS = [
    bm.Expert("normal ~ x", name="line", sigma="~ z"),
    bm.Expert("normal ~ z", "studentt", name="curve"),
]
NONE, AMOUNT = bm.Expert("amount", "pointmass"), bm.Expert("amount ~ x", "gamma")
LONG = {
    "one": plain("normal", experts=1),
    "three": plain("normal", experts=3, sigma="~ z"),
    "trials": plain("binomial", trials="n"),
    "two kinds": bm.MixtureOfExperts(bm.gates.Softmax("~ 1"), [*KINDS, KINDS[0]]),
    "sticks": plain("normal", experts=3, gate=StickBreaking("~ x")),
    "tree": bm.MixtureOfExperts(
        Tree([0, [1, 2]], formula="~ z", formulas={"1": "~ x"}),
        [*KINDS, KINDS[0]],
    ),
    "none or amounts": bm.MixtureOfExperts(
        Tree([0, [1, 2]], formula="~ z"), [NONE, AMOUNT, AMOUNT]
    ),
    "line and outliers": bm.MixtureOfExperts(
        bm.gates.Softmax("~ z"), [KINDS[0], bm.Expert("normal", bm.families.Uniform(-20, 40))]
    ),
    "sticks and zeros": bm.MixtureOfExperts(StickBreaking("~ z"), [AMOUNT, AMOUNT, NONE]),
}


@pytest.mark.parametrize("name", list(LONG))
@pytest.mark.parametrize("rows", [3, 4, 15, 16, 17, 31, 33, 255, 256, 257, 511, 513, 1000])
@pytest.mark.usefixtures("unbounded")
def test_the_compiled_density_is_the_objective_for_any_number_of_rows(name, rows):
    moving = free(LONG[name], LONG[name].design(long_table(rows)))
    same(moving, scattered(moving.size, rows))


@pytest.mark.parametrize("rows", [17, 300])
@pytest.mark.parametrize("name", ["three", "tree"])
def test_rows_add_up(name, rows):
    """A table twice over has twice the likelihood, wherever its chunks begin and end."""
    spec, data = LONG[name], long_table(rows)
    once, twice = (free(spec, spec.design(pd.concat([data] * k))) for k in (1, 2))
    theta = scattered(once.size, scales=(0.5,))
    value, gradient = LinearTable(once).density()(theta[0])
    both, slope = LinearTable(twice).density()(theta[0])
    prior, first, _ = (part[0] for part in once.log_prior(theta))
    # The response's sd, and with it every default prior, is the same for both.
    assert both - prior == pytest.approx(2 * (value - prior), rel=1e-10)
    np.testing.assert_allclose(slope - first, 2 * (gradient - first), rtol=1e-9, atol=1e-9)


def prior(name, terms=None):
    """A prior with arguments by number, or one a term."""
    arguments = {k: 1.0 + 0.5 * j for j, k in enumerate(DISTRIBUTIONS[name].arguments)}
    if terms is not None:
        arguments = {k: [v * (1 + 0.3 * t) for t in range(terms)] for k, v in arguments.items()}
    return P(name, **arguments)


@pytest.mark.parametrize("name", [*REAL, "ZeroSumNormal"])
@pytest.mark.usefixtures("unbounded")
def test_priors_of_coefficients(name):
    priors = {"gate_coef": prior(name, 2)}
    if name in REAL:
        priors |= {"mu_coef": prior(name, 2), "sigma_coef": prior(name)}
    spec = plain("normal", experts=3, sigma="~ z", priors=priors)
    moving = free(spec, spec.design(table()))
    same(moving, scattered(moving.size))


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.usefixtures("unbounded")
def test_priors_of_constants(name):
    spec = plain("studentt", experts=2, priors={"sigma": prior(name), "nu": prior(name)})
    moving = free(spec, spec.design(table()))
    same(moving, scattered(moving.size, scales=(0.1, 1.0, 5.0)))


ON_GRAPH = [
    "normal-1",
    "studentt-2",
    "poisson-4",
    "binomial-2",
    "bernoulli-2",
    "all formulas",
    "two kinds",
    "heavy priors",
    "normal gate prior",
    "trials by number",
    "binary tree",
    "tree with own formulas",
    "tree with a normal prior",
    "sticks",
]


@pytest.mark.parametrize("name", ON_GRAPH)
def test_the_compiled_density_is_pymc_s(name):
    spec = CASES[name]
    design = spec.design(table())
    graph = bm.build(spec, design)
    logp = graph.model.compile_logp(mode="FAST_COMPILE")
    moving = parameter_vector(spec, design, jacobian=True)
    native, theta = LinearTable(moving).density(), points(moving)
    values = moving.variables(theta)
    for j, point in enumerate(theta):
        at = graph.unconstrained({n: v[j] for n, v in values.items()})
        assert native(point)[0] == pytest.approx(float(logp(at)), rel=1e-8)


@pytest.mark.parametrize("name", ["two kinds", "all formulas", "binomial-4", "wide", "sticks"])
def test_the_gradient_is_that_of_differences(name):
    moving = free(CASES[name], CASES[name].design(table()))
    native, theta = LinearTable(moving).density(), points(moving, 1)[0]
    step, gradient = 1e-4, native(theta)[1]
    for c, e in enumerate(np.eye(moving.size) * step):
        near = native(theta + e)[0] - native(theta - e)[0]
        far = native(theta + 2 * e)[0] - native(theta - 2 * e)[0]
        slope = (8 * near - far) / (12 * step)
        assert gradient[c] == pytest.approx(slope, rel=1e-6, abs=1e-6)


TINY_SHAPES = ("gamma", "inversegaussian", "lomax", "beta", "vonmises")
"""Families whose last parameter may be tiny: the log density is then finite."""


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_density_that_is_not_finite_is_reported(family):
    moving = free(*of(CASES[f"{family}-2"]))
    native = LinearTable(moving).density()
    assert status(native, np.zeros(moving.size))[0] == 0
    for bad in (np.nan, np.inf, -np.inf, 1e200, -1e200):
        theta = np.zeros(moving.size)
        theta[-1] = bad
        # The log density of a tiny shape is about a multiple of its logarithm, which is finite.
        if bad != -1e200 or family not in TINY_SHAPES:
            assert status(native, theta)[0] == linear.INVALID
        assert status(native, np.full(moving.size, bad))[0] == linear.INVALID
    assert status(native, np.zeros(moving.size))[0] == 0  # nothing is left behind


def of(spec):
    return spec, spec.design(table())


@pytest.mark.parametrize("more", [-1, 1])
def test_a_point_of_another_size_is_refused(more):
    moving = free(*of(CASES["normal-2"]))
    code, value, gradient = status(LinearTable(moving).density(), np.zeros(moving.size + more))
    assert code == -1
    assert np.isnan(value)
    assert np.isnan(gradient).all()


def test_points_of_any_layout_are_taken():
    moving = free(*of(CASES["normal-2"]))
    native = LinearTable(moving).density()
    wide = np.random.default_rng(0).standard_normal((moving.size, 3))
    np.testing.assert_array_equal(native(wide[:, 1])[1], native(wide[:, 1].copy())[1])
    assert native(np.zeros(moving.size, dtype=int))[0] == native(np.zeros(moving.size))[0]


def test_the_data_live_as_long_as_the_density():
    native = LinearTable(free(*of(CASES["two kinds"]))).density()
    theta = scattered(native.size, scales=(0.5,))[0]
    value, gradient = native(theta)
    gc.collect()
    filled = [np.full(k, np.nan) for k in range(8, 2000, 8)]
    again, other = native(theta)
    assert len(filled) > 0
    assert again == value
    np.testing.assert_array_equal(other, gradient)


def test_threads_do_not_meet():
    moving = free(*of(CASES["all formulas"]))
    native, theta = LinearTable(moving).density(), scattered(moving.size, scales=[0.5] * 200)
    alone = [native(point) for point in theta]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: [native(point) for point in theta], range(4)):
            for (value, gradient), (its, other) in zip(alone, found, strict=True):
                assert value == its
                np.testing.assert_array_equal(gradient, other)


def products(experts):
    """Two models of the same features, and one whose experts have the product of both densities."""
    given = {"gate": "~ 1", "experts": experts}
    one = free(*of(bm.mixture_of_experts("normal ~ z", sigma="~ x", **given)))
    other = free(*of(bm.mixture_of_experts("x ~ z", family="studentt", **given)))
    theirs = [s for s in other.blocks if s.factor is not None]
    shift = one.size - theirs[0].where.start
    added = [
        replace(
            s,
            factor=1,
            variable=f"other_{s.variable}",
            where=slice(s.where.start + shift, s.where.stop + shift),
        )
        for s in theirs
    ]
    blocks = (*one.spec.structure.blocks, *other.spec.structure.blocks)
    components = one.spec.structure.components  # of those with offsets, of which there are none
    gate = one.spec.structure.gate
    structure = SimpleNamespace(blocks=blocks, gate=gate, components=components)
    spec = SimpleNamespace(n_experts=experts, structure=structure)
    return one, other, ParameterVector(spec, one.design, (*one.blocks, *added), True)


class Product(LinearTable):
    """A layout whose second block adds to the first, with a response of its own."""

    def __init__(self, moving, response):
        super().__init__(moving)
        self.response = response

    def blocks(self):
        first, second = self.parameters.spec.structure.blocks
        own, its = ([s.variable for s in self.parameters.blocks if s.factor == j] for j in (0, 1))
        return [
            self.block(first, [(v, 0) for v in own], self.rows.observed),
            self.block(second, [(v, 0) for v in its], self.response, add=True),
        ]


def test_a_block_adds_to_the_log_density_of_experts():
    one, other, both = products(1)
    native = Product(both, other.design.rows.observed).density()
    for theta in scattered(native.size, scales=(0.1, 1.0, 3.0)):
        value, gradient = native(theta)
        parts = [
            LinearTable(one).density()(theta[: one.size]),
            LinearTable(other).density()(theta[one.size :]),
        ]
        assert value == pytest.approx(sum(v for v, _ in parts), rel=1e-12)
        np.testing.assert_allclose(gradient, np.concatenate([g for _, g in parts]), rtol=1e-12)


def test_a_block_that_adds_has_derivatives():
    _, other, both = products(3)
    native = Product(both, other.design.rows.observed).density()
    theta, step = points(both, 1)[0], 1e-5
    gradient = native(theta)[1]
    for c, e in enumerate(np.eye(native.size) * step):
        slope = (native(theta + e)[0] - native(theta - e)[0]) / (2 * step)
        assert gradient[c] == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_one_softmax_as_a_split_is_the_same(monkeypatch):
    """The way of trees and that of one softmax agree."""
    for name in ("normal-2", "normal-4", "a constant gate of six"):
        moving = free(*of(CASES[name]))
        flat = LinearTable(moving).density()
        monkeypatch.setattr(SplitTree, "is_single_softmax", False)
        split = LinearTable(moving).density()
        monkeypatch.undo()
        assert flat.table[linear.SPLITS] == 0
        assert split.table[linear.SPLITS] == 1
        for theta in scattered(moving.size):
            value, gradient = split(theta)
            assert value == pytest.approx(flat(theta)[0], rel=1e-12)
            np.testing.assert_allclose(gradient, flat(theta)[1], rtol=1e-9, atol=1e-9)


def test_models_of_gates_of_softmaxes_and_linear_predictors_are_supported(monkeypatch):
    assert supports(CASES["families side by side"])

    assert supports(CASES["eight leaves"])
    assert supports(CASES["sticks"])

    class Other(Softmax):
        """A gate that is no product of softmaxes, whatever it is made of."""

        def structure(self, n_experts):
            return replace(super().structure(n_experts), splits=None)

    class Curved(Linear):
        """A predictor that is not linear, whatever it is made of."""

    class Bent(Softmax):
        """A softmax of such predictors."""

        def structure(self, n_experts):
            softmax = super().structure(n_experts)
            heads = tuple(replace(h, predictor=Curved()) for h in softmax.heads)
            return replace(softmax, heads=heads)

    experts = CASES["families side by side"].experts
    assert not supports(bm.MixtureOfExperts(Other("~ 1"), experts))
    assert not supports(bm.MixtureOfExperts(Bent("~ 1"), experts))
    monkeypatch.setattr(kernels, "has_kernel", lambda family: family.kind != "normal")
    assert not supports(bm.mixture_of_experts("y ~ x", experts=2))
