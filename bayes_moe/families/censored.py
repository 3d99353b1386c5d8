"""Families of responses of which some are only known to be in an interval.

A row's log density is that of the response where it was observed, and else the log probability of
the interval. Its formula has no branches: masks choose. The probability of an interval is a
difference of two probabilities in the nearer tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC, Arrays
from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.censored_response import INTERVAL, limits_of, plain_values
from bayes_moe.families.base import (
    NOTHING,
    Derivatives,
    Family,
    Parameters,
    RowData,
    quoted,
)
from bayes_moe.families.derivation import arguments, by_case, has_loops
from bayes_moe.families.formula import ALL, SCORES, WORKING

EXACT, ABOVE, BELOW, BETWEEN, ANY = 0.0, 1.0, 2.0, 3.0, 4.0
"""What is known of a row: the response, a lower end, an upper one, both, or nothing."""
CASES = (EXACT, ABOVE, BELOW, BETWEEN, ANY)
LEAST_GAP = -1e-300
"""Largest difference of two logs of which the probability of an interval is taken."""


def _own(name: str) -> Any:
    """A property that is the family's."""
    return property(lambda self: getattr(self.family, name))


def _called(name: str) -> Any:
    """A method that is the family's."""
    return lambda self, *arguments: getattr(self.family, name)(*arguments)


