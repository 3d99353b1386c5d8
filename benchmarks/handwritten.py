"""The mixture of experts that a PyMC user would write by hand, with the package's default priors.

Features and real responses are standardised, so the priors are the same numbers for every data set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Standardised:
    """Features with an intercept (obs, term), the response (obs,), and the latter's mean and sd."""

    features: Array
    response: Array
    mean: float
    sd: float

    @classmethod
    def of(cls, case: Case) -> "Standardised":
        x, y = case.features, case.response
        features = np.column_stack([np.ones(len(y)), (x - x.mean(axis=0)) / x.std(axis=0)])
        return cls(features, (y - y.mean()) / y.std(), float(y.mean()), float(y.std()))

    def in_units_of_response(self, mu: Array, sigma: Array) -> tuple[Array, Array]:
        """Coefficients (..., term) and scales (...) on the scale of the response."""
        offset = np.where(np.arange(mu.shape[-1]) == 0, self.mean, 0.0)
        return offset + self.sd * mu, self.sd * sigma


def model(case: Case) -> Any:
    """The ``pm.Model``; the gate has the features of the experts."""
    import pymc as pm
    import pytensor.tensor as pt

    data, k = Standardised.of(case), case.experts
    terms = data.features.shape[1]
    with pm.Model() as built:
        x = pm.Data("x", data.features)
        gate_sigma = np.where(np.arange(terms) == 0, 1.5, 2.5)[:, None]
        gate = pm.ZeroSumNormal("gate", gate_sigma, shape=(terms, k))
        mu = pm.Normal("mu", 0, 2.5, shape=(terms, k))
        RESPONSES[case.family](pt.special.softmax(x @ gate, axis=1), x @ mu, data)
    return built


def normal(w: Any, eta: Any, data: Standardised) -> None:
    import pymc as pm

    sigma = pm.LogNormal("sigma", np.log(0.5), 1, shape=eta.type.shape[-1])
    pm.NormalMixture("y", w, eta, sigma=sigma, observed=pm.Data("observed", data.response))


def student(w: Any, eta: Any, data: Standardised) -> None:
    import pymc as pm

    sigma = pm.LogNormal("sigma", np.log(0.5), 1, shape=eta.type.shape[-1])
    nu = pm.Gamma("nu", 2, 0.1, shape=eta.type.shape[-1])
    experts = pm.StudentT.dist(nu=nu, mu=eta, sigma=sigma)
    pm.Mixture("y", w, experts, observed=pm.Data("observed", data.response))


def poisson(w: Any, eta: Any, data: Standardised) -> None:
    import pymc as pm
    import pytensor.tensor as pt

    counts = np.rint(data.mean + data.sd * data.response).astype(int)
    experts = pm.Poisson.dist(mu=pt.exp(np.log(data.mean) + eta))
    pm.Mixture("y", w, experts, observed=pm.Data("observed", counts))


RESPONSES: dict[str, Callable[[Any, Any, Standardised], None]] = {
    "normal": normal,
    "studentt": student,
    "poisson": poisson,
}
