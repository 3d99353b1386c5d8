"""Variables of a model on a design that have shared or held entries, or own priors of some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.core.errors import SpecError, listed
from bayes_moe.core.linalg import unmixed
from bayes_moe.data.design import Design
from bayes_moe.gates.structure import Head
from bayes_moe.model.blocks import Component
from bayes_moe.model.entries import Entry, term_position
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True, eq=False)
class ConstrainedVariable:
    """A variable of the experts some of whose entries are shared, held, or have an own prior.

    An output is an expert; of a parameter with labels it is (label, expert), or (direction, expert)
    where the coefficients sum to zero over labels.

    Attributes
    ----------
    of : Component
        The parameter of the experts.
    site : Site
        Its site, with a map from directions to labels if it has one.
    scaling : Scaling or None
        Map from internal to reported coefficients; None for constants.
    priors : list of list of Prior
        Prior of every entry (output, term), in the user's units.
    value : array (output, term)
        Reported values of held entries, zero of directions; NaN elsewhere.
    free : array of int (output, term)
        Number of the free value of every entry; -1 where held.
    start : int
        First of its entries among those of all constrained variables.
    """

    of: Component
    site: Site
    scaling: Scaling | None
    priors: list[list[Prior]]
    value: np.ndarray
    free: np.ndarray
    start: int

    @property
    def name(self) -> str:
        """Name of the reported variable."""
        return self.of.variable

    @property
    def places(self) -> slice:
        """Its entries among those of all constrained variables."""
        return slice(self.start, self.start + self.value.size)

    @property
    def terms(self) -> tuple[str, ...]:
        """Labels of the terms; one without a label, of constants."""
        return ("",) if self.scaling is None else self.scaling.matrix.terms

    @property
    def linear(self) -> np.ndarray:
        """Matrix (term, term) from internal to reported values."""
        return np.eye(1) if self.scaling is None else self.scaling.linear

    @property
    def offset(self) -> np.ndarray:
        """Reported values (term,) where internal ones are zero."""
        return np.zeros(1) if self.scaling is None else self.scaling.offset

    @property
    def experts(self) -> int:
        """Number of experts."""
        return self.of.experts

    @property
    def linked(self) -> np.ndarray:
        """The link of held values (output, term), or themselves of coefficients."""
        return (
            self.value if self.scaling is not None else self.of.parameter.link(self.value, NUMERIC)
        )


@dataclass(frozen=True, eq=False)
class HeldGate:
    """Coefficients of a gate some of whose terms are held.

    ``value`` (output, term) are the reported values, NaN where they are free; ``raw`` (internal
    output, term) the internal ones, zero where they are free.
    """

    head: Head
    binding: Binding
    value: np.ndarray
    raw: np.ndarray

    @property
    def held(self) -> np.ndarray:
        """Whether each term is held (term,)."""
        held: np.ndarray = ~np.isnan(self.value).any(axis=0)
        return held

    def internal(self, site: Site) -> np.ndarray:
        """The sampler's coefficients (term, internal output) at a site, zero where free."""
        raw = self.raw if site.mixing is None else unmixed(site.mixing, self.raw)
        if site.mixing is None and self.head.zero_sum:
            raw = raw - raw.mean(axis=0)
        return np.swapaxes(raw, -1, -2)


def constrained_parameters(
    spec: MixtureOfExperts, design: Design, priors: Mapping[str, Prior]
) -> Iterator[tuple[Component, Site, Scaling | None, Prior]]:
    """Constrained parameters of the experts, with site, scaling and prior of coefficients."""
    for factor in spec.structure.factors:
        for c in factor.block.components:
            if c.variable in spec.structure.constraints.variables:
                scaling = None
                if c.formula is not None:
                    response = c.parameter.own(factor.own_response(design.rows))
                    b = c.site.bind(design.rows.matrices[c.stem], response)
                    scaling = Scaling(b.matrix, b.units)
                site, inner = c.site_under(priors[c.variable])
                assert inner is not None
                yield c, site, scaling, inner


def of_term(prior: Prior, term: int) -> Prior:
    """Prior of one term."""
    arguments = {n: v[term] if isinstance(v, tuple) else v for n, v in prior.arguments.items()}
    return Prior(prior.distribution, **arguments)


def entry_priors(
    own: tuple[tuple[Entry, Prior], ...],
    c: Component,
    outputs: int,
    scaling: Scaling | None,
    whole: Prior,
) -> list[list[Prior]]:
    """Prior of every entry (output, term) of a variable, the most specific that is given."""
    terms = ("",) if scaling is None else scaling.matrix.terms
    chosen = [[whole] * len(terms) for _ in range(outputs)]
    for entry, prior in own:
        if entry.variable != c.variable:
            continue
        position = term_position(entry, terms)
        for k in entry.outputs(outputs, c.experts):
            for t in range(len(terms)) if position is None else [position]:
                chosen[k][t] = prior
    if scaling is None:
        return chosen
    return [
        [of_term(p.over_terms(c.variable, terms), t) for t, p in enumerate(row)] for row in chosen
    ]


def hold(variable: ConstrainedVariable, fixed: tuple[tuple[Entry, Any], ...]) -> None:
    """Fill the values of held entries."""
    for entry, value in fixed:
        if entry.variable == variable.name:
            _set_held(variable.value, entry, value, variable.terms, variable.experts)


def _set_held(
    values: np.ndarray, entry: Entry, value: Any, terms: tuple[str, ...], experts: int
) -> None:
    """Fill the values (output, term) of an entry, the outputs with experts last."""
    position, given = term_position(entry, terms), np.asarray(value)
    rows = entry.outputs(len(values), experts)
    columns = np.arange(len(terms)) if position is None else np.array([position])
    if given.ndim == 1:  # one of each expert, or one of each term of an expert
        given = given[:, None] if entry.expert is None else given[None]
    try:
        values[np.ix_(rows, columns)] = given
    except ValueError as error:
        raise SpecError(
            f"`fixed`: {entry.variable!r} has {len(rows)} experts and the terms "
            f"{listed(terms, 20)}; its value has the shape {np.shape(value)}."
        ) from error


def held_gate(head: Head, design: Design, fixed: list[tuple[Entry, Any]]) -> HeldGate:
    """The held coefficients of a gate."""
    b = head.site.bind(design.rows.matrices[head.stem], design.first_sample)
    terms = b.matrix.terms
    value = np.full((head.n_outputs, len(terms)), np.nan)
    for entry, given in fixed:
        _set_held(value, entry, given, terms, head.n_outputs)
    held, scaling, at = ~np.isnan(value).any(axis=0), Scaling(b.matrix, b.units), b.matrix.intercept
    if at is not None and held[at] and (scaling.linear[~held, at] != 0).any():
        raise SpecError(
            f"`fixed`: the intercept of {head.site.coef!r} is the value at features of zero, and "
            "its prior refers to their centre: hold the slopes too, or describe the model with "
            "center=False."
        )
    return HeldGate(head, b, value, scaling.to_raw(np.nan_to_num(value)))
