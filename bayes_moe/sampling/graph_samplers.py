"""Samplers of the PyMC model: nutpie, PyMC, NumPyro and BlackJAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from warnings import catch_warnings, filterwarnings

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.progress import announced
from bayes_moe.graph.build import Graph, build_design
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.results.draws import nothing_drawn
from bayes_moe.sampling.engine import (
    Engine,
    SamplingTask,
    StartPoints,
    sample_nutpie,
    sampler_groups,
)

if TYPE_CHECKING:
    import xarray as xr

DEEPEST = 10
"""Largest tree depth of NumPyro and BlackJAX, which do not report that it was reached."""
START_FUNCTIONS = {"numba": "initial_point_func", "jax": "_make_initial_points"}
"""Nutpie's attribute with the function from a seed to a starting point, by backend."""


@dataclass(frozen=True)
class OnGraph(Engine):
    """A sampler of the PyMC model. ``likelihood`` is that of :func:`bayes_moe.build`.

    ``replaceable`` is whether the model's numbers are shared variables, so that one compiled model
    serves other data.
    """

    likelihood: str
    replaceable: ClassVar[bool] = False

    def graph(self, task: SamplingTask) -> Graph:
        """The PyMC model of a task."""
        starts = task.starts
        return build_design(
            starts.spec, starts.design, self.likelihood, replaceable=self.replaceable
        )


@dataclass(frozen=True)
class Nutpie(OnGraph):
    """nutpie on the graph, compiled by numba or JAX."""

    backend: str
    replaceable = True

    def run(self, task: SamplingTask) -> xr.DataTree:
        graph = self.graph(task)
        compiled = self._compiled(graph, task.progressbar)
        points = StartPoints(task.starts, graph.to_vector)
        compiled = dataclasses.replace(compiled, **{START_FUNCTIONS[self.backend]: points})
        tree: xr.DataTree = sample_nutpie(compiled, task)
        return _groups(tree, points.modes(_first_draws(tree, graph.spec)), graph.spec)

    def _compiled(self, graph: Graph, shown: bool) -> Any:
        """Nutpie's compiled model of the graph: cached by structure, with the graph's data."""
        import nutpie

        key = (graph.structure, self.likelihood, self.backend)
        if key not in _COMPILED:
            message = "Compiling the model: this can take half a minute."
            with announced(message, shown=shown), catch_warnings():
                # JAX cannot run PyTensor's checks of shapes; those of a design are consistent.
                filterwarnings("ignore", "Skipping Assert", UserWarning)
                _COMPILED[key] = nutpie.compile_pymc_model(
                    graph.model, backend=self.backend, freeze_model=False
                )
            while len(_COMPILED) > KEPT:
                _COMPILED.pop(next(iter(_COMPILED)))
        return _COMPILED[key].with_data(**graph.data(_shared(_COMPILED[key])))


_COMPILED: dict[Hashable, Any] = {}
"""Compiled models by structure, the oldest first; each with the data it was compiled with."""
KEPT = 8
"""Largest number of cached models."""


def _shared(compiled: Any) -> list[str]:
    """Names of the shared variables of a compiled model."""
    if hasattr(compiled, "shared_var_keys"):
        return [variable.name for variable in compiled.shared_var_keys]
    # Nutpie's model for JAX has no public attribute with these names, and `with_data` raises an
    # error for any other name.
    return list(compiled._shared_data)


