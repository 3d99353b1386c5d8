"""Another fit as the reference of labels: its experts' allocations of rows that both fits read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.data.observation import RowColumns
from bayes_moe.gates.symmetry import symmetry
from bayes_moe.model import expert_order
from bayes_moe.model.allocation import (
    allocation_of,
    observed_responsibilities,
    observed_rows,
    some_rows,
)
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.alignment import distance
from bayes_moe.results.draws import stacked_draws
from bayes_moe.results.fit import Fit, posterior_of

LEAST_GAIN = 0.1
"""Decrease of the squared distance of allocations a row from which another order of the experts is
told of: two experts who exchange 5 % of the rows change it by as much."""


@dataclass(frozen=True)
class Reference:
    """Experts of another fit.

    Attributes
    ----------
    rows : Rows
        Rows that both fits can read, under the design of the fit that is to be aligned.
    allocations : array
        The other fit's mean allocation probabilities (expert, unit) of these rows, or of groups of
        them that share an expert.
    draws : mapping of str to array
        The other fit's reported variables (sample, ...).
    """

    rows: Rows
    allocations: np.ndarray
    draws: Mapping[str, np.ndarray]

    def thinned(self, most: int) -> Reference:
        """Reference of at most so many of its rows."""
        if self.rows.size <= most:
            return self
        at = some_rows(self.rows, most, expert_order.evenly_spaced)
        units = allocation_of(self.rows.observation).units_of(at)
        return replace(self, rows=self.rows.pick(at), allocations=self.allocations[:, units])


def reference(other: Fit, spec: MixtureOfExperts, design: Design, method: str) -> Reference:
    """Experts of another fit, for a fit of a model to a design.

    Raises
    ------
    SpecError
        If the other fit has another gate or other experts, if neither fit can read the other's
        rows, or, by parameters, if its formulas give other terms.
    """
    difference = first_difference(spec, other.spec)
    if difference:
        raise SpecError(
            f"Labels can follow those of a fit with the same gate and experts only: {difference}."
        )
    if method == "parameters":
        _check_terms(design, other.design)
    own, its = (
        _unlabelled(expert_order.evenly_spaced_rows(rows))
        for rows in _common_rows(design, other.design, spec.row_columns)
    )
    draws = stacked_draws(other.spec, posterior_of(other.idata))
    return Reference(own, _mean_allocations(other.spec, draws, its), draws)


def other_order(fit: Fit, other: Fit) -> tuple[int, ...] | None:
    """Experts of a fit in the order of another fit's labels, if that is likely to be another one.

    None if labels can be exchanged freely, and unless the other order at least halves the squared
    distance of the rows' allocations to the other fit's. Only experts of the same description
    change places.
    """
    structure, n_experts = fit.spec.structure, fit.spec.n_experts
    kinds = {k: i for i, block in enumerate(structure.blocks) for k in block.positions}
    free = symmetry(("", range(n_experts)), tuple(kinds[k] for k in range(n_experts)))
    if len([*structure.symmetry.exchanges()]) == len([*free.exchanges()]):
        return None
    try:
        like = reference(other, fit.spec, fit.design, "responsibilities")
    except SpecError:  # there are no rows that both fits can read
        return None
    draws = stacked_draws(fit.spec, posterior_of(fit.idata))
    allocations = _mean_allocations(fit.spec, draws, like.rows)
    costs = distance(allocations[None], like.allocations) / allocations.shape[1]
    order = free.assign(costs)[0]
    labels = np.arange(n_experts)
    own, least = (float(costs[0, labels, o].sum()) for o in (labels, order))
    if least > own / 2 or own - least < LEAST_GAIN:
        return None
    return tuple(map(int, order))


def _mean_allocations(
    spec: MixtureOfExperts, draws: Mapping[str, np.ndarray], rows: Rows
) -> np.ndarray:
    """Allocation probabilities (expert, unit) of rows or groups, averaged over draws."""
    allocations = np.empty((spec.n_experts, rows.size))
    for where, chunk, mixture in chunks(spec, draws, rows):
        allocations[:, where] = observed_responsibilities(mixture, chunk).mean(axis=0)
    return allocations[:, allocation_of(rows.observation).first]


def first_difference(spec: MixtureOfExperts, other: MixtureOfExperts) -> str:
    """The first part of two models' gates and experts that differs, in words; empty if none."""
    if spec.n_experts != other.n_experts:
        return f"one fit has {spec.structure.counted}, the other {other.structure.counted}"
    if spec.gate != other.gate:
        return f"the gate of one is {spec.gate!r}, of the other {other.gate!r}"
    for k, (own, its) in enumerate(zip(spec.experts, other.experts, strict=True)):
        if own != its:
            return f"expert {k} of one is {own!r}, of the other {its!r}"
    return ""


def _common_rows(design: Design, other: Design, columns: RowColumns) -> tuple[Rows, Rows]:
    """Rows that both designs can read, under each: the other's, else the first's."""
    try:
        return observed_rows(design, columns, other.columns), other.rows
    except DataError as error:
        try:
            return design.rows, observed_rows(other, columns, design.columns)
        except DataError:
            raise SpecError(
                "Labels cannot follow those of the other fit, since neither fit can read the "
                f"other's rows. {error}"
            ) from error


def _unlabelled(rows: Rows) -> Rows:
    """Rows without their known experts, which would give any order the same allocations."""
    return replace(rows, observation=replace(rows.observation, expert=None))


def _check_terms(design: Design, other: Design) -> None:
    for stem, matrix in design.rows.matrices.items():
        own, its = [*matrix.terms], [*other.rows.matrices[stem].terms]
        if own != its:
            raise SpecError(
                f"Parameters of the two fits cannot be compared: formula {stem!r} gives the terms "
                f"{own} in one and {its} in the other. Use method='responsibilities'."
            )