@dataclass(frozen=True, repr=False)
class Censored(Family):
    """The distribution of what is known of responses of ``family``: all its figures are of these.

    Responses ``y`` (number, obs) of its densities are the ends of intervals, both included, which
    are equal where the response was observed: see
    :class:`bayes_moe.data.censored_response.Limits`. Responses (obs,) were observed. Its name and
    settings are those of ``family``.
    """

    family: Family
    intervals: bool = True
    """Whether intervals may have two finite ends."""

    truncated: bool = False
    """Whether rows were only recorded between limits."""
    case: float | None = None
    """What is known of all rows, of the formula for these alone."""
    is_censored = True
    more_data = 3

    kind = _own("kind")
    settings = _own("settings")
    kink = _own("kink")
    support = _own("support")
    known_counts = _own("known_counts")
    discrete = _own("discrete")
    lower, upper = _own("lower"), _own("upper")
    atoms = _own("atoms")
    parameters = _own("parameters")
    fixed = _own("fixed")

    to_dict, __repr__ = _called("to_dict"), _called("__repr__")
    dist, random = _called("dist"), _called("random")
    location, scale = _called("location"), _called("scale")
    beside = _called("beside")
    cdf, sf = _called("cdf"), _called("sf")
    mean, variance = _called("mean"), _called("variance")

    @property
    def truncation(self) -> Truncation | None:
        """The probability that a row was recorded, of a truncated response."""
        return _made(Truncation, self.family, True, False) if self.truncated else None

    def plain(self, y: np.ndarray) -> np.ndarray:
        return plain_values(y) if y.ndim == 2 else y

    def is_exact(self, data: RowData) -> np.ndarray:
        return np.asarray(data.more[2] < ABOVE)

    def row(self, m: Any) -> Callable[..., Any]:
        if self.case is not None:
            return formula_of_case(m, self.family, self.case)
        inner, between = self.family.row(m), interval_formula(m, self.family, self.intervals)

        def row(t: Any, u: Any, base: Any, t2: Any, u2: Any, case: Any, *etas: Any) -> Any:
            own = inner(t, u, base, *etas)
            return m.where(case < ABOVE, own, base + between(t, u, t2, u2, case, *etas))

        return row

    @cached_property
    def kernel_text(self) -> str:
        """Source of the formula for numbers; with branches where tails are expensive."""
        text = super().kernel_text
        if self.case is not None or not has_loops(text):
            return text
        kind = type(self)
        cases = [c for c in CASES if c != EXACT or kind is Censored]
        cases = [c for c in cases if c != BETWEEN or self.intervals]
        texts = [(case, _of_case(kind, self.family, case).kernel_text) for case in cases]
        return by_case(arguments(0, self.more_data)[-1], texts)

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        lower, upper = (y, y) if y.ndim == 1 else (y[0], y[1])
        exact = (lower <= upper) & (lower >= upper)
        if self.truncated and y.ndim > 1:  # no row is recorded beyond the limits
            bottom, top = y[INTERVAL], y[INTERVAL + 1]
            lower = xp.where(exact | (lower > bottom), lower, bottom)
            upper = xp.where(exact | (upper < top), upper, top)
        found = self.family.data(xp.where(exact, lower, 0.0), known, xp)
        rest = interval_data(self.family, lower, upper, known, xp)
        return RowData(
            xp.where(exact, found.t, rest.t),
            xp.where(exact, found.u, rest.u),
            xp.where(exact, found.base, rest.base),
            (
                xp.where(exact, found.t, rest.more[0]),
                xp.where(exact, found.u, rest.more[1]),
                xp.where(exact, EXACT, rest.more[2]),
            ),
        )

    def log_density_at(self, data: RowData, etas: Sequence[Any], xp: Arrays) -> Any:
        if xp is not NUMERIC or not _is_mixed(data):
            return super().log_density_at(data, etas, xp)
        parts = [(rows, p.log_density_at(*own, xp)) for p, rows, own in _pieces(self, data, etas)]
        return _joined(parts, _shape(data, etas))

    def derivatives_at(
        self, data: RowData, etas: Sequence[np.ndarray], asked: str = ALL
    ) -> Derivatives:
        if _is_mixed(data):
            return _joined_derivatives(
                [
                    (rows, p.derivatives_at(*own, asked))
                    for p, rows, own in _pieces(self, data, etas)
                ],
                _shape(data, etas),
            )
        found = super().derivatives_at(data, etas, asked)
        if not self.kink or asked in (WORKING, SCORES):
            return found
        # The mean of the point mass at the kink, as in the family, where responses are observed.
        mass = np.where(self.is_exact(data), np.exp(-2.0 * etas[1]), 0.0)
        first, rest = found.second[0], found.second[1:]
        return replace(found, second=((first[0] - mass, *first[1:]), *rest))

    def information(self, data: RowData, etas: Sequence[np.ndarray]) -> Sequence[Any] | None:
        # That of observed responses: at least that of what is known of them.
        return self.family.information(RowData(data.t, data.u, data.base), etas)

    def initial_eta(self, y: np.ndarray, known: Parameters) -> np.ndarray:
        return self.family.initial_eta(self.plain(y), known)

    def check_response(
        self,
        y: np.ndarray,
        name: str,
        known: Parameters = NOTHING,
        obs_id: np.ndarray | None = None,
    ) -> None:
        base = np.broadcast_to(self.data(y, known, NUMERIC).base, y.shape[-1:])
        invalid = np.flatnonzero(~(base > -np.inf))
        if invalid.size:
            i = int(invalid[0])
            row = i if obs_id is None else obs_id[i]
            low, high = y[:INTERVAL, i]
            shown = f"{low:g}" if low == high else f"between {low:g} and {high:g}"
            raise DataError(
                f"The response {name!r} is {shown} at row {row}{self.beside(i, known)}; family "
                f"{self.kind!r} needs {self.support} ({invalid.size} row(s) are not)."
            )
        self.family.check_variation(self.plain(y), name, known)


