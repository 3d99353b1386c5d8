"""R-hat and effective sample sizes of many quantities at once.

These are ArviZ's figures (rank-normalised split R-hat, bulk and tail effective sample sizes) with
one sort and one Fourier transform for all quantities.

References
----------
Vehtari, A., Gelman, A., Simpson, D., Carpenter, B., & Bürkner, P.-C. (2021). Rank-normalization,
folding, and localization: an improved R-hat. Bayesian Analysis, 16(2), 667-718.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST_DRAWS = 4
OFFSET = 3 / 8
"""Fractional offset of ranks (Blom 1958)."""
TAIL = 0.05
"""Probability of either tail whose effective sample size is computed."""
CONSTANT = np.finfo(float).resolution
"""Range up to which a quantity counts as constant."""


@dataclass(frozen=True)
class Mixing:
    """Figures (quantity,) of several chains; NaN where they have gaps or are too short.

    Attributes
    ----------
    rhat : array
        Larger of the R-hats of ranks and of ranks of distances to the median; NaN for one chain.
    ess_bulk : array
        Effective sample size of ranks.
    ess_tail : array
        Smaller of the effective sample sizes of the 5 % and 95 % quantiles.
    """

    rhat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray

    def joined(self, other: Mixing) -> Mixing:
        """Figures of both sets of quantities."""
        return Mixing(
            np.append(self.rhat, other.rhat),
            np.append(self.ess_bulk, other.ess_bulk),
            np.append(self.ess_tail, other.ess_tail),
        )


def mixing(values: np.ndarray) -> Mixing:
    """Figures of quantities (quantity, chain, draw)."""
    quantities, chains, draws = values.shape
    unknown = np.full(quantities, np.nan)
    found = Mixing(unknown, unknown.copy(), unknown.copy())
    known = ~np.isnan(values).any(axis=(1, 2))
    if draws < LEAST_DRAWS or not known.any():
        return found
    kept = np.ascontiguousarray(values[known], dtype=float)
    halves = _halves(kept)
    scores = _normal_scores(halves)
    found.ess_bulk[known] = _effective(scores)
    low, high = np.quantile(kept.reshape(len(kept), -1), [TAIL, 1 - TAIL], axis=1)
    below = [(_halves(kept) <= q[:, None, None]).astype(float) for q in (low, high)]
    found.ess_tail[known] = np.minimum(*map(_effective, below))
    if chains > 1:
        median = np.median(halves, axis=(1, 2), keepdims=True)
        ratio, folded = _ratio(scores), _ratio(_normal_scores(np.abs(halves - median)))
        # A quantity of two values has no spread of distances to its median.
        found.rhat[known] = np.where(folded > ratio, folded, ratio)
    return found


def _halves(values: np.ndarray) -> np.ndarray:
    """First and second halves of chains as chains of their own; a middle draw is left out."""
    half = values.shape[-1] // 2
    return np.concatenate([values[..., :half], values[..., -half:]], axis=1)


def _normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks of quantities (quantity, chain, draw) over all draws."""
    from scipy.special import ndtri

    flat = values.reshape(len(values), -1)
    size = flat.shape[1]
    # Ranks come in halves, where an even number of draws are tied.
    table = ndtri((np.arange(2, 2 * size + 1) / 2 - OFFSET) / (size - 2 * OFFSET + 1))
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    doubled = np.broadcast_to(np.arange(0, 2 * size, 2), flat.shape).copy()
    for row in np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)):
        starts = np.flatnonzero(np.append(True, ordered[row, 1:] != ordered[row, :-1]))
        ends = np.append(starts[1:], size)
        doubled[row] = np.repeat(starts + ends - 1, ends - starts)
    scores = np.empty_like(flat)
    np.put_along_axis(scores, order, table[doubled], axis=1)
    return scores.reshape(values.shape)


def _ratio(values: np.ndarray) -> np.ndarray:
    """R-hat (quantity,) of chains (quantity, chain, draw)."""
    draws = values.shape[-1]
    between = draws * values.mean(axis=2).var(axis=1, ddof=1)
    within = values.var(axis=2, ddof=1).mean(axis=1)
    # A constant has no variance between chains nor within.
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: np.ndarray = np.sqrt((between / within + draws - 1) / draws)
    return ratio


def _effective(values: np.ndarray) -> np.ndarray:
    """Effective sample size (quantity,) of chains (quantity, chain, draw)."""
    _, chains, draws = values.shape
    size = chains * draws
    covariance = _autocovariance(values).mean(axis=1)
    within = covariance[:, 0] * draws / (draws - 1)
    total = covariance[:, 0] + values.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = 1 - (within[:, None] - covariance) / total[:, None]
    correlation[:, 0] = 1.0
    time = np.array([_time(row) for row in correlation])
    effective = size / np.maximum(time, 1 / np.log10(size))
    return np.where(np.ptp(values, axis=(1, 2)) < CONSTANT, size, effective)


def _autocovariance(values: np.ndarray) -> np.ndarray:
    """Autocovariances (..., lag) of series (..., draw)."""
    from scipy.fft import irfft, next_fast_len, rfft

    draws = values.shape[-1]
    length = next_fast_len(2 * draws, real=True)
    transform = rfft(values - values.mean(axis=-1, keepdims=True), length, axis=-1)
    power = np.square(transform.real) + np.square(transform.imag)
    covariance: np.ndarray = irfft(power, length, axis=-1)[..., :draws] / draws
    return covariance


def _time(correlation: np.ndarray) -> float:
    """Integrated autocorrelation time of correlations (lag,), by Geyer's monotone sequence.

    The sums of pairs of lags are added while they are positive and four lags are left, and the
    first lag of the next pair.
    """
    if np.isnan(correlation).any():
        return float("nan")
    draws = len(correlation)
    pairs = correlation[: draws - draws % 2].reshape(-1, 2)
    most = max(0, (draws - 3) // 2)
    sums = pairs[: most + 1].sum(axis=1)
    stop = np.flatnonzero(sums <= 0)
    last = int(stop[0]) if stop.size else most
    first = pairs[last, 0] if sums[last] > 0 else max(pairs[last, 0], 0.0)
    return float(-1.0 + 2.0 * np.minimum.accumulate(sums[:last]).sum() + first)
