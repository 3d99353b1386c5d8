"""Examples that the contract tests run over: one row for every family, gate, predictor and prior.

A new entry of the registry needs one row here (``tests/core/test_registry.py`` asks for it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from bayes_moe.core import names
from bayes_moe.core.samples import Sample
from bayes_moe.data.matrix import Matrix
from bayes_moe.data.sequences import Sequences
from bayes_moe.gates import Attention, Gaussian, Markov, Softmax, StickBreaking, Tree
from bayes_moe.gates import Recurrent as RecurrentGate
from bayes_moe.predictors import (
    BART,
    HSGP,
    MLP,
    R2D2,
    Fourier,
    Horseshoe,
    Linear,
    NormalGamma,
    Recurrent,
    Site,
    SoftTree,
    Spline,
)
from bayes_moe.priors.prior import DISTRIBUTIONS, Prior
from tests.support.circular import VonMisesLaw

# --- families -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FamilyExample:
    """Responses and parameters of a family, and its distribution in SciPy.

    Attributes
    ----------
    law : callable
        Parameters, as the family's formulas take them -> frozen distribution of SciPy.
    y, params : array, mapping of arrays
        Responses and parameters, ordinary and extreme; they broadcast against each other.
    response : callable
        Real numbers, counts and numbers of trials (obs,) -> a response of the family.
    options : mapping
        What an expert of the family needs besides its formula; ``n`` is the column of trials.
    """

    law: Callable[..., Any]
    y: np.ndarray
    params: Mapping[str, np.ndarray]
    response: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    options: Mapping[str, str] = field(default_factory=dict)

    def log_density(self, y: np.ndarray, **params: Any) -> np.ndarray:
        """SciPy's log density or log probability of responses."""
        law = self.law(**params)
        return (law.logpmf if hasattr(law.dist, "logpmf") else law.logpdf)(y)


RESIDUALS = np.array([-1e3, -30.0, -1.5, 0.0, 1e-8, 0.7, 12.0, 1e3])
MU = np.array([-4.0, 0.0, 2e3])[:, None]
SIGMA = np.array([1e-3, 1.0, 50.0])[:, None, None]
NU = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 4.0, 30.0, 1e3, 1e6])[:, None, None, None]
Y = MU + SIGMA * RESIDUALS
SHAPES = np.array([1e-2, 0.5, 1.0, 7.0, 29.0, 31.0, 1e3])[:, None, None]

ETA = np.array([-12.0, -1.3, 0.0, 0.4, 3.0, 9.0])[:, None]
COUNTS = np.array([0.0, 1, 2, 3, 7, 19, 20, 400, 8100, 1e6])
TRIALS = np.array([0.0, 1, 2, 4, 9, 19, 25, 400, 9000, 2e6])
AMOUNTS = np.array([1e-8, 1e-3, 0.3, 1.0, 2.5, 40.0, 2e3])
KAPPAS = np.array([1e-6, 0.3, 1.0, 8.9, 9.1, 80.0, 1e5])[:, None, None]
LOG_MEANS = np.array([-4.0, 0.0, 3.0])[:, None]

