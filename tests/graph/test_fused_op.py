"""The mixture as one operation: the formulas' values and derivatives, in every compiler."""

import warnings

import arviz_stats as azs
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.compile.mode import Mode

import bayes_moe as bm
from bayes_moe import families
from bayes_moe.core.arrays import log_softmax, symbolic
from bayes_moe.families import RowData
from bayes_moe.graph.family_group import FamilyGroup
from bayes_moe.graph.fused_op import FusedMixture, fused_mixture
from bayes_moe.model.likelihood import log_mixture
from tests.support import examples
from tests.support.roles import REACH, spread_over

QUICK = Mode(linker="py", optimizer="fast_compile")
STABLE = Mode(linker="py", optimizer="fast_run").excluding("fusion", "inplace")

FAMILIES = list(examples.FAMILIES)
ROWS = 17


def counts_of(part, known):
    """Known counts of a group by name."""
    return dict(zip(part.family.known_counts, known, strict=True))


class Layout:
    """Parts of a mixture with symbolic inputs, and numbers for them.

    Every predictor varies with the row, but those in ``same`` of (part, parameter), and what is
    known of rows if ``trials`` is a number. JAX must know the number of experts: ``fixed``.
    """

    def __init__(self, *kinds, same=(), trials=None, fixed=False):
        self.trials, self.parts, start = trials, [], 0
        for family, number in kinds:
            self.parts.append(FamilyGroup(families.by_name(family), start, start + number))
            start += number
        self.experts = start
        self.y = pt.vector("y", dtype="float64")
        shape = (start if fixed else None, None)
        self.logits = pt.tensor("logits", shape=shape, dtype="float64")
        self.etas = [
            [
                pt.tensor(p.name, shape=(number if fixed else None, rows), dtype="float64")
                for a, p in enumerate(part.family.parameters)
                for rows in [1 if (j, a) in same else None]
            ]
            for j, (part, (_, number)) in enumerate(zip(self.parts, kinds, strict=True))
        ]
        self.known = [
            [
                pt.tensor(k, shape=(1, None if trials is None else 1), dtype="float64")
                for k in part.family.known_counts
            ]
            for part in self.parts
        ]
        self.moving = [self.logits, *(eta for etas in self.etas for eta in etas)]
        self.inputs = [self.y, *self.moving, *(k for known in self.known for k in known)]

    @property
    def fused(self):
        xp = symbolic()
        data = [
            part.family.data(self.y, counts_of(part, known), xp)
            for part, known in zip(self.parts, self.known, strict=True)
        ]
        parts = list(zip(self.parts, self.etas, data, strict=True))
        return fused_mixture(self.y, self.logits, parts)

    @property
    def formulas(self):
        xp = symbolic()
        densities = [
            part.family.log_density(
                self.y,
                part.family.named(
                    etas, dict(zip(part.family.known_counts, known, strict=True)), xp
                ),
                xp,
            )
            for part, etas, known in zip(*self._all, strict=True)
        ]
        return log_mixture(log_softmax(self.logits, xp), xp.concatenate(densities, axis=-2), xp)

    @property
    def _all(self):
        return self.parts, self.etas, self.known

    def compiled(self, value, mode):
        """Return the function that gives the row log densities and all slopes of their sum."""
        slopes = pytensor.grad(value.sum(), self.moving)
        return pytensor.function(self.inputs, [value, *slopes], mode=mode)

    def numbers(self, rng, rows=ROWS, far=False):
        """Return numbers for the inputs, moderate or extreme ones."""
        reach = {role: of.in_graph[far] for role, of in REACH.items()}
        logit = 1e3 if far else 3.0
        counts = rng.integers(1, 40, rows).astype(float)
        counts = counts if self.trials is None else np.full(1, float(self.trials))
        first = self.parts[0].family
        most = 1.0 if first.kind == "bernoulli" else counts if first.known_counts else 30.0
        y = np.floor(rng.uniform(0, 1, rows) * (most + 1))
        if not first.discrete:
            y = spread_over(first, rng, rows, reach["location"])
        given = [y, rng.uniform(-logit, logit, (self.experts, rows))]
        for part, etas in zip(self.parts, self.etas, strict=True):
            for p, eta in zip(part.family.parameters, etas, strict=True):
                shape = (part.stop - part.start, eta.type.shape[1] or rows)
                given.append(rng.uniform(-reach[p.role], reach[p.role], shape))
        return given + [counts[None] for known in self.known for _ in known]


