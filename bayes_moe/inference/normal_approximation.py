"""Shared by ADVI and Pathfinder: modes, log densities of draws, normal distributions, the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.data.design import Design
from bayes_moe.graph.build import Graph
from bayes_moe.graph.numpy_mode import mode
from bayes_moe.inference.base import UNCONSTRAINED_POSTERIOR
from bayes_moe.model.evaluation import log_likelihood
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.mode_tree import tree
from bayes_moe.sampling.chain_starts import Starts, starts

if TYPE_CHECKING:
    import xarray as xr


def starts_at_modes(spec: MixtureOfExperts, design: Design, random_seed: int) -> Starts:
    """Modes of a posterior and the mass about each.

    Raises
    ------
    SpecError
        If every mode is singular.
    """
    result = starts(spec, design, random_seed)
    if result.modes.singular[result.modes.best]:
        raise SpecError(
            "The posterior has no normal approximation: an expert fits its rows exactly (see "
            "method='em'). Give tighter priors, or fewer experts."
        )
    return result


class Reader:
    """Variables and log density of a graph at many unconstrained vectors at once."""

    def __init__(self, graph: Graph) -> None:
        from pymc.pytensorf import compile
        from pytensor.graph.replace import vectorize_graph

        self.graph = graph
        model = graph.model
        self._names = list(graph.spec.structure.dims)
        self._shapes = [v.shape for v in model.initial_point().values()]
        variables = model.replace_rvs_by_values([model[name] for name in self._names])
        batched = {v: v.type.clone(shape=(None, *v.type.shape))() for v in model.value_vars}
        self._evaluate = compile(
            [batched[v] for v in model.value_vars],
            vectorize_graph([*variables, model.varlogp], batched),
            mode=mode(),
            on_unused_input="ignore",
        )

    def __call__(self, points: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Variables (sample, ...) and log prior (sample,) at vectors (sample, coordinate).

        The prior is that of the vectors, Jacobian included.
        """
        size = len(points)
        ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in self._shapes])
        parts = np.split(points, ends[:-1], axis=1)
        values = (p.reshape(size, *shape) for p, shape in zip(parts, self._shapes, strict=True))
        *variables, log_prior = self._evaluate(*values)
        # PyTensor leaves out the axis of samples where a variable depends on no coordinate.
        named = {
            name: np.broadcast_to(v, (size, *v.shape[-len(self.graph.spec.structure.dims[name]) :]))
            for name, v in zip(self._names, variables, strict=True)
        }
        return named, np.asarray(log_prior)

    def log_density(self, values: Mapping[str, np.ndarray], log_prior: np.ndarray) -> np.ndarray:
        """Log density (sample,) at variables (sample, ...), whose log prior is ``log_prior``."""
        total = log_prior + log_likelihood(self.graph.spec, values, self.graph.design.rows)
        return np.where(np.isnan(total), -np.inf, total)


@dataclass(frozen=True)
class Normal:
    """Normal distribution of unconstrained vectors: mean (coordinate,) and root of covariance."""

    mean: np.ndarray
    root: np.ndarray

    @property
    def sds(self) -> np.ndarray:
        """Standard deviations (coordinate,)."""
        return np.sqrt((self.root**2).sum(axis=1))

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Random vectors (sample, coordinate)."""
        return self.mean + rng.standard_normal((size, len(self.mean))) @ self.root.T

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Log density (sample,) at vectors (sample, coordinate); ``root`` is lower triangular."""
        from scipy.linalg import solve_triangular

        z = solve_triangular(self.root, (points - self.mean).T, lower=True)
        constant = np.log(np.diag(self.root)).sum() + 0.5 * len(self.mean) * np.log(2 * np.pi)
        density: np.ndarray = -0.5 * (z**2).sum(axis=0) - constant
        return density


def elbo(log_weight: np.ndarray) -> dict[str, float]:
    """Evidence lower bound, the mean of ``log p - log q``, and its Monte Carlo error."""
    return {
        names.ELBO: float(log_weight.mean()),
        names.ELBO_ERROR: float(log_weight.std() / np.sqrt(len(log_weight))),
    }


def approximation_tree(
    starts: Starts,
    values: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    figures: Mapping[str, Any],
    path: np.ndarray,
    remedies: Mapping[str, str],
) -> xr.DataTree:
    """Tree of draws (sample, ...) from an approximation.

    Group ``standard_error`` holds the draws' standard deviations, ``fit`` the ``figures`` and the
    ELBO by iteration, ``path``. ``remedies`` are the advice if the approximation is not good.
    """
    import xarray as xr

    modes = starts.modes
    errors = {name: values[name].std(axis=0) for name in modes.spec.variables}
    result = tree(modes, UNCONSTRAINED_POSTERIOR, errors, values, stats, shape)
    fit = result[names.FIT].to_dataset().drop_vars([names.PATH, names.EXHAUSTED])
    fit = fit.assign(figures).assign({names.PATH: (names.ITERATION, path)}).assign_attrs(remedies)
    result[names.FIT] = xr.DataTree(fit)
    return result