FAMILIES = {
    "normal": FamilyExample(
        lambda mu, sigma: stats.norm(mu, sigma),
        Y,
        {"mu": MU, "sigma": SIGMA},
        lambda real, count, n: real,
    ),
    "studentt": FamilyExample(
        lambda mu, sigma, nu: stats.t(nu, mu, sigma),
        Y,
        {"mu": MU, "sigma": SIGMA, "nu": NU},
        lambda real, count, n: real,
    ),
    "laplace": FamilyExample(
        lambda mu, b: stats.laplace(mu, b),
        Y,
        {"mu": MU, "b": SIGMA},
        lambda real, count, n: real,
    ),
    "logistic": FamilyExample(
        lambda mu, s: stats.logistic(mu, s),
        Y,
        {"mu": MU, "s": SIGMA},
        lambda real, count, n: real,
    ),
    "gumbel": FamilyExample(
        lambda mu, beta: stats.gumbel_r(mu, beta),
        Y,
        {"mu": MU, "beta": SIGMA},
        lambda real, count, n: real,
    ),
    "generalisednormal": FamilyExample(
        lambda mu, sigma, excess: stats.gennorm(1 + excess, mu, sigma),
        MU + SIGMA * np.array([-30.0, -1.5, -0.2, 0.0, 1e-8, 0.7, 12.0]),
        {"mu": MU, "sigma": SIGMA, "excess": np.array([0.05, 0.5, 1.0, 4.0])[:, None, None, None]},
        lambda real, count, n: real,
    ),
    "skewnormal": FamilyExample(
        lambda mu, sigma, alpha: stats.skewnorm(alpha, mu, sigma),
        MU + SIGMA * np.array([-0.7, -0.2, 0.0, 1e-8, 0.7, 1.5]),
        {"mu": MU, "sigma": SIGMA, "alpha": np.array([-3.0, -0.2, 0.0, 1.5])[:, None, None, None]},
        lambda real, count, n: real,
    ),
    "poisson": FamilyExample(
        lambda mu: stats.poisson(np.exp(mu)),
        COUNTS,
        {"mu": ETA},
        lambda real, count, n: count,
    ),
    "bernoulli": FamilyExample(
        lambda p: stats.bernoulli(special.expit(p)),
        np.array([0.0, 1.0]),
        {"p": ETA},
        lambda real, count, n: (count > 3).astype(int),
    ),
    "binomial": FamilyExample(
        lambda p, trials: stats.binom(trials, special.expit(p)),
        COUNTS,
        {"p": ETA, "trials": TRIALS},
        lambda real, count, n: np.minimum(count, n),
        {"trials": "n"},
    ),
    "betabinomial": FamilyExample(
        lambda p, phi, trials: stats.betabinom(
            trials, special.expit(p) * phi, special.expit(-p) * phi
        ),
        COUNTS[:-2],
        {"p": ETA[1:5], "phi": SHAPES[1:], "trials": TRIALS[:-2]},
        lambda real, count, n: np.minimum(count, n),
        {"trials": "n"},
    ),
    "negativebinomial": FamilyExample(
        lambda mu, alpha: stats.nbinom(alpha, special.expit(np.log(alpha) - mu)),
        COUNTS[:-2],
        {"mu": np.maximum(ETA, -8.0), "alpha": SHAPES},
        lambda real, count, n: count,
    ),
    "geometric": FamilyExample(
        lambda mu: stats.geom(special.expit(-mu), loc=-1),
        COUNTS[:-2],
        {"mu": ETA},
        lambda real, count, n: count,
    ),
    "gamma": FamilyExample(
        lambda mu, alpha: stats.gamma(alpha, scale=np.exp(mu) / alpha),
        AMOUNTS,
        {"mu": LOG_MEANS, "alpha": SHAPES},
        lambda real, count, n: np.exp(0.02 * real),
    ),
    "lognormal": FamilyExample(
        lambda mu, sigma: stats.lognorm(sigma, scale=np.exp(mu)),
        AMOUNTS,
        {"mu": LOG_MEANS, "sigma": np.array([1e-2, 0.5, 2.0])[:, None, None]},
        lambda real, count, n: np.exp(0.02 * real),
    ),
    "inversegaussian": FamilyExample(
        lambda mu, lam: stats.invgauss(np.exp(mu) / lam, scale=lam),
        AMOUNTS[2:],
        {"mu": LOG_MEANS, "lam": np.array([0.3, 1.0, 40.0])[:, None, None]},
        lambda real, count, n: np.exp(0.02 * real),
    ),
    "weibull": FamilyExample(
        lambda mu, alpha: stats.weibull_min(
            alpha, scale=np.exp(mu - special.gammaln(1.0 + 1.0 / alpha))
        ),
        AMOUNTS,
        {"mu": LOG_MEANS, "alpha": np.array([0.3, 0.5, 1.0, 7.0, 20.0, 1.2e3])[:, None, None]},
        lambda real, count, n: np.exp(0.02 * real),
    ),
    "lomax": FamilyExample(
        lambda m, alpha: stats.lomax(alpha, scale=np.exp(m)),
        AMOUNTS,
        {"m": LOG_MEANS, "alpha": np.array([2.1, 7.0, 50.0])[:, None, None]},
        lambda real, count, n: np.exp(0.02 * real),
    ),
    "beta": FamilyExample(
        lambda mu, nu: stats.beta(special.expit(mu) * nu, special.expit(-mu) * nu),
        np.array([1e-8, 0.01, 0.3, 0.5, 0.8, 0.999]),
        {"mu": np.array([-3.0, 0.0, 0.7])[:, None], "nu": SHAPES[1:]},
        lambda real, count, n: special.expit(0.05 * real - 1.5),
    ),
    "vonmises": FamilyExample(
        lambda mu, kappa: VonMisesLaw(2 * np.arctan(mu), kappa),
        np.array([-np.pi, -3.0, -0.4, 0.0, 1e-3, 1.0, 3.1, np.pi]),
        {"mu": np.array([-9.0, -0.3, 0.0, 1.0, 40.0])[:, None], "kappa": KAPPAS},
        lambda real, count, n: 2 * np.arctan(np.tan(0.05 * real)),
    ),
    "exponential": FamilyExample(
        lambda mu: stats.expon(scale=np.exp(mu)),
        AMOUNTS,
        {"mu": LOG_MEANS},
        lambda real, count, n: np.exp(0.02 * real),
    ),
}

