"""The table of whole numbers that describes a model to a compiled density, and its arrays.

A compiled density (:mod:`bayes_moe.kernels.linear_model`, :mod:`bayes_moe.kernels.network_model`)
is the same function for all models: the table (:mod:`bayes_moe.kernels.linear_layout`) has the
structure of a model and the addresses of its data. So a new model, or new data, need no
compilation; only the first use of a family or a prior distribution does, once a machine.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.matrix import Rows
from bayes_moe.families import Family
from bayes_moe.gates.splits import Split
from bayes_moe.kernels import chain_model, lbfgs, linear_model, many_points, priors
from bayes_moe.kernels import linear_layout as layout
from bayes_moe.kernels.families import kernel_of
from bayes_moe.kernels.family_rows import PACK
from bayes_moe.kernels.network_layout import NETWORK_HEAD
from bayes_moe.model.allocation import ByGroup
from bayes_moe.model.blocks import Block
from bayes_moe.model.chain_table import chain_entries
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.coordinates import COORDINATES, coordinate_of
from bayes_moe.priors.densities import formula, formula_arguments
from bayes_moe.priors.prior import Prior

LOWEST = -1e300
"""Instead of minus infinity, of which the difference of two branches without support has none."""


@dataclass(frozen=True)
class CompiledDensity:
    """The compiled log density of a model's coordinates on its data.

    Attributes
    ----------
    size : int
        Number of coordinates.
    log_density : numba.CFunc
        The compiled function; a sampler calls its ``address``.
    table : array of int
        Structure of the model and addresses of its data, for the compiled function.
    """

    size: int
    log_density: Any
    table: np.ndarray
    _kept: tuple[np.ndarray, ...]
    _of_rows: tuple[np.ndarray, ...] = ()

    def pick(self, which: np.ndarray | slice) -> CompiledDensity:
        """Return the density of the rows at some positions; experts may be no Markov chain."""
        if self.table[layout.CHAIN]:
            raise ValueError("A part of the rows of a Markov chain has no density of its own.")
        table = self.table.copy()
        rows = np.arange(table[layout.ROWS])[which]
        table[layout.ROWS] = rows.size
        rows = np.append(rows, np.repeat(rows[-1:], -rows.size % PACK))  # see long
        chosen = tuple(np.ascontiguousarray(values[..., rows]) for values in self._of_rows)
        for values, some in zip(self._of_rows, chosen, strict=True):
            table[self.table == values.ctypes.data] = some.ctypes.data
        return replace(self, table=table, _of_rows=chosen)

    def with_row_weights(self, weights: np.ndarray) -> CompiledDensity:
        """Return the density under weights (obs,) of the rows; experts may be no Markov chain."""
        table, values = self.table.copy(), long(weights)
        table[layout.WEIGHTS] = values.ctypes.data
        return replace(self, table=table, _kept=(*self._kept, values))

    @property
    def copy(self) -> Any:
        """The compiled function by which a sampler stores a draw."""
        return linear_model.copy()

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density and gradient (coordinate,) at a point (coordinate,)."""
        point = np.ascontiguousarray(theta, dtype=float)
        value, gradient = self._evaluate(point, self.size)
        return float(value[0]), gradient

    def weighted(self, theta: np.ndarray, weight: float) -> tuple[float, float, np.ndarray]:
        """Log prior, log likelihood, and the gradient of ``prior + weight * likelihood``.

        Only of :mod:`bayes_moe.kernels.network_model`.
        """
        value, gradient = self._evaluate(np.append(theta, weight), self.size + 1)
        return float(value[0]), float(value[1]), gradient

    def many(self, theta: np.ndarray, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Log priors and log likelihoods (point, 2), and the gradients (point, coordinate).

        See :meth:`weighted`; the points are (point, coordinate).
        """
        points = np.column_stack([theta, np.full(len(theta), weight)])
        gradients, values = np.empty((len(points), self.size)), np.empty((len(points), 2))
        numbers = (self.log_density.address, self.table.ctypes.data)
        sizes = np.array([len(points), self.size + 1, self.size])
        addresses = (a.ctypes.data for a in (sizes, points, gradients, values))
        _each(many_points.each().address)(*numbers, *addresses)
        return values, gradients

    def _evaluate(self, point: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        gradient, value = np.empty(self.size), np.empty(2)
        addresses = (a.ctypes.data for a in (point, gradient, value, self.table))
        self._function(size, *addresses)
        return value, gradient

    def lbfgs(
        self, start: np.ndarray, moving: np.ndarray, most: int, memory: int, limits: Sequence[float]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Final point of L-BFGS from a point (coordinate,), the gradient there, and the path.

        Coordinates that are not in ``moving`` stay, and their derivatives are zero. The path are
        the log densities before the first and after each of at most ``most`` iterations. A run
        ends at a relative gain, or where no derivative is larger, than the two ``limits``.
        """
        points, path = np.array([start, np.zeros(self.size)]), np.empty(most + 1)
        moves, sizes = np.ascontiguousarray(moving, dtype=bool), np.array([self.size, most, memory])
        arrays = (sizes, moves, points, path, np.array(limits, dtype=float))
        addresses = (a.ctypes.data for a in arrays)
        numbers = (self.log_density.address, self.table.ctypes.data)
        iterations = _maximise(lbfgs.maximise().address)(*numbers, *addresses)
        path = path[: iterations + 1]
        return points[0], points[1], np.where(path > -lbfgs.NO_VALUE, path, -np.inf)

    @cached_property
    def _function(self) -> Callable[..., int]:
        return _prototype(self.log_density.address)


_prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)
_each = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 4)
_maximise = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 5)


