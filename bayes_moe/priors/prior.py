"""Prior: a distribution with its arguments, on the user's scale, and its random variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bayes_moe.core.checks import check_one_of
from bayes_moe.core.errors import SpecError
from bayes_moe.core.graph_context import CONSTANTS, GraphContext
from bayes_moe.core.records import Record


@dataclass(frozen=True)
class Distribution:
    """A distribution's arguments and support, and which arguments are location and scale."""

    arguments: tuple[str, ...]
    support: str
    location: str | None = None
    scale: str | None = None


DISTRIBUTIONS: dict[str, Distribution] = {
    "Normal": Distribution(("mu", "sigma"), "real", "mu", "sigma"),
    "StudentT": Distribution(("nu", "mu", "sigma"), "real", "mu", "sigma"),
    "Laplace": Distribution(("mu", "b"), "real", "mu", "b"),
    "Cauchy": Distribution(("alpha", "beta"), "real", "alpha", "beta"),
    "Logistic": Distribution(("mu", "s"), "real", "mu", "s"),
    "ZeroSumNormal": Distribution(("sigma",), "zero-sum", None, "sigma"),
    "LogNormal": Distribution(("mu", "sigma"), "positive"),
    "HalfNormal": Distribution(("sigma",), "positive"),
    "HalfStudentT": Distribution(("nu", "sigma"), "positive"),
    "HalfCauchy": Distribution(("beta",), "positive"),
    "Exponential": Distribution(("lam",), "positive"),
    "Gamma": Distribution(("alpha", "beta"), "positive"),
    "InverseGamma": Distribution(("alpha", "beta"), "positive"),
    "Weibull": Distribution(("alpha", "beta"), "positive"),
    "Beta": Distribution(("alpha", "beta"), "unit"),
    "LogitNormal": Distribution(("mu", "sigma"), "unit"),
    "LKJ": Distribution(("eta",), "correlation"),
    "FisherNormal": Distribution(("mu", "sigma"), "correlation"),
}


