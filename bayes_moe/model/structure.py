"""What a description implies, computed once: blocks, factors, sites, variables, dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.dim_pairs import DimPairs
from bayes_moe.core.samples import Sample
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.gates import Gate
from bayes_moe.gates.feature_model import FeatureModel
from bayes_moe.gates.structure import GateStructure, Head
from bayes_moe.gates.symmetry import Symmetry, symmetry
from bayes_moe.model.blocks import Block, Component, blocks_of, responses_without_offsets
from bayes_moe.model.constraints import Constraints, Stated, constraints_of
from bayes_moe.model.expert import Expert
from bayes_moe.model.group_effects import with_group_effects
from bayes_moe.model.measure import Measure, measure_of
from bayes_moe.model.offset_rules import tells_apart
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.site import Binding
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True)
class DensityFactor:
    """A factor of the density of some experts.

    ``column`` is the matrix and the column of its response, None for the model's own.
    """

    block: Block
    column: tuple[str, int] | None = None

    def response(self, rows: Rows) -> np.ndarray:
        """Values (obs,) whose density the factor is."""
        if self.column is None:
            return rows.observed
        stem, j = self.column
        return rows.matrices[stem].values[:, j]

    def own_response(self, rows: Rows) -> Sample:
        """Those values that the experts can have; all, if it is none of them.

        They are what units and default priors of the experts' parameters are scaled to, so they
        are without what varies by an offset of their location.
        """
        y, weights = self.response(rows), rows.weights
        inside = self.block.supports(y, self.block.known(rows.matrices))
        y = responses_without_offsets(self.block, self.block.family.plain(y), rows.matrices)
        if inside.all() or not inside.any():
            return Sample(y, weights)
        return Sample(y[..., inside], None if weights is None else weights[inside])


@dataclass(frozen=True, eq=False)
class Structure:
    """What a gate, experts and priors imply; ``spec.structure``.

    Attributes
    ----------
    gate : GateStructure
        The gate for the number of experts.
    expert_labels : list
        Labels along the expert dimension: the experts' names, or 0, 1, ...
    blocks : tuple of Block
        Groups of exchangeable experts, in the order of the experts.
    factors : tuple of DensityFactor
        Factors of the experts' densities: the response's, then those of the gate's features.
    components : tuple of Component
        Family parameters of all factors.
    sites : tuple of (Site, Predictor)
        All predictors of the model, the gate's first.
    gate_variables, variables : tuple of str
        Reported variables of the gate and of the model, all on the user's scale.
    quantities : tuple of str
        Reported variables that are identified, as weights of networks are not.
    supports : dict of str to str
        Supports of those reported variables that are not any real number: ``"positive"``, or
        ``"unit"`` of probabilities.
    dims : dict of str to tuple of str
        Internal dimensions of the variables, internal coefficients included.
    pairs : DimPairs
        The two dimensions that reported variables have for one over a parameter's numbers and
        experts.
    derived_dims : dict of str to tuple of str
        Dimensions of the quantities derived from the gate's variables.
    bases : dict of str to (str, array)
        Of internal variables in a basis: the dimension of its rows, and the basis.
    symmetry : Symmetry
        Which experts are exchangeable.
    constraints : Constraints
        What experts share, what is held, and which entries have a prior of their own.
    row_count_formulas : dict of str to str
        Formulas of counts that families need of each row (a number of trials), by stem.
    stems_without_terms : frozenset of str
        Stems of formulas whose columns are no terms of a reported variable.
    measure : Measure
        The measure by which densities of the response are taken.
    is_linear : bool
        Whether EM can treat the model: its predictors are sums of fixed features with normal
        coefficients, and its gate is a product of softmaxes or a Markov chain.
    has_gradient : bool
        Whether the log density has a gradient by all parameters.
    """

    gate: GateStructure
    expert_labels: list[Any]
    blocks: tuple[Block, ...]
    factors: tuple[DensityFactor, ...]
    components: tuple[Component, ...]
    sites: tuple[tuple[Site, Predictor], ...]
    gate_variables: tuple[str, ...]
    variables: tuple[str, ...]
    quantities: tuple[str, ...]
    supports: dict[str, str]
    dims: dict[str, tuple[str, ...]]
    pairs: DimPairs
    derived_dims: dict[str, tuple[str, ...]]
    bases: dict[str, tuple[str, Any]]
    symmetry: Symmetry
    constraints: Constraints
    row_count_formulas: dict[str, str]
    stems_without_terms: frozenset[str]
    measure: Measure
    is_linear: bool
    has_gradient: bool

    @property
    def reported_dims(self) -> dict[str, tuple[str, ...]]:
        """Dimensions of the reported variables, as users see them."""
        return {name: self.pairs.dims(self.dims[name]) for name in self.variables}

    @property
    def discrete(self) -> bool:
        """Whether the response is a whole number."""
        return self.measure.discrete

    @property
    def whole_series(self) -> bool:
        """Whether the density of some rows can only be computed with the rows before these.

        Attention to the rows before has their features among those of the row itself.
        """
        return self.gate.chain is not None or any(
            getattr(p, "whole_series", False) for _, p in self.sites
        )

    @property
    def has_memory(self) -> bool:
        """Whether the density of a row depends on the rows before it in its series."""
        if self.gate.chain is not None:
            return True
        return any(getattr(p, "has_memory", False) for _, p in self.sites)

    @property
    def counted(self) -> str:
        """The number of experts in words: ``"1 expert"``, ``"2 experts"``."""
        n_experts = self.gate.n_experts
        return f"{n_experts} expert{'s' if n_experts > 1 else ''}"

    def permutation_index(self, orders: np.ndarray) -> dict[str, np.ndarray]:
        """Index (sample, position) along every dimension of experts or branches.

        Expert ``orders[sample, k]`` becomes expert ``k``.
        """
        index = {names.EXPERT: orders, **self.gate.permutation_index(orders)}
        for block in self.blocks:
            own = orders[:, list(block.positions)] - block.positions[0]
            index[block.dim] = own
            for c in block.components:
                if c.parameter.labels:
                    first = c.experts * np.arange(c.parameter.size)[:, None]
                    index[c.site.dim] = (own[:, None] + first).reshape(len(own), -1)
        return index

    def default_priors(self, design: Design) -> dict[str, Prior]:
        """Data-scaled default prior of every reported variable, by name."""
        rows = design.rows
        priors = self.gate.default_priors(rows.matrices, design.first_sample)
        for factor in self.factors:
            priors |= factor.block.default_priors(rows.matrices, factor.own_response(rows))
        return priors

    def bound(self, design: Design) -> Iterator[tuple[Predictor, Binding]]:
        """All predictors, the gate's first, at their sites with features and response."""
        matrices = design.rows.matrices
        for h in self.gate.heads:
            yield h.predictor, h.site.bind(matrices[h.stem], design.first_sample)
        for factor in self.factors:
            response = factor.own_response(design.rows)
            for c in factor.block.components:
                if c.formula is not None:
                    own = c.parameter.own(response)
                    yield c.predictor, c.site.bind(matrices[c.stem], own)

    def coords(self, design: Design) -> dict[str, Any]:
        """Labels along every dimension of the model, by dimension."""
        rows, labels = design.rows, self.expert_labels
        coords: dict[str, Any] = {names.OBS: rows.obs_id, names.EXPERT: labels}
        for block in self.blocks:
            coords[block.dim] = [labels[k] for k in block.positions]
            for c in block.components:
                coords |= c.coords(coords[block.dim])
        coords |= self.pairs.coords | self.gate.coords(rows.matrices)
        if self.gate.features is not None:
            coords |= self.gate.features.derived_coords
        for stem, matrix in rows.matrices.items():
            if stem not in self.stems_without_terms:
                coords[names.term(stem)] = list(matrix.terms)
        for site, predictor in self.sites:
            coords |= predictor.coords(site.bind(rows.matrices[site.stem]))
        return coords


