"""Table of all families, predictors, gates and methods: kind -> name -> class.

The table holds dotted paths, not classes: every folder can resolve a name without importing
the folders above it, nothing heavy is imported until it is used, and the contract tests and
the docs inventory run over the same rows.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from bayes_moe.core.checks import check_one_of

TABLE: dict[str, dict[str, str]] = {
    "family": {
        "normal": "bayes_moe.families.location_scale:Normal",
        "studentt": "bayes_moe.families.location_scale:StudentT",
        "laplace": "bayes_moe.families.standardised:Laplace",
        "logistic": "bayes_moe.families.standardised:Logistic",
        "gumbel": "bayes_moe.families.standardised:Gumbel",
        "generalisednormal": "bayes_moe.families.shaped:GeneralisedNormal",
        "skewnormal": "bayes_moe.families.shaped:SkewNormal",
        "mvnormal": "bayes_moe.families.multivariate:MvNormal",
        "poisson": "bayes_moe.families.counts:Poisson",
        "bernoulli": "bayes_moe.families.binomial:Bernoulli",
        "binomial": "bayes_moe.families.binomial:Binomial",
        "betabinomial": "bayes_moe.families.binomial:BetaBinomial",
        "multinomial": "bayes_moe.families.multinomial:Multinomial",
        "negativebinomial": "bayes_moe.families.counts:NegativeBinomial",
        "geometric": "bayes_moe.families.counts:Geometric",
        "gamma": "bayes_moe.families.positive:Gamma",
        "lognormal": "bayes_moe.families.positive:LogNormal",
        "inversegaussian": "bayes_moe.families.waiting:InverseGaussian",
        "weibull": "bayes_moe.families.waiting:Weibull",
        "lomax": "bayes_moe.families.waiting:Lomax",
        "beta": "bayes_moe.families.shares:Beta",
        "vonmises": "bayes_moe.families.circular:VonMises",
        "exponential": "bayes_moe.families.positive:Exponential",
        "categorical": "bayes_moe.families.categories:Categorical",
        "orderedlogistic": "bayes_moe.families.grades:OrderedLogistic",
        "orderedprobit": "bayes_moe.families.grades:OrderedProbit",
        "uniform": "bayes_moe.families.uniform:Uniform",
        "zeroinflated": "bayes_moe.families.zero_inflated:ZeroInflated",
        "hurdle": "bayes_moe.families.zero_inflated:Hurdle",
        "pointmass": "bayes_moe.families.point_mass:PointMass",
        "given": "bayes_moe.families.given:Given",
    },
    "predictor": {
        "linear": "bayes_moe.predictors.linear:Linear",
        "spline": "bayes_moe.predictors.spline:Spline",
        "fourier": "bayes_moe.predictors.fourier:Fourier",
        "hsgp": "bayes_moe.predictors.hsgp:HSGP",
        "mlp": "bayes_moe.predictors.neural:MLP",
        "gru": "bayes_moe.predictors.recurrent:Recurrent",
        "rnn": "bayes_moe.predictors.recurrent:plain",
        "softtree": "bayes_moe.predictors.soft_tree:SoftTree",
        "bart": "bayes_moe.predictors.bart:BART",
        "horseshoe": "bayes_moe.predictors.shrinkage:Horseshoe",
        "normalgamma": "bayes_moe.predictors.shrinkage:NormalGamma",
        "r2d2": "bayes_moe.predictors.shrinkage:R2D2",
    },
    "gate": {
        "softmax": "bayes_moe.gates.softmax:Softmax",
        "gaussian": "bayes_moe.gates.gaussian:Gaussian",
        "attention": "bayes_moe.gates.attention:Attention",
        "recurrent": "bayes_moe.gates.recurrent:Recurrent",
        "tree": "bayes_moe.gates.tree:Tree",
        "stickbreaking": "bayes_moe.gates.stick_breaking:StickBreaking",
        "markov": "bayes_moe.gates.markov:Markov",
    },
    "method": {
        "em": "bayes_moe.inference.em:EM",
        "laplace": "bayes_moe.inference.laplace:Laplace",
        "map": "bayes_moe.inference.map:MAP",
        "ensemble": "bayes_moe.inference.ensemble:Ensemble",
        "nuts": "bayes_moe.inference.nuts:NUTS",
        "advi": "bayes_moe.inference.advi:ADVI",
        "pathfinder": "bayes_moe.inference.pathfinder:Pathfinder",
    },
}


def has(kind: str, name: str) -> bool:
    """Whether a class is registered as ``name`` under ``kind``."""
    return name in TABLE[kind]


def resolve(kind: str, name: str) -> Any:
    """Class registered as ``name`` under ``kind``.

    Raises
    ------
    SpecError
        If no such name is registered; the message offers the nearest one.
    """
    return _imported(_path(kind, name))


def shared(kind: str, name: str) -> Any:
    """Instance, the same at every call, of the class registered as ``name`` under ``kind``.

    For classes without state, whose constructor takes no arguments.

    Raises
    ------
    SpecError
        As :func:`resolve`.
    """
    return _instance(_path(kind, name))


def resolve_path(path: str) -> Any:
    """Attribute at a dotted path ``"package.module:attribute"``."""
    return _imported(path)


def _path(kind: str, name: str) -> str:
    """Dotted path registered as ``name`` under ``kind``."""
    check_one_of(kind, name, TABLE[kind])
    return TABLE[kind][name]


@cache
def _instance(path: str) -> Any:
    """Instance of the class at a dotted path."""
    return _imported(path)()


@cache
def _imported(path: str) -> Any:
    """Attribute at a dotted path ``"package.module:attribute"``.

    The key is the path, not the name, so that entries of the table can be replaced.
    """
    module, attribute = path.split(":")
    return getattr(importlib.import_module(module), attribute)