LAYOUTS = {name: Layout((name, 2)) for name in FAMILIES} | {
    "normal": Layout(("normal", 3)),
    "normal, constant sigma": Layout(("normal", 2), same=[(0, 1)]),
    "normal, constants": Layout(("normal", 2), same=[(0, 0), (0, 1)]),
    "studentt, constants": Layout(("studentt", 3), same=[(0, 1), (0, 2)]),
    "poisson": Layout(("poisson", 3)),
    "bernoulli, constant": Layout(("bernoulli", 2), same=[(0, 0)]),
    "binomial": Layout(("binomial", 3)),
    "binomial, trials by number": Layout(("binomial", 2), trials=40),
    "betabinomial, constants": Layout(("betabinomial", 2), same=[(0, 1)]),
    "negativebinomial, constants": Layout(("negativebinomial", 2), same=[(0, 1)]),
    "gamma, constants": Layout(("gamma", 3), same=[(0, 1)]),
    "one expert": Layout(("normal", 1)),
    "two kinds": Layout(("normal", 2), ("studentt", 1), same=[(1, 2)]),
    "two kinds of counts": Layout(("binomial", 1), ("poisson", 2), trials=40),
}


def same(found, expected):
    """Hold values and slopes to others, up to the rounding of the largest."""
    for own, its in zip(found, expected, strict=True):
        assert own.shape == its.shape
        assert np.isfinite(its).all()
        np.testing.assert_allclose(own, its, rtol=1e-9, atol=1e-12 * max(1, np.abs(its).max()))


def test_every_family_has_a_layout():
    assert {p.family.kind for layout in LAYOUTS.values() for p in layout.parts} == {*FAMILIES}


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_values_and_slopes_are_the_formulas(name):
    layout = LAYOUTS[name]
    fused = layout.compiled(layout.fused, QUICK)
    formulas = layout.compiled(layout.formulas, STABLE)
    rng = np.random.default_rng(len(name))
    for j in range(200):
        numbers = layout.numbers(rng, far=j % 2 == 1)
        same(fused(*numbers), formulas(*numbers))


@pytest.mark.parametrize("name", ["studentt, constants", "two kinds"])
def test_numba_gives_the_same_for_any_number_of_rows(name):
    layout = LAYOUTS[name]
    compiled = layout.compiled(layout.fused, "NUMBA")
    plain = layout.compiled(layout.fused, QUICK)
    rng = np.random.default_rng(1)
    for rows in (1, 17, 256, 300):
        for far in (False, True):
            numbers = layout.numbers(rng, rows, far)
            same(compiled(*numbers), plain(*numbers))


@pytest.mark.filterwarnings("ignore:Skipping Assert:UserWarning")  # JAX has no assertions
@pytest.mark.parametrize(
    "layout",
    [
        Layout(("normal", 2), ("studentt", 1), same=[(1, 2)], fixed=True),
        Layout(("binomial", 2), trials=40),
    ],
    ids=["two kinds", "binomial"],
)
def test_jax_gives_the_same(layout):
    pytest.importorskip("jax")
    compiled = layout.compiled(layout.fused, "JAX")
    plain = layout.compiled(layout.fused, QUICK)
    rng = np.random.default_rng(2)
    for far in (False, True):
        numbers = layout.numbers(rng, far=far)
        found = [np.asarray(x) for x in compiled(*numbers)]
        same(found, plain(*numbers))


