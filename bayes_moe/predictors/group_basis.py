"""Linear predictors with group effects as one table of features, as optimisers read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core.arrays import Arrays
from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import GroupTerm
from bayes_moe.data.matrix import Matrix
from bayes_moe.predictors.base import Predictor
from bayes_moe.predictors.group_effects import GroupEffects
from bayes_moe.predictors.linear import Linear
from bayes_moe.predictors.scaling import Scaling
from bayes_moe.predictors.site import Binding, Site
from bayes_moe.priors.prior import Prior

NORMAL = ("Normal", "ZeroSumNormal")


@dataclass(frozen=True)
class GroupBasis(Linear):
    """A linear predictor whose features are those of its formula, then one for each group.

    ``terms`` are the group terms of the formula.
    """

    terms: tuple[GroupTerm, ...] = ()

    def groups(self, site: Site) -> list[GroupEffects]:
        """Effects of the group terms at a site."""
        return [GroupEffects(site, term, j) for j, term in enumerate(self.terms)]

    def basis(self, matrix: Matrix) -> Matrix:
        groups = matrix.groups
        terms = (f"{t}|{g.name}[{label}]" for g in groups for label in g.labels for t in g.terms)
        scale = [np.tile(g.scale, len(g.labels)) for g in groups]
        center = [np.zeros(s.size) for s in scale]
        return Matrix(
            (*matrix.terms, *terms),
            np.concatenate([matrix.values, *(g.dense for g in groups)], axis=1),
            np.concatenate([matrix.center, *center]),
            np.concatenate([matrix.scale, *scale]),
            groups=groups,
        )

    def spread(self, b: Binding, values: Mapping[str, Any], xp: Arrays) -> Any:
        found = [np.ones((*b.site.lead_shape, len(b.matrix.terms)))]
        for e, columns in zip(self.groups(b.site), b.matrix.groups, strict=True):
            internal = np.asarray(values[e.sd]) * columns.scale / b.units.unit
            found.append(np.tile(internal, len(columns.labels)))
        return np.concatenate(found, axis=-1)

    def basis_prior(self, b: Binding, prior: Prior) -> Prior:
        """Return the prior of internal coefficients of :meth:`basis`, in units of their spreads.

        ``prior`` is that of the coefficients of the formula.

        Raises
        ------
        SpecError
            If that is not normal.
        """
        if prior.distribution not in NORMAL:
            raise SpecError(
                f"The prior of {b.site.coef!r} must be normal where the formula has group terms "
                f"and the method is not a sampler; it is {prior!r}. Use a normal prior."
            )
        own = Scaling(b.matrix, b.units).raw_prior(prior.over_terms(b.site.coef, b.matrix.terms))
        size = sum(len(g.labels) * len(g.terms) for g in b.matrix.groups)
        filled = {"mu": np.zeros(size), "sigma": np.ones(size)}
        arguments = {n: np.concatenate([v, filled[n]]) for n, v in own.arguments.items()}
        return Prior(own.distribution, **arguments)

    def reported(self, site: Site, basis: Matrix, coef: np.ndarray) -> dict[str, np.ndarray]:
        """Return the reported variables that coefficients (..., output, feature) consist of."""
        found, at = {}, len(basis.terms)
        for e, columns in reversed([*zip(self.groups(site), basis.groups, strict=True)]):
            shape = (len(columns.labels), len(columns.terms))
            first = at - shape[0] * shape[1]
            found[e.effect] = coef[..., first:at].reshape(*coef.shape[:-1], *shape)
            at = first
        return {site.coef: coef[..., :at]} | found


def without_effects(predictor: Predictor) -> Predictor:
    """Return the predictor of a formula without its group terms."""
    return Linear() if isinstance(predictor, GroupBasis) else predictor


def reported_parts(
    predictor: Predictor, site: Site, basis: Matrix, coef: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the reported variables that coefficients (..., output, feature) consist of.

    The features are those of a predictor's ``basis``.
    """
    return (
        predictor.reported(site, basis, coef)
        if isinstance(predictor, GroupBasis)
        else {site.coef: coef}
    )


def internal_parts(
    predictor: Predictor, site: Site, basis: Matrix, raw: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the sampler's variables that internal coefficients (..., feature, output) consist of.

    Effects of groups, of which they depend on correlations, are left out.
    """
    coef = np.swapaxes(raw, -1, -2)
    return {site.raw: np.swapaxes(reported_parts(predictor, site, basis, coef)[site.coef], -1, -2)}


def all_parts(predictor: Predictor, site: Site, values: Mapping[str, Any]) -> np.ndarray:
    """Return coefficients (..., output, feature) of ``basis`` from reported variables."""
    coef = np.asarray(values[site.coef], dtype=float)
    groups = predictor.groups(site) if isinstance(predictor, GroupBasis) else []
    effects = (np.asarray(values[e.effect], dtype=float) for e in groups)
    return np.concatenate([coef, *(e.reshape(*e.shape[:-2], -1) for e in effects)], axis=-1)