DOUBLY_EXPONENTIAL = ("gumbel", "weibull", "generalisednormal")
"""Families whose densities fall doubly exponentially by a parameter: differences are inexact."""
CUSPED = ("laplace", "generalisednormal")
"""Families whose densities have a kink or a cusp at the location: no exact differences near it."""
UNDERFLOWING = (*DOUBLY_EXPONENTIAL, "laplace", "skewnormal")
"""Families for which SciPy takes the log of densities that underflow."""
CLASSES = {
    "categorical": {"levels": ("a", "b", "c")},
    "orderedlogistic": {"levels": ("low", "middle", "high", "top")},
    "orderedprobit": {"levels": ("low", "middle", "high", "top")},
}
"""Families of classes, with settings: tested in ``families/test_class_families``."""
WITHOUT_PARAMETERS = {"pointmass": {"at": 0.0}, "uniform": {"lower": 0.0}}
"""Families that are for experts beside others, with settings: they have no parameters."""

OF_KNOWN_DENSITIES = ("given",)
"""Families whose densities are columns of the table: tested in ``families/test_given``."""

OF_SEVERAL_RESPONSES = ("mvnormal", "multinomial")
"""Families of several responses: tests/families/test_multivariate.py has their contract."""

FAMILIES_WITH_ZEROS = (
    "zero_inflated_poisson",
    "zero_inflated_negativebinomial",
    "zero_inflated_geometric",
    "zero_inflated_binomial",
    "zero_inflated_betabinomial",
    "hurdle_poisson",
    "hurdle_negativebinomial",
    "hurdle_geometric",
    "hurdle_binomial",
    "hurdle_gamma",
    "hurdle_lognormal",
    "hurdle_exponential",
    "hurdle_inversegaussian",
    "hurdle_lomax",
    "hurdle_beta",
)
"""Families with a probability of zero beside others: tested in ``families/test_zero_inflated``."""

# --- gates ----------------------------------------------------------------------------------------

GATE_EXPERTS = 4
GATES = {
    "softmax": Softmax("~ x + z"),
    "warm softmax": Softmax("~ x", temperature=2.0),
    "tree": Tree([[0, 1], [2, 3]], formula="~ x + z", formulas={"1": "~ x"}),
    "deep tree": Tree([0, [1, [2, 3]]], formula="~ x"),
    "stickbreaking": StickBreaking("~ x + z"),
    "gaussian": Gaussian("~ x + z"),
    "horseshoe": Softmax("~ x + z", predictor="horseshoe"),
    "attention": Attention("~ x + z"),
    "two heads": Attention("~ x", heads=2, size=1),
    "identity": Attention("~ x", query="identity"),
    "spline": Softmax("~ x", predictor=Spline(df=6)),
    "hsgp": Softmax("~ x", predictor=HSGP(m=4)),
    "mlp": Softmax("~ x + z", predictor=MLP(hidden=(3,))),
}
"""Gates of the features of ``gate_table``, for ``GATE_EXPERTS`` experts."""


GATES_WITH_MEMORY = {
    "markov": Markov("~ x"),
    "equal markov": Markov("~ 1", sticky=1.0, initial="equal"),
    "recurrent": RecurrentGate("~ x", units=2),
    "past": Attention("~ x", over="past", window=3),
}
"""Gates of the features of ``series_table``, whose model has ``time="t"`` and ``series="id"``."""


def series_table(n=60, seed=0):
    """Two series with a feature and a response in two or three regimes that last."""
    rng = np.random.default_rng(seed)
    x, regime = rng.uniform(-2, 2, n), np.zeros(n, dtype=int)
    for i in range(1, n):
        regime[i] = regime[i - 1] if rng.random() < 0.85 else rng.integers(3)
    y = np.array([-2.0, 0.0, 2.0])[regime] + 0.5 * x + 0.4 * rng.standard_normal(n)
    first = n // 3
    t = np.concatenate([np.arange(first), np.arange(n - first)])
    return pd.DataFrame({"t": t, "id": np.repeat(["a", "b"], [first, n - first]), "x": x, "y": y})


