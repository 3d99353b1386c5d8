"""Gates whose predictors have random effects of groups, where their formulas have group terms."""

from __future__ import annotations

from dataclasses import replace

from bayes_moe.core.errors import SpecError
from bayes_moe.data.group_terms import group_terms
from bayes_moe.gates import Gate
from bayes_moe.gates.structure import GateStructure
from bayes_moe.predictors.random_effects import with_groups


def with_group_effects(described: Gate, experts: int) -> GateStructure:
    """Structure of a gate for so many experts, with random effects where formulas have group terms.

    Raises
    ------
    SpecError
        For a gate that is no product of softmaxes, and for predictors that are not linear.
    """
    gate, formulas = described.structure(experts), described.formulas
    grouped = {stem for stem, f in formulas.items() if f is not None and group_terms(f)}
    if not grouped or not gate.heads:
        return gate
    if gate.splits is None or gate.features is not None:
        raise SpecError(
            f"The formula {formulas[min(grouped)]!r} has a group term, which this gate cannot "
            "have: use a softmax gate, a stick-breaking one or a tree."
        )
    heads = tuple(
        replace(h, predictor=with_groups(h.predictor, formulas[h.stem])) if h.stem in grouped else h
        for h in gate.heads
    )
    return replace(gate, heads=heads)
