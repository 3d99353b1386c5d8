"""Checks of groups of rows that share an expert, and of experts that are known."""

from __future__ import annotations

import numpy as np

from bayes_moe.core.errors import DataError, SpecError
from bayes_moe.data.design import Design
from bayes_moe.data.matrix import Rows
from bayes_moe.data.observation import RowColumns
from bayes_moe.model.allocation import ByGroup, can_have
from bayes_moe.model.structure import Structure

ROUNDING = 1e-9
"""Relative difference up to which values of a formula are the same."""


def check_sharing(structure: Structure, columns: RowColumns) -> None:
    """Raise :class:`SpecError` for a gate under which rows cannot share an expert."""
    if columns.group is not None and structure.gate.features is not None:
        raise SpecError(
            "`group` needs a gate that takes its features as given, such as 'softmax': a Gaussian "
            "gate has a density of the features of every row, and a group has them once."
        )


def check_groups(structure: Structure, columns: RowColumns, design: Design) -> None:
    """Raise :class:`DataError` for groups whose rows cannot have one expert together."""
    rows, group = design.rows, design.rows.observation.group
    if group is None:
        return
    units = ByGroup.of(group)
    if len(units.first) < structure.gate.n_experts:
        raise DataError(
            f"There are more experts ({structure.gate.n_experts}) than groups of "
            f"{columns.group!r} ({len(units.first)})."
        )
    check_shared_rows(structure, columns, rows)
    if rows.weights is not None:
        what = f"The weight {columns.weights!r}"
        _check_same(columns, rows, units, rows.weights, what, "a group counts as a whole")
    inside = np.ones((structure.gate.n_experts, rows.size))
    for block in structure.blocks:
        inside[list(block.positions)] = block.supports(rows.observed, block.known(rows.matrices))
    none = np.flatnonzero(~(units.totals(1.0 - inside) == 0).any(axis=0))
    if none.size:
        raise DataError(
            f"No expert can have all responses of {none.size} group(s) of {columns.group!r}, first "
            f"of {_label(columns, rows, units.first[none[0]])}: all rows of a group have one "
            "expert."
        )


def check_shared_rows(structure: Structure, columns: RowColumns, rows: Rows) -> None:
    """Raise :class:`DataError` for rows of a group with different features of the gate or experts.

    Rows without groups are accepted.
    """
    if rows.observation.group is None or not rows.size or structure.gate.n_experts == 1:
        return
    units = ByGroup.of(rows.observation.group)
    for head in structure.gate.heads:
        matrix = rows.matrices[head.stem]
        for term, values in matrix.differing(units.leader):
            _check_same(columns, rows, units, values, f"The gate's feature {term!r}")
        for values in () if matrix.offset is None else matrix.offset.T:
            _check_same(columns, rows, units, values, f"The offset of {head.stem!r}")
        for own in matrix.groups:
            what = f"What the gate's effects of {own.name!r} are of"
            for values in (own.codes.astype(float), *own.values.T):
                _check_same(columns, rows, units, values, what)
    if rows.observation.expert is not None:
        _check_same_expert(columns, rows, units)


def check_known_experts(structure: Structure, columns: RowColumns, design: Design) -> None:
    """Raise :class:`DataError` for labels that leave no expert that a row can have."""
    rows, known = design.rows, design.rows.observation.expert
    if known is None:
        return
    if (known < 0).all():
        raise DataError(f"Column {columns.expert!r} says no row's expert: leave `expert` out.")
    inside = np.ones((structure.gate.n_experts, rows.size), dtype=bool)
    for block in structure.blocks:
        inside[list(block.positions)] = block.supports(rows.observed, block.known(rows.matrices))
    wrong = np.flatnonzero(
        ~(inside & can_have(known, np.arange(structure.gate.n_experts))).any(axis=0)
    )
    if wrong.size:
        i = wrong[0]
        raise DataError(
            f"Column {columns.expert!r} says expert {structure.expert_labels[known[i]]!r} at row "
            f"{rows.obs_id[i]}, which cannot have that row's response ({wrong.size} row(s) are so)."
        )


def _check_same_expert(columns: RowColumns, rows: Rows, units: ByGroup) -> None:
    """Raise :class:`DataError` where two rows of a group are known to have different experts."""
    known = rows.observation.expert
    assert known is not None
    largest = np.full(len(units.first), -1)
    np.maximum.at(largest, units.unit, known)
    wrong = np.flatnonzero((known >= 0) & (known != largest[units.unit]))
    if wrong.size:
        i = wrong[0]
        of_group = np.flatnonzero(units.unit == units.unit[i])
        j = of_group[known[of_group] == largest[units.unit[i]]][0]
        labels = [columns.labels[known[p]] for p in (i, j)]
        raise DataError(
            f"Column {columns.expert!r} says expert {labels[0]!r} at row {rows.obs_id[i]} and "
            f"{labels[1]!r} at row {rows.obs_id[j]}, both of {_label(columns, rows, i)}: all rows "
            "of a group have one expert."
        )


def _check_same(
    columns: RowColumns,
    rows: Rows,
    units: ByGroup,
    values: np.ndarray,
    what: str,
    why: str = "the gate chooses one expert for all rows of a group",
) -> None:
    """Raise :class:`DataError` unless values (obs,) are the same at all rows of a group."""
    difference = np.abs(values - values[units.leader])
    differ = np.flatnonzero(difference > ROUNDING * np.abs(values).max())
    if differ.size:
        i = differ[0]
        j = units.leader[i]
        count = len(np.unique(units.unit[differ]))
        hint = "" if "weight" in what else " Give the gate other features, or none: gate='~ 1'."
        raise DataError(
            f"{what} differs within {_label(columns, rows, i)}: it is {values[j]:g} at row "
            f"{rows.obs_id[j]} and {values[i]:g} at row {rows.obs_id[i]}; {why}, so it must be the "
            f"same at all of them ({count} group(s) differ).{hint}"
        )


def _label(columns: RowColumns, rows: Rows, row: int) -> str:
    """The group of a row, as a user knows it."""
    label = rows.columns[columns.group].iloc[row]
    shown = label.item() if isinstance(label, np.generic) else label
    return f"the group {shown!r} of {columns.group!r}"
