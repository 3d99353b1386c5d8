"""A family, a gate and a predictor of a user's own: what their interfaces ask is all they need.

Each is defined here as a new file of the package would define it, registered, and held to the
contract of the registered ones.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy import special, stats

import bayes_moe as bm
from bayes_moe.core import names, registry
from bayes_moe.core.arrays import log_softmax
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.em.objective import Curvature, Objective
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.families import Family, Parameter, RowData
from bayes_moe.families.links import IDENTITY, LOG, LOGIT
from bayes_moe.gates.base import Gate
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.optimize.free_variables import FreeVariables
from bayes_moe.predictors import Linear
from bayes_moe.predictors.basis import Basis
from bayes_moe.sampling.compiled_density import LinearTable
from tests.support import contracts
from tests.support.bridges import fit_by_hand
from tests.support.examples import gate_table
from tests.support.graphs import internal_graph
from tests.support.linear_models import points

unconverged = pytest.mark.filterwarnings("ignore::bayes_moe.core.errors.ConvergenceWarning")


class Logistic(Family):
    """Logistic distribution with mean ``mu`` and scale ``s``."""

    kind = "logistic"
    parameters = (Parameter("mu", IDENTITY, "location"), Parameter("s", LOG, "scale"))

    def row(self, m):
        def row(t, u, base, mu, log_s):
            z = (t - mu) * m.exp(-log_s)
            return base - z - 2.0 * m.softplus(-z) - log_s

        return row

    def data(self, y, known, xp):
        return RowData(y, 0.0, 0.0)

    def information(self, data, etas):
        return np.exp(-2 * etas[1]) / 3, (3 + np.pi**2) / 9

    def dist(self, params):
        import pymc as pm

        return pm.Logistic.dist(**params)

    def cdf(self, y, params):
        return special.expit((y - params["mu"]) / params["s"])

    def mean(self, params):
        return params["mu"]

    def variance(self, params):
        return (np.pi * params["s"]) ** 2 / 3

    def random(self, params, rng, size):
        return rng.logistic(params["mu"], params["s"], size)

    def scale(self, params):
        return params["s"]


class Lopsided(Family):
    """Normal distribution, and with probability ``1 - w`` one a ``shift`` of scales beside it."""

    kind = "lopsided"
    parameters = (
        Parameter("mu", IDENTITY, "location"),
        Parameter("sigma", LOG, "scale"),
        Parameter("w", LOGIT, "probability"),
        Parameter("shift", IDENTITY, "asymmetry"),
    )

    def row(self, m):
        def row(t, u, base, mu, log_sigma, log_odds, shift):
            z = (t - mu) * m.exp(-log_sigma)
            ratio = shift * (z - 0.5 * shift) - log_odds
            return base - log_sigma - m.softplus(-log_odds) - 0.5 * z * z + m.softplus(ratio)

        return row

    def data(self, y, known, xp):
        return RowData(y, 0.0, -0.5 * np.log(2 * np.pi))

    def dist(self, params):
        import pymc as pm
        import pytensor.tensor as pt

        mu, sigma, w, shift = (pt.as_tensor(params[n]) for n in ("mu", "sigma", "w", "shift"))
        weights = pt.stack(pt.broadcast_arrays(w, 1 - w, mu)[:2], -1)
        means = pt.stack(pt.broadcast_arrays(mu, mu + shift * sigma), -1)
        return pm.NormalMixture.dist(w=weights, mu=means, sigma=sigma[..., None])

    def cdf(self, y, params):
        z = (y - params["mu"]) / params["sigma"]
        w = params["w"]
        return w * stats.norm.cdf(z) + (1 - w) * stats.norm.cdf(z - params["shift"])

    def mean(self, params):
        return params["mu"] + (1 - params["w"]) * params["shift"] * params["sigma"]

    def variance(self, params):
        w = params["w"]
        return params["sigma"] ** 2 * (1 + w * (1 - w) * params["shift"] ** 2)

    def random(self, params, rng, size):
        beside = rng.random(size) > params["w"]
        return params["mu"] + params["sigma"] * (
            rng.standard_normal(size) + beside * params["shift"]
        )

    def scale(self, params):
        return params["sigma"]


@dataclass(frozen=True)
class Sigmoid(Gate):
    """Weights in proportion to ``1 / (1 + exp(-eta_k(x)))``."""

    formula: str | None = None
    kind: ClassVar[str] = "sigmoid"

    @property
    def formulas(self):
        return {names.GATE: self.formula}

    def structure(self, n_experts):
        return GateStructure(
            n_experts,
            (Head(names.GATE, Linear(), names.EXPERT, None, slice(0, n_experts)),),
            splits=None,
            exchange_tree=(names.GATE, tuple(range(n_experts))),
            weigh=lambda eta, xp: log_softmax(-xp.softplus(-eta), xp),
            surrogate=bm.gates.Softmax(self.formula),
        )

    def to_dict(self):
        return {"kind": self.kind, "formula": self.formula}


@dataclass(frozen=True)
class Parabola(Basis):
    """Quadratic curve of one column."""

    kind: ClassVar[str] = "parabola"

    @property
    def is_linear(self):
        return True

    def labels(self, matrix):
        return [INTERCEPT, "z", "z^2"]

    def features(self, matrix):
        z = matrix.standardised[:, 1]
        return np.column_stack([z, z**2])

    def spread(self, b, values, xp):
        return np.array([b.units.intercept, 1.0, 1.0])

    def to_dict(self):
        return {"kind": self.kind}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The registry with a row more of each kind."""
    for kind, name, piece in (
        ("family", "logistic", Logistic),
        ("family", "lopsided", Lopsided),
        ("gate", Sigmoid.kind, Sigmoid),
        ("predictor", Parabola.kind, Parabola),
    ):
        row = {name: f"{__name__}:{piece.__name__}"}
        monkeypatch.setitem(registry.TABLE, kind, registry.TABLE[kind] | row)