class Truncation(Censored):
    """The log probability that a response of ``family`` is between the limits of a truncation.

    It stands for a family whose responses ``y`` (number, obs) end with the limits.
    """

    def row(self, m: Any) -> Callable[..., Any]:
        if self.case is not None:
            return formula_of_case(m, self.family, self.case)
        between = interval_formula(m, self.family, True)
        return lambda t, u, base, t2, u2, case, *etas: base + between(t, u, t2, u2, case, *etas)

    def data(self, y: Any, known: Parameters, xp: Arrays) -> RowData:
        return interval_data(self.family, y[INTERVAL], y[INTERVAL + 1], known, xp)

    def derivatives_at(
        self, data: RowData, etas: Sequence[np.ndarray], asked: str = ALL
    ) -> Derivatives:
        return super().derivatives_at(data, etas, SCORES if asked == WORKING else asked)


def formula_of_case(m: Any, family: Family, case: float) -> Callable[..., Any]:
    """The log density of rows of which the same is known, over a namespace ``m``."""
    inner, tails = family.row(m), family.tails(m)

    def row(t: Any, u: Any, base: Any, t2: Any, u2: Any, case_: Any, *etas: Any) -> Any:
        if case == EXACT:
            return inner(t, u, base, *etas)
        if case == ANY:
            return base + 0.0 * etas[0]
        if case == ABOVE:
            return base + tails(t, u, *etas)[1]
        if case == BELOW:
            return base + tails(t2, u2, *etas)[0]
        more, gap = _in_nearer_tail(m, tails(t, u, *etas), tails(t2, u2, *etas))
        return base + (more + m.log1mexp(m.where(gap < LEAST_GAP, gap, LEAST_GAP)))

    return row


def _in_nearer_tail(m: Any, lower: Sequence[Any], upper: Sequence[Any]) -> tuple[Any, Any]:
    """The larger of two logs whose difference is an interval's, and the other one less it.

    ``lower`` and ``upper`` are the logs of the tails at its ends, below and above each.
    """
    (left, above), (below, right) = lower, upper
    upper_tail = above < below
    more, less = m.where(upper_tail, above, below), m.where(upper_tail, right, left)
    return more, less - more


Piece = tuple[Censored, np.ndarray, tuple[RowData, list[np.ndarray]]]
"""The formula of rows of which the same is known, their positions, data and predictors."""


def _is_mixed(data: RowData) -> bool:
    """Whether rows are many, of which not the same need be known."""
    return np.ndim(data.more[2]) == 1 and np.size(data.more[2]) > 1


def _pieces(family: Censored, data: RowData, etas: Sequence[np.ndarray]) -> Iterator[Piece]:
    """Rows of which the same is known: no tails are evaluated that are not needed."""
    for case in np.unique(data.more[2]):
        rows = np.flatnonzero(data.more[2] == case)
        own = [eta if np.shape(eta)[-1] == 1 else eta[..., rows] for eta in etas]
        piece = _of_case(type(family), family.family, float(case))
        part = data.at(rows)
        yield piece, rows, (replace(part, more=(*part.more[:2], part.more[2][:1])), own)