class Prior(Record):
    r"""A prior distribution in the units of the user's data.

    Parameters
    ----------
    distribution : str
        For coefficients: ``"Normal"``, ``"StudentT"``, ``"Laplace"``, ``"Cauchy"``,
        ``"Logistic"``; for gate coefficients also ``"ZeroSumNormal"`` (the default there);
        for positive parameters: ``"LogNormal"``, ``"HalfNormal"``, ``"HalfStudentT"``,
        ``"HalfCauchy"``, ``"Exponential"``, ``"Gamma"``, ``"InverseGamma"``, ``"Weibull"``;
        for probabilities: ``"Beta"``, ``"LogitNormal"``; for correlations ``"LKJ"``, with a
        density in proportion to ``(1 - rho^2)^(eta - 1)``, and ``"FisherNormal"``, under which
        ``artanh(rho)`` is normal.
    **arguments : float or sequence of float
        The distribution's arguments by PyMC's names. A coefficient prior takes one number for
        all terms or one number a term, in the order of the design's columns.

    Raises
    ------
    SpecError
        For an unknown distribution or argument (the nearest valid name is offered), a missing
        one, or a value that is not finite.

    Examples
    --------
    >>> Prior("Normal", mu=0, sigma=2)
    Prior('Normal', mu=0.0, sigma=2.0)
    """

    __slots__ = ("arguments", "distribution")

    distribution: str
    arguments: Mapping[str, float | tuple[float, ...]]

    def __init__(self, distribution: str, **arguments: Any) -> None:
        check_one_of("prior distribution", distribution, DISTRIBUTIONS)
        valid = DISTRIBUTIONS[distribution].arguments
        for name in arguments:
            check_one_of(f"argument of {distribution}", name, valid)
        optional = {DISTRIBUTIONS[distribution].location}
        missing = [name for name in valid if name not in arguments and name not in optional]
        if missing:
            raise SpecError(f"Prior {distribution!r} needs {', '.join(missing)}.")
        self._set(
            distribution=distribution,
            arguments=MappingProxyType(
                {n: _number(distribution, n, arguments.get(n, 0.0)) for n in valid}
            ),
        )

    def __repr__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return f"Prior({self.distribution!r}, {inner})"

    @property
    def kind(self) -> Distribution:
        """Arguments and support of the distribution."""
        return DISTRIBUTIONS[self.distribution]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the distribution and its arguments."""
        return {"distribution": self.distribution, **self.arguments}

    def over_terms(self, name: str, terms: tuple[str, ...]) -> Prior:
        """Prior with one number a term in every argument.

        ``name`` is the variable's, for the error about another number of arguments.
        """
        arguments = {}
        for argument, value in self.arguments.items():
            values = np.atleast_1d(np.asarray(value, dtype=float))
            if values.size not in (1, len(terms)):
                raise SpecError(
                    f"The prior of {name!r} has {values.size} values for {argument!r}, "
                    f"but the design has {len(terms)} terms: {', '.join(terms)}."
                )
            arguments[argument] = np.broadcast_to(values, (len(terms),))
        return Prior(self.distribution, **arguments)

    def rescaled(self, loc: np.ndarray, scale: np.ndarray) -> Prior:
        """Prior of ``(value - loc) / scale`` where ``value`` has this prior."""
        arguments: dict[str, Any] = {k: np.asarray(v) for k, v in self.arguments.items()}
        if self.kind.location is not None:
            arguments[self.kind.location] = (arguments[self.kind.location] - loc) / scale
        arguments[str(self.kind.scale)] = arguments[str(self.kind.scale)] / scale
        return Prior(self.distribution, **arguments)

    def rv(
        self,
        name: str,
        dims: tuple[str, ...],
        *,
        column: bool = False,
        context: GraphContext = CONSTANTS,
    ) -> Any:
        """Random variable of this prior in the current PyMC model.

        With ``column=True`` arguments broadcast along the first of two dims: ``(term, expert)``;
        it is an internal variable then, and has these dims in graphs for users too.
        """
        import pymc as pm

        if context.given:
            return context.given_variable(name, dims)
        arguments = {
            k: context.number(f"{name}_{k}", np.asarray(v)[:, None] if column else v)
            for k, v in self.arguments.items()
        }
        distribution: Any = getattr(pm, self.distribution, None)
        if column:
            return distribution(name, dims=dims, **arguments)
        shown = context.pairs.dims(dims)
        if self.kind.support == "correlation":
            variable = _correlation(self.distribution, name, shown, arguments)
        else:
            variable = distribution(name, dims=shown, **arguments)
        return context.pairs.internal(variable, dims)


def _correlation(
    distribution: str, name: str, dims: tuple[str, ...], arguments: Mapping[str, Any]
) -> Any:
    """Random variable between -1 and 1, which PyMC has no distribution for."""
    import pymc as pm
    import pytensor.tensor as pt

    def lkj(eta: Any, size: Any) -> Any:
        return 2.0 * pm.Beta.dist(eta, eta, size=size) - 1.0

    def fisher_normal(mu: Any, sigma: Any, size: Any) -> Any:
        return pt.tanh(pm.Normal.dist(mu, sigma, size=size))

    def log_lkj(value: Any, eta: Any) -> Any:
        constant = 2.0 * pt.gammaln(eta) - pt.gammaln(2.0 * eta) + (2.0 * eta - 1.0) * np.log(2.0)
        return (eta - 1.0) * pt.log1p(-value * value) - constant

    def log_fisher_normal(value: Any, mu: Any, sigma: Any) -> Any:
        z = 0.5 * (pt.log1p(value) - pt.log1p(-value))
        return pm.logp(pm.Normal.dist(mu, sigma), z) - pt.log1p(-value * value)

    draw, logp = (lkj, log_lkj) if distribution == "LKJ" else (fisher_normal, log_fisher_normal)
    return pm.CustomDist(
        name,
        *(pt.as_tensor(a, dtype="float64") for a in arguments.values()),
        dist=draw,
        logp=logp,
        # In double precision: PyTensor takes Python numbers for single ones.
        transform=pm.distributions.transforms.Interval(np.float64(-1.0), np.float64(1.0)),
        class_name=distribution,
        dims=dims,
    )


def _number(distribution: str, name: str, value: Any) -> float | tuple[float, ...]:
    """Argument as a float or a tuple of floats; SpecError for anything else."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal length
        raise SpecError(_no_number(distribution, name, value)) from error
    if array.dtype.kind not in "iuf":
        raise SpecError(_no_number(distribution, name, value))
    array = array.astype(float)
    if array.ndim > 1 or array.size == 0 or not np.all(np.isfinite(array)):
        raise SpecError(
            f"Argument {name!r} of prior {distribution!r} must be a finite number, or one "
            f"number a term; it is {value!r}."
        )
    # The `alpha` of a Cauchy distribution is its location.
    positive = name in {"sigma", "b", "s", "beta", "lam", "nu", "eta"} or (
        name == "alpha" and distribution != "Cauchy"
    )
    if positive and np.any(array <= 0):
        raise SpecError(
            f"Argument {name!r} of prior {distribution!r} must be positive; it is {value!r}."
        )
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def _no_number(distribution: str, name: str, value: Any) -> str:
    return f"Argument {name!r} of prior {distribution!r} is no number: {value!r}."
