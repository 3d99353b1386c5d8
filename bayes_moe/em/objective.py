"""Log posterior (or log likelihood) of many points at once, with its derivatives.

With ``r`` a row's responsibilities, ``g_vc`` the probability of branch ``c`` at split ``v`` of the
gate, ``R_vc`` and ``H_v`` the responsibility of all experts below the branch and the split, and
``s_a``, ``h_ab`` the first and second derivatives of an expert's log density by its linear
predictors, the derivatives of ``log p(y | x) = logsumexp_k(log w_k + log f_k)`` are

* gradient: ``l_vc = R_vc - H_v g_vc`` for the gate, ``l_ka = r_k s_ka`` for parameter ``a`` of
  expert ``k``;
* Hessian, less ``- l l'``: ``delta_cd l_c - l_c g_d - g_c l_d`` between branches ``c`` and ``d`` of
  one split; ``l_vc (delta_de - g_ud)`` between a split ``v`` below branch ``e`` of ``u`` and ``u``;
  ``l_ka (delta_ce - g_vc)`` between a split ``v`` and an expert below its branch ``e``; and
  ``delta_jk r_k (h_kab + s_ka s_kb)`` between experts.

At the root of the gate ``H = 1`` and all experts are below: with ``R`` in the place of ``l`` in the
product, the terms in ``g`` cancel but for ``g_c g_d`` at the root itself. A softmax gate is a root
alone.

The complete-data information, for the steps of EM, is ``H_v (delta_cd g_c - g_c g_d)`` for the gate
and ``r_k`` times the family's expected information for an expert: block diagonal and non-negative
definite. Both are in :mod:`bayes_moe.em.information`.

The linear predictors of all experts are stacked: those of the gate, then those of each parameter.
A sum over rows of products of features is a matrix product of weights (pair of predictors, obs)
with products of features (product, obs). Rows are taken in chunks, which threads may share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from enum import Enum
from functools import reduce

import numpy as np

from bayes_moe.core.threads import in_threads
from bayes_moe.data.matrix import Rows
from bayes_moe.em.chain_information import ChainInformation
from bayes_moe.em.chain_mixture import ChainMixture, has_chain, in_series_order
from bayes_moe.em.floors import few_rows
from bayes_moe.em.group_information import GroupInformation
from bayes_moe.em.information import (
    CompleteInformation,
    Information,
    ObservedInformation,
)
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.row_mixture import Chunk, RowMixture
from bayes_moe.em.slopes import NoInformation, Slope
from bayes_moe.model.allocation import (
    ByGroup,
    group_slices,
    in_group_order,
    observed_responsibilities,
)
from bayes_moe.model.evaluation import chunks

CHUNK_ELEMENTS = 2**18
"""Elements of a chunk's largest array: 2 MiB, for caches."""

SHARED_ROWS = 50_000
"""Rows from which on threads share the chunks, which are then four times as large. On fewer rows
operations are so short that handing over the interpreter's lock takes longer than a second thread
saves, and several times longer where other processes are busy."""

LEAST_ROWS = 256
"""Least rows of a chunk; above as many points as this allows, points are taken in groups."""


LARGEST_INFORMATION = 2000
"""Coordinates of a model with sparse features up to which matrices are made."""


class Curvature(Enum):
    """Which matrix of second derivatives an evaluation returns."""

    COMPLETE = "complete"
    OBSERVED = "observed"


RULES = {Curvature.COMPLETE: CompleteInformation, Curvature.OBSERVED: ObservedInformation}
GROUP_RULES = {**RULES, Curvature.OBSERVED: GroupInformation}
CHAIN_RULES = {**RULES, Curvature.OBSERVED: ChainInformation}

CHAIN_ELEMENTS = 2**21
"""Elements of the largest array of whole series, which are read at once."""
SHARED_POINTS = 20_000
"""Rows times points from which on threads share the points of a chain."""


@dataclass(frozen=True)
class Evaluation:
    """The objective at some points, with derivatives.

    ``value`` (point,), ``gradient`` (point, coordinate) and ``curvature`` (point, coordinate,
    coordinate), which is minus the second derivatives, include the log prior;
    ``likelihood_gradient`` and ``likelihood_curvature`` do not. ``rows`` (point, expert) are sums
    of responsibilities, and ``units`` those of rows and groups for which the gate speaks once;
    ``at_floor`` (point,) is how many rows have a spread at its floor, or a
    narrow one of an expert with few rows. ``allocation`` is what was given in the place of the
    responsibilities, if anything.
    """

    value: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray
    likelihood_gradient: np.ndarray
    likelihood_curvature: np.ndarray
    rows: np.ndarray
    units: np.ndarray
    at_floor: np.ndarray
    allocation: np.ndarray | None = None