@dataclass(frozen=True)
class PyMC(OnGraph):
    """PyMC's own sampler."""

    def run(self, task: SamplingTask) -> xr.DataTree:
        import pymc as pm

        graph = self.graph(task)
        modes, initvals = _initial(graph, task)
        steps = None
        if not graph.spec.structure.has_gradient:
            from bayes_moe.sampling import bart_steps as forests

            with announced("Compiling the steps of the trees.", shown=task.progressbar):
                steps = forests.steps(graph)
        own = {value for step in steps or () for value in step.vars}
        # PyMC refuses settings of a sampler that has no variable left.
        of_nuts: dict[str, Any] = {}
        if set(graph.model.value_vars) - own:
            of_nuts = {"target_accept": task.target_accept}
        stop = StopAllChains(task.tune + task.draws) if task.parallel == 1 else None
        try:
            tree: xr.DataTree = pm.sample(
                draws=task.draws,
                tune=task.tune,
                chains=task.chains,
                cores=task.parallel,
                random_seed=task.random_seed,
                **of_nuts,
                nuts_sampler="pymc",
                init="adapt_diag",  # without jitter of the starting points
                initvals=initvals,
                step=steps,
                progressbar=task.progressbar,
                quiet=not task.progressbar,
                compute_convergence_checks=False,
                callback=stop,
                model=graph.model,
            )
        except ValueError as error:
            # PyMC's error after an interrupt before every chain has a draw.
            if "Not enough samples" not in str(error):
                raise
            raise KeyboardInterrupt(str(error)) from error
        if steps is not None:
            tree = forests.with_trees(tree, graph)
        return _groups(tree, modes, graph.spec)


@dataclass(frozen=True)
class Jax(OnGraph):
    """NumPyro or BlackJAX on the graph, compiled by JAX; on a GPU if JAX sees one."""

    sampler: str

    def run(self, task: SamplingTask) -> xr.DataTree:
        import jax
        from pymc.model.transform.optimization import freeze_dims_and_data
        from pymc.sampling.jax import sample_jax_nuts

        graph = self.graph(task)
        modes, initvals = _initial(graph, task)
        tree: xr.DataTree = sample_jax_nuts(
            draws=task.draws,
            tune=task.tune,
            chains=task.chains,
            target_accept=task.target_accept,
            random_seed=task.random_seed,
            initvals=initvals,
            jitter=False,
            model=freeze_dims_and_data(graph.model),  # JAX needs static shapes
            progressbar=task.progressbar,
            quiet=not task.progressbar,
            chain_method="parallel" if jax.local_device_count() >= task.chains else "vectorized",
            compute_convergence_checks=False,
            nuts_sampler=self.sampler,
        )
        depth = tree[names.SAMPLE_STATS].to_dataset()["tree_depth"]
        tree[names.SAMPLE_STATS] = tree[names.SAMPLE_STATS].assign(
            reached_max_treedepth=depth >= DEEPEST
        )
        return _groups(tree, modes, graph.spec)


def _initial(graph: Graph, task: SamplingTask) -> tuple[np.ndarray, list[Any]]:
    """Mode (chain,) at which each chain starts, and its values of the model's free variables."""
    seeds = np.random.SeedSequence(task.random_seed).spawn(task.chains)
    drawn = [task.starts.draw(np.random.default_rng(seed)) for seed in seeds]
    return np.array([mode for mode, _ in drawn]), [graph.free_values(v) for _, v in drawn]


def _groups(tree: xr.DataTree, modes: np.ndarray, spec: MixtureOfExperts) -> xr.DataTree:
    """Groups of an engine, from a sampler's groups."""
    posterior, stats = (tree[group].to_dataset() for group in (names.POSTERIOR, names.SAMPLE_STATS))
    if spec.structure.constraints:  # free variables of the graph that only determine others
        posterior = posterior[[n for n in spec.structure.dims if n in posterior]]
    return sampler_groups(posterior, stats, modes)


def _first_draws(tree: xr.DataTree, spec: MixtureOfExperts) -> dict[str, np.ndarray]:
    """Reported variables after the first tuning step (chain, ...)."""
    warmup = tree[f"warmup_{names.POSTERIOR}"].to_dataset()
    if not warmup.sizes[names.DRAW]:
        raise nothing_drawn()
    first = warmup.isel({names.DRAW: 0})
    return {name: first[name].transpose(names.CHAIN, ...).values for name in spec.variables}


class StopAllChains:
    """Callback for PyMC's sequential sampling, where Ctrl-C ends one chain and the next starts.

    A chain that starts after an interrupted one is stopped at its first draw.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.drawn: dict[int, int] = {}

    def __call__(self, trace: Any, draw: Any) -> None:
        is_first = draw.chain not in self.drawn
        self.drawn[draw.chain] = self.drawn.get(draw.chain, 0) + 1
        earlier = (n for chain, n in self.drawn.items() if chain < draw.chain)
        if is_first and any(n < self.length for n in earlier):
            raise KeyboardInterrupt