def structure_of(
    gate: Gate,
    experts: tuple[Expert, ...],
    priors: Mapping[str, Prior],
    stated: Stated,
    known: frozenset[int] = frozenset(),
) -> Structure:
    """The structure of a gate over experts, put in the order of their blocks.

    Experts at the positions ``known``, those of some rows, are exchangeable with no other.
    """
    gated, blocks = with_group_effects(gate, len(experts)), blocks_of(experts)
    factors = (*(DensityFactor(block) for block in blocks), *_feature_factors(gated.features))
    components = tuple(c for factor in factors for c in factor.block.components)
    sites = _sites(gated, components)
    expert_variables = (name for factor in factors for name in factor.block.variables)
    variables = tuple(dict.fromkeys((*gated.dims, *expert_variables)))
    unidentified = {name for site, p in sites for name in p.variables(site).unidentified}
    row_count_formulas = _row_count_formulas(blocks)
    unused_gate = gate.formulas if len(experts) == 1 else {}
    splits = len(experts) == 1 or gated.splits is not None or gated.chain is not None
    labels = _labels([e.name for e in experts])
    all_blocks = tuple(factor.block for factor in factors)
    constraints = constraints_of(stated, gate, gated, all_blocks, labels)
    exchange_tree = None if tells_apart(gate) else gated.exchange_tree
    return Structure(
        gate=gated,
        expert_labels=labels,
        blocks=blocks,
        factors=factors,
        components=components,
        sites=sites,
        gate_variables=tuple(gated.dims),
        variables=variables,
        quantities=tuple(name for name in variables if name not in unidentified),
        supports=_supports(components, sites),
        dims=_dims(gated, components, priors),
        pairs=_pairs(blocks, labels),
        derived_dims={} if gated.features is None else gated.features.derived_dims,
        bases=_bases(gated, components, priors),
        symmetry=_symmetry(exchange_tree, blocks, constraints, known),
        constraints=constraints,
        row_count_formulas=row_count_formulas,
        stems_without_terms=frozenset((*row_count_formulas, *unused_gate)),
        measure=measure_of([block.family for block in blocks]),
        is_linear=splits and all(p.is_linear for _, p in sites),
        has_gradient=all(p.gradient for _, p in sites),
    )


