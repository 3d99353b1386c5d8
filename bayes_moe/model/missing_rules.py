"""Which columns may have missing values, and why others may not."""

from __future__ import annotations

from collections.abc import Iterator

from bayes_moe.data.formulas import parse_formula, used_columns
from bayes_moe.data.group_terms import group_terms, without_groups
from bayes_moe.gates import Gate
from bayes_moe.model.blocks import Block
from bayes_moe.model.structure import Structure
from bayes_moe.predictors import Linear


def integrable(gate: Gate, structure: Structure) -> dict[str, str | None]:
    """Columns that a gate models, and why their missing values cannot be integrated out.

    The reason is None where they can.
    """
    features = structure.gate.features
    if features is None:
        return {}
    reason_by_column = {}
    for column in _plain_columns(str(gate.formulas[features.densities[0].stem])):
        by_block = (reason for b in structure.blocks for reason in _of_block(b, column))
        reason_by_column[column] = next(iter([*_of_gate(gate, column), *by_block]), None)
    return reason_by_column


def _of_gate(gate: Gate, column: str) -> Iterator[str]:
    for formula in gate.formulas.values():
        if formula is not None:
            yield from (f"the gate uses {term!r}" for term in _other_terms(formula, column))


def _of_block(block: Block, column: str) -> Iterator[str]:
    used = [c for c in block.components if c.formula is not None and _uses(c.formula, column)]
    if any(c.formula is not None and group_terms(c.formula) for c in block.components):
        yield "experts have random effects of groups"
    for c in used:
        if not isinstance(c.predictor, Linear):
            yield f"{c.parameter.name!r} of an expert uses it in {c.predictor!r}"
    for location in block.components[:1]:  # families without parameters have none
        assert location.formula is not None
        for term in _other_terms(location.formula, column):
            yield f"{location.parameter.name!r} of an expert uses {term!r}"
        family = block.family.kind
        if family != "normal" and column in _plain_columns(location.formula):
            yield f"experts of the family {family!r} use it"
    other_formulas = {c.parameter.name: c.formula for c in block.components[1:]} | {
        k.name: k.formula for k in block.knowns
    }
    for name, formula in other_formulas.items():
        if formula is not None and _uses(formula, column):
            yield f"{name!r} of an expert uses it"
    if _uses(f"~ 0 + {block.kind.response}", column):
        yield "the response uses it"


def _plain_columns(formula: str) -> list[str]:
    """Columns that are terms of a formula as they are."""
    terms = [list(term.factors) for term in parse_formula(without_groups(formula))]
    return [t[0].expr for t in terms if len(t) == 1 and t[0].eval_method.value == "lookup"]


def _other_terms(formula: str, column: str) -> list[str]:
    """Terms of a formula that use a column, but are not the column itself."""
    others = []
    for term in parse_formula(without_groups(formula)):
        factors = list(term.factors)
        if len(factors) == 1 and factors[0].expr == column:
            continue
        texts = [f"`{f.expr}`" if f.eval_method.value == "lookup" else f.expr for f in factors]
        if _uses("~ 0 + " + ":".join(texts), column):
            others.append(str(term))
    return others


def _uses(formula: str, column: str) -> bool:
    return bool(used_columns([formula], [column], strict=False))
