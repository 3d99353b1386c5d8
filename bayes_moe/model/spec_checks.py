"""Checks of a description, and of a design that is to be fitted under it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bayes_moe.core import names
from bayes_moe.core.errors import DataError, SpecError, listed, unknown
from bayes_moe.data.design import Design
from bayes_moe.data.formulas import check_right_hand_side, without_offsets
from bayes_moe.data.matrix import Rows
from bayes_moe.data.observation import RowColumns
from bayes_moe.data.responses import response_parts
from bayes_moe.data.tables import check_size
from bayes_moe.families import quoted
from bayes_moe.families.base import check_varied
from bayes_moe.gates import Gate
from bayes_moe.gates.feature_model import FeatureModel
from bayes_moe.model.blocks import Block, responses_without_offsets
from bayes_moe.model.expert import Expert
from bayes_moe.model.measure import measure_of
from bayes_moe.model.offset_rules import check_expert_offsets, check_gate_offsets
from bayes_moe.model.shared_effects import has_shared_effects
from bayes_moe.model.structure import Structure
from bayes_moe.predictors import Predictor, Site
from bayes_moe.predictors.base import check_coefficient_prior
from bayes_moe.predictors.random_effects import check_no_effects
from bayes_moe.priors.prior import Prior

# --- the parts of a description ------------------------------------------------------------------


def checked_experts(experts: Any) -> tuple[Expert, ...]:
    """The experts of a list that has at least one."""
    if isinstance(experts, Expert) or not isinstance(experts, Iterable):
        raise SpecError(f"`experts` must be a list of Expert, got {experts!r}.")
    listed = tuple(experts)
    if not listed:
        raise SpecError("A mixture of experts needs at least one expert.")
    return listed


def check_parts(gate: Any, experts: tuple[Any, ...], priors: Any, center: Any) -> None:
    """Raise :class:`SpecError` for wrong types and for experts that do not go together."""
    for value, expected in ((gate, Gate), *((e, Expert) for e in experts)):
        if not isinstance(value, expected):
            raise SpecError(f"Expected {expected.__name__}, got {value!r}.")
    responses = list(dict.fromkeys(e.response for e in experts))
    if len(responses) > 1:
        raise SpecError(f"Experts must share one response; got {', '.join(responses)}.")
    levels = list(dict.fromkeys(e.levels for e in experts))
    if len(levels) > 1:
        raise SpecError(
            f"Experts must share one list of classes; got levels={levels[0]!r} and {levels[1]!r}."
        )
    measure_of([e.family for e in experts])
    if len(experts) == 1 and experts[0].family.stands_alone:
        raise SpecError(
            f"One expert of family {experts[0].family.kind!r} leaves nothing to fit: give two or "
            "more, between which the gate chooses."
        )
    if not isinstance(center, bool):
        raise SpecError(f"`center` must be True or False; it is {center!r}.")
    if priors is not None and not isinstance(priors, Mapping):
        raise SpecError(f"`priors` must map names to Prior; it is {priors!r}.")
    for name, prior in (priors or {}).items():
        if not isinstance(prior, Prior):
            raise SpecError(f"The prior of {name!r} must be a Prior; it is {prior!r}.")


def checked_constraints(shared: Any, fixed: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Names of what is shared, and values of what is held, of the right types."""
    if isinstance(shared, str):
        shared = (shared,)
    if not isinstance(shared, Iterable) or not all(isinstance(name, str) for name in shared):
        raise SpecError(f"`shared` must be names of variables; it is {shared!r}.")
    if fixed is not None and not isinstance(fixed, Mapping):
        raise SpecError(f"`fixed` must map names of variables to values; it is {fixed!r}.")
    held = {name: _tuples(value) for name, value in (fixed or {}).items()}
    return tuple(dict.fromkeys(shared)), held


