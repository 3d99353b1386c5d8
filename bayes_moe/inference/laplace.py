"""Laplace's method: draws from the normal distribution that osculates the posterior at its mode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError, unknown
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.em.modes import Modes, covariance, merge_modes
from bayes_moe.em.multistart import RESTARTS
from bayes_moe.em.objective import Objective
from bayes_moe.em.vector_layout import coordinates
from bayes_moe.graph.build import build
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.inference.base import Method
from bayes_moe.inference.em import EM
from bayes_moe.inference.importance import pareto_k, weighed
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.graph_modes import ends
from bayes_moe.optimize.hyperparameters import optimise_hyperparameters
from bayes_moe.optimize.lbfgs import climbed_along, search
from bayes_moe.optimize.linear_surrogate import first_values
from bayes_moe.results.mode_tree import tree

if TYPE_CHECKING:
    import xarray as xr

WEIGHTS = ("last", "all")
MOST_CLIMBS = 10
"""Restarts through a graph."""
NO_APPROXIMATION = (
    "The posterior has no normal approximation: its information at the mode is not positive "
    "definite (see method='em'). Give tighter priors, fewer experts, or use method='nuts'."
)


@dataclass(frozen=True)
class Laplace(Method):
    r"""Settings of Laplace's method.

    The posterior density of the unconstrained values (internal coefficients, logarithms of
    positive parameters; Jacobian included, as a sampler sees it) is replaced by the normal
    density with the same mode and the same second derivatives there. How good that is, the Pareto
    k of the importance weights ``p / q`` says: ``bm.diagnose(fit)``. ``sample_stats`` has ``lp``
    and ``log_weight`` of every draw; for long tables a part of the draws is weighed, and they are
    left out.

    A model that EM cannot treat is climbed through its graph. With ``weights="last"``, what the
    features of its predictors are made of (hidden weights, splits of trees, and their own spreads)
    is held at its mode, and the normal approximation is that of all other values, given these:
    Laplace's method on the last layer. The covariance, the draws, the weights and Pareto k are
    those of this conditional posterior; standard errors of what is held are NaN. The attribute
    ``held`` of the group ``fit`` lists it.

    Parameters
    ----------
    draws, chains : int
        Independent draws of each chain, and the number of chains.
    restarts, start, max_iter, tol, cores, progressbar
        As for :class:`bayes_moe.inference.em.EM`. Through a graph there is no ``start``, at most
        ``MOST_CLIMBS`` restarts, and ``tol`` and ``cores`` do nothing.
    weights : {"last", "all"}
        What moves in a model that is not linear: all but the inner weights of its predictors, or
        all.

    References
    ----------
    Tierney, L., & Kadane, J. B. (1986). Accurate approximations for posterior moments and marginal
    densities. Journal of the American Statistical Association, 81(393), 82-86.

    Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
    sampling. Journal of Machine Learning Research, 25(72), 1-58.
    """

    draws: int = 1000
    chains: int = 4
    restarts: int = RESTARTS
    start: object = None
    max_iter: int = 1000
    tol: float = 1e-9
    cores: int | None = None
    progressbar: bool = True
    weights: str = "last"

    def __post_init__(self) -> None:
        check_whole("draws", self.draws, 1)
        check_whole("chains", self.chains, 1)
        if self.weights not in WEIGHTS:
            raise SpecError(unknown("value of `weights`", self.weights, WEIGHTS))
        self._em()

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        if not spec.is_linear:
            return self._through_graph(spec, design, random_seed)
        moving = coordinates(spec, design, jacobian=True)
        found = self._em().climb(moving, random_seed)
        mode = found.theta[found.best]
        assert found.objective is not None
        moving = found.objective.coordinates
        objective = Objective(moving)
        spread = None if found.singular[found.best] else covariance(objective, mode)
        if spread is None:
            raise SpecError(NO_APPROXIMATION)
        if not np.diag(spread).all():
            raise SpecError(
                "The posterior has no normal approximation: its mode lies on the kink of a Laplace "
                "prior. Use method='nuts', or another prior."
            )
        root = np.linalg.cholesky(spread)
        z, weighed = self._normal(root.shape[1], spec, design, random_seed)
        theta = mode + z @ root.T
        log_p = objective.value(theta[:weighed])
        errors = moving.reported_sds(mode, spread)
        return self._tree(found, errors, moving.variables(theta), log_p, z)

    def _through_graph(
        self, spec: MixtureOfExperts, design: Design, random_seed: int
    ) -> xr.DataTree:
        if self.start is not None:
            raise SpecError("`start` is for linear models; this one is climbed through its graph.")
        surface = GraphLogDensity(build(spec, design), jacobian=True)
        with progress("Laplace", shown=self.progressbar) as tell:
            rng, count = np.random.default_rng(random_seed), min(self.restarts, MOST_CLIMBS)
            climbs = search(surface, first_values(spec, design, count, rng), self.max_iter, tell)
            climbs = optimise_hyperparameters(surface, climbs)
        found = replace(merge_modes(ends(surface, climbs), design.rows), restarts=count)
        mode = found.theta[found.best]
        inner = {n for place, p in spec.placed for n in p.basis_parameters(place)}
        inner = inner if self.weights == "last" else set()
        moving = surface.moving & ~surface.held(inner)
        if not surface.affordable(int(moving.sum())):
            raise SpecError(
                f"The information of {moving.sum()} values from {design.rows.size} rows would take "
                f"minutes{'' if self.weights == 'last' else ": use weights='last'"}. Use "
                "method='map' or 'nuts'."
            )
        mode = climbed_along(surface, mode, moving)
        spread = None if found.singular[found.best] else surface.covariance(mode, moving)
        if spread is None:
            raise SpecError(NO_APPROXIMATION)
        values, vectors = np.linalg.eigh(spread[np.ix_(moving, moving)])
        root = np.zeros((mode.size, len(values)))
        root[moving] = vectors * np.sqrt(np.maximum(values, 0.0))
        root = root[:, values > 0]
        z, weighed = self._normal(root.shape[1], spec, design, random_seed)
        theta = mode + z @ root.T
        log_p = np.array([surface(x)[0] for x in theta[:weighed]])
        log_p += found.value[found.best] - surface(mode)[0]  # weights are about this very mode
        points = [surface.variables(x) for x in theta]
        draws = {name: np.stack([p[name] for p in points]) for name in points[0]}
        errors = surface.errors(mode, spread) or {}
        held = [
            n
            for n in spec.variables
            if surface.held([n]).any() and not np.nan_to_num(errors[n]).any()
        ]
        errors = {name: error for name, error in errors.items() if name not in held}
        result = self._tree(found, errors, draws, log_p, z)
        result[names.FIT].attrs |= {"held": json.dumps(held), "curvature": 1}
        return result

    def _normal(
        self, size: int, spec: MixtureOfExperts, design: Design, random_seed: int
    ) -> tuple[np.ndarray, int]:
        """Standard normal draws (draw, coordinate), and how many of them get a weight."""
        draws = self.chains * self.draws
        z = np.random.default_rng([random_seed, 1]).standard_normal((draws, size))
        return z, weighed(draws, design.rows.size * spec.n_experts)

    def _tree(
        self,
        found: Modes,
        errors: Mapping[str, np.ndarray],
        draws: Mapping[str, np.ndarray],
        log_p: np.ndarray,
        z: np.ndarray,
    ) -> xr.DataTree:
        """Draws with their weights, where all have one, and Pareto k."""
        import xarray as xr

        weighed = len(log_p)
        log_weight = log_p - found.value[found.best] + 0.5 * (z[:weighed] ** 2).sum(axis=1)
        stats = {"lp": log_p, "log_weight": log_weight} if weighed == len(z) else {}
        shape, what = (self.chains, self.draws), "posterior of unconstrained values"
        result = tree(found, what, errors, draws, stats, shape)
        figures = result[names.FIT].to_dataset().assign(pareto_k=pareto_k(log_weight))
        result[names.FIT] = xr.DataTree(figures)
        return result

    def _em(self) -> EM:
        return EM(
            restarts=self.restarts,
            start=self.start,
            max_iter=self.max_iter,
            tol=self.tol,
            cores=self.cores,
            progressbar=self.progressbar,
        )
