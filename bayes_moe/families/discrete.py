"""Families of whole numbers: Poisson, Bernoulli, Binomial.

Their formulas take the location as its linear predictor ``eta``, a log rate or log odds. Their
densities are probabilities, and zero between the whole numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from scipy import special

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.errors import DataError
from bayes_moe.families.base import (
    LOG_ODDS,
    LOG_RATE,
    NOTHING,
    Derivatives,
    Family,
    Parameter,
    Parameters,
    check_varied,
)

LARGEST_RATE = 9.2e18
"""NumPy draws no Poisson numbers of a larger rate: they would not fit into 64 bits."""

HALF_UNIT = 0.5
"""Least width: that of the step between two whole numbers."""


def _whole(y: Any, xp: Arrays) -> Any:
    """Where ``y`` is 0, 1, 2, ..."""
    return (y >= 0) & (y < np.inf) & (xp.floor(y) >= y)


class Discrete(Family):
    """A distribution of whole numbers from 0, with one predictor ``eta``."""

    discrete = True
    support: ClassVar[str]
    """Which responses there may be, in words."""

    @abstractmethod
    def possible(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Where ``y`` has a probability."""

    @abstractmethod
    def tilt(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Summand of the log probability in which the predictor stands."""

    @abstractmethod
    def log_orders(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        """Summand of the log probability of a possible ``y`` in which no predictor stands."""

    def log_density(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        possible = self.possible(y, params, xp)
        inside = xp.where(possible, y, 0.0)
        mass = self.tilt(inside, params, xp) + self.log_orders(inside, params, xp)
        return xp.where(possible, mass, -np.inf)

    def log_base(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        possible = self.possible(y, params, xp)
        inside = xp.where(possible, y, 0.0)
        return xp.where(possible, self.log_orders(inside, params, xp), -np.inf)

    @abstractmethod
    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance."""

    def mean(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[0]

    def variance(self, params: Parameters) -> np.ndarray:
        return self.moments(params)[1]

    def location(self, params: Parameters) -> np.ndarray:
        return self.mean(params)

    def scale(self, params: Parameters) -> np.ndarray:
        return np.hypot(np.sqrt(self.variance(params)), HALF_UNIT)

    def derivatives(self, y: Any, params: Parameters) -> Derivatives:
        # The link is canonical: the information is the variance, whatever the response.
        mean, variance = self.moments(params)
        return Derivatives((y - mean,), ((-variance,),), (variance,))

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        impossible = np.flatnonzero(~self.possible(y, known, NUMERIC))
        if impossible.size:
            at = impossible[0]
            row = at if obs_id is None else obs_id[at]
            raise DataError(
                f"The response {name!r} is {y[at]:g} at row {row}{self._beside(at, known)}; this "
                f"family needs {self.support} ({impossible.size} row(s) are not)."
            )
        self.check_varied(y, name, known)

    def check_varied(self, y: np.ndarray, name: str, known: Parameters) -> None:
        """Raise :class:`DataError` if the rows are all the same."""
        check_varied(y, f"response {name!r}")

    def _beside(self, at: int, known: Parameters) -> str:
        """Say what else is known of a row."""
        return ""


class Poisson(Discrete):
    """Poisson distribution with rate ``mu``; formulas take ``log mu``."""

    PARAMS = (Parameter("mu", LOG_RATE, "rate"),)
    support = "whole numbers from 0"

    def possible(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return _whole(y, xp)

    def tilt(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        eta = params["mu"]
        return y * eta - xp.exp(eta)

    def log_orders(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return -xp.gammaln(y + 1)

    def dist(self, params: Parameters) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        return pm.Poisson.dist(mu=pt.minimum(pt.exp(params["mu"]), LARGEST_RATE))

    def guess(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log(y + HALF_UNIT)

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        step = np.floor(y)
        level = special.gammaincc(np.maximum(step, 0) + 1, self.mean(params))
        return np.where(step >= 0, np.where(step < np.inf, level, 1.0), 0.0)

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        rate = NUMERIC.exp(params["mu"])
        return rate, rate

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        return rng.poisson(np.minimum(self.mean(params), LARGEST_RATE), size)


class Successes(Discrete):
    """Number of successes in independent trials; formulas take the log odds of ``p``."""

    PARAMS = (Parameter("p", LOG_ODDS, "odds"),)

    @abstractmethod
    def trials(self, params: Parameters) -> Any:
        """Return the number of trials."""

    def possible(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return _whole(y, xp) & (y <= self.trials(params))

    def tilt(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        eta = params["p"]
        return y * eta - self.trials(params) * xp.softplus(eta)

    def guess(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return np.log((y + HALF_UNIT) / (self.trials(known) - y + HALF_UNIT))

    def cdf(self, y: Any, params: Parameters) -> np.ndarray:
        step, trials = np.floor(y), self.trials(params)
        inside = np.clip(step, 0, np.maximum(trials - 1, 0))
        failure = special.expit(-np.asarray(params["p"]))
        level = special.betainc(np.maximum(trials - inside, 1), inside + 1, failure)
        return np.where(step >= 0, np.where(step < trials, level, 1.0), 0.0)

    def moments(self, params: Parameters) -> tuple[np.ndarray, np.ndarray]:
        eta = np.asarray(params["p"])
        mean = self.trials(params) * special.expit(eta)
        return mean, mean * special.expit(-eta)

    def random(
        self, params: Parameters, rng: np.random.Generator, size: tuple[int, ...]
    ) -> np.ndarray:
        trials = np.asarray(self.trials(params)).astype(np.int64)
        return rng.binomial(trials, special.expit(params["p"]), size)


class Bernoulli(Successes):
    """Bernoulli distribution of 0 and 1 with probability ``p`` of 1."""

    support = "0 and 1, or False and True"

    def trials(self, params: Parameters) -> Any:
        return 1.0

    def log_orders(self, y: Any, params: Parameters, xp: Arrays) -> Any:
        return 0.0 * y

    def dist(self, params: Parameters) -> Any:
        import pymc as pm

        return pm.Bernoulli.dist(logit_p=params["p"])


class Binomial(Successes):
    """Binomial distribution of successes in ``trials``, each with probability ``p``."""

    KNOWN = ("trials",)
    support = "whole numbers from 0 to the number of trials"

    def trials(self, params: Parameters) -> Any:
        return params["trials"]

    def log_orders(self, y: Any, params: Parameters, xp: Arrays) -> Any:
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
