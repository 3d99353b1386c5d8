"""Step of PyMC for sums of trees: particle Gibbs of pymc-bart, one sampler for each expert.

pymc-bart's own step samples one sum of trees, or several with the same splits; it seeds all chains
alike, continues from the last chain where chains run one after another, and stores the trees with
the model in no defined order of chains. Here each expert of a block has its own trees, every chain
has its own seed, and the trees are among the statistics of the draws. Before the first draw of a
chain, the trees are replaced several times at the initial values of the other parameters.

Importing this module imports pymc-bart.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from bartrs.bartrs import PyBartSettings, PySampler
from bartrs.compile_pymc import CompiledPyMCModel
from bartrs.pgbart import calculate_max_tree_depth
from numba import carray, cfunc, types
from pymc.step_methods.arraystep import ArrayStepShared

from bayes_moe.core import names
from bayes_moe.graph.build import Graph
from bayes_moe.kernels.compile import doubles
from bayes_moe.predictors import BART, Binding, Site
from bayes_moe.predictors.bart_trees import Cuts, History, Nodes, packed

if TYPE_CHECKING:
    import xarray as xr

STAT = "trees"
RECORD_EVERY = 100
"""Draws between records: each takes time in proportion to all draws so far."""
FIRST_SWEEPS = 20
"""How often each tree is replaced before the first draw."""
DEEPEST_CHANCE = 0.99
"""Chance of a leaf at the largest depth, as in pymc-bart."""


@dataclass(frozen=True)
class TreeRecord:
    """Changes of the trees of one variable since its last record, by expert.

    The first record of a chain has the trees before its first draw.
    """

    variable: str
    experts: tuple[History, ...]


@dataclass(frozen=True)
class BartSettings:
    """Settings of a sampler of trees: prior, columns and initial values.

    The initial trees are the mean of ``target`` (obs,), and the standard deviation of the leaves
    is proportional to that of ``target``, which must be positive.
    """

    bart: BART
    columns: Cuts
    target: np.ndarray

    def sampler(self, density: int, seed: int) -> Any:
        """Return a sampler of one sum of trees; ``density`` is the address of its log density."""
        bart = self.bart
        settings = PyBartSettings(
            n_trees=bart.trees,
            n_particles=bart.particles,
            max_depth=calculate_max_tree_depth(bart.alpha, bart.beta, DEEPEST_CHANCE),
            alpha=bart.alpha,
            beta=bart.beta,
            sigma=float(self.target.std()) / bart.trees**0.5,
            n_outputs=1,
            split_prior=np.arange(1.0, len(self.columns.levels) + 1).tolist(),  # cumulated
            split_rules=self.columns.rules,
            response_rule="constant",
            resampling_rule="systematic",
            batch_tune=bart.batch,
            batch_post=bart.batch,
            seed=seed,
            n_draws=0,
        )
        # The Rust sampler reads features by columns.
        features = np.asfortranarray(self.columns.values)
        return PySampler.init(x=features, y=self.target, model=density, settings=settings)


class PGBARTStep(ArrayStepShared):
    """Step of one variable (expert, obs) of sums of trees."""

    name = "trees"
    stats_dtypes_shapes: ClassVar[dict[str, Any]] = {STAT: (object, [])}

    def __init__(
        self, vars: Any, settings: BartSettings, model: Any = None, blocked: bool = True, **_: Any
    ) -> None:
        self.model, self.settings = model, settings
        self.values = [model.rvs_to_values.get(v, v) for v in vars]
        self._compile()
        super().__init__(self.values, self.compiled.shared, blocked=blocked)

    def _compile(self) -> None:
        self.compiled = CompiledPyMCModel(self.model, self.values)
        self.current = np.zeros(self.model.initial_point()[self.values[0].name].shape)
        self.densities = [
            _density(self.compiled, self.current, k) for k in range(len(self.current))
        ]
        self.samplers: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        # Addresses of compiled functions are valid in one process only.
        compiled = ("compiled", "current", "densities", "samplers", "shared")
        return {k: v for k, v in self.__dict__.items() if k not in compiled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()
        self.shared = {variable.name: v for variable, v in self.compiled.shared.items()}

    def setup_chain(self, rng: Any, tune: int, draws: int) -> None:
        super().setup_chain(rng, tune, draws)
        self.tune, self.draws, self.made, self.fresh = tune > 0, draws, 0, True
        seeds = rng.integers(2**63, size=len(self.densities))
        self.samplers = [
            self.settings.sampler(density.address, int(seed))
            for density, seed in zip(self.densities, seeds, strict=True)
        ]
        self.known = [0] * len(self.samplers)

    def astep(self, q0: Any) -> tuple[np.ndarray, list[dict[str, Any]]]:
        self.compiled.update_shared_arrays()
        if self.fresh:
            self.current[:] = q0.data.reshape(self.current.shape)
            self._sweep(int(np.ceil(FIRST_SWEEPS / self.settings.bart.batch)), tune=True)
            self.fresh = False
        self._sweep(1, tune=self.tune)
        self.made += not self.tune
        due = not self.tune and (self.made % RECORD_EVERY == 0 or self.made == self.draws)
        return self.current.ravel().copy(), [{STAT: self._record() if due else None}]

    def _sweep(self, times: int, *, tune: bool) -> None:
        """Replace a batch of trees of each expert, ``times`` times, given the other experts'."""
        for k, sampler in enumerate(self.samplers):
            for _ in range(times):
                values, _ = sampler.step(tune)
            self.current[k] = np.asarray(values).reshape(-1)

    def _record(self) -> TreeRecord:
        experts = []
        for k, sampler in enumerate(self.samplers):
            batches = sampler.all_batches[self.known[k] :]
            initial = () if self.known[k] else tuple(map(self._nodes, sampler.baseline_forest))
            self.known[k] += len(batches)
            replaced = tuple((first, tuple(map(self._nodes, new))) for first, new in batches)
            experts.append(History(initial, replaced))
        return TreeRecord(self.values[0].name, tuple(experts))

    def _nodes(self, tree: Any) -> Nodes:
        return self.settings.columns.nodes(tree.split_var, tree.split_val, tree.leaf_val)