class Objective:
    """Log posterior of a parameter vector on rows, for many points at once.

    Parameters
    ----------
    vector : ParameterVector
        The free parameters. Without priors, the objective is the log likelihood.
    rows : Rows, optional
        Rows with a response; by default the fitted ones.
    cores : int
        Threads that share the chunks of rows; the result does not depend on it.

    Attributes
    ----------
    rows : Rows
        The rows, one group after the other if rows share an expert by group, and one series after
        the other if experts are a Markov chain. Allocations are of rows in this order.
    order : array or None
        Positions of these rows among those given; None where they are the same.
    features, stack : Features, PredictorStack
        Features of the blocks of parameters, and positions of their linear predictors.
    """

    def __init__(self, vector: ParameterVector, rows: Rows | None = None, cores: int = 1) -> None:
        self.vector = vector
        given, self._chain = vector.design.rows if rows is None else rows, has_chain(vector)
        self.rows, self.order = (in_series_order if self._chain else in_group_order)(given)
        self.cores = cores
        group = self.rows.observation.group
        self._starts = None if group is None else ByGroup.of(group).starts
        self._mixture = (ChainMixture if self._chain else RowMixture)(vector, self.rows)
        self.features, self.stack = self._mixture.features, self._mixture.stack
        self._few_rows = few_rows(vector)
        self._rules: dict[Curvature, Information] = {}

    def with_hyperparameters(self, hyperparameters: Mapping[str, np.ndarray]) -> Objective:
        """Return the objective under other values of the hyperparameters."""
        return self.with_vector(self.vector.with_hyperparameters(hyperparameters))

    def with_vector(self, vector: ParameterVector) -> Objective:
        """Return the objective of the same parameters under other priors or floors."""
        other = copy(self)
        other.vector, other._mixture = vector, self._mixture.with_blocks(vector.blocks)
        return other

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.vector.size

    @property
    def has_matrices(self) -> bool:
        """Whether matrices of second derivatives are affordable."""
        small = self.size <= LARGEST_INFORMATION and self._starts is None
        return small or not self.features.is_sparse

    def value(self, theta: np.ndarray) -> np.ndarray:
        """Return the objective (point,) at points (point, coordinate); -inf if it is not finite."""
        (value,) = self._sum(theta, None, None)
        return _finite(value + self.vector.log_prior(theta)[0])

    def evaluate(
        self, theta: np.ndarray, curvature: Curvature, allocation: np.ndarray | None = None
    ) -> Evaluation:
        """Return the objective with its gradient and a curvature.

        ``allocation`` (point, expert, obs) replaces the responsibilities, for the first steps from
        an initial partition of the rows.
        """
        prior, first, second = self.vector.log_prior(theta)
        information = self.information(curvature)
        value, rows, units, at_floor, narrow, slope, *sums = self._sum(
            theta, information, allocation
        )
        at_floor = at_floor + np.where(rows <= self._few_rows, narrow, 0.0).sum(axis=1)
        matrix = information.matrix(sums, len(self.stack.units))
        scaled = matrix * np.multiply.outer(self.stack.units, self.stack.units)
        likelihood_gradient = self.stack.to_coordinates(slope * self.stack.units)
        half = self.stack.to_coordinates(scaled)  # (point, coordinate, coefficient)
        likelihood_curvature = self.stack.to_coordinates(np.swapaxes(half, 1, 2))
        total = likelihood_curvature.copy()
        diagonal = np.arange(self.size)
        total[:, diagonal, diagonal] -= information.prior_curvature(second)
        return Evaluation(
            _finite(value + prior),
            likelihood_gradient + first,
            total,
            likelihood_gradient,
            likelihood_curvature,
            rows,
            units,
            at_floor,
            allocation,
        )

    def slope(self, theta: np.ndarray, allocation: np.ndarray | None = None) -> Slope:
        """Return the objective with its gradient, without a matrix of second derivatives.

        ``allocation`` is as in :meth:`evaluate`.
        """
        prior, first, _ = self.vector.log_prior(theta)
        value, rows, _, at_floor, narrow, slope = self._sum(
            theta, NoInformation(self.stack), allocation
        )
        at_floor = at_floor + np.where(rows <= self._few_rows, narrow, 0.0).sum(axis=1)
        gradient = self.stack.to_coordinates(slope * self.stack.units) + first
        return Slope(_finite(value + prior), gradient, rows, at_floor)

    def eta_size(self, theta: np.ndarray) -> np.ndarray:
        """Root mean square (point, block) of the linear predictors without their offsets.

        The largest over the experts of a block of parameters; a location's in internal units.
        """
        sizes = []
        for block, table in zip(self.vector.blocks, self.features.of, strict=True):
            raw = block.raw(theta)
            square = self.features.mean_squares(raw, table)
            sizes.append(np.sqrt(np.maximum(square, 0.0)).max(axis=1))
        return np.stack(sizes, axis=1)

    # --- sums over rows -----------------------------------------------------------------------

    def information(self, curvature: Curvature) -> Information:
        """The rule for the weights of pairs of linear predictors."""
        if curvature not in self._rules:
            rules = RULES if self._starts is None else GROUP_RULES
            rules = CHAIN_RULES if self._chain else rules
            self._rules[curvature] = rules[curvature](self.stack)
        return self._rules[curvature]

    def _sum(
        self, theta: np.ndarray, information: Information | None, allocation: np.ndarray | None
    ) -> tuple[np.ndarray, ...]:
        """Sum over rows of the value (point,); with an information also of the derivatives.

        The latter are those of :meth:`RowMixture.derivatives`. Points are taken in groups, so that
        chunks have enough rows for fast matrix products.
        """
        pairs = 0 if information is None else len(information.plan.first)
        elements, rows = CHUNK_ELEMENTS, min(LEAST_ROWS, self.rows.size)
        if self._chain:
            elements, rows = CHAIN_ELEMENTS, self.rows.size
        group = max(1, elements // (rows * self._width(pairs)))
        threads = self.cores if self._chain and self.rows.size * len(theta) >= SHARED_POINTS else 1
        group = min(group, -(-len(theta) // threads))

        def of_points(start: int) -> tuple[np.ndarray, ...]:
            points = slice(start, start + group)
            shares = None if allocation is None else allocation[points]
            return self._sum_of(theta[points], information, shares, pairs)

        sums = list(in_threads(of_points, range(0, len(theta), group), threads))
        if len(sums) == 1:
            return sums[0]
        return tuple(np.concatenate(terms) for terms in zip(*sums, strict=True))

    def _sum_of(
        self,
        theta: np.ndarray,
        information: Information | None,
        allocation: np.ndarray | None,
        pairs: int,
    ) -> tuple[np.ndarray, ...]:
        coefs = [block.coefficients(theta) for block in self.vector.blocks]

        def chunk_sum(where: slice) -> tuple[np.ndarray, ...]:
            with np.errstate(all="ignore"):
                chunk = self._mixture.chunk(coefs, where)
                total = chunk.counted(chunk.value).sum(axis=-1)
                if information is None:
                    return (total,)
                return (total, *self._mixture.derivatives(chunk, information, allocation))

        cores = self.cores if self.rows.size >= SHARED_ROWS else 1
        return reduce(_add, in_threads(chunk_sum, self._slices(len(theta), pairs), cores))

    def _slices(self, points: int, pairs: int) -> Iterator[slice]:
        """Chunks of rows whose largest array has about ``CHUNK_ELEMENTS`` elements.

        There is one of all rows of a Markov chain.
        """
        if self._chain:
            yield slice(0, self.rows.size)
            return
        elements = CHUNK_ELEMENTS * (4 if self.rows.size >= SHARED_ROWS else 1)
        step = max(16, elements // (points * self._width(pairs)))
        if self._starts is not None:
            for start, stop in group_slices(self._starts, self.rows.size, step):
                yield slice(start, stop)
            return
        for start in range(0, self.rows.size, step):
            yield slice(start, min(start + step, self.rows.size))

    def _width(self, pairs: int) -> int:
        """Elements of a row in a chunk's largest array."""
        return pairs + 2 * len(self.stack.starts)


def parts(objective: Objective, theta: np.ndarray) -> Iterator[Chunk]:
    """The mixture at points (point, coordinate), on some rows at a time."""
    coefs = [block.coefficients(theta) for block in objective.vector.blocks]
    for where in objective._slices(len(theta), 0):
        with np.errstate(all="ignore"):
            chunk = objective._mixture.chunk(coefs, where)
        yield chunk


def row_derivatives(
    objective: Objective,
    theta: np.ndarray,
    information: Information,
    allocation: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """First derivatives (output, obs) at one point (1, coordinate), and weights (pair, obs).

    They are by the linear predictors, in units of eta.
    """
    size = objective.rows.size
    scores = np.empty((objective.stack.size, size))
    weights = np.empty((len(information.plan.first), size))
    for chunk in parts(objective, theta):
        with np.errstate(all="ignore"):
            found = objective._mixture.by_row(chunk, information, allocation)
        scores[:, chunk.where], weights[:, chunk.where] = found[3][0], found[4][0]
    return scores, weights


def features_of(objective: Objective, block: int, where: slice) -> np.ndarray:
    """Features (term, obs) of a block of parameters, on some rows."""
    return objective.features.take(objective.features.of[block], where)


def responsibilities(objective: Objective, theta: np.ndarray) -> np.ndarray:
    """Responsibilities (point, expert, obs) at points (point, coordinate)."""
    if has_chain(objective.vector):
        return np.nan_to_num(
            np.concatenate([c.r for t in theta for c in parts(objective, t[None])])
        )
    vector, rows = objective.vector, objective.rows
    shares = np.empty((len(theta), vector.spec.n_experts, rows.size))
    with np.errstate(all="ignore"):
        for where, part, mixture in chunks(vector.spec, vector.variables(theta), rows):
            shares[..., where] = observed_responsibilities(mixture, part)
    return np.nan_to_num(shares)


def _add(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _finite(value: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(value), value, -np.inf)
