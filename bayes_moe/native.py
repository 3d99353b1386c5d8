"""A model with linear predictors as one compiled log density: value and gradient at a point.

The compiled function (:mod:`bayes_moe.kernels.linear`) is the same for all models: what a model
is, and where its data lie, it reads from a table of whole numbers. So a new model, or new data,
compiles nothing; only a family or a prior distribution that was not yet used does, once a machine.

The density is that of the unconstrained values (logarithms of positive constants, orthonormal
coordinates of zero-sum priors), normalising constants and Jacobian and all.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe import registry
from bayes_moe.arrays import NUMERIC
from bayes_moe.coordinates import Coordinates, Slot
from bayes_moe.densities import DENSITIES, formula_arguments
from bayes_moe.features import Features
from bayes_moe.kernels import linear, priors
from bayes_moe.kernels.rows import PACK, Kernel
from bayes_moe.predictors import Linear
from bayes_moe.spec import MixtureOfExperts


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
    def of(cls, moving: Coordinates) -> Native:
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

    def __init__(self, moving: Coordinates) -> None:
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
        slots, blocks = self.moving.slots, self.moving.spec.blocks
        head = {
            linear.SIZE: self.moving.size,
            linear.ROWS: self.rows.size,
            linear.EXPERTS: self.moving.spec.n_experts,
            linear.PREDICTORS: self.predictors,
            linear.COEFS: self.coefs,
            linear.RESPONSE: self.address(_long(self.rows.observed)),
            linear.GATE: self.first_row[slots[0].variable] if self.moving.gated else -1,
            linear.SLOTS: len(slots),
            linear.BLOCKS: len(blocks),
        }
        tables = [self.table(j) for j, f in enumerate(self.features) if f.shape[1] > 1]
        head[linear.TABLES] = len(tables)
        records = [
            _record(linear.HEAD, head),
            *tables,
            *map(self.slot, slots),
            *(self.block(b) for b in range(len(blocks))),
        ]
        table = np.array([number for record in records for number in record], dtype=np.int64)
        return Native(self.moving.size, table, tuple(self.arrays))

    def address(self, values: np.ndarray) -> int:
        """Keep an array, and return where it lies."""
        self.arrays.append(np.ascontiguousarray(values, dtype=float))
        return int(self.arrays[-1].ctypes.data)

    def shared(self, slot: Slot) -> bool:
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

    def slot(self, slot: Slot) -> list[int]:
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

    def block(self, b: int) -> list[int]:
        block = self.moving.spec.blocks[b]
        own = [s for s in self.moving.slots if s.block == b]
        compiled: Kernel = registry.resolve("kernel", block.kind.family)
        known = block.known(self.rows.matrices)
        base = block.family.log_base(self.rows.observed, known, NUMERIC)
        counts = list(known.values())
        record = {
            linear.KERNEL: compiled.address,
            linear.PARAMETERS: len(own),
            linear.ALL_SHARED: int(all(self.shared(s) for s in own[1:])),
            linear.START: block.positions[0],
            linear.STOP: block.positions[-1] + 1,
            linear.LOG_BASE: self.address(_long(np.broadcast_to(base, (self.rows.size,)))),
            linear.COUNTS: self.address(_long(np.broadcast_to(counts[0], (self.rows.size,))))
            if counts
            else 0,
        }
        record |= {linear.ETAS + j: self.first_row[s.variable] for j, s in enumerate(own)}
        return _record(linear.BLOCK, record)


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
    """Whether a model is one of those: softmax gate, linear predictors, families with kernels."""
    branching = spec.gate.branching(spec.n_experts)
    predictors = [
        *(h.predictor for h in spec.gate.heads(spec.n_experts)),
        *(c.predictor for b in spec.blocks for c in b.components if c.formula is not None),
    ]
    return (
        branching is not None
        and branching.flat
        and all(type(p) is Linear for p in predictors)
        and all(registry.has("kernel", b.kind.family) for b in spec.blocks)
    )
