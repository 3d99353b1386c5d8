"""Which reported coefficients mean the same on every table."""

from __future__ import annotations

from bayes_moe.core import names
from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts


def portable_stems(spec: MixtureOfExperts, design: Design) -> frozenset[str]:
    """Return the stems of predictors whose coefficients refer to columns of no particular table.

    Splines, Gaussian processes and networks make their columns from the table, and so do formulas
    with categories, knots or means. Where the response depends on the table, no coefficients do
    not. In a model with constraints, free variables are those that determine the reported ones.
    """
    if design.depends_on_rows(names.RESPONSE) or spec.structure.constraints:
        return frozenset()
    sites = spec.structure.sites
    return frozenset(s.stem for s, p in sites if p.portable and not design.depends_on_rows(s.stem))


def is_portable(spec: MixtureOfExperts, design: Design) -> bool:
    """Whether draws of a fit mean the same on every table."""
    return {s.stem for s, _ in spec.structure.sites} <= portable_stems(spec, design) and (
        not design.depends_on_rows(names.RESPONSE)
    )
