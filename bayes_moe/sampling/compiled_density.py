"""The compiled log density of a model with linear predictors: value and gradient at a point.

The compiled function (:mod:`bayes_moe.kernels.linear_model`) is the same for all models: a table of
whole numbers (:mod:`bayes_moe.kernels.linear_layout`) has the structure of a model and the
addresses of its data. So a new model, or new data, need no compilation; only the first use of a
family or a prior distribution does, once a machine.

The density is that of the unconstrained values (logarithms of positive constants, orthonormal
coordinates of zero-sum priors), with its normalising constants and the Jacobian.
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
from bayes_moe.kernels import linear_layout as layout
from bayes_moe.kernels import linear_model, priors
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
        Structure of the model and addresses of its data, for the compiled function.
    """

    size: int
    table: np.ndarray
    _kept: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, parameters: ParameterVector) -> Native:
        """Compiled log density of a model with priors for which :func:`supports` is true.

        The density has no floor under scale parameters, unlike that of EM.
        """
        return _Layout(parameters).native()

    @property
    def log_density(self) -> Any:
        """The compiled function; a sampler calls its ``address``."""
        return linear_model.log_density()

    @property
    def copy(self) -> Any:
        """The compiled function by which a sampler stores a draw."""
        return linear_model.copy()

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density and gradient (coordinate,) at a point (coordinate,)."""
        point = np.ascontiguousarray(theta, dtype=float)
        gradient, value = np.empty(self.size), np.empty(1)
        addresses = (a.ctypes.data for a in (point, gradient, value, self.table))
        _prototype(self.log_density.address)(self.size, *addresses)
        return float(value[0]), gradient


_prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)


class _Layout:
    """The table of a model, and the arrays whose addresses it has."""

    def __init__(self, parameters: ParameterVector) -> None:
        self.parameters = parameters
        self.rows = parameters.design.rows
        self.arrays: list[np.ndarray] = []
        features = Features.of_blocks(parameters.blocks, self.rows)
        self.features = [_spread(t) for t in features.tables]
        order = np.argsort(features.of, kind="stable")
        self.table_of = {s.variable: j for s, j in zip(parameters.blocks, features.of, strict=True)}
        # Rows of predictors with the same table of features are consecutive: one product for all.
        self.first_row, self.first_coef = {}, {}
        row = coef = 0
        for slot in (parameters.blocks[j] for j in order):
            self.first_row[slot.variable], self.first_coef[slot.variable] = row, coef
            row += len(slot.experts)
            coef += len(slot.experts) * slot.terms
        self.predictors, self.coefs = row, coef

    def native(self) -> Native:
        """The compiled log density of the model."""
        slots, blocks = self.parameters.blocks, self.blocks()
        splits, ways = self.gate()
        head = {
            layout.SIZE: self.parameters.size,
            layout.ROWS: self.rows.size,
            layout.EXPERTS: self.parameters.spec.n_experts,
            layout.PREDICTORS: self.predictors,
            layout.COEFS: self.coefs,
            layout.GATE: self.first_row[slots[0].variable] if self.parameters.has_gate else -1,
            layout.SLOTS: len(slots),
            layout.BLOCKS: len(blocks),
            layout.SPLITS: len(splits),
            layout.BRANCHES: len(ways),
        }
        tables = [self.table(j) for j, f in enumerate(self.features) if f.shape[1] > 1]
        head[layout.TABLES] = len(tables)
        records = [
            _record(layout.HEAD, head),
            *tables,
            *map(self.slot, slots),
            *blocks,
            *splits,
            *ways,
        ]
        table = np.array([number for record in records for number in record], dtype=np.int64)
        return Native(self.parameters.size, table, tuple(self.arrays))

    def address(self, values: np.ndarray) -> int:
        """Address of an array, which is kept alive."""
        self.arrays.append(np.ascontiguousarray(values, dtype=float))
        return int(self.arrays[-1].ctypes.data)

    def shared(self, slot: ParameterBlock) -> bool:
        """Whether a slot's predictors are the same for every row."""
        return self.features[self.table_of[slot.variable]].shape[1] == 1

    def table(self, j: int) -> list[int]:
        """Record of a table of features."""
        reading = [s for s in self.parameters.blocks if self.table_of[s.variable] == j]
        first = min(reading, key=lambda s: self.first_row[s.variable])
        last = max(reading, key=lambda s: self.first_row[s.variable])
        return _record(
            layout.TABLE,
            {
                layout.FEATURES: self.address(_long(self.features[j])),
                layout.TERMS: first.terms,
                layout.FIRST: self.first_row[first.variable],
                layout.LAST: self.first_row[last.variable] + len(last.experts),
                layout.AT: self.first_coef[first.variable],
            },
        )

    def slot(self, slot: ParameterBlock) -> list[int]:
        """Record of a block of parameters."""
        if slot.prior is None:
            raise ValueError("A sampler needs priors: coordinates(..., likelihood=False).")
        shape = (slot.directions, slot.terms)
        density = DENSITIES[slot.prior.distribution]
        formula = density.of_value if slot.scaling is not None else density.of_log
        arguments = [np.broadcast_to(a, shape).ravel() for a in formula_arguments(slot.prior)]
        feature = self.features[self.table_of[slot.variable]][0, 0] if self.shared(slot) else 1.0
        return _record(
            layout.SLOT,
            {
                layout.WHERE: slot.where.start,
                layout.DIRECTIONS: slot.directions,
                layout.OF: len(slot.experts),
                layout.WIDE: slot.terms,
                layout.ROW: self.first_row[slot.variable],
                layout.COEF: self.first_coef[slot.variable],
                layout.NUMBERS: self.address(np.array([slot.unit * feature, slot.offset])),
                layout.BASIS: 0 if slot.basis is None else self.address(slot.basis),
                layout.PRIOR: priors.address(formula, len(arguments)),
                layout.PRIOR_ARGUMENTS: self.address(np.concatenate(arguments)),
                layout.JACOBIAN: int(self.parameters.jacobian and slot.scaling is None),
                layout.SHARED: int(self.shared(slot)),
            },
        )

    def blocks(self) -> list[list[int]]:
        """Records of the factors of the experts' densities."""
        records = []
        for b, part in enumerate(self.parameters.spec.structure.factors):
            slots = [s for s in self.parameters.blocks if s.factor == b]
            response = part.response(self.rows)
            records.append(self.block(part.block, slots, response, add=part.column is not None))
        return records

    def block(
        self, block: Block, slots: Sequence[ParameterBlock], response: np.ndarray, add: bool = False
    ) -> list[int]:
        """Record of a block of experts.

        Parameters
        ----------
        block : Block
            Its family, and positions of its experts.
        slots : sequence of ParameterBlock
            Its parameters in the order of the family's.
        response : array (obs,)
            Argument of its density.
        add : bool
            Whether its log density is added to that of earlier blocks of the same experts.
        """
        compiled: Kernel = registry.resolve("kernel", block.kind.family)
        known = block.known(self.rows.matrices)
        base = block.family.log_base(response, known, NUMERIC)
        counts = list(known.values())
        record = {
            layout.KERNEL: compiled.address,
            layout.PARAMETERS: len(slots),
            layout.ALL_SHARED: int(all(self.shared(s) for s in slots[1:])),
            layout.START: block.positions[0],
            layout.STOP: block.positions[-1] + 1,
            layout.RESPONSE: self.address(_long(response)),
            layout.ADD: int(add),
            layout.LOG_BASE: self.of_rows(base),
            layout.COUNTS: self.of_rows(counts[0]) if counts else 0,
        }
        record |= {layout.ETAS + j: self.first_row[s.variable] for j, s in enumerate(slots)}
        return _record(layout.BLOCK, record)

    def of_rows(self, values: np.ndarray) -> int:
        """Address of numbers (obs,), or of one number repeated."""
        return self.address(_long(np.broadcast_to(values, (self.rows.size,))))

    def gate(self) -> tuple[list[list[int]], list[list[int]]]:
        """Records of the gate's splits, children before parents, and of their branches."""
        branching = self.parameters.split_tree
        if branching is None or branching.is_single_softmax:
            return [], []
        ordered = sorted(branching.splits, key=lambda s: -s.depth)
        places = {frozenset(s.below): branching.experts + j for j, s in enumerate(ordered)}
        places |= {frozenset([k]): k for k in range(branching.experts)}
        splits: list[list[int]] = []
        ways: list[list[int]] = []
        for split in ordered:
            record = {layout.FROM: len(ways), layout.WAYS: split.branches}
            splits.append(_record(layout.SPLIT, record))
            for row, leaves in zip(self.logits(split), split.leaves, strict=True):
                record = {layout.LOGIT: row, layout.PLACE: places[frozenset(leaves)]}
                ways.append(_record(layout.BRANCH, record))
        return splits, ways

    def logits(self, split: Split) -> list[int]:
        """Rows of predictors of a split's branches."""
        heads = (s for s in self.parameters.blocks if s.factor is None)
        head = next(s for s in heads if s.stem == split.stem)
        first = self.first_row[head.variable] - head.experts[0]
        rows = [first + j for j in range(split.rows.start, split.rows.stop)]
        return [*rows, self.predictors] if split.pinned else rows


def _record(size: int, entries: dict[int, int]) -> list[int]:
    """Record of so many numbers, by position; others are zero."""
    return [entries.get(j, 0) for j in range(size)]


def _spread(table: np.ndarray) -> np.ndarray:
    """Table of features (term, obs); (1, 1) if it is one constant feature."""
    return table[:, :1] if len(table) == 1 and np.ptp(table) == 0 else table


def _long(values: np.ndarray) -> np.ndarray:
    """Rows (..., obs) filled up to whole packs with copies of the last one."""
    missing = -values.shape[-1] % PACK
    width = [(0, 0)] * (values.ndim - 1) + [(0, missing)]
    return np.pad(np.asarray(values, dtype=float), width, mode="edge")


def supports(spec: MixtureOfExperts) -> bool:
    """Whether a model has a compiled density: softmax gates, linear predictors, known kernels."""
    blocks = [part.block for part in spec.structure.factors]
    return (
        (spec.n_experts == 1 or spec.structure.gate.splits is not None)
        and all(type(p) is Linear for _, p in spec.structure.sites)
        and all(registry.has("kernel", b.kind.family) for b in blocks)
    )
