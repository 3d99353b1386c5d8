"""A family, a gate and a predictor of a user's own: what their interfaces ask is all they need.

Each is defined here as a new file of the package would define it, registered, and held to the
contract of the registered ones.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy import special

import bayes_moe as bm
from bayes_moe.core import names, registry
from bayes_moe.core.arrays import log_softmax
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.families import Family, Parameter, RowData
from bayes_moe.families.links import IDENTITY, LOG
from bayes_moe.gates.base import Gate
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.predictors import Linear
from bayes_moe.predictors.basis import Basis
from tests.support import contracts
from tests.support.examples import gate_table

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
    "gate": lambda: model(gate=Sigmoid("~ x + z"), experts=3),
    "predictor": lambda: model(gate=bm.gates.Softmax("~ z", **PARABOLA), **PARABOLA),
}


@pytest.mark.parametrize("check", contracts.FAMILY, ids=lambda check: check.__name__)
def test_the_family_holds_the_contract(check):
    check(Logistic())


@pytest.mark.parametrize("check", contracts.GATE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("piece", MODELS)
def test_a_model_with_the_piece_holds_the_contract(piece, check):
    spec = MODELS[piece]()
    design = spec.design(gate_table())
    check(spec, design, bm.build(spec, design))


@pytest.mark.parametrize("piece", ["family", "predictor"])
def test_the_objective_of_em_is_the_graph_s_log_density(piece):
    spec = MODELS[piece]()
    contracts.objective_is_the_graphs_log_density(spec, spec.design(gate_table()))


@unconverged
@pytest.mark.parametrize(
    ("piece", "method"), [("family", "em"), ("gate", "map"), ("predictor", "em")]
)
def test_a_model_with_the_piece_is_fitted_and_saved(piece, method, tmp_path):
    fit = bm.fit(
        MODELS[piece](), gate_table(), method, random_seed=1, restarts=2, progressbar=False
    )
    contracts.path_never_falls(fit)
    contracts.saved_fit_predicts_the_same(fit, gate_table(20, seed=1), tmp_path)


def test_an_unknown_name_offers_the_new_ones():
    with pytest.raises(bm.SpecError, match="Did you mean 'logistic'"):
        model(family="logistik")