def test_a_number_for_all_rows_has_one_slope_an_expert():
    layout = LAYOUTS["normal, constants"]
    slopes = pytensor.grad(layout.fused.sum(), layout.moving)
    assert [s.type.shape[1] for s in slopes] == [None, 1, 1]
    logits = pt.tensor("gate", shape=(None, 1), dtype="float64")
    data = [RowData(layout.y, 0.0, layout.parts[0].family.data(layout.y, {}, symbolic()).base)]
    parts = list(zip(layout.parts, layout.etas, data, strict=True))
    slope = pytensor.grad(fused_mixture(layout.y, logits, parts).sum(), logits)
    compiled = pytensor.function([layout.y, logits, *layout.moving[1:]], slope, mode=QUICK)
    y, full, *etas = layout.numbers(np.random.default_rng(3))
    own = compiled(y, full[:, :1], *etas)
    spread = np.repeat(full[:, :1], ROWS, axis=1)
    its = layout.compiled(layout.formulas, STABLE)(y, spread, *etas)[1]
    assert own.shape == (2, 1)
    np.testing.assert_allclose(own[:, 0], its.sum(axis=1), rtol=1e-9)


def test_shapes_are_known_without_computing():
    layout = LAYOUTS["two kinds"]
    node = layout.fused.owner
    shapes = pytensor.function(layout.inputs, [out.shape for out in node.outputs], mode=STABLE)
    assert not any(isinstance(n.op, FusedMixture) for n in shapes.maker.fgraph.toposort())
    numbers = layout.numbers(np.random.default_rng(4), 5)
    outputs = pytensor.function(layout.inputs, node.outputs, mode=QUICK)(*numbers)
    for shape, out in zip(shapes(*numbers), outputs, strict=True):
        assert tuple(shape) == out.shape


def test_an_impossible_response_has_no_probability():
    layout = LAYOUTS["two kinds of counts"]
    compiled = pytensor.function(layout.inputs, layout.fused, mode=QUICK)
    y, *rest = layout.numbers(np.random.default_rng(5))
    np.testing.assert_array_equal(compiled(y + 0.5, *rest), -np.inf)


def test_second_derivatives_name_the_other_likelihood():
    layout = LAYOUTS["normal"]
    first = pytensor.grad(layout.fused.sum(), layout.logits)
    with pytest.raises(TypeError, match="likelihood='symbolic'"):
        pytensor.grad(first.sum(), layout.logits)


# --- in the model --------------------------------------------------------------------------------


def table(rows=30):
    rng = np.random.default_rng(0)
    x = rng.normal(2, 1, rows)
    n = rng.integers(1, 12, rows)
    return pd.DataFrame(
        {
            "x": x,
            "z": rng.uniform(-1, 1, rows),
            "n": n,
            "normal": x + rng.normal(0, 1, rows),
            "studentt": x + rng.standard_t(3, rows),
            "poisson": rng.poisson(np.exp(0.3 * x)),
            "bernoulli": np.arange(rows) % 2,
            "binomial": rng.binomial(n, 0.4),
        }
    )


def plain(family, experts=2, **more):
    return bm.mixture_of_experts(
        f"{family} ~ x", **({"gate": "~ z", "experts": experts, "family": family} | more)
    )


MODELS = {
    "normal": plain("normal", 3, sigma="~ z"),
    "studentt": plain("studentt"),
    "poisson": plain("poisson"),
    "bernoulli": plain("bernoulli", 3),
    "binomial": plain("binomial", trials="n"),
    "trials by number": plain("binomial", trials=30),
    "one expert": plain("normal", 1, gate=None),
    "two kinds": bm.MixtureOfExperts(
        bm.gates.Softmax("~ 1"),
        [
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
            bm.Expert("normal ~ 1", "studentt", name="flat"),
            bm.Expert("normal ~ x", name="line", sigma="~ z"),
        ],
    ),
}


def point_of(graph, rng):
    """A random point of the model's unconstrained values."""
    start = graph.model.initial_point()
    return {name: value + rng.normal(0, 0.7, np.shape(value)) for name, value in start.items()}


