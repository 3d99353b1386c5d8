"""Automatic differentiation variational inference by PyMC, started at the posterior mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_share, check_whole
from bayes_moe.core.errors import SpecError
from bayes_moe.core.progress import Progress, progress
from bayes_moe.data.design import Design
from bayes_moe.graph.build import Graph, build_design
from bayes_moe.graph.log_density import GraphLogDensity
from bayes_moe.graph.numpy_mode import mode
from bayes_moe.inference.advi_families import Form, FullRank, MeanField
from bayes_moe.inference.base import Method
from bayes_moe.inference.importance import pareto_k, weighed
from bayes_moe.inference.normal_approximation import (
    Normal,
    Reader,
    approximation_tree,
    elbo,
    starts_at_modes,
)
from bayes_moe.model.memory_rules import check_parts
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors.recurrent import Recurrent
from bayes_moe.sampling.chain_starts import Starts

if TYPE_CHECKING:
    import xarray as xr

BLOCK = 50
"""Iterations over which parameters are averaged."""
CHECK = 500
"""Iterations between checks of convergence, the first after twice as many."""
BATCHES = 10
"""Batches of the batch means estimator of Monte Carlo errors."""
LARGEST_ERROR = 0.05
"""Largest Monte Carlo error of a mean, in standard deviations of the approximation."""
LARGEST_DRIFT = 0.1
"""Largest change of a mean, in standard deviations, and of a logarithm of a standard deviation."""
FAR = 3.0
"""Standard errors by which the mean ELBO of two halves may differ."""


@dataclass(frozen=True)
class ADVIResult:
    """Fitted distribution, ELBO by iteration, and whether it has converged."""

    normal: Normal
    path: np.ndarray
    converged: bool


class ADVIHistory:
    """Average parameters by block of iterations, and the ELBO by iteration."""

    def __init__(self, form: Form, coordinates: int) -> None:
        self.form = form
        self.coordinates = coordinates
        self.elbos: list[np.ndarray] = []
        self.means: list[np.ndarray] = []
        self.settled = False

    @property
    def iterations(self) -> int:
        """Number of iterations so far."""
        return BLOCK * len(self.elbos)

    def add(self, elbos: np.ndarray, means: np.ndarray) -> None:
        """Add the ELBO (iteration,) of a block, and the mean (parameter,) of its parameters."""
        if not np.isfinite(means).all():
            raise SpecError(
                f"ADVI left the region where the density is finite after {self.iterations} "
                "iterations: lower learning_rate, or give tighter priors."
            )
        self.elbos.append(elbos)
        self.means.append(means)
        if self.iterations >= 2 * CHECK and self.iterations % CHECK == 0:
            self.settled = self._has_settled()

    def result(self) -> ADVIResult:
        """Distribution at the average of the parameters over the second half."""
        normal = self._normal(_second_half(self.means))
        return ADVIResult(normal, np.concatenate(self.elbos), self.settled)

    def _normal(self, means: np.ndarray) -> Normal:
        """Distribution at the average of parameters (block, parameter)."""
        average = means.mean(axis=0)
        spread = average[self.coordinates :]
        return Normal(average[: self.coordinates], self.form.root(spread))

    def _has_settled(self) -> bool:
        """Whether means, spreads and ELBO are stable over the second half (Dhaka et al. 2020)."""
        means, elbos = _second_half(self.means), _second_half(self.elbos)
        sds = self._normal(means).sds
        one, two = (self._normal(half) for half in np.array_split(means, 2))
        drift = np.abs(one.mean - two.mean) / sds
        widening = np.abs(np.log(one.sds / two.sds))
        first, second = np.array_split(elbos, 2)
        error = np.sqrt(first.var() / first.size + second.var() / second.size)
        change = abs(first.mean() - second.mean())
        batches = [b.mean(axis=0) for b in np.array_split(means[:, : self.coordinates], BATCHES)]
        errors = np.std(batches, axis=0, ddof=1) / np.sqrt(BATCHES) / sds
        return bool(
            max(drift.max(), widening.max()) <= LARGEST_DRIFT
            and errors.max() <= LARGEST_ERROR
            and change <= FAR * error
        )


def _second_half(blocks: list[np.ndarray]) -> np.ndarray:
    return np.stack(blocks[len(blocks) // 2 :])


@dataclass(frozen=True)
class ADVI(Method):
    r"""Settings of automatic differentiation variational inference.

    A normal distribution ``q`` of the unconstrained values (internal coefficients, logarithms of
    positive parameters) is fitted by maximising the evidence lower bound
    ``ELBO = E_q[log p(y, theta) - log q(theta)]`` through PyMC's :class:`pymc.ADVI`, by Adam, one
    draw of ``theta`` an iteration. It starts at the best mode of ``method="em"`` (of the
    unconstrained values' density), with the spread of the curvature there; PyMC's default start, at
    which all experts are equal, is a saddle point. So it approximates the posterior about one mode.

    The result is the average of the parameters over the second half of the iterations, which is
    less noisy than the last ones (Dhaka et al. 2020). Every 500 iterations, from 1000 on, that half
    is checked. It has converged if its averaged means are known to 0.05 standard deviations of
    ``q`` (batch means), and if between its two halves no mean changes by more than 0.1 standard
    deviations, no standard deviation by more than a tenth, and the mean ELBO by no more than 3
    standard errors. The Pareto k of the weights ``p / q`` measures how close ``q`` is to the
    posterior.

    Independent coordinates (``full_rank=False``) make standard deviations too small where
    coefficients are correlated: for a normal posterior the squared ratio is one minus the squared
    multiple correlation of a coordinate with all others.

    Parameters
    ----------
    draws, chains : int
        Independent draws of each chain, and the number of chains.
    iterations : int
        Most iterations.
    learning_rate : float
        Size of Adam's steps, in units of the spread at the start.
    full_rank : bool
        Whether the approximation has a full covariance matrix.
    batch_size : int, optional
        Rows in the random batch of each iteration; all by default. The log likelihood of a
        batch counts for all rows, so that the ELBO is unbiased. For long tables.
    progressbar : bool
        Whether to show progress of work longer than a second.

    References
    ----------
    Kucukelbir, A., Tran, D., Ranganath, R., Gelman, A., & Blei, D. M. (2017). Automatic
    differentiation variational inference. Journal of Machine Learning Research, 18(14), 1-45.

    Dhaka, A. K., Catalina, A., Andersen, M. R., Magnusson, M., Huggins, J. H., & Vehtari, A.
    (2020). Robust, accurate stochastic optimization for variational inference. Advances in Neural
    Information Processing Systems, 33.

    Yao, Y., Vehtari, A., Simpson, D., & Gelman, A. (2018). Yes, but did it work? Evaluating
    variational inference. Proceedings of the 35th International Conference on Machine Learning.
    """

    name: ClassVar[str] = "advi"

    draws: int = 1000
    chains: int = 4
    iterations: int = 20_000
    learning_rate: float = 0.05
    full_rank: bool = False
    batch_size: int | None = None
    progressbar: bool = True

    def __post_init__(self) -> None:
        check_whole("draws", self.draws, 1)
        check_whole("chains", self.chains, 1)
        check_whole("iterations", self.iterations, 4 * BLOCK)
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size, 2)
        check_share("learning_rate", self.learning_rate)
        if not isinstance(self.full_rank, bool):
            raise SpecError(f"`full_rank` must be True or False; it is {self.full_rank!r}.")

    def check(self, spec: MixtureOfExperts) -> None:
        super().check(spec)
        for site, predictor in spec.structure.sites:
            if isinstance(predictor, Recurrent):
                raise SpecError(
                    f"ADVI is far from the posterior of recurrent networks, whose units may trade "
                    f"places and signs: {predictor!r} of {site.stem!r} is not for it. Use "
                    "method='laplace' or 'map'."
                )

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        _check_batch(self.batch_size, spec, design)
        starts = starts_at_modes(spec, design, random_seed)
        graph = build_design(spec, design, "fused")
        in_batches = self.batch_size is not None and self.batch_size < design.rows.size
        batch_graph = (
            build_design(spec, design, "fused", batch_size=self.batch_size) if in_batches else graph
        )
        mode = graph.to_vector(starts.variables(starts.modes.theta[starts.modes.best]))
        density = GraphLogDensity(graph, jacobian=True)
        # Hyperparameters are fixed at the mode; unit information is about that of their priors.
        information = np.eye(mode.size)
        information[np.ix_(density.free_coordinates, density.free_coordinates)] = (
            density.information(mode)
        )
        form = FullRank() if self.full_rank else MeanField()
        with progress("ADVI", shown=self.progressbar) as update:
            result = self._maximise(form, batch_graph, mode, information, random_seed, update)
        return self._tree(starts, graph, result, random_seed)

    def _maximise(
        self,
        form: Form,
        graph: Graph,
        mode: np.ndarray,
        information: np.ndarray,
        random_seed: int,
        update: Progress,
    ) -> ADVIResult:
        """Maximise the ELBO until it has converged, or for ``iterations``."""
        spread = form.begin(information)
        units = {"mu": np.sqrt((form.root(spread) ** 2).sum(axis=1))}
        units[form.parameter] = form.units(spread)
        start = {"mu": mode, form.parameter: spread}
        step, parameters = _compiled(
            form.method, graph, start, units, self.learning_rate, random_seed
        )
        history = ADVIHistory(form, mode.size)
        while history.iterations < self.iterations and not history.settled:
            losses = np.empty(BLOCK)
            total = np.zeros(mode.size + spread.size)
            for j in range(BLOCK):
                losses[j] = step()
                total += np.concatenate([p.get_value(borrow=True) for p in parameters])
            history.add(-losses, total / BLOCK)
            update(history.iterations, self.iterations)
        return history.result()

    def _tree(
        self, starts: Starts, graph: Graph, result: ADVIResult, random_seed: int
    ) -> xr.DataTree:
        """Tree of draws from the fitted distribution, with importance weights and Pareto k."""
        size = self.chains * self.draws
        points = result.normal.draw(size, np.random.default_rng([random_seed, 1]))
        elements = graph.design.rows.size * graph.spec.n_experts
        n_weighed = weighed(size, elements)
        reader = Reader(graph)
        values, log_prior = reader(points)
        first = {name: v[:n_weighed] for name, v in values.items()}
        log_p = reader.log_density(first, log_prior[:n_weighed])
        log_weight = log_p - result.normal.log_density(points[:n_weighed])
        figures = elbo(log_weight) | {
            names.PARETO_K: pareto_k(log_weight),
            names.ITERATIONS: result.path.size,
            names.CONVERGED: result.converged,
        }
        stats = {names.LP: log_p, names.LOG_WEIGHT: log_weight} if n_weighed == size else {}
        full_rank = "" if self.full_rank else "full_rank=True, "
        remedies = {
            names.ADVICE: "raise iterations, or lower learning_rate",
            names.BETTER: f"Use {full_rank}method='pathfinder' or 'nuts'",
        }
        shape = (self.chains, self.draws)
        return approximation_tree(starts, values, stats, shape, figures, result.path, remedies)


def _check_batch(batch_size: int | None, spec: MixtureOfExperts, design: Design) -> None:
    """Raise :class:`SpecError` where batches cannot be used."""
    if batch_size is None:
        return
    if any(factor.column is not None for factor in spec.structure.factors):
        raise SpecError(
            f"{spec.gate!r} models the features of every row together with the response: "
            "batch_size is not for it. Leave it out, or use method='em' or 'laplace'."
        )
    if spec.row_columns.group is not None:
        raise SpecError(
            "A batch of rows would cut groups that share an expert: leave batch_size out, or use "
            "method='em' or 'laplace'."
        )
    check_parts(spec.structure, "A batch of rows", "Leave batch_size out.")
    if batch_size > design.rows.size:
        raise SpecError(
            f"`batch_size` must be at most the number of rows, {design.rows.size}; it is "
            f"{batch_size}."
        )


def _compiled(
    method: str,
    graph: Graph,
    start: Mapping[str, np.ndarray],
    units: Mapping[str, np.ndarray],
    learning_rate: float,
    random_seed: int,
) -> tuple[Callable[[], Any], list[Any]]:
    """PyMC's step, which returns minus an estimate of the ELBO, and the parameters it updates.

    It runs in NumPy: numba takes twenty seconds to compile, more than a few thousand steps of half
    a millisecond can save.
    """
    import pymc as pm
    from pymc.variational.updates import adam

    with graph.model:
        inference = getattr(pm, method)(random_seed=random_seed)
    inference.approx.scale_cost_to_minibatch = False
    params = {p.name: p for p in inference.approx.params}
    for name, value in start.items():
        params[name].set_value(value)

    def optimizer(gradients: Any, parameters: Any) -> dict[Any, Any]:
        updates: dict[Any, Any] = {}
        for gradient, p in zip(gradients, parameters, strict=True):
            updates |= adam([gradient], [p], learning_rate=learning_rate * units[p.name])
        return updates

    step = inference.objective.step_function(
        score=True, obj_optimizer=optimizer, compile_kwargs={"mode": mode()}
    )
    return step, [params[name] for name in start]
