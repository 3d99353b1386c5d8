"""No-U-Turn sampling: nutpie by default, PyMC's own sampler by argument."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from os import cpu_count
from sys import stderr
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe import start
from bayes_moe.errors import SpecError, unknown
from bayes_moe.graph import Graph
from bayes_moe.inference.base import Method
from bayes_moe.results import rectangular

if TYPE_CHECKING:
    import xarray as xr

SAMPLERS = ("nutpie", "pymc")
LEAST = {"draws": 1, "tune": 10, "chains": 1, "cores": 1}
"""Least settings; without any tuning, no step size is known."""


@dataclass(frozen=True)
class NUTS(Method):
    """Settings of the No-U-Turn sampler.

    Parameters
    ----------
    draws, tune, chains : int
        Draws kept and tuning draws of each chain, and the number of chains.
    cores : int, optional
        Chains run at the same time; by default as many as there are processors.
    target_accept : float
        Target acceptance statistic; nearer to 1 means smaller steps.
    nuts_sampler : {"nutpie", "pymc"}
        Which implementation samples.
    progressbar : bool
        Whether to show progress.

    References
    ----------
    Hoffman, M. D., & Gelman, A. (2014). The No-U-Turn sampler. Journal of Machine Learning
    Research, 15, 1593-1623.
    """

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int | None = None
    target_accept: float = 0.9
    nuts_sampler: str = "nutpie"
    progressbar: bool = True

    def __post_init__(self) -> None:
        if self.nuts_sampler not in SAMPLERS:
            raise SpecError(unknown("nuts_sampler", self.nuts_sampler, SAMPLERS))
        for name, least in LEAST.items():
            value = getattr(self, name)
            is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if name == "cores" and value is None:
                continue
            if not is_whole or value < least:
                raise SpecError(f"`{name}` must be a whole number >= {least}; it is {value!r}.")
        accept = self.target_accept
        if not isinstance(accept, float | np.floating) or not 0 < accept < 1:
            raise SpecError(f"`target_accept` must lie between 0 and 1; it is {accept!r}.")

    def run(self, graph: Graph, random_seed: int | None) -> xr.DataTree:
        run = self._nutpie if self.nuts_sampler == "nutpie" else self._pymc
        tree = run(graph, random_seed)
        return rectangular(tree, self.draws, self.chains)

    def _nutpie(self, graph: Graph, random_seed: int | None) -> xr.DataTree:
        import nutpie

        if self.progressbar:
            print(
                "Compiling the model; the first time this takes about half a minute.", file=stderr
            )
        compiled = nutpie.compile_pymc_model(graph.model, backend="numba", freeze_model=False)

        def initial_point(seed: int) -> np.ndarray:
            values = start.point(graph.spec, graph.design, np.random.default_rng(seed))
            point = graph.unconstrained(values)
            return np.concatenate([v.ravel() for v in point.values()])

        compiled = dataclasses.replace(compiled, initial_point_func=initial_point)
        tree: xr.DataTree = nutpie.sample(
            compiled,
            draws=self.draws,
            tune=self.tune,
            chains=self.chains,
            cores=self.cores,
            seed=random_seed,
            target_accept=self.target_accept,
            save_warmup=False,
            progress_bar=self.progressbar,
        )
        return tree

    def _pymc(self, graph: Graph, random_seed: int | None) -> xr.DataTree:
        import pymc as pm

        seeds = np.random.SeedSequence(random_seed).spawn(self.chains)
        initvals: list[Any] = [
            graph.free_values(start.point(graph.spec, graph.design, np.random.default_rng(seed)))
            for seed in seeds
        ]
        cores = self.cores or min(self.chains, cpu_count() or 1)
        try:
            tree: xr.DataTree = pm.sample(
                draws=self.draws,
                tune=self.tune,
                chains=self.chains,
                cores=cores,
                random_seed=random_seed,
                target_accept=self.target_accept,
                nuts_sampler="pymc",
                init="adapt_diag",
                initvals=initvals,
                progressbar=self.progressbar,
                quiet=not self.progressbar,
                compute_convergence_checks=False,
                callback=StopAllChains(self.tune + self.draws) if cores == 1 else None,
                model=graph.model,
            )
        except ValueError as error:
            if "Not enough samples" not in str(error):
                raise
            raise KeyboardInterrupt(str(error)) from error
        return tree


class StopAllChains:
    """Callback for PyMC's sequential sampling, where Ctrl-C ends one chain and the next begins.

    A chain that begins after one that was cut short is stopped at its first draw.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.made: dict[int, int] = {}

    def __call__(self, trace: Any, draw: Any) -> None:
        begins = draw.chain not in self.made
        self.made[draw.chain] = self.made.get(draw.chain, 0) + 1
        earlier = (n for chain, n in self.made.items() if chain < draw.chain)
        if begins and any(n < self.length for n in earlier):
            raise KeyboardInterrupt
