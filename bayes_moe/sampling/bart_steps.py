"""The step by which PyMC moves trees: particle Gibbs of pymc-bart, one sampler for each expert.

pymc-bart's own step moves one sum of trees, or several that split alike; it starts every chain
with the same random numbers, goes on from the last chain where chains run one after another, and
leaves the trees with the model in no certain order of chains. Here each expert of a block has
trees of its own, every chain is begun anew by its own seed, and the trees come back among the
statistics of the draws. Before the first draw of a chain, the trees grow for a while, given where
the other parameters start.

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
from bayes_moe.predictors import BART, Site
from bayes_moe.predictors.bart_trees import Cuts, History, Nodes, packed

if TYPE_CHECKING:
    import xarray as xr

STAT = "trees"
READ_EVERY = 100
"""Draws after which new trees are read: each reading takes time in proportion to all draws."""
FIRST_SWEEPS = 20
"""How often each tree is replaced before the first draw."""
DEEPEST_CHANCE = 0.99
"""Chance of a leaf at the largest depth, as in pymc-bart."""


@dataclass(frozen=True)
class Read:
    """What happened to the trees of one variable since they were last read, by expert.

    The first reading of a chain has the trees before its first draw.
    """

    variable: str
    experts: tuple[History, ...]


@dataclass(frozen=True)
class BartSettings:
    """What trees grow from: their settings, the columns that they split, and where they begin.

    They begin at the mean of ``target`` (obs,), and their leaves spread with its standard
    deviation, which must be positive.
    """

    settings: BART
    columns: Cuts
    target: np.ndarray

    def sampler(self, density: int, seed: int) -> Any:
        """Return a sampler of one sum of trees, whose log density is at an address."""
        given = self.settings
        settings = PyBartSettings(
            n_trees=given.trees,
            n_particles=given.particles,
            max_depth=calculate_max_tree_depth(given.alpha, given.beta, DEEPEST_CHANCE),
            alpha=given.alpha,
            beta=given.beta,
            sigma=float(self.target.std()) / given.trees**0.5,
            n_outputs=1,
            split_prior=np.arange(1.0, len(self.columns.levels) + 1).tolist(),  # cumulated
            split_rules=self.columns.rules,
            response_rule="constant",
            resampling_rule="systematic",
            batch_tune=given.batch,
            batch_post=given.batch,
            seed=seed,
            n_draws=0,
        )
        features = np.asfortranarray(self.columns.values)
        return PySampler.init(x=features, y=self.target, model=density, settings=settings)


class PGBARTStep(ArrayStepShared):
    """Step of one variable (expert, obs) of sums of trees."""

    name = "trees"
    stats_dtypes_shapes: ClassVar[dict[str, Any]] = {STAT: (object, [])}

    def __init__(
        self, vars: Any, soil: BartSettings, model: Any = None, blocked: bool = True, **_: Any
    ) -> None:
        self.model, self.soil = model, soil
        self.values = [model.rvs_to_values.get(v, v) for v in vars]
        self._compile()
        super().__init__(self.values, self.compiled.shared, blocked=blocked)

    def _compile(self) -> None:
        self.compiled = CompiledPyMCModel(self.model, self.values)
        self.current = np.zeros(self.model.initial_point()[self.values[0].name].shape)
        self.rows = [_row(self.compiled, self.current, k) for k in range(len(self.current))]
        self.samplers: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        compiled = ("compiled", "current", "rows", "samplers", "shared")
        return {k: v for k, v in self.__dict__.items() if k not in compiled}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()
        self.shared = {variable.name: v for variable, v in self.compiled.shared.items()}

    def setup_chain(self, rng: Any, tune: int, draws: int) -> None:
        super().setup_chain(rng, tune, draws)
        self.tune, self.draws, self.made, self.fresh = tune > 0, draws, 0, True
        seeds = rng.integers(2**63, size=len(self.rows))
        self.samplers = [
            self.soil.sampler(row.address, int(seed))
            for row, seed in zip(self.rows, seeds, strict=True)
        ]
        self.known = [0] * len(self.samplers)

    def astep(self, q0: Any) -> tuple[np.ndarray, list[dict[str, Any]]]:
        self.compiled.update_shared_arrays()
        if self.fresh:
            self.current[:] = q0.data.reshape(self.current.shape)
            self._sweep(int(np.ceil(FIRST_SWEEPS / self.soil.settings.batch)), tune=True)
            self.fresh = False
        self._sweep(1, tune=self.tune)
        self.made += not self.tune
        due = not self.tune and (self.made % READ_EVERY == 0 or self.made == self.draws)
        return self.current.ravel().copy(), [{STAT: self._read() if due else None}]

    def _sweep(self, times: int, *, tune: bool) -> None:
        """Replace some trees of each expert, given what those of the others say."""
        for k, sampler in enumerate(self.samplers):
            for _ in range(times):
                said, _ = sampler.step(tune)
            self.current[k] = np.asarray(said).reshape(-1)

    def _read(self) -> Read:
        found = []
        for k, sampler in enumerate(self.samplers):
            batches = sampler.all_batches[self.known[k] :]
            first = () if self.known[k] else tuple(map(self._nodes, sampler.baseline_forest))
            self.known[k] += len(batches)
            replaced = tuple((place, tuple(map(self._nodes, new))) for place, new in batches)
            found.append(History(first, replaced))
        return Read(self.values[0].name, tuple(found))

    def _nodes(self, tree: Any) -> Nodes:
        return self.soil.columns.nodes(tree.split_var, tree.split_val, tree.leaf_val)


def _row(compiled: Any, current: np.ndarray, k: int) -> Any:
    """C function of the values of one expert (obs,), the others' being the current ones.

    It leaves the expert's row of ``current`` as it was last asked for.
    """
    whole = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_int)(
        compiled.get_function_pointer()
    )
    address, size, many = current.ctypes.data, current.size, current.shape[1]
    start = k * many

    def density(values: Any, count: int) -> float:
        everyone = doubles(address, size)
        everyone[start : start + count] = carray(values, (count,))
        return whole(everyone.ctypes, size)

    signature = types.float64(types.CPointer(types.float64), types.intc)
    return cfunc(signature)(density)


def steps(graph: Graph) -> list[PGBARTStep]:
    """Return the steps of a model's sums of trees; each takes seconds to compile."""
    model = graph.model
    return [
        PGBARTStep([model[place.raw]], soil=_soil(graph, place, predictor), model=model)
        for place, predictor in _forests(graph)
    ]


