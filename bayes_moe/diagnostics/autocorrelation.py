"""Autocorrelation of each expert's residuals, of models whose rows have times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from bayes_moe.core import names
from bayes_moe.data.matrix import Rows
from bayes_moe.data.sequences import Sequences
from bayes_moe.model.mixture import Mixture
from bayes_moe.prediction.chunked_mixture import mixtures_on
from bayes_moe.prediction.class_quantities import has_classes
from bayes_moe.prediction.predict import responsibilities
from bayes_moe.results.fit import Fit

LAGS = 10
"""Lags of the test; of a short series a fifth of its rows, as Hyndman and Athanasopoulos advise."""
LEAST_ROWS = 30.0
"""Rows of an expert, counted by responsibility, below which it is not tested."""
STRONG, LEAST_P = 0.3, 1e-3
"""Autocorrelation, and p value, from which residuals are called correlated."""
LEAST = float(np.finfo(float).tiny)


@dataclass(frozen=True)
class Autocorrelation:
    """Autocorrelation of the residuals of one expert.

    Attributes
    ----------
    label : str
        The expert.
    rows : float
        Sum of its responsibilities.
    correlations : array (lag,)
        Between its residuals and those 1, 2, ... rows before in the same series.
    statistic, p : float
        Ljung-Box statistic over these lags, and its p value.
    """

    label: str
    rows: float
    correlations: np.ndarray
    statistic: float
    p: float

    @property
    def figure(self) -> str:
        """The first correlation and the p value of the test, for tables."""
        return f"correlation of neighbours {self.correlations[0]:.2f}, p {_shown(self.p)}"

    @property
    def problem(self) -> str | None:
        """A message with its remedy, where the residuals are strongly correlated."""
        at = int(np.abs(self.correlations).argmax())
        largest = self.correlations[at]
        if not (abs(largest) >= STRONG and self.p < LEAST_P and self.rows >= LEAST_ROWS):
            return None
        place = "the row before" if not at else f"that {at + 1} rows before"
        return (
            f"Residuals of expert {self.label} are correlated with those of {place} "
            f"({largest:.2f}; Ljung-Box p {_shown(self.p)}): "
            "rows say more of each other than the model knows, and its uncertainty is too small. "
            "Add lag() terms, a trend or a season to the formula of the experts."
        )


def autocorrelations(fit: Fit) -> list[Autocorrelation]:
    r"""Autocorrelations of the experts' residuals in the fitted rows.

    The residual ``z`` of a row is the normal quantile of its response's probability under the
    expert, averaged over draws. With ``r`` the responsibilities and ``n = \sum_t r_t``,

    .. math::
        Q = \frac{n + 2}{n} \sum_l u_l^2, \quad
        u_l = \frac{\sum_t r_t r_{t-l} z_t z_{t-l}}
                   {s^2 \sqrt{\sum_t r_t^2 r_{t-l}^2}}, \quad
        s^2 = \frac{\sum_t r_t z_t^2}{n}

    with ``z`` less its weighted mean. If residuals are independent, each ``u`` is about standard
    normal, and ``Q`` chi-squared with as many degrees of freedom as lags. Of one expert ``Q`` is
    the statistic of Ljung and Box (1978).

    Empty for models without ``time``, responses that are classes, and several responses.

    References
    ----------
    Ljung, G. M., & Box, G. E. P. (1978). On a measure of lack of fit in time series models.
    Biometrika, 65(2), 297-303.
    """
    rows = fit.design.rows
    if rows.observation.time is None or len(fit.responses) > 1:
        return []
    if has_classes(fit) or rows.observation.limits is not None or fit.design.limits is not None:
        return []
    sequences = Sequences.of(rows.observation.series, rows.size)
    order = np.arange(rows.size) if sequences.order is None else sequences.order
    averaged = responsibilities(fit).mean((names.CHAIN, names.DRAW))
    shares = averaged.transpose(names.EXPERT, names.OBS).values[:, order]
    residuals = expert_residuals(fit)[:, order]
    code = sequences.code[order]
    shortest = int((sequences.ends - sequences.starts).max())
    lags = min(LAGS, shortest // 5)
    if lags < 1:
        return []
    return [
        _test(str(label), z, r, code, lags)
        for label, z, r in zip(fit.spec.expert_labels, residuals, shares, strict=True)
    ]


def expert_residuals(fit: Fit) -> np.ndarray:
    """Normal quantiles (expert, obs) of the responses' probabilities under each expert.

    Of counts, the probability is that up to the middle of the jump at the response.
    """

    def tails(mixture: Mixture, part: Rows) -> np.ndarray:
        y = part.observed
        low, high = _averaged(mixture, y, "cdf"), _averaged(mixture, y, "sf")
        if mixture.measure.discrete:
            low = (low + _averaged(mixture, y - 1, "cdf")) / 2
            high = 1.0 - low
        return np.stack([low, high], axis=-1)

    both = mixtures_on(fit, None, with_response=True, given_effects=True).map(tails)
    low, high = np.maximum(np.moveaxis(both, -1, 0), LEAST)
    found: np.ndarray = np.where(low < high, special.ndtri(low), -special.ndtri(high)).T
    return found


def _averaged(mixture: Mixture, y: np.ndarray, name: str) -> np.ndarray:
    """Probabilities (obs, expert) of tails, averaged over draws."""
    size, experts, rows = mixture.log_weights.shape
    found = np.empty((experts, rows))
    for block, params in zip(mixture.blocks, mixture.params, strict=True):
        values = getattr(block.family, name)(y, params)
        shape = (size, len(block.positions), rows)
        found[list(block.positions)] = np.broadcast_to(values, shape).mean(axis=0)
    return found.T


def _test(label: str, z: np.ndarray, r: np.ndarray, code: np.ndarray, lags: int) -> Autocorrelation:
    """Autocorrelation of residuals (obs,) with weights (obs,), of rows in the order of time."""
    n = float(r.sum())
    if not n > 0:
        return Autocorrelation(label, n, np.zeros(lags), 0.0, 1.0)
    z = z - (r @ z) / n
    variance = (r @ z**2) / n
    sums = np.zeros((3, lags))
    for lag in range(1, lags + 1):
        both = np.where(code[lag:] == code[:-lag], r[lag:] * r[:-lag], 0.0)
        sums[:, lag - 1] = both @ (z[lag:] * z[:-lag]), both.sum(), (both**2).sum()
    product, pairs, squares = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.nan_to_num(product / (variance * np.sqrt(squares)), nan=0.0, posinf=0.0, neginf=0.0)
        rho = np.nan_to_num(product / (variance * pairs), nan=0.0, posinf=0.0, neginf=0.0)
    statistic = float((n + 2) / n * (u**2).sum())
    return Autocorrelation(label, n, rho, statistic, float(special.chdtrc(lags, statistic)))


def _shown(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"
