"""The sampler's variables of a model from its reported ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Predictor
from bayes_moe.predictors.site import Binding
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True, eq=False)
class Part:
    """A predictor of a model at its site, or a family parameter that is constant for each expert.

    Attributes
    ----------
    variable : str
        Name of its coefficients, or of the constant.
    outputs : int
        Number of its outputs.
    prior : Prior or None
        Prior of the internal coefficients, in the user's units, or of the constant; None for a
        predictor without coefficients.
    placed : tuple of (Predictor, Binding), or None
        The predictor, with site and features; None for a constant.
    gain : float
        Factor of the predictor in the log weights.
    """

    variable: str
    outputs: int
    prior: Prior | None
    placed: tuple[Predictor, Binding] | None
    gain: float = 1.0


def parts(spec: MixtureOfExperts, design: Design, priors: Mapping[str, Prior]) -> Iterator[Part]:
    """Parts of a model, in the order in which a graph has their variables."""
    matrices, gate = design.rows.matrices, spec.structure.gate
    for h in gate.heads:
        site, prior = h.site_under(priors[h.site.coef])
        placed = (h.predictor, site.bind(matrices[h.stem], design.first_sample))
        yield Part(site.coef, site.outputs, prior, placed, gate.gain)
    for factor in spec.structure.factors:
        response = factor.own_response(design.rows)
        for c in factor.block.components:
            own, outputs = priors.get(c.variable), c.site.outputs
            if c.formula is None:
                yield Part(c.variable, outputs, own, None)
            else:
                site, inner = c.site_under(own)
                placed = (c.predictor, site.bind(matrices[c.stem], c.parameter.own(response)))
                yield Part(c.variable, outputs, inner, placed)


def internal_values(
    spec: MixtureOfExperts, design: Design, priors: Mapping[str, Prior], values: Values
) -> dict[str, np.ndarray]:
    """The sampler's variables, and constants, at reported variables."""
    internal: dict[str, np.ndarray] = {}
    for part in parts(spec, design, priors):
        if part.placed is None:
            internal[part.variable] = np.asarray(values[part.variable])
        else:
            predictor, b = part.placed
            internal |= predictor.to_raw(b, values)
    return internal
