"""Which descriptions a model may have in which a row depends on the rows before it."""

from __future__ import annotations

from bayes_moe.core.errors import SpecError
from bayes_moe.data.observation import RowColumns
from bayes_moe.model.structure import Structure
from bayes_moe.predictors.random_effects import RandomEffects

REFUSED = {
    "group": "all rows of a group have one expert, but along a chain each row has its own",
    "expert": "the chain takes no expert as known",
    "weights": "a row that counts as several would be several steps of the chain",
}
"""Columns that a Markov gate does not go with, and why."""


def check_parts(structure: Structure, what: str, instead: str = "") -> None:
    """Raise :class:`SpecError` for a model with memory, of which a part of the rows says nothing.

    ``what`` takes a part of the rows, and ``instead`` says what to use.
    """
    if structure.has_memory:
        raise SpecError(
            f"{what} would cut series, but in this model a row depends on the rows before it."
            + (f" {instead}" if instead else "")
        )


def check_whole_series(structure: Structure, what: str) -> None:
    """Raise :class:`SpecError` for a model whose density of some rows needs the rows before.

    ``what`` takes a part of the rows.
    """
    if structure.whole_series:
        check_parts(structure, what)


def check_memory(structure: Structure, columns: RowColumns) -> None:
    """Raise :class:`SpecError` for a model with memory that lacks a time, or has what it cannot.

    For a Markov gate: ``group``, ``expert``, ``weights``, a truncated response, effects of groups
    in the gate, and weights that are held at numbers.
    """
    if not structure.has_memory:
        return
    chain = structure.gate.chain is not None
    if columns.time is None:
        what = "A Markov gate" if chain else "A predictor with memory"
        raise SpecError(
            f"{what} needs the order of the rows: give time='column', and series='column' where "
            "the table has several series."
        )
    if not chain:
        return
    for name, why in REFUSED.items():
        if getattr(columns, name) is not None:
            raise SpecError(f"A Markov gate cannot be beside `{name}`: {why}. Leave it out.")
    if structure.blocks[0].family.truncation is not None:
        raise SpecError(
            "A Markov gate cannot be beside a truncated response: rows that were not recorded "
            "would be steps of the chain. Leave the limits out, or use gate='softmax'."
        )
    for head in structure.gate.heads:
        if isinstance(head.predictor, RandomEffects):
            raise SpecError(
                "A Markov gate has no effects of groups such as (1 | g): leave them out of its "
                "formula, or use gate='softmax'."
            )
