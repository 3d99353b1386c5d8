"""Pathfinder: normal approximations along quasi-Newton paths, combined by importance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import logsumexp

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError, need
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.graph.build import Graph, build_design
from bayes_moe.inference.base import Method, check_jax
from bayes_moe.inference.importance import pareto_k, smoothed, weighed
from bayes_moe.inference.normal_approximation import (
    Normal,
    Reader,
    approximation_tree,
    elbo,
    starts_at_modes,
)
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr

MOST_DRAWS, LEAST_DRAWS = 25, 5
"""Draws for the estimate of the ELBO at every iteration of a path."""
AT_ONCE = 5 * 10**7
"""Draws x iterations x rows x experts of one path, which are evaluated at once in memory."""
SURPLUS = 2
"""Candidates per draw."""
MEMORY = 20
"""Steps in the memory of L-BFGS."""


@dataclass(frozen=True)
class Pathfinder(Method):
    r"""Settings of multi-path Pathfinder.

    Each path is a run of L-BFGS on the posterior density of the unconstrained values (internal
    coefficients, logarithms of positive parameters). The inverse Hessian that L-BFGS estimates
    makes a normal distribution of every iteration, and the one with the largest evidence lower
    bound is the path's (BlackJAX's :func:`blackjax.vi.pathfinder.approximate`). Paths start as the
    chains of NUTS do: at points about the modes of EM, drawn by the modes' mass, with labels in the
    same order.

    Candidates are drawn in equal numbers from all paths' distributions, with weights of the
    posterior against their mixture, so that paths with the same final point do not count twice. The
    weights are Pareto smoothed, and the draws are resampled by them; few candidates are repeated
    where the weights are nearly equal. ``bm.diagnose(fit)`` has the weights' Pareto k and the
    effective number of draws. ``converged`` says that the best path's ELBO is not that of its last
    iteration allowed; the Pareto k says whether the approximation is good. ``sample_stats`` has
    ``lp``, and the ``path`` of each draw.

    Parameters
    ----------
    draws, chains : int
        Draws of each chain, and the number of chains; they are independent but for repetitions.
    paths : int
        Number of paths.
    max_iter : int
        Most iterations of a path.
    progressbar : bool
        Whether to show progress of work longer than a second.

    Notes
    -----
    It needs the extra ``jax``, and memory in proportion to ``max_iter`` times the rows: BlackJAX
    evaluates the approximations of a whole path together.

    References
    ----------
    Zhang, L., Carpenter, B., Gelman, A., & Vehtari, A. (2022). Pathfinder: Parallel quasi-Newton
    variational inference. Journal of Machine Learning Research, 23(306), 1-49.

    Vehtari, A., Simpson, D., Gelman, A., Yao, Y., & Gabry, J. (2024). Pareto smoothed importance
    sampling. Journal of Machine Learning Research, 25(72), 1-58.
    """

    name: ClassVar[str] = "pathfinder"

    draws: int = 1000
    chains: int = 4
    paths: int = 8
    max_iter: int = 100
    progressbar: bool = True

    def __post_init__(self) -> None:
        check_whole("draws", self.draws, 1)
        check_whole("chains", self.chains, 1)
        check_whole("paths", self.paths, 1)
        check_whole("max_iter", self.max_iter, 5)

    def check(self, spec: MixtureOfExperts) -> None:
        super().check(spec)
        check_jax(spec, "method='pathfinder'")

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        need("jax", "jax")
        need("blackjax", "jax")
        starts = starts_at_modes(spec, design, random_seed)
        graph = build_design(spec, design, "fused")
        run_path = _compiled(graph, self.max_iter)
        rng = np.random.default_rng([random_seed, 1])
        results: dict[int, PathResult] = {}
        with progress("Pathfinder", shown=self.progressbar) as update:
            for j in range(self.paths):
                start = graph.to_vector(starts.draw(rng)[1])
                if (result := run_path(start, int(rng.integers(2**31)))) is not None:
                    results[j] = result
                update(j + 1, self.paths)
        if not results:
            raise SpecError(
                "No path has a normal approximation with a finite ELBO: give tighter priors, or "
                "use method='nuts'."
            )
        reader = Reader(graph)
        size = self.chains * self.draws
        candidates = weighed(SURPLUS * size, design.rows.size * spec.n_experts)
        draws = _resampled(results, reader, candidates, size, rng)
        best = max(results.values(), key=lambda result: result.path.max())
        figures = draws.figures | {
            names.ITERATIONS: sum(result.path.size for result in results.values()),
            names.CONVERGED: int(best.path.argmax()) < self.max_iter - 1,
            names.PATHS: len(results),
        }
        remedies = {
            names.ADVICE: "raise max_iter or paths",
            names.BETTER: "Raise paths, or use method='nuts'",
        }
        shape = (self.chains, self.draws)
        return approximation_tree(
            starts, draws.values, draws.stats, shape, figures, best.path, remedies
        )


@dataclass(frozen=True)
class PathResult:
    """Normal distribution of a path, and the ELBO by iteration, ``path``."""

    normal: Normal
    path: np.ndarray


def _compiled(graph: Graph, max_iter: int) -> Callable[[np.ndarray, int], PathResult | None]:
    """Function from a start vector and a seed to the result of a path, compiled by JAX.

    The result is None where no iteration has a finite ELBO.
    """
    import jax
    import jax.numpy as jnp
    from blackjax.vi.pathfinder import approximate
    from pymc.model.transform.optimization import freeze_dims_and_data
    from pymc.sampling.jax import get_jaxified_logp

    frozen = freeze_dims_and_data(graph.model)
    logp = get_jaxified_logp(frozen)
    elements = graph.design.rows.size * graph.spec.n_experts * max_iter
    draws = max(LEAST_DRAWS, min(MOST_DRAWS, AT_ONCE // elements))
    shapes = {name: v.shape for name, v in graph.model.initial_point().items()}
    ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in shapes.values()])[:-1]

    def density(x: jax.Array) -> jax.Array:
        parts = zip(shapes.items(), jnp.split(x, ends), strict=True)
        named = {name: part.reshape(shape) for (name, shape), part in parts}
        return logp([named[v.name] for v in frozen.value_vars])  # freezing changes their order

    @jax.jit
    def path(start: jax.Array, seed: int) -> tuple[jax.Array, ...]:
        best, by_iteration = approximate(
            jax.random.key(seed), density, start, draws, maxiter=max_iter, maxcor=MEMORY
        )
        spread = jnp.diag(best.alpha) + best.beta @ best.gamma @ best.beta.T
        # grad_position is the gradient of minus the log density.
        return best.position - spread @ best.grad_position, spread, by_iteration.path.elbo

    def result(start: np.ndarray, seed: int) -> PathResult | None:
        mean, spread, elbos = (np.asarray(v) for v in path(start, seed))
        elbos = elbos[np.isfinite(elbos)]
        if not (elbos.size and np.isfinite(mean).all() and np.isfinite(spread).all()):
            return None
        try:
            root = np.linalg.cholesky(0.5 * (spread + spread.T))
            return PathResult(Normal(mean, root), elbos)
        except np.linalg.LinAlgError:
            return None

    return result


@dataclass(frozen=True)
class Resampled:
    """Resampled draws, and figures of the weights."""

    values: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    figures: dict[str, float]


def _resampled(
    results: Mapping[int, PathResult],
    reader: Reader,
    candidates: int,
    size: int,
    rng: np.random.Generator,
) -> Resampled:
    """Candidates from all paths in equal numbers, resampled by their smoothed weights."""
    per_path = -(-candidates // len(results))
    normals = [result.normal for result in results.values()]
    points = np.concatenate([normal.draw(per_path, rng) for normal in normals])
    paths = np.repeat(list(results), per_path)
    log_densities = [normal.log_density(points) for normal in normals]
    log_q = logsumexp(log_densities, axis=0) - np.log(len(normals))
    values, log_prior = reader(points)
    log_p = reader.log_density(values, log_prior)
    log_weight = log_p - log_q
    k = pareto_k(log_weight)
    weight = smoothed(log_weight)
    # Systematic resampling: counts differ from their expectation by less than one.
    steps = (rng.random() + np.arange(size)) / size
    chosen = rng.permutation(np.minimum(np.searchsorted(np.cumsum(weight), steps), len(weight) - 1))
    figures = elbo(log_weight) | {names.PARETO_K: k, names.ESS: float(1 / (weight**2).sum())}
    stats = {names.LP: log_p[chosen], names.PATH: paths[chosen]}
    return Resampled({name: v[chosen] for name, v in values.items()}, stats, figures)