def _sites(
    gate: GateStructure, components: tuple[Component, ...]
) -> tuple[tuple[Site, Predictor], ...]:
    """All predictors of a model, the gate's first."""
    return (
        *((h.site, h.predictor) for h in gate.heads),
        *((c.site, c.predictor) for c in components if c.formula is not None),
    )


def _row_count_formulas(blocks: tuple[Block, ...]) -> dict[str, str]:
    """Formulas of counts that families need of each row, by stem."""
    counts = (count for block in blocks for count in block.knowns)
    return {c.stem: c.formula for c in counts if c.formula is not None}


def _supports(
    components: tuple[Component, ...], sites: tuple[tuple[Site, Predictor], ...]
) -> dict[str, str]:
    """Supports of the variables that are not any real number, by name."""
    of_sites = {n: s for site, p in sites for n, s in p.variables(site).supports.items()}
    own = {name: support for c in components for name, support in c.supports.items()}
    return of_sites | own


def _labels(given_names: list[str | None]) -> list[Any]:
    """Labels of experts: their names if these are unique, numbers if there are none."""
    if len({*given_names}) == len(given_names) and None not in given_names:
        return list(given_names)
    if all(name is None for name in given_names):
        return list(range(len(given_names)))
    return [f"{name or 'expert'}[{k}]" for k, name in enumerate(given_names)]


def _dims(
    gate: GateStructure, components: tuple[Component, ...], priors: Mapping[str, Prior]
) -> dict[str, tuple[str, ...]]:
    """Dimensions of the variables by name, internal coefficients included."""
    dims = dict(gate.dims)
    for h in gate.heads:
        dims |= h.predictor.internal_dims(h.site_under(_prior(h, priors))[0])
    for c in components:
        dims |= c.dims | c.internal_dims(_prior_of(c, priors))
    return dims


def _pairs(blocks: tuple[Block, ...], labels: list[Any]) -> DimPairs:
    """Dimensions of parameters with several numbers, as (number, expert)."""
    return DimPairs(
        {
            c.site.dim: {
                c.parameter.dim: c.parameter.labels,
                b.dim: [labels[k] for k in b.positions],
            }
            for b in blocks
            for c in b.components
            if c.parameter.labels
        }
    )


def _bases(
    gate: GateStructure, components: tuple[Component, ...], priors: Mapping[str, Prior]
) -> dict[str, tuple[str, Any]]:
    """Of internal variables in a basis: the dimension of its rows, and the basis."""
    bases = {}
    for h in gate.heads:
        mixing, dim, _ = h.mixing(_prior(h, priors))
        if mixing is not None and dim != h.dim:
            bases[names.raw(h.stem)] = (h.dim, mixing)
    for c in components:
        site = c.site_under(_prior_of(c, priors))[0]
        if c.formula is not None and site.mixing is not None:
            bases[site.raw] = (site.dim, site.mixing)
    return bases


def _symmetry(
    exchange_tree: Any,
    blocks: tuple[Block, ...],
    constraints: Constraints,
    known: frozenset[int],
) -> Symmetry:
    """Permutations of the experts that leave the model as it is."""
    block_of = {k: b for b, block in enumerate(blocks) for k in block.positions}
    marks = constraints.marks(len(block_of))
    described = [(block_of[k], mark, k if k in known else -1) for k, mark in enumerate(marks)]
    kinds = tuple(described.index(one) for one in described)
    return symmetry(None if constraints.branches_differ else exchange_tree, kinds)


def _prior(head: Head, priors: Mapping[str, Prior]) -> Prior:
    """The user's prior of a head's coefficients, or one with the default's support."""
    return priors.get(head.site.coef, Prior("ZeroSumNormal", sigma=1.0))


def _prior_of(component: Component, priors: Mapping[str, Prior]) -> Prior | None:
    """The user's prior of a component, or one with the default's support."""
    default = Prior("ZeroSumNormal", sigma=1.0) if component.zero_sum else None
    return priors.get(component.variable, default)


def _feature_factors(features: FeatureModel | None) -> tuple[DensityFactor, ...]:
    """Normal densities of the gate's features, one for each expert."""
    if features is None:
        return ()
    positions = tuple(range(features.n_experts))
    return tuple(
        DensityFactor(
            Block(Expert(f"feature {d.formula}", "normal"), positions, d.name, names.EXPERT),
            (d.stem, d.column),
        )
        for d in features.densities
    )
