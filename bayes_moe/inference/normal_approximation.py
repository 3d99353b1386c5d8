"""What the methods that fit a normal distribution to a posterior share: begin, weigh, report."""

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
from bayes_moe.model.evaluation import chunks
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.mode_tree import tree
from bayes_moe.sampling.chain_starts import Starts, starts

if TYPE_CHECKING:
    import xarray as xr

OBJECTIVE = "posterior of unconstrained values"


def begin(spec: MixtureOfExperts, design: Design, random_seed: int) -> Starts:
    """Find the modes of a posterior.

    Raises
    ------
    SpecError
        If every mode is singular.
    """
    found = starts(spec, design, random_seed)
    if found.found.singular[found.found.best]:
        raise SpecError(
            "The posterior has no normal approximation: an expert fits its rows exactly (see "
            "method='em'). Give tighter priors, or fewer experts."
        )
    return found


class Reader:
    """A graph's variables and log density at many unconstrained vectors at once."""

    def __init__(self, graph: Graph) -> None:
        from pymc.pytensorf import compile
        from pytensor.graph.replace import vectorize_graph

        self.graph = graph
        model = graph.model
        self._names = list(graph.spec.dims)
        self._shapes = [v.shape for v in model.initial_point().values()]
        wanted = model.replace_rvs_by_values([model[name] for name in self._names])
        many = {v: v.type.clone(shape=(None, *v.type.shape))() for v in model.value_vars}
        self._read = compile(
            [many[v] for v in model.value_vars],
            vectorize_graph([*wanted, model.varlogp], many),
            mode=mode(),
            on_unused_input="ignore",
        )

    def __call__(self, points: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return variables (sample, ...) and log prior (sample,) at vectors (sample, coordinate).

        The prior is that of the vectors, Jacobian included.
        """
        size = len(points)
        ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in self._shapes])
        parts = np.split(points, ends[:-1], axis=1)
        laid = (p.reshape(size, *shape) for p, shape in zip(parts, self._shapes, strict=True))
        *found, log_prior = self._read(*laid)
        # What no coordinate moves has no axis of samples.
        values = {
            name: np.broadcast_to(v, (size, *v.shape[-len(self.graph.spec.dims[name]) :]))
            for name, v in zip(self._names, found, strict=True)
        }
        return values, np.asarray(log_prior)

    def log_density(self, values: Mapping[str, np.ndarray], log_prior: np.ndarray) -> np.ndarray:
        """Return the log density (sample,) at variables, with what is known of their prior."""
        spec, total = self.graph.spec, log_prior.copy()
        with np.errstate(all="ignore"):
            for _, part, mixture in chunks(spec, values, self.graph.design.rows):
                features = spec.gate.log_features(spec.n_experts, values, part.matrices)
                total += (mixture.log_density(part.observed) + features).sum(axis=-1)
        return np.where(np.isnan(total), -np.inf, total)


@dataclass(frozen=True)
class Normal:
    """A normal distribution of unconstrained vectors: its mean, and a root of its covariance."""

    mean: np.ndarray
    root: np.ndarray

    @property
    def sds(self) -> np.ndarray:
        """Standard deviations (coordinate,)."""
        return np.sqrt((self.root**2).sum(axis=1))

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw vectors (sample, coordinate)."""
        return self.mean + rng.standard_normal((size, len(self.mean))) @ self.root.T

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return the log density (sample,) at vectors; ``root`` is lower triangular."""
        from scipy.linalg import solve_triangular

        z = solve_triangular(self.root, (points - self.mean).T, lower=True)
        constant = np.log(np.diag(self.root)).sum() + 0.5 * len(self.mean) * np.log(2 * np.pi)
        density: np.ndarray = -0.5 * (z**2).sum(axis=0) - constant
        return density


def elbo(log_weight: np.ndarray) -> dict[str, float]:
    """Return the evidence lower bound, the mean of ``log p - log q``, and its error."""
    return {
        names.ELBO: float(log_weight.mean()),
        "elbo_error": float(log_weight.std() / np.sqrt(len(log_weight))),
    }


def report(
    begun: Starts,
    values: Mapping[str, np.ndarray],
    stats: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    figures: Mapping[str, Any],
    path: np.ndarray,
    words: Mapping[str, str],
) -> xr.DataTree:
    """Return draws (sample, ...) as a tree like those of the other methods about a mode.

    ``standard_error`` holds the draws' standard deviations; ``fit`` gets the ``figures``, and the
    ELBO along its ``path``. ``words`` are what to do if the approximation is no good.
    """
    import xarray as xr

    errors = {name: values[name].std(axis=0) for name in begun.found.spec.variables}
    result = tree(begun.found, OBJECTIVE, errors, values, stats, shape)
    fit = result[names.FIT].to_dataset().drop_vars(["path", "exhausted"])
    fit = fit.assign(figures).assign(path=("iteration", path)).assign_attrs(words)
    result[names.FIT] = xr.DataTree(fit)
    return result
