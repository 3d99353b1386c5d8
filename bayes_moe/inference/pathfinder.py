"""Pathfinder: normal approximations along quasi-Newton paths, weighed against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError, need
from bayes_moe.core.progress import progress
from bayes_moe.data.design import Design
from bayes_moe.graph.build import Graph, build_design
from bayes_moe.inference.base import Method
from bayes_moe.inference.importance import LEAST_WEIGHED, MOST_WEIGHED, pareto_k, smoothed
from bayes_moe.inference.normal_approximation import Normal, Reader, begin, elbo, report
from bayes_moe.model.spec import MixtureOfExperts

if TYPE_CHECKING:
    import xarray as xr

MOST_DRAWS, LEAST_DRAWS = 25, 5
"""Draws by which an approximation's ELBO is estimated, at every iteration of a path."""
AT_ONCE = 5 * 10**7
"""Draws x iterations x rows x experts that fit into memory: a path's are evaluated together."""
SURPLUS = 2
"""Candidates a draw."""
MEMORY = 20
"""Steps that L-BFGS remembers."""


@dataclass(frozen=True)
class Pathfinder(Method):
    r"""Settings of multi-path Pathfinder.

    Each path is a climb by L-BFGS on the posterior density of the unconstrained values (internal
    coefficients, logarithms of positive parameters). The inverse Hessian that L-BFGS estimates
    makes a normal distribution of every iteration, and the one with the largest evidence lower
    bound is the path's (BlackJAX's :func:`blackjax.vi.pathfinder.approximate`). Paths begin as the
    chains of NUTS do: at points about the modes that EM finds, drawn by the modes' mass, with
    labels in the same order.

    Candidates are drawn from all paths' distributions alike, with weights of the posterior against
    the mixture of all of them, so that paths which end in the same place do not count twice. The
    weights are Pareto smoothed, and the draws are resampled by them; where many candidates are
    alike in weight few are repeated. ``bm.diagnose(fit)`` has the weights' Pareto k and the number
    of independent draws that they are worth. ``converged`` says that the best path's ELBO is not
    that of its last iteration allowed; whether the answer is good, the Pareto k says.
    ``sample_stats`` has ``lp``, and the ``path`` whose candidate a draw was.

    Parameters
    ----------
    draws, chains : int
        Draws of each chain, and the number of chains; they are independent but for repetitions.
    paths : int
        Number of paths.
    max_iter : int
        Most iterations of a path.
    progressbar : bool
        Whether to show progress, if there is something to wait for.

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

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        need("jax", "jax")
        need("blackjax", "jax")
        begun = begin(spec, design, random_seed)
        graph = build_design(spec, design, "fused")
        follow = _compiled(graph, self.max_iter)
        rng = np.random.default_rng([random_seed, 1])
        ends = []
        with progress("Pathfinder", shown=self.progressbar) as tell:
            for j in range(self.paths):
                start = graph.flat(begun.draw(rng)[1])
                ends.append(follow(start, int(rng.integers(2**31))))
                tell(j + 1, self.paths)
        if not any(end is not None for end in ends):
            raise SpecError(
                "No path has a normal approximation with a finite ELBO: give tighter priors, or "
                "use method='nuts'."
            )
        reader = Reader(graph)
        size = self.chains * self.draws
        most = max(LEAST_WEIGHED, MOST_WEIGHED // (design.rows.size * spec.n_experts))
        usable = {j: end for j, end in enumerate(ends) if end is not None}
        chosen = _resampled(usable, reader, min(SURPLUS * size, most), size, rng)
        best = max(usable.values(), key=lambda end: end.path.max())
        figures = chosen.figures | {
            "iterations": sum(end.path.size for end in usable.values()),
            "converged": int(best.path.argmax()) < self.max_iter - 1,
            "paths": len(usable),
        }
        words = {
            "advice": "raise max_iter or paths",
            "better": "Raise paths, or use method='nuts'",
        }
        shape = (self.chains, self.draws)
        return report(begun, chosen.values, chosen.stats, shape, figures, best.path, words)


@dataclass(frozen=True)
class End:
    """A path's normal distribution, and the ELBO at each of its iterations."""

    normal: Normal
    path: np.ndarray


def _compiled(graph: Graph, max_iter: int) -> Callable[[np.ndarray, int], End | None]:
    """Return a function that follows a path from a vector, with a seed; compiled by JAX.

    It returns None where no iteration has a finite ELBO.
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
        return logp([named[v.name] for v in frozen.value_vars])  # freezing turns them about

    @jax.jit
    def follow(start: jax.Array, seed: int) -> tuple[jax.Array, ...]:
        best, all_of_it = approximate(
            jax.random.key(seed), density, start, draws, maxiter=max_iter, maxcor=MEMORY
        )
        spread = jnp.diag(best.alpha) + best.beta @ best.gamma @ best.beta.T
        # The gradient that L-BFGS keeps is that of minus the log density.
        return best.position - spread @ best.grad_position, spread, all_of_it.path.elbo

    def end(start: np.ndarray, seed: int) -> End | None:
        mean, spread, path = (np.asarray(v) for v in follow(start, seed))
        path = path[np.isfinite(path)]
        if not (path.size and np.isfinite(mean).all() and np.isfinite(spread).all()):
            return None
        try:
            return End(Normal(mean, np.linalg.cholesky(0.5 * (spread + spread.T))), path)
        except np.linalg.LinAlgError:
            return None

    return end


@dataclass(frozen=True)
class Resampled:
    """Draws by importance, and the weights' figures."""

    values: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    figures: dict[str, float]


def _resampled(
    ends: Mapping[int, End], reader: Reader, candidates: int, size: int, rng: np.random.Generator
) -> Resampled:
    """Draw candidates from all paths alike, and resample them by their smoothed weights."""
    share = -(-candidates // len(ends))
    points = np.concatenate([end.normal.draw(share, rng) for end in ends.values()])
    paths = np.repeat(list(ends), share)
    each = [end.normal.log_density(points) for end in ends.values()]
    log_q = logsumexp(each, axis=0) - np.log(len(ends))
    values, log_prior = reader(points)
    log_p = reader.log_density(values, log_prior)
    log_weight = log_p - log_q
    k = pareto_k(log_weight)
    weight = smoothed(log_weight)
    # Systematic resampling: a candidate comes back as often as its weight says, but for rounding.
    steps = (rng.random() + np.arange(size)) / size
    chosen = rng.permutation(np.minimum(np.searchsorted(np.cumsum(weight), steps), len(weight) - 1))
    figures = elbo(log_weight) | {"pareto_k": k, "ess": float(1 / (weight**2).sum())}
    stats = {"lp": log_p[chosen], "path": paths[chosen]}
    return Resampled({name: v[chosen] for name, v in values.items()}, stats, figures)
