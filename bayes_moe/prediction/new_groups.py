"""Effects of groups that no fitted row has, drawn from their distribution in each draw of a fit."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from bayes_moe.core.arrays import Values
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.model.internal_values import parts
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors.random_effects import RandomEffects


def with_new_groups(
    spec: MixtureOfExperts, design: Design, rows: Rows, draws: Values
) -> dict[str, np.ndarray]:
    """Draws of a fit with effects of the groups of rows that no fitted row has.

    Such groups are those of ``unseen="sample"``; see
    :meth:`bayes_moe.data.fitted_groups.FittedGroups.apply`.
    """
    new = {
        stem: matrix.groups
        for stem, matrix in rows.matrices.items()
        if any(columns.new for columns in matrix.groups)
    }
    if not new:
        return dict(draws)
    found = dict(draws)
    for part in parts(spec, design, spec.resolve_priors(design)):
        predictor, b = part.placed or (None, None)
        if not isinstance(predictor, RandomEffects) or b is None or b.site.stem not in new:
            continue
        zero_sum = part.prior is not None and part.prior.kind.support == "zero-sum"
        for e, columns in zip(predictor.groups(b.site), new[b.site.stem], strict=True):
            first = crc32(e.effect.encode())
            seeds = [(first, crc32(label.encode())) for label in columns.new]
            own = np.asarray(draws[e.effect])
            average = np.zeros((*own.shape[:-2], 1, own.shape[-1]))
            drawn = [e.new(draws, zero_sum, seeds)] if seeds else []
            found[e.effect] = np.concatenate([own, average, *drawn], axis=-2)
    return found