class CompiledTable(ABC):
    """Records of a model, and the arrays whose addresses they have.

    Attributes
    ----------
    spec, rows
        The model, and the rows of its data.
    size : int
        Number of coordinates.
    first_row, first_coef : dict of str to int
        First row of predictors, and first coefficient, of every variable that has predictors.
    shared : set of str
        Variables whose predictors are the same for every row.
    effects : list of list of int
        Records of effects of groups.
    predictors, coefs : int
        Number of rows of predictors, and of coefficients.
    """

    def __init__(self, spec: MixtureOfExperts, rows: Rows, size: int) -> None:
        self.spec, self.rows, self.size = spec, rows, size
        self.arrays: list[np.ndarray] = []
        self.by_row: list[np.ndarray] = []
        self.first_row: dict[str, int] = {}
        self.first_coef: dict[str, int] = {}
        self.shared: set[str] = set()
        self.effects: list[list[int]] = []
        self.predictors = self.coefs = 0

    def density(self) -> CompiledDensity:
        """The compiled log density of the model."""
        splits, ways = self.gate()
        truncated = self.spec.structure.blocks[0].family.truncation is not None
        kinds = {
            layout.ADDED: self.added(),
            layout.EFFECTS: self.effects,
            layout.TABLES: self.tables(),
            layout.SLOTS: self.slots(),
            layout.BLOCKS: self.blocks(),
            layout.LIMITS: self.blocks(limits=True) if truncated else [],
            layout.SPLITS: splits,
            layout.BRANCHES: ways,
        }
        head = self.head() | {kind: len(records) for kind, records in kinds.items()}
        records = [record(layout.HEAD, head), *chain(*kinds.values()), *self.networks()]
        is_chain = self.spec.structure.gate.chain is not None
        function = chain_model.log_density() if is_chain else self.function()
        table = np.array([*chain(*records)], dtype=np.int64)
        return CompiledDensity(self.size, function, table, tuple(self.arrays), tuple(self.by_row))

    @abstractmethod
    def function(self) -> Any:
        """The compiled function that reads the table, unless experts are a Markov chain."""

    @abstractmethod
    def tables(self) -> list[list[int]]:
        """Records of tables of features."""

    @abstractmethod
    def slots(self) -> list[list[int]]:
        """Records of blocks of coordinates."""

    def networks(self) -> list[list[int]]:
        """Records of networks, after all others; here those of no network."""
        return [record(NETWORK_HEAD, {})]

    def address(self, values: np.ndarray) -> int:
        """Address of an array, which is kept alive."""
        self.arrays.append(np.ascontiguousarray(values, dtype=float))
        return int(self.arrays[-1].ctypes.data)

    def of_rows(self, values: np.ndarray) -> int:
        """Address of numbers (..., obs), or of one number repeated."""
        values = np.broadcast_to(values, (*values.shape[:-1], self.rows.size))
        address = self.address(long(values))
        self.by_row.append(self.arrays[-1])
        return address

    def head(self) -> dict[int, int]:
        """Numbers of the model, without the numbers of records."""
        heads = self.spec.structure.gate.heads
        return {
            layout.SIZE: self.size,
            layout.ROWS: self.rows.size,
            layout.EXPERTS: self.spec.n_experts,
            layout.PREDICTORS: self.predictors,
            layout.COEFS: self.coefs,
            layout.GATE: self.first_row[heads[0].site.coef] if heads else -1,
            layout.WEIGHTS: 0 if self.rows.weights is None else self.of_rows(self.rows.weights),
            **_sharing(self),
            **chain_entries(self.spec.structure, self.rows, self.shared, self.address),
        }

    def prior(
        self, prior: Prior, shape: tuple[int, ...], *, jacobian: bool, column: bool = False
    ) -> dict[int, int]:
        """Entries of a prior of coordinates, whose arguments broadcast to a shape.

        With ``column`` they do so along its first axis. With ``jacobian`` the coordinates' log
        Jacobian is added, so that the density is their own.
        """
        straight = coordinate_of(prior) is COORDINATES["real"]
        log_slope = coordinate_of(prior).log_slope
        given = (np.asarray(a)[..., None] if column else a for a in formula_arguments(prior))
        arguments = [np.broadcast_to(a, shape).ravel() for a in given]
        return {
            layout.PRIOR: priors.address(formula(prior), len(arguments)),
            layout.JACOBIAN: priors.address(log_slope, 0) if jacobian and not straight else 0,
            layout.PRIOR_ARGUMENTS: self.address(np.concatenate(arguments)),
        }

    def added(self) -> list[list[int]]:
        """Records of the offsets of formulas."""
        heads = self.spec.structure.gate.heads
        sites = [(h.site.coef, h.site, self.spec.structure.gate.gain) for h in heads]
        sites += [
            (c.variable, c.site, 1.0)
            for c in self.spec.structure.components
            if c.formula is not None
        ]
        records = []
        for variable, site, gain in sites:
            offset = site.bind(self.rows.matrices[site.stem]).offset
            if offset is not None:
                first = self.first_row[variable]
                entries = {
                    layout.ADDENDS: self.of_rows(gain * offset),
                    layout.ONTO: first,
                    layout.UNTIL: first + site.outputs,
                    layout.EACH: int(len(offset) > 1),
                }
                records.append(record(layout.ADDEND, entries))
        return records

    def blocks(self, limits: bool = False) -> list[list[int]]:
        """Records of the factors of the experts' densities, or of the probabilities of limits."""
        return [
            self.block(
                part.block,
                [
                    (c.variable, j * c.experts)
                    for c in part.block.components
                    for j in range(c.parameter.size)
                ],
                part.response(self.rows),
                add=part.column is not None,
                family=part.block.family.truncation if limits else None,
            )
            for part in self.spec.structure.factors
        ]

    def block(
        self,
        block: Block,
        predictors: Sequence[tuple[str, int]],
        response: np.ndarray,
        add: bool = False,
        family: Family | None = None,
    ) -> list[int]:
        """Record of a block of experts.

        Parameters
        ----------
        block : Block
            Its family, and positions of its experts.
        predictors : sequence of (str, int)
            Of each slot of the family: the variable, and the first of its outputs.
        response : array (obs,) or (response, obs)
            Argument of its density.
        add : bool
            Whether its log density is added to that of earlier blocks of the same experts.
        family : Family, optional
            The probability of limits, of a truncated response.
        """
        known = block.known(self.rows.matrices)
        data = (family or block).data(response, known, NUMERIC)
        entries = {
            layout.KERNEL: kernel_of(family or block.family).address,
            layout.PARAMETERS: len(predictors),
            layout.ALL_SHARED: int(all(v in self.shared for v, _ in predictors[1:])),
            layout.START: block.positions[0],
            layout.STOP: block.positions[-1] + 1,
            layout.DATA_T: self.of_rows(np.atleast_1d(data.t)),
            layout.DATA_U: self.of_rows(np.atleast_1d(data.u)),
            layout.ADD: int(add),
            layout.LOG_BASE: self.of_rows(np.maximum(np.atleast_1d(data.base), LOWEST)),
        }
        if data.more:
            more = np.stack([np.broadcast_to(x, (self.rows.size,)) for x in data.more])
            entries |= {layout.FURTHER: len(more), layout.DATA_MORE: self.of_rows(more)}
        entries |= {layout.ETAS + j: self.first_row[v] + of for j, (v, of) in enumerate(predictors)}
        return record(layout.BLOCK, entries)

    def gate(self) -> tuple[list[list[int]], list[list[int]]]:
        """Records of the gate's splits, children before parents, and of their branches."""
        gate = self.spec.structure.gate
        branching = gate.splits
        if not gate.heads or branching is None or branching.is_single_softmax:
            return [], []
        ordered = sorted(branching.splits, key=lambda s: -s.depth)
        places = {frozenset(s.below): branching.experts + j for j, s in enumerate(ordered)}
        places |= {frozenset([k]): k for k in range(branching.experts)}
        splits, ways = list[list[int]](), list[list[int]]()
        for split in ordered:
            splits.append(
                record(layout.SPLIT, {layout.FROM: len(ways), layout.WAYS: split.branches})
            )
            for row, leaves in zip(self.logits(split), split.leaves, strict=True):
                entries = {layout.LOGIT: row, layout.PLACE: places[frozenset(leaves)]}
                ways.append(record(layout.BRANCH, entries))
        return splits, ways

    def logits(self, split: Split) -> list[int]:
        """Rows of predictors of a split's branches."""
        head = next(h for h in self.spec.structure.gate.heads if h.stem == split.stem)
        first = self.first_row[head.site.coef] - head.outputs.start
        rows = [first + j for j in range(split.rows.start, split.rows.stop)]
        return [*rows, self.predictors] if split.pinned else rows