@pytest.mark.parametrize("name", list(MODELS))
def test_both_likelihoods_are_one_density(name):
    fused, formulas = (
        bm.build(MODELS[name], table(), likelihood=likelihood)
        for likelihood in ("fused", "symbolic")
    )
    point = point_of(fused, np.random.default_rng(1))
    found = []
    for graph in (fused, formulas):
        model = graph.model
        y = model["y"]
        outputs = [model.logp(), model.logp(vars=[y], sum=False)[0], model.dlogp()]
        found.append(model.compile_fn(outputs, mode=STABLE, on_unused_input="ignore")(point))
    assert found[0][1].shape == (30,)
    for own, its in zip(*found, strict=True):
        np.testing.assert_allclose(own, its, rtol=1e-9, atol=1e-9)


def test_the_model_holds_the_operation_only_where_asked_for():
    for likelihood, held in (("fused", True), ("symbolic", False)):
        model = bm.build(MODELS["normal"], table(), likelihood=likelihood).model
        logp = model.logp(vars=[model["y"]], sum=False)
        nodes = pytensor.graph.traversal.ancestors(logp)
        ops = {type(v.owner.op) for v in nodes if v.owner}
        assert (FusedMixture in ops) is held


def test_the_model_s_second_derivatives_need_the_formulas():
    spec = MODELS["one expert"]
    with pytest.raises(TypeError, match="likelihood='symbolic'"):
        bm.build(spec, table()).model.compile_d2logp(mode=QUICK)
    model = bm.build(spec, table(), likelihood="symbolic").model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "PyTensor could not link to a BLAS")
        d2logp = model.compile_d2logp(mode=QUICK)
    assert np.isfinite(d2logp(model.initial_point())).all()


@pytest.mark.parametrize(
    "spec",
    [plain("normal", gate="~ 1"), MODELS["one expert"], MODELS["trials by number"]],
    ids=["intercepts", "one expert", "trials"],
)
def test_the_prior_predictive_has_a_value_a_row(spec):
    graph = bm.build(spec, table())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = pm.sample_prior_predictive(
            4, model=graph.model, random_seed=1, compile_kwargs={"mode": QUICK}
        )
    y = drawn["prior_predictive"]["y"]
    assert y.dims == ("chain", "draw", "obs_id")
    assert y.shape == (1, 4, 30)
    assert np.isfinite(y.values).all()
    assert np.all(y.std("obs_id") > 0)


@pytest.mark.parametrize("likelihood", ["fuzed", "Fused", "symbol"])
def test_an_unknown_likelihood_is_named(likelihood):
    nearest = "symbolic" if likelihood == "symbol" else "fused"
    with pytest.raises(bm.SpecError, match=f"{likelihood!r}. Did you mean '{nearest}'"):
        bm.build(MODELS["normal"], table(), likelihood=likelihood)


def test_the_stored_log_likelihood_is_the_graph_s(tone_fit):
    model = bm.build(tone_fit.spec, tone_fit.design, likelihood="symbolic").model
    thinned = tone_fit.idata.isel(draw=slice(0, 1000, 100))
    rows = pm.compute_log_likelihood(
        thinned,
        model=model,
        extend_inferencedata=False,
        progressbar=False,
        compile_kwargs={"mode": STABLE},
    )
    stored = thinned["log_likelihood"]["y"]
    np.testing.assert_allclose(rows["y"].values, stored.values, rtol=1e-9, atol=1e-9)
    with pytest.warns(UserWarning, match="Pareto"):
        own = azs.loo(thinned, reff=1.0)
    thinned["log_likelihood"] = rows[["y"]] if hasattr(rows, "data_vars") else rows
    with pytest.warns(UserWarning, match="Pareto"):
        its = azs.loo(thinned, reff=1.0)
    assert own.elpd == pytest.approx(its.elpd, rel=1e-9)
