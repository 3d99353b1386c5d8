"""Translation tables: expected counts of word pairs under a symmetric Dirichlet prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, digamma, gammaln

from bayes_moe.text.cooccurrence import WordPairs


@dataclass(frozen=True, eq=False)
class TranslationTable:
    r"""Distributions ``T(t | s)`` of target words given each source word.

    Only pairs that occur together are kept; all other target words of a row have the same value.

    With expected counts ``c`` of pairs, totals ``N`` of rows and ``V`` target words, the row of a
    word is described by pseudo-counts ``a``, of sum ``A``:

    * ``em``: ``a = c + alpha - 1``. The mode of the posterior under Dirichlet(alpha) is ``a / A``.
    * ``variational``: ``a = c + alpha``. ``q(T_s)`` is Dirichlet(a), of mean ``a / A``.

    Attributes
    ----------
    pairs : WordPairs
        Pairs that occur together.
    counts : numpy.ndarray
        Expected counts (pair,).
    concentration : float
        ``alpha``.
    variational : bool
        Which of the two.
    """

    pairs: WordPairs
    counts: np.ndarray
    concentration: float
    variational: bool

    @property
    def pseudo(self) -> float:
        """Pseudo-count of a pair that does not occur."""
        return self.concentration - (0.0 if self.variational else 1.0)

    @property
    def counts_by_source(self) -> np.ndarray:
        """Expected counts of source words (source,)."""
        starts = self.pairs.starts
        return np.add.reduceat(self.counts, starts[:-1])

    @property
    def totals(self) -> np.ndarray:
        """Sums ``A`` (source,)."""
        return self.counts_by_source + self.pairs.columns * self.pseudo

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities of pairs (pair,), and of all others by source word (source + 1,).

        The last row is that of an unknown source word, whose distribution is the prior's mean,
        uniform, as is that of a word without any expected count.
        """
        totals, uniform = self.totals, 1 / self.pairs.columns
        safe = np.where(totals > 0, totals, 1.0)
        rest = np.where(totals > 0, self.pseudo / safe, uniform)
        each = np.diff(self.pairs.starts)
        values = (self.counts + self.pseudo) / np.repeat(safe, each)
        values[np.repeat(totals <= 0, each)] = uniform
        return values, np.append(rest, uniform)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the factors that the E-step uses, laid out as :meth:`mean`.

        They are the probabilities, or ``exp(E log T)`` under the variational posterior.
        """
        if not self.variational:
            return self.mean()
        digammas = digamma(self.totals)
        each = np.diff(self.pairs.starts)
        values = np.exp(digamma(self.counts + self.pseudo) - np.repeat(digammas, each))
        rest = np.exp(digamma(self.pseudo) - digammas)
        return values, np.append(rest, 1 / self.pairs.columns)

    def log_prior(self) -> float:
        """Return what the prior adds to the log likelihood in the objective.

        It is the log prior of the tables up to a constant, or minus the divergence of the
        variational posterior from the prior.
        """
        alpha, columns = self.concentration, self.pairs.columns
        each = np.diff(self.pairs.starts)
        if not self.variational:
            if alpha == 1:
                return 0.0
            values, rest = self.mean()
            others = (columns - each) * np.log(rest[:-1])
            return float((alpha - 1) * (np.log(values).sum() + others.sum()))
        totals = self.totals
        tilted = digamma(self.counts + alpha) - np.repeat(digamma(totals), each)
        divergence = (
            (gammaln(totals) - gammaln(columns * alpha)).sum()
            - (gammaln(self.counts + alpha) - gammaln(alpha)).sum()
            + (self.counts * tilted).sum()
        )
        return -float(divergence)

    def interval(self, of: np.ndarray, inside: float) -> tuple[np.ndarray, np.ndarray]:
        """Return limits of equal-tailed intervals of pairs: quantiles of Beta(a, A - a).

        Those of a word without any expected count (``A = 0``) are missing.
        """
        a = self.counts[of] + self.pseudo
        totals = self.totals[self.pairs.source[of]]
        b = np.maximum(totals - a, 0.0)
        low, high = (
            betaincinv(np.maximum(a, 1e-300), np.maximum(b, 1e-300), p)
            for p in ((1 - inside) / 2, (1 + inside) / 2)
        )
        # A word with a single translation, or none: the distribution is a point.
        low, high = (np.where(b > 0, np.where(a > 0, v, 0.0), 1.0) for v in (low, high))
        return np.where(totals > 0, low, np.nan), np.where(totals > 0, high, np.nan)
