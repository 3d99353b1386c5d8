"""No-U-Turn sampling by nutpie, PyMC, NumPyro or BlackJAX, with chains started at modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import cpu_count
from typing import TYPE_CHECKING, ClassVar

from bayes_moe.core import names
from bayes_moe.core.checks import check_one_of, check_whole, is_number
from bayes_moe.core.errors import SpecError, need
from bayes_moe.data.design import Design
from bayes_moe.graph.mixture_variable import LIKELIHOODS
from bayes_moe.inference.base import Method, check_jax, no_gradient
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import rectangular
from bayes_moe.results.mode_tree import modes_dataset
from bayes_moe.sampling import chain_starts, graph_samplers
from bayes_moe.sampling.engine import Engine, SamplingTask

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Sampler:
    """Implementation of NUTS: compilers of the log density, mass matrices, and its engine.

    The first backend and the first adaptation are the defaults; ``engine`` makes the engine of a
    likelihood and a backend.
    """

    backend: tuple[str, ...]
    adaptation: tuple[str, ...]
    engine: Callable[[str, str], Engine]


AUTO = "auto"
SAMPLERS = {
    "nutpie": Sampler(("numba", "jax"), ("low_rank", "diag"), graph_samplers.Nutpie),
    "pymc": Sampler(("numba",), ("diag",), lambda likelihood, _: graph_samplers.PyMC(likelihood)),
    "numpyro": Sampler(
        ("jax",), ("diag",), lambda likelihood, _: graph_samplers.Jax(likelihood, "numpyro")
    ),
    "blackjax": Sampler(
        ("jax",), ("diag",), lambda likelihood, _: graph_samplers.Jax(likelihood, "blackjax")
    ),
}
LEAST = {"draws": 1, "tune": 10, "chains": 1, "cores": 1}
"""Least settings; without any tuning, no step size is known."""
OPTIONAL = {"tune", "cores"}
"""Settings that may be None."""


@dataclass(frozen=True)
class NUTS(Method):
    """Settings of the No-U-Turn sampler.

    Parameters
    ----------
    draws, chains : int
        Draws kept of each chain, and the number of chains.
    tune : int, optional
        Tuning draws of each chain; by default 1000, or 200 in coordinates of the normal
        approximation at a mode (see Notes).
    cores : int, optional
        Chains run at the same time; by default as many as there are processors. NumPyro and
        BlackJAX run all at once.
    target_accept : float, optional
        Target acceptance statistic; nearer to 1 means smaller steps. By default 0.9, or 0.8 in
        coordinates of the normal approximation at a mode (see Notes).
    adaptation : {"low_rank", "diag"}, optional
        Mass matrix: diagonal with a correction for the strongest correlations (nutpie's default
        but for random effects; see Notes), or diagonal (the only one of the other samplers).
    nuts_sampler : {"auto", "nutpie", "pymc", "numpyro", "blackjax"}
        Implementation. ``"auto"`` is nutpie, but PyMC's for a model without a gradient, whose
        trees are sampled by PGBART steps. The last two need JAX: ``pip install
        bayes_moe[jax]``.
    backend : {"numba", "jax"}, optional
        Compiler of the log density; the default is the sampler's (numba for nutpie). JAX runs on
        a GPU if one is available.
    likelihood : {"fused", "symbolic"}
        ``"fused"`` computes the mixture and its derivatives in one compiled pass over the rows;
        ``"symbolic"`` through PyTensor's graph. The density is the same.
    progressbar : bool
        Whether to show progress.

    Notes
    -----
    With nutpie, numba and the fused likelihood, a model of linear predictors or networks, whose
    families all have a kernel, is sampled without a PyMC graph, and only the kernels are compiled,
    once per machine. Every other choice builds the graph of :func:`bayes_moe.build` and compiles
    it.

    Without a graph, the coordinates are those of the normal approximation at a mode that has all
    of the posterior's mass. Where a family has a shape parameter, such as Student's degrees of
    freedom, they are only if the posterior is nearly normal along it: in a long tail, steps made
    for the mode diverge. With random effects, whose number makes a mass matrix of low rank slow to
    adapt, they are those of a normal approximation near the mode with the largest mass, a block
    for each group, and the mass matrix is diagonal by default.

    References
    ----------
    Hoffman, M. D., & Gelman, A. (2014). The No-U-Turn sampler. Journal of Machine Learning
    Research, 15, 1593-1623.
    """

    name: ClassVar[str] = "nuts"

    draws: int = 1000
    tune: int | None = None
    chains: int = 4
    cores: int | None = None
    target_accept: float | None = None
    adaptation: str | None = None
    nuts_sampler: str = AUTO
    backend: str | None = None
    likelihood: str = "fused"
    progressbar: bool = True

    def __post_init__(self) -> None:
        if self.nuts_sampler != AUTO:
            check_one_of("nuts_sampler", self.nuts_sampler, SAMPLERS)
        self._check_sampler("nutpie" if self.nuts_sampler == AUTO else self.nuts_sampler)
        check_one_of("likelihood", self.likelihood, LIKELIHOODS)
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None or name not in OPTIONAL:
                check_whole(name, value, least)
        target = self.target_accept
        if target is not None and not (is_number(target) and 0 < target < 1):
            raise SpecError(
                f"`target_accept` must lie between 0 and 1; it is {self.target_accept!r}."
            )

    def check(self, spec: MixtureOfExperts) -> None:
        sampler = self._sampler(spec)
        self._check_sampler(sampler)
        if not spec.structure.has_gradient and sampler != "pymc":
            raise SpecError(no_gradient(spec, f"nuts_sampler={sampler!r}"))
        if self._backend(sampler) == "jax":
            setting = "backend='jax'" if sampler == "nutpie" else f"nuts_sampler={sampler!r}"
            check_jax(spec, setting)

    def _backend(self, sampler: str) -> str:
        """Compiler of the log density for a sampler."""
        return self.backend or SAMPLERS[sampler].backend[0]

    def _check_sampler(self, sampler: str) -> None:
        """Raise :class:`SpecError` for settings that a sampler does not have."""
        for name in ("backend", "adaptation"):
            value, valid = getattr(self, name), getattr(SAMPLERS[sampler], name)
            if value is not None and value not in valid:
                raise SpecError(
                    f"With nuts_sampler={sampler!r}, `{name}` must be "
                    f"{' or '.join(map(repr, valid))}; it is {value!r}."
                )

    def _sampler(self, spec: MixtureOfExperts) -> str:
        """Name of the sampler of a model."""
        if self.nuts_sampler != AUTO:
            return self.nuts_sampler
        return "nutpie" if spec.structure.has_gradient else "pymc"

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        engine = self._engine(spec)
        starts = chain_starts.starts(spec, design, random_seed, self.cores or cpu_count() or 1)
        tuning = engine.tuning(starts)
        task = SamplingTask(
            starts,
            random_seed,
            self.draws,
            tuning.tune if self.tune is None else self.tune,
            self.chains,
            self.cores,
            float(tuning.target_accept if self.target_accept is None else self.target_accept),
            self.adaptation or tuning.adaptation or SAMPLERS[self._sampler(spec)].adaptation[0],
            self.progressbar,
        )
        tree = rectangular(engine.run(task), self.draws, self.chains)
        return _with_modes(tree, starts)

    def _engine(self, spec: MixtureOfExperts) -> Engine:
        """Engine of a model; JAX and its samplers are extras, imported only where used."""
        sampler = self._sampler(spec)
        backend = self._backend(sampler)
        if backend == "jax":
            for package in ("jax", *({sampler} - {"nutpie"})):
                need(package, "jax")
        if (sampler, backend, self.likelihood) == ("nutpie", "numba", "fused"):
            from bayes_moe.sampling.marginal_sampler import MarginalEngine, has_exact_integrals

            if has_exact_integrals(spec):
                return MarginalEngine()
            from bayes_moe.optimize.densities import has_compiled_network
            from bayes_moe.sampling.compiled_density import supports

            if supports(spec) or has_compiled_network(spec):
                from bayes_moe.sampling.nutpie_compiled import Direct

                return Direct()
        return SAMPLERS[sampler].engine(self.likelihood, backend)


def _with_modes(tree: xr.DataTree, starts: chain_starts.Starts) -> xr.DataTree:
    """Tree with the modes, and the mode reached uphill from each chain's last draw."""
    import xarray as xr

    posterior = tree[names.POSTERIOR].to_dataset().isel({names.DRAW: -1})
    last = {
        name: posterior[name].transpose(names.CHAIN, ...).values for name in starts.spec.variables
    }
    stats = tree[names.SAMPLE_STATS].to_dataset()
    tree[names.SAMPLE_STATS] = xr.DataTree(
        stats.assign({names.END_MODE: (names.CHAIN, starts.mode_of(last))})
    )
    table = modes_dataset(starts.modes).assign({names.MASS: (names.MODE, starts.mass)})
    tree[names.MODES] = xr.DataTree(table)
    return tree