def model(**settings):
    return bm.mixture_of_experts("y ~ x", **{"gate": "~ x", "experts": 2} | settings)


PARABOLA = {"predictor": Parabola()}
MODELS = {
    "family": lambda: model(family="logistic", s="~ x"),
    "constants": lambda: model(family="lopsided"),
    "gate": lambda: model(gate=Sigmoid("~ x + z"), experts=3),
    "predictor": lambda: model(gate=bm.gates.Softmax("~ z", **PARABOLA), **PARABOLA),
}


@pytest.mark.parametrize("check", contracts.FAMILY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("family", [Logistic, Lopsided])
def test_the_family_holds_the_contract(family, check):
    if family is Lopsided and check is contracts.derivatives_are_those_of_finite_differences:
        pytest.skip("A thousand scales out, its steps are longer than that from part to part.")
    check(family())


@pytest.mark.parametrize("check", contracts.GATE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("piece", MODELS)
def test_a_model_with_the_piece_holds_the_contract(piece, check):
    spec = MODELS[piece]()
    design = spec.design(gate_table())
    check(spec, design, bm.build(spec, design))


@pytest.mark.parametrize("piece", ["family", "constants", "predictor"])
def test_the_objective_of_em_is_the_graph_s_log_density(piece):
    spec = MODELS[piece]()
    contracts.objective_is_the_graphs_log_density(spec, spec.design(gate_table()))


@unconverged
@pytest.mark.parametrize(
    ("piece", "method"),
    [("family", "em"), ("constants", "em"), ("gate", "map"), ("predictor", "em")],
)
def test_a_model_with_the_piece_is_fitted_and_saved(piece, method, tmp_path):
    fit = bm.fit(
        MODELS[piece](), gate_table(), method, random_seed=1, restarts=2, progressbar=False
    )
    contracts.path_never_falls(fit)
    contracts.saved_fit_predicts_the_same(fit, gate_table(20, seed=1), tmp_path)


def test_a_compiled_density_has_the_jacobian_of_every_constant():
    spec = MODELS["constants"]()
    design = spec.design(gate_table())
    vector = parameter_vector(spec, design, jacobian=True)
    compiled, objective = LinearTable(vector).density(), Objective(vector)
    for theta in points(vector):
        value, gradient = compiled(theta)
        assert value == pytest.approx(float(objective.value(theta[None])[0]), rel=1e-10)
        evaluation = objective.evaluate(theta[None], Curvature.OBSERVED)
        np.testing.assert_allclose(gradient, evaluation.gradient[0], rtol=1e-9, atol=1e-9)


def test_free_variables_are_the_graph_s_values_of_every_constant():
    spec = MODELS["constants"]()
    design = spec.design(gate_table())
    values = fit_by_hand(spec, gate_table()).idata["posterior"].to_dataset().isel(chain=0)
    values = {n: values[n].values for n in spec.variables}
    free = FreeVariables.of(spec, design, spec.resolve_priors(design))
    found = free.points(values)
    graph = internal_graph(spec, design)
    last = slice(-8, None)  # constants; the gate's values here do not sum to zero
    for j, point in enumerate(found):
        expected = graph.to_vector({n: v[j] for n, v in values.items()})
        np.testing.assert_allclose(point[last], expected[last], rtol=1e-12, atol=1e-12)
    back = free.variables(found)
    for name in ("w", "shift", "sigma"):
        np.testing.assert_allclose(back[name], values[name], rtol=1e-12)


def test_standard_errors_of_constants_are_those_of_their_coordinates():
    """By the delta method, and within their support for an interval."""
    spec = model(family="lopsided", experts=1)
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, 400)
    y = x + 0.5 * (rng.standard_normal(400) + 5 * (rng.random(400) > 0.9))
    fit = bm.fit(spec, {"x": x, "y": y}, "em", random_seed=1, restarts=4, progressbar=False)
    error = fit.idata["standard_error"]
    w, sd = float(fit.idata["posterior"]["w"].squeeze()), float(error["w"].squeeze())
    shift = float(fit.idata["posterior"]["shift"].squeeze())
    assert shift == pytest.approx(5, abs=0.5)
    assert w == pytest.approx(0.9, abs=3 * sd)
    assert sd == pytest.approx(np.sqrt(w * (1 - w) / 400), rel=0.1)
    row = bm.summary(fit, ["w"], ci_prob=0.95).iloc[0]
    half = 1.959964 * sd / (w * (1 - w))
    low, high = special.expit(special.logit(w) + np.array([-half, half]))
    assert row.iloc[2] == pytest.approx(low, rel=1e-3)
    assert row.iloc[3] == pytest.approx(high, rel=1e-3)


def test_a_prior_of_a_constant_has_the_support_of_its_link():
    for name, prior, support in (
        ("w", bm.Prior("Normal", sigma=1), "unit"),
        ("shift", bm.Prior("Beta", alpha=1, beta=1), "real"),
    ):
        with pytest.raises(bm.SpecError, match=f"The prior of '{name}' must have {support}"):
            model(family="lopsided", priors={name: prior})
    model(family="lopsided", priors={"w": bm.Prior("LogitNormal", mu=0, sigma=1)})


def test_an_unknown_name_offers_the_new_ones():
    with pytest.raises(bm.SpecError, match="Did you mean 'logistic'"):
        model(family="logistik")
