"""Laplace's method: draws from the normal distribution that osculates the posterior at its mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe import names
from bayes_moe.coordinates import coordinates
from bayes_moe.design import Design
from bayes_moe.errors import SpecError
from bayes_moe.inference.base import Method, check_whole
from bayes_moe.inference.em import EM
from bayes_moe.modal import tree
from bayes_moe.objective import Objective
from bayes_moe.optima import RESTARTS, covariance
from bayes_moe.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr

MOST_WEIGHED = 2 * 10**7
"""Draws x rows x experts up to which every draw gets an importance weight."""
LEAST_WEIGHED = 200
LEAST_FOR_TAIL = 25
"""Draws below which their weights have no tail to look at."""


@dataclass(frozen=True)
class Laplace(Method):
    r"""Settings of Laplace's method.

    The posterior density of the unconstrained values (internal coefficients, logarithms of
    positive parameters; Jacobian included, as a sampler sees it) is replaced by the normal
    density with the same mode and the same second derivatives there. How good that is, the Pareto
    k of the importance weights ``p / q`` says: ``bm.diagnose(fit)``. ``sample_stats`` has ``lp``
    and ``log_weight`` of every draw; for long tables a part of the draws is weighed, and they are
    left out.

    Parameters
    ----------
    draws, chains : int
        Independent draws of each chain, and the number of chains.
    restarts, start, max_iter, tol, cores, progressbar
        As for :class:`bayes_moe.inference.em.EM`.

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

    def __post_init__(self) -> None:
        check_whole("draws", self.draws, 1)
        check_whole("chains", self.chains, 1)
        self._em()

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        import xarray as xr

        moving = coordinates(spec, design, jacobian=True)
        found = self._em().climb(moving, random_seed)
        mode = found.theta[found.best]
        assert found.objective is not None
        moving = found.objective.coordinates
        objective = Objective(moving)
        spread = None if found.singular[found.best] else covariance(objective, mode)
        if spread is None:
            raise SpecError(
                "The posterior has no normal approximation: its information at the mode is not "
                "positive definite (see method='em'). Give tighter priors, fewer experts, or use "
                "method='nuts'."
            )
        if not np.diag(spread).all():
            raise SpecError(
                "The posterior has no normal approximation: its mode lies on the kink of a Laplace "
                "prior. Use method='nuts', or another prior."
            )
        rng = np.random.default_rng([random_seed, 1])
        size = self.chains * self.draws
        z = rng.standard_normal((size, len(mode)))
        theta = mode + z @ np.linalg.cholesky(spread).T
        weighed = _weighed(size, design.rows.size * spec.n_experts)
        log_p = objective.value(theta[:weighed])
        log_weight = log_p - found.value[found.best] + 0.5 * (z[:weighed] ** 2).sum(axis=1)
        stats = {"lp": log_p, "log_weight": log_weight} if weighed == size else {}
        result = tree(
            found,
            "posterior of unconstrained values",
            moving.reported_sds(mode, spread),
            moving.variables(theta),
            stats,
            (self.chains, self.draws),
        )
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


def _weighed(size: int, elements: int) -> int:
    return min(size, max(LEAST_WEIGHED, MOST_WEIGHED // elements))


def pareto_k(log_weight: np.ndarray) -> float:
    """Shape of the generalised Pareto distribution of the largest weights; NaN for few draws."""
    from arviz_stats.base import array_stats

    if len(log_weight) < LEAST_FOR_TAIL:
        return float("nan")
    finite = np.where(np.isfinite(log_weight), log_weight, -1e10)
    return float(array_stats.psislw(-finite)[1])  # it takes the log of what weights divide by
