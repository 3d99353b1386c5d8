"""Prior records, data-scaled defaults by role, and Prior -> random variable.

Default priors (``s_y``, ``m_y``: standard deviation and mean of the response; ``s_j``: standard
deviation of feature ``j``; intercepts refer to the centre of the features):

=============================  =======================================================
location coefficients (``mu``) intercept ``Normal(m_y, 2.5 s_y)``, slopes
                               ``Normal(0, 2.5 s_y / s_j)``
log rates (Poisson ``mu``)     intercept ``Normal(log m_y, 2.5)``, slopes
                               ``Normal(0, 2.5 / s_j)``
log odds (``p``)               intercept ``Normal(0, 2.5)``, slopes
                               ``Normal(0, 2.5 / s_j)``
gate coefficients              intercept ``ZeroSumNormal(1.5)``, slopes
                               ``ZeroSumNormal(2.5 / s_j)``
scale (``sigma``)              ``LogNormal(log(s_y / 2), 1)``; with a formula, on the log
                               link: the same prior for the intercept,
                               ``Normal(0, 1 / s_j)`` for slopes
shape (``nu``)                 ``Gamma(2, 0.1)``; with a formula, on the log link:
                               ``Normal(log 15, 1)``, slopes ``Normal(0, 0.5 / s_j)``
=============================  =======================================================

Without an intercept, features are not centred, ``s_j`` is the root mean square of the feature, and
``s_y`` in the prior of location coefficients that of the response.

A log-normal density falls faster than any power of sigma at zero. So the posterior density falls to
zero where an expert collapses onto a few rows, and the likelihood grows without bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.graph_context import held
from bayes_moe.core.records import Record


@dataclass(frozen=True)
class Kind:
    """What is known of a distribution: its arguments, its support, which of them move and scale."""

    arguments: tuple[str, ...]
    support: str
    location: str | None = None
    scale: str | None = None


DISTRIBUTIONS: dict[str, Kind] = {
    "Normal": Kind(("mu", "sigma"), "real", "mu", "sigma"),
    "StudentT": Kind(("nu", "mu", "sigma"), "real", "mu", "sigma"),
    "Laplace": Kind(("mu", "b"), "real", "mu", "b"),
    "Cauchy": Kind(("alpha", "beta"), "real", "alpha", "beta"),
    "Logistic": Kind(("mu", "s"), "real", "mu", "s"),
    "ZeroSumNormal": Kind(("sigma",), "zero-sum", None, "sigma"),
    "LogNormal": Kind(("mu", "sigma"), "positive"),
    "HalfNormal": Kind(("sigma",), "positive"),
    "HalfStudentT": Kind(("nu", "sigma"), "positive"),
    "HalfCauchy": Kind(("beta",), "positive"),
    "Exponential": Kind(("lam",), "positive"),
    "Gamma": Kind(("alpha", "beta"), "positive"),
    "InverseGamma": Kind(("alpha", "beta"), "positive"),
    "Weibull": Kind(("alpha", "beta"), "positive"),
}


class Prior(Record):
    r"""A prior distribution in the units of the user's own data.

    Parameters
    ----------
    distribution : str
        For coefficients: ``"Normal"``, ``"StudentT"``, ``"Laplace"``, ``"Cauchy"``,
        ``"Logistic"``; for gate coefficients also ``"ZeroSumNormal"`` (the default there);
        for positive parameters: ``"LogNormal"``, ``"HalfNormal"``, ``"HalfStudentT"``,
        ``"HalfCauchy"``, ``"Exponential"``, ``"Gamma"``, ``"InverseGamma"``, ``"Weibull"``.
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
        if not isinstance(distribution, str) or distribution not in DISTRIBUTIONS:
            raise SpecError(unknown("prior distribution", distribution, DISTRIBUTIONS))
        valid = DISTRIBUTIONS[distribution].arguments
        for name in arguments:
            if name not in valid:
                raise SpecError(unknown(f"argument of {distribution}", name, valid))
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
    def kind(self) -> Kind:
        """The distribution's row in the table."""
        return DISTRIBUTIONS[self.distribution]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {"distribution": self.distribution, **self.arguments}

    def over_terms(self, name: str, terms: tuple[str, ...]) -> Prior:
        """Spread scalar arguments over the terms of a coefficient vector."""
        spread = {}
        for argument, value in self.arguments.items():
            values = np.atleast_1d(np.asarray(value, dtype=float))
            if values.size not in (1, len(terms)):
                raise SpecError(
                    f"The prior of {name!r} has {values.size} values for {argument!r}, "
                    f"but the design has {len(terms)} terms: {', '.join(terms)}."
                )
            spread[argument] = np.broadcast_to(values, (len(terms),))
        return Prior(self.distribution, **spread)

    def rescaled(self, loc: np.ndarray, scale: np.ndarray) -> Prior:
        """Return the prior of ``(value - loc) / scale`` when ``value`` has this prior."""
        arguments: dict[str, Any] = {k: np.asarray(v) for k, v in self.arguments.items()}
        if self.kind.location is not None:
            arguments[self.kind.location] = (arguments[self.kind.location] - loc) / scale
        arguments[str(self.kind.scale)] = arguments[str(self.kind.scale)] / scale
        return Prior(self.distribution, **arguments)

    def rv(self, name: str, dims: tuple[str, ...], *, column: bool = False) -> Any:
        """Create the random variable inside the current PyMC model.

        ``column=True`` lays the arguments along the first of two dims: ``(term, expert)``.
        """
        import pymc as pm

        arguments = {
            k: held(f"{name}_{k}", np.asarray(v)[:, None] if column else v)
            for k, v in self.arguments.items()
        }
        return getattr(pm, self.distribution)(name, dims=dims, **arguments)


def _number(distribution: str, name: str, value: Any) -> float | tuple[float, ...]:
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
    positive = name in {"sigma", "b", "s", "beta", "lam", "nu"} or (
        name == "alpha" and distribution != "Cauchy"
    )
    if positive and np.any(array <= 0):
        raise SpecError(
            f"Argument {name!r} of prior {distribution!r} must be positive; it is {value!r}."
        )
    return float(array) if array.ndim == 0 else tuple(array.tolist())


def _no_number(distribution: str, name: str, value: Any) -> str:
    return f"Argument {name!r} of prior {distribution!r} is no number: {value!r}."