def _sharing(table: CompiledTable) -> dict[int, int]:
    """How rows share experts, and which are known; of one expert nothing is to be said."""
    seen = table.rows.observation
    numbers = dict.fromkeys((layout.KNOWN, layout.UNITS, layout.COUNT_UNITS, layout.LEADS), 0)
    if table.spec.n_experts == 1:
        return numbers
    if seen.expert is not None:
        numbers[layout.KNOWN] = table.of_rows(seen.expert.astype(float))
    if seen.group is not None:
        groups = ByGroup.of(seen.group)
        numbers[layout.UNITS] = table.of_rows(groups.unit.astype(float))
        numbers[layout.COUNT_UNITS] = len(groups.first)
        numbers[layout.LEADS] = table.of_rows(table.rows.counted(groups.leads))
    return numbers


def record(size: int, entries: dict[int, int]) -> list[int]:
    """Record of so many numbers, by position; others are zero."""
    return [entries.get(j, 0) for j in range(size)]


def long(values: np.ndarray) -> np.ndarray:
    """Rows (..., obs) filled up to whole packs with copies of the last one."""
    missing = -values.shape[-1] % PACK
    width = [(0, 0)] * (values.ndim - 1) + [(0, missing)]
    # Padding keeps the order of the axes in memory, but addresses are of rows.
    return np.ascontiguousarray(np.pad(np.asarray(values, dtype=float), width, mode="edge"))
