"""No-U-Turn sampling: nutpie by default, PyMC's own sampler by argument."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from os import cpu_count
from sys import stderr
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_moe import names, start
from bayes_moe.design import Design
from bayes_moe.errors import SpecError, unknown
from bayes_moe.graph import Graph, build
from bayes_moe.inference.base import Method, check_whole
from bayes_moe.modal import modes_dataset
from bayes_moe.results import rectangular
from bayes_moe.spec import MixtureOfExperts

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
            if name != "cores" or self.cores is not None:
                check_whole(name, getattr(self, name), least)
        accept = self.target_accept
        if not isinstance(accept, float | np.floating) or not 0 < accept < 1:
            raise SpecError(f"`target_accept` must lie between 0 and 1; it is {accept!r}.")

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        graph = build(spec, design)
        begun = start.starts(spec, design, random_seed, self.cores or cpu_count() or 1)
        run = self._nutpie if self.nuts_sampler == "nutpie" else self._pymc
        tree = rectangular(run(graph, begun, random_seed), self.draws, self.chains)
        return _with_modes(tree, begun)

    def _nutpie(self, graph: Graph, begun: start.Starts, random_seed: int) -> xr.DataTree:
        import nutpie

        if self.progressbar:
            print(
                "Compiling the model; the first time this takes about half a minute.", file=stderr
            )
        compiled = nutpie.compile_pymc_model(graph.model, backend="numba", freeze_model=False)

        drawn: list[tuple[int, np.ndarray]] = []

        def initial_point(seed: int) -> np.ndarray:
            mode, values = begun.draw(np.random.default_rng(seed))
            point = graph.unconstrained(values)
            flat = np.concatenate([v.ravel() for v in point.values()])
            drawn.append((mode, np.concatenate([values[n].ravel() for n in graph.spec.variables])))
            return flat

        compiled = dataclasses.replace(compiled, initial_point_func=initial_point)
        tree: xr.DataTree = nutpie.sample(
            compiled,
            draws=self.draws,
            tune=self.tune,
            chains=self.chains,
            cores=self.cores,
            seed=random_seed,
            target_accept=self.target_accept,
            save_warmup=True,
            progress_bar=self.progressbar,
        )
        return _begun_at(tree, _nearest(_first_draws(tree, graph.spec), drawn))

    def _pymc(self, graph: Graph, begun: start.Starts, random_seed: int) -> xr.DataTree:
        import pymc as pm

        seeds = np.random.SeedSequence(random_seed).spawn(self.chains)
        drawn = [begun.draw(np.random.default_rng(seed)) for seed in seeds]
        initvals: list[Any] = [graph.free_values(values) for _, values in drawn]
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
        return _begun_at(tree, np.array([mode for mode, _ in drawn]))


def _first_draws(tree: xr.DataTree, spec: MixtureOfExperts) -> np.ndarray:
    """Reported variables after the first tuning step (chain, value)."""
    warmup = tree[f"warmup_{names.POSTERIOR}"].to_dataset()
    if not warmup.sizes[names.DRAW]:
        raise KeyboardInterrupt("Sampling was stopped before any draw was made.")
    values = [
        warmup[name].isel({names.DRAW: 0}).transpose(names.CHAIN, ...).values
        for name in spec.variables
    ]
    return np.concatenate([v.reshape(len(v), -1) for v in values], axis=1)


def _nearest(first: np.ndarray, drawn: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """Which start each chain took (chain,): the sampler asks for starts in no certain order.

    A chain's first draw is nearest to its own start, or to one at the same mode.
    """
    points = np.array([point for _, point in drawn])
    scale = points.std(axis=0) + 1e-12 * np.abs(points).max(axis=0) + 1e-300
    distance = (((first[:, None] - points) / scale) ** 2).sum(axis=-1)
    return np.array([drawn[j][0] for j in np.nan_to_num(distance, nan=np.inf).argmin(axis=1)])


def _begun_at(tree: xr.DataTree, modes: np.ndarray) -> xr.DataTree:
    """Record the mode at which each chain began."""
    import xarray as xr

    stats = tree[names.SAMPLE_STATS].to_dataset()
    groups = {
        names.POSTERIOR: tree[names.POSTERIOR].to_dataset(),
        names.SAMPLE_STATS: stats.assign(
            {names.START_MODE: (names.CHAIN, modes[: stats.sizes[names.CHAIN]])}
        ),
    }
    return xr.DataTree.from_dict(groups)


def _with_modes(tree: xr.DataTree, begun: start.Starts) -> xr.DataTree:
    """Add the modes, and the mode uphill of each chain's last draw."""
    import xarray as xr

    posterior = tree[names.POSTERIOR].to_dataset().isel({names.DRAW: -1})
    last = {
        name: posterior[name].transpose(names.CHAIN, ...).values
        for name in begun.moving.spec.variables
    }
    stats = tree[names.SAMPLE_STATS].to_dataset()
    tree[names.SAMPLE_STATS] = xr.DataTree(
        stats.assign({names.END_MODE: (names.CHAIN, begun.mode_of(last))})
    )
    table = modes_dataset(begun.found).assign(mass=(names.MODE, begun.mass))
    tree[names.MODES] = xr.DataTree(table)
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