def _density(compiled: Any, current: np.ndarray, k: int) -> Any:
    """Compiled log density of the values (obs,) of expert ``k``, at the others' current ones.

    A call writes the values into the expert's row of ``current``.
    """
    joint = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_int)(
        compiled.get_function_pointer()
    )
    address, size, obs = current.ctypes.data, current.size, current.shape[1]
    start = k * obs

    def density(values: Any, count: int) -> float:
        point = doubles(address, size)
        point[start : start + count] = carray(values, (count,))
        return joint(point.ctypes, size)

    signature = types.float64(types.CPointer(types.float64), types.intc)
    return cfunc(signature)(density)


def steps(graph: Graph) -> list[PGBARTStep]:
    """Return the steps of a model's sums of trees; each takes seconds to compile."""
    model = graph.model
    return [
        PGBARTStep([model[b.site.raw]], settings=_settings(b, predictor), model=model)
        for b, predictor in _forests(graph)
    ]


def with_trees(tree: xr.DataTree, graph: Graph) -> xr.DataTree:
    """Return the groups of a sampler, with the trees of the draws in the posterior.

    Raises
    ------
    RuntimeError
        If the trees do not give the drawn values: another pymc-bart may split in another way.
    """
    posterior, stats = (tree[group].to_dataset() for group in (names.POSTERIOR, names.SAMPLE_STATS))
    records = stats[STAT].transpose(names.CHAIN, names.DRAW, ...).values
    lead = (names.CHAIN, names.DRAW)
    for b, predictor in _forests(graph):
        site = b.site
        arrays = packed(_histories(records, site), posterior.sizes[names.DRAW])
        dims = predictor.variables(site).dims
        posterior = posterior.assign(
            {n: ((*lead, *d), a) for (n, d), a in zip(dims.items(), arrays, strict=True)}
        )
        drawn = posterior[site.raw].transpose(*lead, site.dim, names.OBS).values
        _check(b, predictor, arrays, drawn)
    import xarray as xr

    groups = {names.POSTERIOR: posterior, names.SAMPLE_STATS: stats.drop_vars(STAT)}
    return xr.DataTree.from_dict(groups)


def _check(
    b: Binding, predictor: BART, arrays: tuple[np.ndarray, np.ndarray], drawn: np.ndarray
) -> None:
    """Compare the last known trees of each chain with what was drawn (chain, draw, expert, obs)."""
    known = np.isfinite(arrays[1]).all(axis=(2, 3))
    chains = np.flatnonzero(known.any(axis=1))
    last = known.cumsum(axis=1).argmax(axis=1)[chains]
    variables = predictor.variables(b.site)
    draws = {v.name: a[chains, last] for v, a in zip(variables, arrays, strict=True)}
    values, expected = predictor.evaluate(b, draws), drawn[chains, last]
    if not np.allclose(values, expected, rtol=1e-6, atol=1e-6 * (1e-300 + np.abs(expected).max())):
        raise RuntimeError(
            "The trees that pymc-bart returned do not give the values that it drew: this version "
            "splits in another way. Install pymc-bart 0.13."
        )


def _forests(graph: Graph) -> Iterator[tuple[Binding, BART]]:
    """Predictors of a model that are sums of trees, with their bindings."""
    return (
        (b, predictor)
        for predictor, b in graph.spec.structure.bound(graph.design)
        if isinstance(predictor, BART)
    )


def _settings(b: Binding, predictor: BART) -> BartSettings:
    return BartSettings(predictor, predictor.columns(b), predictor.target(b))


def _histories(records: np.ndarray, site: Site) -> list[list[History]]:
    """Trees by chain and expert, from the records (chain, draw, ...) of a sampler's statistics."""
    histories = []
    for chain in records:
        parts = [r for r in chain.ravel() if r is not None and r.variable == site.raw]
        histories.append([_joined([r.experts[k] for r in parts]) for k in range(site.outputs)])
    return histories


def _joined(parts: list[History]) -> History:
    """One history from consecutive ones."""
    first = parts[0].first if parts else ()
    return History(first, tuple(new for part in parts for new in part.replaced))
