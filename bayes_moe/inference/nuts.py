"""No-U-Turn sampling: nutpie by default, other samplers by argument."""

from __future__ import annotations

from dataclasses import dataclass
from os import cpu_count
from typing import TYPE_CHECKING

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.checks import check_whole
from bayes_moe.core.errors import SpecError, need, unknown
from bayes_moe.data.design import Design
from bayes_moe.graph.mixture_variable import LIKELIHOODS
from bayes_moe.inference.base import Method, no_gradient
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import rectangular
from bayes_moe.results.mode_tree import modes_dataset
from bayes_moe.sampling import chain_starts as start
from bayes_moe.sampling.engine import Engine, SamplingTask

if TYPE_CHECKING:
    import xarray as xr

BACKENDS = {
    "nutpie": ("numba", "jax"),
    "pymc": ("numba",),
    "numpyro": ("jax",),
    "blackjax": ("jax",),
}
"""What may compile the log density for each sampler; the first is the default."""
ADAPTATIONS = {
    "nutpie": ("low_rank", "diag"),
    "pymc": ("diag",),
    "numpyro": ("diag",),
    "blackjax": ("diag",),
}
"""Mass matrices that each sampler adapts; the first is the default."""
AUTO = "auto"
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
        Chains run at the same time; by default as many as there are processors. NumPyro and
        BlackJAX run all at once.
    target_accept : float
        Target acceptance statistic; nearer to 1 means smaller steps.
    adaptation : {"low_rank", "diag"}, optional
        Mass matrix that is adapted: diagonal with a correction for the strongest correlations (the
        default, nutpie only), or diagonal (all that the other samplers have).
    nuts_sampler : {"auto", "nutpie", "pymc", "numpyro", "blackjax"}
        Which implementation samples. ``"auto"`` is nutpie, but PyMC's for a model without a
        gradient, whose trees take steps of their own. The last two need JAX: ``pip install
        bayes_moe[jax]``.
    backend : {"numba", "jax"}, optional
        What compiles the log density; the default is the sampler's own (numba for nutpie).
        JAX runs on a GPU if it sees one.
    likelihood : {"fused", "symbolic"}
        ``"fused"`` computes the mixture and its derivatives in one compiled pass over the rows;
        ``"symbolic"`` leaves them to PyTensor. The density is the same.
    progressbar : bool
        Whether to show progress.

    Notes
    -----
    With nutpie, numba and the fused likelihood, a model whose families all have a kernel is
    sampled without a PyMC graph, and nothing is compiled but the kernels, once a machine. Every
    other choice builds the graph of :func:`bayes_moe.build` and compiles it.

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
    adaptation: str | None = None
    nuts_sampler: str = AUTO
    backend: str | None = None
    likelihood: str = "fused"
    progressbar: bool = True

    def __post_init__(self) -> None:
        if self.nuts_sampler not in (AUTO, *BACKENDS):
            raise SpecError(unknown("nuts_sampler", self.nuts_sampler, BACKENDS))
        sampler = "nutpie" if self.nuts_sampler == AUTO else self.nuts_sampler
        for name, table in (("backend", BACKENDS), ("adaptation", ADAPTATIONS)):
            self._check_setting(name, table[sampler], sampler)
        if self.likelihood not in LIKELIHOODS:
            raise SpecError(unknown("likelihood", self.likelihood, LIKELIHOODS))
        for name, least in LEAST.items():
            if name != "cores" or self.cores is not None:
                check_whole(name, getattr(self, name), least)
        accept = self.target_accept
        if not isinstance(accept, float | np.floating) or not 0 < accept < 1:
            raise SpecError(f"`target_accept` must lie between 0 and 1; it is {accept!r}.")

    def check(self, spec: MixtureOfExperts) -> None:
        sampler = self._sampler(spec)
        for name, table in (("backend", BACKENDS), ("adaptation", ADAPTATIONS)):
            self._check_setting(name, table[sampler], sampler)
        if not spec.has_gradient and sampler != "pymc":
            raise SpecError(no_gradient(spec, f"nuts_sampler={sampler!r}"))

    def _check_setting(self, name: str, valid: tuple[str, ...], sampler: str) -> None:
        given = getattr(self, name)
        if given is not None and given not in valid:
            raise SpecError(
                f"With nuts_sampler={sampler!r}, `{name}` must be "
                f"{' or '.join(map(repr, valid))}; it is {given!r}."
            )

    def _sampler(self, spec: MixtureOfExperts) -> str:
        if self.nuts_sampler != AUTO:
            return self.nuts_sampler
        return "nutpie" if spec.has_gradient else "pymc"

    def run(self, spec: MixtureOfExperts, design: Design, random_seed: int) -> xr.DataTree:
        engine = self._engine(spec)
        begun = start.starts(spec, design, random_seed, self.cores or cpu_count() or 1)
        task = SamplingTask(
            begun,
            random_seed,
            self.draws,
            self.tune,
            self.chains,
            self.cores,
            float(self.target_accept),
            self.adaptation or ADAPTATIONS[self._sampler(spec)][0],
            self.progressbar,
        )
        tree = rectangular(engine.run(task), self.draws, self.chains)
        return _with_modes(tree, begun)

    def _engine(self, spec: MixtureOfExperts) -> Engine:
        sampler = self._sampler(spec)
        backend = self.backend or BACKENDS[sampler][0]
        if backend == "jax":
            for package in ("jax", *({sampler} - {"nutpie"})):
                need(package, "jax")
        if (sampler, backend, self.likelihood) == ("nutpie", "numba", "fused"):
            from bayes_moe.sampling.compiled_density import supports

            if supports(spec):
                from bayes_moe.sampling.nutpie_compiled import Direct

                return Direct()
        from bayes_moe.sampling import graph_samplers as graphs

        if sampler == "nutpie":
            return graphs.Nutpie(self.likelihood, backend)
        if sampler == "pymc":
            return graphs.PyMC(self.likelihood)
        return graphs.Jax(self.likelihood, sampler)


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
