"""Free values of a model with shared or held parameters: an affine map to those of all experts.

The internal values of a variable are its coefficients in internal units (:mod:`.linear`'s ``raw``),
or the link of its constants, (output, term). Those of constrained variables, one after another, are
``matrix @ free + offset``. Slopes on the user's scale are multiples of internal ones, so a tie or a
hold of a slope is one of a coordinate. The reported intercept is that at features of zero: where
the features are centred, holding it ties the internal intercept to the slopes.

Every free value is one entry of the variables, the first of those that are equal to it, and has
that entry's prior; what is held has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayes_moe.core.errors import SpecError
from bayes_moe.data.design import Design
from bayes_moe.model.constrained_variables import (
    ConstrainedVariable,
    HeldGate,
    constrained_parameters,
    entry_priors,
    held_gate,
    hold,
    of_term,
)
from bayes_moe.model.entries import Entry, term_position
from bayes_moe.model.spec import MixtureOfExperts
from bayes_moe.priors.prior import Prior


@dataclass(frozen=True, eq=False)
class FreeGroup:
    """Free values of one variable whose priors are of one distribution.

    ``prior`` has one number a value in every argument; of coefficients it is in internal units.
    """

    name: str
    variable: str
    which: np.ndarray
    prior: Prior


@dataclass(frozen=True, eq=False)
class FreeValues:
    """Free values of the constrained variables of a model on a design.

    Attributes
    ----------
    variables : dict of str to ConstrainedVariable
        Of the experts, by name.
    gates : dict of str to HeldGate
        Of the gate, by name.
    owners : list of (str, int, int)
        Variable, output and term of every free value.
    matrix, offset : array (entry, free), array (entry,)
        The affine map.
    """

    variables: dict[str, ConstrainedVariable]
    gates: dict[str, HeldGate]
    owners: list[tuple[str, int, int]]
    matrix: np.ndarray
    offset: np.ndarray

    @cached_property
    def groups(self) -> list[FreeGroup]:
        """Free values by variable and distribution, with their internal priors."""
        found: dict[tuple[str, str], list[tuple[int, Prior]]] = {}
        for j, (name, output, term) in enumerate(self.owners):
            prior = self.internal_prior(self.variables[name], output, term)
            found.setdefault((name, prior.distribution), []).append((j, prior))
        groups = []
        for (name, distribution), members in found.items():
            alone = sum(other == name for other, _ in found) == 1
            arguments = {
                a: np.array([p.arguments[a] for _, p in members]) for a in members[0][1].arguments
            }
            suffix = "" if alone else f"_{distribution.lower()}"
            which = np.array([j for j, _ in members])
            prior = Prior(distribution, **arguments)
            groups.append(FreeGroup(f"{name}_free{suffix}", name, which, prior))
        return groups

    def internal_prior(self, variable: ConstrainedVariable, output: int, term: int) -> Prior:
        """Prior of the internal value of an entry, with one number in every argument."""
        prior = variable.priors[output][term]
        if variable.scaling is None:
            return prior
        every = prior.over_terms(variable.name, variable.terms)
        return of_term(variable.scaling.raw_prior(every), term)

    def of_internal(self, internal: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Values of the groups (..., value) at the sampler's variables of the whole model."""
        values = {}
        for group in self.groups:
            variable = self.variables[group.variable]
            if variable.scaling is None:
                entries = internal[group.variable][..., None]
            else:
                entries = np.swapaxes(internal[variable.of.site.raw], -1, -2)
            places = [self.owners[j][1:] for j in group.which]
            outputs, terms = (list(p) for p in zip(*places, strict=True))
            values[group.name] = entries[..., outputs, terms]
        for name, gate in self.gates.items():
            if not gate.held.all():
                values[f"{name}_free"] = internal[gate.head.site.raw][..., ~gate.held, :]
        return values

    def exact(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Reported variables (..., output, term) with held and shared entries free of rounding."""
        result = dict(values)
        for name, gate in self.gates.items():
            if name in result:
                result[name] = np.where(np.isnan(gate.value), result[name], gate.value)
        for name, variable in self.variables.items():
            if name not in result:
                continue
            entries = np.array(result[name], dtype=float)
            entries = entries[..., None] if variable.scaling is None else entries
            experts = variable.experts
            for k, term in np.ndindex(experts, len(variable.terms)):
                # The directions of a parameter with labels are all held, or all shared.
                j, outputs = variable.free[k, term], slice(k, None, experts)
                if j < 0:
                    entries[..., outputs, term] = variable.value[k, term]
                elif self.owners[j][0] in result:
                    owner, first, t = self.owners[j]
                    given, of = result[owner], self.variables[owner]
                    given = given[..., None] if of.scaling is None else given
                    entries[..., outputs, term] = given[..., first :: of.experts, t]
            result[name] = entries[..., 0] if variable.scaling is None else entries
        return result

    def held(self, name: str) -> np.ndarray | None:
        """Whether entries of a reported variable are held, in its shape; None if it has none."""
        if name in self.gates:
            return ~np.isnan(self.gates[name].value)
        if name not in self.variables:
            return None
        variable = self.variables[name]
        held = np.tile(variable.free[: variable.experts] < 0, (variable.of.parameter.size, 1))
        return held[:, 0] if variable.scaling is None else held

    @property
    def removed(self) -> int:
        """By how much there are fewer parameters of the likelihood."""
        fewer = sum(v.value.size for v in self.variables.values()) - len(self.owners)
        for gate in self.gates.values():
            outputs = gate.head.n_outputs - int(gate.head.zero_sum and gate.head.basis is None)
            if gate.head.basis is not None:
                outputs = len(gate.head.basis)
            fewer += int(gate.held.sum()) * outputs
        return fewer


def free_values(
    spec: MixtureOfExperts, design: Design, priors: Mapping[str, Prior] | None = None
) -> FreeValues | None:
    """Free values of a model's constrained variables; None if it has none.

    ``priors`` are the resolved ones of whole variables.

    Raises
    ------
    SpecError
        For terms that the design does not have, and for ties that are none of internal values.
    """
    constraints = spec.structure.constraints
    if not constraints:
        return None
    priors = spec.resolve_priors(design) if priors is None else priors
    gates = {
        h.site.coef: held_gate(h, design, [f for f in constraints.fixed if f[0].of is h])
        for h in spec.structure.gate.heads
        if h.site.coef in constraints.variables
    }
    variables: dict[str, ConstrainedVariable] = {}
    owners: list[tuple[str, int, int]] = []
    start = 0
    for c, site, scaling, prior in constrained_parameters(spec, design, priors):
        outputs = site.outputs if site.mixing is None else len(site.mixing)
        shape = (outputs, 1 if scaling is None else len(scaling.matrix.terms))
        of_entries = entry_priors(constraints.priors, c, outputs, scaling, prior)
        empty = np.full(shape, np.nan), np.full(shape, -1)
        variable = ConstrainedVariable(c, site, scaling, of_entries, *empty, start)
        hold(variable, constraints.fixed)
        _number(variable, constraints.shared, variables, owners)
        variables[c.variable] = variable
        start += variable.value.size
    matrix, offset = np.zeros((start, len(owners))), np.zeros(start)
    for variable in variables.values():
        _fill(variable, variables, owners, (matrix, offset))
    return FreeValues(variables, gates, owners, matrix, offset)


def exact(
    spec: MixtureOfExperts, design: Design, values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Variables of a model with held and shared entries free of rounding."""
    free = free_values(spec, design)
    return dict(values) if free is None else free.exact(values)


def _number(
    variable: ConstrainedVariable,
    shared: tuple[tuple[Entry, ...], ...],
    earlier: Mapping[str, ConstrainedVariable],
    owners: list[tuple[str, int, int]],
) -> None:
    """Number the free values of a variable: new ones, or those of entries that it shares."""
    for output, term in np.ndindex(variable.value.shape):
        if not np.isnan(variable.value[output, term]):
            continue
        owner = _owner(variable, output, term, shared, earlier)
        if owner is None:
            variable.free[output, term] = len(owners)
            owners.append((variable.name, output, term))
            continue
        variable.free[output, term] = owner[1]
        first = owners[owner[1]]
        prior = owner[0].priors[first[1]][first[2]]
        if not _same_prior(prior, variable.priors[output][term]):
            raise SpecError(
                f"{owner[0].name!r} and {variable.name!r} are shared and have one prior; theirs "
                f"differ: {prior!r}, {variable.priors[output][term]!r}."
            )


def _owner(
    variable: ConstrainedVariable,
    output: int,
    term: int,
    shared: tuple[tuple[Entry, ...], ...],
    earlier: Mapping[str, ConstrainedVariable],
) -> tuple[ConstrainedVariable, int] | None:
    """Earlier variable, and number of the free value, that an entry is equal to; None if none."""
    label = variable.terms[term]
    for entries in shared:
        mine = [e for e in entries if e.variable == variable.name]
        if not mine or term_position(mine[0], variable.terms) not in (None, term):
            continue
        if output not in mine[0].outputs(len(variable.value), variable.experts):
            continue
        for e in entries:
            other = variable if e.variable == variable.name else earlier.get(e.variable)
            if other is None or label not in other.terms:
                continue
            t = other.terms.index(label)
            if other is variable and output % variable.experts == 0:
                continue
            return other, int(other.free[output // variable.experts * other.experts, t])
    return None


def _same_prior(one: Prior, other: Prior) -> bool:
    values = zip(one.arguments.values(), other.arguments.values(), strict=False)
    return one.distribution == other.distribution and all(np.allclose(a, b) for a, b in values)


def _fill(
    variable: ConstrainedVariable,
    variables: Mapping[str, ConstrainedVariable],
    owners: list[tuple[str, int, int]],
    affine: tuple[np.ndarray, np.ndarray],
) -> None:
    """Fill the rows of a variable's entries in the affine map, slopes before intercepts."""
    matrix, offset = affine
    intercept = None if variable.scaling is None else variable.scaling.matrix.intercept
    count = len(variable.terms)
    for term in sorted(range(count), key=lambda t: t == intercept):
        scale = variable.linear[term, term]
        for output in range(len(variable.value)):
            row, j = variable.start + output * count + term, variable.free[output, term]
            slopes, level = _from_slopes(variable, output, affine, term == intercept)
            if j < 0:
                matrix[row] = -slopes / scale
                held = variable.linked[output, term]
                offset[row] = (held - variable.offset[term] - level) / scale
                continue
            name, k, t = owners[j]
            owner = variables[name]
            matrix[row, j] = owner.linear[t, t] / scale
            if (name, k, t) == (variable.name, output, term):
                continue
            offset[row] = (owner.offset[t] - variable.offset[term]) / scale
            first, first_level = _from_slopes(owner, k, affine, term == intercept)
            if not (np.allclose(first, slopes) and np.isclose(first_level, level)):
                raise SpecError(
                    f"`shared`: the intercepts of {variable.name!r} are values at features of "
                    "zero, and their priors refer to the centre of the features, which differ "
                    "where slopes do. Share the slopes too, or describe the model with "
                    "center=False."
                )


def _from_slopes(
    variable: ConstrainedVariable,
    output: int,
    affine: tuple[np.ndarray, np.ndarray],
    is_intercept: bool,
) -> tuple[np.ndarray, float]:
    """What the slopes of an expert add to its reported intercept: (free,) and a constant."""
    matrix, offset = affine
    if not is_intercept or variable.scaling is None:
        return np.zeros(matrix.shape[1]), 0.0
    count, at = len(variable.terms), variable.scaling.matrix.intercept
    assert at is not None
    weights = np.where(np.arange(count) == at, 0.0, variable.linear[:, at])
    rows = slice(variable.start + output * count, variable.start + (output + 1) * count)
    return weights @ matrix[rows], float(weights @ offset[rows])