def _tuples(value: Any) -> Any:
    """Nested lists and arrays as tuples, NumPy's numbers as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def check_gate_formulas(gate: Gate) -> None:
    """Raise :class:`SpecError` for formulas of a gate that are no right-hand sides."""
    for stem, formula in gate.formulas.items():
        if formula is not None:
            check_right_hand_side(f"The formula of {stem!r}", formula)


def check_gradient(structure: Structure) -> None:
    """Raise :class:`SpecError` for a predictor without a gradient in the gate, or constraints."""
    if structure.constraints and not structure.has_gradient:
        raise SpecError(
            "A model with trees has no shared or fixed parameters, and no priors of single "
            "entries: leave them out, or use another predictor, such as 'spline'."
        )
    for h in structure.gate.heads:
        if not h.predictor.gradient:
            raise SpecError(
                f"{h.predictor!r} has no gradient: it predicts parameters of experts and "
                "cannot be used in a gate. Give the gate 'linear', 'spline', 'hsgp' or 'mlp'."
            )


def check_structure(
    gate: Gate, structure: Structure, formulas: Mapping[str, str], priors: Mapping[str, Prior]
) -> None:
    """Raise :class:`SpecError` for what a gate and experts imply and cannot be.

    ``formulas`` are those of the model by stem, ``priors`` the user's of whole variables.
    """
    check_gate_offsets(gate, structure.gate.heads, formulas)
    for block in structure.blocks:
        check_expert_offsets(block)
    check_gradient(structure)
    check_names(structure)
    check_trunks(structure, formulas)
    check_priors(gate, structure, priors)


def check_truncation(structure: Structure, columns: RowColumns, response: str) -> None:
    """Raise :class:`SpecError` for a truncated response beside what it does not go with."""
    if structure.blocks[0].family.truncation is None:
        return
    found = [] if columns.expert is None else ["`expert`"]
    found += ["a gate that models its features"] if structure.gate.features is not None else []
    if found:
        raise SpecError(
            f"The truncated response {response!r} cannot be beside {found[0]}: the probability "
            "that a row was recorded is that of a row by itself, given its features."
        )
    if columns.group is not None and has_shared_effects(structure, columns):
        raise SpecError(
            f"The truncated response {response!r} cannot be beside `group` and effects of the same "
            "groups, such as (1 | g): the probability that a group was recorded would be an "
            "integral over its effects. Leave one of the two out."
        )


def check_names(structure: Structure) -> None:
    """Raise :class:`SpecError` where two blocks or two variables would have one name."""
    taken = [b.name for b in structure.blocks if b.name is not None]
    clash = [n for n in taken if n == names.GATE or taken.count(n) > 1]
    if clash:
        raise SpecError(
            f"Experts of different kinds need different names, none of them 'gate'; "
            f"{clash[0]!r} is taken."
        )
    shared = {name for site, p in structure.sites for name in p.variables(site).shared}
    expert_variables = (name for f in structure.factors for name in f.block.variables)
    variables = [n for n in (*structure.gate_variables, *expert_variables) if n not in shared]
    twice = [n for n in variables if variables.count(n) > 1]
    if twice:
        raise SpecError(
            f"Two variables would be called {twice[0]!r}, one of the gate's and one of an "
            "expert's: give the expert another name."
        )


def check_trunks(structure: Structure, formulas: Mapping[str, str]) -> None:
    """Raise :class:`SpecError` where predictors share variables but differ otherwise."""
    seen: dict[str, tuple[Site, Predictor, str]] = {}
    for site, predictor in structure.sites:
        for name in sorted(predictor.variables(site).shared):
            formula = without_offsets(formulas[site.stem])
            here = (site, predictor, formula.replace(" ", "").lstrip("~"))
            first = seen.setdefault(name, here)
            if first[1:] != here[1:]:
                raise SpecError(
                    f"{first[0].stem!r} and {site.stem!r} share {name!r}: they need the same "
                    f"formula and predictor; they have {first[2]!r} with {first[1]!r} and "
                    f"{here[2]!r} with {predictor!r}."
                )


def check_priors(gate: Gate, structure: Structure, priors: Mapping[str, Prior]) -> None:
    """Raise :class:`SpecError` for priors of unknown variables or of the wrong support."""
    own = {name: support for c in structure.components for name, support in c.supports.items()}
    constants = {c.variable for c in structure.components if c.formula is None} | {*own}
    zero_sum = {c.variable for c in structure.components if c.zero_sum}
    gate_coefs = {names.coef(stem) for stem in gate.formulas}
    gate_supports = structure.gate.supports
    one_expert = structure.gate.n_experts == 1
    for name, prior in priors.items():
        if name not in structure.variables and not (one_expert and name in gate_coefs):
            raise SpecError(unknown("prior", name, structure.variables))
        supports = {own.get(name, "real")}
        supports |= {"zero-sum"} if name in zero_sum else set()
        if name in gate_coefs or name in gate_supports:
            supports = gate_supports.get(name, {"real", "zero-sum"})
        if prior.kind.support not in supports:
            raise SpecError(
                f"The prior of {name!r} must have {' or '.join(sorted(supports))} support; "
                f"{prior.distribution} has {prior.kind.support} support."
            )
        for site, predictor in structure.sites:
            check_no_effects(predictor, site, name)
            if site.coef == name:
                check_coefficient_prior(predictor, site, prior)
        vectors = [a for a, value in prior.arguments.items() if isinstance(value, tuple)]
        if name in constants and vectors:
            raise SpecError(
                f"The prior of {name!r} is the same for all experts: its argument "
                f"{vectors[0]!r} must be one number; it is {prior.arguments[vectors[0]]!r}."
            )


# --- the rows of a table -------------------------------------------------------------------------


def check_missing(structure: Structure, missing: str) -> None:
    """Raise :class:`SpecError` if missing features are to be modelled and the gate does not."""
    if missing != "model":
        return
    if structure.gate.n_experts == 1:
        raise SpecError(
            "missing='model' needs a gate, and one expert has none: use missing='drop'."
        )
    if structure.gate.features is None:
        raise SpecError(
            "missing='model' needs a gate that models its features, such as "
            "bm.gates.Gaussian('~ x'); with another gate use missing='drop'."
        )
    if structure.constraints:
        raise SpecError(
            "missing='model' has no shared or fixed parameters, and no priors of single entries: "
            "use missing='drop'."
        )


def check_rows(structure: Structure, response: str, design: Design) -> None:
    """Raise :class:`DataError` for rows that the model cannot be fitted to."""
    rows, n_experts = design.rows, structure.gate.n_experts
    if n_experts > rows.size:
        raise DataError(f"There are more experts ({n_experts}) than rows ({rows.size}).")
    if structure.gate.features is not None:
        _check_features(structure.gate.features, rows)
    for block in structure.blocks:
        check_expert_offsets(block)
        block.check_known(rows)
    if len(structure.blocks) == 1:
        _check_response(structure.blocks[0], response, rows, np.ones(rows.size, dtype=bool))
        return
    inside = np.stack([b.supports(rows.observed, b.known(rows.matrices)) for b in structure.blocks])
    plain = structure.blocks[0].family.plain(rows.observed)
    if plain.ndim == 1:  # families of several responses check each
        check_size(plain, f"response {response!r}")
        check_varied(plain, f"response {response!r}")
    outside = np.flatnonzero(~inside.any(axis=0))
    if outside.size:
        values = np.atleast_2d(rows.observed).T
        texts = (", ".join(f"{value:g}" for value in values[i]) for i in outside)
        labels = rows.obs_id[outside]
        shown = listed(f"{text} at row {i}" for text, i in zip(texts, labels, strict=True))
        each = ", ".join(dict.fromkeys(quoted(b.family) for b in structure.blocks))
        raise DataError(
            f"No expert can have the response {response!r} of {outside.size} row(s): {shown}. "
            f"Their families are {each}."
        )
    for block, own in zip(structure.blocks, inside, strict=True):
        _check_response(block, response, rows, own)


def _check_response(block: Block, response: str, rows: Rows, own: np.ndarray) -> None:
    """Raise :class:`DataError` for responses of some rows (obs,) that a block cannot be fitted to.

    A family with a density or counts has at least one row.
    """
    if not own.any():
        if block.family.lower == block.family.upper:
            return
        raise DataError(
            f"No row has a response {response!r} that the family {quoted(block.family)} can have."
        )
    where = np.flatnonzero(own)
    known = block.known(rows.matrices, where)
    block.family.check_response(rows.observed[..., where], response, known, rows.obs_id[where])
    plain = block.family.plain(rows.observed)
    rest = responses_without_offsets(block, plain, rows.matrices)
    if rest is not plain:
        for j, values in enumerate(np.atleast_2d(rest)):
            name = response if rest.ndim == 1 else response_parts(response)[j]
            check_varied(values[where], f"response {name!r} without its offset")


def _check_features(features: FeatureModel, rows: Rows) -> None:
    for density in features.densities:
        matrix = rows.matrices[density.stem]
        if len(matrix.terms) != len(features.densities):
            raise DataError(
                f"A Gaussian gate models columns of numbers; its features make the columns "
                f"{', '.join(matrix.terms)}. Leave categories out, or use a softmax gate."
            )
        values = matrix.values[:, density.column]
        if np.nanmax(values) == np.nanmin(values):
            raise DataError(
                f"The feature {density.term!r} of the Gaussian gate is the same in every row."
            )
