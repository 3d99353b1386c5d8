"""Checks of random effects beside groups of rows that share an expert."""

from __future__ import annotations

from bayes_moe.core import names
from bayes_moe.core.errors import SpecError
from bayes_moe.data.observation import RowColumns
from bayes_moe.model.shared_effects import effects_within, has_shared_effects
from bayes_moe.model.structure import Structure
from bayes_moe.predictors.group_effects import GroupEffects
from bayes_moe.predictors.random_effects import RandomEffects


def check_gate_effects(structure: Structure, columns: RowColumns) -> None:
    """Raise :class:`SpecError` for effects of a gate that speaks once for each of their groups."""
    for head in structure.gate.heads:
        for e in effects_within(head.predictor, head.site, columns.group):
            raise SpecError(
                f"The gate has effects of {e.term.name!r} beside group={columns.group!r}: it "
                "chooses an expert once for each of these groups, so that nothing tells their "
                "effects from that choice. Leave the group term out of the gate's formula."
            )


def check_within_groups(structure: Structure, columns: RowColumns) -> None:
    """Raise :class:`SpecError` for effects that do not lie within groups that share an expert.

    Their integrals are of several groups together.
    """
    outside = effects_outside(structure, columns)
    if outside:
        e, group = outside[0], columns.group
        own = f" Write groups within them with the column {group!r}, as in (1 | {group}:...)."
        raise SpecError(
            f"The effects of {e.term.name!r} are not within the groups of group={group!r}, which "
            "share an expert: EM, MAP and Laplace's method integrate effects out group by group. "
            f"Use method='nuts'.{'' if e.site.role == names.GATE else own}"
        )


def integrates_effects(structure: Structure, columns: RowColumns) -> bool:
    """Whether all effects are within groups that share an expert, and are integrated out."""
    within = has_shared_effects(structure, columns)
    return within and not effects_outside(structure, columns)


def effects_outside(structure: Structure, columns: RowColumns) -> list[GroupEffects]:
    """Effects that do not lie within the groups whose rows share an expert, if there are such."""
    if columns.group is None:
        return []
    every = [
        e
        for site, predictor in structure.sites
        for e in (predictor.groups(site) if isinstance(predictor, RandomEffects) else ())
    ]
    return [e for e in every if columns.group not in e.term.columns]