def gate_table(n=60, seed=0):
    """Two features, and a response in four regions of them."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-2, 2, n), rng.normal(3, 1, n)
    y = np.where(x > 0, 2 * x, -1 - x) + np.where(z > 3, 1.5, -1.5) + 0.3 * rng.standard_normal(n)
    return pd.DataFrame({"x": x, "z": z, "y": y})


# --- predictors -----------------------------------------------------------------------------------

OUTPUTS = 3
GATE = Site(names.GATE, names.GATE, names.EXPERT, OUTPUTS)
EXPERTS = Site("mu", "location", names.EXPERT, OUTPUTS, each=True)
RESPONSE = Sample(np.array([1.0, 2.0, 4.0]))
PREDICTORS = {
    "linear": (Linear(), 2),
    "spline": (Spline(df=7), 1),
    "short spline": (Spline(df=4, degree=2), 1),
    "splines of two columns": (Spline(df=6), 2),
    "fourier": (Fourier(period=3.0, order=2), 1),
    "hsgp": (HSGP(m=5), 1),
    "hsgp of two columns": (HSGP(m=3, kernel="matern32"), 2),
    "matern52": (HSGP(m=4, kernel="matern52"), 1),
    "linear kernel": (HSGP(kernel="linear"), 2),
    "mlp": (MLP(hidden=(4,)), 2),
    "deep mlp": (MLP(hidden=(3, 2), activation="softplus"), 1),
    "relu": (MLP(hidden=(3,), activation="relu"), 1),
    "flat mlp": (MLP(hidden=()), 2),
    "mlp of fixed scale": (MLP(hidden=(3,), scale="fixed"), 1),
    "trunk": (MLP(hidden=(3, 2), trunk="trunk"), 2),
    "gru": (Recurrent(units=3), 2),
    "rnn": (Recurrent("rnn", units=2), 1),
    "gru of fixed scale": (Recurrent(units=2, scale="fixed"), 1),
    "softtree": (SoftTree(), 2),
    "deep softtree": (SoftTree(depth=3, sharpness=2.0), 2),
    "stump": (SoftTree(depth=1), 3),
    "horseshoe": (Horseshoe(), 2),
    "r2d2": (R2D2(), 3),
    "normalgamma": (NormalGamma(), 2),
}
"""Predictors, and the number of columns of their features."""
PREDICTORS_WITHOUT_GRADIENT = {"bart": BART()}
"""Sampled by steps of their own: tested in ``predictors/test_bart``."""


def matrix_of(columns, n=40, seed=0, like=None):
    """Features of a predictor: an intercept and columns about 5; ``like`` a fitted one, if any.

    Rows are of two series in turn.
    """
    rng = np.random.default_rng(seed)
    values = np.column_stack([np.ones(n), 5 + 2 * rng.standard_normal((n, columns))])
    if like is not None:
        return in_turn(like.at(values))
    terms = ("Intercept", *(f"x{j}" for j in range(columns)))
    center, scale = values.mean(axis=0), values.std(axis=0)
    center[0], scale[0] = 0.0, 1.0
    return in_turn(Matrix(terms, values, center, scale))


def in_turn(matrix):
    """The matrix with rows of two series in turn."""
    rows = len(matrix.values)
    return replace(matrix, sequences=Sequences.of(np.arange(rows) % 2, rows))


# --- priors ---------------------------------------------------------------------------------------

POSITIVE = [n for n, kind in DISTRIBUTIONS.items() if kind.support == "positive"]
UNIT = [n for n, kind in DISTRIBUTIONS.items() if kind.support == "unit"]
CORRELATION = [n for n, kind in DISTRIBUTIONS.items() if kind.support == "correlation"]
REAL = [n for n, kind in DISTRIBUTIONS.items() if kind.support == "real"]
ARGUMENTS = {"mu": -0.7, "sigma": 1.3, "nu": 3.5, "b": 0.8, "s": 0.6, "lam": 2.2, "beta": 1.5}
ARGUMENTS |= {"eta": 1.7}
ALPHAS = {name: (2.5, 0.4, 1.0) for name in ("Gamma", "InverseGamma", "Weibull", "Beta")}
PRIORS = [
    Prior(name, **{k: alpha if k == "alpha" else ARGUMENTS[k] for k in kind.arguments})
    for name, kind in DISTRIBUTIONS.items()
    for alpha in ALPHAS.get(name, (-2.5,) if name == "Cauchy" else (None,))
]


def names_of(priors):
    """Ids of parametrised tests."""
    return [f"{p.distribution}-{p.arguments.get('alpha', '')}".rstrip("-") for p in priors]
