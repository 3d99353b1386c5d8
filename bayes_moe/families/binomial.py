"""Numbers of successes in independent trials: Bernoulli and binomial distributions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from bayes_moe.core.arrays import Arrays
from bayes_moe.data.class_labels import TWO
from bayes_moe.families.base import (
    Parameter,
    Parameters,
    check_varied,
)
from bayes_moe.families.discrete import HALF_UNIT, Discrete, is_count
from bayes_moe.families.links import LOG_ODDS


class SuccessCounts(Discrete):
    """Number of successes ``y`` in ``n`` trials, with ``eta`` the log odds of success.

    ``log f(y) = y eta - n log(1 + exp(eta)) + log_coefficient(y, n)``, which is free of rounding
    of ``1 - p``; the parameter ``p`` is ``eta`` wherever it is an argument here.
    """

    parameters = (Parameter("p", LOG_ODDS, "odds"),)

    @abstractmethod
    def trials(self, params: Parameters) -> Any:
        """Number of trials: (obs,), (1,) or a number."""

    def in_support(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return is_count(y, xp) & (y <= self.trials(params))

    def row(self, m: Any) -> Callable[..., Any]:
        def row(t: Any, u: Any, base: Any, eta: Any) -> Any:
            return base + t * eta - u * m.softplus(eta)

        return row

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log((y + HALF_UNIT) / (self.trials(known) - y + HALF_UNIT))

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        step, trials = np.floor(y), self.trials(params)
        # betainc needs positive arguments: y < 0 and y >= trials are replaced here, and set below.
        inside = np.clip(step, 0, np.maximum(trials - 1, 0))
        failure = special.expit(-np.asarray(params["p"]))
        level = special.betainc(np.maximum(trials - inside, 1), inside + 1, failure)
        return np.where(step >= 0, np.where(step < trials, level, 1.0), 0.0)

    def sf(self, y: Any, params: Parameters) -> np.ndarray:
        step, trials = np.floor(y), self.trials(params)
        inside = np.clip(step, 0, np.maximum(trials - 1, 0))
        success = special.expit(np.asarray(params["p"]))
        level = special.betainc(inside + 1, np.maximum(trials - inside, 1), success)
        return np.where(step >= 0, np.where(step < trials, level, 0.0), 1.0)

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        eta = np.asarray(params["p"])
        mean = self.trials(params) * special.expit(eta)
        return mean, mean * special.expit(-eta)

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        trials = np.asarray(self.trials(params)).astype(np.int64)
        return rng.binomial(trials, special.expit(params["p"]), size)


class Bernoulli(SuccessCounts):
    """Bernoulli distribution: ``y`` is 1 with probability ``p``, else 0."""

    kind = "bernoulli"
    support = "0 and 1, or False and True"
    takes_levels = TWO

    def trials(self, params: Parameters) -> Any:
        return 1.0

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return 0.0 * y

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Bernoulli.dist(logit_p=params["p"])


class Binomial(SuccessCounts):
    """Binomial distribution: ``C(trials, y) p^y (1 - p)^(trials - y)``."""

    kind = "binomial"
    KNOWN = ("trials",)
    support = "whole numbers from 0 to the number of trials"

    def trials(self, params: Parameters) -> Any:
        return params["trials"]

    def log_coefficient(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        trials = params["trials"]
        return xp.gammaln(trials + 1) - xp.gammaln(y + 1) - xp.gammaln(trials - y + 1)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        return pm.Binomial.dist(n=pt.cast(params["trials"], "int64"), logit_p=params["p"])

    def check_varied(self, y: np.ndarray, name: str, known: Parameters) -> None:
        trials = np.broadcast_to(known["trials"], y.shape)
        tried = trials > 0
        check_varied(y[tried] / trials[tried], f"share of successes {name!r}")

    def _beside(self, at: int, known: Parameters) -> str:
        trials = known["trials"]
        return f" of {trials[at if trials.size > 1 else 0]:g} trials"
