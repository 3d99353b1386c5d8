"""Laplace's method: draws from the normal approximation of the posterior at its mode."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.diagnostics.ties import ties
from bayes_moe.em import marginal_draws
from bayes_moe.em.constraint import of_free
from bayes_moe.em.constraint import root as root_of
from bayes_moe.em.modes import Modes, covariance, merge_modes
from bayes_moe.em.objective import Objective
from bayes_moe.em.random_effects import UNCONSTRAINED, has_random_effects
from bayes_moe.em.vector_layout import parameter_vector
from bayes_moe.inference.base import (
    UNCONSTRAINED_POSTERIOR,
    Method,
    check_linear_beside_groups,
)
from bayes_moe.inference.em import EM
from bayes_moe.inference.importance import pareto_k, weighed
from bayes_moe.model.log_density import LogDensity
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.optimize.densities import log_density
from bayes_moe.optimize.graph_modes import ends
from bayes_moe.optimize.hyperparameters import optimise_hyperparameters
from bayes_moe.optimize.lbfgs import newton_along, search
from bayes_moe.optimize.linear_surrogate import first_values
from bayes_moe.results.mode_tree import tree

if TYPE_CHECKING:
    import xarray as xr

WEIGHTS = ("last", "all")
MOST_CLIMBS = 10
"""Most restarts of L-BFGS."""
NO_APPROXIMATION = (
    "The posterior has no normal approximation: its information at the mode is not positive "
    "definite (see method='em'). Give tighter priors, fewer experts, or use method='nuts'."
)


@dataclass(frozen=True)
class Laplace(Method):
    r"""Settings of Laplace's method.

    The posterior density of the unconstrained values (internal coefficients, logarithms of
    positive parameters; Jacobian included, as for a sampler) is replaced by the normal density with
    the same mode and the same second derivatives there. The Pareto k of the importance weights
    ``p / q``, which ``bm.diagnose(fit)`` reports, measures the error. ``sample_stats`` has ``lp``
    and ``log_weight`` of every draw; for long tables only a part of the draws gets a weight, and
    they are left out.

    The modes of a model that is not linear are found by L-BFGS. With
    ``weights="last"``, the parameters of its predictors' features (hidden weights, splits of trees,
    and their spreads) are fixed at the mode, and the normal approximation is that of all other
    values given these: Laplace's method on the last layer. The covariance, the draws, the weights
    and Pareto k are those of this conditional posterior; standard errors of fixed parameters are
    NaN. The attribute ``determining_coordinates`` of the group ``fit`` lists them.

    Parameters
    ----------
    draws, chains : int
        Independent draws of each chain, and the number of chains.
    restarts, start, max_iter, tol, cores, progressbar
        As for :class:`bayes_moe.inference.em.EM`. For a model that is not linear there is no
        ``start``, at most 10 restarts, and ``tol`` and ``cores`` have no effect.
    weights : {"last", "all"}
        Values approximated in a model that is not linear: all but the inner weights of its
        predictors, or all.

    References
    ----------
    Tierney, L., & Kadane, J. B. (1986). Accurate approximations for posterior moments and marginal
    densities. Journal of the American Statistical Association, 81(393), 82-86.

    Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
    sampling. Journal of Machine Learning Research, 25(72), 1-58.
    """

    name: ClassVar[str] = "laplace"

    draws: int = 1000
    chains: int = 4
    restarts: int | None = None
    start: object = None
    max_iter: int = 1000
    tol: float = 1e-9
    cores: int | None = None
    progressbar: bool = True
    weights: str = "last"

    def __post_init__(self) -> None:
        check_whole("draws", self.draws, 1)
        check_whole("chains", self.chains, 1)
        check_one_of("value of `weights`", self.weights, WEIGHTS)
        self._em()

    def check(self, spec: MixtureOfExperts) -> None:
        super().check(spec)
        check_linear_beside_groups(spec, "method='laplace'")

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        if not spec.structure.is_linear:
            return self._by_gradient(spec, design, random_seed)
        if has_random_effects(spec):
            return self._grouped(spec, design, random_seed)
        modes = self._em().find_modes(parameter_vector(spec, design, jacobian=True), random_seed)
        mode = modes.theta[modes.best]
        assert modes.objective is not None
        vector = modes.objective.vector
        objective = Objective(vector)
        spread = None if modes.singular[modes.best] else covariance(objective, mode)
        if spread is None:
            raise SpecError(_no_approximation(modes))
        if not np.diag(of_free(vector.constraint, spread)).all():
            raise SpecError(
                "The posterior has no normal approximation: its mode lies on the kink of a Laplace "
                "prior. Use method='nuts', or another prior."
            )
        root = root_of(vector.constraint, spread)
        z, n_weighed = self._normal(root.shape[1], spec, design, random_seed)
        theta = mode + z @ root.T
        log_p = objective.value(theta[:n_weighed])
        errors = vector.reported_sds(mode, spread)
        return self._tree(modes, errors, vector.variables(theta), log_p, z)

    def _grouped(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        """Draws of a model with random effects, about the mode of all but these."""
        found = self._em().find_marginal_modes(spec, design, random_seed, UNCONSTRAINED)
        if found.covariance is None:
            raise SpecError(_no_approximation(found.modes))
        z, n_weighed = self._normal(marginal_draws.dimension(found), spec, design, random_seed)
        rng = np.random.default_rng([random_seed, 2])
        values, log_p = marginal_draws.drawn(found, z, n_weighed, rng)
        return self._tree(found.modes, found.errors or {}, values, log_p, z)

    def _by_gradient(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        if self.start is not None:
            raise SpecError("`start` is for linear models; this one is not.")
        density = log_density(spec, design, jacobian=True)
        modes = self._modes_by_gradient(density, random_seed)
        free = self._free(density)
        mode = newton_along(density, modes.theta[modes.best], free)
        spread = None if modes.singular[modes.best] else density.covariance(mode, free)
        if spread is None:
            raise SpecError(_no_approximation(modes))
        root = _root(spread, free)
        z, n_weighed = self._normal(root.shape[1], spec, design, random_seed)
        theta = mode + z @ root.T
        prior, likelihood, _ = density.weighted(theta[:n_weighed], 1.0)
        log_p = np.where(np.isfinite(prior + likelihood), prior + likelihood, -np.inf)
        # The mode moved since its value was stored; the weights are about this very point.
        log_p += modes.value[modes.best] - density(mode)[0]
        draws = density.variables(theta)
        errors = density.errors(mode, spread) or {}
        fixed = [
            n
            for n in spec.variables
            if density.determining_coordinates([n]).any() and not np.nan_to_num(errors[n]).any()
        ]
        errors = {name: error for name, error in errors.items() if name not in fixed}
        result = self._tree(modes, errors, draws, log_p, z)
        result[names.FIT].attrs |= {names.HELD: json.dumps(fixed), names.CURVATURE: 1}
        return result

    def _modes_by_gradient(self, density: LogDensity, random_seed: int) -> Modes:
        """Modes of a density, hyperparameters at their marginal mode."""
        spec, design = density.spec, density.design
        rng, count = (
            np.random.default_rng(random_seed),
            min(self.restarts or MOST_CLIMBS, MOST_CLIMBS),
        )
        with progress("Laplace", shown=self.progressbar) as update:
            starts = first_values(spec, design, count, rng)
            runs = search(density, starts, self.max_iter, update)
            runs = optimise_hyperparameters(density, runs)
        return replace(merge_modes(ends(density, runs), design.rows), restarts=count)

    def _free(self, density: LogDensity) -> np.ndarray:
        """Whether a coordinate (coordinate,) is part of the normal approximation.

        Raises
        ------
        SpecError
            If the second derivatives of so many coordinates are not affordable.
        """
        spec, design = density.spec, density.design
        inner = {n for site, p in spec.structure.sites for n in p.variables(site).basis}
        free = density.free_coordinates & ~density.determining_coordinates(
            inner if self.weights == "last" else set()
        )
        if not density.affordable(int(free.sum())):
            raise SpecError(
                f"The information of {free.sum()} values from {design.rows.size} rows would take "
                f"minutes{'' if self.weights == 'last' else ": use weights='last'"}. Use "
                "method='map' or 'nuts'."
            )
        return free

    def _normal(
        self, size: int, spec: MixtureOfExperts, design: Design, random_seed: int
    ) -> tuple[np.ndarray, int]:
        """Standard normal draws (draw, coordinate), and how many of them get a weight."""
        draws = self.chains * self.draws
        z = np.random.default_rng([random_seed, 1]).standard_normal((draws, size))
        return z, weighed(draws, design.rows.size * spec.n_experts)

    def _tree(
        self,
        modes: Modes,
        errors: Mapping[str, np.ndarray],
        draws: Mapping[str, np.ndarray],
        log_p: np.ndarray,
        z: np.ndarray,
    ) -> xr.DataTree:
        """Tree of draws, with their weights if all have one, and Pareto k."""
        import xarray as xr

        n_weighed = len(log_p)
        log_weight = log_p - modes.value[modes.best] + 0.5 * (z[:n_weighed] ** 2).sum(axis=1)
        stats = {names.LP: log_p, names.LOG_WEIGHT: log_weight} if n_weighed == len(z) else {}
        result = tree(
            modes, UNCONSTRAINED_POSTERIOR, errors, draws, stats, (self.chains, self.draws)
        )
        figures = {names.PARETO_K: pareto_k(log_weight)}
        result[names.FIT] = xr.DataTree(result[names.FIT].to_dataset().assign(figures))
        return result

    def _em(self) -> EM:
        """EM with the settings that both methods have, checked by EM."""
        return EM(**{f.name: getattr(self, f.name) for f in fields(EM) if hasattr(self, f.name)})


def _no_approximation(modes: Modes) -> str:
    """Error message: the best mode has no normal approximation, and why if that is known."""
    draws = {name: modes.values[name][[modes.best]] for name in modes.spec.variables}
    found = ties(modes.spec, draws, modes.design)
    return " ".join([NO_APPROXIMATION, *(tie.message for tie in found)])


def _root(spread: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Root (coordinate, direction) of a covariance whose rows are zero but for ``free`` ones."""
    values, vectors = np.linalg.eigh(spread[np.ix_(free, free)])
    root = np.zeros((len(spread), len(values)))
    root[free] = vectors * np.sqrt(np.maximum(values, 0.0))
    return root[:, values > 0]