def with_trees(tree: xr.DataTree, graph: Graph) -> xr.DataTree:
    """Return the groups of a sampler, with the trees of the draws in the posterior.

    Raises
    ------
    RuntimeError
        If the trees do not say what was drawn: pymc-bart then splits otherwise than it did.
    """
    posterior, stats = (tree[group].to_dataset() for group in (names.POSTERIOR, names.SAMPLE_STATS))
    given = stats[STAT].transpose(names.CHAIN, names.DRAW, ...).values
    lead = (names.CHAIN, names.DRAW)
    for place, predictor in _forests(graph):
        reads = _histories(given, place)
        arrays = packed(reads, posterior.sizes[names.DRAW])
        own = dict(zip(predictor.dims(place).items(), arrays, strict=True))
        posterior = posterior.assign({n: ((*lead, *d), a) for (n, d), a in own.items()})
        drawn = posterior[place.raw].transpose(*lead, place.dim, names.OBS).values
        _check(graph, place, predictor, arrays, drawn)
    import xarray as xr

    groups = {names.POSTERIOR: posterior, names.SAMPLE_STATS: stats.drop_vars(STAT)}
    return xr.DataTree.from_dict(groups)


def _check(
    graph: Graph,
    place: Site,
    predictor: BART,
    arrays: tuple[np.ndarray, np.ndarray],
    drawn: np.ndarray,
) -> None:
    """Compare the last known trees of each chain with what was drawn (chain, draw, expert, obs)."""
    whole = np.isfinite(arrays[1]).all(axis=(2, 3))
    chains = np.flatnonzero(whole.any(axis=1))
    last = whole.cumsum(axis=1).argmax(axis=1)[chains]
    draws = {n: a[chains, last] for n, a in zip(predictor.dims(place), arrays, strict=True)}
    said = predictor.evaluate(place, draws, graph.design.rows.matrices[place.stem])
    expected = drawn[chains, last]
    if not np.allclose(said, expected, rtol=1e-6, atol=1e-6 * (1e-300 + np.abs(expected).max())):
        raise RuntimeError(
            "The trees that pymc-bart returned do not give the values that it drew: this version "
            "splits in another way. Install pymc-bart 0.13."
        )


def _forests(graph: Graph) -> Iterator[tuple[Site, BART]]:
    return ((place, p) for place, p in graph.spec.placed if isinstance(p, BART))


def _soil(graph: Graph, place: Site, predictor: BART) -> BartSettings:
    matrix, response = graph.design.rows.matrices[place.stem], graph.design.response
    return BartSettings(
        predictor, predictor.columns(place, matrix), predictor.target(place, response)
    )


def _histories(given: np.ndarray, place: Site) -> list[list[History]]:
    """Trees by chain and expert, from what the steps said (chain, draw, ...)."""
    found = []
    for chain in given:
        reads = [r for r in chain.ravel() if r is not None and r.variable == place.raw]
        found.append([_joined([r.experts[k] for r in reads]) for k in range(place.rows)])
    return found


def _joined(parts: list[History]) -> History:
    first = parts[0].first if parts else ()
    return History(first, tuple(new for part in parts for new in part.replaced))