def _shape(data: RowData, etas: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Shape of values by row."""
    return np.broadcast_shapes(np.shape(data.more[2]), *map(np.shape, etas))


def _joined(parts: Sequence[tuple[np.ndarray, Any]], shape: tuple[int, ...]) -> np.ndarray:
    """Values by row, from those of some rows each."""
    joined = np.empty(shape)
    for rows, values in parts:
        joined[..., rows] = values
    return joined


def _joined_derivatives(
    parts: Sequence[tuple[np.ndarray, Derivatives]], shape: tuple[int, ...]
) -> Derivatives:
    """Derivatives by row, from those of some rows each."""
    rows, found = [rows for rows, _ in parts], [own for _, own in parts]

    def joined(values: Sequence[Any]) -> Any:
        known = [v for v in values if v is not None]
        if len(known) < len(values):
            return None
        return _joined(list(zip(rows, values, strict=True)), shape)

    score = tuple(joined(own) for own in zip(*(d.score for d in found), strict=True))
    second = tuple(
        tuple(joined(own) for own in zip(*line, strict=True))
        for line in zip(*(d.second for d in found), strict=True)
    )
    expected = (d.expected_information for d in found)
    return Derivatives(score, second, tuple(joined(own) for own in zip(*expected, strict=True)))


def interval_formula(m: Any, family: Family, two_ends: bool) -> Callable[..., Any]:
    """The log probability of an interval over a namespace ``m``, of :func:`interval_data`."""
    tails = family.tails(m)

    def between(t: Any, u: Any, t2: Any, u2: Any, case: Any, *etas: Any) -> Any:
        below, above = tails(t2, u2, *etas)[0], tails(t, u, *etas)[1]
        one = m.where(case < BELOW, above, m.where(case < BETWEEN, below, 0.0))
        if not two_ends:
            return one
        more, gap = _in_nearer_tail(m, tails(t, u, *etas), tails(t2, u2, *etas))
        gap = m.where(case > BELOW, m.where(case < ANY, gap, -1.0), -1.0)
        two = more + m.log1mexp(m.where(gap < LEAST_GAP, gap, LEAST_GAP))
        return m.where(case < BETWEEN, one, m.where(case < ANY, two, 0.0))

    return between


def interval_data(family: Family, lower: Any, upper: Any, known: Parameters, xp: Arrays) -> RowData:
    """What :func:`interval_formula` reads of intervals with both ends included.

    ``t`` and ``u`` are of the lower end, the first two of ``more`` of the upper one, the last which
    ends count. Of whole numbers, the lower end is that below the first one inside.
    """
    if not family.parameters:
        base = family.log_interval(lower, upper, xp)
        zero = xp.where(base > -np.inf, 0.0, 0.0)
        return RowData(zero, zero, base, (zero, zero, zero + ANY))
    first, last = family.support_ends(known)
    if family.discrete:
        lower, upper = -xp.floor(-lower) - 1.0, xp.floor(upper)
        possible = (upper > lower) & (upper >= first) & (lower < last)
        has_lower = lower >= first
    else:
        inside = (upper > first) if not family.atoms else (upper >= first)
        possible = (upper > lower) & inside & (lower < last)
        has_lower = lower > first
    has_upper = upper < last
    both, none = has_lower & has_upper, -np.inf
    low = xp.where(has_lower, lower, xp.where(has_upper, upper, 0.0))
    high = xp.where(has_upper, upper, low)
    at_low, at_high = family.data(low, known, xp), family.data(high, known, xp)
    one = xp.where(has_lower, ABOVE, xp.where(has_upper, BELOW, ANY))
    case = xp.where(both, BETWEEN, one)
    more = (at_high.t, at_high.u, case)
    return RowData(at_low.t, at_low.u, xp.where(possible, 0.0, none), more)


def observed_as(family: Family, response: str) -> Family:
    """Family of what is known of a response, by the left-hand side of a formula.

    Raises
    ------
    SpecError
        For a censored or truncated response of a family without tails.
    """
    limits = limits_of(response)
    if limits is None:
        return family
    _check(family, response)
    return _made(Censored, family, limits.intervals, limits.truncated)


def _check(family: Family, response: str) -> None:
    """Raise :class:`SpecError` for a family that cannot have censored responses."""
    if family.has_tails and family.takes_levels is None:
        return
    why = "its responses are classes" if family.takes_levels else "no formula of its tails is known"
    if family.takes_responses:
        why = "it has several responses"
    raise SpecError(
        f"The family {quoted(family)} cannot have the response {response!r}: {why}. Censored and "
        "truncated responses are for families of one number with probabilities of intervals."
    )


@cache
def _of_case(kind: type[Censored], family: Family, case: float) -> Censored:
    """The formula of rows of which the same is known, made once."""
    return kind(family, True, False, case)


@cache
def _made[Made: Censored](
    kind: type[Made], family: Family, intervals: bool, truncated: bool
) -> Made:
    """One instance for equal families, so that its derivatives are found once."""
    return kind(family, intervals, truncated)
