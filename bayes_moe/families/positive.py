"""Positive responses: the gamma distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.errors import DataError
from bayes_moe.families.base import NOTHING, Family, Parameter, Parameters, RowData
from bayes_moe.families.gamma_normaliser import information
from bayes_moe.families.links import LOG, LOG_RATE


class Gamma(Family):
    """Gamma distribution with mean ``mu`` and shape ``alpha``, and ``eta = log mu``.

    ``log f(y) = alpha (log alpha - r - exp(-r)) - log Gamma(alpha) - log y`` with the log ratio
    ``r = eta - log y``; the parameter ``mu`` is ``eta`` wherever it is an argument here. The
    coefficient of variation is ``1 / sqrt(alpha)``.
    """

    kind = "gamma"
    parameters = (Parameter("mu", LOG_RATE, "rate"), Parameter("alpha", LOG, "precision"))
    lower = 0.0

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, log_mean: Any, log_alpha: Any) -> Any:
            pull = m.exp(log_alpha) * m.deviance(t - log_mean)
            return base + m.gamma_normaliser(log_alpha) - pull

        return row

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        positive = (y > 0) & (y < np.inf)
        log_y = xp.log(xp.where(positive, y, 1.0))
        return RowData(log_y, 0.0, xp.where(positive, -log_y, -np.inf))

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any]:
        return np.exp(etas[1]), information(etas[1])

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        return pm.Gamma.dist(
            alpha=params["alpha"], beta=params["alpha"] * pt.exp(-pt.as_tensor(params["mu"]))
        )

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log(y)

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        alpha = params["alpha"]
        # Far in the tail exp(-eta) overflows while y is zero: their product is then no number.
        with np.errstate(over="ignore"):
            ratio = np.exp(np.log(np.where(y > 0, y, 1.0)) - params["mu"])
        return np.where(y > 0, special.gammainc(alpha, alpha * ratio), 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        alpha = params["alpha"]
        with np.errstate(over="ignore"):
            ratio = np.exp(np.log(np.where(y > 0, y, 1.0)) - params["mu"])
        return np.where(y > 0, special.gammaincc(alpha, alpha * ratio), 1.0)

    def mean(self, params: Parameters) -> np.ndarray:
        mean: np.ndarray = NUMERIC.exp(params["mu"])
        return mean

    def variance(self, params: Parameters) -> np.ndarray:
        with np.errstate(over="ignore"):
            return self.mean(params) ** 2 / params["alpha"]

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        drawn = self.mean(params) * rng.gamma(params["alpha"], size=size) / params["alpha"]
        # A small shape has draws below the least double, and zero is no response.
        return np.maximum(drawn, np.finfo(float).tiny)

    def scale(self, params: Parameters) -> np.ndarray:
        info = np.finfo(float)
        with np.errstate(over="ignore"):
            return np.clip(self.mean(params) / np.sqrt(params["alpha"]), info.tiny, info.max)

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        super().check_response(y, name, known, obs_id)
        invalid = np.flatnonzero(~(y > 0))
        if invalid.size:
            at = invalid[0]
            row = at if obs_id is None else obs_id[at]
            raise DataError(
                f"The response {name!r} is {y[at]:g} at row {row}; this family needs positive "
                f"numbers ({invalid.size} row(s) are not)."
            )
