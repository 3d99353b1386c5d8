"""Parameters that a user gives: every reported variable by name, checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.data.design import Design
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.coordinates import RANGES


def checked(
    spec: MixtureOfExperts, design: Design, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return every reported variable as an internal array, from its reported shape.

    Raises
    ------
    SpecError
        For unknown, missing, wrongly shaped or impossible parameters.
    """
    matrices = design.rows.matrices
    shapes: dict[str, tuple[int, ...]] = spec.structure.gate.shapes(matrices)
    supports = spec.structure.supports
    for c in spec.structure.components:
        shapes |= c.shapes(matrices)
    if not isinstance(parameters, Mapping):
        raise SpecError(f"`parameters` must map names to arrays; it is {parameters!r}.")
    for name in parameters:
        if name not in shapes:
            raise SpecError(unknown("parameter", name, shapes))
    pairs, dims, values = spec.structure.pairs, spec.structure.dims, {}
    for name, internal in shapes.items():
        shape = pairs.reported(np.empty(internal), dims[name]).shape
        if name not in parameters:
            raise SpecError(f"`parameters` lacks {name!r} with shape {shape}.")
        try:
            values[name] = np.asarray(parameters[name], dtype=float)
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"{name!r} must be numbers of shape {shape}; it is {parameters[name]!r}."
            ) from error
        if values[name].shape != shape:
            raise SpecError(f"{name!r} must have shape {shape}; it has {values[name].shape}.")
        if not np.all(np.isfinite(values[name])):
            raise SpecError(f"{name!r} must be finite; it is {parameters[name]!r}.")
        least, most, what = RANGES[supports.get(name, "real")]
        if np.any((values[name] <= least) | (values[name] >= most)):
            raise SpecError(f"{name!r} must be {what}; it is {parameters[name]!r}.")
        values[name] = pairs.internal(values[name], dims[name])
    return values
