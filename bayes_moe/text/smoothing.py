"""Smoothed n-grams: interpolated Kneser-Ney, and hierarchical Dirichlet, of counts.

Both blend the counts of a context with the distribution of the context one token shorter, down to a
uniform one over the vocabulary:

    p_n(w | h) = (max(c(h w) - D, 0) + G(h) p_{n-1}(w | h')) / c(h)      Kneser-Ney
    p_n(w | h) = (c(h w) + a p_{n-1}(w | h')) / (c(h) + a)               Dirichlet

``G(h)`` is the mass that discounts take from the tokens that follow ``h``. Orders below the highest
count, in place of occurrences, the different tokens before ``h w``. A context that does not occur
has the distribution of the shorter one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.checks import check_identifier, check_positive, check_whole, is_number
from bayes_moe.core.errors import SpecError
from bayes_moe.text.ngrams import MOST, Counts, Level, Matches

KNESER_NEY, DIRICHLET = "kneser_ney", "dirichlet"


@dataclass(frozen=True)
class Ngram:
    """A smoothed n-gram: the distribution of a token given the tokens before it, from counts.

    Parameters
    ----------
    order : int
        Tokens that it is about: the predicted one and ``order - 1`` before it.
    smoothing : {"kneser_ney", "dirichlet"}
        Interpolated Kneser-Ney (Chen and Goodman 1999), close to the predictive distribution of a
        hierarchical Pitman-Yor process (Teh 2006), or a hierarchical Dirichlet prior (MacKay and
        Peto 1995).
    discount : float or sequence of float, optional
        What Kneser-Ney takes from each count, above 0 and below 1: one number for all orders, or
        one for each order from 1 on. By default three numbers for each order, for counts of 1, 2
        and more, estimated from the numbers of n-grams that occur once, twice, ... ("modified").
    concentration : float
        Of the Dirichlet prior: how many occurrences the shorter context counts for.
    label : str, optional
        Name among experts (an identifier); by default ``kn3`` or ``dirichlet3`` of order 3.

    Raises
    ------
    SpecError
        For settings out of range.

    References
    ----------
    Chen and Goodman (1999). An empirical study of smoothing techniques for language modeling.
    Computer Speech and Language 13, 359-394.
    MacKay and Peto (1995). A hierarchical Dirichlet language model. Natural Language Engineering 1.
    Teh (2006). A hierarchical Bayesian language model based on Pitman-Yor processes. ACL.
    """

    order: int
    smoothing: str = KNESER_NEY
    discount: Any = None
    concentration: float = 10.0
    label: str | None = None

    def __post_init__(self) -> None:
        check_whole("order", self.order, 1)
        if self.label is not None:
            check_identifier("The label of an n-gram", self.label)
        if self.smoothing not in (KNESER_NEY, DIRICHLET):
            raise SpecError(
                f"`smoothing` must be {KNESER_NEY!r} or {DIRICHLET!r}; it is {self.smoothing!r}."
            )
        check_positive("concentration", self.concentration)
        if self.discount is None:
            return
        if self.smoothing != KNESER_NEY:
            raise SpecError("`discount` belongs to smoothing='kneser_ney'.")
        several = isinstance(self.discount, Iterable) and not isinstance(self.discount, str)
        given = tuple(self.discount) if several else (self.discount,) * self.order
        if len(given) != self.order or not all(is_number(d) and 0 < d < 1 for d in given):
            raise SpecError(
                f"`discount` must be a number above 0 and below 1, or one for each of the "
                f"{self.order} orders; it is {self.discount!r}. Tokens that do not occur would "
                "have no probability without a discount."
            )
        object.__setattr__(self, "discount", tuple(map(float, given)))

    @property
    def name(self) -> str:
        """Label among experts."""
        if self.label is not None:
            return self.label
        return f"{'kn' if self.smoothing == KNESER_NEY else 'dirichlet'}{self.order}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description."""
        discount = None if self.discount is None else list(self.discount)
        return {
            "order": self.order,
            "smoothing": self.smoothing,
            "discount": discount,
            "concentration": self.concentration,
            "label": self.label,
        }


@dataclass(frozen=True, eq=False)
class Step:
    """One order of a smoothed distribution: what each n-gram has, and what is left of a context.

    Attributes
    ----------
    share : array
        Part (gram,) of the probability that is each n-gram's own.
    rest : array
        Part (context,) that is the shorter context's; 1 of a context that does not occur.
    """

    share: np.ndarray
    rest: np.ndarray


def steps_of(counts: Counts, expert: Ngram) -> list[Step]:
    """The orders of a smoothed n-gram distribution, the lowest first."""
    levels = counts.levels[: expert.order]
    if expert.smoothing == DIRICHLET:
        return [_dirichlet(level, expert.concentration) for level in levels]
    values = [*(level.preceding for level in levels[:-1]), levels[-1].counts]
    return [
        _discounted(level, own, _discounts(own, expert, k))
        for k, (level, own) in enumerate(zip(levels, values, strict=True))
    ]


def probabilities(counts: Counts, steps: list[Step], matches: Matches) -> np.ndarray:
    """Probabilities (position,) of the tokens at matched positions."""
    p = np.full(len(matches.grams[0]), 1.0 / counts.size)
    for step, context, gram in zip(steps, matches.context, matches.grams, strict=False):
        known = context >= 0
        rest = np.where(known, step.rest[np.where(known, context, 0)], 1.0)
        own = np.where(gram >= 0, step.share[np.maximum(gram, 0)], 0.0)
        p = own + rest * p
    return p


def distribution(counts: Counts, steps: list[Step], contexts: list[int]) -> np.ndarray:
    """Probabilities (token,) of all tokens after contexts of lengths 0, 1, ..."""
    p = np.full(counts.size, 1.0 / counts.size)
    for step, context, level in zip(steps, contexts, counts.levels, strict=False):
        if context < 0:
            break
        p = step.rest[context] * p
        where = level.following(context)
        p[level.keys[where] - context * level.size] += step.share[where]
    return p


def _discounted(level: Level, values: np.ndarray, discounts: np.ndarray) -> Step:
    """Absolute discounting of counts, or continuation counts."""
    taken = np.minimum(discounts[np.minimum(values, MOST)], values)
    total = level.sums(values)
    known = total > 0
    divisor = np.where(known, total, 1.0)
    rest = np.where(known, level.sums(taken) / divisor, 1.0)
    return Step((values - taken) / divisor[level.context], rest)


def _dirichlet(level: Level, concentration: float) -> Step:
    """Counts beside those that the shorter context has."""
    total = level.total + concentration
    return Step(level.counts / total[level.context], concentration / total)


def _discounts(values: np.ndarray, expert: Ngram, k: int) -> np.ndarray:
    """Discounts of counts of 0, 1, 2, and more: those given, or Chen and Goodman's estimates."""
    if expert.discount is not None:
        return np.array([0.0, *[expert.discount[k]] * MOST])
    n = np.bincount(np.minimum(values, MOST + 2), minlength=MOST + 3)
    if not (n[1] and n[2]):
        return np.array([0.0, 0.5, 0.5, 0.5])  # too few n-grams to estimate it
    unit = n[1] / (n[1] + 2.0 * n[2])
    found = [j - (j + 1) * unit * n[j + 1] / n[j] if n[j] else unit for j in range(1, MOST + 1)]
    # Estimates of small or odd texts may be negative, or take all.
    return np.array([0.0, *np.clip(found, 0.05, [0.95, 1.9, 2.9])])
