"""Attention to the rows before: averages of their features, weighed by queries, keys and lags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC, Arrays, Values
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.data.formulas import INTERCEPT
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.basis import Basis, summed
from bayes_moe.predictors.series import in_parts, previous_rows
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.predictors.stepwise import features_of, rows_back
from bayes_moe.predictors.variables import Variable, Variables, coefficients
from bayes_moe.priors.prior import Prior

MOST_WINDOW, MOST_SIZE, MOST_HEADS = 10_000, 1000, 100
MOST_BYTES = 2 * 2**30
"""Largest array of the features of all windows."""
NEVER = -1e9
"""Score of rows before the first one of a series."""
LAG_SD = 2.0
"""Prior standard deviation of the scores of lags."""


@dataclass(frozen=True)
class PastAttention(Basis):
    r"""Linear in a row's features and in averages of those of the rows before.

    With ``z_t`` the standardised features of a row, the intercept among them, head ``h`` has

    .. math::

       a_h(t, l) = \mathrm{softmax}_{l = 0, \ldots, w}\left(
       \frac{(Q_h z_t)' K_h z_{t-l}}{\sqrt{\mathrm{size}}} + b_{hl}\right), \quad
       c_h(t) = \sum_l a_h(t, l) z_{t-l},

    over those rows of its series that exist, and the predictor is ``coef_0 + coef' z_t + sum_h
    coef_h' c_h(t)``: the coefficients of a head weigh the values, which are the features.

    ``gate_query`` and ``gate_key (gate_head, gate_size, gate_term)`` are ``Q`` and ``K``, with
    standard normal priors, and ``gate_lag (gate_head, gate_back)`` is ``b``, normal with standard
    deviation 2.

    Parameters
    ----------
    window : int
        Number ``w`` of rows before the row that attention reaches.
    size : int
        Length of queries and keys.
    heads : int
        Number of averages.

    References
    ----------
    Vaswani, A., et al. (2017). Attention is all you need. Advances in Neural Information Processing
    Systems, 30.

    Shaw, P., Uszkoreit, J., & Vaswani, A. (2018). Self-attention with relative position
    representations. NAACL, 464-468.
    """

    window: int = 20
    size: int = 2
    heads: int = 1

    kind: ClassVar[str] = "past_attention"
    has_memory: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole("window", self.window, 1, MOST_WINDOW)
        check_whole("size", self.size, 1, MOST_SIZE)
        check_whole("heads", self.heads, 1, MOST_HEADS)

    def labels(self, matrix: Matrix) -> list[str]:
        if matrix.intercept != 0 or len(matrix.terms) < 2:
            raise SpecError(f"{self!r} needs a formula with an intercept and a feature.")
        features = list(matrix.terms[1:])
        of_heads = [f"past{h}({term})" for h in range(self.heads) for term in features]
        return [INTERCEPT, *features, *of_heads]

    def features(self, matrix: Matrix) -> np.ndarray:
        """Return standardised features of the rows at each lag (obs, term and lag).

        They are 0 before the first row of a series, the intercept too.
        """
        z, previous = matrix.standardised, previous_rows(matrix, self)
        size = 8 * z.size * (self.window + 1)
        if size > MOST_BYTES:
            raise SpecError(
                f"{self!r} would read {size / 1e9:.1f} GB, the features of {len(z)} rows at "
                f"{self.window + 1} lags: lower `window`, or take fewer rows."
            )
        past = np.zeros((len(z), z.shape[1], self.window + 1))
        at = np.arange(len(z))
        for lag in range(self.window + 1):
            known = at >= 0
            past[known, :, lag] = z[at[known]]
            at = np.where(known, previous[at], -1)
        return past.reshape(len(z), -1)

    def basis(self, matrix: Matrix) -> Matrix:
        labels = tuple(self.labels(matrix))
        # Features depend on weights, so there are no values: only labels are read.
        values = np.ones((len(matrix.values), len(labels)))
        return Matrix(labels, values, np.zeros(len(labels)), np.ones(len(labels)))

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> np.ndarray:
        slopes = len(self.labels(b.matrix)) - 1
        return np.array([b.units.intercept, *[b.units.slope] * slopes])

    def phi(self, site: Site, values: Mapping[str, Any], features: Any, xp: Arrays) -> Any:
        query, key, bias = (values[name] for name in _names(site))
        lags = self.window + 1
        lead = tuple(features.shape[j] for j in range(features.ndim - 1))
        past = features.reshape((*lead, -1, lags))  # (..., obs, term, lag)
        now = past[..., 0]
        averages = []
        for h in range(self.heads):
            product = xp.matmul(query[..., h, :, :].swapaxes(-1, -2), key[..., h, :, :])
            wanted = xp.matmul(now, product) / np.sqrt(self.size)  # (..., obs, term)
            score = (wanted[..., None] * past).sum(axis=-2) + bias[..., h, None, :]
            score = xp.where(past[..., 0, :] > 0, score, np.full((1, lags), NEVER))
            weights = xp.exp(score - xp.logsumexp(score, axis=-1, keepdims=True))
            averages.append((weights[..., None, :] * past[..., 1:, :]).sum(axis=-1))
        # The row's own features get the leading axes of the averages.
        found = xp.concatenate([now[..., 1:] + 0.0 * averages[0], *averages], axis=-1)
        return found.swapaxes(-1, -2)

    def attention(self, b: Binding, draws: Values) -> np.ndarray:
        """Return the weights ``a`` (sample, head, obs, lag) of draws on the rows of a binding."""
        query, key, bias = (np.asarray(draws[name]) for name in _names(b.site))
        features, lags = self.features(b.matrix), self.window + 1
        past = features.reshape(len(features), -1, lags)
        found = []
        for q, k, own in zip(query, key, bias, strict=True):
            wanted = np.einsum("nd,hsd,hse->hne", past[:, :, 0], q, k) / np.sqrt(self.size)
            score = np.einsum("hne,nel->hnl", wanted, past) + own[:, None]
            score = np.where(past[:, 0] > 0, score, NEVER)
            weights = np.exp(score - score.max(axis=-1, keepdims=True))
            found.append(weights / weights.sum(axis=-1, keepdims=True))
        return np.stack(found)

    def evaluate(self, b: Binding, draws: Values) -> np.ndarray:
        copies = b.site.outputs if b.site.each else 1
        size = copies * b.matrix.values.size * (self.window + 1)
        return in_parts(super().evaluate, b, draws, tuple(self.variables(b.site).dims), size)

    def steps(self, b: Binding, draws: Values, last: np.ndarray, paths: int) -> _AttentionSteps:
        z, previous = b.matrix.standardised, previous_rows(b.matrix, self)
        at = rows_back(previous, last, self.window).T  # (series, lag)
        past = np.where((at >= 0)[..., None], z[np.maximum(at, 0)], 0.0)
        past = np.repeat(np.swapaxes(past, -1, -2), paths, axis=0)[None]
        return _AttentionSteps(self, b.site, draws, past)

    def variables(self, site: Site) -> Variables:
        stem = site.stem
        head, length = names.part(stem, names.HEAD), names.part(stem, names.SIZE)
        query, key, bias = _names(site)

        def drawn(b: Binding, rng: np.random.Generator) -> np.ndarray:
            shape = (*b.site.lead_shape, self.heads, self.size, len(b.matrix.terms))
            return rng.standard_normal(shape)

        weights = [
            Variable(
                name,
                (*site.lead, head, length, names.term(stem)),
                prior=lambda b: Prior("Normal", mu=0.0, sigma=1.0),
                initial=drawn,
                in_basis=True,
                identified=False,
            )
            for name in (query, key)
        ]
        of_lags = Variable(
            bias,
            (*site.lead, head, names.part(stem, names.BACK)),
            prior=lambda b: Prior("Normal", mu=0.0, sigma=LAG_SD),
            initial=self._initial_lags,
            in_basis=True,
            identified=False,
        )
        coef = coefficients(site, names.part(stem, names.BASIS), identified=False)
        return Variables([coef, *weights, of_lags])

    def _initial_lags(self, b: Binding, rng: np.random.Generator) -> np.ndarray:
        """Scores of lags with one broad maximum at a random lag."""
        shape = (*b.site.lead_shape, self.heads, 1)
        top = rng.uniform(0, self.window, shape)
        width = self.window * rng.uniform(0.1, 0.5, shape) + 1.0
        scores: np.ndarray = LAG_SD - 0.5 * ((np.arange(self.window + 1) - top) / width) ** 2
        return np.maximum(scores, -LAG_SD)

    def coords(self, b: Binding) -> dict[str, list[Any]]:
        stem = b.site.stem
        return super().coords(b) | {
            names.term(stem): list(b.matrix.terms),
            names.part(stem, names.HEAD): list(range(self.heads)),
            names.part(stem, names.SIZE): list(range(self.size)),
            names.part(stem, names.BACK): list(range(self.window + 1)),
        }

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind} | asdict(self)


class _AttentionSteps:
    """Features (sample or 1, path, term, lag) of the last rows on paths."""

    def __init__(self, own: PastAttention, site: Site, draws: Values, past: np.ndarray) -> None:
        self.own, self.site, self.draws, self.past = own, site, draws, past

    def step(self, matrix: Matrix) -> np.ndarray:
        """See :class:`bayes_moe.predictors.stepwise.Steps`."""
        now = features_of(matrix)[..., None]
        size = 8 * len(now) * self.past[0].size
        if size > MOST_BYTES:
            raise SpecError(
                f"{self.own!r} would keep {size / 1e9:.1f} GB, the features of the last "
                f"{self.own.window} rows of all paths: take fewer `paths`, or fewer series at a "
                "time (`series`)."
            )
        before = np.broadcast_to(self.past, (len(now), *self.past.shape[1:]))
        window = np.concatenate([now, before], axis=-1)
        self.past = window[..., :-1]
        features = window.reshape(*window.shape[:2], -1)
        features = features[:, None] if self.site.each else features
        phi = self.own.phi(self.site, self.draws, features, NUMERIC)
        coef = np.asarray(self.draws[self.site.coef])
        return np.asarray(summed(self.own, self.site, coef, phi, NUMERIC))


def _names(site: Site) -> tuple[str, str, str]:
    """Names of queries, keys and scores of lags."""
    return (
        names.part(site.stem, names.QUERY),
        names.part(site.stem, names.KEY),
        names.part(site.stem, names.LAG),
    )
