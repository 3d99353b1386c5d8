"""Standard errors of linear functions of coefficients about the mode that a fit is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.threads import one_blas_thread
from bayes_moe.data.design import Design
from bayes_moe.em.chain_mixture import has_chain
from bayes_moe.em.curvature_products import CurvatureProducts
from bayes_moe.em.missing_e_step import has_missing_features
from bayes_moe.em.modes import covariance
from bayes_moe.em.newton import reduced_gradient
from bayes_moe.em.objective import LARGEST_INFORMATION, Curvature, Objective
from bayes_moe.em.parameter_vector import ParameterVector
from bayes_moe.em.random_effects import has_random_effects
from bayes_moe.em.single_variances import variances
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.inference.base import UNCONSTRAINED_POSTERIOR
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.fit import Fit


@dataclass(frozen=True)
class ModeSpread:
    """The normal approximation at a mode: its covariance, or products with its information.

    ``covariance`` (coordinate, coordinate) is None where ``products`` take its place.
    """

    vector: ParameterVector
    covariance: np.ndarray | None
    products: CurvatureProducts | None

    def sds(self, variable: str, output: int, weights: np.ndarray) -> np.ndarray:
        """Standard deviations (function,) of functions (function, term) of reported slopes."""
        functions = self._of_coordinates(variable, output, weights)
        with one_blas_thread(self.vector.size):
            if self.covariance is not None:
                found = np.einsum("fc,cd,fd->f", functions, self.covariance, functions)
            else:
                assert self.products is not None
                found = variances(self.products, reduced_gradient(self.vector, functions))
        sds: np.ndarray = np.sqrt(np.where(found >= 0, found, np.nan))
        return sds

    def _of_coordinates(self, variable: str, output: int, weights: np.ndarray) -> np.ndarray:
        """Functions (function, coordinate) of the coordinates."""
        block = next(b for b in self.vector.blocks if b.variable == variable)
        assert block.scaling is not None
        slopes = weights * (block.scaling.units.unit / block.scaling.matrix.scale)
        basis = np.eye(len(block.experts)) if block.basis is None else block.basis
        within = basis[:, output][None, :, None] * slopes[:, None, :]
        found = np.zeros((len(weights), self.vector.size))
        found[:, block.where] = within.reshape(len(weights), -1)
        return found


def mode_spread(fit: Fit, values: Mapping[str, np.ndarray]) -> ModeSpread | None:
    """The normal approximation at the mode of a fit; None where the fit has none.

    ``values`` (1, ...) are its variables. It has none if it is no mode of a linear model, has
    random effects or unobserved features, or if an expert has collapsed; and if a matrix would be
    too large and products do not suffice.
    """
    spec, design = fit.spec, fit.design
    if fit.kind != names.KIND_MODE or not _is_plain(spec, design):
        return None
    figures = fit.idata[names.FIT]
    if bool(figures[names.SINGULAR]):
        return None
    objective_of = figures.attrs.get(names.OBJECTIVE)
    vector = parameter_vector(
        spec,
        design,
        likelihood=objective_of == "likelihood",
        jacobian=objective_of == UNCONSTRAINED_POSTERIOR,
        hyperparameters={name: v[0] for name, v in values.items()},
    )
    objective, theta = Objective(vector), vector.points(values)[0]
    if vector.size <= LARGEST_INFORMATION:
        spread = covariance(objective, theta)
        return None if spread is None else ModeSpread(vector, spread, None)
    grouped = objective.rows.observation.group is not None
    if grouped or has_chain(vector) or vector.has_kinks:
        return None
    return ModeSpread(vector, None, CurvatureProducts(objective, theta, Curvature.OBSERVED))


def diverging(fit: Fit) -> set[str]:
    """Variables of a mode that diverge, which have no standard error."""
    return set(json.loads(fit.idata[names.FIT].attrs.get(names.RUNNING, "[]")))


def _is_plain(spec: MixtureOfExperts, design: Design) -> bool:
    return (
        spec.structure.is_linear
        and not has_random_effects(spec)
        and not has_missing_features(spec, design)
    )


def stored_sds(fit: Fit, variable: str, output: int, weights: Any) -> np.ndarray:
    """Standard errors (function,) that a fit has of single slopes; NaN of other functions."""
    found = np.full(weights.shape[0], np.nan)
    if names.STANDARD_ERROR not in fit.idata.children:
        return found
    errors = fit.idata[names.STANDARD_ERROR].to_dataset()
    dims = fit.spec.structure.reported_dims[variable]
    values = errors[variable].transpose(*dims).values
    of_output = values.reshape(-1, values.shape[-1])[output]
    dense = weights.toarray() if hasattr(weights, "toarray") else weights
    single = (dense != 0).sum(axis=1) == 1
    found[single] = np.abs(dense[single]) @ np.nan_to_num(of_output, nan=np.inf)
    return np.where(np.isfinite(found), found, np.nan)
