"""A model with linear predictors as one compiled log density: value and gradient at a point.

The compiled function (:mod:`bayes_moe.kernels.linear_model`) is the same for all models: what a
model is, and where its data lie, it reads from a table of whole numbers. So a new model, or new
data, compiles nothing; only a family or a prior distribution that was not yet used does, once a
machine.

The density is that of the unconstrained values (logarithms of positive constants, orthonormal
coordinates of zero-sum priors), normalising constants and Jacobian and all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import registry
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.em.cross_products import Features
from bayes_moe.em.parameter_vector import ParameterBlock, ParameterVector
from bayes_moe.gates.splits import Split
from bayes_moe.kernels import gate_splits as branches
from bayes_moe.kernels import linear_model as linear
from bayes_moe.kernels import priors
from bayes_moe.kernels.family_rows import PACK, Kernel
from bayes_moe.model.blocks import Block
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.predictors import Linear
from bayes_moe.priors.densities import DENSITIES, formula_arguments


@dataclass(frozen=True)
class Native:
    """The compiled log density of a model's coordinates on its data.

    Attributes
    ----------
    size : int
        Number of coordinates.
    table : array of int
        What the compiled function reads.
    """

    size: int
    table: np.ndarray
    _kept: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, moving: ParameterVector) -> Native:
        """Lay out a model with priors, one that :func:`supports` admits, for the compiled function.

        The density has no floor under scale parameters, unlike that of EM.
        """
        return _Layout(moving).native()

    @property
    def log_density(self) -> Any:
        """The compiled function; its ``address`` is what a sampler calls."""
        return linear.log_density()

    @property
    def copy(self) -> Any:
        """The compiled function that a sampler calls to store a draw."""
        return linear.copy()

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density and gradient (coordinate,) at a point (coordinate,)."""
        point = np.ascontiguousarray(theta, dtype=float)
        gradient, value = np.empty(self.size), np.empty(1)
        addresses = (a.ctypes.data for a in (point, gradient, value, self.table))
        _prototype(self.log_density.address)(self.size, *addresses)
        return float(value[0]), gradient


_prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)


