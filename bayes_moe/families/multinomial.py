"""Counts of several outcomes: the multinomial distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.errors import DataError
from bayes_moe.families.base import NOTHING, Family, Parameter, Parameters, RowData, Size
from bayes_moe.families.binomial import Binomial
from bayes_moe.families.discrete import is_count
from bayes_moe.families.links import LOG_ODDS
from bayes_moe.families.several import Several


@dataclass(frozen=True)
class Multinomial(Several):
    """Multinomial distribution of the counts of ``"cbind(a, b, c) ~ x"`` in ``trials``.

    A trial has the outcome ``j`` with the probability ``p_j = softmax(eta)_j``:
    ``log f(y) = sum_j y_j log p_j + log n! - sum_j log y_j!`` with ``n = sum_j y_j``. Only
    differences of the predictors count: by default their coefficients sum to zero.

    Parameters
    ----------
    responses : tuple of str, optional
        Names of the outcomes; by default from the formula.
    """

    kind = "multinomial"
    support = "counts whose sum is the number of trials"
    alone = "categorical"
    discrete = True
    lower = 0.0
    known_counts = ("trials",)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("p", LOG_ODDS, "class", self.names, "outcome"),)

    def row(self, m: Any) -> Callable[..., Any]:
        d = self.count

        def row(t: Any, u: Any, base: Any, *rest: Any) -> Any:
            counts, etas = (t, u, *rest[: d - 2]), rest[d - 2 :]
            value = base - sum(counts[1:], counts[0]) * m.logsumexp(*etas)
            for y, eta in zip(counts, etas, strict=True):
                value = value + y * eta
            return value

        return row

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        counts = [y[j] for j in range(self.count)]
        total = sum(counts[1:], counts[0])
        supported = (total >= known["trials"]) & (total <= known["trials"])
        for own in counts:
            supported = supported & is_count(own, xp)
        inside = [xp.where(supported, own, 0.0) for own in counts]
        base = xp.gammaln(sum(inside[1:], inside[0]) + 1.0)
        for own in inside:
            base = base - xp.gammaln(own + 1.0)
        first, second, *more = inside
        return RowData(first, second, xp.where(supported, base, -np.inf), tuple(more))

    def shares(self, params: Parameters) -> np.ndarray:
        """Probabilities (..., response, expert, obs) of the outcomes."""
        probabilities: np.ndarray = special.softmax(np.asarray(params["p"]), axis=-3)
        return probabilities

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        logs = np.log(y + 0.5)
        return logs - logs.mean(axis=0)

    def initial_location(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return self.initial_eta(y, known)[:, None]

    def margin(self, j: int, params: Parameters) -> tuple[Family, dict[str, Any]]:
        """Binomial distribution of the count of outcome ``j``, and its parameters."""
        eta = np.asarray(params["p"])
        others = NUMERIC.logsumexp(np.delete(eta, j, axis=-3), axis=-3)
        return Binomial(), {"p": eta[..., j, :, :] - others, "trials": params["trials"]}

    def covariance(self, params: Parameters) -> np.ndarray:
        """Covariance matrices (..., expert, obs, response, response) of the counts."""
        p = np.moveaxis(self.shares(params), -3, -1)
        spread = p[..., None] * np.eye(self.count) - p[..., :, None] * p[..., None, :]
        return np.asarray(params["trials"])[..., None, None] * spread

    def random(self, params: Parameters, rng: Generator, size: Size) -> np.ndarray:
        """Draws (..., response, expert, obs) for a ``size`` (..., expert, obs)."""
        p = np.broadcast_to(np.moveaxis(self.shares(params), -3, -1), (*size, self.count))
        trials = np.broadcast_to(np.asarray(params["trials"]).astype(np.int64), size)
        return np.moveaxis(rng.multinomial(trials, p), -1, -3)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        # The parameter is (obs, expert, label): PyMC has the outcomes last.
        p = pt.special.softmax(params["p"], axis=-1)
        return pm.Multinomial.dist(n=params["trials"], p=p)

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        rows = np.arange(y.shape[1]) if obs_id is None else obs_id
        trials = np.broadcast_to(known["trials"], y.shape[1:])
        for own, of in zip(y, self.names, strict=True):
            wrong = np.flatnonzero(~is_count(own, NUMERIC))
            if wrong.size:
                raise DataError(
                    f"The response {of!r} of {name!r} is {own[wrong[0]]:g} at row "
                    f"{rows[wrong[0]]}; family {self.kind!r} needs counts 0, 1, 2, ... "
                    f"({wrong.size} row(s) are not)."
                )
        wrong = np.flatnonzero(y.sum(axis=0) != trials)
        if wrong.size:
            at = wrong[0]
            raise DataError(
                f"The counts of {name!r} sum to {y[:, at].sum():g} at row {rows[at]}, where the "
                f"number of trials is {trials[at]:g} ({wrong.size} row(s) differ)."
            )
        if not np.ptp(y / np.maximum(trials, 1), axis=1).any():
            raise DataError(
                f"The shares of {name!r} are the same in all {y.shape[1]} rows: there is nothing "
                "to model."
            )
