"""The table of a model of networks and linear predictors, for its compiled log density."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.arrays import NUMERIC
from bayes_moe.data.design import Design
from bayes_moe.kernels import linear_layout as layout
from bayes_moe.kernels import linear_model, network_model, recurrent
from bayes_moe.kernels import network_layout as networks
from bayes_moe.model.compiled_table import CompiledTable, record
from bayes_moe.model.internal_values import Part, parts
from bayes_moe.optimize.effects_table import PlacedEffects, placed_effects
from bayes_moe.optimize.free_variables import FreeVariable, FreeVariables
from bayes_moe.predictors import MLP, Binding
from bayes_moe.predictors.group_basis import without_effects
from bayes_moe.predictors.recurrent import Recurrent


@dataclass
class Group:
    """Parts whose predictors are linear in the same features, and where these come from.

    ``features`` (obs, term) are those of a table, or inputs of the network ``net``. Without
    features the predictors are constants.
    """

    features: np.ndarray | None
    net: tuple[MLP | Recurrent, Binding] | None
    members: list[Part] = field(default_factory=list)

    @property
    def same(self) -> float | None:
        """The only feature, if it is the same for all rows; else None."""
        if self.features is None:
            return 1.0
        alone = self.net is None and self.features.shape[1] == 1 and np.ptp(self.features) == 0
        bound = [part.placed[1] for part in self.members if part.placed is not None]
        alone = alone and all(b.offset is None and not b.matrix.groups for b in bound)
        return float(self.features[0, 0]) if alone else None


class NetworkTable(CompiledTable):
    """The table of a model for which :func:`bayes_moe.optimize.network_density.supports` is true.

    Parameters
    ----------
    free : FreeVariables
        Its coordinates.
    jacobian : bool
        Whether the density is that of the unconstrained values.
    """

    def __init__(self, free: FreeVariables, *, jacobian: bool) -> None:
        design: Design = free.design
        super().__init__(free.spec, design.rows, free.size)
        self.free, self.jacobian = free, jacobian
        self.groups = _groups(free)
        for group in self.groups:
            for part in group.members:
                self.first_row[part.variable] = self.predictors
                self.first_coef[part.variable] = self.coefs
                self.predictors += part.outputs
                self.coefs += part.outputs * _terms(part)
                if group.same is not None:
                    self.shared.add(part.variable)
        self.first_weight: dict[str, int] = {}
        for group in self.groups:
            for name, size in _hidden(group).items():
                self.first_weight[name] = self.coefs
                self.coefs += size
        self.grouped: list[PlacedEffects] = []
        for part in (part for group in self.groups for part in group.members):
            own = [*placed_effects(part, self.coefs)]
            self.grouped += own
            self.coefs += 2 * sum(e.size for e in own)
        self.effects = [e.record(self, free) for e in self.grouped]

    def function(self) -> Any:
        return network_model.log_density()

    def tables(self) -> list[list[int]]:
        return [self.table(g) for g in self.groups if g.net is None and g.same is None]

    def table(self, group: Group) -> list[int]:
        """Record of a table of features."""
        assert group.features is not None
        first, last = group.members[0], group.members[-1]
        return record(
            layout.TABLE,
            {
                layout.FEATURES: self.of_rows(group.features.T),
                layout.TERMS: group.features.shape[1],
                layout.FIRST: self.first_row[first.variable],
                layout.LAST: self.first_row[last.variable] + last.outputs,
                layout.AT: self.first_coef[first.variable],
            },
        )

    # --- coordinates --------------------------------------------------------------------------

    def slots(self) -> list[list[int]]:
        slots = [slot for group in self.groups for slot in self.slots_of(group)]
        for e in self.grouped:
            scales = [self.hyperparameter(self.free[name], None, -1) for name in e.of.scales]
            slots += [*scales, self.unit_effects(e)]
        return slots

    def slots_of(self, group: Group) -> list[list[int]]:
        """Records of the coefficients of a group, and of the weights and scales of its network."""
        slots = [self.coefficients(part, group.same) for part in group.members]
        if group.net is not None:
            net, b = group.net
            for v in net.variables(b.site).hyperparameters:
                name = v.name if v.scale is None else names.raw(v.name)
                scale = -1 if v.scale is None else self.free[v.scale[0]].where.start + v.scale[1]
                weights = self.first_weight.get(v.name)
                slots.append(self.hyperparameter(self.free[name], weights, scale))
        return slots

    def coefficients(self, part: Part, feature: float | None) -> list[int]:
        """Record of the coefficients of a predictor, or of a constant."""
        name, offset, unit = part.variable, 0.0, np.ones(1)
        if part.placed is not None:
            predictor, b = part.placed
            name = b.site.raw
            offset = part.gain * b.units.offset
            spread = without_effects(predictor).spread(b, {}, NUMERIC)
            spread = np.ones(_terms(part)) if spread is None else spread
            unit = part.gain * b.units.unit * spread * (1.0 if feature is None else feature)
        entries = self.mixed(part, self.free[name], np.array([offset, *unit]))
        entries[layout.ROW] = self.first_row[part.variable]
        entries[layout.COEF] = self.first_coef[part.variable]
        entries[layout.SHARED] = int(part.variable in self.shared)
        return record(layout.SLOT, entries)

    def unit_effects(self, effects: PlacedEffects) -> list[int]:
        """Record of effects of groups in units of their standard deviations."""
        terms = effects.size // effects.part.outputs
        numbers = np.ones(1 + terms)
        entries = self.mixed(effects.part, self.free[effects.internal], numbers)
        return record(layout.SLOT, entries | {layout.ROW: -1, layout.COEF: effects.first})

    def mixed(self, part: Part, free: FreeVariable, numbers: np.ndarray) -> dict[int, int]:
        """Entries of coefficients (output, term) of a part, from a variable (..., direction).

        ``numbers`` are the offset of its predictors, and each term's factor.
        """
        mixing = None if part.placed is None else part.placed[1].site.mixing
        basis = free.basis
        if mixing is not None:
            basis = mixing if basis is None else basis @ mixing
        directions = free.free_shape[-1]
        return {
            layout.WHERE: free.where.start,
            layout.COUNT: directions * (len(numbers) - 1),
            layout.ACROSS: 1,
            layout.ALONG: directions,
            layout.DIRECTIONS: directions,
            layout.OF: part.outputs,
            layout.WIDE: len(numbers) - 1,
            layout.NUMBERS: self.address(numbers),
            layout.SCALE: -1,
            layout.BASIS: 0 if basis is None else self.address(basis),
            **self.prior(free.prior, free.free_shape, jacobian=self.jacobian, column=free.column),
        }

    def hyperparameter(self, free: FreeVariable, weights: int | None, scale: int) -> list[int]:
        """Record of hidden weights, or of scales, which are no coefficients."""
        inputs = free.shape[-1]
        units = int(np.prod(free.shape[:-1]))
        return record(
            layout.SLOT,
            {
                layout.WHERE: free.where.start,
                layout.COUNT: units * inputs,
                layout.ACROSS: inputs,
                layout.ALONG: 1,
                layout.DIRECTIONS: units,
                layout.OF: 0 if weights is None else units,
                layout.WIDE: inputs,
                layout.ROW: -1,
                layout.COEF: 0 if weights is None else weights,
                layout.NUMBERS: self.address(np.array([0.0, *[1.0] * inputs])),
                layout.SCALE: scale,
                **self.prior(free.prior, free.shape, jacobian=self.jacobian),
            },
        )

    # --- networks -----------------------------------------------------------------------------

    def networks(self) -> list[list[int]]:
        sizes = {networks.UNITS: 0, networks.TURNED: 0, networks.WIDEST: 0}
        records: list[list[int]] = []
        layers: list[list[int]] = []
        for group in self.groups:
            if group.net is not None and isinstance(group.net[0], MLP):
                for copy in range(_copies(group)):
                    records.append(self.network(group, copy, len(layers), sizes))
                    layers += self.layers(group, copy, sizes)
        cells = [c for group in self.groups for c in self.cells(group)]
        counts = {networks.NETWORKS: len(records), networks.LAYERS: len(layers)}
        counts |= {networks.CELLS: len(cells)}
        if cells:
            counts |= {networks.CELL_RUN: recurrent.run().address}
        return [record(networks.NETWORK_HEAD, counts | sizes), *records, *layers, *cells]

    def cells(self, group: Group) -> list[list[int]]:
        """Records of the recurrent cells of a group: of all its outputs, or one of each expert."""
        if group.net is None or not isinstance(group.net[0], Recurrent):
            return []
        assert group.features is not None
        net = group.net[0]
        z, previous = group.features[:, :-1], group.features[:, -1].astype(np.int64)
        self.arrays.append(previous)
        first, copies, sizes = group.members[0], _copies(group), _hidden(group)
        weights = [(self.first_weight[name], size // copies) for name, size in sizes.items()]
        shared = {
            networks.KIND: recurrent.CELLS[net.cell],
            networks.CELL_UNITS: net.units,
            networks.CELL_TERMS: z.shape[1],
            networks.CELL_FEATURES: self.address(z),
            networks.CELL_BEFORE: int(previous.ctypes.data),
        }
        at = (networks.CELL_INPUTS, networks.CELL_WEIGHTS, networks.CELL_BIAS)
        outputs = first.outputs // copies
        return [
            record(
                networks.CELL,
                shared
                | {n: start + j * size for n, (start, size) in zip(at, weights, strict=False)}
                | {
                    networks.CELL_FIRST: self.first_row[first.variable] + j * outputs,
                    networks.CELL_LAST: self.first_row[first.variable] + (j + 1) * outputs,
                    networks.CELL_AT: self.first_coef[first.variable] + j * outputs * _terms(first),
                },
            )
            for j in range(copies)
        ]

    def network(self, group: Group, copy: int, layer: int, sizes: dict[int, int]) -> list[int]:
        """Record of a network: that of all outputs of a group, or of its expert ``copy``."""
        assert group.net is not None
        assert group.features is not None
        first, copies, net = group.members[0], _copies(group), group.net[0]
        assert isinstance(net, MLP)
        outputs = sum(part.outputs for part in group.members) // copies
        row = self.first_row[first.variable] + copy * outputs
        turned = sizes[networks.TURNED]
        sizes[networks.TURNED] += outputs * net.hidden[-1]
        return record(
            networks.NETWORK,
            {
                networks.INPUTS: self.of_rows(group.features.T),
                networks.ACTIVATION: networks.ACTIVATIONS[net.activation],
                networks.DEPTH: len(net.hidden),
                networks.LAYER: layer,
                networks.OUT_FIRST: row,
                networks.OUT_LAST: row + outputs,
                networks.OUT_AT: self.first_coef[first.variable] + copy * outputs * _terms(first),
                networks.OUT_TURNED: turned,
            },
        )

    def layers(self, group: Group, copy: int, sizes: dict[int, int]) -> list[list[int]]:
        """Records of the hidden layers of a network; ``sizes`` are those of the arrays so far."""
        assert group.net is not None
        assert group.features is not None
        net, records, fed = group.net[0], [], group.features.shape[1]
        assert isinstance(net, MLP)
        for name, height in zip(_hidden(group), net.hidden, strict=True):
            entries = {
                networks.HEIGHT: height,
                networks.FED: fed,
                networks.WEIGHTS: self.first_weight[name] + copy * height * fed,
                networks.TURN: sizes[networks.TURNED],
                networks.PLACE: sizes[networks.UNITS],
            }
            records.append(record(networks.LAYER_SIZE, entries))
            sizes[networks.UNITS] += 1 + height
            sizes[networks.TURNED] += height * (fed - 1)
            sizes[networks.WIDEST] = max(sizes[networks.WIDEST], height)
            fed = 1 + height
        return records


class GroupedTable(NetworkTable):
    """The table of such a model without networks, for the function of linear predictors.

    That has rows that share an expert by group, but no weight of the log likelihood.
    """

    def function(self) -> Any:
        return linear_model.log_density()


def _groups(free: FreeVariables) -> list[Group]:
    """Groups of the parts of a model."""
    trunks: dict[str, Group] = {}
    groups: list[Group] = []
    for part in parts(free.spec, free.design, free.priors):
        if part.placed is None:
            groups.append(Group(None, None, [part]))
            continue
        predictor, b = part.placed
        if isinstance(predictor, MLP) and predictor.hidden:
            root = predictor.feature_site(b.site).stem
            if root not in trunks:
                trunks[root] = Group(predictor.features(b.matrix), (predictor, b))
                groups.append(trunks[root])
            trunks[root].members.append(part)
            continue
        if isinstance(predictor, Recurrent):
            groups.append(Group(predictor.features(b.matrix), (predictor, b), [part]))
            continue
        features = without_effects(predictor).basis(b.matrix).standardised
        same = (
            g
            for g in groups
            if g.net is None and g.features is not None and np.array_equal(g.features, features)
        )
        group = next(same, None)
        if group is None:
            groups.append(group := Group(features, None))
        group.members.append(part)
    return groups


def _terms(part: Part) -> int:
    """Number of features of a part."""
    if part.placed is None:
        return 1
    predictor, b = part.placed
    return predictor.shapes(b)[b.site.coef][-1]


def _copies(group: Group) -> int:
    """Number of networks of a group: one, or one for each expert."""
    assert group.net is not None
    net, b = group.net
    return b.site.outputs if net.feature_site(b.site).each else 1


def _hidden(group: Group) -> dict[str, int]:
    """Number of hidden weights of each layer of a group's network, by their reported names."""
    if group.net is None:
        return {}
    net, b = group.net
    shapes = net.shapes(b)
    weights = (v.name for v in net.variables(b.site) if v.in_basis)
    return {name: int(np.prod(shapes[name])) for name in weights}