class _Layout:
    """The table of a model, and the arrays that it points to."""

    def __init__(self, moving: ParameterVector) -> None:
        self.moving = moving
        self.rows = moving.design.rows
        self.arrays: list[np.ndarray] = []
        features = Features.of_slots(moving.slots, self.rows)
        self.features = [_spread(t) for t in features.tables]
        order = np.argsort(features.of, kind="stable")
        self.table_of = {s.variable: j for s, j in zip(moving.slots, features.of, strict=True)}
        # Predictors that read the same table stand next to each other.
        self.first_row, self.first_coef = {}, {}
        row = coef = 0
        for slot in (moving.slots[j] for j in order):
            self.first_row[slot.variable], self.first_coef[slot.variable] = row, coef
            row += len(slot.experts)
            coef += len(slot.experts) * slot.terms
        self.predictors, self.coefs = row, coef

    def native(self) -> Native:
        slots, blocks = self.moving.slots, self.blocks()
        splits, ways = self.gate()
        head = {
            linear.SIZE: self.moving.size,
            linear.ROWS: self.rows.size,
            linear.EXPERTS: self.moving.spec.n_experts,
            linear.PREDICTORS: self.predictors,
            linear.COEFS: self.coefs,
            linear.GATE: self.first_row[slots[0].variable] if self.moving.gated else -1,
            linear.SLOTS: len(slots),
            linear.BLOCKS: len(blocks),
            linear.SPLITS: len(splits),
            linear.BRANCHES: len(ways),
        }
        tables = [self.table(j) for j, f in enumerate(self.features) if f.shape[1] > 1]
        head[linear.TABLES] = len(tables)
        records = [
            _record(linear.HEAD, head),
            *tables,
            *map(self.slot, slots),
            *blocks,
            *splits,
            *ways,
        ]
        table = np.array([number for record in records for number in record], dtype=np.int64)
        return Native(self.moving.size, table, tuple(self.arrays))

    def address(self, values: np.ndarray) -> int:
        """Keep an array, and return where it lies."""
        self.arrays.append(np.ascontiguousarray(values, dtype=float))
        return int(self.arrays[-1].ctypes.data)

    def shared(self, slot: ParameterBlock) -> bool:
        """Whether a slot's predictors are the same for every row."""
        return self.features[self.table_of[slot.variable]].shape[1] == 1

    def table(self, j: int) -> list[int]:
        reading = [s for s in self.moving.slots if self.table_of[s.variable] == j]
        first = min(reading, key=lambda s: self.first_row[s.variable])
        last = max(reading, key=lambda s: self.first_row[s.variable])
        return _record(
            linear.TABLE,
            {
                linear.FEATURES: self.address(_long(self.features[j])),
                linear.TERMS: first.terms,
                linear.FIRST: self.first_row[first.variable],
                linear.LAST: self.first_row[last.variable] + len(last.experts),
                linear.AT: self.first_coef[first.variable],
            },
        )

    def slot(self, slot: ParameterBlock) -> list[int]:
        if slot.prior is None:
            raise ValueError("A sampler needs priors: coordinates(..., likelihood=False).")
        shape = (slot.directions, slot.terms)
        density = DENSITIES[slot.prior.distribution]
        formula = density.of_value if slot.scaling is not None else density.of_log
        given = [np.broadcast_to(a, shape).ravel() for a in formula_arguments(slot.prior)]
        feature = self.features[self.table_of[slot.variable]][0, 0] if self.shared(slot) else 1.0
        return _record(
            linear.SLOT,
            {
                linear.WHERE: slot.where.start,
                linear.DIRECTIONS: slot.directions,
                linear.OF: len(slot.experts),
                linear.WIDE: slot.terms,
                linear.ROW: self.first_row[slot.variable],
                linear.COEF: self.first_coef[slot.variable],
                linear.NUMBERS: self.address(np.array([slot.unit * feature, slot.offset])),
                linear.BASIS: 0 if slot.basis is None else self.address(slot.basis),
                linear.PRIOR: priors.address(formula, len(given)),
                linear.PRIOR_ARGUMENTS: self.address(np.concatenate(given)),
                linear.JACOBIAN: int(self.moving.jacobian and slot.scaling is None),
                linear.SHARED: int(self.shared(slot)),
            },
        )

    def blocks(self) -> list[list[int]]:
        """Records of the factors of the experts' densities."""
        found = []
        for b, part in enumerate(self.moving.spec.parts):
            own = [s for s in self.moving.slots if s.block == b]
            response = part.response(self.rows)
            found.append(self.block(part.block, own, response, add=part.column is not None))
        return found

    def block(
        self, block: Block, own: Sequence[ParameterBlock], response: np.ndarray, add: bool = False
    ) -> list[int]:
        """Record of a block of experts.

        Parameters
        ----------
        block : Block
            Its family, and positions of its experts.
        own : sequence of Slot
            Its predictors in the order of the family's parameters.
        response : array (obs,)
            What its density is of.
        add : bool
            Whether its log density is one more summand of those experts, which blocks before it
            have given a log density.
        """
        compiled: Kernel = registry.resolve("kernel", block.kind.family)
        known = block.known(self.rows.matrices)
        base = block.family.log_base(response, known, NUMERIC)
        counts = list(known.values())
        record = {
            linear.KERNEL: compiled.address,
            linear.PARAMETERS: len(own),
            linear.ALL_SHARED: int(all(self.shared(s) for s in own[1:])),
            linear.START: block.positions[0],
            linear.STOP: block.positions[-1] + 1,
            linear.RESPONSE: self.address(_long(response)),
            linear.ADD: int(add),
            linear.LOG_BASE: self.of_rows(base),
            linear.COUNTS: self.of_rows(counts[0]) if counts else 0,
        }
        record |= {linear.ETAS + j: self.first_row[s.variable] for j, s in enumerate(own)}
        return _record(linear.BLOCK, record)

    def of_rows(self, values: np.ndarray) -> int:
        """Where a number of every row, or one for all rows, lies."""
        return self.address(_long(np.broadcast_to(values, (self.rows.size,))))

    def gate(self) -> tuple[list[list[int]], list[list[int]]]:
        """Records of the gate's splits, children before parents, and of their branches."""
        branching = self.moving.branching
        if branching is None or branching.is_single_softmax:
            return [], []
        ordered = sorted(branching.splits, key=lambda s: -s.depth)
        below = {frozenset(s.below): branching.experts + j for j, s in enumerate(ordered)}
        below |= {frozenset([k]): k for k in range(branching.experts)}
        splits: list[list[int]] = []
        ways: list[list[int]] = []
        for split in ordered:
            record = {branches.FROM: len(ways), branches.WAYS: split.branches}
            splits.append(_record(branches.SPLIT, record))
            for row, leaves in zip(self.logits(split), split.leaves, strict=True):
                record = {branches.LOGIT: row, branches.PLACE: below[frozenset(leaves)]}
                ways.append(_record(branches.BRANCH, record))
        return splits, ways

    def logits(self, split: Split) -> list[int]:
        """Rows of predictors of a split's branches."""
        heads = (s for s in self.moving.slots if s.block is None)
        own = next(s for s in heads if s.stem == split.stem)
        first = self.first_row[own.variable] - own.experts[0]
        rows = [first + j for j in range(split.rows.start, split.rows.stop)]
        return [*rows, self.predictors] if split.pinned else rows


def _record(size: int, entries: dict[int, int]) -> list[int]:
    return [entries.get(j, 0) for j in range(size)]


def _spread(table: np.ndarray) -> np.ndarray:
    """A table of features (term, obs), or (1, 1) if it is one feature with one value."""
    return table[:, :1] if len(table) == 1 and np.ptp(table) == 0 else table


def _long(values: np.ndarray) -> np.ndarray:
    """Fill up rows (..., obs) to whole packs with copies of the last one."""
    missing = -values.shape[-1] % PACK
    width = [(0, 0)] * (values.ndim - 1) + [(0, missing)]
    return np.pad(np.asarray(values, dtype=float), width, mode="edge")


def supports(spec: MixtureOfExperts) -> bool:
    """Whether a model is one of those: gate of softmaxes, linear predictors, known kernels."""
    blocks = [part.block for part in spec.parts]
    return (
        spec.gate.branching(spec.n_experts) is not None
        and all(type(p) is Linear for _, p in spec.placed)
        and all(registry.has("kernel", b.kind.family) for b in blocks)
    )
