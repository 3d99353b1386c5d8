"""Draws of the reported variables from the prior of a model."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.data.design import Design
from bayes_moe.graph.build import build_design
from bayes_moe.model.spec import MixtureOfExperts


def check_prior_draws(spec: MixtureOfExperts) -> None:
    """Raise :class:`SpecError` for a model whose prior cannot be drawn from."""
    if not spec.structure.has_gradient:
        raise SpecError(
            "Regression trees have no prior density to draw from, so no data can be drawn from "
            "the prior of a model with them."
        )


def prior_draws(
    spec: MixtureOfExperts, design: Design, draws: int, random_seed: int
) -> dict[str, np.ndarray]:
    """Return draws (draw, ...) of each reported variable from the prior of a design."""
    import pymc as pm

    from bayes_moe.graph.numpy_mode import mode

    model = build_design(spec, design, "fused").model
    wanted = [model[name] for name in spec.variables]
    drawn = pm.draw(wanted, draws=draws, random_seed=random_seed, mode=mode())
    shaped = (values if draws > 1 else np.asarray(values)[None] for values in drawn)
    return dict(zip(spec.variables, shaped, strict=True))
